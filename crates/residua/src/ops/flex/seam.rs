//! Across the seam of two units: in one pass the gradient of the map between them is finished and goes through the 1x1
//! convolution that has made the map.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use burn_std::DType;
use residua_kernels::{Beginning, Finishing, Junction, NormalisationGradient, OutputGradient, Values};

use super::layer::Layer;
use super::tensors::{MapBuffer, ParameterBuffer, contiguous, shape, values};
use crate::ops::ConvolveOptions;
use crate::ops::memory::{Buffer, IntoTensor};
use crate::ops::operands::{Norm, Optional};
use crate::ops::unit::{Exit, InnerLayer, InnerMaps, Rest, Seam, UnitOptions, UnitOutput};

/// A unit's last convolution, for the backward pass of the next unit.
struct Tail {
    x: FlexTensor,
    norm: Norm<Flex>,
    weight: FlexTensor,
    options: ConvolveOptions,
}

/// What the next unit has found of it.
pub(super) struct Passed {
    /// The gradient of the unit's output that it is for.
    gradient: FlexTensor,
    /// Of the convolution's normalised input.
    pub(super) g: FlexTensor,
    /// Over that.
    pub(super) sums: NormalisationGradient,
    pub(super) weight_gradient: ParameterBuffer,
}

/// Leaves a unit's last convolution for the next unit, if it is 1x1, nothing follows it but the addition, and the sum is f32.
pub(super) fn leave_tail(
    seam: Option<&Seam>,
    rest: &Rest<Flex>,
    output: &UnitOutput<Flex>,
    options: &UnitOptions,
) {
    let (Some(seam), Rest::Two(_, InnerLayer { norm, weight }), Exit::Sum) = (seam, rest, options.exit)
    else {
        return;
    };
    let InnerMaps::Two(_, map) = &output.maps.inner else { return };
    let (Optional::Present(x), [_, _, 1, 1]) = (&map.values, weight.layout().shape().dims()) else { return };
    if output.y.dtype() != DType::F32 {
        return;
    }
    seam.leave(Tail {
        x: x.clone(),
        norm: norm.with(map.moments.clone()),
        weight: weight.clone(),
        options: options.convolution(2, true),
    });
}

/// What the next unit has found, if it was for this gradient.
pub(super) fn passed(seam: Option<&Seam>, gradient: &FlexTensor) -> Option<Passed> {
    let seam = seam?;
    let Some(passed) = seam.take::<Passed>() else {
        // It has no use for the map any more, which the unit may drop early.
        seam.take::<Tail>();
        return None;
    };
    // Where another has read the output too, its gradient is a sum, in memory of its own.
    (values(&passed.gradient).as_ptr() == values(gradient).as_ptr()).then_some(passed)
}

impl Layer {
    /// Finishes the gradient of the input as [`Layer::complete_backward`] does, with the sums over it, and on the way passes it
    /// through the convolution that was left at the seam. Nothing is done if none was left, or one of both is computed in bfloat16.
    pub(super) fn finish_across(
        &self,
        seam: Option<&Seam>,
        gradient: OutputGradient,
        sums: &NormalisationGradient,
        addend: Values,
    ) -> Option<FlexTensor> {
        let seam = seam?;
        let Tail { x, norm, weight, options } = seam.take()?;
        let mut before = Layer::new(contiguous(x), &norm, contiguous(weight), options);
        if self.convolution.is_in_bf16() || before.convolution.is_in_bf16() {
            return None;
        }
        let mut output = MapBuffer::of(self.convolution.input.len(), false);
        let mut g = Buffer::of(before.convolution.input.len());
        let finishing = Finishing {
            input: self.input(),
            weights: values(&self.weight),
            gradient,
            sums,
            addend,
            output: output.values(),
        };
        let beginning = Beginning {
            input: super::input(&before.x, &before.norm, true),
            weights: values(&before.weight),
            weights_gradient: before.weight_gradient.values(),
            of_norm: &mut g,
            statistics_are_constant: before.has_running_moments,
        };
        let junction = Junction { before: before.convolution, behind: self.convolution };
        let sums = junction.backward(finishing, beginning);
        let gradient = output.into_tensor(shape(self.convolution.input));
        seam.leave(Passed {
            gradient: gradient.clone(),
            g: g.into_tensor(shape(before.convolution.input)),
            sums,
            weight_gradient: before.weight_gradient,
        });
        Some(gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::extension::ResidualBackend;
    use crate::ops::flex::tensors::small;
    use crate::ops::operands::NormGradients;
    use crate::ops::unit::{Branch, Entry, ExitNorm, InnerNorm, Seams, Skip, UnitGradients};
    use crate::ops::{MomentsSource, RestGradients};
    use residua_infer::Precision;

    /// The map between the units has left the caches before it is read again: two passes over it would be two readings.
    const SHAPE: [usize; 4] = [33, 32, 32, 64];
    const INNER: usize = 16;

    fn numbers(shape: &[usize], seed: usize) -> FlexTensor {
        let count = shape.iter().product();
        small((0..count).map(|at| ((at + 31 * seed) * 7919 % 1009) as f32 / 504.5 - 1.).collect(), shape)
    }

    fn branch(x: &FlexTensor, seed: usize) -> Branch<Flex> {
        let norm = |channels: usize| (numbers(&[channels], seed), numbers(&[channels], seed + 1));
        let layer = |outputs: usize, size: usize| {
            let (gamma, beta) = norm(INNER);
            let norm = InnerNorm { moments: Optional::Absent, gamma, beta };
            InnerLayer { norm, weight: numbers(&[outputs, INNER, size, size], seed + 2) }
        };
        let (gamma, beta) = norm(SHAPE[3]);
        Branch {
            norm: Norm::Present { moments: Flex::moments(x.clone(), 1), gamma, beta },
            weight: numbers(&[INNER, SHAPE[3], 1, 1], seed + 3),
            rest: Rest::Two(layer(INNER, 3), layer(SHAPE[3], 1)),
            exit: ExitNorm::Absent,
        }
    }

    fn options() -> UnitOptions {
        UnitOptions {
            strides: [1; 3],
            entry: Entry::BranchActivated,
            exit: Exit::Sum,
            source: MomentsSource::Batch,
            groups: 1,
            keeps_first: true,
            precision: Precision::F32,
        }
    }

    /// The gradients of two units, the second's first, for a gradient of the second's output. In between, `between` may look
    /// at the gradient of the map between them and change it.
    fn backward(
        seam: Option<Seam>,
        between: impl FnOnce(FlexTensor) -> FlexTensor,
    ) -> [UnitGradients<Flex>; 2] {
        let x = numbers(&SHAPE, 1);
        let first = branch(&x, 2);
        let before = Seams { before: None, behind: seam.clone() };
        let output = Flex::unit(x.clone(), first.clone(), Skip::Identity, options(), before.clone());
        let second = branch(&output.y, 9);
        let behind = Seams { before: seam, behind: None };
        let y = output.y.clone();
        let last = Flex::unit(y.clone(), second.clone(), Skip::Identity, options(), behind.clone());
        let gradient = numbers(&SHAPE, 5);
        let of_second = Flex::unit_backward(
            y.clone(),
            second,
            Skip::Identity,
            last.maps,
            y.clone(),
            gradient,
            options(),
            behind,
        );
        let gradient = between(of_second.x.clone());
        let of_first =
            Flex::unit_backward(x, first, Skip::Identity, output.maps, y, gradient, options(), before);
        [of_second, of_first]
    }

    /// All of both units' gradients.
    fn bits(gradients: &[UnitGradients<Flex>; 2]) -> Vec<u32> {
        let tensors = |gradients: &UnitGradients<Flex>| {
            let UnitGradients {
                x,
                norm: NormGradients::Present { gamma, beta },
                weight,
                rest: RestGradients::Two(first, second),
                ..
            } = gradients
            else {
                unreachable!("a bottleneck whose input is normalised")
            };
            let of_layers = [first, second].map(|layer| [&layer.gamma, &layer.beta, &layer.weight]);
            [x, gamma, beta, weight].into_iter().chain(of_layers.concat()).cloned().collect::<Vec<_>>()
        };
        let tensors = gradients.iter().flat_map(tensors);
        tensors
            .flat_map(|tensor| values(&tensor).iter().map(|value| value.to_bits()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn what_the_next_unit_finds_is_what_the_unit_would_have_found() {
        let apart = backward(None, |gradient| gradient);
        let seam = Seam::default();
        let shared = seam.clone();
        let across = backward(Some(seam), |gradient| {
            let passed = passed(Some(&shared), &gradient).expect("the pass went on across the seam");
            shared.leave(passed);
            gradient
        });
        assert!(bits(&apart) == bits(&across));
    }

    #[test]
    fn a_gradient_to_which_another_has_added_is_passed_by_the_unit_itself() {
        let twice =
            |gradient: FlexTensor| small(values(&gradient).iter().map(|value| 2. * value).collect(), &SHAPE);
        let apart = backward(None, twice);
        let across = backward(Some(Seam::default()), twice);
        assert!(bits(&apart) == bits(&across));
    }
}
