//! `residua paper`: tables and figures from runs.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

const RUN: &str = "--budget smoke --data cifar10:data --threads 1 --out paper";

fn rows(result: &Value) -> &Vec<Value> {
    result["rows"].as_array().unwrap()
}

#[test]
fn a_figure_is_run_once_and_shown() {
    let sandbox = Sandbox::new();
    let first = sandbox.succeed(&format!("paper run fig6 {RUN} --row original-110 --row bn-after-add-110"));
    assert!(first.stderr.contains("2/2 resnet8-bn-after-add-seed1"), "{}", first.stderr);
    assert!(
        first.stdout.contains("*Budget smoke: tiny networks")
            && first.stdout.contains("2 of 4 runs are over")
    );
    // What is finished is not run again.
    let again = sandbox.succeed(&format!("paper run fig6 {RUN} --row original-110"));
    assert!(!again.stderr.contains("begun"), "{}", again.stderr);

    let shown =
        sandbox.succeed(&format!("paper show fig6 table2 {} --json", RUN.replace("--threads 1", ""))).json();
    let figure = &shown[0];
    let run = &rows(figure)[0]["runs"][0];
    let error = run["outcome"]["test_error"].as_f64().unwrap();
    let metrics = fs::read_to_string(sandbox.at("paper/smoke/resnet8-seed1/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(last["test_error"].as_f64(), Some(error));
    assert_eq!(rows(figure)[0]["published"]["error"], 6.61);
    // The table has the figure's runs, and rows that are not run yet.
    assert_eq!(rows(&shown[1])[0]["runs"][0], *run);
    assert_eq!(rows(&shown[1])[2]["runs"][0]["outcome"], "missing");

    let page = fs::read_to_string(sandbox.at("paper/smoke/fig6.html")).unwrap();
    assert!(page.contains("Budget smoke") && page.contains("BN after addition (resnet8): test error"));
    for file in ["fig6.md", "fig6.json", "fig6-1.svg", "fig6-2.svg"] {
        assert!(sandbox.at("paper/smoke").join(file).is_file(), "{file}");
    }
    assert_eq!(sandbox.half_written(), Vec::<std::path::PathBuf>::new());
    assert!(sandbox.succeed("runs paper/smoke").stdout.contains("resnet8-seed1"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_same_result() {
    let [whole, interrupted] = [(); 2].map(|()| Sandbox::new());
    let line = format!("paper run table4 {RUN} --row proposed-1001-batch-64");
    let expected = whole.succeed(&line).code;
    assert_eq!(expected, Some(0));
    let mut running = interrupted.start(&line);
    running.wait_for("begun");
    running.signal("INT");
    let ended = running.wait();
    assert!(ended.code == Some(130) && ended.stderr.contains("the same command goes on"), "{ended:?}");
    interrupted.succeed(&line);
    let result = |sandbox: &Sandbox| {
        let text = fs::read_to_string(sandbox.at("paper/smoke/table4.json")).unwrap();
        let table: Value = serde_json::from_str(&text).unwrap();
        rows(&table).iter().find(|row| row["name"] == "proposed-1001-batch-64").unwrap()["measured"].clone()
    };
    assert!(result(&whole)["median"].is_f64());
    assert_eq!(result(&whole), result(&interrupted));
}

#[test]
fn divergence_is_a_failure_and_a_foreign_run_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("paper run fig6 {RUN} --row original-110"));
    let folder = sandbox.at("paper/smoke/resnet8-seed1");
    // The note that a diverged run leaves.
    fs::remove_dir_all(folder.join("checkpoints")).unwrap();
    let note = r#"{"message":"training diverged","iteration":7,"time":null,"is_divergence":true}"#;
    fs::write(folder.join("failure.json"), note).unwrap();
    let shown = sandbox.succeed(&format!("paper show fig6 {}", RUN.replace("--threads 1", "")));
    assert!(shown.stdout.contains("| fail (diverged) |"), "{}", shown.stdout);

    let recipe = folder.join("recipe.toml");
    let other = fs::read_to_string(&recipe).unwrap().replace("momentum = 0.9", "momentum = 0.8");
    fs::write(&recipe, other).unwrap();
    let refused = sandbox.run(&format!("paper run fig6 {RUN}"));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("optimiser.momentum is 0.8, not 0.9; move it away"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_cannot_be_run_is_said() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("paper run tabel1 --budget smoke", "did you mean 'table1'?"),
        ("paper run table1 --budget smok", "did you mean 'smoke'?"),
        ("paper run table1 --budget smoke --row identiy", "did you mean 'identity'?"),
        ("paper run table4 --budget smoke --row nin", "nin is the work of others"),
        ("paper run table5 --budget smoke", "give its pictures by --data folder:DIR"),
        ("paper run table1 --budget smoke --data cifar10:nowhere", "nowhere"),
        ("paper run table1 --runs 0", "--runs"),
        ("paper run", "<EXPERIMENT>"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{line}: {ended:?}");
        assert!(!sandbox.at("runs").exists(), "{line}");
    }
}

#[test]
fn every_row_is_listed_with_its_recipe() {
    let sandbox = Sandbox::new();
    let list = sandbox.succeed("paper list --json").json();
    let row = |experiment: &str, name: &str| -> Value {
        let rows = list.as_array().unwrap();
        rows.iter().find(|row| row["experiment"] == experiment && row["row"] == name).unwrap().clone()
    };
    let gated = row("table1", "exclusive-gate-6");
    assert_eq!(gated["recipe"]["network"]["shortcut"], "exclusive-gate:-6");
    assert_eq!(
        (&gated["published"]["error"], &gated["recipe"]["network"]["bn_group"]),
        (&8.7.into(), &64.into())
    );
    assert!(row("table4", "nin")["recipe"].is_null());
    let text = sandbox.succeed("paper list table1").stdout;
    assert!(text.contains("scale-0-1") && text.contains("64000 iterations of 128 in groups of 64"), "{text}");
    let deep = sandbox.succeed("paper list table1 --budget deep").stdout;
    assert!(deep.contains("resnet110 (original, scale:0,1, basic) on CIFAR-10, 3000 iterations"), "{deep}");
}
