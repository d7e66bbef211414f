//! What scripts rely on in a run: its files and their fields, and what `train`, `eval` and `predict` print of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use image::{DynamicImage, RgbImage};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, files};
use crate::tiny_cifar::{TEST, TRAIN};

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 12 --warmup none \
    --evaluate-every 6 --checkpoint-every 6 --log-every 4 --threads 1";

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn weights(run: &Path, iteration: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/iteration-{iteration:08}/weights.safetensors"))).unwrap()
}

#[test]
fn a_run_folder_holds_recipe_metrics_curves_and_checkpoints() {
    let sandbox = Sandbox::new();
    let ended = sandbox.succeed(&format!("{RUN} --out some/new/run --json"));
    let run = sandbox.at("some/new/run");
    let names: Vec<_> = files(&run).iter().map(|path| path.strip_prefix(&run).unwrap().to_owned()).collect();
    for name in ["recipe.toml", "metrics.jsonl", "curves.svg", "curves.png"] {
        assert!(names.contains(&name.into()), "{name} is missing: {names:?}");
        assert!(run.join(name).metadata().unwrap().len() > 0, "{name} is empty");
    }
    for iteration in [0, 6, 12] {
        for name in
            ["weights.safetensors", "optimiser.safetensors", "recipe.toml", "state.json", "SHA256SUMS"]
        {
            let path = format!("checkpoints/iteration-{iteration:08}/{name}");
            assert!(names.contains(&path.clone().into()), "{path} is missing: {names:?}");
        }
    }
    assert!(fs::read_to_string(run.join("curves.svg")).unwrap().starts_with("<svg"));
    assert!(image::open(run.join("curves.png")).is_ok());
    assert_eq!(sandbox.half_written().len(), 0);

    let metrics = lines(&run.join("metrics.jsonl"));
    let result = ended.json();
    let last = metrics.last().unwrap();
    let best = metrics.iter().filter(|line| line.get("test_error").is_some());
    let best =
        best.min_by(|a, b| a["test_error"].as_f64().unwrap().total_cmp(&b["test_error"].as_f64().unwrap()));
    assert_eq!(
        result,
        json!({
            "run": "some/new/run",
            "is_finished": true,
            "iteration": 12,
            "checkpoint": "some/new/run/checkpoints/iteration-00000012",
            "test_error": last["test_error"],
            "test_loss": last["test_loss"],
            "best_test_error": best.unwrap()["test_error"],
            "best_iteration": best.unwrap()["iteration"],
        })
    );
}

#[test]
fn runs_without_a_folder_are_numbered() {
    let sandbox = Sandbox::new();
    let run = RUN.replace("--iterations 12", "--iterations 1");
    for folder in ["runs/preresnet8-cifar10", "runs/preresnet8-cifar10-2", "runs/preresnet8-cifar10-3"] {
        assert_eq!(sandbox.succeed(&format!("{run} --json")).json()["run"], folder);
        assert!(sandbox.at(folder).join("recipe.toml").exists());
    }
}

#[test]
fn metrics_have_their_fields_in_order() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --lr 0.1 --decay-at 8 --out run"));
    let text = fs::read_to_string(sandbox.at("run/metrics.jsonl")).unwrap();
    let metrics = lines(&sandbox.at("run/metrics.jsonl"));
    let iterations: Vec<_> = metrics.iter().map(|line| line["iteration"].as_u64().unwrap()).collect();
    assert_eq!(iterations, [4, 6, 8, 12, 12]);
    for (line, text) in metrics.iter().zip(text.lines()) {
        let fields: &[&str] = match line.get("test_error") {
            None => &[
                "iteration",
                "epoch",
                "loss",
                "error",
                "learning_rate",
                "images_per_second",
                "seconds",
                "peak_memory_bytes",
                "time",
            ],
            Some(_) => &["iteration", "epoch", "test_loss", "test_error", "time"],
        };
        let places: Vec<_> =
            fields.iter().map(|field| text.find(&format!("\"{field}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(line.as_object().unwrap().len(), fields.len(), "{text}");
        let epoch = line["iteration"].as_u64().unwrap() as f64 * 8. / TRAIN as f64;
        assert_eq!(line["epoch"], epoch);
        for error in ["error", "test_error"].map(|field| line.get(field)).into_iter().flatten() {
            assert!((0.0..=100.0).contains(&error.as_f64().unwrap()), "{text}");
        }
    }
    let rates: Vec<_> = metrics.iter().filter_map(|line| line.get("learning_rate")?.as_f64()).collect();
    let expected = [0.1, 0.1, 0.01];
    assert!(rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-12), "{rates:?}");
}

#[test]
fn a_recipe_makes_the_same_run_again() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!(
        "{RUN} --no-augment --no-shuffle --seed 5 --ordering relu-preact --shortcut scale:0.5,0.5 --out run"
    ));
    let recipe = fs::read_to_string(sandbox.at("run/recipe.toml")).unwrap();
    for part in [
        "seed = 5",
        "model = \"preresnet8\"",
        "ordering = \"relu-preact\"",
        "shortcut = \"scale:0.5,0.5\"",
        "source = \"cifar10:data\"",
        "augmentation = \"none\"",
        "is_shuffled = false",
        "batch = 8",
        "iterations = 12",
    ] {
        assert!(recipe.contains(part), "{part}: {recipe}");
    }
    sandbox.succeed("train --recipe run/recipe.toml --threads 1 --out again");
    assert_eq!(fs::read_to_string(sandbox.at("again/recipe.toml")).unwrap(), recipe);
    assert!(weights(&sandbox.at("run"), 12) == weights(&sandbox.at("again"), 12));

    sandbox.succeed("train --recipe run/recipe.toml --seed 6 --threads 1 --out refined");
    assert!(weights(&sandbox.at("run"), 12) != weights(&sandbox.at("refined"), 12));
}

#[test]
fn a_trunk_of_bfloat16_belongs_to_the_recipe() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out exact"));
    sandbox.succeed(&format!("{RUN} --trunk bf16 --out rounded"));
    let recipe = fs::read_to_string(sandbox.at("rounded/recipe.toml")).unwrap();
    assert!(recipe.contains("trunk = \"bf16\""), "{recipe}");
    assert!(!fs::read_to_string(sandbox.at("exact/recipe.toml")).unwrap().contains("trunk"));
    assert!(weights(&sandbox.at("exact"), 12) != weights(&sandbox.at("rounded"), 12));
    sandbox.succeed("train --recipe rounded/recipe.toml --threads 1 --out again");
    assert!(weights(&sandbox.at("again"), 12) == weights(&sandbox.at("rounded"), 12));
    sandbox.succeed("eval --checkpoint rounded");
}

/// By loops that every processor has, if slowly.
#[test]
fn a_precision_of_bfloat16_belongs_to_the_recipe_and_goes_on_exactly() {
    let sandbox = Sandbox::new();
    let run = |line: &str| {
        let output = sandbox.command(line).env("RESIDUA_INSTRUCTIONS", "portable").output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&format!("{RUN} --decay-at 8,10 --out exact"));
    let rounded = format!("{RUN} --decay-at 8,10 --precision bf16");
    run(&format!("{rounded} --out rounded"));
    let recipe = fs::read_to_string(sandbox.at("rounded/recipe.toml")).unwrap();
    assert!(recipe.contains("precision = \"bf16\""), "{recipe}");
    assert!(!fs::read_to_string(sandbox.at("exact/recipe.toml")).unwrap().contains("precision"));
    assert!(weights(&sandbox.at("exact"), 12) != weights(&sandbox.at("rounded"), 12));
    let six = rounded.replace("--iterations 12", "--iterations 6").replace("--threads 1", "--threads 2");
    run(&format!("{six} --out part"));
    run("train --resume part --iterations 12");
    assert!(weights(&sandbox.at("part"), 12) == weights(&sandbox.at("rounded"), 12));
    run("eval --checkpoint rounded");
    // What is measured is in f32, also where nothing computes in bfloat16.
    if cfg!(target_arch = "x86_64") {
        let output = sandbox.command("propagate rounded --json").env("RESIDUA_INSTRUCTIONS", "avx2").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn augmentation_and_order_matter() {
    let sandbox = Sandbox::new();
    let mut all = BTreeSet::new();
    for (number, options) in
        ["", "--no-augment", "--no-shuffle", "--no-augment --no-shuffle"].iter().enumerate()
    {
        sandbox.succeed(&format!("{RUN} {options} --out run-{number}"));
        all.insert(weights(&sandbox.at(format!("run-{number}")), 12));
    }
    assert_eq!(all.len(), 4);
}

#[test]
fn epochs_are_passes_over_the_training_set() {
    let sandbox = Sandbox::new();
    let run = RUN.replace("--iterations 12", "--epochs 2");
    let ended = sandbox.succeed(&format!("{run} --json --out run"));
    assert_eq!(ended.json()["iteration"], 2 * TRAIN / 8);
    assert_eq!(lines(&sandbox.at("run/metrics.jsonl")).last().unwrap()["epoch"], 2.0);
}

#[test]
fn a_run_begins_from_the_weights_of_another() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out first"));
    let file = "first/checkpoints/iteration-00000012/weights.safetensors";
    for (number, init) in [file, "first"].into_iter().enumerate() {
        sandbox.succeed(&format!("{RUN} --seed 2 --init {init} --out next-{number}"));
        assert!(weights(&sandbox.at(format!("next-{number}")), 0) == weights(&sandbox.at("first"), 12));
        assert!(weights(&sandbox.at(format!("next-{number}")), 12) != weights(&sandbox.at("first"), 12));
    }
    let ended =
        sandbox.run(&format!("{} --init first --out other", RUN.replace("preresnet8", "preresnet14")));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("first: the weights do not belong to this network"), "{}", ended.stderr);
    assert!(!sandbox.at("other").exists());
}

#[test]
fn eval_measures_what_the_run_measured_last() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    let expected = lines(&sandbox.at("run/metrics.jsonl")).pop().unwrap();
    let file = "run/checkpoints/iteration-00000012/weights.safetensors";
    fs::copy(sandbox.at(file), sandbox.at("alone.safetensors")).unwrap();
    let mut first = None;
    for line in [
        "eval --checkpoint run --json",
        "eval --checkpoint run/checkpoints/iteration-00000012 --json --batch 5 --threads 2",
        &format!("eval --checkpoint {file} --data cifar10:data --json --batch 1"),
        "eval --checkpoint alone.safetensors --data cifar10:data --json",
    ] {
        let result = sandbox.succeed(line).json();
        assert_eq!(result["images"], TEST, "{line}");
        assert_eq!(result["test_error"], expected["test_error"], "{line}");
        // Inference rounds otherwise than the training path, but always alike.
        let loss = |line: &Value| line["test_loss"].as_f64().unwrap();
        assert!((loss(&result) / loss(&expected) - 1.).abs() < 1e-5, "{line}: {result}");
        assert_eq!(result["test_loss"], *first.get_or_insert(result["test_loss"].clone()), "{line}");
    }
    let reference = sandbox.succeed("eval --checkpoint run --json --engine composed --threads 1").json();
    assert_eq!(reference["test_error"], expected["test_error"]);
    // Everywhere, if slowly, there are loops that compute in bfloat16.
    let line = "eval --checkpoint run --json --precision bf16";
    let output = sandbox.command(line).env("RESIDUA_INSTRUCTIONS", "portable").output().unwrap();
    let rounded: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ratio = rounded["test_loss"].as_f64().unwrap() / expected["test_loss"].as_f64().unwrap();
    assert!(ratio != 1. && (ratio - 1.).abs() < 0.02, "{rounded}");
    let earlier = sandbox.succeed("eval --checkpoint run/checkpoints/iteration-00000000 --json").json();
    assert_ne!(earlier["test_loss"], expected["test_loss"]);
    let text = sandbox.succeed("eval --checkpoint run").stdout;
    assert!(
        text.contains(&format!("test error {:.2} %", expected["test_error"].as_f64().unwrap())),
        "{text}"
    );
}

#[test]
fn predictions_name_the_likeliest_classes_of_pictures_of_any_size() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    let mut images = Vec::new();
    for (width, height) in [(32, 32), (1, 1), (37, 11), (300, 451)] {
        let colour = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x + y) as u8]);
        let picture = DynamicImage::from(RgbImage::from_fn(width, height, colour));
        for ending in ["png", "jpg"] {
            let name = format!("{width}x{height}.{ending}");
            picture.save(sandbox.at(&name)).unwrap();
            images.push(name);
        }
    }
    let line = format!("predict --checkpoint run {}", images.join(" "));
    let classes = "airplane automobile bird cat deer dog frog horse ship truck";
    let classes: BTreeSet<_> = classes.split(' ').collect();

    let text = sandbox.succeed(&line).stdout;
    assert_eq!(text.lines().count(), images.len() * (1 + 5), "{text}");
    for (lines, image) in text.lines().collect::<Vec<_>>().chunks(6).zip(&images) {
        assert_eq!(lines[0], image);
        for line in &lines[1..] {
            let (percent, class) = line.trim().split_once(" %  ").expect(line);
            assert!(percent.parse::<f64>().is_ok() && classes.contains(class), "{line}");
        }
    }

    let text = sandbox.succeed(&format!("{line} --json --top 10")).stdout;
    assert_eq!(text.lines().count(), images.len());
    for (line, image) in text.lines().zip(&images) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["image"], **image);
        let predictions = line["predictions"].as_array().unwrap();
        let names: BTreeSet<_> = predictions.iter().map(|one| one["class"].as_str().unwrap()).collect();
        assert_eq!(names, classes);
        let probabilities: Vec<_> =
            predictions.iter().map(|one| one["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
        assert!((probabilities.iter().sum::<f64>() - 1.).abs() < 1e-5, "{probabilities:?}");
    }
}

#[test]
fn weights_are_named_as_safetensors_and_say_what_they_are() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{} --out run", RUN.replace("--iterations 12", "--iterations 1")));
    let bytes = weights(&sandbox.at("run"), 1);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    for key in ["residua.network", "residua.classes", "residua.size", "residua.normalisation"] {
        assert!(serde_json::from_str::<Value>(&metadata[key]).is_ok(), "{key}");
    }
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    // The stem, three units of two convolutions with the normalisations before them, the last one, the classifier.
    assert_eq!(tensors.len(), 1 + 3 * (2 + 2 * 4) + 4 + 2);
    for (name, shape) in [
        ("stem.conv.weight", &[16, 3, 3, 3][..]),
        ("stages.1.0.norm1.weight", &[16]),
        ("stages.1.0.conv1.weight", &[32, 16, 3, 3]),
        ("stages.2.0.norm2.running_var", &[64]),
        ("stages.2.0.conv2.weight", &[64, 64, 3, 3]),
        ("norm.running_mean", &[64]),
        ("classifier.weight", &[10, 64]),
        ("classifier.bias", &[10]),
    ] {
        assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
    }
}
