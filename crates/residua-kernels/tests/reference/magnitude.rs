//! How large the terms of the formulas are: rounding errors are relative to them, not to a sum in which they cancel.

use proptest::prelude::ProptestConfig;
use residua_kernels::MapShape;

use super::Norm;

pub(crate) fn magnitudes(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// The largest difference, relative to the largest sum of absolute terms; NaN where only one of two numbers is NaN.
pub(crate) fn error(expected: &[f64], got: &[f32], magnitudes: &[f64]) -> f64 {
    assert_eq!(expected.len(), got.len());
    let largest = magnitudes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let differences = expected.iter().zip(got).map(|(expected, &got)| (expected - f64::from(got)).abs());
    differences.fold(0., |largest: f64, x| if x.is_nan() { x } else { largest.max(x) }) / largest
}

impl Norm {
    /// Absolute terms of the gradient of x, for those of the gradient of `norm(x)`.
    pub(crate) fn backward_magnitude(&self, shape: MapShape, x: &[f64], g: &[f64]) -> Vec<f64> {
        let groups = self.moments.len() / (2 * shape.channels);
        let count = (shape.len() / shape.channels / groups) as f64;
        let sums = self.sums_of_magnitudes(shape, x, g);
        let of = |at: usize| {
            let (mean, scale, channel) = self.constants(shape, at);
            let [sum, product] = sums[at / self.per_group(shape) * shape.channels + channel];
            let normalised = ((x[at] - mean) * scale).abs();
            (self.gamma[channel] * scale).abs() * (g[at] + (sum + normalised * product) / count)
        };
        (0..x.len()).map(of).collect()
    }

    /// Absolute terms of the gradients of gamma and beta.
    pub(crate) fn parameter_magnitudes(&self, shape: MapShape, x: &[f64], g: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut gamma, mut beta) = (vec![0.; shape.channels], vec![0.; shape.channels]);
        for (index, [sum, product]) in self.sums_of_magnitudes(shape, x, g).into_iter().enumerate() {
            beta[index % shape.channels] += sum;
            gamma[index % shape.channels] += product;
        }
        (gamma, beta)
    }

    fn sums_of_magnitudes(&self, shape: MapShape, x: &[f64], g: &[f64]) -> Vec<[f64; 2]> {
        let groups = self.moments.len() / (2 * shape.channels);
        let mut sums = vec![[0f64; 2]; groups * shape.channels];
        for at in 0..x.len() {
            let (mean, scale, channel) = self.constants(shape, at);
            let sums = &mut sums[at / self.per_group(shape) * shape.channels + channel];
            sums[0] += g[at];
            sums[1] += g[at] * ((x[at] - mean) * scale).abs();
        }
        sums
    }
}

/// Weights of a 1x1 convolution that changes nothing.
pub(crate) fn identity(channels: usize) -> Vec<f32> {
    (0..channels * channels).map(|at| if at / channels == at % channels { 1. } else { 0. }).collect()
}

/// As many cases as PROPTEST_CASES says, else 32.
pub(crate) fn proptest_config() -> ProptestConfig {
    cases_unless_asked(32)
}

/// So many cases, unless `PROPTEST_CASES` says how many: an emulated processor is slow.
pub(crate) fn cases_unless_asked(cases: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(cases),
    }
}
