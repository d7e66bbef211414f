//! Runs that meet other data than those that they were begun on.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};

use crate::sandbox::{Ended, Sandbox};

/// Classes `cat`, all dark, and `dog`, all light: 12 pictures of each to learn from, and 5 to test on.
fn write_pets(folder: &Path) {
    for (split, count) in [("train", 12), ("test", 5)] {
        for (class, brightness) in [("cat", 40), ("dog", 200)] {
            let at = folder.join(split).join(class);
            fs::create_dir_all(&at).unwrap();
            for k in 0..count {
                let picture =
                    RgbImage::from_fn(48, 40, |x, y| Rgb([brightness, (x + y + k) as u8, 100 + k as u8]));
                picture.save(at.join(format!("{k:02}.png"))).unwrap();
            }
        }
    }
}

const RUN: &str = "train --data folder:pets --model preresnet8 --batch 8 --lr 0.05 --warmup none --decay-at none \
    --evaluate-every 2 --threads 1";

fn stopped() -> Sandbox {
    let sandbox = Sandbox::new();
    write_pets(&sandbox.at("pets"));
    sandbox.succeed(&format!("{RUN} --iterations 4 --out run"));
    sandbox
}

fn swap_classes(sandbox: &Sandbox) {
    for split in ["train", "test"] {
        fs::rename(sandbox.at(format!("pets/{split}/cat")), sandbox.at(format!("pets/{split}/zebra")))
            .unwrap();
    }
}

#[track_caller]
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert!(ended.code.is_some_and(|code| code == 1 || code == 2), "{ended:?}");
    parts.iter().for_each(|part| assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr));
}

#[test]
fn classes_of_other_names_are_refused_wherever_a_run_meets_its_data() {
    let sandbox = stopped();
    swap_classes(&sandbox);
    let parts = ["other classes (without cat, with zebra); give those images, or begin another run"];
    let before = fs::read(sandbox.at("run/metrics.jsonl")).unwrap();
    assert_refused(&sandbox.run("train --resume run --iterations 8"), &parts);
    assert_eq!(fs::read(sandbox.at("run/metrics.jsonl")).unwrap(), before);
    let parts =
        ["the classes of folder:pets (dog, zebra) are not those that run", "was trained on (cat, dog)"];
    assert_refused(&sandbox.run("eval --checkpoint run"), &parts);
    assert_refused(&sandbox.run("propagate run --data folder:pets"), &parts);
    let ended = sandbox.succeed("report run");
    parts.iter().for_each(|part| assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr));
}

#[test]
fn pictures_that_are_others_are_told_of_and_the_normalisation_stays() {
    let sandbox = stopped();
    let normalisation = |iteration: u64| {
        let path = format!("run/checkpoints/iteration-{iteration:08}/weights.safetensors");
        let bytes = fs::read(sandbox.at(path)).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.find("residua.normalisation").unwrap();
        text[at..at + 200].to_owned()
    };
    // The same pictures elsewhere are the same.
    fs::rename(sandbox.at("pets"), sandbox.at("elsewhere")).unwrap();
    let ended = sandbox.succeed("train --resume run --data folder:elsewhere --iterations 6");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);

    fs::remove_file(sandbox.at("elsewhere/train/cat/03.png")).unwrap();
    RgbImage::from_pixel(90, 90, Rgb([255, 0, 0])).save(sandbox.at("elsewhere/test/dog/01.png")).unwrap();
    let ended = sandbox.succeed("train --resume run --iterations 8");
    for part in [
        "warning: the training pictures are not those that the run began with: cat has 11 instead of 12; the run goes on",
        "warning: the test pictures are not those that the run began with: dog has others (by name or size)",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(normalisation(4), normalisation(8));
}

#[test]
fn a_run_of_an_earlier_version_goes_on_and_remembers_its_pictures_from_then_on() {
    let sandbox = stopped();
    fs::remove_file(sandbox.at("run/data.json")).unwrap();
    let ended = sandbox.succeed("train --resume run --iterations 6");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    fs::remove_file(sandbox.at("pets/train/dog/00.png")).unwrap();
    let ended = sandbox.succeed("train --resume run --iterations 8");
    assert!(ended.stderr.contains("dog has 11 instead of 12"), "{}", ended.stderr);
}

#[test]
fn validation_pictures_that_are_held_out_are_among_the_training_pictures() {
    let sandbox = Sandbox::new();
    write_pets(&sandbox.at("pets"));
    sandbox.succeed(&format!("{RUN} --iterations 2 --validation 0.25 --out run"));
    let listed = fs::read_to_string(sandbox.at("run/data.json")).unwrap();
    assert_eq!(listed.matches("\"pictures\": 12").count(), 2, "{listed}");
    let ended = sandbox.succeed("train --resume run --iterations 4");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}

#[test]
fn other_images_of_cifar_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --warmup none --threads 1 --out run",
    );
    let path = sandbox.at("data/data_batch_1.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    assert_refused(&sandbox.run("train --resume run --iterations 4"), &["they have other pixels"]);
}

#[test]
fn a_run_on_few_pictures_is_tested_as_it_goes_on_and_large_batches_are_told_of() {
    let sandbox = Sandbox::new();
    write_pets(&sandbox.at("pets"));
    let line = "train --data folder:pets --model preresnet8 --threads 1";
    let tests = |run: &str| {
        let metrics = fs::read_to_string(sandbox.at(format!("{run}/metrics.jsonl"))).unwrap();
        metrics.matches("test_error").count()
    };
    // 60 iterations of 8 of 24 pictures are 20 epochs.
    sandbox.succeed(&format!("{line} --batch 8 --iterations 60 --out run"));
    assert_eq!(tests("run"), 20);
    sandbox.succeed(&format!("{line} --batch 8 --iterations 60 --evaluate-every 30 --out chosen"));
    assert_eq!(tests("chosen"), 2);
    sandbox.succeed("train --recipe chosen/recipe.toml --threads 1 --out again");
    assert_eq!(tests("again"), 2);

    let ended = sandbox.succeed(&format!("{line} --epochs 3 --out large"));
    let told = "warning: a step takes 128 images and there are 24 to learn from, so 3 epochs are 1 step; take fewer with --batch";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
}
