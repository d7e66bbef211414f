//! The operations that residual networks are made of, each shaped so that it can run as one pass over memory.
//!
//! A feature map is a contiguous tensor `[batch, height, width, channels]`. It is stored once, raw; what stands
//! between two convolutions is part of the operation that reads it:
//!
//! - [`moments`]: mean and variance of each channel, the only thing that batch normalisation needs to know of a
//!   feature map beforehand;
//! - [`update_running_statistics`]: running statistics, moved by one batch;
//! - [`convolve`]: `W * relu(norm(x)) + addend`, normalisation, ReLU and addend each optional;
//! - [`merge`]: `relu(relu(norm(x)) + addend)`, each part optional, both terms perhaps scaled, gated or masked: what ends a
//!   unit that does not end in a convolution;
//! - [`linear`]: a matrix times vectors, the classifier;
//! - [`pool`]: the mean of `relu(norm(x))` over the pixels of each image, what ends a network;
//! - [`max_pool`]: the maximum of `relu(norm(x))` over windows, what follows an ImageNet network's first convolution;
//! - [`unit`](unit()): a whole residual unit, of any ordering.
//!
//! All are methods of the backend extension [`ResidualBackend`], which has their backward passes too and
//! keeps only the raw feature maps for them. On the CPU they run the kernels of `residua_kernels`. The default bodies are composed of Burn's own operations, so every
//! backend that Burn has can run them. [`Engine::Composed`] leaves the extension out altogether and lets Burn's
//! autodiff differentiate the same compositions: the reference that the extension is checked against.

mod autodiff;
mod backward;
mod composed;
mod cube;
mod extension;
mod flex;
mod memory;
mod operands;
mod threads;
mod unit;

use burn::backend::Dispatch;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub(crate) use backward::backward;
pub use extension::ResidualBackend;
pub(crate) use flex::workspace_bytes;
/// What the extension's methods take and give, for those who write one.
#[doc(hidden)]
pub use operands::{
    Addend, ConvolveGradients, Convolved, GateGradients, MergeGradients, Norm, NormGradients, Optional,
    PoolGradients, RunningStatistics, Stepped,
};
pub(crate) use threads::{is_cpu, with_threads_awake};
#[doc(hidden)]
pub use unit::tensors::{UnitBranch, UnitLayer, UnitNorm, UnitProjection, UnitResult, unit};
#[doc(hidden)]
pub use unit::{
    Branch, Entry, Exit, ExitMap, ExitNorm, InnerGradients, InnerLayer, InnerMap, InnerMaps, InnerNorm, Rest,
    RestGradients, Seam, Seams, Skip, UnitGradients, UnitMaps, UnitOptions, UnitOutput,
};

use crate::cluster::Cluster;
use residua_infer::{Precision, words};

pub use residua_infer::network::BATCH_NORM_EPSILON as EPSILON;

/// Which implementation of the operations runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The backend extension, with its own backward passes.
    #[default]
    Fused,
    /// Burn's operations, differentiated by Burn: slower and larger, kept as the reference.
    Composed,
}

words!(Engine, "engine", {
    Fused => "fused": "operations with their own backward passes",
    Composed => "composed": "Burn's operations with Burn's autodiff: the reference, slower and larger",
});

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
    /// The number of groups of consecutive images that the output's moments are taken over, if they are wanted.
    pub groups: Option<usize>,
    /// Whether the output is rounded to bfloat16 and stored as such; the moments are then those of what is stored.
    pub is_rounded: bool,
    /// What numbers are multiplied in, on the CPU.
    pub precision: Precision,
}

/// What [`merge`] adds, and what it multiplies both terms by, number by number.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Addition {
    /// Nothing.
    None,
    /// These values.
    Plain(Tensor<4>),
    /// `residual * u + shortcut * values` for a first term `u`.
    Scaled {
        /// The shortcut's signal.
        values: Tensor<4>,
        /// Its factor.
        shortcut: f64,
        /// The first term's factor.
        residual: f64,
    },
    /// With `g = sigmoid(logits + bias)`: `g * u + (1 - g) * values` if it is exclusive, else `u + (1 - g) * values`
    /// (paper section 3.1).
    Gated {
        /// The shortcut's signal.
        values: Tensor<4>,
        /// Of the same shape.
        logits: Tensor<4>,
        /// `[channels]`
        bias: Tensor<1>,
        /// Whether what opens one path closes the other.
        is_exclusive: bool,
    },
    /// `u + mask * values`.
    Masked {
        /// The shortcut's signal.
        values: Tensor<4>,
        /// A constant of the same shape.
        mask: Tensor<4>,
    },
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

/// What a pooling takes of the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all of an image: `[batch, channels]`.
    Mean,
    /// The maximum over windows of 3x3, two apart and padded by one: `[batch, ceil(height / 2), ceil(width / 2), channels]`.
    Maximum,
}

/// What [`pool`] and [`max_pool`] compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// What is taken of `relu(norm(x))`.
    pub pooling: Pooling,
    /// Whether ReLU precedes (after the normalisation).
    pub is_activated: bool,
    /// Where the normalisation's moments come from.
    pub source: MomentsSource,
}

/// The constants of [`update_running_statistics`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunningStatisticsOptions {
    /// Share of the batch in the new statistics.
    pub momentum: f64,
    /// The unbiased variance over the biased one, `n / (n - 1)` for `n` values.
    pub correction: f64,
}

/// The constants of [`sgd_step`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Factor of the step.
    pub learning_rate: f64,
    /// Factor of the momentum; zero for none.
    pub momentum: f64,
    /// Factor of the weights' own gradient; zero for none.
    pub weight_decay: f64,
    /// Whether the momentum is Nesterov's.
    pub is_nesterov: bool,
}

impl PoolOptions {
    /// What precedes the pooling, as an operation of its own.
    fn merge(self) -> MergeOptions {
        let Self { is_activated, source, .. } = self;
        MergeOptions { is_activated_before: is_activated, is_activated_after: false, source }
    }
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

/// The moments of a batch of which each rank of a cluster has as many images, `[1, 2, channels]`. The result carries gradients, which go
/// through the ranks, too: it is for [`Engine::Composed`].
pub fn moments_over_ranks(x: Tensor<4>, cluster: &Cluster) -> Tensor<3> {
    Tensor::from_dispatch(composed::moments_over_ranks::<Dispatch>(x.into_dispatch(), cluster))
}

/// Running statistics `[channels]` after a batch with these moments, `[groups, 2, channels]`:
/// `(1 - momentum) * running + momentum * batch's`, of the first group's mean and unbiased variance.
pub fn update_running_statistics(
    engine: Engine,
    mean: Tensor<1>,
    variance: Tensor<1>,
    moments: Tensor<3>,
    options: RunningStatisticsOptions,
) -> (Tensor<1>, Tensor<1>) {
    let (mean, variance, moments) = (mean.into_dispatch(), variance.into_dispatch(), moments.into_dispatch());
    let RunningStatistics { mean, variance } = match engine {
        Engine::Fused => Dispatch::update_running_statistics(mean, variance, moments, options),
        Engine::Composed => composed::update_running_statistics::<Dispatch>(mean, variance, moments, options),
    };
    (Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

/// `y = weight * relu(norm(x)) + addend`; `*` is a convolution whose padding is half the kernel's size.
///
/// `x`: `[batch, height, width, inputs]`; `weight`: `[outputs, inputs, size, size]`, size odd; `addend` and result:
/// `[batch, ceil(height / stride), ceil(width / stride), outputs]`. What is multiplied is rounded to `precision` by the backend
/// extension on the CPU.
#[expect(clippy::too_many_arguments, reason = "the parts of one formula")]
pub fn convolve(
    engine: Engine,
    precision: Precision,
    x: Tensor<4>,
    norm: Option<Normalise>,
    is_activated: bool,
    weight: Tensor<4>,
    stride: usize,
    addend: Option<Tensor<4>>,
) -> Tensor<4> {
    let options = ConvolveOptions {
        is_activated,
        stride,
        source: source(&norm),
        groups: None,
        is_rounded: false,
        precision,
    };
    let (x, norm, weight, addend) =
        (x.into_dispatch(), norm_dispatch(norm), weight.into_dispatch(), optional_dispatch(addend));
    let convolved = match engine {
        Engine::Fused => Dispatch::convolve(x, norm, weight, addend, options),
        Engine::Composed => composed::convolve::<Dispatch>(x, norm, weight, addend, options),
    };
    Tensor::from_dispatch(convolved.y)
}

/// `y = weight * x` as in [`convolve`], by the backend extension, and the moments of `y` as in [`moments`], taken in the
/// same pass.
pub fn convolve_with_moments(
    x: Tensor<4>,
    weight: Tensor<4>,
    stride: usize,
    groups: usize,
) -> (Tensor<4>, Tensor<3>) {
    let source = MomentsSource::Running;
    let options = ConvolveOptions {
        is_activated: false,
        stride,
        source,
        groups: Some(groups),
        is_rounded: false,
        precision: Precision::F32,
    };
    let Convolved { y, moments } = Dispatch::convolve(
        x.into_dispatch(),
        Norm::Absent,
        weight.into_dispatch(),
        Optional::Absent,
        options,
    );
    let moments = match moments {
        Optional::Present(moments) => moments,
        Optional::Absent => Dispatch::moments(y.clone(), groups),
    };
    (Tensor::from_dispatch(y), Tensor::from_dispatch(moments))
}

/// `y = weight * x` of vectors: `[batch, inputs]` by `[outputs, inputs]` to `[batch, outputs]`.
pub fn linear(engine: Engine, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let ([batch, inputs], [outputs, _]) = (x.dims(), weight.dims());
    let is_large = inputs * outputs >= 1 << 16;
    if engine == Engine::Composed || !is_large || !threads::is_cpu(&x.device()) {
        // In this order the weights' gradient comes out as they lie.
        return weight.matmul(x.transpose()).transpose();
    }
    // The vectors are an image's pixels. Otherwise the gradient of a thousand classes' weights takes one thread a fiftieth of a step.
    let (x, weight) = (x.reshape([1, batch, 1, inputs]), weight.reshape([outputs, inputs, 1, 1]));
    convolve(engine, Precision::F32, x, None, false, weight, 1, None).reshape([batch, outputs])
}

/// The mean of `relu(norm(x))` over the pixels of each image, normalisation and ReLU optional: `[batch, channels]` of
/// `[batch, height, width, channels]`.
pub fn pool(engine: Engine, x: Tensor<4>, norm: Option<Normalise>, is_activated: bool) -> Tensor<2> {
    Tensor::from_dispatch(pooled(engine, Pooling::Mean, x, norm, is_activated))
}

/// The maximum of `relu(norm(x))` over windows of 3x3 pixels, two apart and padded by one, normalisation and ReLU optional:
/// `[batch, ceil(height / 2), ceil(width / 2), channels]` of `[batch, height, width, channels]`. The gradient goes to the first
/// of several equal maxima.
pub fn max_pool(engine: Engine, x: Tensor<4>, norm: Option<Normalise>, is_activated: bool) -> Tensor<4> {
    Tensor::from_dispatch(pooled(engine, Pooling::Maximum, x, norm, is_activated))
}

fn pooled(
    engine: Engine,
    pooling: Pooling,
    x: Tensor<4>,
    norm: Option<Normalise>,
    is_activated: bool,
) -> FloatTensor<Dispatch> {
    let options = PoolOptions { pooling, is_activated, source: source(&norm) };
    let (x, norm) = (x.into_dispatch(), norm_dispatch(norm));
    match engine {
        Engine::Fused => Dispatch::pool(x, norm, options),
        Engine::Composed => composed::pool::<Dispatch>(x, norm, options),
    }
}

/// `y = relu_after(relu_before(norm(x)) + addend)`, the two ReLUs as asked for and both terms weighted as the addition says.
/// All maps have one shape.
pub fn merge(
    engine: Engine,
    x: Tensor<4>,
    norm: Option<Normalise>,
    is_activated_before: bool,
    addition: Addition,
    is_activated_after: bool,
) -> Tensor<4> {
    let options = MergeOptions { is_activated_before, is_activated_after, source: source(&norm) };
    let (x, norm, addend) = (x.into_dispatch(), norm_dispatch(norm), addition.into_dispatch());
    Tensor::from_dispatch(match engine {
        Engine::Fused => Dispatch::merge(x, norm, addend, options),
        Engine::Composed => composed::merge::<Dispatch>(x, norm, addend, options),
    })
}

/// A step of stochastic gradient descent with momentum: `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - learning_rate * v`
/// (with Nesterov's momentum: `w - learning_rate * (d + momentum * v)`). Returns `w` and `v`, which is flat, and `None`
/// before the first step and without momentum.
pub fn sgd_step<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    momentum: Option<Tensor<1>>,
    options: SgdOptions,
) -> (Tensor<D>, Option<Tensor<1>>) {
    let (weight, gradient) = (weight.into_dispatch(), gradient.into_dispatch());
    let Stepped { weight, momentum } =
        Dispatch::sgd_step(weight, gradient, optional_dispatch(momentum), options);
    let momentum = match momentum {
        Optional::Absent => None,
        Optional::Present(momentum) => Some(Tensor::from_dispatch(momentum)),
    };
    (Tensor::from_dispatch(weight), momentum)
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

fn optional_dispatch<const D: usize>(tensor: Option<Tensor<D>>) -> Optional<Dispatch> {
    tensor.map_or(Optional::Absent, |tensor| Optional::Present(tensor.into_dispatch()))
}

impl Addition {
    fn into_dispatch(self) -> Addend<Dispatch> {
        match self {
            Self::None => Addend::Absent,
            Self::Plain(values) => Addend::Plain(values.into_dispatch()),
            Self::Scaled { values, shortcut, residual } => Addend::Scaled {
                values: values.into_dispatch(),
                shortcut: shortcut as f32,
                residual: residual as f32,
            },
            Self::Gated { values, logits, bias, is_exclusive } => Addend::Gated {
                values: values.into_dispatch(),
                logits: logits.into_dispatch(),
                bias: bias.into_dispatch(),
                is_exclusive,
            },
            Self::Masked { values, mask } => {
                Addend::Masked { values: values.into_dispatch(), mask: mask.into_dispatch() }
            }
        }
    }
}
