//! `residua data preview`: what a network would see, as a picture.

use std::fs;

use image::{Rgb, RgbImage};

use crate::sandbox::Sandbox;

/// Pixels of a sheet whose images are 96 wide: the first image as in tests, then its variations.
fn cell(sheet: &RgbImage, column: u32) -> Vec<u8> {
    let left = 12 + column * 99 + if column > 0 { 9 } else { 0 };
    let rows = (60..156).flat_map(|row| (left..left + 96).map(move |column| (column, row)));
    rows.flat_map(|(column, row)| sheet.get_pixel(column, row).0).collect()
}

fn sheet(sandbox: &Sandbox, name: &str) -> RgbImage {
    image::open(sandbox.at(name)).unwrap().into_rgb8()
}

#[test]
fn a_sheet_shows_images_as_in_tests_and_as_in_training() {
    let sandbox = Sandbox::new();
    let ended = sandbox.succeed("data preview cifar10:data --no-augment --images 3 --variations 2");
    assert!(ended.stderr.contains("cifar10, seed 1: none; the sheet is sheet.png"), "{}", ended.stderr);
    let plain = sheet(&sandbox, "sheet.png");
    assert!(cell(&plain, 0) == cell(&plain, 1) && cell(&plain, 0) == cell(&plain, 2));

    let varied = "--auto-augment trivial --colour --flip-vertical --random-erasing 1 --cutout 8";
    sandbox
        .succeed(&format!("data preview cifar10:data --images 3 --variations 2 {varied} --out varied.png"));
    let once = sheet(&sandbox, "varied.png");
    assert!(cell(&once, 0) == cell(&plain, 0));
    assert!(cell(&once, 0) != cell(&once, 1) && cell(&once, 1) != cell(&once, 2));
    sandbox.succeed(&format!("data preview cifar10:data --images 3 --variations 2 {varied} --out again.png"));
    assert!(fs::read(sandbox.at("varied.png")).unwrap() == fs::read(sandbox.at("again.png")).unwrap());
    sandbox.succeed(&format!(
        "data preview cifar10:data --images 3 --variations 2 {varied} --seed 2 --out other.png"
    ));
    assert!(fs::read(sandbox.at("varied.png")).unwrap() != fs::read(sandbox.at("other.png")).unwrap());
    assert!(sandbox.half_written().is_empty());
}

#[test]
fn a_run_s_recipe_shows_what_the_run_sees() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 1 --warmup none --threads 1 --seed 5 \
         --auto-augment trivial --cutout 8 --no-tensorboard --out run",
    );
    sandbox.succeed("data preview --recipe run/recipe.toml --images 4 --out of-run.png");
    sandbox.succeed(
        "data preview cifar10:data --seed 5 --auto-augment trivial --cutout 8 --images 4 --out by-options.png",
    );
    assert!(fs::read(sandbox.at("of-run.png")).unwrap() == fs::read(sandbox.at("by-options.png")).unwrap());
    sandbox.succeed(
        "data preview --recipe run/recipe.toml --auto-augment none --cutout 0 --images 4 --out plain.png",
    );
    assert!(fs::read(sandbox.at("of-run.png")).unwrap() != fs::read(sandbox.at("plain.png")).unwrap());
}

#[test]
fn a_folder_without_test_pictures_is_shown_and_what_is_unreadable_told() {
    let sandbox = Sandbox::new();
    for (class, colour) in [("cat", 40), ("a dog of a breed with quite a long name", 200)] {
        fs::create_dir_all(sandbox.at(format!("pets/train/{class}"))).unwrap();
        for number in 0..3 {
            let picture = RgbImage::from_pixel(50 + number, 40, Rgb([colour, 20, 90]));
            picture.save(sandbox.at(format!("pets/train/{class}/{number}.png"))).unwrap();
        }
    }
    fs::write(sandbox.at("pets/train/cat/0.png"), "no picture").unwrap();
    let ended = sandbox.succeed(
        "data preview folder:pets --model preresnet18 --size 96 --crop-scale 0.5,1 --variations 3 --max-unreadable 0.5",
    );
    assert_eq!(ended.stderr.matches("skipped: ").count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("pets, seed 1: scale-aspect of areas 0.5,1; the sheet is"),
        "{}",
        ended.stderr
    );
    // Six images, one below the other.
    let found = sheet(&sandbox, "sheet.png").dimensions();
    assert_eq!(found, (2 * 12 + 96 * 4 + 12 + 6, 2 * 12 + 48 + 6 * 118));
}

#[test]
fn what_cannot_be_shown_is_said_and_nothing_written() {
    let sandbox = Sandbox::new();
    for (line, code, part) in [
        ("data preview cifar11", 2, "did you mean 'cifar10'?"),
        ("data preview --auto-augment trivail", 2, "did you mean 'trivial'?"),
        ("data preview --out sheet.jpg", 2, "give a name that ends in .png"),
        ("data preview --out no/such/sheet.png", 1, "no/such/sheet.png"),
        ("data preview --images 0", 2, "write a whole number, 1 or more"),
        (
            "data preview --images 4000 --variations 4000000000",
            2,
            "--images, --variations: a sheet of 4000 images",
        ),
        ("data preview --cutout 33", 2, "--cutout = 33: must be at most the images' shorter side"),
        ("data preview --model resnet21", 2, "--model = resnet21"),
        ("data preview --crop-scale 0.5,1", 2, "set --augment to scale-aspect"),
        ("data preview --recipe no.toml", 1, "no.toml"),
        ("data preview folder:nowhere", 1, "there is no folder \"nowhere\""),
        ("data", 2, "preview"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{line}: {ended:?}");
        assert!(!sandbox.at("sheet.png").exists() && sandbox.half_written().is_empty(), "{line}");
    }
}
