//! The residual unit with full pre-activation as one operation, forward and backward.
//!
//! ```text
//! m_1 = W_1 * relu(norm_1(x))    m_2 = W_2 * relu(norm_2(m_1))    ...    y = W_n * relu(norm_n(m_(n-1))) + shortcut(x)
//! ```
//!
//! The shortcut is the identity, subsampled and padded with channels of zeros where dimensions change, or a 1x1
//! convolution. Where the input's activation feeds the shortcut too, `relu(norm_1(x))` stands for `x` on both paths.
//! The feature maps kept for the backward pass are `x` and the inner maps `m`, as they leave the convolutions.
//!
//! The shortcut is inside, so the unit's input has one reader and autodiff never adds the gradients of two paths. The
//! bodies here are composed of the backend's other operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, TensorMetadata};

use super::extension::{Norm, NormGradients, Optional, ResidualBackend};
use super::{ConvolveOptions, MergeOptions, MomentsSource};

/// What a unit computes, apart from its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitOptions {
    /// Of each convolution, in order; 1 behind the last.
    pub strides: [usize; 3],
    /// Whether the activated input feeds the shortcut too, not the branch alone.
    pub is_activation_shared: bool,
    /// Where the moments of all normalisations come from.
    pub source: MomentsSource,
    /// Groups of consecutive images with moments of their own.
    pub groups: usize,
    /// Whether the first convolution's output is kept for the backward pass, not computed again: the same values, in
    /// more memory and less time.
    pub keeps_first: bool,
}

/// The branch of a unit: its convolutions, each behind a normalisation and ReLU.
#[derive(Debug, Clone, ExtensionType)]
pub struct Branch<B: Backend> {
    /// Normalisation of the input. Where there is none the input has been activated already.
    #[extension_type]
    pub norm: Norm<B>,
    /// Of the first convolution, `[outputs, inputs, size, size]`.
    pub weight: FloatTensor<B>,
    /// What follows the first convolution.
    #[extension_type]
    pub rest: Rest<B>,
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
    /// Running moments, `[1, 2, channels]`; absent where the batch's own are used.
    #[extension_type]
    pub moments: Optional<B>,
    /// `[channels]`
    pub gamma: FloatTensor<B>,
    /// `[channels]`
    pub beta: FloatTensor<B>,
    /// `[outputs, channels, size, size]`
    pub weight: FloatTensor<B>,
}

/// What stands on the shortcut.
#[derive(Debug, Clone, ExtensionType)]
pub enum Skip<B: Backend> {
    /// Nothing; where dimensions change, every `stride`-th pixel with zeros for the new channels.
    Identity,
    /// A 1x1 convolution of the unit's stride with these weights.
    Projection(FloatTensor<B>),
}

/// The result of [`ResidualBackend::unit`].
#[derive(Debug, Clone, ExtensionType)]
pub struct UnitOutput<B: Backend> {
    /// The unit's output.
    pub y: FloatTensor<B>,
    /// Its moments, `[groups, 2, outputs]`, if moments come from the batch.
    #[extension_type]
    pub moments: Optional<B>,
    /// What lies between the convolutions.
    #[extension_type]
    pub inner: InnerMaps<B>,
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
    /// Gradient of the projection's weights.
    #[extension_type]
    pub projection: Optional<B>,
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
        ConvolveOptions { is_activated, stride: self.strides[layer], source: self.source, groups }
    }

    /// Of the projection.
    pub(super) fn projection(&self) -> ConvolveOptions {
        ConvolveOptions { is_activated: false, stride: self.stride(), source: self.source, groups: None }
    }

    /// Of the activation that both paths share.
    pub(super) fn entry(&self) -> MergeOptions {
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

impl<B: Backend> InnerLayer<B> {
    /// The normalisation by these moments.
    pub(super) fn norm(&self, moments: FloatTensor<B>) -> Norm<B> {
        Norm::Present { moments, gamma: self.gamma.clone(), beta: self.beta.clone() }
    }
}

/// What the two paths read, and the normalisation and activation that the branch has still to apply to it.
pub(super) struct Entrance<B: Backend> {
    pub(super) x: FloatTensor<B>,
    pub(super) norm: Norm<B>,
    pub(super) is_activated: bool,
}

impl<B: ResidualBackend> Entrance<B> {
    pub(super) fn new(x: FloatTensor<B>, norm: &Norm<B>, options: &UnitOptions) -> Self {
        match norm {
            Norm::Absent => Self { x, norm: Norm::Absent, is_activated: false },
            norm if options.is_activation_shared => {
                let x = B::merge(x, norm.clone(), Optional::Absent, options.entry());
                Self { x, norm: Norm::Absent, is_activated: false }
            }
            norm => Self { x, norm: norm.clone(), is_activated: true },
        }
    }
}

pub(super) fn forward<B: ResidualBackend>(
    x: FloatTensor<B>,
    branch: Branch<B>,
    skip: Skip<B>,
    options: UnitOptions,
) -> UnitOutput<B> {
    let entrance = Entrance::<B>::new(x, &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let outputs = layers.last().map_or(&branch.weight, |layer| &layer.weight).shape()[0];
    let mut shortcut = Optional::Present(shortcut::<B>(entrance.x.clone(), &skip, outputs, &options));
    let mut addend = |layer: usize| match layer == layers.len() {
        true => std::mem::replace(&mut shortcut, Optional::Absent),
        false => Optional::Absent,
    };
    let first = options.convolution(0, entrance.is_activated);
    let mut last = B::convolve(entrance.x, entrance.norm, branch.weight, addend(0), first);
    let mut maps = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let moments = match (layer.moments.clone(), last.moments) {
            (Optional::Present(running), _) => running,
            (_, Optional::Present(of_batch)) => of_batch,
            _ => B::moments(last.y.clone(), options.groups),
        };
        let norm = layer.norm(moments.clone());
        let values = match index > 0 || options.keeps_first {
            true => Optional::Present(last.y.clone()),
            false => Optional::Absent,
        };
        maps.push(InnerMap { values, moments });
        let options = options.convolution(index + 1, true);
        last = B::convolve(last.y, norm, layer.weight.clone(), addend(index + 1), options);
    }
    UnitOutput { y: last.y, moments: last.moments, inner: InnerMaps::of(maps) }
}

pub(super) fn backward<B: ResidualBackend>(
    x: FloatTensor<B>,
    branch: Branch<B>,
    skip: Skip<B>,
    inner: InnerMaps<B>,
    gradient: FloatTensor<B>,
    options: UnitOptions,
) -> UnitGradients<B> {
    let entrance = Entrance::<B>::new(x.clone(), &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let first = options.convolution(0, entrance.is_activated);
    let (at_shortcut, projection) = shortcut_backward::<B>(&entrance.x, skip, gradient.clone(), &options);
    let mut gradient = gradient;
    let mut rest = Vec::with_capacity(layers.len());
    for (index, (layer, map)) in layers.iter().zip(inner.into_maps()).enumerate().rev() {
        let values = match map.values {
            Optional::Present(values) => values,
            Optional::Absent => {
                let first = ConvolveOptions { groups: None, ..first };
                let (x, norm) = (entrance.x.clone(), entrance.norm.clone());
                B::convolve(x, norm, branch.weight.clone(), Optional::Absent, first).y
            }
        };
        let (norm, options) = (layer.norm(map.moments), options.convolution(index + 1, true));
        let found = B::convolve_backward(values, norm, layer.weight.clone(), gradient, options, true);
        gradient = found.x;
        let NormGradients::Present { gamma, beta } = found.norm else {
            unreachable!("an inner layer has a normalisation")
        };
        rest.push(InnerGradients { gamma, beta, weight: found.weight });
    }
    rest.reverse();
    let found = B::convolve_backward(entrance.x, entrance.norm, branch.weight, gradient, first, true);
    let gradient = B::float_add(found.x, at_shortcut);
    let (gradient, norm) = match branch.norm {
        norm @ Norm::Present { .. } if options.is_activation_shared => {
            // Without a ReLU behind the addition the output is not looked at.
            let found = B::merge_backward(x.clone(), norm, x, gradient, options.entry());
            (found.x, found.norm)
        }
        _ => (gradient, found.norm),
    };
    UnitGradients { x: gradient, norm, weight: found.weight, rest: RestGradients::of(rest), projection }
}

/// The signal on the shortcut.
fn shortcut<B: ResidualBackend>(
    x: FloatTensor<B>,
    skip: &Skip<B>,
    outputs: usize,
    options: &UnitOptions,
) -> FloatTensor<B> {
    match skip {
        Skip::Projection(weight) => {
            B::convolve(x, Norm::Absent, weight.clone(), Optional::Absent, options.projection()).y
        }
        Skip::Identity if options.stride() == 1 && x.shape()[3] == outputs => x,
        Skip::Identity => B::subsample(x, options.stride(), outputs),
    }
}

/// The gradients of what the shortcut reads and of its weights.
pub(super) fn shortcut_backward<B: ResidualBackend>(
    x: &FloatTensor<B>,
    skip: Skip<B>,
    gradient: FloatTensor<B>,
    options: &UnitOptions,
) -> (FloatTensor<B>, Optional<B>) {
    let [_, height, width, inputs] = x.shape().dims();
    match skip {
        Skip::Projection(weight) => {
            let options = options.projection();
            let found = B::convolve_backward(x.clone(), Norm::Absent, weight, gradient, options, true);
            (found.x, Optional::Present(found.weight))
        }
        Skip::Identity if options.stride() == 1 && inputs == gradient.shape()[3] => {
            (gradient, Optional::Absent)
        }
        Skip::Identity => {
            (B::subsample_backward(gradient, options.stride(), height, width, inputs), Optional::Absent)
        }
    }
}
