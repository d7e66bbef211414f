//! The backward pass of a network segment by segment: where few feature maps are kept, or where gradients are sent to other ranks as
//! soon as they are there.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use super::gradient_exchange::GradientExchange;
use super::loss::{Backward, Objective};
use crate::nn::{FeatureMap, NetworkError, Part, Pass, ResNet};
use crate::ops;

/// What is kept of a segment until its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// All that it needs.
    Maps,
    /// The segment's input, from which it is passed again.
    Input,
}

/// Loss and gradients of a batch. `segments` are all units behind the frozen ones in front, in order. Where only inputs are kept:
///
/// 1. forward through all segments but the last, without a graph, keeping each one's input;
/// 2. through the last segment and the head, and back to the segment's input;
/// 3. segment by segment towards the stem: forward again from the kept input, back from its output's gradient.
///
/// Where maps are kept, each segment is passed once, with a graph of its own. What is frozen in front of the first part that is
/// trained is passed once, without a graph. The gradients of a segment go to the `exchange`, if there is one, before the next is begun.
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
    segments: &[Range<usize>],
    kept: Kept,
    pass: &mut Pass,
    exchange: &mut Option<GradientExchange>,
) -> Result<Backward, NetworkError> {
    let Some((last, segments)) = segments.split_last() else {
        let mut learnt = objective.backward(network.forward(images, pass)?);
        if let Some(exchange) = exchange {
            exchange.send(&mut learnt.gradients, |flat| network.visit(flat));
        }
        return Ok(learnt);
    };
    let Forward { stem, mut passed, end } = match kept {
        Kept::Maps => keeping_maps(network, images.clone(), segments, last.start, pass)?,
        Kept::Input => keeping_inputs(network, images.clone(), segments, last.start, pass.clone())?,
    };
    let (leaf, input) = as_leaf(end);
    let output = network.forward_units(last.clone(), input, pass);
    let mut learnt = objective.backward(network.forward_head(output, pass));
    let gradients = &mut learnt.gradients;
    let mut gradient = take(leaf, gradients);
    if let Some(exchange) = exchange {
        exchange.send(gradients, |flat| {
            visit_units(network, last, flat);
            network.norm.visit(flat);
            network.classifier.visit(flat);
        });
    }
    for segment in segments.iter().rev() {
        let (leaf, output) = match passed.pop().expect("every segment was passed") {
            Passed::With { leaf, output } => (leaf, output),
            Passed::Without { input } => {
                let (leaf, input) = as_leaf(input);
                (leaf, network.forward_units(segment.clone(), input, pass).values)
            }
        };
        let mut found = ops::backward(output, gradient);
        gradient = take(leaf, &mut found);
        visit_units(network, segment, &mut Gathered { from: &mut found, to: gradients });
        if let Some(exchange) = exchange {
            exchange.send(gradients, |flat| visit_units(network, segment, flat));
        }
    }
    if network.first_trained() != Part::Stem {
        return Ok(learnt);
    }
    let output = match stem {
        Some(output) => output,
        None => network.forward_stem(images, pass)?.values,
    };
    let mut found = ops::backward(output, gradient);
    network.stem.visit(&mut Gathered { from: &mut found, to: gradients });
    if let Some(exchange) = exchange {
        exchange.send(gradients, |flat| network.stem.visit(flat));
    }
    Ok(learnt)
}

/// A network passed up to its last segment.
struct Forward {
    /// The stem's output, if it was passed with a graph.
    stem: Option<Tensor<4>>,
    /// The other segments.
    passed: Vec<Passed>,
    /// The last segment's input.
    end: FeatureMap,
}

/// A segment that was passed.
enum Passed {
    /// With a graph, from a leaf to its output.
    With { leaf: Tensor<4>, output: Tensor<4> },
    /// Without one.
    Without { input: FeatureMap },
}

/// Passes each segment with a graph of its own.
fn keeping_maps(
    network: &ResNet,
    images: Tensor<4>,
    segments: &[Range<usize>],
    last: usize,
    pass: &mut Pass,
) -> Result<Forward, NetworkError> {
    let x = network.forward_stem(images, pass)?;
    let stem = Some(x.values.clone());
    let mut end = network.forward_units(0..segments.first().map_or(last, |first| first.start), x, pass);
    let mut passed = Vec::with_capacity(segments.len());
    for segment in segments {
        let (leaf, input) = as_leaf(end);
        end = network.forward_units(segment.clone(), input, pass);
        passed.push(Passed::With { leaf, output: end.values.clone() });
    }
    Ok(Forward { stem, passed, end })
}

/// Passes all without a graph. What the pass gathers is dropped.
fn keeping_inputs(
    network: &ResNet,
    images: Tensor<4>,
    segments: &[Range<usize>],
    last: usize,
    mut pass: Pass,
) -> Result<Forward, NetworkError> {
    let network = network.valid();
    let x = network.forward_stem(images.inner(), &mut pass)?;
    let mut end = network.forward_units(0..segments.first().map_or(last, |first| first.start), x, &mut pass);
    let mut passed = Vec::with_capacity(segments.len());
    for segment in segments {
        passed.push(Passed::Without { input: end.clone() });
        end = network.forward_units(segment.clone(), end, &mut pass);
    }
    Ok(Forward { stem: None, passed, end })
}

/// A map as a leaf of its own, which gets a gradient: nothing is tracked across segments.
fn as_leaf(map: FeatureMap) -> (Tensor<4>, FeatureMap) {
    let FeatureMap { values, moments, .. } = map;
    let leaf = values.inner().autodiff().require_grad();
    let moments = moments.map(|moments| moments.inner().autodiff());
    (leaf.clone(), FeatureMap { values: leaf, moments, seam: None })
}

fn visit_units<V: ModuleVisitor>(network: &ResNet, units: &Range<usize>, visitor: &mut V) {
    network.units().skip(units.start).take(units.len()).for_each(|unit| unit.visit(visitor));
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
