//! The end of a residual block on tensors: a plain sum, or one whose paths are weighted.

use burn::backend::Flex;
use burn_flex::FlexTensor;
use residua_kernels::{
    GateGradient, Input, InputGradient, Instructions, Merge, SumGradient, ValuesMut, WeightedMerge, Weights,
};

use super::layer::{input, norm_gradients, normalisation};
use super::tensors::{contiguous, map_shape, shape, small, values};
use crate::ops::memory::{Buffer, IntoTensor};
use crate::ops::operands::{Addend, GateGradients, MergeGradients, Norm, NormGradients};
use crate::ops::{MergeOptions, MomentsSource, composed};

pub(super) fn forward(
    x: FlexTensor,
    norm: Norm<Flex>,
    addend: Addend<Flex>,
    options: MergeOptions,
) -> FlexTensor {
    let map = map_shape(&x);
    let norm = normalisation(&norm);
    let input = input(&x, &norm, options.is_activated_before);
    let mut y = Buffer::of(map.len());
    match contiguous_addend(addend) {
        Addend::Absent => plain(&x, options).forward(input, None, &mut y, None),
        Addend::Plain(addend) => {
            let addend = composed::widened::<Flex>(addend);
            plain(&x, options).forward(input, Some(values(&addend)), &mut y, None);
        }
        addend => {
            let (signal, weights) = weights(&addend);
            weighted(&x, options).forward(input, signal, weights, &mut y);
        }
    }
    y.into_tensor(shape(map))
}

pub(super) fn backward(
    x: FlexTensor,
    norm: Norm<Flex>,
    addend: Addend<Flex>,
    output: FlexTensor,
    gradient: FlexTensor,
    options: MergeOptions,
) -> MergeGradients<Flex> {
    let map = map_shape(&x);
    let norm = normalisation(&norm);
    let input = input(&x, &norm, options.is_activated_before);
    let mut of_x = Buffer::of(map.len());
    let wanted = InputGradient::Complete { output: ValuesMut::F32(&mut of_x), addend: None };
    let is_constant = options.source == MomentsSource::Running;
    let (sums, of_addend, gate) = match contiguous_addend(addend) {
        Addend::Absent | Addend::Plain(_) => {
            let mut sum = options.is_activated_after.then(|| Buffer::of(map.len()));
            let of_sum = match &mut sum {
                None => SumGradient::Discarded(values(&gradient)),
                Some(sum) => SumGradient::Stored { gradient: values(&gradient), sum },
            };
            let output = if options.is_activated_after { values(&output) } else { &[] };
            let sums = plain(&x, options).backward(input, output, of_sum, wanted, is_constant);
            let of_addend = sum.map_or(gradient, |sum| sum.into_tensor(shape(map)));
            (sums, of_addend, GateGradients::Absent)
        }
        addend => {
            let found = weighted_backward(&x, input, &addend, &output, &gradient, options);
            // On through the ReLU and the normalisation, as if of a merge without an addend.
            let alone = plain(&x, MergeOptions { is_activated_after: false, ..options });
            let of_sum = SumGradient::Discarded(&found.input);
            (alone.backward(input, &[], of_sum, wanted, is_constant), found.addend, found.gate)
        }
    };
    MergeGradients {
        x: of_x.into_tensor(shape(map)),
        norm: sums.map_or(NormGradients::Absent, norm_gradients),
        addend: of_addend,
        gate,
    }
}

/// The gradients of what enters a weighted sum.
struct WeightedGradients {
    input: Buffer,
    addend: FlexTensor,
    gate: GateGradients<Flex>,
}

fn weighted_backward(
    x: &FlexTensor,
    input: Input,
    addend: &Addend<Flex>,
    output: &FlexTensor,
    gradient: &FlexTensor,
    options: MergeOptions,
) -> WeightedGradients {
    let map = map_shape(x);
    let [mut of_input, mut of_addend] = [(); 2].map(|()| Buffer::of(map.len()));
    let has_gate = matches!(addend, Addend::Gated { .. });
    let mut of_gate = has_gate.then(|| (Buffer::of(map.len()), vec![0.; map.channels]));
    let (signal, weights) = weights(addend);
    weighted(x, options).backward(
        input,
        signal,
        weights,
        values(output),
        values(gradient),
        &mut of_input,
        &mut of_addend,
        of_gate.as_mut().map(|(logits, bias)| GateGradient { logits, bias }),
    );
    WeightedGradients {
        input: of_input,
        addend: of_addend.into_tensor(shape(map)),
        gate: match of_gate {
            None => GateGradients::Absent,
            Some((logits, bias)) => GateGradients::Present {
                logits: logits.into_tensor(shape(map)),
                bias: small(bias, &[map.channels]),
            },
        },
    }
}

fn plain(x: &FlexTensor, options: MergeOptions) -> Merge {
    let is_activated = options.is_activated_after;
    Merge { shape: map_shape(x), is_activated, instructions: Instructions::current() }
}

fn weighted(x: &FlexTensor, options: MergeOptions) -> WeightedMerge {
    let is_activated = options.is_activated_after;
    WeightedMerge { shape: map_shape(x), is_activated, instructions: Instructions::current() }
}

/// A weighted addend of contiguous tensors, as the kernels take it.
fn weights(addend: &Addend<Flex>) -> (&[f32], Weights<'_>) {
    match addend {
        Addend::Absent | Addend::Plain(_) => unreachable!("a weighted addend"),
        Addend::Scaled { values: signal, shortcut, residual } => {
            (values(signal), Weights::Constant { shortcut: *shortcut, residual: *residual })
        }
        Addend::Gated { values: signal, logits, bias, is_exclusive } => {
            let (logits, bias) = (values(logits), values(bias));
            (values(signal), Weights::Gate { logits, bias, is_exclusive: *is_exclusive })
        }
        Addend::Masked { values: signal, mask } => (values(signal), Weights::Mask(values(mask))),
    }
}

fn contiguous_addend(addend: Addend<Flex>) -> Addend<Flex> {
    match addend {
        Addend::Absent => Addend::Absent,
        Addend::Plain(values) => Addend::Plain(contiguous(values)),
        Addend::Scaled { values, shortcut, residual } => {
            Addend::Scaled { values: contiguous(values), shortcut, residual }
        }
        Addend::Gated { values, logits, bias, is_exclusive } => Addend::Gated {
            values: contiguous(values),
            logits: contiguous(logits),
            bias: contiguous(bias),
            is_exclusive,
        },
        Addend::Masked { values, mask } => {
            Addend::Masked { values: contiguous(values), mask: contiguous(mask) }
        }
    }
}
