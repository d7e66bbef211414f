//! Networks written for other programs.

use std::fs;

use residua::export::onnx::{AxisOrder, Norms, OnnxOptions, Pixels, Scores, encode};
use residua::run::stored_weights;
use serde_json::json;

use crate::bad_input::assert_refused;
use crate::import::sandbox as foreign_weights;
use crate::sandbox::Sandbox;

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 1 --warmup none \
    --threads 1 --out run";
const WEIGHTS: &str = "run/checkpoints/iteration-00000001/weights.safetensors";

fn trained() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    sandbox
}

#[test]
fn an_onnx_file_is_what_the_options_say() {
    let sandbox = trained();
    let weights = stored_weights(&sandbox.at("run")).unwrap();
    let info = weights.info().unwrap();
    let plain = OnnxOptions::default();
    for (flags, options, input, output) in [
        ("", plain, json!({ "name": "images", "type": "float32", "shape": ["batch", 3, 32, 32] }), "logits"),
        (
            "--keep-norms --input nhwc",
            OnnxOptions { norms: Norms::Kept, axes: AxisOrder::Nhwc, ..plain },
            json!({ "name": "images", "type": "float32", "shape": ["batch", 32, 32, 3] }),
            "logits",
        ),
        (
            "--with-normalisation --probabilities",
            OnnxOptions { pixels: Pixels::Raw, scores: Scores::Probabilities, ..plain },
            json!({ "name": "images", "type": "uint8", "shape": ["batch", 3, 32, 32] }),
            "probabilities",
        ),
    ] {
        let result =
            sandbox.succeed(&format!("export run --to onnx --out network.onnx --json {flags}")).json();
        let bytes = fs::read(sandbox.at("network.onnx")).unwrap();
        let expected = encode(&info, weights.tensors.clone(), options).unwrap();
        assert!(bytes == expected.bytes, "{flags}");
        assert_eq!(
            result,
            json!({
                "format": "onnx",
                "file": "network.onnx",
                "bytes": bytes.len(),
                "checkpoint": WEIGHTS,
                "network": info.network,
                "input": input,
                "output": { "name": output, "type": "float32", "shape": ["batch", 10] },
            })
        );
    }
    assert_eq!(sandbox.half_written().len(), 0);
}

#[test]
fn runs_checkpoints_and_files_are_exported_alike_and_replace_what_was_there() {
    let sandbox = trained();
    fs::copy(sandbox.at(WEIGHTS), sandbox.at("alone.safetensors")).unwrap();
    fs::write(sandbox.at("network.onnx"), "something older and by no means as long as a network").unwrap();
    let mut first = None;
    for source in ["run", "run/checkpoints/iteration-00000001", WEIGHTS, "alone.safetensors"] {
        let text = sandbox.succeed(&format!("export {source} --to onnx --out network.onnx")).stdout;
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [
            "network.onnx: 0.",
            " MB, images float32 [batch, 3, 32, 32] -> logits float32 [batch, 10] (",
            "preresnet8: preact ordering",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let bytes = fs::read(sandbox.at("network.onnx")).unwrap();
        assert!(bytes == *first.get_or_insert(bytes.clone()), "{source}");
    }
}

#[test]
fn weights_of_others_are_exported_as_if_they_had_been_imported() {
    let sandbox = foreign_weights();
    sandbox.succeed("import theirs.safetensors --out ours.safetensors --normalisation half --size 40");
    for source in ["ours.safetensors", "theirs.safetensors --normalisation half --size 40"] {
        let ended = sandbox.succeed(&format!("export {source} --to onnx --out network.onnx --json"));
        assert_eq!(ended.json()["input"]["shape"], json!(["batch", 3, 40, 40]), "{source}");
        fs::rename(sandbox.at("network.onnx"), sandbox.at(source.split('.').next().unwrap())).unwrap();
    }
    assert!(fs::read(sandbox.at("ours")).unwrap() == fs::read(sandbox.at("theirs")).unwrap());
}

#[test]
fn mistakes_are_answered_with_what_helps() {
    let sandbox = trained();
    fs::write(sandbox.at("foreign.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    fs::write(sandbox.at("torn.safetensors"), &fs::read(sandbox.at(WEIGHTS)).unwrap()[..1000]).unwrap();
    let same = format!("export {WEIGHTS} --to onnx --out ./{WEIGHTS}");
    for (code, line, parts) in [
        (2, "export run --to onx --out a.onnx", ["--to", "did you mean 'onnx'?"]),
        (2, "export run --to onnx --out a.onnx --input nhcw", ["--input", "did you mean 'nhwc'?"]),
        (2, "export run --to onnx", ["--out", "required"]),
        (2, "export run --out a.onnx", ["--to", "required"]),
        (2, &same, ["--out: ", "holds the weights to export; give another name"]),
        (1, "export nowhere --to onnx --out a.onnx", ["nowhere", "there is no such file or folder"]),
        (1, "export data --to onnx --out a.onnx", ["data", "there is no checkpoint in this folder"]),
        (
            1,
            "export foreign.safetensors --to onnx --out a.onnx",
            ["foreign.safetensors: safetensors file without tensors", "known are networks of torchvision, "],
        ),
        (
            1,
            "export torn.safetensors --to onnx --out a.onnx",
            ["torn.safetensors", "is not a whole safetensors file"],
        ),
        (1, "export run --to onnx --out nowhere/a.onnx", ["cannot write nowhere/a.onnx", "check the path"]),
        (1, "export run --to onnx --out run", ["cannot write run", "give a file"]),
        (
            1,
            "export run --to onnx --out run/recipe.toml/a.onnx",
            ["cannot write run/recipe.toml/a.onnx", "choose another path"],
        ),
    ] {
        assert_refused(&sandbox, code, line, &parts);
        assert!(!sandbox.at("a.onnx").exists(), "{line}");
    }
    assert!(stored_weights(&sandbox.at("run")).is_ok());
}

#[test]
fn an_int8_network_is_small_and_runs_in_bytes() {
    let sandbox = trained();
    let whole = fs::metadata(sandbox.at(WEIGHTS)).unwrap().len();
    let result = sandbox.succeed("export run --to int8 --out small.safetensors --images 20 --json").json();
    assert_eq!(result["format"], "int8");
    let bytes = result["bytes"].as_u64().unwrap();
    assert!(bytes < whole / 2, "{bytes} of {whole}");
    assert_eq!(bytes, fs::metadata(sandbox.at("small.safetensors")).unwrap().len());

    let eval = |flags: &str| {
        let command = format!("eval --data cifar10:data --threads 1 --json {flags}");
        sandbox.succeed(&command).json()["test_loss"].as_f64().unwrap()
    };
    let in_f32 = eval("--checkpoint run");
    let in_bytes = eval("--checkpoint small.safetensors --precision int8");
    let by_default = eval("--checkpoint small.safetensors");
    let rounded = eval("--checkpoint small.safetensors --precision f32");
    assert!(in_bytes != rounded && (by_default == in_bytes || by_default == rounded));
    assert!((in_bytes - in_f32).abs() < 0.05 * in_f32, "{in_bytes}, {in_f32}");

    // The same images give the same file.
    sandbox
        .succeed("export run --to int8 --out again.safetensors --images 20 --data cifar10:data --threads 2");
    let [first, again] =
        ["small", "again"].map(|name| fs::read(sandbox.at(format!("{name}.safetensors"))).unwrap());
    assert!(first == again);
    // What is exported from it has the rounded weights, and no ranges by other names.
    sandbox.succeed("export small.safetensors --to onnx --out small.onnx");
}

#[test]
fn what_cannot_be_in_bytes_is_refused() {
    let sandbox = trained();
    fs::copy(sandbox.at(WEIGHTS), sandbox.at("alone.safetensors")).unwrap();
    for (code, command, words) in [
        (2, "export run --to onnx --out x.onnx --images 5", &["--images", "--to int8"][..]),
        (2, "export alone.safetensors --to int8 --out x.safetensors", &["alone.safetensors", "--data"]),
        (2, "export run --to int8 --out x.safetensors --images 0", &["--images", "0"]),
        (1, "export run --to int8 --out x.safetensors --data cifar10:nowhere", &["nowhere"]),
        (
            2,
            "eval --checkpoint run --precision int8",
            &["--precision int8", "weights.safetensors", "--to int8"],
        ),
        (2, "eval --checkpoint run --precision int9", &["int9", "int8"]),
        (
            2,
            "eval --checkpoint run --precision int8 --engine composed",
            &["--precision int8", "--engine fused"],
        ),
        (2, "train --model preresnet8 --precision int8", &["int8", "bf16"]),
        (2, "bench --model preresnet8 --int8", &["--int8", "--mode infer"]),
        (2, "bench --model inception-v3 --mode infer --int8", &["--int8", "residual"]),
    ] {
        assert_refused(&sandbox, code, command, words);
    }
}
