//! The unit composed of a backend's other operations, forward and backward.

use burn::backend::Backend;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, FloatDType};

use super::{
    Branch, Entry, Exit, ExitMap, ExitNorm, InnerGradients, InnerMap, InnerMaps, RestGradients, Skip,
    UnitGradients, UnitMaps, UnitOptions, UnitOutput,
};
use crate::ops::extension::ResidualBackend;
use crate::ops::operands::{Addend, Norm, NormGradients, Optional};
use crate::ops::{ConvolveOptions, composed};

/// What the two paths read, and the normalisation and activation that the branch has still to apply to it.
pub(in crate::ops) struct Entrance<B: Backend> {
    pub(in crate::ops) x: FloatTensor<B>,
    pub(in crate::ops) norm: Norm<B>,
    pub(in crate::ops) is_activated: bool,
}

impl<B: ResidualBackend> Entrance<B> {
    pub(in crate::ops) fn new(x: FloatTensor<B>, norm: &Norm<B>, options: &UnitOptions) -> Self {
        match options.entry {
            Entry::Raw => Self { x, norm: norm.clone(), is_activated: false },
            Entry::BranchActivated => Self { x, norm: norm.clone(), is_activated: true },
            Entry::BothActivated => {
                let x = B::merge(x, norm.clone(), Addend::Absent, options.activation());
                Self { x, norm: Norm::Absent, is_activated: false }
            }
        }
    }
}

pub(in crate::ops) fn forward<B: ResidualBackend>(
    x: FloatTensor<B>,
    branch: Branch<B>,
    skip: Skip<B>,
    options: UnitOptions,
) -> UnitOutput<B> {
    let is_rounded = x.dtype() == DType::BF16;
    let entrance = Entrance::<B>::new(x, &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let outputs = layers.last().map_or(&branch.weight, |layer| &layer.weight).shape()[0];
    let (signal, projected) = shortcut::<B>(entrance.x.clone(), &skip, outputs, &options);
    let mut signal = Optional::Present(signal);
    let mut addend = |layer: usize| match layer == layers.len() && options.adds_in_convolution() {
        true => std::mem::replace(&mut signal, Optional::Absent),
        false => Optional::Absent,
    };
    let convolution = |layer: usize, is_activated: bool| ConvolveOptions {
        is_rounded: is_rounded && layer == layers.len() && options.exit == Exit::Sum,
        ..options.convolution(layer, is_activated)
    };
    let first = convolution(0, entrance.is_activated);
    let mut last = B::convolve(entrance.x, entrance.norm, branch.weight, addend(0), first);
    let mut inner = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let moments = layer.norm.moments(&last.y, last.moments, options.groups);
        let norm = layer.norm.with(moments.clone());
        let values = match index > 0 || options.keeps_first {
            true => Optional::Present(last.y.clone()),
            false => Optional::Absent,
        };
        inner.push(InnerMap { values, moments });
        let options = convolution(index + 1, true);
        last = B::convolve(last.y, norm, layer.weight.clone(), addend(index + 1), options);
    }
    let inner = InnerMaps::of(inner);
    match (options.exit(), branch.exit) {
        (Some(exit), ExitNorm::Present(norm)) => {
            let map = norm.map(&last.y, last.moments, options.groups);
            let addend = match signal {
                Optional::Present(signal) => Addend::Plain(signal),
                Optional::Absent => Addend::Absent,
            };
            let mut y = B::merge(last.y, norm.with(map.moments.clone()), addend, exit);
            if is_rounded {
                y = B::float_cast(y, FloatDType::BF16);
            }
            let maps = UnitMaps { inner, exit: ExitMap::Present(map), projected };
            UnitOutput { y, moments: Optional::Absent, maps }
        }
        _ => {
            let maps = UnitMaps { inner, exit: ExitMap::Absent, projected };
            UnitOutput { y: last.y, moments: last.moments, maps }
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub(in crate::ops) fn backward<B: ResidualBackend>(
    x: FloatTensor<B>,
    branch: Branch<B>,
    skip: Skip<B>,
    maps: UnitMaps<B>,
    y: FloatTensor<B>,
    gradient: FloatTensor<B>,
    options: UnitOptions,
) -> UnitGradients<B> {
    let is_rounded = x.dtype() == DType::BF16;
    let [y, gradient] = [y, gradient].map(composed::widened::<B>);
    let entrance = Entrance::<B>::new(x.clone(), &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let first = options.convolution(0, entrance.is_activated);
    // The gradients of the last convolution's output and of the shortcut's signal.
    let (mut gradient, of_signal, exit) = match options.exit() {
        None => (gradient.clone(), gradient, NormGradients::Absent),
        Some(exit) => {
            let (map, norm) = maps.exit.expect(&branch.exit);
            let found = B::merge_backward(map, norm, Addend::Absent, y, gradient, exit);
            let of_signal = if options.adds_in_convolution() { found.x.clone() } else { found.addend };
            (found.x, of_signal, found.norm)
        }
    };
    let at_shortcut = shortcut_backward::<B>(&entrance.x, skip, maps.projected, of_signal, &options);
    let mut rest = Vec::with_capacity(layers.len());
    for (index, (layer, map)) in layers.iter().zip(maps.inner.into_maps()).enumerate().rev() {
        let values = match map.values {
            Optional::Present(values) => values,
            Optional::Absent => {
                let first = ConvolveOptions { groups: None, ..first };
                let (x, norm) = (entrance.x.clone(), entrance.norm.clone());
                B::convolve(x, norm, branch.weight.clone(), Optional::Absent, first).y
            }
        };
        let (norm, options) = (layer.norm.with(map.moments), options.convolution(index + 1, true));
        let found = B::convolve_backward(values, norm, layer.weight.clone(), gradient, options, true);
        gradient = found.x;
        let NormGradients::Present { gamma, beta } = found.norm else {
            unreachable!("an inner layer has a normalisation")
        };
        rest.push(InnerGradients { gamma, beta, weight: found.weight });
    }
    rest.reverse();
    let found = B::convolve_backward(entrance.x, entrance.norm, branch.weight, gradient, first, true);
    let gradient = B::float_add(found.x, at_shortcut.x);
    let (mut gradient, norm) = entrance_backward(x, branch.norm, gradient, found.norm, &options);
    if is_rounded {
        gradient = B::float_cast(gradient, FloatDType::BF16);
    }
    UnitGradients {
        x: gradient,
        norm,
        weight: found.weight,
        rest: RestGradients::of(rest),
        exit,
        projection: at_shortcut.projection,
        projection_norm: at_shortcut.norm,
    }
}

/// Through the activation that both paths share, if they do; else what is known of the normalisation already.
pub(in crate::ops) fn entrance_backward<B: ResidualBackend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    gradient: FloatTensor<B>,
    known: NormGradients<B>,
    options: &UnitOptions,
) -> (FloatTensor<B>, NormGradients<B>) {
    if options.entry != Entry::BothActivated {
        return (gradient, known);
    }
    // Without a ReLU behind the addition the output is not looked at.
    let found = B::merge_backward(x.clone(), norm, Addend::Absent, x, gradient, options.activation());
    (found.x, found.norm)
}

/// The signal on the shortcut, and what was normalised for it.
fn shortcut<B: ResidualBackend>(
    x: FloatTensor<B>,
    skip: &Skip<B>,
    outputs: usize,
    options: &UnitOptions,
) -> (FloatTensor<B>, ExitMap<B>) {
    match skip {
        Skip::Projection(weight, norm) => {
            let has_norm = matches!(norm, ExitNorm::Present(_));
            let projection = options.projection(has_norm);
            let found = B::convolve(x, Norm::Absent, weight.clone(), Optional::Absent, projection);
            match norm {
                ExitNorm::Absent => (found.y, ExitMap::Absent),
                ExitNorm::Present(norm) => {
                    let map = norm.map(&found.y, found.moments, options.groups);
                    let norm = norm.with(map.moments.clone());
                    (B::merge(found.y, norm, Addend::Absent, options.projected()), ExitMap::Present(map))
                }
            }
        }
        Skip::Identity if options.stride() == 1 && x.shape()[3] == outputs => (x, ExitMap::Absent),
        Skip::Identity => (B::subsample(x, options.stride(), outputs), ExitMap::Absent),
    }
}

/// The gradients of what the shortcut reads and of its parameters.
pub(in crate::ops) struct ShortcutGradients<B: Backend> {
    pub(in crate::ops) x: FloatTensor<B>,
    pub(in crate::ops) projection: Optional<B>,
    pub(in crate::ops) norm: NormGradients<B>,
}

pub(in crate::ops) fn shortcut_backward<B: ResidualBackend>(
    x: &FloatTensor<B>,
    skip: Skip<B>,
    projected: ExitMap<B>,
    mut gradient: FloatTensor<B>,
    options: &UnitOptions,
) -> ShortcutGradients<B> {
    let [_, height, width, inputs] = x.shape().dims();
    let (projection, mut norm) = (Optional::Absent, NormGradients::Absent);
    let x = match skip {
        Skip::Projection(weight, exit) => {
            if matches!(exit, ExitNorm::Present(_)) {
                let (map, of_map) = projected.expect(&exit);
                let (projected, none) = (options.projected(), Addend::Absent);
                let found = B::merge_backward(map.clone(), of_map, none, map, gradient, projected);
                (gradient, norm) = (found.x, found.norm);
            }
            let options = options.projection(false);
            let found = B::convolve_backward(x.clone(), Norm::Absent, weight, gradient, options, true);
            return ShortcutGradients { x: found.x, projection: Optional::Present(found.weight), norm };
        }
        Skip::Identity if options.stride() == 1 && inputs == gradient.shape()[3] => gradient,
        Skip::Identity => B::subsample_backward(gradient, options.stride(), height, width, inputs),
    };
    ShortcutGradients { x, projection, norm }
}
