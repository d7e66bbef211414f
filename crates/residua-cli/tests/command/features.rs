//! What the classifier reads of pictures, in files.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

const RUN: &str =
    "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --threads 1 --out run";

/// Pictures of several sizes, one file that is none, and a trained network.
fn album(sandbox: &Sandbox) {
    sandbox.succeed(RUN);
    fs::create_dir(sandbox.at("album")).unwrap();
    for (name, width, height) in [("a.png", 40, 30), ("b.jpg", 300, 451), ("d.png", 1, 1)] {
        let colour = |x: u32, y: u32| Rgb([(x * 7) as u8, (y * 5) as u8, (x + 9 * y) as u8]);
        RgbImage::from_fn(width, height, colour).save(sandbox.at("album").join(name)).unwrap();
    }
    fs::write(sandbox.at("album/c.png"), "no picture").unwrap();
}

/// Shape and numbers of an array of NumPy.
fn read_npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let begin = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = str::from_utf8(&bytes[10..begin]).unwrap();
    assert!(begin % 64 == 0 && header.ends_with('\n'), "{header:?}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let values = bytes[begin..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    (shape.to_owned(), values)
}

#[test]
fn good_pictures_have_a_row_and_bad_ones_a_line() {
    let sandbox = Sandbox::new();
    album(&sandbox);
    let ended = sandbox.run("features run album --json");
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("album/c.png"), "{}", ended.stderr);
    let expected = json!({
        "pictures": 3, "features": 64, "unreadable": 1, "file": "features.npy", "paths": "features.txt",
    });
    assert_eq!(ended.json(), expected);
    let (shape, npy) = read_npy(&sandbox.at("features.npy"));
    assert_eq!((shape.as_str(), npy.len()), ("3, 64", 3 * 64));
    assert_eq!(
        fs::read_to_string(sandbox.at("features.txt")).unwrap(),
        "album/a.png\nalbum/b.jpg\nalbum/d.png\n"
    );

    // Batches of one, a kind of file that its name says, one that an option says, and the reference.
    let paths = "album/a.png album/b.jpg album/d.png";
    sandbox.succeed(&format!("features run/checkpoints/iteration-00000002 {paths} --batch 1 --out one.npy"));
    sandbox.succeed(&format!("features run {paths} --format safetensors"));
    let text =
        sandbox.succeed(&format!("features run {paths} --engine composed --out two.SafeTensors")).stdout;
    assert_eq!(text, "3 x 64 numbers in two.SafeTensors\n");
    assert!(read_npy(&sandbox.at("one.npy")).1 == npy);
    for (file, allowed) in [("features.safetensors", 0.), ("two.SafeTensors", 1e-4)] {
        let bytes = fs::read(sandbox.at(file)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let listed: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["paths"]).unwrap();
        assert_eq!(listed, json!(["album/a.png", "album/b.jpg", "album/d.png"]));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = tensors.tensor("features").unwrap();
        assert_eq!(tensor.shape(), [3, 64]);
        let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let difference = values.zip(&npy).map(|(found, expected)| (found - expected).abs());
        assert!(difference.fold(0., f32::max) <= allowed, "{file}");
    }
    assert_eq!(sandbox.half_written().len(), 0);
}

#[test]
fn files_are_replaced_only_where_they_are_named() {
    let sandbox = Sandbox::new();
    album(&sandbox);
    fs::write(sandbox.at("features.txt"), "mine").unwrap();
    fs::write(sandbox.at("old.npy"), "mine").unwrap();
    let ended = sandbox.run("features run album/a.png");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("features.txt is there already; name the file to write with --out"));
    assert_eq!(fs::read_to_string(sandbox.at("features.txt")).unwrap(), "mine");
    sandbox.succeed("features run album/a.png --out old.npy");
    assert_eq!(read_npy(&sandbox.at("old.npy")).0, "1, 64");
}

#[test]
fn what_cannot_be_written_or_meant_is_answered_before_anything_is_computed() {
    let sandbox = Sandbox::new();
    album(&sandbox);
    fs::create_dir(sandbox.at("folder.npy")).unwrap();
    for (line, code, part) in [
        ("features run album --out none/features.npy", 1, "cannot write none/features.npy"),
        ("features run album --out folder.npy", 1, "cannot write folder.npy"),
        ("features run album --out features", 2, "ends in .npy or .safetensors"),
        ("features run album --out a.npy --format safetensors", 2, "--format is another"),
        ("features run album --format numpy", 2, "choose one of: npy, safetensors"),
        ("features nothing album", 1, "nothing"),
        ("features run", 2, "PICTURE"),
        ("features run album/*.tiff", 1, "there is no picture in"),
        ("features run album/c.png", 1, "no picture could be read; nothing is written"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{line}: {ended:?}");
        assert!(!sandbox.at("features.npy").exists(), "{line}");
    }
}
