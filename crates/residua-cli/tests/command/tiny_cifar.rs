//! A CIFAR-10 of 80 training and 24 test images, in the official layout.

use std::fs;
use std::path::Path;

/// Training images.
pub(crate) const TRAIN: usize = 80;
/// Test images.
pub(crate) const TEST: usize = 24;

/// A label and three planes of 32x32 pixels.
pub(crate) const RECORD: usize = 1 + 3 * 32 * 32;

/// Writes the six files into a new folder.
pub(crate) fn write_tiny_cifar(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for number in 1..=5 {
        fs::write(folder.join(format!("data_batch_{number}.bin")), records(TRAIN / 5, number)).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), records(TEST, 6)).unwrap();
}

/// Noise that is brighter from class to class, so that there is something to learn.
fn records(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 25) as u8
    };
    let mut bytes = Vec::with_capacity(count * RECORD);
    for number in 0..count {
        let label = (number % 10) as u8;
        bytes.push(label);
        bytes.extend((1..RECORD).map(|_| 12 * label + noise()));
    }
    bytes
}
