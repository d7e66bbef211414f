//! Shifting and scaling pixels so that the training images are centred at 0 (paper, section 5).

mod known;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use known::KnownNormalisation;

use crate::view::CHANNELS;
use crate::words;

/// How images are normalised: `channel` or `pixel-mean`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormalisationKind {
    /// Mean 0 and standard deviation 1 in every channel, as in the paper's reference code.
    #[default]
    PerChannel,
    /// Mean 0 at every pixel and channel, as in the CIFAR experiments of the first residual-network paper.
    PerPixelMean,
}

words!(NormalisationKind, "normalisation", {
    PerChannel => "channel": "mean and deviation of each channel",
    PerPixelMean => "pixel-mean": "mean of each pixel",
});

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
    /// A [`NormalisationError`] for a mean image of another size, for numbers that are not finite and for
    /// deviations that are not positive, which only a damaged file can hold.
    pub fn check(&self, height: usize, width: usize) -> Result<(), NormalisationError> {
        let problem = match self {
            Self::PerChannel { mean, deviation } => {
                let is_finite = mean.iter().chain(deviation).all(|x| x.is_finite());
                let is_sound = is_finite && deviation.iter().all(|&x| x > 0.0);
                (!is_sound).then(|| format!("means {mean:?} with deviations {deviation:?} make no sense"))
            }
            Self::PerPixelMean { mean } if mean.len() != height * width * CHANNELS => {
                Some(format!("its mean image has {} numbers, but an image is {height}x{width}x3", mean.len()))
            }
            Self::PerPixelMean { mean } => mean
                .iter()
                .position(|x| !x.is_finite())
                .map(|k| format!("number {k} of its mean image is {}", mean[k])),
        };
        match problem {
            Some(problem) => Err(NormalisationError { kind: self.kind(), problem }),
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
                let (pixels, _) = pixels.as_chunks::<CHANNELS>();
                let (out, _) = out.as_chunks_mut::<CHANNELS>();
                for (out, pixel) in out.iter_mut().zip(pixels) {
                    for channel in 0..CHANNELS {
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

    /// The pixels that an image was normalised from, `[height, width, channel]`: the inverse of [`apply`](Self::apply).
    pub fn to_pixels(&self, values: &[f32]) -> Vec<u8> {
        let pixel = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        match self {
            Self::PerChannel { mean, deviation } => {
                let channels = (0..CHANNELS).cycle();
                let unit = |(&value, channel): (&f32, usize)| value * deviation[channel] + mean[channel];
                values.iter().zip(channels).map(unit).map(pixel).collect()
            }
            Self::PerPixelMean { mean } => {
                values.iter().zip(mean).map(|(value, mean)| pixel(value + mean)).collect()
            }
        }
    }

    /// Normalises values of 0 to 1, `[height, width, channel]`, in place: what [`apply`](Self::apply) does to pixels.
    pub fn apply_to_units(&self, values: &mut [f32]) {
        match self {
            Self::PerChannel { mean, deviation } => {
                for pixel in values.as_chunks_mut::<CHANNELS>().0 {
                    for channel in 0..CHANNELS {
                        pixel[channel] = (pixel[channel] - mean[channel]) / deviation[channel];
                    }
                }
            }
            Self::PerPixelMean { mean } => {
                values.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
            }
        }
    }
}

fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

/// A normalisation that cannot be applied to images.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "normalisation `{kind}` cannot be used: {problem}; compute it from the training images of this data set"
)]
pub struct NormalisationError {
    /// Its kind.
    pub kind: NormalisationKind,
    /// What is wrong.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
