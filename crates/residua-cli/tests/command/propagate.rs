//! `residua propagate`: the paper's equations, measured.

use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn equations_are_measured_for_several_networks() {
    let sandbox = Sandbox::new();
    let line = "propagate preresnet20 preresnet20/scale:0.5,1 resnet20 --batch 8 --threads 1";
    let report = sandbox.succeed(&format!("{line} --json --out page.html")).json();
    let networks = report.as_array().unwrap();
    assert_eq!(networks.len(), 3);
    let errors = |network: usize, name: &str| -> Vec<f64> {
        let units = networks[network]["propagation"]["units"].as_array().unwrap();
        assert_eq!(units.len(), 9);
        units.iter().filter_map(|unit| unit[name].as_f64()).collect()
    };
    assert!(errors(0, "forward_error").iter().chain(&errors(0, "backward_error")).all(|error| *error < 1e-4));
    assert!(errors(1, "forward_error").iter().any(|error| *error > 0.1));
    assert!(errors(2, "backward_error").iter().any(|error| *error > 0.01));
    let stage = &networks[1]["propagation"]["stages"][2];
    assert!((stage["attenuation"].as_f64().unwrap() - 0.25).abs() < 1e-4, "{stage}");
    let page = fs::read_to_string(sandbox.at("page.html")).unwrap();
    assert!(page.contains("Direct term of Eq. 5") && page.contains("preresnet20/scale:0.5,1"));

    let table = sandbox.succeed(line).stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn trained_networks_and_wrong_names() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --threads 1 --out run",
    );
    assert!(sandbox.succeed("propagate run --data cifar10:data --batch 8").stdout.contains("run "));
    fs::rename(sandbox.at("run"), sandbox.at("preresnet8")).unwrap();
    let line = "propagate preresnet8 preresnet8/identity --data cifar10:data --batch 8 --json";
    let networks = sandbox.succeed(line).json();
    assert_ne!(networks[0]["propagation"]["loss"], networks[1]["propagation"]["loss"]);
    for (line, part) in [
        ("propagate renset20", "did you mean 'resnet20'?"),
        ("propagate resnet20/scael:1,1", "'scael:1,1' is no ordering"),
        ("propagate runs/mistyped", "there is no folder runs/mistyped"),
        ("propagate", "<NETWORK>"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{line}: {ended:?}");
    }
}

#[test]
fn a_run_is_watched_without_being_changed() {
    let sandbox = Sandbox::new();
    let line = "train --data cifar10:data --model preresnet14 --batch 8 --iterations 4 --threads 1";
    sandbox.succeed(&format!("{line} --out plain"));
    sandbox.succeed(&format!("{line} --out watched --watch 2"));
    let weights =
        |run: &str| fs::read(sandbox.at(run).join("checkpoints/iteration-00000004/weights.safetensors"));
    assert!(weights("plain").unwrap() == weights("watched").unwrap());
    let metrics = fs::read_to_string(sandbox.at("watched/metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = metrics
        .lines()
        .filter(|line| line.contains("early_over_late"))
        .map(|line| line.parse().unwrap())
        .collect();
    let iterations: Vec<_> = lines.iter().map(|line| line["iteration"].as_u64().unwrap()).collect();
    assert_eq!(iterations, [2, 4]);
    for line in &lines {
        assert!(line["equation_4_error"].as_f64().unwrap() < 1e-4, "{line}");
        assert!(line["equation_5_error"].as_f64().unwrap() < 1e-4, "{line}");
        assert_eq!(line["gradients"].as_array().unwrap().len(), 6);
    }
    let page = sandbox.succeed("report watched --no-evaluate").stdout;
    assert!(fs::read_to_string(sandbox.at(page.trim())).unwrap().contains("early / late gradient"));
}

#[test]
fn networks_are_measured_in_whole_groups_of_batch_normalisation() {
    let sandbox = Sandbox::new();
    // The second has fewer images than a group.
    for (data, group, run) in [("shapes", 48, "run"), ("cifar10:data", 96, "few")] {
        let options = format!("--batch {group} --bn-group {group} --iterations 1 --watch 1 --threads 1");
        sandbox.succeed(&format!("train --data {data} --model preresnet8 {options} --out {run}"));
        let metrics = fs::read_to_string(sandbox.at(run).join("metrics.jsonl")).unwrap();
        assert!(metrics.contains("early_over_late"), "{metrics}");
    }
    assert!(sandbox.succeed("propagate run preresnet8 --threads 1").stdout.contains("run "));
    assert!(sandbox.succeed("propagate few --data cifar10:data --threads 1").stdout.contains("few "));
    let ended = sandbox.run("propagate run --batch 32 --threads 1");
    assert!(ended.code == Some(2) && ended.stderr.contains("multiple of 48"), "{ended:?}");
}

#[test]
fn several_batches_make_a_picture() {
    let sandbox = Sandbox::new();
    let line = "propagate preresnet8 resnet8/exclusive-gate:-6 --data cifar10:data --batch 4 --batches 2 --threads 1";
    let networks = sandbox.succeed(&format!("{line} --json --out picture.svg --out page.html")).json();
    let unit = &networks[0]["propagation"]["units"][1];
    assert!(unit["direct_across"].as_f64().unwrap() > 0. && unit["shortcut_share"].as_f64().unwrap() > 0.);
    let picture = fs::read_to_string(sandbox.at("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("resnet8/exclusive-gate:-6"), "{picture}");
    assert!(fs::read_to_string(sandbox.at("page.html")).unwrap().contains("across stages"));

    // Of the 80 images the last 20 make no whole batch.
    let line = "propagate preresnet8 --data cifar10:data --batch 30 --threads 1 --json --batches";
    let [two, all] = ["2", "9"].map(|batches| sandbox.succeed(&format!("{line} {batches}")).json());
    assert_eq!(two, all);
    // In preresnet8 every unit changes dimensions or activates its input: neither equation reaches over one.
    let table = sandbox.succeed("propagate preresnet8 --data cifar10:data --batch 8 --threads 1").stdout;
    assert_eq!(table.matches("  -  ").count(), 4, "{table}");
}
