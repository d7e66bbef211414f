//! Shifting and scaling pixels so that the training images are centred at 0 (paper, section 5).

use std::ops::Add;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{dataset::Dataset, error::DataError, images::Images};
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
    /// The normalisation of a training set: of all its images, or of 1,000 files spread evenly over a folder. Sums are
    /// exact, so it is the same on every machine.
    ///
    /// # Errors
    ///
    /// [`DataError::Normalisation`] for a mean image of files, whose crops are all of other places;
    /// [`DataError::TooManyUnreadable`] where too many files are found to be unreadable.
    pub fn of(kind: NormalisationKind, training: &Images) -> Result<Self, DataError> {
        match (kind, training) {
            (NormalisationKind::PerChannel, Images::InMemory(dataset)) => {
                Ok(ChannelSums::of(dataset.pixels()).normalisation())
            }
            (NormalisationKind::PerChannel, Images::Files(_)) => Self::per_channel_of_some(training),
            (NormalisationKind::PerPixelMean, Images::InMemory(dataset)) => Ok(Self::per_pixel_mean(dataset)),
            (NormalisationKind::PerPixelMean, Images::Files(_)) => Err(DataError::Normalisation {
                kind: kind.as_str(),
                problem: "crops of pictures of any size have no mean image, so take `channel` for a folder"
                    .into(),
            }),
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

    /// The pixels that an image was normalised from, `[height, width, channel]`: the inverse of [`apply`](Self::apply).
    pub fn to_pixels(&self, values: &[f32]) -> Vec<u8> {
        let pixel = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        match self {
            Self::PerChannel { mean, deviation } => {
                let channels = (0..Dataset::CHANNELS).cycle();
                let unit = |(&value, channel): (&f32, usize)| value * deviation[channel] + mean[channel];
                values.iter().zip(channels).map(unit).map(pixel).collect()
            }
            Self::PerPixelMean { mean } => {
                values.iter().zip(mean).map(|(value, mean)| pixel(value + mean)).collect()
            }
        }
    }

    /// Normalises values of 0 to 1, `[height, width, channel]`, in place: what [`apply`](Self::apply) does to pixels.
    pub(super) fn apply_to_units(&self, values: &mut [f32]) {
        match self {
            Self::PerChannel { mean, deviation } => {
                for pixel in values.as_chunks_mut::<{ Dataset::CHANNELS }>().0 {
                    for channel in 0..Dataset::CHANNELS {
                        pixel[channel] = (pixel[channel] - mean[channel]) / deviation[channel];
                    }
                }
            }
            Self::PerPixelMean { mean } => {
                values.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
            }
        }
    }

    fn per_channel_of_some(training: &Images) -> Result<Self, DataError> {
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
            return Err(DataError::Normalisation { kind: NormalisationKind::PerChannel.as_str(), problem });
        }
        Ok(total.normalisation())
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

fn unit(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

#[cfg(test)]
mod tests {
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
        let normalisation = Normalisation::of(NormalisationKind::PerChannel, &training).unwrap();
        let mean = [0.5, 9.0 / 255.0, 0.2];
        assert_eq!(normalisation, Normalisation::PerChannel { mean, deviation: [0.5, 1.0, 0.2] });
        normalisation.check(1, 2).unwrap();
        assert_eq!(apply(&normalisation, &[0, 9, 51, 255, 9, 102]), [-1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn the_mean_image_is_subtracted() {
        let training = images(&[[0, 0, 0, 255, 10, 0], [255, 0, 102, 255, 20, 0]]);
        let normalisation = Normalisation::of(NormalisationKind::PerPixelMean, &training).unwrap();
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
                Normalisation::of(kind, &images(&[[1, 2, 3, 40, 50, 77], [9, 99, 199, 3, 5, 7]])).unwrap();
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
            let normalisation = Normalisation::of(kind, &images(&training)).unwrap();
            for pixels in training {
                assert_eq!(normalisation.to_pixels(&apply(&normalisation, &pixels)), pixels);
            }
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
        let training = Images::from(cifar10(folder.as_ref(), Split::Train).unwrap());
        assert_eq!(training.len(), 50_000);
        let Normalisation::PerChannel { mean, deviation } =
            Normalisation::of(NormalisationKind::PerChannel, &training).unwrap()
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
