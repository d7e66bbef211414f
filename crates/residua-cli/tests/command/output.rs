//! Output that nobody can read is an ordinary error, or none at all.
#![cfg(target_os = "linux")]

use std::fs::OpenOptions;
use std::io::Read;
use std::process::Stdio;

use crate::sandbox::Sandbox;

const RUN: &str =
    "train --data cifar10:data --model preresnet8 --batch 8 --iterations 4 --warmup none --threads 1";

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn results_that_do_not_fit_on_the_disk_are_an_error() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    image::RgbImage::new(32, 32).save(sandbox.at("a.png")).unwrap();
    for line in [
        "summary",
        "summary --json",
        "completions bash",
        "eval --checkpoint run",
        "predict --checkpoint run a.png",
        "explain run a.png",
        "features run a.png --out a.npy",
        "bench --model preresnet8 --batch 2 --steps 1 --json",
    ] {
        let output = sandbox.command(line).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert_eq!(stderr, "error: cannot write to standard output: No space left on device (os error 28)\n");
    }
}

#[test]
fn a_reader_may_leave() {
    let sandbox = Sandbox::new();
    for line in ["summary --model preresnet1001 --json", "completions zsh"] {
        let mut child = sandbox.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn a_run_does_not_need_anyone_to_watch() {
    let sandbox = Sandbox::new();
    let status = sandbox.command(&format!("{RUN} --out run")).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(sandbox.at("run/checkpoints/iteration-00000004").exists());
}
