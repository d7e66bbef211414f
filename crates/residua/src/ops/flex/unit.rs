//! The backward pass of a unit: as few passes over memory as there are convolutions, and one.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use residua_kernels::{InputGradient, Normalisation, NormalisationGradient, OutputGradient};

use super::layer::{Layer, norm_gradients};
use super::tensors::{contiguous, shape, small, values};
use crate::ops::extension::{Norm, NormGradients, Optional, ResidualBackend};
use crate::ops::pool::Buffer;
use crate::ops::unit::{
    self, Branch, Entrance, InnerGradients, InnerMaps, RestGradients, Skip, UnitGradients, UnitOptions,
};

/// Passes over memory, last convolution first: each finds the gradients of its weights, the gradient `g` of its
/// normalised input and the sums over it; the next pass finishes `g` while it reads it.
pub(super) fn unit_backward(
    x: FlexTensor,
    branch: Branch<Flex>,
    skip: Skip<Flex>,
    inner: InnerMaps<Flex>,
    gradient: FlexTensor,
    options: UnitOptions,
) -> UnitGradients<Flex> {
    let entrance = Entrance::<Flex>::new(x.clone(), &branch.norm, &options);
    let layers = branch.rest.into_layers();
    let first = options.convolution(0, entrance.is_activated);
    let mut first =
        Layer::new(contiguous(entrance.x.clone()), &entrance.norm, contiguous(branch.weight), first);
    let (at_shortcut, projection) =
        unit::shortcut_backward::<Flex>(&entrance.x, skip, gradient.clone(), &options);
    let at_shortcut = contiguous(at_shortcut);

    let mut through = Through { values: gradient, norm: None };
    let mut rest = Vec::with_capacity(layers.len());
    for (index, (layer, map)) in layers.into_iter().zip(inner.into_maps()).enumerate().rev() {
        let values = match map.values {
            Optional::Present(values) => contiguous(values),
            Optional::Absent => first.forward(),
        };
        let norm = layer.norm(map.moments);
        let options = options.convolution(index + 1, true);
        let mut layer = Layer::new(values, &norm, contiguous(layer.weight), options);
        let mut g = Buffer::of(layer.convolution.input.len());
        let sums = layer.backward(through.get(), InputGradient::OfNorm(&mut g));
        let sums = sums.expect("an inner layer has a normalisation");
        rest.push(InnerGradients {
            gamma: small(sums.gamma.clone(), &[sums.gamma.len()]),
            beta: small(sums.beta.clone(), &[sums.beta.len()]),
            weight: small(layer.weight_gradient, &layer.weight_shape),
        });
        let norm = layer.norm.expect("an inner layer has a normalisation");
        let values = g.into_tensor(shape(layer.convolution.input));
        through = Through { values, norm: Some((layer.x, norm, sums)) };
    }
    rest.reverse();

    let (x_gradient, norm) = if first.norm.is_some() {
        let (x, sums) = first.complete_backward(through.get(), Some(values(&at_shortcut)));
        (x, norm_gradients(sums))
    } else {
        let mut output = Buffer::of(first.convolution.input.len());
        let addend = Some(values(&at_shortcut));
        first.backward(through.get(), InputGradient::Complete { output: &mut output, addend });
        drop(through);
        let gradient = output.into_tensor(shape(first.convolution.input));
        match branch.norm {
            Norm::Absent => (gradient, NormGradients::Absent),
            norm => {
                // Without a ReLU behind the addition the output is not looked at.
                let found = Flex::merge_backward(x.clone(), norm, x, gradient, options.entry());
                (found.x, found.norm)
            }
        }
    };
    UnitGradients {
        x: x_gradient,
        norm,
        weight: small(first.weight_gradient, &first.weight_shape),
        rest: RestGradients::of(rest),
        projection,
    }
}

/// The gradient of a convolution's output on its way back: as it is, or to be finished with what the output was
/// normalised by.
struct Through {
    values: FlexTensor,
    norm: Option<(FlexTensor, Normalisation, NormalisationGradient)>,
}

impl Through {
    fn get(&self) -> OutputGradient<'_> {
        let gradient = values(&self.values);
        match &self.norm {
            None => OutputGradient::Plain(gradient),
            Some((x, norm, sums)) => OutputGradient::ThroughNorm { gradient, x: values(x), norm, sums },
        }
    }
}
