//! Folders on a disk that is full, or that cannot be written. Needs the right to mount a file system in memory; where
//! there is none the tests say so and pass.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::sandbox::Sandbox;

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 8 --warmup none \
    --checkpoint-every 1 --threads 1";

/// A file system in memory.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one in the sandbox's folder `disk`, if that is allowed.
    fn new(sandbox: &Sandbox, options: &str) -> Option<Self> {
        let place = sandbox.at("disk");
        fs::create_dir(&place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&place).stderr(Stdio::null());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            // Past the test's captured output, so that it is seen.
            let _ =
                writeln!(io::stderr(), "skipped: a disk with {options} (no file system can be mounted here)");
        }
        is_mounted.then_some(Self(place))
    }

    fn change(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_a_run_which_goes_on_once_there_is_room() {
    let sandbox = Sandbox::new();
    let Some(disk) = Mounted::new(&sandbox, "size=1m") else { return };
    for line in [format!("{RUN} --out disk/run"), "train --resume disk/run".to_owned()] {
        let ended = sandbox.run(&line);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let error = ended.stderr.lines().last().unwrap();
        assert!(error.starts_with("error: cannot write disk/run/checkpoints/"), "{error}");
        assert!(error.contains("No space left on device"), "{error}");
        assert!(error.ends_with("; free some space there and try again"), "{error}");
        assert_eq!(sandbox.half_written().len(), 0, "{:?}", sandbox.half_written());
    }
    disk.change("size=32m");
    sandbox.succeed("train --resume disk/run");
    sandbox.succeed(&format!("{RUN} --out undisturbed"));
    let weights =
        |run| fs::read(sandbox.at(format!("{run}/checkpoints/iteration-00000008/weights.safetensors")));
    assert!(weights("disk/run").unwrap() == weights("undisturbed").unwrap());
}

#[test]
fn a_disk_too_full_to_begin_leaves_a_folder_to_begin_in_later() {
    let sandbox = Sandbox::new();
    let Some(disk) = Mounted::new(&sandbox, "size=64k") else { return };
    let ended = sandbox.run(&format!("{RUN} --out disk/run"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert_eq!(sandbox.half_written().len(), 0, "{:?}", sandbox.half_written());
    disk.change("size=32m");
    sandbox.succeed(&format!("{RUN} --out disk/run"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new();
    let Some(disk) = Mounted::new(&sandbox, "size=32m") else { return };
    sandbox.succeed(&format!("{RUN} --out disk/run"));
    disk.change("ro");
    for (line, remedy) in [
        (format!("{RUN} --out disk/new"), "choose another with --out"),
        (
            "train --resume disk/run --iterations 20".to_owned(),
            "copy the folder to another place and go on with the copy",
        ),
    ] {
        let ended = sandbox.run(&line);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("Read-only file system"), "{}", ended.stderr);
        assert!(ended.stderr.contains(remedy), "{}", ended.stderr);
    }
    // What only reads still works.
    sandbox.succeed("eval --checkpoint disk/run --json");
}
