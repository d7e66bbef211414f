//! Inception-v3 of torchvision, as the command takes it and gives it back.

use std::collections::BTreeMap;
use std::fs;

use image::{Rgb, RgbImage};
use residua::device::Device;
use residua::infer::weights::{TensorFile, encode};
use residua::nn::{InceptionConfig, InceptionV3, NamedTensors};
use serde_json::json;

use crate::bad_input::assert_refused;
use crate::sandbox::Sandbox;

/// A network for three classes without its auxiliary classifier, as `theirs.safetensors`, names of the classes, and a few pictures of each.
fn sandbox() -> (Sandbox, NamedTensors) {
    let sandbox = Sandbox::new();
    let network = InceptionV3::init(&InceptionConfig { classes: 3 }, 3, &Device::flex()).unwrap();
    let mut tensors = network.tensors();
    tensors.retain(|name, _| !name.starts_with("AuxLogits."));
    let path = sandbox.at("theirs.safetensors");
    fs::write(&path, encode(&path, &tensors, &BTreeMap::new()).unwrap()).unwrap();
    fs::write(sandbox.at("names.txt"), "cat\ncow\ndog\n").unwrap();
    for (number, name) in ["cat", "cow", "dog"].into_iter().enumerate() {
        for split in ["train", "val"] {
            let folder = sandbox.at("animals").join(split).join(name);
            fs::create_dir_all(&folder).unwrap();
            let colour = |x: u32, y: u32| Rgb([(x * 7) as u8, (y * 5) as u8, number as u8 * 60]);
            RgbImage::from_fn(90, 80, colour).save(folder.join("a.png")).unwrap();
        }
    }
    (sandbox, tensors)
}

/// One test, as the files are large.
#[test]
fn inception_comes_in_classifies_and_goes_out() {
    let (sandbox, tensors) = sandbox();
    let network = json!({ "architecture": "inception-v3", "classes": 3 });
    let import = "import theirs.safetensors --out ours.safetensors --size 75 --classes names.txt --json";
    let ended = sandbox.succeed(import);
    let report = ended.json();
    assert_eq!((&report["family"], &report["model"]), (&json!("torchvision"), &json!("inception-v3")));
    assert_eq!(report["network"], network);
    let told = "theirs.safetensors: torchvision inception-v3, 3 classes, from a safetensors file; taken: normalisation half (other: ";
    assert!(ended.stderr.starts_with(told), "{}", ended.stderr);
    fs::remove_file(sandbox.at("theirs.safetensors")).unwrap();

    let probabilities = |options: &str| {
        let line = format!("predict animals/val/cow/a.png --checkpoint ours.safetensors --json {options}");
        let line = sandbox.succeed(&line).json();
        let predictions = line["predictions"].as_array().unwrap().clone();
        predictions.iter().map(|one| one["probability"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let predicted = probabilities("");
    assert!(
        (predicted.iter().sum::<f64>() - 1.).abs() < 1e-5 && predicted[0] > predicted[2],
        "{predicted:?}"
    );
    assert_eq!(probabilities("--engine composed"), predicted);
    let ended = sandbox.succeed("eval --checkpoint ours.safetensors --data folder:animals --json").json();
    assert_eq!((&ended["images"], ended["test_loss"].as_f64().is_some()), (&json!(3), true), "{ended}");
    let text = sandbox.succeed("features ours.safetensors animals/val --out features.npy").stdout;
    assert!(text.starts_with("3 x 2048 numbers in features.npy"), "{text}");
    let text = sandbox.succeed("summary --checkpoint ours.safetensors").stdout;
    for part in ["inception-v3: 3 classes, input 3x75x75", "Mixed_7c", "classes: cat, cow, dog"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    for (line, code, parts) in [
        (
            "explain ours.safetensors animals/val",
            2,
            [
                "ours.safetensors: inception-v3 is no residual network, and explain is for those",
                "predict, eval",
            ],
        ),
        (
            "train --data folder:animals --size 96 --batch 2 --iterations 1 --init ours.safetensors --out run",
            2,
            [
                "ours.safetensors: inception-v3 is no residual network, and train is for those",
                "predict, eval",
            ],
        ),
        ("summary --checkpoint ours.safetensors --batch 4", 2, ["--batch: ", "inception-v3 is no residual"]),
        (
            "eval --checkpoint ours.safetensors --data folder:animals --size 74",
            2,
            ["--size: ", "their sides must be 75 or more"],
        ),
        (
            "export ours.safetensors --to timm --out o",
            2,
            ["--to timm: inception-v3 is none of the networks of timm-v2", "the names of torchvision"],
        ),
    ] {
        assert_refused(&sandbox, code, line, &parts);
    }

    let text = sandbox.succeed("export ours.safetensors --to torchvision --out back.safetensors").stdout;
    assert!(text.contains("inception-v3, 3 classes, for torchvision"), "{text}");
    assert!(TensorFile::read(&sandbox.at("back.safetensors")).unwrap().tensors == tensors);
    fs::remove_file(sandbox.at("back.safetensors")).unwrap();
    let report = sandbox
        .succeed(
            "export ours.safetensors --to onnx --out network.onnx --with-normalisation --input nhwc --json",
        )
        .json();
    let input = json!({ "name": "images", "type": "uint8", "shape": ["batch", 75, 75, 3] });
    assert_eq!((&report["network"], &report["input"]), (&network, &input));
    assert_eq!(sandbox.half_written(), Vec::<std::path::PathBuf>::new());
}
