//! What operations take and give besides single tensors, on a backend's own tensors.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

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

/// A tensor that may be missing: `Option` does not pass through Burn's dispatch.
#[derive(Debug, Clone, ExtensionType)]
pub enum Optional<B: Backend> {
    /// It is missing.
    Absent,
    /// It is there.
    Present(FloatTensor<B>),
}

/// The second term of a merge, and what both are multiplied by, number by number. All maps have one shape.
#[derive(Debug, Clone, ExtensionType)]
pub enum Addend<B: Backend> {
    /// There is none.
    Absent,
    /// `u + values`.
    Plain(FloatTensor<B>),
    /// `residual * u + shortcut * values`.
    Scaled {
        /// `[batch, height, width, channels]`
        values: FloatTensor<B>,
        /// Factor of the values.
        shortcut: f32,
        /// Factor of the first term.
        residual: f32,
    },
    /// With `g = sigmoid(logits + bias)`: `g * u + (1 - g) * values` if it is exclusive, else `u + (1 - g) * values`.
    Gated {
        /// `[batch, height, width, channels]`
        values: FloatTensor<B>,
        /// `[batch, height, width, channels]`
        logits: FloatTensor<B>,
        /// `[channels]`
        bias: FloatTensor<B>,
        /// Whether what opens one path closes the other.
        is_exclusive: bool,
    },
    /// `u + mask * values`; the mask is a constant.
    Masked {
        /// `[batch, height, width, channels]`
        values: FloatTensor<B>,
        /// `[batch, height, width, channels]`
        mask: FloatTensor<B>,
    },
}

/// The result of [`ResidualBackend::convolve`](crate::ops::ResidualBackend::convolve).
#[derive(Debug, Clone, ExtensionType)]
pub struct Convolved<B: Backend> {
    /// The convolution's output.
    pub y: FloatTensor<B>,
    /// Its moments, `[groups, 2, outputs]`, if they were asked for.
    #[extension_type]
    pub moments: Optional<B>,
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

/// The gradients of [`ResidualBackend::convolve`](crate::ops::ResidualBackend::convolve); the addend's is the output's own.
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

/// The gradients of [`ResidualBackend::merge`](crate::ops::ResidualBackend::merge).
#[derive(Debug, Clone, ExtensionType)]
pub struct MergeGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the normalisation's parameters.
    #[extension_type]
    pub norm: NormGradients<B>,
    /// Gradient of the addend's values; where they are not weighted, that of the sum, also if there is no addend.
    pub addend: FloatTensor<B>,
    /// Gradients of the gate, if there is one.
    #[extension_type]
    pub gate: GateGradients<B>,
}

/// The gradients of a gate.
#[derive(Debug, Clone, ExtensionType)]
pub enum GateGradients<B: Backend> {
    /// There was no gate.
    Absent,
    /// There was one.
    Present {
        /// `[batch, height, width, channels]`
        logits: FloatTensor<B>,
        /// `[channels]`
        bias: FloatTensor<B>,
    },
}

/// The gradients of [`ResidualBackend::pool`](crate::ops::ResidualBackend::pool).
#[derive(Debug, Clone, ExtensionType)]
pub struct PoolGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the normalisation's parameters.
    #[extension_type]
    pub norm: NormGradients<B>,
}

/// The result of [`ResidualBackend::sgd_step`](crate::ops::ResidualBackend::sgd_step).
#[derive(Debug, Clone, ExtensionType)]
pub struct Stepped<B: Backend> {
    /// The weights after the step.
    pub weight: FloatTensor<B>,
    /// The momentum buffer after the step, if there is momentum.
    #[extension_type]
    pub momentum: Optional<B>,
}

/// The result of [`ResidualBackend::update_running_statistics`](crate::ops::ResidualBackend::update_running_statistics).
#[derive(Debug, Clone, ExtensionType)]
pub struct RunningStatistics<B: Backend> {
    /// The running mean, `[channels]`.
    pub mean: FloatTensor<B>,
    /// The running variance, `[channels]`.
    pub variance: FloatTensor<B>,
}
