//! The backward pass of a network that keeps few of its feature maps: those between two segments are computed again.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use super::loss::{Backward, Objective};
use crate::nn::{FeatureMap, NetworkError, Part, Pass, ResNet};
use crate::ops;

/// Loss and gradients of a batch, of which only the input of every `length`-th unit is kept:
///
/// 1. forward through all segments of `length` units but the last, without a graph, keeping each one's input;
/// 2. through the last segment and the head, and back to the segment's input;
/// 3. segment by segment towards the stem: forward again from the kept input, back from its output's gradient.
///
/// What is frozen in front of the first part that is trained is passed once, without a graph.
///
/// Each kernel meets the values that it meets in a pass over the whole network, in the same order: the results are
/// the same to the bit. `pass` gathers the running statistics once, as each segment is passed with its graph.
///
/// # Errors
/// When the batch does not fit the network.
pub(super) fn by_segments(
    network: &ResNet,
    images: Tensor<4>,
    objective: Objective,
    length: usize,
    pass: &mut Pass,
) -> Result<Backward, NetworkError> {
    let first_trained = network.first_trained();
    let (first, units) = (network.plan().units_before(first_trained), network.units().count());
    if first == units {
        return Ok(objective.backward(network.forward(images, pass)?));
    }
    let segments: Vec<_> =
        (first..units).step_by(length).map(|start| start..units.min(start + length)).collect();
    let mut inputs = inputs(network, images.clone(), &segments, pass.clone())?;
    // A leaf of its own: nothing is tracked across segments.
    let mut next_input = || {
        let FeatureMap { values, moments, .. } = inputs.pop().expect("every segment has an input");
        let leaf = values.inner().autodiff().require_grad();
        let moments = moments.map(|moments| moments.inner().autodiff());
        (leaf.clone(), FeatureMap { values: leaf, moments, seam: None })
    };
    let mut segments = segments.into_iter().rev();

    let last = segments.next().expect("there are units to train");
    let (leaf, input) = next_input();
    let output = network.forward_units(last, input, pass);
    let mut learnt = objective.backward(network.forward_head(output, pass));
    let gradients = &mut learnt.gradients;
    let mut gradient = take(leaf, gradients);
    for segment in segments {
        let (leaf, input) = next_input();
        let output = network.forward_units(segment.clone(), input, pass);
        let mut found = ops::backward(output.values, gradient);
        gradient = take(leaf, &mut found);
        let mut gathered = Gathered { from: &mut found, to: gradients };
        network.units().skip(segment.start).take(segment.len()).for_each(|unit| unit.visit(&mut gathered));
    }
    if first_trained != Part::Stem {
        return Ok(learnt);
    }
    let output = network.forward_stem(images, pass)?;
    let mut found = ops::backward(output.values, gradient);
    network.stem.visit(&mut Gathered { from: &mut found, to: gradients });
    Ok(learnt)
}

/// The input of every segment, without a graph. What the pass gathers is dropped.
fn inputs(
    network: &ResNet,
    images: Tensor<4>,
    segments: &[Range<usize>],
    mut pass: Pass,
) -> Result<Vec<FeatureMap>, NetworkError> {
    let network = network.valid();
    let x = network.forward_stem(images.inner(), &mut pass)?;
    let mut inputs = vec![network.forward_units(0..segments[0].start, x, &mut pass)];
    for segment in &segments[..segments.len() - 1] {
        let input = inputs[inputs.len() - 1].clone();
        inputs.push(network.forward_units(segment.clone(), input, &mut pass));
    }
    Ok(inputs)
}

/// The gradient of a segment's input, which the units of the segment cannot be without.
fn take(input: Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
    input.grad_remove(gradients).expect("every unit depends on its input")
}

/// Moves the gradients of parameters from one container to another.
struct Gathered<'a> {
    from: &'a mut Gradients,
    to: &'a mut Gradients,
}

impl ModuleVisitor for Gathered<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let parameter = parameter.val();
        if let Some(gradient) = parameter.grad_remove(self.from) {
            parameter.grad_replace(self.to, gradient);
        }
    }
}
