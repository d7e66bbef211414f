//! Weights of others: imported, and taken directly.

use std::collections::BTreeMap;
use std::fs;

use residua::device::Device;
use residua::infer::foreign::{Family, named_by};
use residua::infer::weights::{TensorFile, encode};
use residua::nn::{NamedTensors, NetworkOptions, ResNet};

use crate::sandbox::Sandbox;

/// A folder with `theirs.safetensors`: a network as akamaster's repository would save it, its names behind `module.`.
pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let config = NetworkOptions::named("resnet8").resolve(10).unwrap();
    let tensors = ResNet::init(&config, 3, &Device::flex()).unwrap().tensors();
    let theirs = named_by(Family::Akamaster, &config.into(), tensors).unwrap();
    let theirs = theirs.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor)).collect();
    let path = sandbox.at("theirs.safetensors");
    fs::write(&path, encode(&path, &theirs, &BTreeMap::new()).unwrap()).unwrap();
    sandbox
}

#[test]
fn an_imported_file_and_the_file_itself_are_one_network() {
    let sandbox = sandbox();
    let ended = sandbox.succeed("import theirs.safetensors --out ours.safetensors --json");
    let report = ended.json();
    assert_eq!((report["family"].as_str(), report["model"].as_str()), (Some("akamaster"), Some("resnet8")));
    let told = "theirs.safetensors: akamaster resnet8, 10 classes, from a safetensors file; taken: normalisation imagenet, the class names of CIFAR-10, pictures scaled to 32 and cropped to 32x32 (other: --normalisation, --classes, --size)";
    assert_eq!(ended.stderr.trim(), told);

    let eval = |file: &str| sandbox.succeed(&format!("eval --checkpoint {file} --data cifar10:data --json"));
    let (ours, theirs) = (eval("ours.safetensors"), eval("theirs.safetensors"));
    assert_eq!(ours.json()["test_loss"], theirs.json()["test_loss"]);
    assert_eq!(ours.stderr, "");
    let half =
        sandbox.succeed("eval --checkpoint ours.safetensors --data cifar10:data --json --normalisation half");
    assert_ne!(ours.json()["test_loss"], half.json()["test_loss"]);
    let tensors =
        sandbox.succeed("eval --checkpoint theirs.safetensors --data cifar10:data --json --engine composed");
    let loss = |ended: &crate::sandbox::Ended| ended.json()["test_loss"].as_f64().unwrap();
    assert!((loss(&tensors) / loss(&ours) - 1.).abs() < 1e-5);

    // The network is what the weights are of.
    let train = "train --data cifar10:data --batch 4 --iterations 1 --init theirs.safetensors --out run";
    let train = sandbox.succeed(train);
    assert!(train.stderr.contains("theirs.safetensors: akamaster resnet8, 10 classes"), "{}", train.stderr);
}

#[test]
fn names_of_classes_come_from_a_file() {
    let sandbox = sandbox();
    let names: Vec<String> = (0..10).map(|class| format!("the class {class}")).collect();
    fs::write(sandbox.at("names.txt"), names.join("\n") + "\n\n").unwrap();
    image::RgbImage::from_pixel(40, 50, image::Rgb([9, 99, 200])).save(sandbox.at("a.png")).unwrap();
    let line = "predict a.png --checkpoint theirs.safetensors --classes names.txt --size 40 --scale 44 --top 10 --csv";
    let ended = sandbox.succeed(line);
    assert!(names.iter().all(|name| ended.stdout.contains(name)), "{}", ended.stdout);
    assert!(ended.stderr.contains("; taken: normalisation imagenet (other: "), "{}", ended.stderr);

    fs::write(sandbox.at("few.txt"), "one\ntwo\n").unwrap();
    fs::write(sandbox.at("gap.txt"), "one\n\nthree\n").unwrap();
    for (names, problem) in [
        ("few.txt", "error: --classes: 2 names of classes for a network of 10 outputs"),
        ("gap.txt", "error: --classes gap.txt: line 2 is empty; give a text file with a name a line"),
        ("none.txt", "error: --classes none.txt: "),
        ("theirs.safetensors", "error: --classes theirs.safetensors: "),
    ] {
        let ended = sandbox.run(&format!("predict a.png --checkpoint theirs.safetensors --classes {names}"));
        assert_eq!(ended.code, Some(2), "{names}");
        assert!(ended.stderr.contains(problem), "{names}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn what_cannot_be_imported_is_one_clear_error_and_leaves_no_file() {
    let sandbox = sandbox();
    fs::write(sandbox.at("notes.txt"), "not a network").unwrap();
    fs::write(sandbox.at("broken.pth"), b"PK\x03\x04 and nothing").unwrap();
    fs::create_dir(sandbox.at("empty")).unwrap();
    for (arguments, code, problem) in [
        ("none.pth --out o.safetensors", 1, "none.pth: there is no such file or folder"),
        ("notes.txt --out o.safetensors", 1, "notes.txt is not a whole safetensors file: "),
        ("broken.pth --out o.safetensors", 1, "broken.pth cannot be read as a PyTorch file: "),
        ("empty --out o.safetensors", 1, "empty: there is no checkpoint in this folder"),
        (
            "theirs.safetensors --out theirs.safetensors",
            2,
            "--out theirs.safetensors: it is the file to import",
        ),
        ("theirs.safetensors --out no/such/o.safetensors", 1, "no/such"),
        ("theirs.safetensors --out o.safetensors --family akamastr", 2, "did you mean 'akamaster'?"),
        (
            "theirs.safetensors --out o.safetensors --family timm-v2",
            1,
            "it has no likeness to networks of timm-v2",
        ),
        ("theirs.safetensors --out o.safetensors --size 30", 2, "multiples of 4"),
        ("theirs.safetensors --out o.safetensors --size 64 --scale 32", 2, "smaller than a crop"),
        ("theirs.safetensors --out o.safetensors --normalisation imagent", 2, "did you mean 'imagenet'?"),
        ("theirs.safetensors --out o.safetensors --normalisation 1,1,1/0,1,1", 2, "unknown normalisation"),
    ] {
        let ended = sandbox.run(&format!("import {arguments}"));
        assert_eq!(ended.code, Some(code), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{arguments}: {}", ended.stderr);
        assert!(!sandbox.at("o.safetensors").exists(), "{arguments}");
    }
    assert_eq!(sandbox.half_written(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_file_is_summed_up() {
    let sandbox = sandbox();
    let ended = sandbox.succeed("summary --checkpoint theirs.safetensors");
    for part in [
        "resnet8: original ordering",
        "classes: airplane, automobile, bird, cat, deer, ...: 10",
        "pictures: scaled to 32, cropped to 32x32",
        "normalisation: mean [0.485, 0.456, 0.406], deviation [0.229, 0.224, 0.225]",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let ended = sandbox.run("summary --checkpoint theirs.safetensors --model resnet20");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("leave the options of the network out"), "{}", ended.stderr);
}

#[test]
fn weights_go_out_by_the_names_they_came_by() {
    let sandbox = sandbox();
    sandbox.succeed("export theirs.safetensors --to akamaster --out back.safetensors");
    let read = |name: &str| TensorFile::read(&sandbox.at(name)).unwrap().tensors;
    let bare = |name: &String| name.strip_prefix("module.").unwrap_or(name).to_owned();
    let theirs: NamedTensors =
        read("theirs.safetensors").into_iter().map(|(name, tensor)| (bare(&name), tensor)).collect();
    assert!(theirs == read("back.safetensors"));
    // What was said of them goes with them.
    sandbox.succeed(
        "export theirs.safetensors --to akamaster --out half.safetensors --normalisation half --size 40",
    );
    let ended = sandbox.succeed("summary --checkpoint half.safetensors");
    assert!(
        ended.stdout.contains("cropped to 40x40\nnormalisation: mean [0.5, 0.5, 0.5]"),
        "{}",
        ended.stdout
    );
    sandbox.succeed("export theirs.safetensors --to safetensors --out ours.safetensors");
    sandbox.succeed("import theirs.safetensors --out imported.safetensors");
    assert!(
        fs::read(sandbox.at("ours.safetensors")).unwrap()
            == fs::read(sandbox.at("imported.safetensors")).unwrap()
    );
    for (arguments, problem) in [
        (
            "--to torchvision --out o",
            "--to torchvision: networks of torchvision have layout imagenet, not cifar; an ONNX file takes any",
        ),
        ("--to pytorch-cifar-models --out o", "dimension change b, not a"),
        ("--to timm --out o --keep-norms", "are for --to onnx"),
        ("--to safetensors --out theirs.safetensors", "holds the weights to export"),
    ] {
        let ended = sandbox.run(&format!("export theirs.safetensors {arguments}"));
        assert_eq!(ended.code, Some(2), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{arguments}: {}", ended.stderr);
        assert!(!sandbox.at("o").exists());
    }
}
