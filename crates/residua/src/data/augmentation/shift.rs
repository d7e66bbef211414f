//! The paper's augmentation for CIFAR: pad, crop at random, mirror at random, nothing else (paper, section
//! 5).

use rand::{Rng, RngExt};

use crate::data::dataset::Dataset;

/// Mirrors an image with probability 1/2, pads it on all sides and crops it to its old size, or to less, at a random
/// position.
///
/// Images are normalised first and padded with zeros then, as in the paper's reference code
/// (fb.resnet.torch), so the border has the mean colour of the training images rather than black.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    /// Zero pixels added on every side; 4 in the paper.
    pub(super) padding: u8,
}

impl Default for Shift {
    fn default() -> Self {
        Self { padding: 4 }
    }
}

impl Shift {
    /// Crops that lie in the image.
    pub(super) const INSIDE: Self = Self { padding: 0 };

    /// Writes an augmented copy of a normalised image of rows of `width` pixels, `[height, width, channel]`, to `out`, which is of
    /// `size`, its height and width, at most the image's. It is mirrored at random unless that is decided.
    ///
    /// Three numbers are drawn from `random`, in this order: whether to mirror, and the left and top edge of
    /// the crop in the padded image, each uniform over where it lies in it.
    ///
    /// # Panics
    ///
    /// If `image` or `out` is not of these sizes x 3.
    pub(super) fn apply(
        &self,
        image: &[f32],
        width: usize,
        size: [usize; 2],
        is_mirrored: Option<bool>,
        random: &mut impl Rng,
        out: &mut [f32],
    ) {
        let height = image.len() / (width * Dataset::CHANNELS);
        let [of_height, of_width] = size;
        assert_eq!(image.len(), height * width * Dataset::CHANNELS);
        assert_eq!(out.len(), of_height * of_width * Dataset::CHANNELS);
        let padding = usize::from(self.padding);
        // What is decided uses up its number, too.
        let drawn = random.random_bool(0.5);
        let is_mirrored = is_mirrored.unwrap_or(drawn);
        let mut edge = |side: usize, of_side: usize| {
            random.random_range(0..=(side - of_side + 2 * padding) as u32) as usize
        };
        let view = View { is_mirrored, left: edge(width, of_width), top: edge(height, of_height) };
        self.crop(image, width, of_width, view, out);
    }

    fn crop(&self, image: &[f32], width: usize, of_width: usize, view: View, out: &mut [f32]) {
        let padding = usize::from(self.padding);
        // The columns of the crop that lie on the image, and where in the (mirrored) image they begin and
        // end.
        let start = padding.saturating_sub(view.left).min(of_width);
        let end = (width + padding).saturating_sub(view.left).clamp(start, of_width);
        let (from, to) = match start == end {
            true => (0, 0),
            false => (start + view.left - padding, end + view.left - padding),
        };
        let (image, _) = image.as_chunks::<{ Dataset::CHANNELS }>();
        let (out, _) = out.as_chunks_mut::<{ Dataset::CHANNELS }>();
        out.fill([0.0; Dataset::CHANNELS]);
        for (row, out) in out.chunks_exact_mut(of_width).enumerate() {
            let Some(row) = (row + view.top).checked_sub(padding) else { continue };
            let Some(line) = image.get(row * width..(row + 1) * width) else { break };
            let out = &mut out[start..end];
            if view.is_mirrored {
                let mirrored = line[width - to..width - from].iter().rev();
                out.iter_mut().zip(mirrored).for_each(|(out, pixel)| *out = *pixel);
            } else {
                out.copy_from_slice(&line[from..to]);
            }
        }
    }
}

/// Which part of a padded image is seen, and whether the image was mirrored before.
#[derive(Clone, Copy, Debug)]
struct View {
    is_mirrored: bool,
    left: usize,
    top: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::random_stream::{Purpose, random_stream};

    /// Crops an image whose pixel values are given once, for all three channels in turn shifted by 100.
    fn crop(shift: Shift, values: &[f32], width: usize, view: View) -> Vec<f32> {
        let spread = |&value: &f32| [value, value + 100.0, value + 200.0];
        let image: Vec<f32> = values.iter().flat_map(spread).collect();
        let mut out = vec![f32::NAN; image.len()];
        shift.crop(&image, width, width, view, &mut out);
        for pixel in out.chunks_exact(3).filter(|pixel| pixel[0] != 0.0) {
            assert_eq!(pixel, spread(&pixel[0]));
        }
        out.into_iter().step_by(3).collect()
    }

    #[test]
    fn crops_and_mirrors_are_exact() {
        let (shift, image) = (Shift { padding: 1 }, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        for (is_mirrored, left, top, expected) in [
            (false, 1, 1, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            (true, 1, 1, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]),
            (false, 0, 1, [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]),
            (false, 2, 1, [2.0, 3.0, 0.0, 5.0, 6.0, 0.0]),
            (false, 1, 0, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]),
            (false, 1, 2, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]),
            (true, 0, 0, [0.0, 0.0, 0.0, 0.0, 3.0, 2.0]),
            (true, 2, 2, [5.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
        ] {
            let view = View { is_mirrored, left, top };
            assert_eq!(crop(shift, &image, 3, view), expected, "{view:?}");
        }
    }

    #[test]
    fn every_view_is_drawn() {
        let shift = Shift { padding: 1 };
        let image: Vec<f32> = (1..=4 * 4 * 3).map(|k| k as f32).collect();
        let mut views: Vec<Vec<u32>> = Vec::new();
        for sample in 0..500 {
            let mut out = vec![0.0; image.len()];
            let mut random = random_stream(0, Purpose::Augmentation, sample);
            shift.apply(&image, 4, [4, 4], None, &mut random, &mut out);
            views.push(out.into_iter().map(f32::to_bits).collect());
        }
        views.sort_unstable();
        views.dedup();
        assert_eq!(views.len(), 2 * 3 * 3);
    }

    #[test]
    fn small_crops_lie_in_the_image() {
        // Each pixel says where it is.
        let (height, width) = (5, 6);
        let image: Vec<f32> = (0..height * width * 3).map(|k| (k / 3 + 1) as f32).collect();
        let mut views = std::collections::BTreeSet::new();
        for sample in 0..500 {
            let mut out = vec![0.0; 2 * 3 * 3];
            let mut random = random_stream(0, Purpose::Augmentation, sample);
            let is_mirrored = [None, Some(false), Some(true)][sample as usize % 3];
            Shift::INSIDE.apply(&image, width, [2, 3], is_mirrored, &mut random, &mut out);
            let pixels: Vec<usize> = out.iter().step_by(3).map(|value| *value as usize).collect();
            let was_mirrored = pixels[0] > pixels[1];
            assert!(is_mirrored.is_none_or(|decided| decided == was_mirrored));
            let first = if was_mirrored { pixels[2] } else { pixels[0] };
            let mut expected =
                [first, first + 1, first + 2, first + width, first + width + 1, first + width + 2];
            if was_mirrored {
                expected.chunks_exact_mut(3).for_each(<[_]>::reverse);
            }
            assert_eq!(pixels, expected);
            views.insert((first, was_mirrored));
        }
        assert_eq!(views.len(), 2 * 4 * 4);
    }

    proptest! {
        #[test]
        fn a_crop_is_the_padded_image_seen_through_a_window(
            height in 1..6usize, width in 1..6usize, padding in 0..8u8, is_mirrored: bool, left in 0..16usize,
            top in 0..16usize,
        ) {
            let edge = usize::from(padding);
            let view = View { is_mirrored, left: left.min(2 * edge), top: top.min(2 * edge) };
            let values: Vec<f32> = (1..=height * width).map(|k| k as f32).collect();
            let found = crop(Shift { padding }, &values, width, view);
            for row in 0..height {
                for column in 0..width {
                    let y = (row + view.top).wrapping_sub(edge);
                    let x = (column + view.left).wrapping_sub(edge);
                    let expected = match (y < height && x < width, is_mirrored) {
                        (false, _) => 0.0,
                        (true, false) => values[y * width + x],
                        (true, true) => values[y * width + width - 1 - x],
                    };
                    prop_assert_eq!(found[row * width + column], expected);
                }
            }
        }
    }
}
