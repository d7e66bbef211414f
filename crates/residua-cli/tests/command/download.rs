//! `residua data download`, and data sets that are named without a folder.

use std::fs;

use crate::sandbox::{Ended, Sandbox};

const TRAIN: &str = "train --model preresnet8 --batch 8 --iterations 2 --threads 1";

fn run(sandbox: &Sandbox, line: &str) -> Ended {
    let output = sandbox.command(line).env("RESIDUA_DATA", sandbox.at("store")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_data_set_without_a_folder_is_found_where_downloads_go() {
    let sandbox = Sandbox::new();
    let ended = run(&sandbox, &format!("{TRAIN} --data cifar10"));
    assert_eq!(ended.code, Some(1));
    for part in ["store", "residua data download cifar10", "`cifar10:DIR`"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    fs::create_dir(sandbox.at("store")).unwrap();
    fs::rename(sandbox.at("data"), sandbox.at("store/cifar-10-batches-bin")).unwrap();
    let ended = run(&sandbox, &format!("{TRAIN} --data cifar10 --out run"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let recipe = fs::read_to_string(sandbox.at("run/recipe.toml")).unwrap();
    assert!(recipe.contains("source = \"cifar10\""), "{recipe}");
    assert_eq!(run(&sandbox, "eval --checkpoint run").code, Some(0));
    let ended = run(&sandbox, &format!("{TRAIN} --data cifar100"));
    assert!(ended.stderr.contains("residua data download cifar100"), "{}", ended.stderr);
    let ended = run(&sandbox, "data download cifar10");
    assert!(ended.code == Some(0) && ended.stderr.contains("it is there already"), "{ended:?}");
    assert_eq!(ended.stdout.trim(), sandbox.at("store").display().to_string());
}

#[test]
fn what_cannot_be_downloaded_is_told() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.at("file"), "").unwrap();
    for (line, code, part) in [
        ("data download cifar11", 2, "did you mean 'cifar10'?"),
        ("data download", 2, "<NAME>"),
        ("data download cifar10 --url nowhere", 1, "give another address with --url"),
        ("data download cifar10 --to file/deep", 1, "choose another folder with --to"),
    ] {
        let ended = run(&sandbox, line);
        assert!(ended.code == Some(code) && ended.stderr.contains(part), "{line}: {ended:?}");
    }
}
