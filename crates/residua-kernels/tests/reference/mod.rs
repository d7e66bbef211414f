//! The kernels' formulas in f64, as they are written.
#![allow(dead_code)]

mod magnitude;
mod weighted;

#[allow(unused_imports)]
pub(crate) use magnitude::*;
use residua_kernels::{MapShape, Normalisation};
#[allow(unused_imports)]
pub(crate) use weighted::*;

pub(crate) const EPSILON: f64 = 1e-5;

pub(crate) fn at(shape: MapShape, image: usize, row: usize, column: usize, channel: usize) -> usize {
    ((image * shape.height + row) * shape.width + column) * shape.channels + channel
}

/// Output channels first, as weights are stored: `[outputs, inputs, size, size]`.
pub(crate) fn convolve(
    input: MapShape,
    x: &[f64],
    outputs: usize,
    size: usize,
    stride: usize,
    weights: &[f64],
) -> Vec<f64> {
    let output = output_shape(input, outputs, stride);
    let mut y = vec![0.; output.len()];
    visit(input, output, size, stride, |at_y, at_x, at_w| y[at_y] += weights[at_w] * x[at_x]);
    y
}

pub(crate) fn data_gradient(
    input: MapShape,
    outputs: usize,
    size: usize,
    stride: usize,
    weights: &[f64],
    g: &[f64],
) -> Vec<f64> {
    let mut gradient = vec![0.; input.len()];
    let output = output_shape(input, outputs, stride);
    visit(input, output, size, stride, |at_y, at_x, at_w| gradient[at_x] += weights[at_w] * g[at_y]);
    gradient
}

pub(crate) fn weights_gradient(
    input: MapShape,
    x: &[f64],
    outputs: usize,
    size: usize,
    stride: usize,
    g: &[f64],
) -> Vec<f64> {
    let mut gradient = vec![0.; outputs * input.channels * size * size];
    let output = output_shape(input, outputs, stride);
    visit(input, output, size, stride, |at_y, at_x, at_w| gradient[at_w] += x[at_x] * g[at_y]);
    gradient
}

pub(crate) fn output_shape(input: MapShape, outputs: usize, stride: usize) -> MapShape {
    MapShape {
        batch: input.batch,
        height: input.height.div_ceil(stride),
        width: input.width.div_ceil(stride),
        channels: outputs,
    }
}

/// Every product of the sum: where its output, its input and its weight are.
fn visit(
    input: MapShape,
    output: MapShape,
    size: usize,
    stride: usize,
    mut product: impl FnMut(usize, usize, usize),
) {
    for image in 0..output.batch {
        for row in 0..output.height {
            for column in 0..output.width {
                for kernel_row in 0..size {
                    for kernel_column in 0..size {
                        let y = (row * stride + kernel_row).wrapping_sub(size / 2);
                        let x = (column * stride + kernel_column).wrapping_sub(size / 2);
                        if y >= input.height || x >= input.width {
                            continue;
                        }
                        for o in 0..output.channels {
                            for i in 0..input.channels {
                                product(
                                    at(output, image, row, column, o),
                                    at(input, image, y, x, i),
                                    ((o * input.channels + i) * size + kernel_row) * size + kernel_column,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `[groups, 2, channels]`: mean and biased variance.
pub(crate) fn moments(shape: MapShape, x: &[f64], groups: usize) -> Vec<f64> {
    let mut moments = vec![0.; groups * 2 * shape.channels];
    let per_group = shape.len() / groups;
    for (x, moments) in x.chunks(per_group).zip(moments.chunks_mut(2 * shape.channels)) {
        let count = (per_group / shape.channels) as f64;
        for channel in 0..shape.channels {
            let values = || x.iter().skip(channel).step_by(shape.channels);
            let mean = values().sum::<f64>() / count;
            moments[channel] = mean;
            moments[shape.channels + channel] = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        }
    }
    moments
}

/// Normalisation of `[groups, 2, channels]` moments; the maps' shape must be known to it.
#[derive(Clone)]
pub(crate) struct Norm {
    pub(crate) moments: Vec<f64>,
    pub(crate) gamma: Vec<f64>,
    pub(crate) beta: Vec<f64>,
}

impl Norm {
    fn per_group(&self, shape: MapShape) -> usize {
        shape.len() / (self.moments.len() / (2 * shape.channels))
    }

    pub(crate) fn apply(&self, shape: MapShape, x: &[f64]) -> Vec<f64> {
        x.iter()
            .enumerate()
            .map(|(at, x)| {
                let (mean, scale, channel) = self.constants(shape, at);
                (x - mean) * scale * self.gamma[channel] + self.beta[channel]
            })
            .collect()
    }

    fn constants(&self, shape: MapShape, at: usize) -> (f64, f64, usize) {
        let (group, channel) = (at / self.per_group(shape), at % shape.channels);
        let moments = &self.moments[group * 2 * shape.channels..];
        (moments[channel], 1. / (moments[shape.channels + channel] + EPSILON).sqrt(), channel)
    }

    /// Gradients of x, gamma and beta for the gradient `g` of `norm(x)`.
    pub(crate) fn backward(
        &self,
        shape: MapShape,
        x: &[f64],
        g: &[f64],
        is_constant: bool,
    ) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let groups = self.moments.len() / (2 * shape.channels);
        let count = (shape.len() / shape.channels / groups) as f64;
        let mut sums = vec![[0f64; 2]; groups * shape.channels];
        for at in 0..x.len() {
            let (mean, scale, channel) = self.constants(shape, at);
            let sums = &mut sums[at / self.per_group(shape) * shape.channels + channel];
            sums[0] += g[at];
            sums[1] += g[at] * (x[at] - mean) * scale;
        }
        let (mut gamma, mut beta) = (vec![0.; shape.channels], vec![0.; shape.channels]);
        for (index, [sum, product]) in sums.iter().enumerate() {
            beta[index % shape.channels] += sum;
            gamma[index % shape.channels] += product;
        }
        let gradient = (0..x.len())
            .map(|at| {
                let (mean, scale, channel) = self.constants(shape, at);
                let [sum, product] = sums[at / self.per_group(shape) * shape.channels + channel];
                let normalised = (x[at] - mean) * scale;
                let rest = if is_constant { 0. } else { (sum + normalised * product) / count };
                self.gamma[channel] * scale * (g[at] - rest)
            })
            .collect();
        (gradient, gamma, beta)
    }
}

pub(crate) fn relu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| if x < 0. { 0. } else { x }).collect()
}

/// `g` where `x` is above zero.
pub(crate) fn masked(g: &[f64], x: &[f64]) -> Vec<f64> {
    g.iter().zip(x).map(|(&g, &x)| if x <= 0. { 0. } else { g }).collect()
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

pub(crate) fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// Numbers of about unit variance, the same for the same seed.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| (uniform() + uniform() + uniform() - 1.5) * 2.).collect()
}

/// The largest difference, relative to the largest of the expected numbers.
pub(crate) fn difference(expected: &[f64], got: &[f32]) -> f64 {
    assert_eq!(expected.len(), got.len());
    let largest = expected.iter().fold(1e-30f64, |largest, x| largest.max(x.abs()));
    let difference = |(expected, &got): (&f64, &f32)| (expected - f64::from(got)).abs();
    let difference = expected.iter().zip(got).map(difference);
    difference.fold(0., |largest: f64, x| if x.is_nan() { f64::NAN } else { largest.max(x) }) / largest
}

/// A random normalisation by the map's own moments, for the kernels and for the reference.
pub(crate) fn normalise(shape: MapShape, x: &[f32], groups: usize, seed: u64) -> (Normalisation, Norm) {
    let moments = narrow(&moments(shape, &wide(x), groups));
    let (gamma, beta) = (random(shape.channels, seed), random(shape.channels, seed + 1));
    let norm = Normalisation::new(&moments, &gamma, &beta, EPSILON);
    (norm, Norm { moments: wide(&moments), gamma: wide(&gamma), beta: wide(&beta) })
}

/// `x + addend`
pub(crate) fn sum(x: &[f64], addend: &[f64]) -> Vec<f64> {
    x.iter().zip(addend).map(|(x, addend)| x + addend).collect()
}

/// The mean of every image's pixels, `[batch, channels]`.
pub(crate) fn average_pool(shape: MapShape, x: &[f64]) -> Vec<f64> {
    let mut means = vec![0.; shape.batch * shape.channels];
    for (at, x) in x.iter().enumerate() {
        means[mean_at(shape, at)] += x / shape.pixels() as f64;
    }
    means
}

/// The gradient of [`average_pool`]'s input.
pub(crate) fn average_pool_gradient(shape: MapShape, g: &[f64]) -> Vec<f64> {
    (0..shape.len()).map(|at| g[mean_at(shape, at)] / shape.pixels() as f64).collect()
}

fn mean_at(shape: MapShape, at: usize) -> usize {
    at / (shape.pixels() * shape.channels) * shape.channels + at % shape.channels
}

/// For every number of the output of a 3x3 pooling of stride 2, where in the input its maximum is: the first that is
/// largest, or the last NaN.
pub(crate) fn positions_of_maxima(input: MapShape, x: &[f64]) -> Vec<usize> {
    let output = output_shape(input, input.channels, 2);
    let mut positions = Vec::with_capacity(output.len());
    for image in 0..output.batch {
        for row in 0..output.height {
            for column in 0..output.width {
                for channel in 0..output.channels {
                    let mut best = None;
                    for at_row in (2 * row).max(1) - 1..(2 * row + 2).min(input.height) {
                        for at_column in (2 * column).max(1) - 1..(2 * column + 2).min(input.width) {
                            let at = at(input, image, at_row, at_column, channel);
                            if best.is_none_or(|best: usize| x[at] > x[best] || x[at].is_nan()) {
                                best = Some(at);
                            }
                        }
                    }
                    positions.push(best.expect("no window is empty"));
                }
            }
        }
    }
    positions
}

/// As [`difference`], relative to the largest of `terms`: where the expected numbers are what terms cancel to.
pub(crate) fn difference_beside(terms: &[f64], expected: &[f64], got: &[f32]) -> f64 {
    let largest = |values: &[f64]| values.iter().fold(1e-30f64, |largest, x| largest.max(x.abs()));
    difference(expected, got) * largest(expected) / largest(terms).max(largest(expected))
}

/// Runs `work` with 1, 2, 3 and 8 threads; the results.
pub(crate) fn with_threads<R: Send>(work: impl Fn() -> R + Sync) -> Vec<R> {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(&work)
    };
    [1, 2, 3, 8].map(run).into()
}

/// The bits of numbers: equal where the numbers are the same, NaN or not.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
