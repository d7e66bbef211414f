//! Too much asked for, and too little memory.

#[cfg(unix)]
use std::process::Command;

use crate::sandbox::Sandbox;

#[test]
fn absurd_sizes_are_refused_by_name() {
    let sandbox = Sandbox::new();
    for (line, named) in [
        ("train --batch 18446744073709551615", "--batch"),
        ("train --batch 9223372036854775807 --memory lean", "--batch"),
        ("train --batch 16777216 --model preresnet50", "make the batch smaller"),
        ("train --workers 100000", "--workers"),
        ("train --threads 100000", "--threads"),
        ("train --accumulate 18446744073709551615", "--accumulate"),
        ("train --width 18446744073709551615", "--width"),
        ("train --cutout 18446744073709551615", "--cutout"),
        ("train --iterations 18446744073709551616", "--iterations"),
        ("train --memory 99999999999999999999GiB", "--memory"),
        ("summary --size 4294967296x4294967296", "--size"),
        ("summary --batch 18446744073709551615", "--batch"),
        ("bench --batch 4294967295 --mode train", "make the batch smaller"),
        ("bench --batch 4294967295 --mode infer", "--batch"),
        (
            "bench --batch 4294967295 --size 4096x4096 --model preresnet50 --mode train",
            "make the batch smaller",
        ),
    ] {
        let ended = sandbox.run(line);
        assert_eq!(ended.code, Some(2), "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{line}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("bug"), "{}", ended.stderr);
    }
    // More than there is does no harm where nothing is taken for it.
    sandbox.succeed("summary --model preresnet50 --size 4096x4096 --batch 4294967295");
}

#[cfg(unix)]
#[test]
fn little_address_space_is_used_or_refused_in_a_line() {
    let sandbox = Sandbox::new();
    let mut has_run = false;
    for kibibytes in [200_000, 400_000, 700_000, 1_000_000, 2_000_000] {
        let limited = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
        let line = format!(
            "train --data cifar10:data --model preresnet20 --batch 64 --iterations 2 --warmup none --threads 2 --out run-{kibibytes}"
        );
        let running = sandbox.start_by(
            Command::new("sh")
                .args(["-c", &limited, env!("CARGO_BIN_EXE_residua")])
                .env("RUST_BACKTRACE", "0"),
            &line,
        );
        let ended = running.wait();
        let said = ended.stderr.trim().lines().last().unwrap_or_default().to_owned();
        match ended.code {
            Some(0) => has_run = true,
            Some(1 | 2) => assert!(
                said.starts_with("error: ") || said.contains("memory"),
                "{kibibytes}: {}",
                ended.stderr
            ),
            code => panic!("{kibibytes}: {code:?} {}", ended.stderr),
        }
        assert!(kibibytes < 2_000_000 || ended.code == Some(0), "{}", ended.stderr);
    }
    assert!(has_run);
}
