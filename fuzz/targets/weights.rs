//! Any bytes as a weight file, PyTorch's or safetensors: an error or tensors, never a panic, and never more memory than the file could fill.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use residua::infer::StoredWeights;
use residua::infer::foreign::Description;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|input: &[u8]| {
    let path = FOLDER.path().join("weights.pth");
    fs::write(&path, input).unwrap();
    if let Ok(weights) = StoredWeights::read(&path) {
        let values: usize = weights.tensors.values().map(|tensor| tensor.values.len()).sum();
        assert!(values <= 4 * input.len(), "{values} values out of {} bytes", input.len());
        let _ = weights.recognised(&Description::default());
    }
});
