//! Shifting and scaling pixels so that the training images are centred at 0 (paper, section 5).

use serde::{Deserialize, Serialize};

use super::{dataset::Dataset, error::DataError};
use crate::choice::words;

/// How images are normalised: `channel` or `pixel-mean`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormalisationKind {
    /// Mean 0 and standard deviation 1 in every channel, as in the paper's reference code.
    #[default]
    PerChannel,
    /// Mean 0 at every pixel and channel, as in the CIFAR experiments of the first residual-network paper.
    PerPixelMean,
}

words!(NormalisationKind, "normalisation", { PerChannel => "channel", PerPixelMean => "pixel-mean" });

/// What maps pixels to a network's input. It belongs to the weights trained with it and is stored beside
/// them.
///
/// All numbers are in units of pixel / 255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Normalisation {
    /// `(pixel / 255 - mean[channel]) / deviation[channel]`.
    #[serde(rename = "channel")]
    PerChannel {
        /// Mean of each channel.
        mean: [f32; 3],
        /// Standard deviation of each channel (dividing by the number of pixels); 1 for a constant channel.
        deviation: [f32; 3],
    },
    /// `pixel / 255 - mean[row, column, channel]`.
    #[serde(rename = "pixel-mean")]
    PerPixelMean {
        /// Mean image, `[height, width, channel]`.
        mean: Vec<f32>,
    },
}

impl Normalisation {
    /// The normalisation of a training set. Sums are exact, so it is the same on every machine.
    pub fn of(kind: NormalisationKind, training: &Dataset) -> Self {
        match kind {
            NormalisationKind::PerChannel => Self::per_channel(training),
            NormalisationKind::PerPixelMean => Self::per_pixel_mean(training),
        }
    }

    /// Which normalisation this is.
    pub fn kind(&self) -> NormalisationKind {
        match self {
            Self::PerChannel { .. } => NormalisationKind::PerChannel,
            Self::PerPixelMean { .. } => NormalisationKind::PerPixelMean,
        }
    }

    /// Whether images of `height` x `width` can be normalised.
    ///
    /// # Errors
    ///
    /// [`DataError::Normalisation`] for a mean image of another size, for numbers that are not finite and for
    /// deviations that are not positive, which only a damaged file can hold.
    pub fn check(&self, height: usize, width: usize) -> Result<(), DataError> {
        let problem = match self {
            Self::PerChannel { mean, deviation } => {
                let is_finite = mean.iter().chain(deviation).all(|x| x.is_finite());
                let is_sound = is_finite && deviation.iter().all(|&x| x > 0.0);
                (!is_sound).then(|| format!("means {mean:?} with deviations {deviation:?} make no sense"))
            }
            Self::PerPixelMean { mean } if mean.len() != height * width * Dataset::CHANNELS => {
                Some(format!("its mean image has {} numbers, but an image is {height}x{width}x3", mean.len()))
            }
            Self::PerPixelMean { mean } => mean
                .iter()
                .position(|x| !x.is_finite())
                .map(|k| format!("number {k} of its mean image is {}", mean[k])),
        };
        match problem {
            Some(problem) => Err(DataError::Normalisation { kind: self.kind().as_str(), problem }),
            None => Ok(()),
        }
    }

    /// Writes the normalised pixels of an image, `[height, width, channel]`, to `out`.
    ///
    /// # Panics
    ///
    /// If `out` is not as long as `pixels`, or a mean image is of another size (see [`check`](Self::check)).
    pub fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len(), "an image and its normalised copy are of one size");
        match self {
            Self::PerChannel { mean, deviation } => {
                let (pixels, _) = pixels.as_chunks::<{ Dataset::CHANNELS }>();
                let (out, _) = out.as_chunks_mut::<{ Dataset::CHANNELS }>();
                for (out, pixel) in out.iter_mut().zip(pixels) {
                    for channel in 0..Dataset::CHANNELS {
                        out[channel] = (unit(pixel[channel]) - mean[channel]) / deviation[channel];
                    }
                }
            }
            Self::PerPixelMean { mean } => {
                assert_eq!(mean.len(), pixels.len(), "the mean image is of the images' size");
                for ((out, &pixel), mean) in out.iter_mut().zip(pixels).zip(mean) {
                    *out = unit(pixel) - mean;
                }
            }
        }
    }

    fn per_channel(training: &Dataset) -> Self {
        let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
        for pixel in training.pixels().as_chunks::<{ Dataset::CHANNELS }>().0 {
            for channel in 0..Dataset::CHANNELS {
                sum[channel] += u64::from(pixel[channel]);
                squares[channel] += u64::from(pixel[channel]) * u64::from(pixel[channel]);
            }
        }
        let count = (training.pixels().len() / Dataset::CHANNELS) as u64;
        let deviation = |channel: usize| {
            // n sum(x^2) - sum(x)^2 is n^2 times the variance, and exact.
            let (sum, squares) = (u128::from(sum[channel]), u128::from(squares[channel]));
            match u128::from(count) * squares - sum * sum {
                0 => 1.0,
                spread => ((spread as f64).sqrt() / count as f64 / 255.0) as f32,
            }
        };
        Self::PerChannel {
            mean: sum.map(|sum| (sum as f64 / count as f64 / 255.0) as f32),
            deviation: [0, 1, 2].map(deviation),
        }
    }

    fn per_pixel_mean(training: &Dataset) -> Self {
        let mut sums = vec![0u64; training.image_size()];
        for image in training.pixels().chunks_exact(training.image_size()) {
            sums.iter_mut().zip(image).for_each(|(sum, &pixel)| *sum += u64::from(pixel));
        }
        let count = training.len() as f64;
        Self::PerPixelMean { mean: sums.into_iter().map(|sum| (sum as f64 / count / 255.0) as f32).collect() }
    }
}

fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, cifar10};

    fn dataset(images: &[[u8; 6]]) -> Dataset {
        Dataset::new("tiny", vec!["only".into()], (1, 2), images.concat(), vec![0; images.len()]).unwrap()
    }

    fn apply(normalisation: &Normalisation, pixels: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; pixels.len()];
        normalisation.apply(pixels, &mut out);
        out
    }

    #[test]
    fn channels_are_centred_and_scaled() {
        // Red is 0 or 255 equally often, green is constant, blue has mean 51 and deviation 51.
        let training = dataset(&[[0, 9, 0, 255, 9, 102], [255, 9, 102, 0, 9, 0]]);
        let normalisation = Normalisation::of(NormalisationKind::PerChannel, &training);
        let mean = [0.5, 9.0 / 255.0, 0.2];
        assert_eq!(normalisation, Normalisation::PerChannel { mean, deviation: [0.5, 1.0, 0.2] });
        normalisation.check(1, 2).unwrap();
        assert_eq!(apply(&normalisation, &[0, 9, 51, 255, 9, 102]), [-1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn the_mean_image_is_subtracted() {
        let training = dataset(&[[0, 0, 0, 255, 10, 0], [255, 0, 102, 255, 20, 0]]);
        let normalisation = Normalisation::of(NormalisationKind::PerPixelMean, &training);
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
                Normalisation::of(kind, &dataset(&[[1, 2, 3, 40, 50, 77], [9, 99, 199, 3, 5, 7]]));
            assert_eq!(normalisation.kind(), kind);
            let json = serde_json::to_string(&normalisation).unwrap();
            assert!(json.starts_with(&format!("{{\"kind\":\"{kind}\",\"mean\":[")), "{json}");
            assert_eq!(serde_json::from_str::<Normalisation>(&json).unwrap(), normalisation);
        }
    }

    #[test]
    fn damaged_numbers_are_refused() {
        for deviation in [[1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [f32::NAN, 1.0, 1.0], [1.0, 1.0, f32::INFINITY]]
        {
            assert!(
                Normalisation::PerChannel { mean: [0.0; 3], deviation }.check(1, 1).is_err(),
                "{deviation:?}"
            );
        }
        assert!(Normalisation::PerPixelMean { mean: vec![0.0, f32::NAN, 0.0] }.check(1, 1).is_err());
    }

    #[test]
    fn kinds_are_read_and_written_alike() {
        for (text, kind) in
            [("channel", NormalisationKind::default()), ("pixel-mean", NormalisationKind::PerPixelMean)]
        {
            assert_eq!((text.parse::<NormalisationKind>().unwrap(), kind.to_string().as_str()), (kind, text));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<NormalisationKind>(&format!("\"{text}\"")).unwrap(), kind);
        }
        let message = "pixelmean".parse::<NormalisationKind>().unwrap_err().to_string();
        assert!(
            message.contains("(did you mean 'pixel-mean'?); choose one of: channel, pixel-mean"),
            "{message}"
        );
    }

    #[test]
    fn cifar_10_has_the_published_statistics() {
        let Some(folder) = std::env::var_os("RESIDUA_CIFAR10") else {
            println!("skipped: RESIDUA_CIFAR10 does not name the folder of CIFAR-10");
            return;
        };
        let training = cifar10(folder.as_ref(), Split::Train).unwrap();
        assert_eq!(training.len(), 50_000);
        let Normalisation::PerChannel { mean, deviation } =
            Normalisation::of(NormalisationKind::PerChannel, &training)
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
