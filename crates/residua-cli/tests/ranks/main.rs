//! The `residua` command as several processes that `mpirun` starts. Without an `mpirun` these tests say that they are left out.
#![cfg(unix)]

#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../command/sandbox.rs"]
mod sandbox;
#[path = "../command/tiny_cifar.rs"]
mod tiny_cifar;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{Ended, Running, Sandbox};

/// A short training on tiny images.
const TRAIN: &str = "train --data cifar10:data --model preresnet8 --batch 16 --warmup none --lr 0.02 --threads 1 \
    --log-every 1 --no-tensorboard";

/// `mpirun` with so many processes, whatever the machine has.
fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--oversubscribe", "-n", &ranks.to_string(), env!("CARGO_BIN_EXE_residua")])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdin(Stdio::null());
    command
}

/// Whether there is an `mpirun`.
fn has_mpi() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no mpirun here");
    }
    found
}

fn start(sandbox: &Sandbox, ranks: usize, line: &str) -> Running {
    sandbox.start_by(&mut mpirun(ranks), line)
}

fn succeed(sandbox: &Sandbox, ranks: usize, line: &str) -> Ended {
    let ended = start(sandbox, ranks, line).wait();
    assert_eq!(ended.code, Some(0), "{line}\n{}", ended.stderr);
    ended
}

fn last_checkpoint(run: &Path) -> std::path::PathBuf {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(last_checkpoint(run).join("weights.safetensors")).unwrap()
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers of all lines under this name.
fn numbers(run: &Path, name: &str) -> Vec<f64> {
    metrics(run).iter().filter_map(|line| line[name].as_f64()).collect()
}

#[test]
fn ranks_do_what_one_process_does_and_speak_with_one_voice() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    for ranks in [2, 4] {
        let (one, several) = (format!("one-{ranks}"), format!("several-{ranks}"));
        sandbox.succeed(&format!(
            "{TRAIN} --iterations 8 --evaluate-every 4 --bn-group {} --out {one}",
            16 / ranks
        ));
        let ended = succeed(
            &sandbox,
            ranks,
            &format!("{TRAIN} --iterations 8 --evaluate-every 4 --out {several} --json"),
        );
        assert_eq!(ended.json()["iteration"], 8);
        let said = |text: &str| ended.stderr.matches(text).count();
        assert_eq!(
            (said("begun"), said("finished at iteration 8"), said("test loss")),
            (1, 1, 2),
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(&format!("8 iterations, {ranks} processes, begun")),
            "{}",
            ended.stderr
        );
        let (one, several) = (sandbox.at(one), sandbox.at(several));
        let recipe = |run: &Path| fs::read_to_string(run.join("recipe.toml")).unwrap();
        assert_eq!(recipe(&one), recipe(&several));
        for name in ["loss", "test_loss"] {
            let (one, several) = (numbers(&one, name), numbers(&several, name));
            assert!(!one.is_empty() && one.len() == several.len());
            for (one, several) in one.iter().zip(&several) {
                assert!((one - several).abs() < 1e-3 * one, "{ranks} {name}: {one} {several}");
            }
        }
        let exchange = &metrics(&several)[0]["exchange"];
        assert_eq!(exchange["ranks"], ranks);
        assert!(
            exchange["bytes_sent"].as_u64().unwrap() > 1000 && exchange["waited"].as_f64().unwrap() >= 0.
        );
        // Again the same bits, with other numbers of threads.
        let line = TRAIN.replace("--threads 1", "--threads 2 --workers 2 --memory lean");
        succeed(&sandbox, ranks, &format!("{line} --iterations 8 --evaluate-every 4 --out again-{ranks}"));
        assert!(weights(&sandbox.at(format!("again-{ranks}"))) == weights(&several), "{ranks}");
    }
}

#[test]
fn a_rank_that_is_killed_ends_all_and_the_run_goes_on_from_its_checkpoint() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    let line = format!(
        "{TRAIN} --iterations 1000000 --checkpoint-every 5 --evaluate-every 1000000 --keep 5 --out run"
    );
    let mut running = start(&sandbox, 3, &line.replace("--batch 16", "--batch 18"));
    running.wait_for("begun");
    while !sandbox.at("run/checkpoints/iteration-00000010").exists() {
        assert!(!running.wait_at_most(Duration::from_millis(2)));
    }
    let killed = Instant::now();
    let ranks = ranks_of(running.id());
    assert_eq!(ranks.len(), 3, "{ranks:?}");
    assert!(Command::new("kill").args(["-9", &ranks[1].to_string()]).status().unwrap().success());
    let ended = running.wait();
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert!(ended.code != Some(0) && ended.stderr.contains("rank 1"), "{}", ended.stderr);
    let resumed = succeed(&sandbox, 3, "train --resume run --iterations 1000 --threads 1 --json");
    assert_eq!(resumed.json()["iteration"], 1000);
}

/// The processes that a process has started, in the order of their numbers.
fn ranks_of(mpirun: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &mpirun.to_string()]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn signals_save_once_and_a_resumed_run_reaches_the_same_bits() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    let train = TRAIN.replace("preresnet8", "preresnet20");
    succeed(&sandbox, 2, &format!("{train} --iterations 150 --out whole"));
    for signal in ["TERM", "INT", "USR1"] {
        let line = format!("{train} --iterations 150 --checkpoint-every 1000 --out {signal}");
        let mut running = start(&sandbox, 2, &line);
        running.wait_for("begun");
        sleep(Duration::from_millis(500));
        running.signal(signal);
        assert!(running.wait_at_most(Duration::from_secs(10)), "{signal}");
        let ended = running.wait();
        assert!(ended.code != Some(0), "{signal}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("stopped at iteration").count(), 1, "{signal}: {}", ended.stderr);
        assert!(sandbox.half_written().is_empty());
        succeed(&sandbox, 2, &format!("train --resume {signal} --threads 1"));
        assert!(weights(&sandbox.at(signal)) == weights(&sandbox.at("whole")), "{signal}");
    }
}

#[test]
fn an_error_is_told_once_and_ends_all() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.at("one")).unwrap();
    for (ranks, line, expected) in [
        (2, format!("{TRAIN} --iterations x"), "error: invalid value 'x'"),
        (3, format!("{TRAIN} --iterations 2"), "error: a batch of 16 images has no 3 equal parts"),
        (2, "train --resume nothing".to_owned(), "error: nothing holds no run"),
        (2, format!("{TRAIN} --iterations 2 --data cifar10:none"), "error: "),
    ] {
        let begun = Instant::now();
        let ended = start(&sandbox, ranks, &line).wait();
        assert!(ended.code != Some(0) && begun.elapsed() < Duration::from_secs(10), "{line}: {ended:?}");
        assert_eq!(ended.stderr.matches("error: ").count(), 1, "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{line}: {}", ended.stderr);
    }
    assert!(!sandbox.at("runs").exists());
}

#[test]
fn what_is_wrong_on_one_rank_alone_is_told_with_its_name() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    let program = env!("CARGO_BIN_EXE_residua");
    // Two programs side by side: of the second rank the data are not where it looks.
    let mut both = mpirun(1);
    let line = format!("{TRAIN} --iterations 4 --out run");
    let other = line.replace("--lr 0.02", "--lr 0.01");
    both.args(line.split_whitespace()).args([":", "-n", "1", program]);
    let ended = sandbox.start_by(&mut both, &other).wait();
    assert!(ended.code != Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("has another recipe than rank 0 on "), "{}", ended.stderr);
    let mut both = mpirun(1);
    let other = line.replace("cifar10:data", "cifar10:elsewhere");
    both.args(line.split_whitespace()).args([":", "-n", "1", program]);
    let begun = Instant::now();
    let ended = sandbox.start_by(&mut both, &other).wait();
    assert!(ended.code != Some(0) && begun.elapsed() < Duration::from_secs(10), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
}

#[test]
fn what_cannot_be_read_is_told_once() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    for (split, count) in [("train", 6), ("test", 3)] {
        for (class, grey) in [("cat", 40), ("dog", 200)] {
            let folder = sandbox.at(format!("pets/{split}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let picture = image::GrayImage::from_pixel(32, 32, image::Luma([grey + number]));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
            fs::write(folder.join("broken.png"), "no picture").unwrap();
        }
    }
    let line = "train --data folder:pets --model preresnet8 --batch 4 --iterations 30 --threads 1 --out run";
    let ended = start(&sandbox, 2, line).wait();
    assert!(ended.code != Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("cannot be read, more than 1 %").count(), 1, "{}", ended.stderr);
    let ended = succeed(&sandbox, 2, &format!("{line} --max-unreadable 0.5").replace("run", "other"));
    for file in ["train/cat", "train/dog", "test/cat", "test/dog"] {
        let told = format!("skipped: \"pets/{file}/broken.png\"");
        assert_eq!(ended.stderr.matches(&told).count(), 1, "{file}: {}", ended.stderr);
    }
}

#[test]
fn other_commands_are_done_once() {
    if !has_mpi() {
        return;
    }
    let sandbox = Sandbox::new();
    let ended = succeed(&sandbox, 3, "summary --model preresnet8");
    assert_eq!(
        ended.stdout.matches("preresnet8").count(),
        sandbox.succeed("summary --model preresnet8").stdout.matches("preresnet8").count()
    );
    let ended = succeed(&sandbox, 2, "paper run fig6 --budget smoke --data cifar10:data --threads 1");
    assert_eq!(ended.stdout.matches("# ").count(), 1, "{}", ended.stdout);
}
