//! Training images that are mixed in pairs.

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};

/// How training images are mixed. Samples 2k and 2k + 1 of the stream are a pair; each is mixed with the other, and so are what they are to be
/// taken for ([`Mixture`](super::Mixture)). By default images are not mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// Mixup (Zhang et al., 2018): `(1 - s) x + s y` of whole images `x` and `y`, with `s` of Beta(alpha, alpha).
    pub mixup: Option<f64>,
    /// CutMix (Yun et al., 2019): in a box of the area `s` of Beta(alpha, alpha), of the image's shape and around a random pixel, the
    /// images are exchanged. Where the box leaves the image it is cut, and the share is that of what is left.
    pub cutmix: Option<f64>,
}

/// How a pair is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mix {
    /// All pixels, with this share of the other image.
    Whole(f64),
    /// The pixels of a box: rows and columns, the ends not in it.
    Box { rows: [usize; 2], columns: [usize; 2] },
}

impl Mixing {
    /// Whether any image is mixed.
    pub fn is_on(&self) -> bool {
        self.mixup.is_some() || self.cutmix.is_some()
    }

    /// How the next pair is mixed; where both ways are on, each is taken half of the time (as timm does).
    pub(super) fn draw(&self, height: usize, width: usize, random: &mut impl Rng) -> Option<Mix> {
        let is_cut = match (self.mixup, self.cutmix) {
            (None, None) => return None,
            (Some(_), Some(_)) => random.random_bool(0.5),
            (_, cutmix) => cutmix.is_some(),
        };
        let alpha = if is_cut { self.cutmix } else { self.mixup }?;
        let share: f64 = Beta::new(alpha, alpha).map_or(0.5, |shares| shares.sample(random));
        if !is_cut {
            return Some(Mix::Whole(share));
        }
        let scale = share.sqrt();
        let mut side = |length: usize| {
            let (middle, half) = (random.random_range(0..length) as f64, scale * length as f64 / 2.);
            [middle - half, middle + half].map(|end| end.round().clamp(0., length as f64) as usize)
        };
        Some(Mix::Box { rows: side(height), columns: side(width) })
    }
}

impl Mix {
    /// The part of an image `[height, width, channel]` that comes from the other one.
    pub(super) fn share(self, height: usize, width: usize) -> f64 {
        match self {
            Self::Whole(share) => share,
            Self::Box { rows, columns } => {
                let area = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                area as f64 / (height * width) as f64
            }
        }
    }

    /// Mixes two images, each into the other.
    pub(super) fn apply(self, width: usize, channels: usize, one: &mut [f32], other: &mut [f32]) {
        match self {
            Self::Whole(share) => {
                let share = share as f32;
                for (one, other) in one.iter_mut().zip(other) {
                    let difference = share * (*other - *one);
                    (*one, *other) = (*one + difference, *other - difference);
                }
            }
            Self::Box { rows: [first, end], columns } => {
                for row in first..end {
                    let [left, right] = columns.map(|column| (row * width + column) * channels);
                    one[left..right].swap_with_slice(&mut other[left..right]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn whole_images_are_mixed_by_shares_and_boxes_exchanged() {
        let (mut one, mut other) = (vec![1f32; 12], vec![5f32; 12]);
        Mix::Whole(0.25).apply(2, 3, &mut one, &mut other);
        assert_eq!((one, other), (vec![2.; 12], vec![4.; 12]));

        // Two rows of three pixels: of the second row the last two.
        let (mut one, mut other) = (vec![0f32; 6], vec![1f32; 6]);
        let mix = Mix::Box { rows: [1, 2], columns: [1, 3] };
        mix.apply(3, 1, &mut one, &mut other);
        assert_eq!((one, other), (vec![0., 0., 0., 0., 1., 1.], vec![1., 1., 1., 1., 0., 0.]));
        assert_eq!(mix.share(2, 3), 1. / 3.);
    }

    #[test]
    fn shares_are_of_the_beta_distribution() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let draws = 20_000;
        let mut shares = |mixing: Mixing| -> Vec<f64> {
            (0..draws).map(|_| mixing.draw(32, 32, &mut random).unwrap().share(32, 32)).collect()
        };
        let moments = |shares: &[f64]| {
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            (mean, shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64)
        };
        // Beta(alpha, alpha) has mean 1/2 and variance 1 / (4 (2 alpha + 1)).
        for alpha in [0.2, 1., 4.] {
            let (mean, variance) = moments(&shares(Mixing { mixup: Some(alpha), cutmix: None }));
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            assert!((variance - 1. / (4. * (2. * alpha + 1.))).abs() < 0.005, "{alpha}: {variance}");
        }
        // Boxes are cut at the borders, so they are smaller.
        let (mean, _) = moments(&shares(Mixing { mixup: None, cutmix: Some(1.) }));
        assert!(mean > 0.2 && mean < 0.4, "{mean}");
        let both = Mixing { mixup: Some(1.), cutmix: Some(1.) };
        let boxes =
            (0..1000).filter(|_| matches!(both.draw(32, 32, &mut random), Some(Mix::Box { .. }))).count();
        assert!((450..550).contains(&boxes), "{boxes}");
        assert_eq!(Mixing::default().draw(32, 32, &mut random), None);
    }
}
