//! A convolution on tensors, with what stands in front of it.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use residua_kernels::{
    Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation,
    NormalisationGradient, OutputGradient, Values, ValuesMut, finish_gradient, finish_gradient_in_place,
};

use super::tensors::{self, MapBuffer, ParameterBuffer, contiguous, map_shape, shape, small, values};
use residua_infer::Precision;

use crate::ops::memory::{Buffer, IntoTensor};
use crate::ops::operands::{Norm, NormGradients};
use crate::ops::unit::Seam;
use crate::ops::{ConvolveOptions, EPSILON, MomentsSource};

/// Up to this many outputs the data gradient of a 1x1 convolution is computed twice rather than stored and read again, if
/// it would have left the shared cache by then.
const FEW_CHANNELS: usize = 64;
/// Bytes of a gradient that is still there, beside the two maps that are read with it.
const CACHED: usize = 8 << 20;

/// A convolution, what it reads, and the gradient of its weights.
pub(super) struct Layer {
    pub(super) convolution: Convolution,
    pub(super) x: FlexTensor,
    pub(super) norm: Option<Normalisation>,
    is_activated: bool,
    pub(super) weight: FlexTensor,
    /// Whether the moments are constants.
    pub(super) has_running_moments: bool,
    pub(super) weight_shape: [usize; 4],
    pub(super) weight_gradient: ParameterBuffer,
}

impl Layer {
    /// Of contiguous tensors.
    pub(super) fn new(
        x: FlexTensor,
        norm: &Norm<Flex>,
        weight: FlexTensor,
        options: ConvolveOptions,
    ) -> Self {
        let convolution = convolution(&x, &weight, &options);
        Self {
            norm: normalisation(norm),
            is_activated: options.is_activated,
            has_running_moments: options.source == MomentsSource::Running,
            weight_shape: weight.layout().shape().dims(),
            weight_gradient: ParameterBuffer::of(convolution.weights_len()),
            convolution,
            x,
            weight,
        }
    }

    pub(super) fn forward(&self) -> FlexTensor {
        let mut y = Buffer::of(self.convolution.output().len());
        self.convolution.forward(self.input(), values(&self.weight), None, ValuesMut::F32(&mut y), None);
        y.into_tensor(shape(self.convolution.output()))
    }

    pub(super) fn input(&self) -> Input<'_> {
        input(&self.x, &self.norm, self.is_activated)
    }

    pub(super) fn backward(
        &mut self,
        gradient: OutputGradient,
        wanted: InputGradient,
    ) -> Option<NormalisationGradient> {
        self.convolution.backward(
            input(&self.x, &self.norm, self.is_activated),
            values(&self.weight),
            gradient,
            self.weight_gradient.values(),
            wanted,
            self.has_running_moments,
        )
    }

    /// The whole gradient of a normalised input, plus an addend, in bfloat16 if it is to be rounded; and the sums that hold
    /// those of gamma and beta. Where it takes a pass of its own, that goes on across the seam.
    pub(super) fn complete_backward(
        &mut self,
        gradient: OutputGradient,
        addend: Option<Values>,
        is_rounded: bool,
        seam: Option<&Seam>,
    ) -> (FlexTensor, NormalisationGradient) {
        let convolution = self.convolution;
        let map = convolution.input;
        let is_cached = map.len() * size_of::<f32>() <= CACHED;
        if convolution.size == 1 && convolution.outputs <= FEW_CHANNELS && !is_cached {
            let sums = self.backward(gradient, InputGradient::SumsOnly).expect("a normalised input");
            if let (false, Some(addend)) = (is_rounded, addend)
                && let Some(x) = self.finish_across(seam, gradient, &sums, addend)
            {
                return (x, sums);
            }
            let mut output = MapBuffer::of(map.len(), is_rounded);
            let weights = values(&self.weight);
            convolution.finish_input_gradient(
                self.input(),
                weights,
                gradient,
                &sums,
                addend,
                output.values(),
            );
            return (output.into_tensor(shape(map)), sums);
        }
        let mut output = Buffer::of(map.len());
        let sums = self.backward(gradient, InputGradient::OfNorm(&mut output)).expect("a normalised input");
        let norm = self.norm.as_ref().expect("a normalised input");
        let (x, instructions) = (tensors::map(&self.x), convolution.instructions);
        if is_rounded {
            let mut rounded = MapBuffer::of(map.len(), true);
            let gradient = OutputGradient::ThroughNorm { gradient: &output, x, norm, sums: &sums };
            finish_gradient(map, gradient, addend, rounded.values(), instructions);
            return (rounded.into_tensor(shape(map)), sums);
        }
        finish_gradient_in_place(map, &mut output, x, norm, &sums, addend, instructions);
        (output.into_tensor(shape(map)), sums)
    }
}

pub(super) fn convolution(x: &FlexTensor, weight: &FlexTensor, options: &ConvolveOptions) -> Convolution {
    let [outputs, _, size, _] = weight.layout().shape().dims();
    Convolution {
        input: map_shape(x),
        outputs,
        size,
        stride: options.stride,
        algorithm: algorithm(options.precision),
        instructions: Instructions::current(),
    }
}

/// Bytes that a convolution of a map `[batch, height, width, channels]` works in.
pub(crate) fn workspace_bytes(
    [batch, height, width, channels]: [usize; 4],
    outputs: usize,
    size: usize,
    stride: usize,
    precision: Precision,
) -> u64 {
    let convolution = Convolution {
        input: MapShape { batch, height, width, channels },
        outputs,
        size,
        stride,
        // What a processor does not compute in is predicted for one that does as in f32.
        algorithm: algorithm(if precision.check().is_ok() { precision } else { Precision::F32 }),
        instructions: Instructions::current(),
    };
    (convolution.workspace_len() * size_of::<f32>()) as u64
}

fn algorithm(precision: Precision) -> Algorithm {
    match precision {
        Precision::F32 => Algorithm::current(),
        Precision::Bf16 => Algorithm::Bf16,
    }
}

pub(super) fn input<'a>(x: &'a FlexTensor, norm: &'a Option<Normalisation>, is_activated: bool) -> Input<'a> {
    Input { values: tensors::map(x), norm: norm.as_ref(), is_activated }
}

pub(super) fn normalisation(norm: &Norm<Flex>) -> Option<Normalisation> {
    let Norm::Present { moments, gamma, beta } = norm else { return None };
    let [moments, gamma, beta] = [moments, gamma, beta].map(|tensor| contiguous(tensor.clone()));
    Some(Normalisation::new(values(&moments), values(&gamma), values(&beta), EPSILON))
}

pub(super) fn norm_gradients(sums: NormalisationGradient) -> NormGradients<Flex> {
    let NormalisationGradient { gamma, beta, .. } = sums;
    let channels = [gamma.len()];
    NormGradients::Present { gamma: small(gamma, &channels), beta: small(beta, &channels) }
}
