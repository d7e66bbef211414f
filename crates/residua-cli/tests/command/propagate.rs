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
    for (line, part) in [
        ("propagate renset20", "did you mean 'resnet20'?"),
        ("propagate resnet20/scael:1,1", "'scael:1,1' is no ordering"),
        ("propagate", "<NETWORK>"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{line}: {ended:?}");
    }
}
