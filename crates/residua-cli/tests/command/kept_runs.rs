//! Runs of earlier versions, kept in `tests/fixtures/runs`: they load for ever, and go on to the same bits.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Sandbox, files};

const RUNS: [&str; 2] = ["plain", "every-option"];

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runs").join(name)
}

fn kept_text(name: String) -> String {
    fs::read_to_string(kept(&name)).unwrap()
}

/// Copies a kept run into a sandbox: the kept one is never written to.
fn copy(run: &str, sandbox: &Sandbox) {
    for path in files(&kept(run)) {
        let copied = sandbox.at(run).join(path.strip_prefix(kept(run)).unwrap());
        if path.is_file() {
            fs::create_dir_all(copied.parent().unwrap()).unwrap();
            fs::copy(path, copied).unwrap();
        }
    }
}

/// The command's standard output with the instructions that the runs were made with.
fn portable(sandbox: &Sandbox, line: &str) -> String {
    let mut command = sandbox.command(line);
    let output = command.env("RESIDUA_INSTRUCTIONS", "portable").output().unwrap();
    assert!(output.status.success(), "residua {line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn assert_near(actual: &Value, expected: &Value) {
    let (actual, expected) = (actual.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((actual - expected).abs() <= 1e-5 * expected.abs(), "{actual} instead of {expected}");
}

#[test]
fn a_kept_run_is_evaluated_to_its_error() {
    for run in RUNS {
        let sandbox = Sandbox::new();
        copy(run, &sandbox);
        let found = json(&portable(&sandbox, &format!("eval --checkpoint {run} --json")));
        let expected = json(&kept_text(format!("{run}.eval")));
        for field in ["checkpoint", "data", "images", "test_error"] {
            assert_eq!(found[field], expected[field], "{run}: {field}");
        }
        assert_near(&found["test_loss"], &expected["test_loss"]);
    }
}

#[test]
fn a_kept_run_predicts_what_it_predicted() {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../residua-infer/tests/fixtures/augmentation/picture.png");
    for run in RUNS {
        let sandbox = Sandbox::new();
        copy(run, &sandbox);
        fs::copy(&picture, sandbox.at("picture.png")).unwrap();
        let line = format!("predict --checkpoint {run} --json --top 8 picture.png");
        let [found, expected] = [portable(&sandbox, &line), kept_text(format!("{run}.predict"))]
            .map(|text| json(&text)["predictions"].as_array().unwrap().clone());
        assert_eq!(found.len(), 8);
        assert_eq!(expected.len(), 8);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found["class"], expected["class"], "{run}");
            assert_near(&found["probability"], &expected["probability"]);
        }
    }
}

#[test]
fn a_kept_run_goes_on_to_the_same_bits() {
    for run in RUNS {
        let sandbox = Sandbox::new();
        copy(run, &sandbox);
        portable(&sandbox, &format!("train --resume {run}"));
        // The command writes it from the files, as it is checked with `sha256sum -c`.
        let sums = sandbox.at(run).join("checkpoints/iteration-00000008/SHA256SUMS");
        let sums = fs::read_to_string(sums).unwrap();
        let expected = kept_text(format!("{run}.end"));
        assert_eq!(expected.lines().count(), 2);
        for line in expected.lines() {
            assert!(sums.lines().any(|found| found == line), "{run}: not {line}:\n{sums}");
        }
    }
}
