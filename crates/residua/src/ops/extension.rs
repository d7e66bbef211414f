//! The backend extension: forward and backward methods, whose default bodies are composed of Burn's operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, Flex, backend_extension};

use super::composed;
use super::{ConvolveOptions, MergeOptions};

/// The normalisation in front of an operation.
#[derive(Debug, Clone, ExtensionType)]
pub enum Norm<B: Backend> {
    /// None: the input is taken as it is.
    Absent,
    /// `gamma * (x - mean) / sqrt(variance + EPSILON) + beta`.
    Present {
        /// `[groups, 2, channels]`: mean and biased variance.
        moments: FloatTensor<B>,
        /// `[channels]`
        gamma: FloatTensor<B>,
        /// `[channels]`
        beta: FloatTensor<B>,
    },
}

/// What is added to an operation's result.
#[derive(Debug, Clone, ExtensionType)]
pub enum Addend<B: Backend> {
    /// Nothing.
    Absent,
    /// A feature map of the result's shape.
    Present(FloatTensor<B>),
}

/// The gradients of a normalisation's parameters.
#[derive(Debug, Clone, ExtensionType)]
pub enum NormGradients<B: Backend> {
    /// There was no normalisation.
    Absent,
    /// Both `[channels]`.
    Present {
        /// Gradient of gamma.
        gamma: FloatTensor<B>,
        /// Gradient of beta.
        beta: FloatTensor<B>,
    },
}

/// The gradients of [`ResidualBackend::convolve`]; the addend's is the output's own.
#[derive(Debug, Clone, ExtensionType)]
pub struct ConvolveGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the normalisation's parameters.
    #[extension_type]
    pub norm: NormGradients<B>,
    /// Gradient of the weight.
    pub weight: FloatTensor<B>,
}

/// The gradients of [`ResidualBackend::merge`].
#[derive(Debug, Clone, ExtensionType)]
pub struct MergeGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the normalisation's parameters.
    #[extension_type]
    pub norm: NormGradients<B>,
    /// Gradient of the addend (and of the sum, whether or not there is an addend).
    pub addend: FloatTensor<B>,
}

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

    /// `weight * relu(norm(x)) + addend`.
    fn convolve(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] addend: Addend<Self>,
        options: ConvolveOptions,
    ) -> FloatTensor<Self> {
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

    /// `relu_after(relu_before(norm(x)) + addend)`.
    fn merge(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        #[extension_type] addend: Addend<Self>,
        options: MergeOptions,
    ) -> FloatTensor<Self> {
        composed::merge::<Self>(x, norm, addend, options)
    }

    /// The gradients of [`ResidualBackend::merge`], given its result and the gradient of its result.
    fn merge_backward(
        x: FloatTensor<Self>,
        #[extension_type] norm: Norm<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: MergeOptions,
    ) -> MergeGradients<Self> {
        composed::merge_backward::<Self>(x, norm, output, gradient, options)
    }
}

impl ResidualBackend for Flex {}

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
impl ResidualBackend for burn::backend::Cube {}
