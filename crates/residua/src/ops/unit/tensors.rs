//! The unit on tensors.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::{Branch, ExitMap, ExitNorm, InnerLayer, InnerNorm, Rest, Seams, Skip, UnitOptions, UnitOutput};
use crate::ops::extension::ResidualBackend;
use crate::ops::operands::Optional;
use crate::ops::{Normalise, norm_dispatch, optional_dispatch};

/// A normalisation of a map that a [`unit`](unit()) itself makes.
#[derive(Debug, Clone)]
pub struct UnitNorm {
    /// Running moments, `[1, 2, channels]`; `None` where the batch's own are used.
    pub moments: Option<Tensor<3>>,
    /// `[channels]`
    pub gamma: Tensor<1>,
    /// `[channels]`
    pub beta: Tensor<1>,
}

/// A convolution inside the branch of a [`unit`](unit()), and the normalisation of what it reads.
#[derive(Debug, Clone)]
pub struct UnitLayer {
    /// In front of the convolution.
    pub norm: UnitNorm,
    /// `[outputs, channels, size, size]`
    pub weight: Tensor<4>,
}

/// The branch of a [`unit`](unit()).
#[derive(Debug, Clone)]
pub struct UnitBranch {
    /// In front of the first convolution, for orderings that have one there.
    pub norm: Option<Normalise>,
    /// Of the first convolution.
    pub weight: Tensor<4>,
    /// Up to two layers more.
    pub rest: Vec<UnitLayer>,
    /// Behind the last convolution or the addition; there is one unless the exit is [`Exit::Sum`](crate::ops::Exit::Sum).
    pub exit: Option<UnitNorm>,
}

/// The 1x1 convolution on the shortcut of a [`unit`](unit()).
#[derive(Debug, Clone)]
pub struct UnitProjection {
    /// `[outputs, inputs, 1, 1]`
    pub weight: Tensor<4>,
    /// Behind the convolution.
    pub norm: Option<UnitNorm>,
}

/// The result of [`unit`](unit()).
#[derive(Debug, Clone)]
pub struct UnitResult {
    /// The unit's output, `[batch, height, width, outputs]`.
    pub y: Tensor<4>,
    /// Its moments, `[groups, 2, outputs]`, where it is a sum and moments come from the batch.
    pub moments: Option<Tensor<3>>,
    /// What each layer behind the first has normalised its input with, `[groups, 2, channels]`.
    pub inner: Vec<Tensor<3>>,
    /// The same of the normalisation at the exit.
    pub exit: Option<Tensor<3>>,
    /// The same of the normalisation behind the projection.
    pub projected: Option<Tensor<3>>,
}

/// A residual unit, by the backend extension: formulas in [`Entry`](crate::ops::Entry) and [`Exit`](crate::ops::Exit).
///
/// Consecutive units that share a [`Seam`](crate::ops::Seam) may be faster backward.
///
/// Without a `projection` the shortcut is every `stride`-th pixel of the input with zeros for new channels.
///
/// # Panics
/// With more than two layers behind the first, or when shapes do not fit.
pub fn unit(
    x: Tensor<4>,
    branch: UnitBranch,
    projection: Option<UnitProjection>,
    options: UnitOptions,
    seams: Seams,
) -> UnitResult {
    let mut layers = branch
        .rest
        .into_iter()
        .map(|layer| InnerLayer { norm: layer.norm.into_dispatch(), weight: layer.weight.into_dispatch() });
    let rest = match (layers.next(), layers.next()) {
        (Some(first), Some(second)) => Rest::Two(first, second),
        (Some(only), None) => Rest::One(only),
        _ => Rest::None,
    };
    assert!(layers.next().is_none(), "a unit has at most three convolutions");
    let (norm, weight) = (norm_dispatch(branch.norm), branch.weight.into_dispatch());
    let branch = Branch { norm, weight, rest, exit: exit_dispatch(branch.exit) };
    let skip = projection.map_or(Skip::Identity, |UnitProjection { weight, norm }| {
        Skip::Projection(weight.into_dispatch(), exit_dispatch(norm))
    });
    let UnitOutput { y, moments, maps } = Dispatch::unit(x.into_dispatch(), branch, skip, options, seams);
    let of_exit = |map: ExitMap<Dispatch>| match map {
        ExitMap::Absent => None,
        ExitMap::Present(map) => Some(Tensor::from_dispatch(map.moments)),
    };
    UnitResult {
        y: Tensor::from_dispatch(y),
        moments: match moments {
            Optional::Absent => None,
            Optional::Present(moments) => Some(Tensor::from_dispatch(moments)),
        },
        inner: maps.inner.into_maps().into_iter().map(|map| Tensor::from_dispatch(map.moments)).collect(),
        exit: of_exit(maps.exit),
        projected: of_exit(maps.projected),
    }
}

impl UnitNorm {
    fn into_dispatch(self) -> InnerNorm<Dispatch> {
        let Self { moments, gamma, beta } = self;
        InnerNorm {
            moments: optional_dispatch(moments),
            gamma: gamma.into_dispatch(),
            beta: beta.into_dispatch(),
        }
    }
}

fn exit_dispatch(norm: Option<UnitNorm>) -> ExitNorm<Dispatch> {
    norm.map_or(ExitNorm::Absent, |norm| ExitNorm::Present(norm.into_dispatch()))
}
