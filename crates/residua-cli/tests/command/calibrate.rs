//! How sure a network is taken to be: `calibrate`, and what reads its file.

use std::fs;

use residua::run::stored_weights;
use serde_json::{Value, json};

use crate::evaluate::{assert_near, number};
use crate::sandbox::Sandbox;
use crate::tiny_cifar::TEST;

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 30 --warmup none \
    --decay-at none --evaluate-every 30 --checkpoint-every 30 --threads 1 --out run";
const WEIGHTS: &str = "run/checkpoints/iteration-00000030/weights.safetensors";

fn trained() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    sandbox
}

#[test]
fn a_file_beside_the_run_says_the_temperature_and_nothing_else_is_new() {
    let sandbox = trained();
    let before = fs::read(sandbox.at(WEIGHTS)).unwrap();
    let eval = |of: &str| sandbox.succeed(&format!("eval --checkpoint {of} --json")).json();
    let uncalibrated = eval("run");
    let ended = sandbox.succeed("calibrate run --json");
    assert!(ended.stderr.contains("fitted to the run's own test images"), "{}", ended.stderr);
    let found = ended.json();
    let file = "run/calibrated.safetensors";
    assert_eq!((&found["file"], &found["checkpoint"]), (&json!(file), &json!(WEIGHTS)));
    assert_eq!((&found["fitted"]["images"], &found["others"]), (&json!(TEST), &Value::Null));
    let (was, is) = (&found["fitted"]["before"], &found["fitted"]["after"]);
    assert!(number(&is["test_loss"]) < number(&was["test_loss"]), "{found}");
    assert_eq!(was["test_loss"], uncalibrated["test_loss"]);
    assert_eq!(was["calibration_error"], uncalibrated["calibration"]["expected_error"]);

    // The run is as it was.
    assert!(fs::read(sandbox.at(WEIGHTS)).unwrap() == before && eval("run") == uncalibrated);
    let [run, calibrated] = [WEIGHTS, file].map(|path| stored_weights(&sandbox.at(path)).unwrap());
    assert!(run.tensors == calibrated.tensors);
    let mut metadata = calibrated.metadata;
    let temperature = metadata.remove("residua.temperature").unwrap();
    assert_eq!(temperature.parse::<f64>().unwrap(), number(&found["temperature"]));
    assert_eq!(metadata, run.metadata);

    let now = eval(file);
    assert_eq!((&now["temperature"], &now["test_loss"]), (&found["temperature"], &is["test_loss"]));
    assert_eq!(now["calibration"]["expected_error"], is["calibration_error"]);
    assert_eq!(
        (&now["test_error"], &now["classes"], &now["confusions"]),
        (&uncalibrated["test_error"], &uncalibrated["classes"], &uncalibrated["confusions"])
    );
    let text = sandbox.succeed(&format!("eval --checkpoint {file}")).stdout;
    let words = format!("probabilities at the file's temperature {:.4}", number(&found["temperature"]));
    assert!(text.contains(&words), "{text}");
    assert_eq!(sandbox.half_written().len(), 0);

    // Again, of the calibrated file: the same temperature, and there is nothing to win.
    let again = sandbox.succeed(&format!("calibrate {file} --out again.safetensors --json --batch 5")).json();
    assert_eq!(again["temperature"], found["temperature"]);
    assert_eq!(again["fitted"]["before"], again["fitted"]["after"]);
    assert!(fs::read(sandbox.at("again.safetensors")).unwrap() == fs::read(sandbox.at(file)).unwrap());

    // The run goes on as it would have.
    sandbox.succeed("train --resume run --iterations 32 --threads 1");
    sandbox.succeed(&RUN.replace("--iterations 30", "--iterations 32").replace("--out run", "--out whole"));
    let last = |run: &str| {
        fs::read(sandbox.at(format!("{run}/checkpoints/iteration-00000032/weights.safetensors"))).unwrap()
    };
    assert!(last("run") == last("whole"));
}

#[test]
fn predictions_are_at_the_temperature_by_every_way() {
    let sandbox = trained();
    let temperature = number(&sandbox.succeed("calibrate run --json").json()["temperature"]);
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(7 * x) as u8, (5 * y) as u8, 90]))
        .save(sandbox.at("a.png"))
        .unwrap();
    let probabilities = |line: &str| -> Vec<(String, f64)> {
        let found = sandbox.succeed(&format!("predict a.png --json --top 10 --checkpoint {line}")).json();
        let one = |one: &Value| (one["class"].as_str().unwrap().to_owned(), number(&one["probability"]));
        found["predictions"].as_array().unwrap().iter().map(one).collect()
    };
    let plain = probabilities("run");
    let weights: Vec<f64> = plain.iter().map(|(_, probability)| probability.powf(1. / temperature)).collect();
    let sum: f64 = weights.iter().sum();
    for machine in ["", "--engine composed --threads 1"] {
        let found = probabilities(&format!("run/calibrated.safetensors {machine}"));
        for (found, (plain, weight)) in found.iter().zip(plain.iter().zip(&weights)) {
            assert_eq!(found.0, plain.0);
            assert_near(found.1, weight / sum);
        }
    }
    let explained = sandbox.succeed("explain run/calibrated.safetensors a.png --json --out explained").json();
    assert_eq!(explained["class"], plain[0].0.as_str());
    assert_near(number(&explained["probability"]), weights[0] / sum);
}

#[test]
fn images_that_were_not_chosen_tell_what_it_is_worth() {
    let sandbox = trained();
    let calibrated = |options: &str| sandbox.succeed(&format!("calibrate run --json {options}")).json();
    let found = calibrated("--images 16");
    assert_eq!((&found["fitted"]["images"], &found["others"]["images"]), (&json!(16), &json!(TEST - 16)));
    assert_eq!(calibrated("--images 16 --threads 2 --batch 3"), found);
    assert_ne!(calibrated("--images 16 --seed 2")["temperature"], found["temperature"]);
    assert_eq!(calibrated("--images 1000")["others"], Value::Null);
    let text = sandbox.succeed("calibrate run --images 16").stdout;
    assert!(
        text.contains("run/calibrated.safetensors: temperature ")
            && text.contains("\non the other 8 images: "),
        "{text}"
    );
}

#[test]
fn a_run_that_has_held_images_out_is_calibrated_on_them() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --validation 20"));
    let ended = sandbox.succeed("calibrate run --json");
    assert!(!ended.stderr.contains("test images"), "{}", ended.stderr);
    let found = ended.json();
    assert_eq!((&found["split"], &found["fitted"]["images"]), (&json!("validation"), &json!(20)));
    // The images are those that the run itself was validated on.
    let metrics = fs::read_to_string(sandbox.at("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let validated = lines.iter().rev().find_map(|line| line.get("validation_loss")).unwrap();
    assert_near(number(&found["fitted"]["before"]["test_loss"]), number(validated));
    let on_test = sandbox.succeed("calibrate run --json --data cifar10:data");
    assert!(on_test.stderr.contains("fitted to the run's own test images"), "{}", on_test.stderr);
    let found = on_test.json();
    assert_eq!((&found["split"], &found["fitted"]["images"]), (&json!("test"), &json!(TEST)));
}

#[test]
fn a_network_of_bytes_stays_one() {
    let sandbox = trained();
    sandbox.succeed("export run --to int8 --out small.safetensors");
    sandbox.succeed("calibrate small.safetensors --data cifar10:data --out sure.safetensors");
    let [small, sure] =
        ["small.safetensors", "sure.safetensors"].map(|path| fs::metadata(sandbox.at(path)).unwrap().len());
    assert!(sure < small + 200, "{small} {sure}");
    let info = stored_weights(&sandbox.at("sure.safetensors")).unwrap().info().unwrap();
    assert!(info.ranges.is_some() && info.temperature.is_some());
    sandbox.succeed("eval --checkpoint sure.safetensors --data cifar10:data");
}

#[test]
fn mistakes_are_answered_with_what_helps() {
    let sandbox = trained();
    for (options, code, part) in [
        (
            "run/checkpoints/iteration-00000030",
            2,
            "is no run's folder; name the weight file to write with --out",
        ),
        (WEIGHTS, 2, "is no run's folder"),
        ("runs/nowhere", 2, "runs/nowhere: there is no such file or folder"),
        (&format!("run --out {WEIGHTS}"), 2, "holds the weights to calibrate"),
        ("run --out nowhere/a.safetensors", 1, "cannot write nowhere/a.safetensors"),
        ("run --images 0", 2, "--images"),
        ("run --seed -1", 2, "--seed"),
        ("run --data cifar10:nowhere", 1, "nowhere"),
        ("nowhere --out a.safetensors", 1, "nowhere"),
    ] {
        let ended = sandbox.run(&format!("calibrate {options}"));
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{options}: {ended:?}");
        assert!(!sandbox.at("run/calibrated.safetensors").exists(), "{options}");
        assert_eq!(sandbox.half_written().len(), 0, "{options}");
    }
    let metadata = |text: &str| {
        let mut weights = stored_weights(&sandbox.at(WEIGHTS)).unwrap();
        weights.metadata.insert("residua.temperature".into(), text.into());
        let path = sandbox.at("wrong.safetensors");
        let bytes = residua::infer::weights::encode(&path, &weights.tensors, &weights.metadata).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for text in ["0", "-1.5", "\"hot\"", "1e999"] {
        metadata(text);
        let ended = sandbox.run("eval --checkpoint wrong.safetensors --data cifar10:data");
        let is_named = ended.stderr.contains("its metadata 'residua.temperature' is wrong");
        assert!(ended.code == Some(1) && is_named, "{text}: {ended:?}");
    }
}
