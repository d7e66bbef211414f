//! What is advised helps to the letter, and what a run was asked for goes on with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::{Sandbox, files};

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --lr 0.05 --warmup none --decay-at none \
    --evaluate-every 3 --log-every 2 --threads 1";

fn lines(sandbox: &Sandbox, run: &str, part: &str) -> Vec<u64> {
    let metrics = fs::read_to_string(sandbox.at(format!("{run}/metrics.jsonl"))).unwrap();
    let iteration = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["iteration"].as_u64().unwrap()
    };
    metrics.lines().filter(|line| line.contains(part)).map(iteration).collect()
}

#[test]
fn a_file_or_a_checkpoint_of_a_run_is_answered_with_the_run() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --iterations 3 --out runs/one"));
    for path in ["runs/one/recipe.toml", "runs/one/checkpoints/iteration-00000003", "runs/one/checkpoints"] {
        let ended = sandbox.run(&format!("train --resume {path} --iterations 6"));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("give the folder of a run, which is runs/one here"),
            "{}",
            ended.stderr
        );
    }
    sandbox.succeed("train --resume runs/one --iterations 6");
}

#[test]
fn data_that_are_not_where_they_were_are_named_by_an_option() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --iterations 3 --out run"));
    fs::rename(sandbox.at("data"), sandbox.at("elsewhere")).unwrap();
    let ended = sandbox.run("train --resume run --iterations 6");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("there is no folder \"data\"") && ended.stderr.contains("--data"),
        "{}",
        ended.stderr
    );
    sandbox.succeed("train --resume run --iterations 6 --data cifar10:elsewhere");
}

#[test]
fn one_of_a_thing_is_called_one() {
    let sandbox = Sandbox::new();
    let ended = sandbox.succeed(&format!("{RUN} --iterations 1 --out run"));
    assert!(ended.stderr.contains("on cifar10:data, 1 iteration, begun"), "{}", ended.stderr);
    let ended = sandbox.run("train --resume run");
    assert!(ended.stderr.contains("has done 1 of 1 iteration; "), "{}", ended.stderr);
}

#[test]
fn a_run_that_is_watched_is_watched_after_a_resume_too() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --iterations 4 --watch 2 --out run"));
    sandbox.succeed("train --resume run --iterations 8");
    assert_eq!(lines(&sandbox, "run", "early_over_late"), [2, 4, 6, 8]);
    sandbox.succeed("train --resume run --iterations 10 --watch 1");
    assert_eq!(lines(&sandbox, "run", "early_over_late"), [2, 4, 6, 8, 9, 10]);
}

#[test]
fn drops_that_lie_ahead_may_be_added_and_give_the_same_run() {
    let sandbox = Sandbox::new();
    let run = RUN.replace("--decay-at none", "--decay-at 2,8");
    sandbox.succeed(&format!("{run} --iterations 12 --out whole"));
    sandbox.succeed(&format!("{} --iterations 4 --out run", RUN.replace("--decay-at none", "--decay-at 2")));
    let ended = sandbox.run("train --resume run --iterations 12 --decay-at 3,8");
    assert!(
        ended.code == Some(2) && ended.stderr.contains("--decay-at was [2], now [3,8]"),
        "{}",
        ended.stderr
    );
    sandbox.succeed("train --resume run --iterations 12 --decay-at 2,8");
    let weights =
        |run: &str| fs::read(sandbox.at(run).join("checkpoints/iteration-00000012/weights.safetensors"));
    assert!(weights("run").unwrap() == weights("whole").unwrap());
}

#[cfg(unix)]
#[test]
fn a_copy_by_hard_links_is_a_run_of_its_own() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --iterations 4 --out original"));
    let all = |folder: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let names = files(folder).into_iter().filter(|path| path.is_file());
        names.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    };
    let before = all(&sandbox.at("original"));
    let copied = Command::new("cp").arg("-al").args([sandbox.at("original"), sandbox.at("copy")]).status();
    if !copied.unwrap().success() {
        return;
    }
    sandbox.succeed("train --resume copy --iterations 8");
    assert!(all(&sandbox.at("original")) == before);
    // Both can be trained at once.
    let mut other = sandbox.start("train --resume copy --iterations 100000");
    other.wait_for("resumed");
    sandbox.succeed("train --resume original --iterations 8");
    other.kill();
}

#[cfg(all(unix, not(target_vendor = "apple")))]
#[test]
fn events_that_are_open_go_on_after_a_resume() {
    use std::io::Read;
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --iterations 4 --out run"));
    let mut open = fs::File::open(sandbox.at("run/events.out.tfevents.residua")).unwrap();
    let mut seen = Vec::new();
    open.read_to_end(&mut seen).unwrap();
    let before = seen.len();
    sandbox.succeed("train --resume run --iterations 8");
    open.read_to_end(&mut seen).unwrap();
    assert!(seen.len() > before, "nothing is appended");
    let files = fs::read_dir(sandbox.at("run")).unwrap();
    let events =
        files.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"));
    assert_eq!(events.count(), 1);
}
