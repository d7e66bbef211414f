//! Turning images upside down.

use crate::data::dataset::Dataset;

/// Reverses the order of an image's rows, `[height, width, channel]`.
pub(super) fn flip_vertically<T>(image: &mut [T], width: usize) {
    let row = width * Dataset::CHANNELS;
    let (mut top, mut bottom) = (0, (image.len() / row).saturating_sub(1));
    while top < bottom {
        let (above, below) = image.split_at_mut(bottom * row);
        above[top * row..(top + 1) * row].swap_with_slice(&mut below[..row]);
        (top, bottom) = (top + 1, bottom - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_comes_first() {
        for rows in 0..5u8 {
            let image: Vec<u8> = (0..rows * 6).collect();
            let mut flipped = image.clone();
            flip_vertically(&mut flipped, 2);
            assert_eq!(flipped, image.chunks(6).rev().flatten().copied().collect::<Vec<u8>>());
        }
    }
}
