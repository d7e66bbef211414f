//! Batch normalisation: what is known of it before a kernel runs, and what is summed while one runs.
//!
//! `norm(x) = scale * (x - mean) + shift` per channel, with `scale = gamma / sqrt(variance + epsilon)` and
//! `shift = beta`. The mean is subtracted first: folded into the shift it would cancel digits where it is large.
//!
//! Statistics are taken per image, of differences to the image's first pixel, and combined in f64: a mean of a
//! thousand deviations costs no digits. With `g` the gradient of `norm(x)` over `m` pixels, the gradient of `x` is
//!
//! ```text
//! scale * (g - sum(g) / m - (x - mean) / (variance + epsilon) * sum(g * (x - mean)) / m)
//!     = scale * g + slope * (x - mean) + offset
//! ```
//!
//! so two sums, taken while `g` is made, are all that is needed to finish it in whatever pass comes next.

use crate::instructions::{Instructions, Task};
use crate::map::{MapShape, padded};
use crate::vector::Vector;

/// Normalisation of the channels of a feature map, for one or more groups of consecutive images.
#[derive(Debug, Clone)]
pub struct Normalisation {
    channels: usize,
    groups: usize,
    /// This and the others: `[groups, padded channels]`, zero in the padding.
    pub(crate) mean: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    /// `1 / (variance + epsilon)`
    precision: Vec<f64>,
}

impl Normalisation {
    /// `gamma * (x - mean) / sqrt(variance + epsilon) + beta`.
    ///
    /// `moments`: `[groups, 2, channels]`, mean and biased variance of each group; `gamma`, `beta`: `[channels]`.
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub fn new(moments: &[f32], gamma: &[f32], beta: &[f32], epsilon: f64) -> Self {
        let channels = gamma.len();
        assert_eq!(beta.len(), channels, "gamma and beta");
        assert!(moments.len().is_multiple_of(2 * channels), "moments are [groups, 2, channels]");
        let groups = moments.len() / (2 * channels);
        let pitch = padded(channels);
        let mut norm = Self {
            channels,
            groups,
            mean: vec![0.; groups * pitch],
            scale: vec![0.; groups * pitch],
            shift: vec![0.; groups * pitch],
            precision: vec![0.; groups * pitch],
        };
        for (group, moments) in moments.chunks_exact(2 * channels).enumerate() {
            let (mean, variance) = moments.split_at(channels);
            for channel in 0..channels {
                let at = group * pitch + channel;
                let precision = 1. / (f64::from(variance[channel]) + epsilon);
                norm.mean[at] = mean[channel];
                norm.scale[at] = (f64::from(gamma[channel]) * precision.sqrt()) as f32;
                norm.shift[at] = beta[channel];
                norm.precision[at] = precision;
            }
        }
        norm
    }

    /// Channels of the map it normalises.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Groups of images with statistics of their own.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Images of `shape` that share statistics.
    ///
    /// # Panics
    /// When the map is not one that this normalises.
    pub(crate) fn group_size(&self, shape: MapShape) -> usize {
        assert_eq!(shape.channels, self.channels, "channels of the map and of its normalisation");
        assert!(shape.batch.is_multiple_of(self.groups), "{} images in {} groups", shape.batch, self.groups);
        shape.batch / self.groups
    }
}

/// What the backward pass of a normalisation has to know before it can finish the input's gradient, and the gradients of
/// its parameters.
#[derive(Debug, Clone)]
pub struct NormalisationGradient {
    /// Gradient of gamma, `[channels]`.
    pub gamma: Vec<f32>,
    /// Gradient of beta, `[channels]`.
    pub beta: Vec<f32>,
    /// This and the next: `[groups, padded channels]`.
    pub(crate) slope: Vec<f32>,
    pub(crate) offset: Vec<f32>,
}

/// Per image: the first pixel, sum and sum of squares of the differences to it.
pub(crate) const STATISTICS: usize = 3;
/// Per image: the sums of `g` and of `g * (x - mean)`.
pub(crate) const SUMS: usize = 2;

/// Mean and biased variance `[groups, 2, channels]` from the statistics of every image,
/// `[batch][STATISTICS][padded channels]`.
pub(crate) fn moments(
    shape: MapShape,
    partial: &[f32],
    groups: usize,
    moments: &mut [f32],
    instructions: Instructions,
) {
    let MapShape { batch, channels, .. } = shape;
    assert!(groups > 0 && batch.is_multiple_of(groups), "{batch} images in {groups} groups");
    assert_eq!(moments.len(), groups * 2 * channels, "moments are [groups, 2, channels]");
    instructions.run(Moments { shape, partial, groups, moments });
}

/// Statistics of images becoming those of their groups.
struct Moments<'a> {
    shape: MapShape,
    partial: &'a [f32],
    groups: usize,
    moments: &'a mut [f32],
}

impl Task for Moments<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { shape, partial, groups, moments } = self;
        let MapShape { batch, channels, .. } = shape;
        let pitch = padded(channels);
        let pixels = shape.pixels() as f64;
        let (mut mean, mut spread) = (vec![0f64; channels], vec![0f64; channels]);
        let per_group = batch / groups * STATISTICS * pitch;
        for (group, moments) in partial.chunks_exact(per_group).zip(moments.chunks_exact_mut(2 * channels)) {
            mean.fill(0.);
            spread.fill(0.);
            for (image, partial) in group.chunks_exact(STATISTICS * pitch).enumerate() {
                let (first, rest) = partial.split_at(pitch);
                let (sum, square) = rest.split_at(pitch);
                // All of one length, so that the loop is free of checks.
                let (first, sum, square) = (&first[..channels], &sum[..channels], &square[..channels]);
                let (mean, spread) = (&mut mean[..channels], &mut spread[..channels]);
                // The pooled mean and spread of `image` images and one more.
                let weight = 1. / (image + 1) as f64;
                let cross = pixels * image as f64 * weight;
                for channel in 0..channels {
                    let sum = f64::from(sum[channel]) / pixels;
                    let own_mean = f64::from(first[channel]) + sum;
                    let own_spread = (f64::from(square[channel]) - pixels * sum * sum).max(0.);
                    let difference = own_mean - mean[channel];
                    mean[channel] += difference * weight;
                    // `max` hides NaN, which a spread of NaN would otherwise show.
                    let own_spread = if square[channel].is_nan() { f64::NAN } else { own_spread };
                    spread[channel] += own_spread + difference * difference * cross;
                }
            }
            let count = (batch / groups) as f64 * pixels;
            let (means, variances) = moments.split_at_mut(channels);
            for channel in 0..channels {
                means[channel] = mean[channel] as f32;
                variances[channel] = (spread[channel] / count) as f32;
            }
        }
    }
}

impl NormalisationGradient {
    /// From the sums of every image, `[batch][SUMS][padded channels]`. Where the statistics are constants (running
    /// ones) slope and offset are zero.
    pub(crate) fn new(
        shape: MapShape,
        norm: &Normalisation,
        partial: &[f32],
        statistics_are_constant: bool,
    ) -> Self {
        let group_size = norm.group_size(shape);
        let (channels, pitch) = (shape.channels, padded(shape.channels));
        let count = (group_size * shape.pixels()) as f64;
        let (mut gamma, mut beta) = (vec![0f64; channels], vec![0f64; channels]);
        let mut slope = vec![0.; norm.groups * pitch];
        let mut offset = vec![0.; norm.groups * pitch];
        let (mut sum, mut product) = (vec![0f64; channels], vec![0f64; channels]);
        for (group, partial) in partial.chunks_exact(group_size * SUMS * pitch).enumerate() {
            sum.fill(0.);
            product.fill(0.);
            for image in partial.chunks_exact(SUMS * pitch) {
                let (sums, products) = image.split_at(pitch);
                for (sum, value) in sum.iter_mut().zip(sums) {
                    *sum += f64::from(*value);
                }
                for (product, value) in product.iter_mut().zip(products) {
                    *product += f64::from(*value);
                }
            }
            for channel in 0..channels {
                let at = group * pitch + channel;
                let precision = norm.precision[at];
                beta[channel] += sum[channel];
                gamma[channel] += product[channel] * precision.sqrt();
                if !statistics_are_constant {
                    let scale = f64::from(norm.scale[at]);
                    slope[at] = (-scale * precision * product[channel] / count) as f32;
                    offset[at] = (-scale * sum[channel] / count) as f32;
                }
            }
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Self { gamma: narrow(gamma), beta: narrow(beta), slope, offset }
    }
}
