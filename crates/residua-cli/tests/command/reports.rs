//! What `summary`, `bench`, `completions` and `--help` print.

use serde_json::{Value, json};

use crate::sandbox::Sandbox;

#[test]
fn summary_has_the_papers_numbers() {
    let sandbox = Sandbox::new();
    for (model, parameters, multiply_adds) in [
        ("preresnet20", 272_282, 40.8),
        ("preresnet110", 1_730_522, 253.1),
        ("preresnet164", 1_703_258, 244.5),
        ("preresnet1001", 10_327_706, 1487.8),
    ] {
        let summary = sandbox.succeed(&format!("summary --model {model} --dimensions b --json")).stdout;
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["parameters"], parameters, "{model}");
        let millions = summary["multiply_adds"].as_f64().unwrap() / 1e6;
        assert_eq!((10. * millions).round() / 10., multiply_adds, "{model}");
        let layers = summary["layers"].as_array().unwrap();
        for total in ["parameters", "multiply_adds"] {
            let sum: u64 = layers.iter().map(|layer| layer[total].as_u64().unwrap()).sum();
            assert_eq!(summary[total], sum, "{model}: {total}");
        }
        assert!(summary["activation_bytes_per_image"].as_u64().unwrap() > 100_000);
        let text = sandbox.succeed(&format!("summary --model {model} --dimensions b")).stdout;
        assert!(text.contains(&format!("{multiply_adds:.1} M")), "{text}");
    }
}

#[test]
fn bench_reports_speed_memory_and_parameters() {
    let sandbox = Sandbox::new();
    for mode in ["train", "infer"] {
        let line =
            format!("bench --model preresnet20 --dimensions b --batch 4 --steps 3 --mode {mode} --threads 1");
        let report = sandbox.succeed(&format!("{line} --json")).json();
        for (field, value) in [
            ("model", json!("preresnet20")),
            ("dimensions", json!("b")),
            ("mode", json!(mode)),
            ("batch", json!(4)),
            ("steps", json!(3)),
            ("memory", json!("fast")),
            ("threads", json!(1)),
            ("parameters", json!(272_282)),
        ] {
            assert_eq!(report[field], value, "{field}");
        }
        let number = |field: &str| report[field].as_f64().expect(field);
        assert!(number("images_per_second_median") > 0.);
        assert!(number("images_per_second") >= number("images_per_second_median"));
        if cfg!(target_os = "linux") {
            assert!(number("peak_memory_bytes") > 1e6);
        }
    }
    assert!(sandbox.succeed("bench --model preresnet8 --batch 2 --steps 1").stdout.contains("images/s"));
}

#[test]
fn summary_predicts_the_memory_of_training() {
    let sandbox = Sandbox::new();
    let plans = |line: &str| {
        let summary = sandbox.succeed(&format!("summary --model preresnet164 {line} --json")).stdout;
        let summary: Value = serde_json::from_str(&summary).unwrap();
        summary["training_memory"].as_array().cloned()
    };
    let peak = |plan: &Value| plan["peak_bytes"].as_u64().unwrap();
    assert_eq!(plans(""), None);
    let all = plans("--batch 64").unwrap();
    let modes: Vec<_> = all.iter().map(|plan| plan["memory"].as_str().unwrap()).collect();
    assert_eq!(modes, ["fast", "balanced", "lean"]);
    assert!(all.is_sorted_by_key(|plan| u64::MAX - peak(plan)), "{all:?}");
    assert!(all[2]["segment"].as_u64().unwrap() > 1);
    assert_eq!(plans("--batch 64 --memory lean").unwrap(), all[2..]);
    assert_eq!(plans(&format!("--batch 64 --memory {}KB", peak(&all[1]) / 1000 + 1)).unwrap(), all[1..2]);
    let text = sandbox.succeed("summary --model preresnet164 --batch 64").stdout;
    assert!(text.contains("Training on batches of 64, predicted:") && text.contains("balanced"), "{text}");
}

#[test]
fn bench_takes_the_fastest_mode_that_fits() {
    let sandbox = Sandbox::new();
    let bench = "bench --model preresnet29 --batch 4 --steps 1 --threads 1 --json --memory";
    for (memory, mode) in [("lean", "lean"), ("4GiB", "fast"), ("auto", "fast")] {
        assert_eq!(sandbox.succeed(&format!("{bench} {memory}")).json()["memory"], json!(mode));
    }
}

#[test]
fn shells_have_completions() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.succeed(&format!("completions {shell}")).stdout;
        assert!(script.contains("residua") && script.contains("evaluate-every"), "{shell}");
    }
}

#[test]
fn help_has_examples_and_defaults() {
    let sandbox = Sandbox::new();
    for command in [
        "train",
        "eval",
        "calibrate",
        "predict",
        "summary",
        "bench",
        "propagate",
        "runs",
        "report",
        "completions",
    ] {
        let help = sandbox.succeed(&format!("{command} --help")).stdout;
        assert!(help.contains(&format!("residua {command} ")) && help.contains("Example"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    assert!(sandbox.succeed("train --help").stdout.contains("[default: 0.1]"));
    let version = sandbox.succeed("--version").stdout;
    assert!(version.starts_with("residua "));
}
