//! Help texts and completions list the words that the parser takes, each with what it means.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::Sandbox;

/// A help text in one line, so that it does not matter where it was broken.
fn help(line: &str) -> String {
    let text = Sandbox::new().succeed(line).stdout;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_word_is_listed_with_what_it_means() {
    let train = help("train --help");
    for part in [
        "- preact: BN ReLU W BN ReLU W, addition: full pre-activation",
        "- scale:S,F: S times the signal, F times the branch, such as scale:0.5,0.5",
        "- cifar10: cifar10[:DIR]: from where downloads go",
        "- scale-aspect: a random part of 8 to 100 %",
        "- trivial: TrivialAugment Wide: one of fourteen operations",
        "- cuda: cuda[:N]: the NVIDIA GPU of index N",
        "- auto: the fastest of the following that fits",
        "- lean: the input of every k-th unit",
        "- quick: a few minutes on the built-in images",
    ] {
        assert!(train.contains(part), "{part} is not in {train}");
    }
    let short = help("train -h");
    assert!(
        short.contains("[possible values: original, bn-after-add, relu-before-add, relu-preact, preact]")
    );
    assert!(help("paper run --help").contains("- deep: 3,000 iterations at the paper's depths"));
    assert!(help("paper list --help").contains("- fig3: Figure 3"));
    assert!(help("eval --help").contains("- 10: the middle and four corners"));
    assert!(help("explain --help").contains("- cam: class activation map"));
    assert!(help("data preview --help").contains("- trivial: TrivialAugment Wide"));
    assert!(help("features --help").contains("- npy: an array of NumPy"));
}

#[test]
fn completions_offer_the_words() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.succeed(&format!("completions {shell}")).stdout;
        for word in ["relu-before-add", "exclusive-gate", "scale-aspect", "balanced", "imagenet"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn the_process_that_cost_measures_in_is_for_cost_alone() {
    assert!(!help("--help").contains("measure "));
    let sandbox = Sandbox::new();
    let mut process = sandbox
        .command("measure")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"{}").unwrap();
    let output = process.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: standard input holds no request"), "{stderr}");
}
