//! Any bytes as a file of CIFAR-10 or CIFAR-100: an error or a data set, never a panic. The first byte says which file.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use residua::data::{Split, cifar10, cifar100};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        fs::write(folder.path().join(name), whole(name)).unwrap();
    }
    folder
});

const FILES: [&str; 10] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
    "batches.meta.txt",
    "train.bin",
    "test.bin",
    "fine_label_names.txt",
];

/// What makes a small whole file of this name.
fn whole(name: &str) -> Vec<u8> {
    match name {
        "batches.meta.txt" => (0..10).map(|k| format!("class {k}\n")).collect::<String>().into_bytes(),
        "fine_label_names.txt" => (0..100).map(|k| format!("class {k}\n")).collect::<String>().into_bytes(),
        "train.bin" | "test.bin" => vec![3; 3074],
        _ => vec![3; 3073],
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    let name = FILES[usize::from(*which) % FILES.len()];
    let path = FOLDER.path().join(name);
    // A record's worth of pixels need not be found by chance.
    let bytes = if which & 0x80 == 0 { bytes.to_vec() } else { [bytes, &[0; 3071]].concat() };
    fs::write(&path, bytes).unwrap();
    for split in [Split::Train, Split::Test] {
        for dataset in [cifar10(FOLDER.path(), split), cifar100(FOLDER.path(), split)] {
            match dataset {
                Ok(dataset) => assert_eq!(dataset.pixels().len(), dataset.len() * 3072),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    fs::write(&path, whole(name)).unwrap();
});
