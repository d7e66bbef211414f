//! Training on a folder of pictures.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use image::{Rgb, RgbImage};

use crate::sandbox::Sandbox;

/// Writes classes `dark` and `light` of JPEG and PNG pictures of many sizes.
fn write_pictures(folder: &Path) {
    for (split, count) in [("train", 12), ("val", 5)] {
        for (class, brightness) in [("dark", 40), ("light", 200)] {
            let at = folder.join(split).join(class);
            fs::create_dir_all(&at).unwrap();
            for k in 0..count {
                let picture = RgbImage::from_fn(40 + 3 * k, 60 - 2 * k, |x, y| {
                    Rgb([brightness, brightness / 2 + (x % 32) as u8, (y % 32) as u8])
                });
                picture.save(at.join(format!("{k}.{}", if k % 2 == 0 { "jpg" } else { "png" }))).unwrap();
            }
        }
    }
}

const RUN: &str = "train --data folder:pets --model preresnet8 --batch 6 --lr 0.05 --warmup none \
    --decay-at none --evaluate-every 15 --threads 1";

#[test]
fn a_folder_of_pictures_is_learnt_and_used() {
    let sandbox = Sandbox::new();
    write_pictures(&sandbox.at("pets"));
    let ended = sandbox.succeed(&format!("{RUN} --iterations 30 --json"));
    let report = ended.json();
    assert_eq!(report["run"], "runs/preresnet8-pets");
    assert!(report["best_test_error"].as_f64().unwrap() < 30., "{report}");
    let recipe = fs::read_to_string(sandbox.at("runs/preresnet8-pets/recipe.toml")).unwrap();
    assert!(
        recipe.contains("source = \"folder:pets\"") && recipe.contains("augmentation = \"shift\""),
        "{recipe}"
    );

    let eval = |options: &str| {
        sandbox.succeed(&format!("eval --checkpoint runs/preresnet8-pets --json {options}")).json()
    };
    let usual = eval("");
    assert_eq!((&usual["images"], &usual["test_error"]), (&10.into(), &report["test_error"]));
    let ten = eval("--scale 40 --crops 10");
    assert!(ten["images"] == 10 && ten["test_loss"] != usual["test_loss"]);
    let larger = eval("--size 48 --batch 3");
    assert!(larger["test_loss"] != usual["test_loss"]);

    let predicted =
        sandbox.succeed("predict --checkpoint runs/preresnet8-pets --json --top 1 pets/val/light/1.png");
    assert_eq!(predicted.json()["predictions"][0]["class"], "light");
}

#[test]
fn every_augmentation_trains_and_resumes_to_the_same_bits() {
    let sandbox = Sandbox::new();
    write_pictures(&sandbox.at("pets"));
    fs::write(sandbox.at("pets/train/dark/3.png"), b"no picture").unwrap();
    for (number, augment) in [
        "none",
        "shift --auto-augment trivial --flip-vertical --cutout 8",
        "scale --auto-augment trivial --random-erasing 0.5",
        "scale-aspect --colour",
        "scale-aspect --crop-scale 0.25,1 --crop-ratio 0.5,2 --flip-vertical --auto-augment trivial --colour --random-erasing 0.25 --cutout 12",
    ]
    .into_iter()
    .enumerate()
    {
        let name = number.to_string();
        let line = format!("{RUN} --size 40 --augment {augment} --max-unreadable 0.05");
        let ended = sandbox.succeed(&format!("{line} --iterations 8 --out whole-{name}"));
        assert_eq!(ended.stderr.matches("skipped: ").count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("pets/train/dark/3.png"), "{}", ended.stderr);
        sandbox.succeed(&format!("{line} --iterations 5 --out part-{name}"));
        sandbox.succeed(&format!("train --resume part-{name} --iterations 8 --workers 3 --threads 2"));
        let weights = |run: &str| {
            fs::read(sandbox.at(format!("{run}-{name}/checkpoints/iteration-00000008/weights.safetensors")))
                .unwrap()
        };
        assert!(weights("whole") == weights("part"), "{augment}");
    }
}

#[test]
fn bad_folders_and_options_are_answered_in_one_line() {
    let sandbox = Sandbox::new();
    write_pictures(&sandbox.at("pets"));
    for (line, code, part) in [
        ("train --data folder", 2, "write `folder:DIR`"),
        ("train --data folder:cats", 1, "there is no folder \"cats\""),
        ("train --data folder:pets/train", 1, "train/CLASS"),
        ("train --data folder:pets --size 20000", 2, "--size = 20000"),
        ("train --data folder:pets --size 30", 2, "--size = 30"),
        ("train --data shapes --size 32", 2, "only pictures in a folder"),
        ("train --data folder:pets --augment shfit", 2, "did you mean 'shift'?"),
        ("train --data folder:pets --augment scale --no-augment", 2, "cannot be used with"),
        (
            "train --data folder:pets --crop-scale 0.2,1",
            2,
            "--crop-scale = 0.2,1: is for crops of random area",
        ),
        ("train --data folder:pets --crop-scale 0.2,1", 2, "set --augment to scale-aspect"),
        ("train --data folder:pets --augment scale-aspect --crop-scale 0.2", 2, "write two numbers"),
        (
            "train --data folder:pets --augment scale-aspect --crop-scale 0,1",
            2,
            "--crop-scale = 0,1: must be two",
        ),
        (
            "train --data folder:pets --augment scale-aspect --crop-ratio 2,1",
            2,
            "--crop-ratio = 2,1: must be two",
        ),
        ("train --data folder:pets --random-erasing 25", 2, "--random-erasing = 25: must be a probability"),
        ("train --data folder:pets --random-erasing -1", 2, "--random-erasing = -1: must be a probability"),
        (
            "train --data folder:pets --cutout 33",
            2,
            "--cutout = 33: must be at most the images' shorter side",
        ),
        ("train --data shapes --cutout 33", 1, "--cutout = 33: must be at most the images' shorter side"),
        ("train --data shapes --cutout -1", 2, "write a whole number"),
        ("train --data shapes --cutout 99999999999999999999", 2, "write a smaller number"),
        ("bench --cutout 16", 2, "augmentation is for --load"),
        ("train --data folder:pets --max-unreadable 2", 2, "--max-unreadable = 2"),
        ("train --data folder:pets --normalisation pixel-mean", 1, "take `channel` for a folder"),
        ("train --data fodler:pets", 2, "did you mean 'folder:pets'?"),
    ] {
        let ended = sandbox.run(line);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{line}: {ended:?}");
        assert!(!sandbox.at("runs").exists(), "{line}");
    }
    for k in [0, 2] {
        fs::write(sandbox.at(format!("pets/train/light/{k}.jpg")), b"\xff\xd8\xff").unwrap();
    }
    let ended = sandbox.run(&format!("{RUN} --iterations 3 --out run"));
    assert_eq!(ended.code, Some(1));
    for part in ["of the 24 pictures", "cannot be read, more than 1 %", "--max-unreadable"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[test]
fn evaluation_wants_the_classes_of_training() {
    let sandbox = Sandbox::new();
    write_pictures(&sandbox.at("pets"));
    write_pictures(&sandbox.at("others"));
    for split in ["train", "val"] {
        fs::rename(sandbox.at(format!("others/{split}/dark")), sandbox.at(format!("others/{split}/dim")))
            .unwrap();
    }
    sandbox.succeed(&format!("{RUN} --iterations 2 --out run"));
    let ended = sandbox.run("eval --checkpoint run --data folder:others");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("(dim, light) are not those"), "{}", ended.stderr);
    let ended = sandbox.run("eval --checkpoint run --data shapes --crops 10");
    assert!(
        ended.code == Some(2) && ended.stderr.contains("are for pictures in a folder"),
        "{}",
        ended.stderr
    );
    let ended = sandbox.run("eval --checkpoint run --size 40 --scale 20");
    assert!(ended.code == Some(2) && ended.stderr.contains("--scale: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("is smaller than a crop"), "{}", ended.stderr);
    let ended = sandbox.run("eval --checkpoint run --size 33");
    assert!(ended.code == Some(2) && ended.stderr.contains("--size: input of 33x33"), "{}", ended.stderr);
}

#[test]
fn pictures_are_found_in_folders_patterns_and_standard_input() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 2 --threads 1 --out run",
    );
    fs::create_dir_all(sandbox.at("album/deeper, \"one\"")).unwrap();
    for (number, name) in
        ["album/b.png", "album/a.PNG", "album/deeper, \"one\"/c.jpg"].into_iter().enumerate()
    {
        image::RgbImage::from_pixel(40, 30, image::Rgb([80 * number as u8, 10, 200]))
            .save(sandbox.at(name))
            .unwrap();
    }
    fs::write(sandbox.at("album/notes.txt"), "no picture").unwrap();
    fs::write(sandbox.at("album/broken.png"), "no picture").unwrap();

    let folder = sandbox.run("predict --checkpoint run --top 2 --csv album");
    assert_eq!(folder.code, Some(1));
    assert_eq!(folder.stderr.matches("error: ").count(), 1, "{}", folder.stderr);
    let lines: Vec<&str> = folder.stdout.lines().collect();
    assert_eq!((lines[0], lines.len()), ("image,rank,class,probability", 7));
    let images: Vec<&str> =
        lines[1..].iter().step_by(2).map(|line| line.rsplitn(4, ',').last().unwrap()).collect();
    assert_eq!(images, ["album/a.PNG", "album/b.png", "\"album/deeper, \"\"one\"\"/c.jpg\""]);

    let pattern = sandbox.succeed("predict --checkpoint run --json album/[ab].* --batch 1");
    assert_eq!(pattern.stdout.lines().count(), 2);
    assert!(pattern.stderr.contains("2 pictures in"), "{}", pattern.stderr);

    let mut command = sandbox.command("predict --checkpoint run --json -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"album/b.png\r\n\nalbum/a.PNG\n").unwrap();
    let piped = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    // The same pictures by the reference, batches of another size, in another order.
    let reference =
        sandbox.succeed("predict --checkpoint run --json --engine composed album/b.png album/a.PNG").stdout;
    for (found, expected) in piped.lines().zip(reference.lines()) {
        let [found, expected]: [serde_json::Value; 2] = [found, expected].map(|line| line.parse().unwrap());
        assert_eq!(found["image"], expected["image"]);
        let first = |line: &serde_json::Value| line["predictions"][0]["probability"].as_f64().unwrap();
        assert!((first(&found) - first(&expected)).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(piped.lines().count(), 2);
}

/// Names of files are any bytes on Unix.
#[cfg(unix)]
#[test]
fn a_name_that_is_no_text_is_a_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let sandbox = Sandbox::new();
    sandbox.succeed(
        "train --data cifar10:data --model preresnet8 --batch 8 --iterations 1 --warmup none --out run",
    );
    let name = OsStr::from_bytes(b"caf\xe9.png");
    fs::create_dir(sandbox.at("album")).unwrap();
    let picture = sandbox.at("album").join(name);
    image::RgbImage::new(32, 32).save_with_format(picture, image::ImageFormat::Png).unwrap();
    let output = sandbox.command("predict --checkpoint run --json album").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("caf\\udce9.png"));
    let output = sandbox.command("export run --to safetensors --json --out").arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
