//! Recipes beyond the paper's: what their options do to a run.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 10 --lr 0.1 --threads 1 --log-every 1 \
    --evaluate-every 5";

/// The metrics' lines that have a field.
fn lines(sandbox: &Sandbox, run: &str, field: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.at(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get(field).is_some()).collect()
}

fn rates(sandbox: &Sandbox, run: &str) -> Vec<f64> {
    let lines = lines(sandbox, run, "learning_rate");
    lines.iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect()
}

fn recipe(sandbox: &Sandbox, run: &str) -> String {
    fs::read_to_string(sandbox.at(run).join("recipe.toml")).unwrap()
}

#[test]
fn learning_rates_fall_as_the_schedule_says() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --schedule linear --warmup 20%:0.05:gradual --min-lr 0.02 --out linear"));
    let expected = [0.05, 0.075, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03];
    for (found, expected) in rates(&sandbox, "linear").iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
    let text = recipe(&sandbox, "linear");
    for part in ["kind = \"linear\"", "decay_at = []", "min_learning_rate = 0.02", "iterations = 2"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }

    // An epoch of 80 images has ten iterations of eight: half an epoch, and 80 %.
    sandbox.succeed(&format!("{RUN} --warmup none --decay-at 0.5epochs,80% --decay-factor 0.5 --out steps"));
    assert_eq!(rates(&sandbox, "steps"), [0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025]);

    let ended = sandbox.succeed(&format!("{RUN} --schedule one-cycle --out cycle"));
    let found = rates(&sandbox, "cycle");
    assert!((found[0] - 0.004).abs() < 1e-12 && (found[2] - 0.1).abs() < 1e-12, "{found:?}");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    // Its rates belong to its length.
    let ended = sandbox.run("train --resume cycle --iterations 20");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--iterations was 10, now 20; only the intervals and"), "{}", ended.stderr);
    let ended = sandbox.run("train --resume cycle");
    assert!(
        ended.stderr.contains("begin another run from its weights with --init cycle"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_recipe_has_its_warm_up_in_proportion_and_tells_of_one_that_never_ends() {
    let sandbox = Sandbox::new();
    let mut short =
        sandbox.start(&format!("{} --out short", RUN.replace("--iterations 10", "--iterations 3200")));
    short.wait_for("begun");
    assert!(
        recipe(&sandbox, "short").contains("[schedule.warmup]\niterations = 20\n"),
        "{}",
        recipe(&sandbox, "short")
    );
    drop(short);
    let ended = sandbox.succeed(&format!("{RUN} --warmup 10:0.01 --out endless"));
    assert!(
        ended.stderr.contains("the warm-up of 10 iterations does not end within the run's 10"),
        "{}",
        ended.stderr
    );
    // 400 of 64,000 are none of ten.
    sandbox.succeed(&format!("{RUN} --out default"));
    assert!(!recipe(&sandbox, "default").contains("warmup"));
}

#[test]
fn losses_and_averages_are_kept_evaluated_and_exported() {
    let sandbox = Sandbox::new();
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let weights: String = classes.iter().map(|class| format!("{class}, 1.5\n")).collect();
    fs::write(sandbox.at("weights.csv"), weights).unwrap();
    let options = "--label-smoothing 0.1 --class-weights weights.csv --ema 0.9 --clip-norm 2 --accumulate 2";
    let ended = sandbox.succeed(&format!("{RUN} {options} --out run --json"));
    let tests = lines(&sandbox, "run", "test_error");
    assert_eq!(tests.len(), 2);
    assert!(tests.iter().all(|test| test["average_test_error"].is_f64()), "{tests:?}");
    let result = ended.json();
    assert_eq!(result["average_test_error"], tests[1]["average_test_error"]);
    assert!(ended.stderr.contains("of the average of weights "), "{}", ended.stderr);
    // Two batches a step, ten steps, an epoch of 80 images.
    let training = lines(&sandbox, "run", "loss");
    assert_eq!(training.last().unwrap()["epoch"], 2.0);
    let text = recipe(&sandbox, "run");
    for part in [
        "accumulate = 2",
        "clip_norm = 2.0",
        "average_decay = 0.9",
        "label_smoothing = 0.1",
        "[\"cat\", 1.5]",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }

    let evaluated = |options: &str| {
        sandbox.succeed(&format!("eval --checkpoint run --data cifar10:data --json {options}")).json()
    };
    let (last, average) = (evaluated(""), evaluated("--average"));
    assert_eq!(last["test_error"], tests[1]["test_error"]);
    assert_eq!(average["test_error"], tests[1]["average_test_error"]);
    assert!(
        (average["test_loss"].as_f64().unwrap() - tests[1]["average_test_loss"].as_f64().unwrap()).abs()
            < 1e-5
    );
    assert_ne!(average["test_loss"], last["test_loss"]);
    sandbox.succeed("export run --average --to safetensors --out average.safetensors");
    let exported = sandbox.succeed("eval --checkpoint average.safetensors --data cifar10:data --json").json();
    assert_eq!(exported["test_loss"], average["test_loss"]);

    sandbox.succeed(&format!("{RUN} --out plain"));
    let ended = sandbox.run("eval --checkpoint plain --data cifar10:data --average");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("holds no average of weights"), "{}", ended.stderr);
    assert!(ended.stderr.contains("train with --ema"), "{}", ended.stderr);
}

#[test]
fn weights_of_classes_that_are_not_there_are_refused() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.at("weights.csv"), "cat,2\nunicorn,1\n").unwrap();
    let ended = sandbox.run(&format!("{RUN} --class-weights weights.csv --out run"));
    assert!(ended.stderr.contains("--class-weights = unicorn: is no class"), "{}", ended.stderr);
    fs::write(sandbox.at("weights.csv"), "cat,2\ndog;1\n").unwrap();
    let ended = sandbox.run(&format!("{RUN} --class-weights weights.csv --out run"));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--class-weights weights.csv: line 2"), "{}", ended.stderr);
    assert!(!sandbox.at("run").exists());
}

#[test]
fn a_run_with_validation_images_chooses_by_them_and_is_tested_once() {
    let sandbox = Sandbox::new();
    let run = RUN.replace("--evaluate-every 5", "--evaluate-every 2");
    let ended = sandbox.succeed(&format!("{run} --validation 20 --ema 0.5 --out run --json"));
    let validations = lines(&sandbox, "run", "validation_error");
    assert_eq!(
        validations.iter().map(|line| line["iteration"].as_u64().unwrap()).collect::<Vec<_>>(),
        [2, 4, 6, 8, 10]
    );
    let tests = lines(&sandbox, "run", "test_error");
    assert_eq!(tests.len(), 1);
    assert_eq!(tests[0]["iteration"], 10);
    // Ten iterations of eight of the 60 images that are left.
    assert!((tests[0]["epoch"].as_f64().unwrap() - 80. / 60.).abs() < 1e-12);
    let errors = validations.iter().map(|line| line["average_validation_error"].as_f64().unwrap());
    let best = errors.fold(f64::INFINITY, f64::min);
    let result = ended.json();
    assert_eq!(
        (&result["best_validation_error"], &result["test_error"]),
        (&best.into(), &tests[0]["test_error"])
    );
    assert!(result.get("best_test_error").is_none(), "{result}");
    assert!(ended.stderr.contains("iteration 2: validation error "), "{}", ended.stderr);

    let listed = sandbox.succeed("runs . --json").json();
    assert_eq!(listed[0]["best_validation_error"], best);
    assert_eq!(listed[0]["best_test_error"], Value::Null);
    let listed = sandbox.succeed("runs .");
    assert!(listed.stdout.contains(", validation"), "{}", listed.stdout);
    assert!(!listed.stderr.contains("chosen on the test images"), "{}", listed.stderr);
    let curves = fs::read_to_string(sandbox.at("run/curves.svg")).unwrap();
    assert!(curves.contains("validation error"), "{curves}");
    sandbox.succeed("report run --out page.html");
    let page = fs::read_to_string(sandbox.at("page.html")).unwrap();
    assert!(page.contains("best validation error") && page.contains("validation error of the average"));

    sandbox.succeed(&format!("{RUN} --out plain"));
    let listed = sandbox.succeed("runs .");
    assert!(listed.stderr.contains("chosen on the test images"), "{}", listed.stderr);
}

#[test]
fn a_run_ends_when_its_patience_does() {
    let sandbox = Sandbox::new();
    let run = RUN
        .replace("--iterations 10", "--iterations 300")
        .replace("--evaluate-every 5", "--evaluate-every 2");
    let ended =
        sandbox.succeed(&format!("{run} --validation 25% --patience 2 --decay-at none --out run --json"));
    let result = ended.json();
    let end = result["iteration"].as_u64().unwrap();
    assert!(end < 300, "{result}");
    assert_eq!(result["is_finished"], true);
    assert_eq!(result["best_iteration"].as_u64().unwrap() + 4, end, "{result}");
    assert_eq!(lines(&sandbox, "run", "test_error")[0]["iteration"].as_u64(), Some(end));
    let state = |sandbox: &Sandbox| sandbox.succeed("runs . --json").json()[0]["state"].clone();
    assert_eq!(state(&sandbox), "finished");
    let refused = sandbox.run("train --resume run");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("has ended early") && refused.stderr.contains("larger --patience"),
        "{}",
        refused.stderr
    );
    let further = sandbox.succeed("train --resume run --patience 3 --json").json();
    assert!(further["iteration"].as_u64().unwrap() > end, "{further}");
    assert_eq!(state(&sandbox), "finished");
}

#[test]
fn validation_images_that_cannot_be_had_are_refused() {
    let sandbox = Sandbox::new();
    for (validation, part) in [
        ("80", "80 of the 80 training images"),
        ("0", "0 of the 80 training images"),
        ("0.001", "0 of the 80 training images"),
        ("nowhere", "go with pictures in a folder"),
    ] {
        let ended = sandbox.run(&format!("{RUN} --validation {validation} --out run"));
        assert!(ended.code == Some(1) && ended.stderr.contains(part), "{validation}: {}", ended.stderr);
        assert!(!sandbox.at("run").exists());
    }
}

#[test]
fn recipes_in_epochs_fit_the_images() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out first"));
    sandbox.succeed(
        "train --recipe finetune --data cifar10:data --init first --batch 8 --epochs 2 --threads 1 --out tuned",
    );
    let text = recipe(&sandbox, "tuned");
    for part in [
        "model = \"preresnet8\"",
        "kind = \"cosine\"",
        "iterations = 20\n",
        "[schedule.warmup]\niterations = 1\nlearning_rate = 0.001\nkind = \"gradual\"",
        "evaluate = 10\ncheckpoint = 10\n",
        "label_smoothing = 0.1",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let options = "--model preresnet8 --batch 8 --accumulate 2 --epochs 3 --augment shift --threads 1";
    sandbox.succeed(&format!("train --recipe paper-imagenet --data cifar10:data {options} --out paper"));
    let text = recipe(&sandbox, "paper");
    for part in
        ["iterations = 15\n", "decay_at = [5, 10]", "accumulate = 2", "evaluate = 5\ncheckpoint = 5\n"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
