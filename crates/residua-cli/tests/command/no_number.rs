//! What is no number is no result: it is refused, its cause named.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::sandbox::Sandbox;

/// The same weight file with another first value of a tensor.
fn with_value(file: &[u8], tensor: &str, value: f32) -> Vec<u8> {
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let at = 8 + header + tensors[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut file = file.to_vec();
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    file
}

fn write_pets(folder: &Path) {
    for split in ["train", "test"] {
        for (class, colour) in [("cat", Rgb([200, 60, 60])), ("dog", Rgb([60, 60, 200]))] {
            fs::create_dir_all(folder.join(split).join(class)).unwrap();
            for number in 0..4 {
                let name = format!("{split}/{class}/{number}.png");
                RgbImage::from_pixel(32, 32, colour).save(folder.join(name)).unwrap();
            }
        }
    }
}

const TRAIN: &str =
    "train --data folder:pets --model preresnet8 --batch 8 --warmup none --decay-at none --threads 1";

#[test]
fn weights_that_nothing_can_be_computed_with_are_refused_before_anything_is_made() {
    let sandbox = Sandbox::new();
    write_pets(&sandbox.at("pets"));
    sandbox.succeed(&format!("{TRAIN} --iterations 2 --out run"));
    sandbox.succeed("export run --to safetensors --out whole.safetensors");
    let whole = fs::read(sandbox.at("whole.safetensors")).unwrap();
    for (tensor, value, told) in [
        ("classifier.weight", f32::NAN, "NaN"),
        ("stem.conv.weight", f32::INFINITY, "inf"),
        ("norm.running_var", -1., "-1"),
        ("norm.running_var", f32::NAN, "NaN"),
    ] {
        fs::write(sandbox.at("odd.safetensors"), with_value(&whole, tensor, value)).unwrap();
        for line in [
            "predict --checkpoint odd.safetensors pets/test/cat/0.png",
            "predict --engine composed --checkpoint odd.safetensors pets/test/cat/0.png",
            "eval --checkpoint odd.safetensors --data folder:pets",
            "features odd.safetensors pets/test --out features.npy",
            "explain odd.safetensors pets/test --out explained",
            &format!("{TRAIN} --init odd.safetensors --iterations 2 --out new"),
            "export odd.safetensors --to onnx --out new.onnx",
        ] {
            let ended = sandbox.run(line);
            let expected = format!("odd.safetensors: a value of '{tensor}' is {told}: ");
            assert!(ended.code == Some(1) && ended.stderr.contains(&expected), "{line}: {ended:?}");
            assert!(ended.stdout.is_empty() && !ended.stderr.contains("lower --lr"), "{line}: {ended:?}");
        }
        for made in ["new", "new.onnx", "explained", "features.npy"] {
            assert!(!sandbox.at(made).exists(), "{made}");
        }
    }
    // Finite weights whose sums are not: each picture has an error of its own.
    let huge = ["stem.conv.weight", "norm.weight", "classifier.weight"];
    let huge = huge.iter().fold(whole, |file, tensor| with_value(&file, tensor, 3e38));
    let header = u64::from_le_bytes(*huge.first_chunk().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&huge[8..8 + header]).unwrap();
    let mut file = huge.clone();
    let [begin, end] = [0, 1]
        .map(|k| 8 + header + tensors["classifier.weight"]["data_offsets"][k].as_u64().unwrap() as usize);
    file[begin..end].as_chunks_mut::<4>().0.iter_mut().for_each(|value| *value = 3e38f32.to_le_bytes());
    fs::write(sandbox.at("huge.safetensors"), file).unwrap();
    for line in [
        "predict --checkpoint huge.safetensors pets/test/cat",
        "predict --checkpoint huge.safetensors --json pets/test/cat",
        "explain huge.safetensors pets/test/cat",
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(1) && ended.stdout.is_empty(), "{line}: {ended:?}");
        assert_eq!(
            ended.stderr.matches("error: what the network says of pets/test/cat/").count(),
            4,
            "{ended:?}"
        );
    }
}

#[test]
fn what_cannot_be_measured_is_said_and_not_taken_for_divergence() {
    let sandbox = Sandbox::new();
    write_pets(&sandbox.at("pets"));
    sandbox.succeed(&format!("{TRAIN} --iterations 2 --out run"));
    for class in ["cat", "dog"] {
        for number in 0..4 {
            fs::write(sandbox.at(format!("pets/test/{class}/{number}.png")), "x").unwrap();
        }
    }
    for line in [
        "eval --checkpoint run --max-unreadable 1".to_owned(),
        format!("{TRAIN} --iterations 2 --out other --max-unreadable 1"),
    ] {
        let ended = sandbox.run(&line);
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.stderr.contains("error: none of the images to test on could be read"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stderr.matches("skipped: ").count(), 8, "{}", ended.stderr);
        assert!(!ended.stderr.contains("NaN") && !ended.stdout.contains("NaN"), "{ended:?}");
    }
}
