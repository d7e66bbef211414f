//! Any bytes as a picture: an error, or crops of the size asked for.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use residua::data::{Crops, View, read_image};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("picture");
    fs::write(&path, bytes).unwrap();
    for crops in [Crops::Centre, Crops::Ten] {
        let view = View { crops, ..View::square(24) };
        if let Ok(pixels) = read_image(&path, &view) {
            assert_eq!(pixels.len(), view.size());
        }
    }
});
