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

#[test]
fn classes_are_told_apart_by_their_names() {
    let sandbox = pets();
    sandbox.succeed(&format!("{} --out run", TRAIN.replace("--iterations 2", "--iterations 40")));
    let eval = |options: &str| sandbox.run(&format!("eval --checkpoint run --json {options}"));
    let test_error = |ended: &Ended| ended.json()["test_error"].as_f64().unwrap();
    assert_eq!(test_error(&eval("")), 0.);

    // A test folder with a part of the classes: the second.
    let rename = |from: &str, to: &str| fs::rename(sandbox.at(from), sandbox.at(to)).unwrap();
    fs::create_dir_all(sandbox.at("dogs/test")).unwrap();
    rename("pets/test/dog", "dogs/test/dog");
    let ended = eval("--data folder:dogs");
    assert_eq!((test_error(&ended), &ended.json()["images"]), (0., &5.into()));
    assert!(
        ended.stderr.contains("note: folder:dogs has no pictures of 1 of the 2 classes: cat"),
        "{}",
        ended.stderr
    );
    rename("dogs/test/dog", "dogs/test/cow");
    let ended = eval("--data folder:dogs");
    assert!(ended.code == Some(2) && ended.stderr.contains("it knows no cow"), "{}", ended.stderr);
    rename("dogs/test/cow", "pets/test/dog");

    // Other classes of as many: what is known by name stays, though its place is another.
    for split in ["train", "test"] {
        rename(&format!("pets/{split}/cat"), &format!("pets/{split}/zcat"));
    }
    let begin =
        "train --data folder:pets --batch 8 --iterations 1 --warmup none --lr 1e-9 --threads 1 --init run";
    let ended = sandbox.succeed(&format!("{begin} --out other"));
    assert!(
        ended.stderr.contains(
            "of the classifier those of each class by its name (theirs were cat, dog); new are zcat"
        ),
        "{}",
        ended.stderr
    );
    // The same classes in another order.
    for split in ["train", "test"] {
        rename(&format!("pets/{split}/dog"), &format!("pets/{split}/a"));
        rename(&format!("pets/{split}/zcat"), &format!("pets/{split}/dog"));
    }
    sandbox.succeed(&format!("{} --out first", TRAIN.replace("--iterations 2", "--iterations 40")));
    for split in ["train", "test"] {
        rename(&format!("pets/{split}/a"), &format!("pets/{split}/x"));
        rename(&format!("pets/{split}/dog"), &format!("pets/{split}/a"));
        rename(&format!("pets/{split}/x"), &format!("pets/{split}/dog"));
    }
    // Now each name means the other's pictures.
    let ended =
        sandbox.succeed(&format!("{} --out second --json", begin.replace("--init run", "--init first")));
    assert_eq!(test_error(&ended), 100.);
    // Names that are all others are told of.
    for split in ["train", "test"] {
        rename(&format!("pets/{split}/a"), &format!("pets/{split}/lion"));
        rename(&format!("pets/{split}/dog"), &format!("pets/{split}/wolf"));
    }
    let ended = sandbox.succeed(&format!("{} --out third", begin.replace("--init run", "--init first")));
    assert!(
        ended.stderr.contains("though its classes were a, dog and are lion, wolf now"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_is_there_instead_of_a_data_set_is_said() {
    let sandbox = pets();
    let at = |name: &str| sandbox.at("pets").join(name);
    let train = || sandbox.run(&format!("{TRAIN} --max-unreadable 0.2 --out run"));
    // Phones' pictures.
    for name in ["train/cat/1.heic", "train/cat/2.HEIC", "train/dog/3.tif"] {
        fs::write(at(name), "x").unwrap();
    }
    let ended = train();
    assert_eq!(
        ended.stderr.matches("3 files of other formats are left out (2 .heic, 1 .tif)").count(),
        1,
        "{}",
        ended.stderr
    );
    fs::write(at("train/cat/00.png"), b"\0\0\0\x20ftypheic\0\0\0\0mif1heic").unwrap();
    fs::write(at("train/cat/01.png"), "<!DOCTYPE html><html>404</html>").unwrap();
    fs::remove_dir_all(sandbox.at("run")).unwrap();
    let ended = train();
    for told in [
        "00.png\" is not a readable image: it is a HEIC picture",
        "01.png\" is not a readable image: it is a web page",
    ] {
        assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    }
    fs::remove_dir_all(sandbox.at("run")).unwrap();

    // Tests without class folders beside good ones.
    fs::rename(at("test"), at("val")).unwrap();
    fs::create_dir(at("test")).unwrap();
    RgbImage::new(32, 32).save(at("test/loose.png")).unwrap();
    let ended = train();
    let told = "\"pets/test\" has no folder for any class, so tests are on \"pets/val\"";
    assert!(ended.code == Some(0) && ended.stderr.contains(told), "{}", ended.stderr);
    fs::remove_dir_all(sandbox.at("run")).unwrap();
    fs::remove_dir_all(at("test")).unwrap();
    fs::rename(at("val"), at("validation")).unwrap();
    let ended = train();
    assert!(
        ended.stderr.contains("there is \"train\", \"validation\": rename \"pets/validation\" to \"val\""),
        "{}",
        ended.stderr
    );
    fs::rename(at("validation"), sandbox.at("elsewhere")).unwrap();
    let ended = train();
    assert!(
        ended.stderr.contains("move some of the pictures of each class from \"train\" to \"test\""),
        "{}",
        ended.stderr
    );
    fs::rename(sandbox.at("elsewhere"), at("test")).unwrap();

    // Names that look the same: written as macOS writes them, and in another case.
    for class in ["caf\u{e9}", "cow", "Cow", "bird", "fish"] {
        fs::create_dir(at("train").join(class)).unwrap();
    }
    let ended = train();
    let told = "classes `Cow`, `bird`, `caf\u{e9}`, `cow`, `fish` have no pictures: put some there, or remove what is no class";
    assert!(ended.code == Some(1) && ended.stderr.contains(told), "{}", ended.stderr);
    for class in ["bird", "fish"] {
        fs::remove_dir(at("train").join(class)).unwrap();
    }
    for class in ["caf\u{e9}", "cow", "Cow"] {
        RgbImage::new(32, 32).save(at("train").join(class).join("0.png")).unwrap();
    }
    let ended = train();
    assert_eq!(
        ended.stderr.matches("classes `Cow` and `cow` are two, though they look the same").count(),
        1,
        "{}",
        ended.stderr
    );
    fs::remove_dir_all(sandbox.at("run")).unwrap();
    fs::create_dir(at("test/cafe\u{301}")).unwrap();
    let ended = train();
    assert!(
        ended.stderr.contains("its `caf\u{e9}` looks the same but is written otherwise"),
        "{}",
        ended.stderr
    );

    // CIFAR's version for Python, and its archive.
    fs::create_dir_all(sandbox.at("py/cifar-10-batches-py")).unwrap();
    fs::create_dir_all(sandbox.at("packed")).unwrap();
    fs::write(sandbox.at("packed/cifar-100-binary.tar.gz"), "x").unwrap();
    for (data, told) in [
        (
            "cifar10:py",
            "\"py/cifar-10-batches-py\" is of the version for Python, and the binary one is needed: download",
        ),
        (
            "cifar100:packed",
            "\"packed/cifar-100-binary.tar.gz\" is there, still packed: unpack it by tar -xzf",
        ),
    ] {
        let ended = sandbox.run(&format!("train --data {data} --out cifar"));
        assert!(ended.code == Some(1) && ended.stderr.contains(told), "{}", ended.stderr);
    }
}
