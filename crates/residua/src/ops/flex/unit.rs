//! The backward pass of a unit: as few passes over memory as there are convolutions, and one.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::FloatDType;
use burn_flex::FlexTensor;
use residua_kernels::{
    InputGradient, Instructions, Merge, Normalisation, NormalisationGradient, OutputGradient, SumGradient,
};

use super::layer::{Layer, input, norm_gradients, normalisation};
use super::seam::{self, Passed};
use super::tensors::{MapBuffer, contiguous, is_bf16, map, map_shape, shape, small, values};
use crate::ops::extension::ResidualBackend;
use crate::ops::memory::{Buffer, IntoTensor};
use crate::ops::operands::{Addend, NormGradients, Optional};
use crate::ops::unit::{
    self, Branch, Entrance, Entry, Exit, ExitMap, ExitNorm, InnerGradients, RestGradients, Seams, Skip,
    UnitGradients, UnitMaps, UnitOptions,
};
use crate::ops::{MergeOptions, MomentsSource, composed};

/// Passes over memory, last convolution first: each finds the gradients of its weights, the gradient `g` of its
/// normalised input and the sums over it; the next pass finishes `g` while it reads it.
#[allow(clippy::too_many_arguments)]
pub(super) fn unit_backward(
    x: FlexTensor,
    branch: Branch<Flex>,
    skip: Skip<Flex>,
    maps: UnitMaps<Flex>,
    y: FlexTensor,
    gradient: FlexTensor,
    options: UnitOptions,
    seams: Seams,
) -> UnitGradients<Flex> {
    let is_rounded = is_bf16(&x);
    // Of the last convolution, the next unit's backward pass may have done the part.
    let mut passed = seam::passed(seams.behind.as_ref(), &gradient);
    let (y, gradient) = match options.exit {
        Exit::Sum => (y, gradient),
        _ => (composed::widened::<Flex>(y), composed::widened::<Flex>(gradient)),
    };
    let entrance = Entrance::<Flex>::new(x.clone(), &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let first = options.convolution(0, entrance.is_activated);
    let mut first =
        Layer::new(contiguous(entrance.x.clone()), &entrance.norm, contiguous(branch.weight), first);

    let AtExit { mut through, of_signal, norm: exit } =
        exit_backward(maps.exit, &branch.exit, y, gradient, &options);
    let at_shortcut = unit::shortcut_backward::<Flex>(&entrance.x, skip, maps.projected, of_signal, &options);
    let of_shortcut = contiguous(at_shortcut.x);

    let mut rest = Vec::with_capacity(layers.len());
    for (index, (layer, map)) in layers.into_iter().zip(maps.inner.into_maps()).enumerate().rev() {
        let values = match map.values {
            Optional::Present(values) => contiguous(values),
            Optional::Absent => first.forward(),
        };
        let norm = layer.norm.with(map.moments);
        let options = options.convolution(index + 1, true);
        let mut layer = Layer::new(values, &norm, contiguous(layer.weight), options);
        let (g, sums) = match passed.take() {
            Some(Passed { g, sums, weight_gradient, .. }) => {
                layer.weight_gradient = weight_gradient;
                (g, sums)
            }
            None => {
                let mut g = Buffer::of(layer.convolution.input.len());
                let sums = layer.backward(through.get(), InputGradient::OfNorm(&mut g));
                let sums = sums.expect("an inner layer has a normalisation");
                (g.into_tensor(shape(layer.convolution.input)), sums)
            }
        };
        rest.push(InnerGradients {
            gamma: small(sums.gamma.clone(), &[sums.gamma.len()]),
            beta: small(sums.beta.clone(), &[sums.beta.len()]),
            weight: layer.weight_gradient.into_tensor(&layer.weight_shape),
        });
        let norm = layer.norm.expect("an inner layer has a normalisation");
        through = Through { values: g, norm: Some((layer.x, norm, sums)) };
    }
    rest.reverse();

    let (gradient, norm) = if first.norm.is_some() {
        let (x, sums) = first.complete_backward(
            through.get(),
            Some(map(&of_shortcut)),
            is_rounded,
            seams.before.as_ref(),
        );
        (x, norm_gradients(sums))
    } else {
        // What both paths share is normalised behind this, in f32.
        let mut output =
            MapBuffer::of(first.convolution.input.len(), is_rounded && options.entry != Entry::BothActivated);
        let addend = Some(map(&of_shortcut));
        first.backward(through.get(), InputGradient::Complete { output: output.values(), addend });
        (output.into_tensor(shape(first.convolution.input)), NormGradients::Absent)
    };
    drop(through);
    let (mut x, norm) = unit::entrance_backward::<Flex>(x, branch.norm, gradient, norm, &options);
    if is_rounded {
        x = Flex::float_cast(x, FloatDType::BF16);
    }
    UnitGradients {
        x,
        norm,
        weight: first.weight_gradient.into_tensor(&first.weight_shape),
        rest: RestGradients::of(rest),
        exit,
        projection: at_shortcut.projection,
        projection_norm: at_shortcut.norm,
    }
}

/// The gradients at a unit's exit.
struct AtExit {
    /// Of the last convolution's output.
    through: Through,
    /// Of the shortcut's signal.
    of_signal: FlexTensor,
    /// Of the last normalisation's parameters.
    norm: NormGradients<Flex>,
}

/// In one pass where the normalisation comes before the addition: what it leaves to do rides in the last convolution's.
fn exit_backward(
    map: ExitMap<Flex>,
    norm: &ExitNorm<Flex>,
    y: FlexTensor,
    gradient: FlexTensor,
    options: &UnitOptions,
) -> AtExit {
    let Some(exit) = options.exit() else {
        let through = Through { values: gradient.clone(), norm: None };
        return AtExit { through, of_signal: gradient, norm: NormGradients::Absent };
    };
    let (z, norm) = map.expect(norm);
    if options.exit == Exit::SumNormRelu {
        let found = Flex::merge_backward(z, norm, Addend::Absent, y, gradient, exit);
        let through = Through { values: found.x.clone(), norm: None };
        return AtExit { through, of_signal: found.x, norm: found.norm };
    }
    let MergeOptions { is_activated_before, is_activated_after, source } = exit;
    let z = contiguous(z);
    let map = map_shape(&z);
    let merge = Merge { shape: map, is_activated: is_activated_after, instructions: Instructions::current() };
    let norm = normalisation(&norm);
    let mut of_sum = is_activated_after.then(|| Buffer::of(map.len()));
    let mut g = is_activated_before.then(|| Buffer::of(map.len()));
    let sum = match &mut of_sum {
        None => SumGradient::Discarded(values(&gradient)),
        Some(sum) => SumGradient::Stored { gradient: values(&gradient), sum },
    };
    // Without a ReLU before the addition `g` is the gradient of the sum.
    let wanted = match &mut g {
        None => InputGradient::SumsOnly,
        Some(g) => InputGradient::OfNorm(g),
    };
    let is_constant = source == MomentsSource::Running;
    let found = merge.backward(input(&z, &norm, is_activated_before), values(&y), sum, wanted, is_constant);
    let sums = found.expect("the exit has a normalisation");
    let of_signal = of_sum.map_or(gradient, |sum| sum.into_tensor(shape(map)));
    let values = g.map_or_else(|| of_signal.clone(), |g| g.into_tensor(shape(map)));
    let gradients = norm_gradients(sums.clone());
    let norm = norm.expect("the exit has a normalisation");
    AtExit { through: Through { values, norm: Some((z, norm, sums)) }, of_signal, norm: gradients }
}

/// The gradient of a convolution's output on its way back: as it is, or to be finished with what the output was
/// normalised by.
struct Through {
    values: FlexTensor,
    norm: Option<(FlexTensor, Normalisation, NormalisationGradient)>,
}

impl Through {
    fn get(&self) -> OutputGradient<'_> {
        match &self.norm {
            None => OutputGradient::Plain(map(&self.values)),
            Some((x, norm, sums)) => {
                OutputGradient::ThroughNorm { gradient: values(&self.values), x: map(x), norm, sums }
            }
        }
    }
}
