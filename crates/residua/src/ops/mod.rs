//! The operations that residual networks are made of, each shaped so that it can run as one pass over memory.
//!
//! A feature map is a contiguous tensor `[batch, height, width, channels]`. It is stored once, raw; what stands
//! between two convolutions is part of the operation that reads it:
//!
//! - [`moments`]: mean and variance of each channel, the only thing that batch normalisation needs to know of a
//!   feature map beforehand;
//! - [`convolve`]: `W * relu(norm(x)) + addend`, normalisation, ReLU and addend each optional;
//! - [`merge`]: `relu(relu(norm(x)) + addend)`, each part optional: what ends a unit that does not end in a
//!   convolution.
//!
//! All three are methods of the backend extension [`ResidualBackend`], which has their backward passes too and
//! keeps only the raw feature maps for them. The default bodies are composed of Burn's own operations, so every
//! backend that Burn has can run them. [`Engine::Composed`] leaves the extension out altogether and lets Burn's
//! autodiff differentiate the same compositions: the reference that the extension is checked against.

mod autodiff;
mod backward;
mod composed;
mod extension;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use backward::{RootBackend, backward};
pub use extension::{Addend, ConvolveGradients, MergeGradients, Norm, NormGradients, ResidualBackend};

use crate::choice::words;

/// Added to a variance before its square root is taken.
pub const EPSILON: f64 = 1e-5;

/// Which implementation of the operations runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The backend extension, with its own backward passes.
    #[default]
    Fused,
    /// Burn's operations, differentiated by Burn: slower and larger, kept as the reference.
    Composed,
}

words!(Engine, "engine", { Fused => "fused", Composed => "composed" });

/// Where the moments that a normalisation uses come from: the batch's own have a gradient, running ones have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentsSource {
    /// Mean and variance of the normalised feature map itself (training).
    Batch,
    /// Running averages (evaluation).
    Running,
}

/// A batch normalisation, ready to be applied:
/// `norm(x) = gamma * (x - mean) / sqrt(variance + EPSILON) + beta` per channel and group of images.
#[derive(Debug, Clone)]
pub struct Normalise {
    /// `[groups, 2, channels]`: mean and biased variance for each group of consecutive images.
    pub moments: Tensor<3>,
    /// Where the moments come from.
    pub source: MomentsSource,
    /// Scale, `[channels]`.
    pub gamma: Tensor<1>,
    /// Shift, `[channels]`.
    pub beta: Tensor<1>,
}

/// What [`convolve`] does besides convolving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolveOptions {
    /// Whether ReLU precedes the convolution (after the normalisation).
    pub is_activated: bool,
    /// Distance of neighbouring outputs in the input.
    pub stride: usize,
    /// Where the normalisation's moments come from.
    pub source: MomentsSource,
}

/// What [`merge`] does besides normalising and adding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// Whether ReLU stands between normalisation and addition.
    pub is_activated_before: bool,
    /// Whether ReLU follows the addition.
    pub is_activated_after: bool,
    /// Where the normalisation's moments come from.
    pub source: MomentsSource,
}

/// Mean and biased variance of every channel over each of `groups` groups of consecutive images.
///
/// `x`: `[batch, height, width, channels]`, `batch` a multiple of `groups`; result: `[groups, 2, channels]`.
/// With [`Engine::Fused`] the result carries no gradient: the operation that normalises accounts for it.
pub fn moments(engine: Engine, x: Tensor<4>, groups: usize) -> Tensor<3> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(match engine {
        Engine::Fused => Dispatch::moments(x, groups),
        Engine::Composed => composed::moments::<Dispatch>(x, groups),
    })
}

/// `y = weight * relu(norm(x)) + addend`; `*` is a convolution whose padding is half the kernel's size.
///
/// `x`: `[batch, height, width, inputs]`; `weight`: `[outputs, inputs, size, size]`, size odd; `addend` and result:
/// `[batch, ceil(height / stride), ceil(width / stride), outputs]`.
pub fn convolve(
    engine: Engine,
    x: Tensor<4>,
    norm: Option<Normalise>,
    is_activated: bool,
    weight: Tensor<4>,
    stride: usize,
    addend: Option<Tensor<4>>,
) -> Tensor<4> {
    let options = ConvolveOptions { is_activated, stride, source: source(&norm) };
    let (x, norm, weight, addend) =
        (x.into_dispatch(), norm_dispatch(norm), weight.into_dispatch(), addend_dispatch(addend));
    Tensor::from_dispatch(match engine {
        Engine::Fused => Dispatch::convolve(x, norm, weight, addend, options),
        Engine::Composed => composed::convolve::<Dispatch>(x, norm, weight, addend, options),
    })
}

/// `y = relu_after(relu_before(norm(x)) + addend)`, the two ReLUs as asked for. All maps have one shape.
pub fn merge(
    engine: Engine,
    x: Tensor<4>,
    norm: Option<Normalise>,
    is_activated_before: bool,
    addend: Option<Tensor<4>>,
    is_activated_after: bool,
) -> Tensor<4> {
    let options = MergeOptions { is_activated_before, is_activated_after, source: source(&norm) };
    let (x, norm, addend) = (x.into_dispatch(), norm_dispatch(norm), addend_dispatch(addend));
    Tensor::from_dispatch(match engine {
        Engine::Fused => Dispatch::merge(x, norm, addend, options),
        Engine::Composed => composed::merge::<Dispatch>(x, norm, addend, options),
    })
}

fn source(norm: &Option<Normalise>) -> MomentsSource {
    norm.as_ref().map_or(MomentsSource::Running, |norm| norm.source)
}

fn norm_dispatch(norm: Option<Normalise>) -> Norm<Dispatch> {
    match norm {
        None => Norm::Absent,
        Some(Normalise { moments, gamma, beta, .. }) => Norm::Present {
            moments: moments.into_dispatch(),
            gamma: gamma.into_dispatch(),
            beta: beta.into_dispatch(),
        },
    }
}

fn addend_dispatch(addend: Option<Tensor<4>>) -> Addend<Dispatch> {
    addend.map_or(Addend::Absent, |addend| Addend::Present(addend.into_dispatch()))
}
