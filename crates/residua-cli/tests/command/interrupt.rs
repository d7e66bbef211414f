//! Signals: what they do to a run, wherever it is, and to other work.
#![cfg(unix)]

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sandbox::{Running, Sandbox};

/// From the signal to the end.
const AT_MOST: Duration = Duration::from_secs(5);

/// A network whose steps of 128 images, and whose tests, take long on one thread.
const DEEP: &str = "train --data cifar10:data --model preresnet1001 --batch 16 --memory lean --warmup none \
    --iterations 1000 --threads 1";

#[track_caller]
fn ends_in_time(running: &mut Running) {
    assert!(running.wait_at_most(AT_MOST), "it has not ended within {AT_MOST:?}");
}

fn iteration_saved(sandbox: &Sandbox, run: &str) -> String {
    let entries = fs::read_dir(sandbox.at(run).join("checkpoints")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.max().unwrap().trim_start_matches("iteration-").trim_start_matches('0').to_owned()
}

#[test]
fn a_step_that_takes_long_is_left_and_the_run_is_saved() {
    let sandbox = Sandbox::new();
    let line = DEEP.replace("--batch 16", "--batch 512");
    let mut running = sandbox.start(&format!("{line} --out run --json"));
    running.wait_for("begun");
    for _ in 0..3 {
        // Further ones wait for the save.
        running.signal("TERM");
        sleep(Duration::from_millis(300));
    }
    ends_in_time(&mut running);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped at iteration 0, saved; go on with: residua train --resume run"));
    assert_eq!((&ended.json()["is_finished"], &ended.json()["iteration"]), (&false.into(), &0.into()));
    assert!(!sandbox.at("run/failure.json").exists());
    assert!(sandbox.half_written().is_empty());
}

#[test]
fn every_signal_that_asks_to_end_saves_a_run_within_its_test() {
    let sandbox = Sandbox::new();
    let line = DEEP.replace("--batch 16", "--batch 1");
    for signal in ["TERM", "INT", "HUP", "USR1", "USR2"] {
        let mut running =
            sandbox.start(&format!("{line} --evaluate-every 1 --checkpoint-every 1 --out {signal}"));
        // The checkpoint comes first, then the test.
        let begun = Instant::now();
        while !sandbox.at(signal).join("checkpoints/iteration-00000001").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(5));
        }
        running.signal(signal);
        ends_in_time(&mut running);
        let ended = running.wait();
        assert_eq!(ended.code, Some(130), "{signal}: {}", ended.stderr);
        assert!(ended.stderr.contains("stopped at iteration 1, saved"), "{signal}: {}", ended.stderr);
        let state = sandbox.at(signal).join("checkpoints/iteration-00000001/state.json");
        assert!(fs::read_to_string(state).unwrap().contains("\"due\": \"tests\""));
        assert!(sandbox.succeed("runs . --json").stdout.contains("\"state\":\"stopped\""));
    }
}

#[test]
fn a_step_that_was_left_is_done_again_to_the_same_bits() {
    let sandbox = Sandbox::new();
    let line = DEEP.replace("preresnet1001", "preresnet110").replace("--iterations 1000", "--iterations 4");
    let line = line.replace("--batch 16", "--batch 128");
    sandbox.succeed(&format!("{line} --out undisturbed"));
    let mut running = sandbox.start(&format!("{line} --out run"));
    running.wait_for("begun");
    sleep(Duration::from_millis(1500));
    running.signal("USR1");
    ends_in_time(&mut running);
    assert_eq!(running.wait().code, Some(130));
    assert!(["", "1", "2", "3"].contains(&iteration_saved(&sandbox, "run").as_str()));
    sandbox.succeed("train --resume run --threads 2");
    let weights =
        |run: &str| fs::read(sandbox.at(run).join("checkpoints/iteration-00000004/weights.safetensors"));
    assert!(weights("run").unwrap() == weights("undisturbed").unwrap());
}

#[test]
fn a_signal_while_a_run_is_made_ready_ends_it_at_once_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --warmup none --out left",
    );
    let pipe = sandbox.at("data/data_batch_1.bin");
    fs::remove_file(&pipe).unwrap();
    // Whoever reads it waits, as on a slow disk.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut running = sandbox.start("train --data cifar10:data --model preresnet8 --iterations 2 --out run");
    sleep(Duration::from_millis(500));
    running.signal("TERM");
    ends_in_time(&mut running);
    assert_eq!(running.wait().code, None);
    assert!(!sandbox.at("run/recipe.toml").exists());

    let before = fs::read(sandbox.at("left/metrics.jsonl")).unwrap();
    let mut running = sandbox.start("train --resume left --iterations 4");
    sleep(Duration::from_millis(500));
    running.signal("USR2");
    ends_in_time(&mut running);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped before it went on; go on with: residua train --resume left"));
    assert_eq!(fs::read(sandbox.at("left/metrics.jsonl")).unwrap(), before);
}

#[test]
fn what_was_ignored_at_the_start_stays_ignored() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start_by(
        Command::new("sh").args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_residua")]),
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 100000 --warmup none --log-every 1 --out run",
    );
    running.wait_for("begun");
    running.signal("HUP");
    running.signal("INT");
    assert!(!running.wait_at_most(Duration::from_millis(1500)), "it has ended");
    running.signal("TERM");
    ends_in_time(&mut running);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.stderr.matches("stopping").count(), 1, "{}", ended.stderr);
}

/// `unshare` with this program as the first process of its own, where that is allowed.
#[cfg(target_os = "linux")]
fn first_process() -> Option<Command> {
    let allowed = Command::new("unshare").args(["-pf", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        // Past the test's captured output, so that it is seen.
        let _ = writeln!(io::stderr(), "skipped: the first process of a container (unshare is not allowed)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-pf", "--kill-child", env!("CARGO_BIN_EXE_residua")]);
    Some(command)
}

/// The process that another one has started.
#[cfg(target_os = "linux")]
fn child_of(process: u32) -> u32 {
    let begun = Instant::now();
    loop {
        let path = format!("/proc/{process}/task/{process}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it has no child");
        sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_process_of_a_container_ends_by_signals() {
    let sandbox = Sandbox::new();
    if first_process().is_none() {
        return;
    }
    sandbox.succeed(
        "train --data cifar10:data --model preresnet1001 --batch 8 --lr 0 --memory lean --iterations 1 --out run",
    );
    for (signal, line, code) in [
        ("TERM", "eval --checkpoint run --engine composed --threads 1", 143),
        ("INT", "report run --engine composed --threads 1", 130),
        ("USR1", "predict --checkpoint run -", 138),
        ("HUP", "predict --checkpoint run --json -", 129),
    ] {
        let mut command = first_process().unwrap();
        if line.ends_with('-') {
            command.stdin(Stdio::piped());
        }
        let mut running = sandbox.start_by(&mut command, line);
        let child = child_of(running.id());
        // It listens from the beginning; loading the network takes longer than this.
        sleep(Duration::from_millis(300));
        let kill = format!("kill -s {signal} {child}");
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        ends_in_time(&mut running);
        assert_eq!(running.wait().code, Some(code), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn cost_takes_its_child_along() {
    for signal in ["TERM", "KILL"] {
        let sandbox = Sandbox::new();
        let mut running = sandbox.start("cost preresnet1001 --steps 100 --threads 1");
        let child = child_of(running.id());
        sleep(Duration::from_millis(500));
        running.signal(signal);
        ends_in_time(&mut running);
        let begun = Instant::now();
        let is_there = || {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            // One that has ended may wait for whoever asks how.
            !status.is_empty() && !status.contains("State:\tZ")
        };
        while is_there() {
            assert!(begun.elapsed() < AT_MOST, "{signal}: its child goes on");
            sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_limit_of_files_sizes_is_an_error_as_any_other() {
    let sandbox = Sandbox::new();
    let limited = "ulimit -f 200; exec \"$0\" \"$@\"";
    let running = sandbox.start_by(
        Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_residua")]),
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --warmup none --out run",
    );
    let ended = running.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let error = ended.stderr.lines().last().unwrap();
    assert!(
        error.starts_with("error: cannot write run/checkpoints/") && error.contains("too large"),
        "{error}"
    );
}
