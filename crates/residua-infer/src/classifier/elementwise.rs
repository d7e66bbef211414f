//! What is left between convolutions: few units have any of it, so it is plain loops.

use half::bf16;
use residua_kernels::{MapShape, Stored, Subsampling};

use super::affine::Affine;

/// A number of a feature map. Whatever it is, it is computed with in f32.
pub(super) trait Number: Stored + Default {
    fn get(self) -> f32;
    /// The nearest.
    fn of(value: f32) -> Self;
}

impl Number for f32 {
    fn get(self) -> f32 {
        self
    }

    fn of(value: f32) -> Self {
        value
    }
}

impl Number for bf16 {
    fn get(self) -> f32 {
        self.to_f32()
    }

    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// The shortcut where dimensions change and nothing projects, of the whole batch.
pub(super) fn subsample<N: Number>(input: MapShape, x: &[N], output: MapShape, to: &mut [N]) {
    let stride = input.height.div_ceil(output.height);
    let subsampling = Subsampling { input, stride, outputs: output.channels };
    for (row, to) in to.chunks_exact_mut(output.width * output.channels).enumerate() {
        subsampling.row(x, row, to);
    }
}

/// How weighted paths are added: `exit(shortcut * signal + residual * F)`; with a gate `g` instead of both factors `1 - g`
/// and, if it is exclusive, `g`.
#[derive(Debug)]
pub(super) struct Combination {
    pub(super) shortcut: f32,
    pub(super) residual: f32,
    /// The gate's bias, and whether it is exclusive.
    pub(super) gate: Option<(Vec<f32>, bool)>,
    /// Normalisation behind the addition.
    pub(super) norm: Affine,
    pub(super) is_activated: bool,
}

/// Adds a residual and a shortcut's signal; `gate` has the gate's logits without bias.
pub(super) fn combine<N: Number>(
    (residual, signal): (&[N], &[N]),
    gate: Option<&[N]>,
    combination: &Combination,
    to: &mut [N],
) {
    let Combination { shortcut, residual: factor, gate: gating, norm, is_activated } = combination;
    let channels = norm.scale.len();
    for (at, to) in to.iter_mut().enumerate() {
        let channel = at % channels;
        let (of_signal, of_residual) = match (gate, gating) {
            (Some(logits), Some((bias, is_exclusive))) => {
                let gate = 1. / (1. + (-logits[at].get() - bias[channel]).exp());
                (1. - gate, if *is_exclusive { gate } else { 1. })
            }
            _ => (*shortcut, *factor),
        };
        let sum = of_signal * signal[at].get() + of_residual * residual[at].get();
        let value = sum * norm.scale[channel] + norm.shift[channel];
        *to = N::of(if *is_activated { relu(value) } else { value });
    }
}

/// The mean of `relu(norm(x))`, both optional, over the pixels of each image: `[batch, channels]`.
pub(super) fn mean<N: Number>(x: &[N], norm: &Affine, is_activated: bool, shape: MapShape, to: &mut [f32]) {
    let (channels, pixels) = (shape.channels, shape.pixels());
    for (x, to) in x.chunks_exact(pixels * channels).zip(to.chunks_exact_mut(channels)) {
        to.fill(0.);
        for pixel in x.chunks_exact(channels) {
            for (((x, scale), shift), to) in pixel.iter().zip(&norm.scale).zip(&norm.shift).zip(&mut *to) {
                let value = x.get() * scale + shift;
                *to += if is_activated { relu(value) } else { value };
            }
        }
        to.iter_mut().for_each(|sum| *sum /= pixels as f32);
    }
}

/// `max(x, 0)`; NaN stays NaN.
fn relu(x: f32) -> f32 {
    if x < 0. { 0. } else { x }
}
