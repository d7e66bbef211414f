//! The residual unit as one operation, forward and backward, for every ordering of normalisation and ReLU.
//!
//! ```text
//! m_1 = W_1 * relu(norm_1(x))    m_2 = W_2 * relu(norm_2(m_1))    ...    z = W_n * relu(norm_n(m_(n-1)))
//! y = z + shortcut(x)                       and so on, as the exit says
//! ```
//!
//! Between its convolutions every ordering is the same; they differ in what precedes the first ([`Entry`]) and in what
//! follows the last ([`Exit`]). The shortcut is the identity, subsampled and padded with channels of zeros where dimensions
//! change, or a 1x1 convolution, normalised or not. Where the input's activation feeds the shortcut too, `relu(norm_1(x))`
//! stands for `x` on both paths. The feature maps kept for the backward pass are `x`, the inner maps `m`, and what is
//! normalised behind them, as they leave the convolutions.
//!
//! A unit whose input is stored in bfloat16 leaves its output, and takes and leaves their gradients, in bfloat16 too; it
//! computes in f32 and keeps its inner maps so.
//!
//! The shortcut is inside, so the unit's input has one reader and autodiff never adds the gradients of two paths. The
//! bodies in `passes` are composed of the backend's other operations.

pub(super) mod tensors;

mod passes;
mod seam;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};
use residua_infer::Precision;

use super::extension::ResidualBackend;
use super::operands::{Norm, NormGradients, Optional};
use super::{ConvolveOptions, MergeOptions, MomentsSource};
pub(super) use passes::{Entrance, backward, entrance_backward, forward, shortcut_backward};
pub use residua_infer::network::{Entry, Exit};
pub use seam::{Seam, Seams};

/// What a unit computes, apart from its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitOptions {
    /// Of each convolution, in order; 1 behind the last.
    pub strides: [usize; 3],
    /// What branch and shortcut read of the input.
    pub entry: Entry,
    /// What follows the last convolution.
    pub exit: Exit,
    /// Where the moments of all normalisations come from.
    pub source: MomentsSource,
    /// Groups of consecutive images with moments of their own.
    pub groups: usize,
    /// Whether the first convolution's output is kept for the backward pass, not computed again: the same values, in
    /// more memory and less time.
    pub keeps_first: bool,
    /// What convolutions of stride 1 multiply in, on the CPU.
    pub precision: Precision,
}

/// The branch of a unit: its convolutions, and the normalisations that belong to them.
#[derive(Debug, Clone, ExtensionType)]
pub struct Branch<B: Backend> {
    /// Normalisation of the input, for full pre-activation.
    #[extension_type]
    pub norm: Norm<B>,
    /// Of the first convolution, `[outputs, inputs, size, size]`.
    pub weight: FloatTensor<B>,
    /// What follows the first convolution.
    #[extension_type]
    pub rest: Rest<B>,
    /// The normalisation behind the last convolution, or behind the addition.
    #[extension_type]
    pub exit: ExitNorm<B>,
}

/// The layers behind the first.
#[derive(Debug, Clone, ExtensionType)]
pub enum Rest<B: Backend> {
    /// A single unit.
    None,
    /// A basic unit.
    One(#[extension_type] InnerLayer<B>),
    /// A bottleneck.
    Two(#[extension_type] InnerLayer<B>, #[extension_type] InnerLayer<B>),
}

/// A convolution inside a branch, and the normalisation in front of it.
#[derive(Debug, Clone, ExtensionType)]
pub struct InnerLayer<B: Backend> {
    /// Of what the convolution reads.
    #[extension_type]
    pub norm: InnerNorm<B>,
    /// `[outputs, channels, size, size]`
    pub weight: FloatTensor<B>,
}

/// A normalisation of a map that the unit itself makes.
#[derive(Debug, Clone, ExtensionType)]
pub struct InnerNorm<B: Backend> {
    /// Running moments, `[1, 2, channels]`; absent where the batch's own are used.
    #[extension_type]
    pub moments: Optional<B>,
    /// `[channels]`
    pub gamma: FloatTensor<B>,
    /// `[channels]`
    pub beta: FloatTensor<B>,
}

/// The normalisation behind a convolution, where there is one.
#[derive(Debug, Clone, ExtensionType)]
pub enum ExitNorm<B: Backend> {
    /// There is none.
    Absent,
    /// There is one.
    Present(#[extension_type] InnerNorm<B>),
}

/// What stands on the shortcut.
#[derive(Debug, Clone, ExtensionType)]
pub enum Skip<B: Backend> {
    /// Nothing; where dimensions change, every `stride`-th pixel with zeros for the new channels.
    Identity,
    /// A 1x1 convolution of the unit's stride with these weights, and the normalisation behind it.
    Projection(FloatTensor<B>, #[extension_type] ExitNorm<B>),
}

/// The result of [`ResidualBackend::unit`].
#[derive(Debug, Clone, ExtensionType)]
pub struct UnitOutput<B: Backend> {
    /// The unit's output.
    pub y: FloatTensor<B>,
    /// Its moments, `[groups, 2, outputs]`, if it is a sum and moments come from the batch.
    #[extension_type]
    pub moments: Optional<B>,
    /// What lies on the way.
    #[extension_type]
    pub maps: UnitMaps<B>,
}

/// The maps that a unit makes and normalises.
#[derive(Debug, Clone, ExtensionType)]
pub struct UnitMaps<B: Backend> {
    /// Between the convolutions.
    #[extension_type]
    pub inner: InnerMaps<B>,
    /// Behind the last convolution or the addition, where a normalisation is.
    #[extension_type]
    pub exit: ExitMap<B>,
    /// Behind the projection, where a normalisation is.
    #[extension_type]
    pub projected: ExitMap<B>,
}

/// The maps between a unit's convolutions.
#[derive(Debug, Clone, ExtensionType)]
pub enum InnerMaps<B: Backend> {
    /// Of a single unit.
    None,
    /// Of a basic unit.
    One(#[extension_type] InnerMap<B>),
    /// Of a bottleneck.
    Two(#[extension_type] InnerMap<B>, #[extension_type] InnerMap<B>),
}

/// A map between two convolutions.
#[derive(Debug, Clone, ExtensionType)]
pub struct InnerMap<B: Backend> {
    /// As the convolution leaves it; absent where it is computed again in the backward pass.
    #[extension_type]
    pub values: Optional<B>,
    /// What it is normalised with, `[groups, 2, channels]`.
    pub moments: FloatTensor<B>,
}

/// A map behind a convolution, if it is normalised.
#[derive(Debug, Clone, ExtensionType)]
pub enum ExitMap<B: Backend> {
    /// It is not.
    Absent,
    /// It is.
    Present(#[extension_type] InnerMap<B>),
}

/// The gradients of [`ResidualBackend::unit`].
#[derive(Debug, Clone, ExtensionType)]
pub struct UnitGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the first normalisation's parameters.
    #[extension_type]
    pub norm: NormGradients<B>,
    /// Gradient of the first convolution's weights.
    pub weight: FloatTensor<B>,
    /// Gradients of the layers behind the first.
    #[extension_type]
    pub rest: RestGradients<B>,
    /// Gradients of the last normalisation's parameters.
    #[extension_type]
    pub exit: NormGradients<B>,
    /// Gradient of the projection's weights.
    #[extension_type]
    pub projection: Optional<B>,
    /// Gradients of the parameters of the projection's normalisation.
    #[extension_type]
    pub projection_norm: NormGradients<B>,
}

/// The gradients of the layers behind the first.
#[derive(Debug, Clone, ExtensionType)]
pub enum RestGradients<B: Backend> {
    /// Of a single unit.
    None,
    /// Of a basic unit.
    One(#[extension_type] InnerGradients<B>),
    /// Of a bottleneck.
    Two(#[extension_type] InnerGradients<B>, #[extension_type] InnerGradients<B>),
}

/// The gradients of an [`InnerLayer`].
#[derive(Debug, Clone, ExtensionType)]
pub struct InnerGradients<B: Backend> {
    /// `[channels]`
    pub gamma: FloatTensor<B>,
    /// `[channels]`
    pub beta: FloatTensor<B>,
    /// `[outputs, channels, size, size]`
    pub weight: FloatTensor<B>,
}

impl UnitOptions {
    /// Stride of the whole unit.
    pub(super) fn stride(&self) -> usize {
        self.strides.iter().product()
    }

    /// Of the `layer`-th convolution; with moments of its output where those come from the batch.
    pub(super) fn convolution(&self, layer: usize, is_activated: bool) -> ConvolveOptions {
        let groups = (self.source == MomentsSource::Batch).then_some(self.groups);
        ConvolveOptions {
            is_activated,
            stride: self.strides[layer],
            source: self.source,
            groups,
            is_rounded: false,
            precision: self.precision,
        }
    }

    /// Of the projection; with moments of its output where it is normalised with them.
    pub(super) fn projection(&self, has_norm: bool) -> ConvolveOptions {
        let groups = (has_norm && self.source == MomentsSource::Batch).then_some(self.groups);
        ConvolveOptions {
            is_activated: false,
            stride: self.stride(),
            source: self.source,
            groups,
            is_rounded: false,
            precision: self.precision,
        }
    }

    /// Of the normalisation behind the projection.
    pub(super) fn projected(&self) -> MergeOptions {
        MergeOptions { is_activated_before: false, is_activated_after: false, source: self.source }
    }

    /// Of the normalisation at the exit, if there is one.
    pub(super) fn exit(&self) -> Option<MergeOptions> {
        let (is_activated_before, is_activated_after) = match self.exit {
            Exit::Sum => return None,
            Exit::NormSum => (false, false),
            Exit::NormReluSum => (true, false),
            Exit::NormSumRelu => (false, true),
            // The sum is what is normalised; nothing is added to that.
            Exit::SumNormRelu => (true, false),
        };
        Some(MergeOptions { is_activated_before, is_activated_after, source: self.source })
    }

    /// Whether a ReLU follows the addition at once.
    pub(super) fn ends_in_relu(&self) -> bool {
        matches!(self.exit, Exit::NormSumRelu)
    }

    /// Whether the shortcut's signal is added in the last convolution.
    fn adds_in_convolution(&self) -> bool {
        !self.exit.normalises_branch()
    }

    /// Of the activation that both paths share.
    pub(super) fn activation(&self) -> MergeOptions {
        MergeOptions { is_activated_before: true, is_activated_after: false, source: self.source }
    }
}

impl<B: Backend> Rest<B> {
    pub(super) fn into_layers(self) -> Vec<InnerLayer<B>> {
        match self {
            Self::None => vec![],
            Self::One(only) => vec![only],
            Self::Two(first, second) => vec![first, second],
        }
    }
}

impl<B: Backend> InnerMaps<B> {
    pub(super) fn into_maps(self) -> Vec<InnerMap<B>> {
        match self {
            Self::None => vec![],
            Self::One(only) => vec![only],
            Self::Two(first, second) => vec![first, second],
        }
    }

    fn of(maps: Vec<InnerMap<B>>) -> Self {
        let mut maps = maps.into_iter();
        match (maps.next(), maps.next()) {
            (Some(first), Some(second)) => Self::Two(first, second),
            (Some(only), None) => Self::One(only),
            _ => Self::None,
        }
    }
}

impl<B: Backend> RestGradients<B> {
    pub(super) fn of(gradients: Vec<InnerGradients<B>>) -> Self {
        let mut gradients = gradients.into_iter();
        match (gradients.next(), gradients.next()) {
            (Some(first), Some(second)) => Self::Two(first, second),
            (Some(only), None) => Self::One(only),
            _ => Self::None,
        }
    }
}

impl<B: ResidualBackend> InnerNorm<B> {
    /// The normalisation by these moments.
    pub(super) fn with(&self, moments: FloatTensor<B>) -> Norm<B> {
        Norm::Present { moments, gamma: self.gamma.clone(), beta: self.beta.clone() }
    }

    /// What a map is normalised with: running moments, or its own, which a convolution may have found.
    fn moments(&self, map: &FloatTensor<B>, found: Optional<B>, groups: usize) -> FloatTensor<B> {
        match (self.moments.clone(), found) {
            (Optional::Present(running), _) => running,
            (_, Optional::Present(of_batch)) => of_batch,
            _ => B::moments(map.clone(), groups),
        }
    }

    /// A map of this normalisation, kept.
    fn map(&self, y: &FloatTensor<B>, found: Optional<B>, groups: usize) -> InnerMap<B> {
        InnerMap { values: Optional::Present(y.clone()), moments: self.moments(y, found, groups) }
    }
}

impl<B: ResidualBackend> ExitMap<B> {
    /// The map and its normalisation.
    ///
    /// # Panics
    /// When there is none, or its values were not kept.
    pub(super) fn expect(self, norm: &ExitNorm<B>) -> (FloatTensor<B>, Norm<B>) {
        match (self, norm) {
            (
                Self::Present(InnerMap { values: Optional::Present(values), moments }),
                ExitNorm::Present(norm),
            ) => (values, norm.with(moments)),
            _ => unreachable!("a normalised map is kept"),
        }
    }
}
