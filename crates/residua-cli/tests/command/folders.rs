//! Folders of pictures as they are: links, hidden files, pictures of other formats, names that are no text.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image::{Rgb, RgbImage};

use crate::sandbox::{Ended, Sandbox};

/// Writes classes `cat` (red) and `dog` (blue), 12 and 5 pictures each, into `pets`.
fn pets() -> Sandbox {
    let sandbox = Sandbox::new();
    for (split, count) in [("train", 12u8), ("test", 5)] {
        for (class, colour) in [("cat", Rgb([200, 60, 60])), ("dog", Rgb([60, 60, 200]))] {
            let at = sandbox.at("pets").join(split).join(class);
            fs::create_dir_all(&at).unwrap();
            for number in 0..count {
                let side = 32 + u32::from(number);
                RgbImage::from_pixel(side, side, colour).save(at.join(format!("{number:02}.png"))).unwrap();
            }
        }
    }
    sandbox
}

const TRAIN: &str = "train --data folder:pets --model preresnet8 --batch 8 --iterations 2 --warmup none --decay-at none --threads 1";

/// How often a run on `pets` has told what.
fn told(sandbox: &Sandbox, out: &str, words: &str) -> usize {
    sandbox.succeed(&format!("{TRAIN} --max-unreadable 0.1 --out {out}")).stderr.matches(words).count()
}

#[test]
fn links_that_lead_nowhere_are_unreadable_pictures_or_nobodys_business() {
    let sandbox = pets();
    let at = |name: &str| sandbox.at("pets/train").join(name);
    for link in ["cat/readme.txt", "cat/.hidden.png", ".hidden", "notes.txt"] {
        symlink("/nowhere/x", at(link)).unwrap();
    }
    let ended = sandbox.succeed(&format!("{TRAIN} --out plain"));
    assert!(!ended.stderr.contains("skipped") && !ended.stderr.contains("warning"), "{}", ended.stderr);
    symlink("/nowhere/x.png", at("cat/gone.png")).unwrap();
    // The next picture takes its place, and the others are learnt from as before.
    assert_eq!(told(&sandbox, "gone", "skipped: cannot read \"pets/train/cat/gone.png\""), 1);
    symlink("/nowhere", at("bird")).unwrap();
    let ended = sandbox.run(&format!("{TRAIN} --out bird"));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("class `bird` is a link to \"/nowhere\", which is not there"),
        "{}",
        ended.stderr
    );
    assert!(!sandbox.at("bird").exists());
    // In tests too, whose classes are others'.
    fs::remove_file(at("bird")).unwrap();
    symlink("/nowhere", sandbox.at("pets/test/bird")).unwrap();
    assert!(sandbox.run(&format!("{TRAIN} --out bird")).stderr.contains("class `bird` is a link to"));
}

#[test]
fn pictures_that_are_met_twice_are_told_of() {
    for (target, link, words) in [
        ("cat", "train/kitty", "are of class `cat` and of class `kitty`"),
        ("../dog", "train/cat/inner", "are of class `cat` and of class `dog`"),
        ("../cat/deep", "train/cat/more", "are in class `cat` twice"),
        (
            ".",
            "train/cat/round",
            "train/cat/round\" is passed over: the link leads nowhere, or to a folder around it",
        ),
        ("/nowhere", "train/cat/folder", "train/cat/folder\" is passed over: the link leads nowhere"),
        ("../train/cat", "test/cat", "tests are on what is learnt from: "),
        ("train", "test", "tests are on what is learnt from: "),
    ] {
        let sandbox = pets();
        if target.ends_with("deep") {
            fs::create_dir(sandbox.at("pets/train/cat/deep")).unwrap();
            RgbImage::new(32, 32).save(sandbox.at("pets/train/cat/deep/x.png")).unwrap();
        }
        let link = sandbox.at("pets").join(link);
        if link.exists() {
            fs::remove_dir_all(&link).unwrap();
        }
        symlink(target, &link).unwrap();
        assert_eq!(told(&sandbox, "run", words), 1, "{words}");
        let ended = sandbox.succeed("eval --checkpoint run --data folder:pets --max-unreadable 0.1");
        let is_of_tests = words.starts_with("tests are on");
        assert_eq!(ended.stderr.matches(words).count(), usize::from(is_of_tests), "{}", ended.stderr);
    }
}

#[test]
fn predictions_are_of_the_pictures_that_training_would_take() {
    let sandbox = pets();
    sandbox.succeed(&format!("{TRAIN} --out run"));
    let album = sandbox.at("album");
    fs::create_dir_all(album.join(".thumbs")).unwrap();
    fs::create_dir(album.join("closed")).unwrap();
    for name in ["a.png", "._a.png", ".thumbs/b.png", "closed/c.png"] {
        RgbImage::new(32, 32).save(album.join(name)).unwrap();
    }
    for name in ["d.HEIC", "e.tif", "f.jfif", ".g.tif"] {
        fs::write(album.join(name), "x").unwrap();
    }
    symlink("../pets/test", album.join("linked")).unwrap();
    symlink("..", album.join("round")).unwrap();
    symlink("/nowhere.png", album.join("gone.png")).unwrap();
    let predict = "predict --checkpoint run --csv --top 1";
    let images = |ended: &Ended| -> Vec<String> {
        let lines = ended.stdout.lines().skip(1);
        lines.map(|line| line.split(',').next().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = ["a.png".to_owned(), "closed/c.png".to_owned()]
        .into_iter()
        .chain(
            ["cat", "dog"].iter().flat_map(|class| (0..5).map(move |k| format!("linked/{class}/{k:02}.png"))),
        )
        .map(|name| format!("album/{name}"))
        .collect();
    let ended = sandbox.run(&format!("{predict} album"));
    assert_eq!((ended.code, images(&ended)), (Some(1), expected.clone()));
    for told in [
        "error: cannot read \"album/gone.png\"",
        "warning: \"album\": 3 files of other formats are left out (1 .heic, 1 .jfif, 1 .tif)",
        "warning: \"album/round\" is passed over",
    ] {
        assert_eq!(ended.stderr.matches(told).count(), 1, "{told}: {}", ended.stderr);
    }
    assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);

    // A folder that cannot be listed has an error of its own, the others go on; in training it is one.
    fs::remove_file(album.join("gone.png")).unwrap();
    let close = |folder: &Path, mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    let deep = sandbox.at("pets/train/cat/deep");
    fs::create_dir(&deep).unwrap();
    close(&album.join("closed"), 0);
    close(&deep, 0);
    // Nothing is closed to root.
    if fs::read_dir(album.join("closed")).is_err() {
        let ended = sandbox.run(&format!("{predict} album"));
        let expected: Vec<_> = expected.iter().filter(|name| !name.contains("closed")).cloned().collect();
        assert_eq!((ended.code, images(&ended)), (Some(1), expected));
        assert!(
            ended.stderr.contains("error: cannot read \"album/closed\": Permission denied"),
            "{}",
            ended.stderr
        );
        let ended = sandbox.run(&format!("{TRAIN} --out other"));
        assert!(
            ended.stderr.contains("error: cannot read \"pets/train/cat/deep\": Permission denied"),
            "{}",
            ended.stderr
        );
    }
    close(&album.join("closed"), 0o755);
    close(&deep, 0o755);
}

/// A name that is no text, and how JSON says it.
const NAME: (&[u8], &str) = (b"caf\xe9, 1.png", r#""album/caf\udce9, 1.png""#);

fn output(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_name_that_is_no_text_finds_its_file_again() {
    let sandbox = pets();
    sandbox.succeed(&format!("{TRAIN} --out run"));
    let name = Path::new("album").join(OsStr::from_bytes(NAME.0));
    fs::create_dir(sandbox.at("album")).unwrap();
    let colour = RgbImage::from_pixel(32, 32, Rgb([200, 60, 60]));
    colour.save_with_format(sandbox.at(&name), image::ImageFormat::Png).unwrap();
    colour.save(sandbox.at("album/z.png")).unwrap();

    let predict = |options: &str, words: &[&OsStr]| {
        let mut command = sandbox.command(&format!("predict --checkpoint run --top 1 {options}"));
        command.args(words);
        output(command).stdout
    };
    let [folder, pattern] = ["album", "album/caf?, 1.p*"].map(OsStr::new);
    for words in [&[folder][..], &[pattern], &[name.as_os_str()]] {
        let json = String::from_utf8(predict("--json", words)).unwrap();
        assert!(json.starts_with(&format!("{{\"image\":{},", NAME.1)), "{words:?}: {json}");
        let csv = predict("--csv", words);
        assert!(csv.starts_with(b"image,rank,class,probability\n\"album/caf\xe9, 1.png\",1,"), "{words:?}");
        assert!(predict("", words).starts_with(b"album/caf\xe9, 1.png\n"), "{words:?}");
    }
    let mut command = sandbox.command("predict --checkpoint run --csv --top 1 -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = [name.as_os_str().as_bytes(), b"\nalbum/z.png\r\n\n"].concat();
    child.stdin.take().unwrap().write_all(&lines).unwrap();
    let piped = child.wait_with_output().unwrap().stdout;
    assert_eq!(piped.split(|&byte| byte == b'\n').count(), 4, "{}", String::from_utf8_lossy(&piped));
    assert!(piped.windows(5).any(|part| part == b"caf\xe9,"));

    output(sandbox.command("features run album --out features.npy"));
    let list = fs::read(sandbox.at("features.txt")).unwrap();
    assert_eq!(list, b"album/caf\xe9, 1.png\nalbum/z.png\n");
    output(sandbox.command("features run album --out features.safetensors"));
    let file = fs::read(sandbox.at("features.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&file).contains("caf\\\\udce9, 1.png"));
    output(sandbox.command("explain run album --out explained"));
    assert!(sandbox.at("explained").join(OsStr::from_bytes(NAME.0)).exists());

    fs::rename(sandbox.at(&name), sandbox.at("pets/test/cat").join(OsStr::from_bytes(NAME.0))).unwrap();
    output(sandbox.command("eval --checkpoint run --predictions predictions.csv --json"));
    let predictions = fs::read(sandbox.at("predictions.csv")).unwrap();
    assert!(predictions.windows(14).any(|part| part == b"/caf\xe9, 1.png\","));
    // A run's folder is called so, too.
    let mut command = sandbox.command(&format!("{TRAIN} --json --out"));
    command.arg(OsStr::from_bytes(b"runs-\xff"));
    assert!(String::from_utf8(output(command).stdout).unwrap().contains("\"run\":\"runs-\\udcff\""));
    let listed = String::from_utf8(output(sandbox.command("runs . --json")).stdout).unwrap();
    assert!(listed.contains("\"run\":\"./runs-\\udcff\""), "{listed}");
}
