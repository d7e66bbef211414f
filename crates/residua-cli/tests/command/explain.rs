//! Which pixels decided, as pictures.

use std::fs;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::sandbox::{Sandbox, files};

const RUN: &str =
    "train --data cifar10:data --model preresnet14 --batch 8 --iterations 2 --threads 1 --out run";

fn write_picture(sandbox: &Sandbox, name: &str, [width, height]: [u32; 2]) {
    let colour = |x: u32, y: u32| Rgb([(x * 7) as u8, (y * 5) as u8, (x + 9 * y) as u8]);
    RgbImage::from_fn(width, height, colour).save(sandbox.at(name)).unwrap();
}

#[test]
fn pictures_of_any_size_are_explained_beside_themselves() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    fs::create_dir(sandbox.at("more")).unwrap();
    for (name, size) in [("a.png", [32, 32]), ("b.jpg", [1, 1]), ("more/a.png", [300, 451])] {
        write_picture(&sandbox, name, size);
    }
    fs::write(sandbox.at("c.png"), "no picture").unwrap();
    let ended = sandbox.run("explain run a.png c.png b.jpg more --json");
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| line.parse().unwrap()).collect();
    let written: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(written, ["explained/a.png", "explained/b.png", "explained/a-2.png"]);
    for line in &lines {
        let picture = image::open(sandbox.at(line["file"].as_str().unwrap())).unwrap().into_rgb8();
        // Twice 32 pixels, each seven high and wide, and what is between.
        assert_eq!(picture.dimensions(), (2 * 224 + 8, 224));
        let [left, right] = [0, 232].map(|x| {
            let pixels = picture.enumerate_pixels().filter(move |(at, ..)| (x..x + 224).contains(at));
            pixels.map(|(.., pixel)| pixel.0).collect::<Vec<_>>()
        });
        assert_ne!(left, right);
        assert_eq!(
            (&line["method"], &line["unit"], &line["raw"]),
            (&"cam".into(), &Value::Null, &Value::Null)
        );
        assert_eq!(line["map"], serde_json::json!([8, 8]));
        assert!(line["minimum"].as_f64().unwrap() <= line["maximum"].as_f64().unwrap());
    }
    // The left half is the picture itself, where it has the network's size.
    let picture = image::open(sandbox.at("explained/a.png")).unwrap().into_rgb8();
    let original = image::open(sandbox.at("a.png")).unwrap().into_rgb8();
    assert!((0..32).all(|at| picture.get_pixel(7 * at + 3, 7 * at) == original.get_pixel(at, at)));
    // The class and its probability are those that it is taken for.
    let predicted = sandbox.succeed("predict --checkpoint run a.png --top 1 --json").json();
    assert_eq!(predicted["predictions"][0]["class"], lines[0]["class"]);
    let probability = |value: &Value| value["probability"].as_f64().unwrap();
    assert!((probability(&predicted["predictions"][0]) - probability(&lines[0])).abs() < 1e-5);
    assert_eq!(sandbox.half_written().len(), 0);
}

#[test]
fn class_unit_and_method_can_be_chosen_and_the_map_itself_be_had() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    write_picture(&sandbox, "a.png", [40, 30]);
    let json = |options: &str| sandbox.succeed(&format!("explain run a.png --json {options}")).json();
    let unit = json("--class ship --unit stage2.1 --raw --out x/y");
    for (key, value) in
        [("class", "ship"), ("method", "grad-cam"), ("unit", "stage2.1"), ("raw", "x/y/a.npy")]
    {
        assert_eq!(unit[key], value, "{unit}");
    }
    let raw = fs::read(sandbox.at("x/y/a.npy")).unwrap();
    assert!(raw.starts_with(b"\x93NUMPY\x01\x00") && raw.len() == 128 + 4 * 16 * 16);
    let values: Vec<f32> = raw[128..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let largest = values.iter().copied().fold(f32::MIN, f32::max);
    assert_eq!(unit["maximum"].as_f64().unwrap() as f32, largest);
    assert!(values.iter().all(|value| *value >= 0.) && largest > 0.);

    let same = json("--class ship --unit stages.1.0 --engine composed");
    let maximum = |line: &Value| line["maximum"].as_f64().unwrap();
    assert!((maximum(&same) / maximum(&unit) - 1.).abs() < 1e-3, "{same} {unit}");
    let last = json("--class ship --method grad-cam");
    assert_eq!((&last["unit"], &last["file"]), (&"stage3.2".into(), &"explained/a-2.png".into()));
    let text = sandbox.succeed("explain run a.png --class frog").stdout;
    assert!(text.starts_with("a.png: ") && text.ends_with(" % frog, explained/a-3.png\n"), "{text}");
}

#[test]
fn what_is_not_in_the_network_is_answered_with_what_is() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    write_picture(&sandbox, "a.png", [32, 32]);
    fs::write(sandbox.at("taken"), "a file").unwrap();
    for (line, code, part) in [
        ("--class shipp", 2, "no class 'shipp' (did you mean 'ship'?); it has airplane, automobile, bird"),
        (
            "--unit stage4.1",
            2,
            "the network has stage1.1 to stage1.2, stage2.1 to stage2.2, stage3.1 to stage3.2",
        ),
        ("--unit last", 2, "write stage3.2"),
        ("--method cam --unit stage1.1", 2, "take --method grad-cam"),
        ("--method gradcam", 2, "did you mean 'grad-cam'?"),
        ("--out taken", 1, "cannot create taken"),
        ("--out taken/x", 1, "cannot create taken/x"),
    ] {
        let ended = sandbox.run(&format!("explain run a.png {line}"));
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{line}: {ended:?}");
        assert!(ended.stdout.is_empty() && !sandbox.at("explained").exists(), "{line}");
    }
    assert_eq!(files(&sandbox.at(".")).iter().filter(|path| path.ends_with("a.png")).count(), 1);
}
