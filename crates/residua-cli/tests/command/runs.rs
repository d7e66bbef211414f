//! `residua runs` and `residua report`: what runs have come to.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

const TRAIN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --lr 0.05 --warmup none --decay-at none \
    --evaluate-every 3 --log-every 2 --threads 1";

fn runs(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.succeed("runs --json").json().as_array().unwrap().clone()
}

fn state_of(sandbox: &Sandbox, name: &str) -> String {
    let runs = runs(sandbox);
    let run = runs.iter().find(|run| run["run"] == format!("runs/{name}")).expect(name);
    run["state"].as_str().unwrap().to_owned()
}

#[test]
fn runs_are_listed_in_every_state() {
    let sandbox = Sandbox::new();
    let nothing = sandbox.succeed("runs");
    assert!(
        nothing.stdout.is_empty() && nothing.stderr.contains("begin one with: residua train"),
        "{nothing:?}"
    );
    sandbox.succeed(&format!("{TRAIN} --iterations 6 --out runs/done"));
    assert_eq!(state_of(&sandbox, "done"), "finished");

    let mut going_on = sandbox.start(&format!("{TRAIN} --iterations 100000 --out runs/long"));
    going_on.wait_for("iteration 3: ");
    assert_eq!(state_of(&sandbox, "long"), "running");
    going_on.kill();
    assert_eq!(state_of(&sandbox, "long"), "stopped");

    let failed =
        sandbox.run(&format!("{} --iterations 50 --out runs/wild", TRAIN.replace("--lr 0.05", "--lr 1e30")));
    assert_eq!(failed.code, Some(1));
    assert_eq!(state_of(&sandbox, "wild"), "failed");

    fs::create_dir_all(sandbox.at("runs/broken/checkpoints")).unwrap();
    fs::write(sandbox.at("runs/broken/recipe.toml"), "sed = 1").unwrap();
    let table = sandbox.succeed("runs");
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{}", table.stdout);
    for (name, state) in
        [("done", "finished"), ("long", "stopped"), ("wild", "failed"), ("broken", "damaged")]
    {
        assert!(
            lines.iter().any(|line| line.contains(name) && line.contains(state)),
            "{name}: {}",
            table.stdout
        );
    }
    assert!(lines[1].contains("wild") && lines[4].contains("broken"), "{}", table.stdout);
    assert!(
        table.stderr.contains("failed: runs/wild: ") && table.stderr.contains("damaged: runs/broken: "),
        "{table:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("done") && line.contains("6/6") && line.contains(" % at "))
    );
    let missing = sandbox.run("runs nowhere");
    assert!(missing.code == Some(1) && missing.stderr.contains("cannot list nowhere"), "{missing:?}");
}

#[test]
fn a_failed_run_that_is_resumed_has_not_failed() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{TRAIN} --iterations 3 --out runs/one"));
    fs::write(
        sandbox.at("runs/one/failure.json"),
        "{\"message\":\"disk full\",\"iteration\":3,\"time\":1.0}",
    )
    .unwrap();
    sandbox.succeed("train --resume runs/one --iterations 6 --threads 1");
    assert_eq!(state_of(&sandbox, "one"), "finished");
    assert!(!sandbox.at("runs/one/failure.json").exists());
}

#[test]
fn a_report_is_one_whole_page() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{TRAIN} --iterations 6 --log-norms 2 --out runs/one"));
    sandbox.succeed(&format!("{TRAIN} --iterations 6 --seed 2 --out runs/two"));
    let written = sandbox.succeed("report runs/one").stdout;
    assert_eq!(written.trim(), "runs/one/report.html");
    let page = fs::read_to_string(sandbox.at("runs/one/report.html")).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "Test error and training loss",
        "Norms of the gradients",
        "Confusions",
        "Hardest test images",
        "data:image/png;base64,",
        "airplane",
        "network.model",
        "stages.0.0",
        "finished after 6 iterations",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("data:image/png").count(), 24);
    for address in ["http:", "https:", "<link"] {
        assert!(!page.contains(address), "{address}");
    }

    let written = sandbox.succeed("report runs/one runs/two --no-evaluate").stdout;
    assert_eq!(written.trim(), "report.html");
    let page = fs::read_to_string(sandbox.at("report.html")).unwrap();
    assert!(page.contains("Comparison of 2 runs") && page.contains("<code>seed</code>"));
    assert!(!page.contains("Confusions"));
}

#[test]
fn a_report_without_its_data_says_so_and_has_the_rest() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{TRAIN} --iterations 3 --out runs/one"));
    fs::rename(sandbox.at("data"), sandbox.at("elsewhere")).unwrap();
    let ended = sandbox.succeed("report runs/one --out page.html");
    assert!(ended.stderr.contains("warning: runs/one: no confusions"), "{}", ended.stderr);
    let page = fs::read_to_string(sandbox.at("page.html")).unwrap();
    assert!(page.contains("Not examined: ") && page.contains("Test error and training loss"));
    let ended = sandbox.succeed("report runs/one --out page.html --data cifar10:elsewhere");
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    assert!(fs::read_to_string(sandbox.at("page.html")).unwrap().contains("Hardest test images"));

    for (line, part) in [
        ("report runs/onne", "did you mean runs/one?"),
        ("report data", "holds no run"),
        ("report runs/one --no-evaluate --out no/such/folder.html", "no/such"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(1) && ended.stderr.contains(part), "{line}: {ended:?}");
    }
}

#[test]
fn tensorboard_gets_events_unless_they_are_declined() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{TRAIN} --iterations 4 --log-norms 2 --out with"));
    sandbox.succeed(&format!("{TRAIN} --iterations 4 --no-tensorboard --out without"));
    let events = |run: &str| sandbox.at(run).join("events.out.tfevents.residua");
    let bytes = fs::read(events("with")).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    for tag in ["train/loss", "test/error", "norms/gradients/stage3", "norms/weights/head"] {
        assert!(has(tag.as_bytes()), "{tag}");
    }
    assert!(!events("without").exists());
    let metrics = fs::read_to_string(sandbox.at("with/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("gradient_norms").count(), 2);
    // Looking at norms changes nothing.
    let weights = |run: &str| {
        fs::read(sandbox.at(run).join("checkpoints/iteration-00000004/weights.safetensors")).unwrap()
    };
    assert!(weights("with") == weights("without"));
}

#[cfg(unix)]
#[test]
fn what_cannot_be_looked_into_is_told_and_the_other_runs_are_listed() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{TRAIN} --iterations 3 --out runs/one"));
    sandbox.succeed(&format!("{TRAIN} --iterations 3 --out runs/two"));
    fs::rename(sandbox.at("runs/two"), sandbox.at("runs").join(OsStr::from_bytes(b"caf\xe9"))).unwrap();
    for options in ["", "--json"] {
        let listed = sandbox.succeed(&format!("runs {options}")).stdout;
        assert!(listed.contains("runs/one") && listed.contains("runs/caf"), "{listed}");
    }

    fs::create_dir(sandbox.at("runs/locked")).unwrap();
    let allow =
        |name: &str, mode| fs::set_permissions(sandbox.at(name), fs::Permissions::from_mode(mode)).unwrap();
    allow("runs/locked", 0o000);
    allow("", 0o755);
    // Whoever may do everything is not kept out.
    let is_kept_out = fs::read_dir(sandbox.at("runs/locked")).is_err();
    let mut as_another = Command::new("setpriv");
    as_another.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_residua")]);
    let running = match is_kept_out {
        true => sandbox.start("runs"),
        false => sandbox.start_by(&mut as_another, "runs"),
    };
    let ended = running.wait();
    allow("runs/locked", 0o755);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("runs/one"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("passed over: cannot list runs/locked: Permission denied"),
        "{}",
        ended.stderr
    );
}
