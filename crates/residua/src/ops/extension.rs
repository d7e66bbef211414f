//! The backend extension: forward and backward methods, whose default bodies are composed of Burn's operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::composed;
use super::operands::{
    Addend, ConvolveGradients, Convolved, MergeGradients, Norm, Optional, PoolGradients, RunningStatistics,
    Stepped,
};
use super::unit::{self, Branch, Seams, Skip, UnitGradients, UnitMaps, UnitOptions, UnitOutput};
use super::{ConvolveOptions, MergeOptions, PoolOptions, RunningStatisticsOptions, SgdOptions};
use crate::cluster::Cluster;

/// The operations of residual networks, forward and backward, on a backend's own tensors. Formulas and shapes are
/// those of the functions of the same names in [`crate::ops`].
///
/// Where the moments are the batch's own, the input's gradient includes the path through them; `moments` itself is
/// therefore a constant to autodiff.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu")),
)]
pub trait ResidualBackend: Backend {
    /// Mean and biased variance, `[groups, 2, channels]`.
    fn moments(x: FloatTensor<Self>, groups: usize) -> FloatTensor<Self> {
        composed::moments::<Self>(x, groups)
    }

    /// Running statistics, moved towards the moments of a batch; they carry no gradient.
    fn update_running_statistics(
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        options: RunningStatisticsOptions,
    ) -> RunningStatistics<Self> {
        composed::update_running_statistics::<Self>(mean, variance, moments, options)
    }

    /// `weight * relu(norm(x)) + addend`, with the result's moments if they are asked for.
    fn convolve(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] addend: Optional<Self>,
        options: ConvolveOptions,
    ) -> Convolved<Self> {
        composed::convolve::<Self>(x, norm, weight, addend, options)
    }

    /// The gradients of [`ResidualBackend::convolve`] for the gradient of its result. Without `needs_x` the input's
    /// gradient (the first of a network has no use) may be anything.
    fn convolve_backward(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: ConvolveOptions,
        needs_x: bool,
    ) -> ConvolveGradients<Self> {
        composed::convolve_backward::<Self>(x, norm, weight, gradient, options, needs_x)
    }

    /// `relu_after(relu_before(norm(x)) + addend)`, both terms weighted as the addend says.
    fn merge(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        #[extension_type] addend: Addend<Self>,
        options: MergeOptions,
    ) -> FloatTensor<Self> {
        composed::merge::<Self>(x, norm, addend, options)
    }

    /// The gradients of [`ResidualBackend::merge`], given its result and the gradient of its result. A plain addend may as
    /// well be absent.
    fn merge_backward(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        #[extension_type] addend: Addend<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: MergeOptions,
    ) -> MergeGradients<Self> {
        composed::merge_backward::<Self>(x, norm, addend, output, gradient, options)
    }

    /// What the options take of `relu(norm(x))`: means over images or maxima over windows.
    fn pool(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        options: PoolOptions,
    ) -> FloatTensor<Self> {
        composed::pool::<Self>(x, norm, options)
    }

    /// The gradients of [`ResidualBackend::pool`] for the gradient of its result.
    fn pool_backward(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        gradient: FloatTensor<Self>,
        options: PoolOptions,
    ) -> PoolGradients<Self> {
        composed::pool_backward::<Self>(x, norm, gradient, options)
    }

    /// A residual unit; see [`crate::ops::unit`](fn@crate::ops::unit). What is composed leaves nothing at its seams.
    fn unit(
        x: FloatTensor<Self>,
        #[extension_type] branch: Branch<Self>,
        #[extension_type] skip: Skip<Self>,
        options: UnitOptions,
        seams: Seams,
    ) -> UnitOutput<Self> {
        let _ = seams;
        unit::forward::<Self>(x, branch, skip, options)
    }

    /// The gradients of [`ResidualBackend::unit`], given the maps and the output `y` that it has returned, and the gradient
    /// of the output. `y` is looked at where a ReLU ends the unit, and may else be anything.
    #[allow(clippy::too_many_arguments)]
    fn unit_backward(
        x: FloatTensor<Self>,
        #[extension_type] branch: Branch<Self>,
        #[extension_type] skip: Skip<Self>,
        #[extension_type] maps: UnitMaps<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: UnitOptions,
        seams: Seams,
    ) -> UnitGradients<Self> {
        let _ = seams;
        unit::backward::<Self>(x, branch, skip, maps, y, gradient, options)
    }

    /// Every `stride`-th pixel, with channels of zeros appended up to `outputs`: the shortcut without parameters.
    fn subsample(x: FloatTensor<Self>, stride: usize, outputs: usize) -> FloatTensor<Self> {
        composed::subsample::<Self>(x, stride, outputs)
    }

    /// The gradient of [`ResidualBackend::subsample`] for an input of `height` x `width` pixels and `inputs` channels.
    fn subsample_backward(
        gradient: FloatTensor<Self>,
        stride: usize,
        height: usize,
        width: usize,
        inputs: usize,
    ) -> FloatTensor<Self> {
        composed::subsample_backward::<Self>(gradient, stride, [height, width, inputs])
    }

    /// The sums over the ranks of a cluster, value by value.
    fn sum_over_ranks(x: FloatTensor<Self>, cluster: Cluster) -> FloatTensor<Self> {
        composed::sum_over_ranks::<Self>(x, &cluster)
    }

    /// A step of stochastic gradient descent; `momentum`, flat, is absent at a tensor's first step.
    fn sgd_step(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        #[extension_type] momentum: Optional<Self>,
        options: SgdOptions,
    ) -> Stepped<Self> {
        composed::sgd_step::<Self>(weight, gradient, momentum, options)
    }
}
