//! The normalisation of a training set, from its pixels (paper, section 5).

use std::ops::Add;

use rayon::prelude::*;
use residua_infer::normalisation::{Normalisation, NormalisationError, NormalisationKind};

use super::{dataset::Dataset, error::DataError, images::Images};

/// The normalisation of a training set: of all its images, or of 1,000 files spread evenly over a folder. Sums are
/// exact, so it is the same on every machine.
///
/// # Errors
///
/// [`DataError::Normalisation`] for a mean image of files, whose crops are all of other places;
/// [`DataError::TooManyUnreadable`] where too many files are found to be unreadable.
pub fn normalisation_of(kind: NormalisationKind, training: &Images) -> Result<Normalisation, DataError> {
    match (kind, training) {
        (NormalisationKind::PerChannel, Images::InMemory(dataset)) => {
            Ok(ChannelSums::of(dataset.pixels()).normalisation())
        }
        (NormalisationKind::PerChannel, Images::Files(_)) => per_channel_of_some(training),
        (NormalisationKind::PerPixelMean, Images::InMemory(dataset)) => Ok(per_pixel_mean(dataset)),
        (NormalisationKind::PerPixelMean, Images::Files(_)) => Err(NormalisationError {
            kind,
            problem: "crops of pictures of any size have no mean image, so take `channel` for a folder"
                .into(),
        }
        .into()),
    }
}

fn per_channel_of_some(training: &Images) -> Result<Normalisation, DataError> {
    let (images, sampled) = (training.len(), training.len().min(SAMPLED));
    let indices: Vec<usize> = (0..sampled).map(|k| k * images / sampled).collect();
    let sums: Vec<_> =
        indices.par_iter().map(|&index| Ok(ChannelSums::of(&training.image(index)?))).collect();
    let mut total = ChannelSums::default();
    for (index, sums) in indices.into_iter().zip(sums) {
        match sums {
            Ok(sums) => total = total + sums,
            Err(reason) => training.note_unreadable(index, reason)?,
        }
    }
    if total.pixels == 0 {
        let problem = format!("none of {sampled} pictures of {} can be read", training.name());
        return Err(NormalisationError { kind: NormalisationKind::PerChannel, problem }.into());
    }
    Ok(total.normalisation())
}

fn per_pixel_mean(training: &Dataset) -> Normalisation {
    let mut sums = vec![0u64; training.image_size()];
    for image in training.pixels().chunks_exact(training.image_size()) {
        sums.iter_mut().zip(image).for_each(|(sum, &pixel)| *sum += u64::from(pixel));
    }
    let count = training.len() as f64;
    Normalisation::PerPixelMean {
        mean: sums.into_iter().map(|sum| (sum as f64 / count / 255.0) as f32).collect(),
    }
}

/// Pictures of a folder that its normalisation is taken from.
const SAMPLED: usize = 1000;

/// Exact sums over the pixels of images.
#[derive(Clone, Copy, Debug, Default)]
struct ChannelSums {
    sum: [u64; 3],
    squares: [u64; 3],
    pixels: u64,
}

impl ChannelSums {
    fn of(pixels: &[u8]) -> Self {
        let (pixels, _) = pixels.as_chunks::<{ Dataset::CHANNELS }>();
        let mut sums = Self { pixels: pixels.len() as u64, ..Self::default() };
        for pixel in pixels {
            for (channel, &value) in pixel.iter().enumerate() {
                sums.sum[channel] += u64::from(value);
                sums.squares[channel] += u64::from(value) * u64::from(value);
            }
        }
        sums
    }

    fn normalisation(&self) -> Normalisation {
        let Self { sum, squares, pixels } = *self;
        let deviation = |channel: usize| {
            // n sum(x^2) - sum(x)^2 is n^2 times the variance, and exact.
            let (sum, squares) = (u128::from(sum[channel]), u128::from(squares[channel]));
            match u128::from(pixels) * squares - sum * sum {
                0 => 1.0,
                spread => ((spread as f64).sqrt() / pixels as f64 / 255.0) as f32,
            }
        };
        Normalisation::PerChannel {
            mean: sum.map(|sum| (sum as f64 / pixels as f64 / 255.0) as f32),
            deviation: [0, 1, 2].map(deviation),
        }
    }
}

impl Add for ChannelSums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let both = |a: [u64; 3], b: [u64; 3]| [0, 1, 2].map(|channel| a[channel] + b[channel]);
        Self {
            sum: both(self.sum, other.sum),
            squares: both(self.squares, other.squares),
            pixels: self.pixels + other.pixels,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;
    use crate::data::{Split, cifar10};

    fn images(images: &[[u8; 6]]) -> Images {
        Dataset::new("tiny", vec!["only".into()], (1, 2), images.concat(), vec![0; images.len()])
            .unwrap()
            .into()
    }

    fn apply(normalisation: &Normalisation, pixels: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; pixels.len()];
        normalisation.apply(pixels, &mut out);
        out
    }

    #[test]
    fn channels_are_centred_and_scaled() {
        // Red is 0 or 255 equally often, green is constant, blue has mean 51 and deviation 51.
        let training = images(&[[0, 9, 0, 255, 9, 102], [255, 9, 102, 0, 9, 0]]);
        let normalisation = normalisation_of(NormalisationKind::PerChannel, &training).unwrap();
        let mean = [0.5, 9.0 / 255.0, 0.2];
        assert_eq!(normalisation, Normalisation::PerChannel { mean, deviation: [0.5, 1.0, 0.2] });
        normalisation.check(1, 2).unwrap();
        assert_eq!(apply(&normalisation, &[0, 9, 51, 255, 9, 102]), [-1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn the_mean_image_is_subtracted() {
        let training = images(&[[0, 0, 0, 255, 10, 0], [255, 0, 102, 255, 20, 0]]);
        let normalisation = normalisation_of(NormalisationKind::PerPixelMean, &training).unwrap();
        let mean = vec![0.5, 0.0, 0.2, 1.0, 15.0 / 255.0, 0.0];
        assert_eq!(normalisation, Normalisation::PerPixelMean { mean });
        assert_eq!(apply(&normalisation, &[255, 255, 51, 255, 15, 0]), [0.5, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let message = normalisation.check(2, 2).unwrap_err().to_string();
        assert!(message.contains("`pixel-mean` cannot be used: its mean image has 6 numbers"), "{message}");
    }

    #[test]
    fn stored_and_read_again_it_is_the_same() {
        for kind in [NormalisationKind::PerChannel, NormalisationKind::PerPixelMean] {
            let normalisation =
                normalisation_of(kind, &images(&[[1, 2, 3, 40, 50, 77], [9, 99, 199, 3, 5, 7]])).unwrap();
            assert_eq!(normalisation.kind(), kind);
            let json = serde_json::to_string(&normalisation).unwrap();
            assert!(json.starts_with(&format!("{{\"kind\":\"{kind}\",\"mean\":[")), "{json}");
            assert_eq!(serde_json::from_str::<Normalisation>(&json).unwrap(), normalisation);
        }
    }

    #[test]
    fn pixels_come_back() {
        let training = [[1, 2, 3, 40, 50, 77], [9, 99, 199, 255, 5, 0]];
        for kind in [NormalisationKind::PerChannel, NormalisationKind::PerPixelMean] {
            let normalisation = normalisation_of(kind, &images(&training)).unwrap();
            for pixels in training {
                assert_eq!(normalisation.to_pixels(&apply(&normalisation, &pixels)), pixels);
            }
        }
    }

    #[test]
    fn cifar_10_has_the_published_statistics() {
        let Some(folder) = std::env::var_os("RESIDUA_CIFAR10") else {
            // Past the test's captured output, so that it is seen.
            let reason = "RESIDUA_CIFAR10 does not name the folder of CIFAR-10";
            writeln!(io::stderr(), "skipped: statistics of CIFAR-10 ({reason})").unwrap();
            return;
        };
        let training = Images::from(cifar10(folder.as_ref(), Split::Train).unwrap());
        assert_eq!(training.len(), 50_000);
        let Normalisation::PerChannel { mean, deviation } =
            normalisation_of(NormalisationKind::PerChannel, &training).unwrap()
        else {
            unreachable!("a kind makes its own normalisation");
        };
        for (found, published) in
            mean.iter().chain(&deviation).zip([0.4914, 0.4822, 0.4465, 0.2470, 0.2435, 0.2616])
        {
            assert!((found - published).abs() < 5e-5, "{found} against {published}");
        }
    }
}
