//! `residua cost`: what networks cost, beside their errors.

use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn networks_are_counted_and_measured() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --threads 1 --out runs/own",
    );
    let line = "cost preresnet8 resnet8/scale:0.5,0.5 --batch 4 --steps 1 --threads 1 --runs runs";
    let costs = sandbox.succeed(&format!("{line} --json --out cost.html --out cost.svg")).json();
    let [own, scaled] = costs.as_array().unwrap().as_slice() else { panic!("{costs}") };
    for cost in [own, scaled] {
        for mode in ["training", "inference"] {
            assert!(cost[mode]["images_per_second"].as_f64().unwrap() > 1., "{cost}");
        }
        assert!(cost["training"]["peak_memory_bytes"].as_u64().unwrap() > 1_000_000, "{cost}");
        assert!(cost["published"].is_null());
    }
    assert_eq!(own["parameters"], 75_290);
    assert_eq!((&own["ours"]["iterations"], &own["ours"]["runs"]), (&2.into(), &1.into()));
    assert!(scaled["ours"].is_null());
    let page = fs::read_to_string(sandbox.at("cost.html")).unwrap();
    assert!(page.contains("resnet8/scale:0.5,0.5") && page.contains("<svg") && !page.contains("<script"));
    assert!(fs::read_to_string(sandbox.at("cost.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn the_usual_networks_are_listed_with_published_errors() {
    let sandbox = Sandbox::new();
    let costs = sandbox.succeed("cost --set imagenet --counts-only --json").json();
    let inception = costs.as_array().unwrap().iter().find(|cost| cost["name"] == "inception-v3").unwrap();
    assert_eq!(
        (&inception["parameters"], &inception["published"]["error"]),
        (&23_834_568.into(), &21.2.into())
    );
    assert_eq!(sandbox.succeed("cost --counts-only").stdout.lines().count(), 11);
    let wide = sandbox.succeed("cost --set wide --counts-only --json").json();
    let widest = wide.as_array().unwrap().iter().find(|cost| cost["name"] == "wrn-28-10").unwrap();
    assert_eq!(
        (&widest["parameters"], &widest["published"]["error"], &widest["published_cifar100"]["error"]),
        (&36_479_194.into(), &4.17.into(), &20.5.into())
    );
    assert!(sandbox.succeed("cost --set wide --counts-only").stdout.contains("4.17 (CIFAR-100: 20.5)"));
    // A width refines any network.
    let wider = sandbox.succeed("cost preresnet26/width:10 --counts-only --json").json();
    assert_eq!(wider[0]["parameters"], widest["parameters"]);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("cost renset20", "did you mean 'resnet20'?"),
        ("cost resnet20 --set cifra", "did you mean 'cifar'?"),
        ("cost resnet20/scael:1,1", "no ordering, shortcut"),
        ("cost resnet20 --out cost.txt", "ends in .html for a page"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{line}: {ended:?}");
    }
    // A network that does not fit is told of, the others are measured.
    let some = sandbox.succeed("cost preresnet110 --batch 64 --steps 1 --threads 1 --memory 1MB --json");
    assert!(some.stderr.contains("no speed in train: --memory"), "{}", some.stderr);
    assert!(some.json()[0]["training"].is_null());
    let nowhere = sandbox.run("cost resnet20 --counts-only --runs nowhere");
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("nowhere"), "{nowhere:?}");
    // What could not be written is not measured first.
    let lost = sandbox.run("cost preresnet8 --batch 1 --out cost.svg --out nowhere/cost.html");
    assert!(lost.code == Some(1) && lost.stderr.contains("cannot write nowhere/cost.html"), "{lost:?}");
    assert!(lost.stdout.is_empty() && !lost.stderr.contains("preresnet8"), "{lost:?}");
    assert!(!sandbox.at("cost.svg").exists());
}

#[test]
fn callers_at_once_are_measured() {
    let sandbox = Sandbox::new();
    let line = "bench --model preresnet8 --mode infer --batch 1 --steps 5 --callers 3 --threads 2";
    let report = sandbox.succeed(&format!("{line} --json")).json();
    let seconds = |name: &str| report[name].as_f64().unwrap();
    assert!(seconds("seconds_median") > 0. && seconds("seconds_percentile_99") >= seconds("seconds_median"));
    assert!(seconds("images_per_second") > 1., "{report}");
    assert!(sandbox.succeed(line).stdout.contains("3 callers with 5 calls each"));
    let refused = sandbox.run("bench --callers 3");
    assert!(
        refused.code == Some(2) && refused.stderr.contains("--callers is for --mode infer"),
        "{refused:?}"
    );
}
