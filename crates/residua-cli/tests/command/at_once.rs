//! Several processes at once, in one folder.

use std::fs;
#[cfg(unix)]
use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::sandbox::Sandbox;

const RUN: &str =
    "train --data cifar10:data --model preresnet8 --batch 8 --iterations 3 --warmup none --threads 1";

#[test]
fn runs_that_begin_at_once_take_a_number_each() {
    let sandbox = Sandbox::new();
    let running: Vec<_> = (0..4).map(|_| sandbox.start(RUN)).collect();
    for run in running {
        let ended = run.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    for name in ["preresnet8-cifar10", "preresnet8-cifar10-2", "preresnet8-cifar10-3", "preresnet8-cifar10-4"]
    {
        let metrics = fs::read_to_string(sandbox.at(format!("runs/{name}/metrics.jsonl"))).unwrap();
        assert_eq!(metrics.matches("test_error").count(), 1, "{name}: {metrics}");
    }
}

#[cfg(unix)]
#[test]
fn who_comes_second_to_a_folder_is_refused_before_the_first_has_read_its_data() {
    let sandbox = Sandbox::new();
    let place = sandbox.at("data/data_batch_1.bin");
    let batch = fs::read(&place).unwrap();
    fs::remove_file(&place).unwrap();
    assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
    let mut first = sandbox.start(&format!("{RUN} --out run"));
    let begun = Instant::now();
    while !sandbox.at("run/.lock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(5));
    }
    let second = sandbox.run("train --model preresnet14 --iterations 2 --batch 8 --out run");
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("another process is training in run"), "{}", second.stderr);
    let third = sandbox.run("train --model preresnet14 --iterations 2 --batch 8 --data shapes --out run");
    assert_eq!(third.code, Some(1));

    first.signal("TERM");
    assert!(first.wait_at_most(Duration::from_secs(5)));
    drop(first);
    fs::remove_file(&place).unwrap();
    fs::write(&place, batch).unwrap();
    // What it has left is a folder to begin in.
    sandbox.succeed(&format!("{RUN} --out run"));
    let stopped = sandbox.run("train --model preresnet14 --iterations 2 --batch 8 --out run");
    assert!(stopped.stderr.contains("run already holds a run"), "{}", stopped.stderr);
}

#[test]
fn what_cannot_begin_leaves_no_folder() {
    let sandbox = Sandbox::new();
    for (line, code) in [
        ("train --batch 0", 2),
        ("train --batch 8 --lr nan --out deep/run", 2),
        ("train --data cifar10:nowhere", 1),
        ("train --data cifar10:data --max-unreadable 7 --out deep/run", 2),
    ] {
        let ended = sandbox.run(line);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(!sandbox.at("runs").exists() && !sandbox.at("deep").exists(), "{line}");
    }
}
