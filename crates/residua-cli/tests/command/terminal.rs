//! What is shown where: on terminals of all kinds, and while work takes long.
#![cfg(unix)]

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::sandbox::Sandbox;

const RUN: &str = "train --data cifar10:data --model preresnet20 --batch 32 --iterations 12 --evaluate-every 6 \
    --lr 0.0987654321 --warmup none --threads 1 --out run";

/// What a terminal of this kind and so many columns gets from `residua` with this line; none without the tool that makes one.
fn on_terminal(sandbox: &Sandbox, kind: &str, columns: usize, line: &str) -> Option<String> {
    let inner = format!("stty rows 24 cols {columns}; exec {} {line}", env!("CARGO_BIN_EXE_residua"));
    let mut command = Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]).current_dir(sandbox.at("")).env("TERM", kind);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!("{output:?}"),
        Err(_) => {
            // Past the test's captured output, so that it is seen.
            let _ = writeln!(io::stderr(), "skipped: {kind} ({columns} columns), without the tool `script`");
            None
        }
    }
}

/// Without what only moves the cursor or colours.
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                let _ = characters.by_ref().skip(1).find(|character| character.is_ascii_alphabetic());
            }
            character => plain.push(character),
        }
    }
    plain
}

#[test]
fn a_terminal_that_shows_no_bar_gets_all_results() {
    let sandbox = Sandbox::new();
    let Some(shown) = on_terminal(&sandbox, "dumb", 80, RUN) else { return };
    for part in ["iteration 6: test error", "iteration 12: test error", "finished at iteration 12"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn the_bar_fits_into_its_terminal() {
    for columns in [40, 80, 132] {
        let sandbox = Sandbox::new();
        let Some(shown) = on_terminal(&sandbox, "xterm", columns, RUN) else { return };
        let plain = without_escapes(&shown);
        // Results are filled up to whole lines, with the bar behind them.
        let is_bar = |line: &&str| line.contains("/12 ") && !line.contains("iteration ");
        let bars: Vec<_> = plain.split(['\r', '\n']).filter(is_bar).collect();
        assert!(!bars.is_empty(), "{plain:?}");
        for bar in bars {
            assert!(bar.chars().count() <= columns, "{columns}: {bar:?}");
        }
        assert!(columns < 80 || plain.contains("images/s"), "{plain:?}");
    }
}

#[test]
fn what_takes_long_is_told() {
    let sandbox = Sandbox::new();
    sandbox.succeed(RUN);
    for (file, line) in [
        ("data_batch_1.bin", "train --data cifar10:data --model preresnet8 --iterations 2"),
        ("test_batch.bin", "eval --checkpoint run"),
        ("data_batch_2.bin", "propagate preresnet8 --data cifar10:data"),
        ("data_batch_3.bin", "train --resume run --iterations 20"),
    ] {
        let place = sandbox.at(format!("data/{file}"));
        let batch = fs::read(&place).unwrap();
        fs::remove_file(&place).unwrap();
        // Whoever reads it waits, as on a slow disk.
        assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
        let mut running = sandbox.start(line);
        running.wait_for("reading cifar10:data ...");
        running.kill();
        fs::remove_file(&place).unwrap();
        fs::write(&place, batch).unwrap();
    }
    let quick = sandbox.succeed("eval --checkpoint run");
    assert!(quick.stderr.is_empty(), "{}", quick.stderr);
}
