//! A run that was stopped, in whichever way, ends in the very bits of one that was not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A run whose learning rate, tests and metrics lines change on the way. Its intervals of checkpoints are left open:
/// they do not change what comes out.
const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 24 --lr 0.05 --warmup 4:0.01 \
    --decay-at 10,18 --evaluate-every 3 --log-every 2 --threads 1";

/// What a run has come to.
#[derive(Debug, PartialEq)]
struct Outcome {
    metrics: Vec<Value>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Outcome {
    /// That of the run in a folder: its metrics but for the times in them, and its last checkpoint's tensors.
    fn of(run: &Path) -> Self {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let mut metrics: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in metrics.iter_mut().map(|line| line.as_object_mut().unwrap()) {
            line.remove("images_per_second");
            line.remove("seconds");
            line.remove("peak_memory_bytes");
            line.remove("time");
        }
        let last = checkpoints(run).pop().unwrap();
        let read = |name| (name, fs::read(last.join(name)).unwrap());
        Self { metrics, files: ["weights.safetensors", "optimiser.safetensors"].map(read).to_vec() }
    }

    /// That of a run which nothing disturbs.
    fn undisturbed(sandbox: &Sandbox, run: &str) -> Self {
        sandbox.succeed(&format!("{run} --out undisturbed"));
        Self::of(&sandbox.at("undisturbed"))
    }

    #[track_caller]
    fn assert_same(&self, run: &Path) {
        let other = Self::of(run);
        assert_eq!(self.metrics, other.metrics);
        for ((name, expected), (_, actual)) in self.files.iter().zip(&other.files) {
            assert!(expected == actual, "{name} differs");
        }
    }
}

/// The checkpoints of a run, the latest last.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn iteration(checkpoint: &Path) -> u64 {
    let name = checkpoint.file_name().unwrap().to_str().unwrap();
    name.strip_prefix("iteration-").unwrap().parse().unwrap()
}

/// Numbers that are the same in every run of the tests: xorshift.
struct Random(u64);

impl Random {
    /// A number from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_by_a_signal_goes_on_as_its_message_says() {
    let sandbox = Sandbox::new();
    let undisturbed = Outcome::undisturbed(&sandbox, RUN);
    let stops = [("INT", "begun"), ("TERM", "iteration 3: "), ("INT", "iteration 9: ")];
    for (number, (signal, moment)) in stops.into_iter().enumerate() {
        let run = format!("stopped-{number}");
        let mut running = sandbox.start(&format!("{RUN} --checkpoint-every 5 --out {run} --json"));
        running.wait_for(moment);
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        let (_, rest) = ended.stderr.split_once("stopped at iteration ").expect(&ended.stderr);
        let (stopped, rest) = rest.split_once(',').unwrap();
        let (_, command) = rest.trim().split_once("go on with: residua ").unwrap();
        assert_eq!(
            iteration(checkpoints(&sandbox.at(&run)).last().unwrap()),
            stopped.parse::<u64>().unwrap()
        );
        assert_eq!(ended.json()["is_finished"], false);

        let ended = sandbox.succeed(command);
        assert!(stopped == "0" || ended.stderr.contains(&format!("resumed at iteration {stopped}")));
        undisturbed.assert_same(&sandbox.at(&run));
    }
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_the_run_at_once_and_it_goes_on_all_the_same() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(&format!("{RUN} --checkpoint-every 2 --out run"));
    running.wait_for("iteration 3: ");
    running.signal("INT");
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    sandbox.succeed("train --resume run");
    Outcome::undisturbed(&sandbox, RUN).assert_same(&sandbox.at("run"));
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_the_same() {
    let sandbox = Sandbox::new();
    let undisturbed = Outcome::undisturbed(&sandbox, RUN);
    for (checkpoint_every, seed) in [(1, 1), (2, 2)] {
        let run = format!("killed-{checkpoint_every}");
        let begin = format!("{RUN} --checkpoint-every {checkpoint_every} --out {run}");
        let resume = format!("train --resume {run}");
        let begun = Instant::now();
        sandbox.succeed(&begin.replace("--out killed", "--out timed"));
        let whole = begun.elapsed();

        let mut random = Random(seed);
        let (mut line, mut kills, mut starts) = (&begin, 0, 0);
        loop {
            starts += 1;
            assert!(starts < 300, "{run} does not come to an end");
            // The first kills come while the program starts. After ten there is ever more time, so that it ends.
            let share = match kills {
                0..4 => 0.03,
                4..10 => 0.15,
                _ => 0.15 + 0.05 * f64::from(kills - 9),
            };
            let mut running = sandbox.start(line);
            if !running.wait_at_most(whole.mul_f64(share * random.next())) {
                running.kill();
                kills += 1;
                line = &resume;
                continue;
            }
            let ended = running.wait();
            line = match ended.code {
                Some(0) => break,
                // The kill came before the first checkpoint, or after the last one.
                _ if ended.stderr.contains("holds no run") => &begin,
                _ if ended.stderr.contains("has done 24 of 24 iterations") => break,
                _ => panic!("{}", ended.stderr),
            };
        }
        assert!(kills >= 10, "{run}: {kills} kills");
        undisturbed.assert_same(&sandbox.at(&run));
        assert!(sandbox.half_written().is_empty(), "{:?}", sandbox.half_written());
    }
}

#[test]
fn curves_that_cannot_be_drawn_cost_no_checkpoint() {
    let sandbox = Sandbox::new();
    let curves = sandbox.at("run/curves.svg");
    fs::create_dir_all(&curves).unwrap();
    let ended = sandbox.run(&format!("{RUN} --checkpoint-every 3 --out run"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot write run/curves.svg: "), "{}", ended.stderr);
    assert_eq!(iteration(checkpoints(&sandbox.at("run")).last().unwrap()), 3);
    fs::remove_dir(&curves).unwrap();
    sandbox.succeed("train --resume run");
    assert!(curves.is_file());
}

#[test]
fn a_run_goes_on_from_any_of_its_checkpoints() {
    let sandbox = Sandbox::new();
    let run = sandbox.at("run");
    sandbox.succeed(&format!("{RUN} --checkpoint-every 1 --keep 100 --out run"));
    let undisturbed = Outcome::of(&run);
    assert_eq!(checkpoints(&run).len(), 25);
    for last in [17, 12, 1, 0] {
        for checkpoint in checkpoints(&run).into_iter().filter(|path| iteration(path) > last) {
            fs::remove_dir_all(checkpoint).unwrap();
        }
        sandbox.succeed("train --resume run --checkpoint-every 100");
        undisturbed.assert_same(&run);
    }
}

#[test]
fn every_ordering_and_shortcut_goes_on_from_a_checkpoint() {
    let sandbox = Sandbox::new();
    let orderings =
        ["original", "bn-after-add", "relu-before-add", "relu-preact"].map(|name| ("ordering", name));
    let shortcuts = ["scale:0.5,0.5", "exclusive-gate:-1", "shortcut-gate:-1", "conv1x1", "dropout:0.5"];
    for (option, value) in orderings.into_iter().chain(shortcuts.map(|name| ("shortcut", name))) {
        let run = value.replace([':', ','], "-");
        let line =
            "train --data cifar10:data --model resnet8 --batch 8 --iterations 6 --lr 0.05 --warmup none";
        sandbox.succeed(&format!(
            "{line} --{option} {value} --checkpoint-every 3 --keep 9 --threads 1 --out {run}"
        ));
        let run = sandbox.at(&run);
        let undisturbed = Outcome::of(&run);
        let last = checkpoints(&run).pop().unwrap();
        assert_eq!(iteration(&last), 6, "{value}");
        fs::remove_dir_all(last).unwrap();
        sandbox.succeed(&format!("train --resume {} --threads 2", run.display()));
        undisturbed.assert_same(&run);
    }
}

#[test]
fn a_damaged_last_checkpoint_is_reported_and_passed_over() {
    let sandbox = Sandbox::new();
    let run = sandbox.at("run");
    sandbox.succeed(&format!("{RUN} --checkpoint-every 5 --out run"));
    let undisturbed = Outcome::of(&run);
    fs::write(checkpoints(&run).pop().unwrap().join("optimiser.safetensors"), "torn").unwrap();
    let ended = sandbox.succeed("train --resume run");
    assert!(ended.stderr.contains("warning: ") && ended.stderr.contains("optimiser.safetensors is damaged"));
    assert!(ended.stderr.contains("resumed at iteration "), "{}", ended.stderr);
    fs::remove_dir_all(run.join("checkpoints/damaged-iteration-00000024")).unwrap();
    undisturbed.assert_same(&run);
}

#[cfg(unix)]
#[test]
fn dropout_batch_norm_groups_and_nesterov_resume_exactly() {
    let sandbox = Sandbox::new();
    let run = format!(
        "{RUN} --shortcut dropout:0.5 --bn-group 4 --nesterov --decays weights --normalisation pixel-mean --workers 2"
    );
    let mut running = sandbox.start(&format!("{run} --checkpoint-every 7 --out run"));
    running.wait_for("iteration 3: ");
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    sandbox.succeed("train --resume run");
    Outcome::undisturbed(&sandbox, &run).assert_same(&sandbox.at("run"));
}

#[cfg(unix)]
#[test]
fn averages_accumulated_gradients_and_rates_without_steps_resume_exactly() {
    let sandbox = Sandbox::new();
    let run = RUN.replace("--decay-at 10,18", "--schedule cosine --min-lr 0.001");
    let run = format!(
        "{run} --accumulate 2 --ema 0.9 --clip-norm 1 --label-smoothing 0.1 --class-weights balanced --sampling balanced --mixup 0.2 --cutmix 1 \
         --shortcut dropout:0.5"
    );
    let mut running = sandbox.start(&format!("{run} --checkpoint-every 7 --out run"));
    running.wait_for("iteration 3: ");
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    sandbox.succeed("train --resume run --threads 2 --memory lean");
    Outcome::undisturbed(&sandbox, &run).assert_same(&sandbox.at("run"));
    let average = |run: &str| {
        let last = checkpoints(&sandbox.at(run)).pop().unwrap();
        fs::read(last.join("average.safetensors")).unwrap()
    };
    assert_eq!(average("run"), average("undisturbed"));
}

#[test]
fn wide_networks_and_what_is_dropped_at_random_go_on_exactly() {
    let sandbox = Sandbox::new();
    let wide = RUN.replace("preresnet8", "wrn-10-2");
    let original = format!("{RUN} --ordering original --dimensions b");
    for (name, run) in [("wide", wide), ("original", original)] {
        let run = format!("{run} --stochastic-depth 0.6 --dropout 0.3 --unit-dropout 0.2 --mirror alternate");
        let run = format!("{run} --small-crops 24:10");
        sandbox.succeed(&format!("{run} --checkpoint-every 8 --keep 9 --out {name}"));
        let recipe = fs::read_to_string(sandbox.at(name).join("recipe.toml")).unwrap();
        let section = "[regularisation]\nstochastic_depth = 0.6\ndropout = 0.3\nunit_dropout = 0.2\n";
        assert!(recipe.contains(section), "{recipe}");
        let undisturbed = Outcome::of(&sandbox.at(name));
        for checkpoint in checkpoints(&sandbox.at(name)).into_iter().filter(|path| iteration(path) > 8) {
            fs::remove_dir_all(checkpoint).unwrap();
        }
        sandbox.succeed(&format!("train --resume {name} --threads 3 --memory lean"));
        undisturbed.assert_same(&sandbox.at(name));
        for (option, named) in [
            ("--stochastic-depth 0.5", "--stochastic-depth was 0.6, now 0.5"),
            ("--stochastic-depth 0", "--stochastic-depth was 0.6, now not set"),
            ("--dropout 0.2", "--dropout was 0.3, now 0.2"),
            ("--unit-dropout 0", "--unit-dropout was 0.2, now not set"),
            ("--small-crops 24:11", "--small-crops (iterations) was 10, now 11"),
            ("--mirror random", "--mirror was \"alternate\", now not set"),
        ] {
            let ended = sandbox.run(&format!("train --resume {name} --iterations 30 {option}"));
            assert!(ended.code == Some(2) && ended.stderr.contains(named), "{}", ended.stderr);
        }
    }
    let recipe = fs::read_to_string(sandbox.at("wide/recipe.toml")).unwrap();
    assert!(recipe.contains("model = \"wrn-10-2\"\n") && recipe.contains("width = 2\n"), "{recipe}");
    let summary = sandbox.succeed("summary --checkpoint wide --json").stdout;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["model"], &summary["network"]["width"]), (&"wrn-10-2".into(), &2.into()));
    sandbox.succeed("eval --checkpoint wide --data cifar10:data");
}

#[cfg(unix)]
#[test]
fn adamw_and_stochastic_depth_resume_exactly() {
    let sandbox = Sandbox::new();
    let run = format!("{RUN} --optimiser adamw --lr 0.01 --weight-decay 0.1 --stochastic-depth 0.5")
        .replace("--lr 0.05", "");
    let mut running = sandbox.start(&format!("{run} --checkpoint-every 7 --out run"));
    running.wait_for("iteration 3: ");
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    sandbox.succeed("train --resume run --threads 2");
    Outcome::undisturbed(&sandbox, &run).assert_same(&sandbox.at("run"));
}

#[test]
fn threads_workers_memory_and_a_longer_run_may_change_on_resume() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{} --out run", RUN.replace("--iterations 24", "--iterations 12")));
    let ended = sandbox.run("train --resume run");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("has done 12 of 12 iterations; to train further give a larger --iterations")
    );
    let machine = "--threads 2 --workers 3 --memory lean";
    sandbox.succeed(&format!("train --resume run --iterations 24 {machine} --checkpoint-every 3 --keep 1"));
    Outcome::undisturbed(&sandbox, RUN).assert_same(&sandbox.at("run"));
}

#[test]
fn options_that_make_another_run_are_refused_on_resume_by_name() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{} --out run", RUN.replace("--iterations 24", "--iterations 2")));
    let before = (fs::read(sandbox.at("run/recipe.toml")).unwrap(), Outcome::of(&sandbox.at("run")));
    for (option, named) in [
        ("--lr 0.5", "--lr was 0.05, now 0.5"),
        ("--seed 7", "seed was 1, now 7"),
        ("--model preresnet14", "--model was \"preresnet8\", now \"preresnet14\""),
        ("--batch 16", "--batch was 8, now 16"),
        ("--shortcut dropout:0.5", "--shortcut was \"identity\", now \"dropout:0.5\""),
        ("--width 2", "--width was not set, now 2"),
        ("--decay-at 1,18", "--decay-at was [10,18], now [1,18]"),
        ("--warmup none", "--warmup (iterations) was 4, now not set"),
        ("--nesterov", "is_nesterov was false, now true"),
        ("--no-augment", "--augment was \"shift\", now \"none\""),
        ("--auto-augment trivial", "--auto-augment was not set, now \"trivial\""),
        ("--cutout 8", "--cutout was not set, now 8"),
        ("--flip-vertical", "data.flips_vertically was not set, now true"),
        ("--data shapes", "--data was cifar10, now shapes"),
    ] {
        let ended = sandbox.run(&format!("train --resume run --iterations 30 {option}"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("only --iterations, the intervals and the folder of --data may change")
        );
    }
    let after = (fs::read(sandbox.at("run/recipe.toml")).unwrap(), Outcome::of(&sandbox.at("run")));
    assert_eq!(before, after);
}

#[test]
fn two_processes_do_not_train_in_one_folder() {
    let sandbox = Sandbox::new();
    let endless = RUN.replace("--iterations 24", "--iterations 1000000");
    let mut running = sandbox.start(&format!("{endless} --out run"));
    running.wait_for("iteration 3: ");
    let second = sandbox.run("train --resume run");
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("another process is training in run"), "{}", second.stderr);
    let second = sandbox.run(&format!("{RUN} --out run"));
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("run already holds a run; go on with it by --resume run"));
    running.wait_for("iteration 6: ");
    running.kill();
    // The lock ends with its process, however that ended.
    let mut third = sandbox.start("train --resume run");
    third.wait_for("iteration ");
    third.kill();
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_threads_and_the_memory() {
    let sandbox = Sandbox::new();
    let undisturbed = Outcome::undisturbed(&sandbox, RUN);
    sandbox.succeed(&format!("{} 2 --workers 3 --out again", RUN.strip_suffix(" 1").unwrap()));
    undisturbed.assert_same(&sandbox.at("again"));
    for (memory, threads) in [("balanced", 2), ("lean", 1), ("lean", 3)] {
        let run = format!("{} {threads} --memory {memory}", RUN.strip_suffix(" 1").unwrap());
        let folder = format!("{memory}-{threads}");
        sandbox.succeed(&format!("{run} --out {folder}"));
        undisturbed.assert_same(&sandbox.at(&folder));
    }
    sandbox.succeed(&format!("{RUN} --seed 2 --out other"));
    assert_ne!(undisturbed, Outcome::of(&sandbox.at("other")));
}
