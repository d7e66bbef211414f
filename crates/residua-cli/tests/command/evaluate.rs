//! What `eval` measures, and the files that it writes.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::tiny_cifar::{RECORD, TEST};

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 30 --warmup none \
    --evaluate-every 30 --checkpoint-every 30 --threads 1 --out run";

/// The lines of a file of comma-separated values, which may be quoted.
fn read_csv(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = vec![vec![String::new()]];
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let line = lines.last_mut().unwrap();
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                line.last_mut().unwrap().push(characters.next().unwrap());
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => line.push(String::new()),
            '\n' if !is_quoted => lines.push(vec![String::new()]),
            character => line.last_mut().unwrap().push(character),
        }
    }
    assert_eq!(lines.pop(), Some(vec![String::new()]), "the last line ends, too");
    lines
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[track_caller]
pub(crate) fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.), "{found} {expected}");
}

#[test]
fn every_measure_follows_from_the_predictions() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    let line = "eval --checkpoint run --json --predictions predictions.csv --confusions confusions.csv";
    let found = sandbox.succeed(line).json();
    let predictions = read_csv(&sandbox.at("predictions.csv"));
    let names: Vec<&str> =
        predictions[0][3..].iter().map(|name| name.strip_prefix("probability:").unwrap()).collect();
    assert_eq!(predictions[0][..3], ["image", "true", "predicted"]);
    assert_eq!((names.len(), predictions.len()), (10, 1 + TEST));

    let (mut loss, mut wrong, mut beyond_five) = (0., 0., 0.);
    let mut counts = vec![[0u64; 10]; 10];
    for (index, line) in predictions[1..].iter().enumerate() {
        assert_eq!(line[0], index.to_string());
        let probabilities: Vec<f64> = line[3..].iter().map(|text| text.parse().unwrap()).collect();
        assert_near(probabilities.iter().sum(), 1.);
        let label = names.iter().position(|name| *name == line[1]).unwrap();
        assert_eq!(label, index % 10);
        let rank = probabilities.iter().filter(|other| **other > probabilities[label]).count();
        let predicted = names.iter().position(|name| *name == line[2]).unwrap();
        assert!(probabilities.iter().all(|other| *other <= probabilities[predicted]));
        loss -= probabilities[label].ln();
        wrong += f64::from(u8::from(rank > 0));
        beyond_five += f64::from(u8::from(rank >= 5));
        counts[label][predicted] += 1;
    }
    let images = TEST as f64;
    assert_near(number(&found["test_loss"]), loss / images);
    assert_near(number(&found["test_error"]), 100. * wrong / images);
    assert_near(number(&found["top5_error"]), 100. * beyond_five / images);
    assert_eq!((&found["temperature"], &found["tta"]), (&Value::Null, &json!(false)));

    let mut errors = 0.;
    for (class, measures) in found["classes"].as_array().unwrap().iter().enumerate() {
        let right = counts[class][class] as f64;
        let of_class = counts[class].iter().sum::<u64>() as f64;
        let taken = counts.iter().map(|row| row[class]).sum::<u64>() as f64;
        assert_eq!(measures["class"], names[class]);
        assert_eq!((number(&measures["images"]), number(&measures["predicted"])), (of_class, taken));
        assert_near(number(&measures["recall"]), right / of_class);
        match taken {
            0. => assert_eq!(measures["precision"], Value::Null),
            taken => assert_near(number(&measures["precision"]), right / taken),
        }
        assert_near(number(&measures["f1"]), 2. * right / (of_class + taken));
        errors += 100. * (1. - right / of_class) / 10.;
    }
    assert_near(number(&found["mean_per_class_error"]), errors);
    let bins = found["calibration"]["bins"].as_array().unwrap();
    assert_eq!((bins.len(), bins.iter().map(|bin| number(&bin["images"])).sum::<f64>()), (15, images));
    let gaps = bins.iter().filter(|bin| number(&bin["images"]) > 0.).map(|bin| {
        number(&bin["images"]) / images * (number(&bin["accuracy"]) - number(&bin["confidence"])).abs()
    });
    assert_near(number(&found["calibration"]["expected_error"]), gaps.sum());

    let confusions = read_csv(&sandbox.at("confusions.csv"));
    assert_eq!(confusions[0], ["true", "predicted", "images"]);
    let listed = found["confusions"].as_array().unwrap();
    assert_eq!(listed.len(), confusions.len() - 1);
    for (line, pair) in confusions[1..].iter().zip(listed) {
        let place = |name: &str| names.iter().position(|one| *one == name).unwrap();
        assert_eq!(line[2], counts[place(&line[0])][place(&line[1])].to_string());
        assert_eq!(
            *pair,
            json!({ "true": line[0], "predicted": line[1], "images": line[2].parse::<u64>().unwrap() })
        );
    }
    assert_eq!(sandbox.half_written().len(), 0);

    // Neither batches nor threads change anything.
    let first = fs::read(sandbox.at("predictions.csv")).unwrap();
    let again = sandbox.succeed(&format!("{line} --batch 5 --threads 2")).json();
    assert!(again == found && fs::read(sandbox.at("predictions.csv")).unwrap() == first);
}

#[test]
fn the_text_is_a_headline_and_a_table() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    let found = sandbox.succeed("eval --checkpoint run --json").json();
    let text = sandbox.succeed("eval --checkpoint run").stdout;
    let lines: Vec<&str> = text.lines().collect();
    let headline = format!(
        "test error {:.2} %, test loss {:.4} on {TEST} images of cifar10:data (run/",
        number(&found["test_error"]),
        number(&found["test_loss"])
    );
    assert!(lines[0].starts_with(&headline), "{text}");
    let second = format!("top-5 error {:.2} %, mean per-class error ", number(&found["top5_error"]));
    assert!(lines[1].starts_with(&second) && lines[1].contains("calibration error 0."), "{text}");
    assert_eq!(lines.len(), 4 + 10, "{text}");
    assert!(lines[3].starts_with("class") && lines[4].starts_with("airplane"), "{text}");
    assert_eq!(sandbox.succeed("eval --checkpoint run --per-class").stdout, text);
}

#[test]
fn of_many_classes_the_hardest_are_shown_and_all_on_request() {
    let sandbox = Sandbox::new();
    for (split, count) in [("train", 2), ("test", 1)] {
        for class in 0..24 {
            let folder = sandbox.at("many").join(split).join(format!("class {class:02}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let picture = RgbImage::from_pixel(32, 32, Rgb([10 * class as u8, 3 * number as u8, 99]));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    sandbox.succeed(
        "train --data folder:many --model preresnet8 --size 32 --batch 8 --iterations 2 --warmup none --decay-at none --out run",
    );
    let text = sandbox.succeed("eval --checkpoint run").stdout;
    assert!(text.contains("the 10 of 24 classes with the highest error (all: --per-class):"), "{text}");
    assert_eq!(text.matches("\nclass ").count(), 1 + 10, "{text}");
    let all = sandbox.succeed("eval --checkpoint run --per-class").stdout;
    assert_eq!(all.matches("\nclass ").count(), 1 + 24, "{all}");
}

/// A CIFAR-10 like that in `data` with mirrored test images.
fn write_mirrored(sandbox: &Sandbox) {
    fs::create_dir(sandbox.at("mirrored")).unwrap();
    for file in fs::read_dir(sandbox.at("data")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        for record in bytes.chunks_exact_mut(RECORD) {
            record[1..].chunks_exact_mut(32).for_each(<[u8]>::reverse);
        }
        fs::write(sandbox.at("mirrored").join(path.file_name().unwrap()), bytes).unwrap();
    }
}

#[test]
fn mirrored_images_count_by_their_probabilities() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    write_mirrored(&sandbox);
    for machine in ["", "--engine composed --threads 1"] {
        let probabilities = |options: &str| -> Vec<Vec<f64>> {
            sandbox.succeed(&format!("eval --checkpoint run --predictions p.csv {machine} {options}"));
            let lines = read_csv(&sandbox.at("p.csv"));
            lines[1..]
                .iter()
                .map(|line| line[3..].iter().map(|text| text.parse().unwrap()).collect())
                .collect()
        };
        let (as_is, mirrored) = (probabilities(""), probabilities("--data cifar10:mirrored"));
        let both = probabilities("--tta --batch 7");
        assert_ne!(as_is, mirrored);
        for (image, found) in both.iter().enumerate() {
            for (class, found) in found.iter().enumerate() {
                assert_near(*found, (as_is[image][class] + mirrored[image][class]) / 2.);
            }
        }
        let line = format!("eval --checkpoint run --tta --json {machine}");
        let one = sandbox.succeed(&line).json();
        let other = sandbox.succeed(&format!("{line} --data cifar10:mirrored")).json();
        assert_near(number(&one["test_loss"]), number(&other["test_loss"]));
        assert_eq!((&one["tta"], &one["test_error"]), (&json!(true), &other["test_error"]));
    }
    let text = sandbox.succeed("eval --checkpoint run --tta").stdout;
    assert!(text.contains("images of cifar10:data, each also mirrored (run/"), "{text}");
}

#[test]
fn pictures_and_classes_of_any_name_are_written_as_values() {
    let sandbox = Sandbox::new();
    let classes = ["a, \"b\"", "plain"];
    for split in ["train", "test"] {
        for (number, class) in classes.iter().enumerate() {
            let folder = sandbox.at("odd").join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for picture in 0..4 {
                let colour = Rgb([200 * number as u8, 10 * picture, 7]);
                RgbImage::from_pixel(32, 32, colour).save(folder.join(format!("x,{picture}.png"))).unwrap();
            }
        }
    }
    sandbox.succeed(
        "train --data folder:odd --model preresnet8 --size 32 --batch 4 --iterations 2 --warmup none --decay-at none --out run",
    );
    // One cannot be read, and is left out.
    fs::write(sandbox.at("odd/test/plain/x,1.png"), "no picture").unwrap();
    let found = sandbox
        .succeed("eval --checkpoint run --max-unreadable 0.2 --predictions p.csv --confusions c.csv --json")
        .json();
    assert_eq!((&found["images"], &found["top5_error"]), (&json!(7), &Value::Null));
    let lines = read_csv(&sandbox.at("p.csv"));
    assert_eq!(lines[0], ["image", "true", "predicted", "probability:a, \"b\"", "probability:plain"]);
    let images: Vec<&str> = lines[1..].iter().map(|line| line[0].as_str()).collect();
    let path = |class: &str, picture: usize| format!("odd/test/{class}/x,{picture}.png");
    let expected: Vec<String> = [0, 1, 2, 3]
        .map(|picture| path(classes[0], picture))
        .into_iter()
        .chain([0, 2, 3].map(|picture| path(classes[1], picture)))
        .collect();
    assert_eq!(images, expected);
    assert!(lines[1..5].iter().all(|line| line[1] == classes[0]), "{lines:?}");
    assert!(read_csv(&sandbox.at("c.csv"))[1..].iter().all(|line| line.len() == 3));
    let ended = sandbox.run("eval --checkpoint run --max-unreadable 0.2 --tta --crops 10");
    assert_eq!((ended.code, ended.stderr.contains("--tta: half of ten crops")), (Some(2), true), "{ended:?}");
}

#[test]
fn files_that_cannot_be_are_refused_before_anything_is_computed() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    let weights = "run/checkpoints/iteration-00000030/weights.safetensors";
    for (options, code, part) in [
        ("--predictions nowhere/p.csv", 1, "cannot write nowhere/p.csv"),
        ("--confusions run", 1, "it is a folder, give a file"),
        ("--confusions a.csv --predictions a.csv", 2, "are two files; give two names"),
        (&format!("--predictions {weights}"), 2, "--predictions: run/checkpoints/"),
        ("--data shapes --predictions p.csv", 0, ""),
        ("--data cifar100:data --predictions q.csv", 1, ""),
    ] {
        let ended = sandbox.run(&format!("eval --checkpoint run {options}"));
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{options}: {ended:?}");
        assert_eq!(ended.stdout.is_empty(), code != 0, "{options}");
        assert_eq!(sandbox.half_written().len(), 0, "{options}");
    }
    assert!(!sandbox.at("a.csv").exists() && !sandbox.at("q.csv").exists());
    sandbox.succeed("eval --checkpoint run");
}
