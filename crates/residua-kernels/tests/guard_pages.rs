//! Slices that begin or end at inaccessible pages: an access outside them ends the process.
#![cfg(unix)]

mod guarded;
mod reference;

use guarded::{Guarded, Side};
use reference::{EPSILON, random};
use residua_kernels::{
    Algorithm, Convolution, GateGradient, Input, InputGradient, Instructions, MapShape, Normalisation,
    OutputGradient, WeightedMerge, Weights,
};

const CHANNELS: [usize; 6] = [1, 3, 15, 16, 17, 40];
const SIDES: [(usize, usize); 5] = [(1, 1), (1, 7), (2, 3), (5, 4), (9, 17)];

fn each_convolution(instructions: Instructions, check: impl Fn(Convolution, Side)) {
    for side in [Side::Start, Side::End] {
        for (channels, outputs) in
            CHANNELS.into_iter().flat_map(|inputs| CHANNELS.map(|outputs| (inputs, outputs)))
        {
            for (height, width) in SIDES {
                let input = MapShape { batch: 2, height, width, channels };
                for (size, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1)] {
                    for algorithm in [Algorithm::Winograd, Algorithm::Direct] {
                        check(Convolution { input, outputs, size, stride, algorithm, instructions }, side);
                    }
                }
            }
        }
        for (channels, size) in [(139, 3), (267, 1)] {
            let input = MapShape { batch: 2, height: 5, width: 4, channels };
            let algorithm = Algorithm::Winograd;
            check(Convolution { input, outputs: channels, size, stride: 1, algorithm, instructions }, side);
        }
    }
}

fn normalisation(channels: usize) -> Normalisation {
    let moments = [vec![0.1; channels], vec![0.5; channels]].concat();
    Normalisation::new(&moments, &random(channels, 5), &random(channels, 6), EPSILON)
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

fn check_forward(instructions: Instructions) {
    each_convolution(instructions, |convolution, side| {
        let (length, channels) = (convolution.output().len(), convolution.input.channels);
        let x = Guarded::new(&random(convolution.input.len(), 1), side);
        let weights = Guarded::new(&random(convolution.weights_len(), 2), side);
        let addend = Guarded::new(&random(length, 3), side);
        let mut output = Guarded::new(&vec![f32::NAN; length], side);
        let mut moments = Guarded::new(&vec![f32::NAN; 2 * convolution.outputs], side);
        let norm = normalisation(channels);
        for norm in [None, Some(&norm)] {
            let input = Input { values: (&x[..]).into(), norm, is_activated: true };
            convolution.forward(
                input,
                &weights,
                Some((&addend[..]).into()),
                (&mut output[..]).into(),
                Some((1, &mut moments)),
            );
            assert!(is_finite(&output) && is_finite(&moments), "{convolution:?}");
        }
    });
}

fn check_backward(instructions: Instructions) {
    each_convolution(instructions, |convolution, side| {
        let length = convolution.input.len();
        let x = Guarded::new(&random(length, 1), side);
        let weights = Guarded::new(&random(convolution.weights_len(), 2), side);
        let gradient = Guarded::new(&random(convolution.output().len(), 3), side);
        let z = Guarded::new(&random(convolution.output().len(), 4), side);
        let addend = Guarded::new(&random(length, 7), side);
        let mut of_weights = Guarded::new(&vec![f32::NAN; weights.len()], side);
        let mut of_input = Guarded::new(&vec![f32::NAN; length], side);
        let norm = normalisation(convolution.input.channels);
        let input = Input { values: (&x[..]).into(), norm: Some(&norm), is_activated: true };
        let plain = OutputGradient::Plain((&gradient[..]).into());
        let wanted = InputGradient::OfNorm(&mut of_input);
        let sums = convolution.backward(input, &weights, plain, &mut of_weights, wanted, false).unwrap();
        assert!(is_finite(&of_weights) && is_finite(&of_input), "{convolution:?}");
        convolution.finish_input_gradient(
            input,
            &weights,
            plain,
            &sums,
            Some((&addend[..]).into()),
            (&mut of_input[..]).into(),
        );
        assert!(is_finite(&of_input), "{convolution:?}");

        // The output's own normalisation, with sums from an operation that reads it.
        let output = convolution.output();
        let output_norm = normalisation(output.channels);
        let reader = Convolution { input: output, outputs: 1, size: 1, stride: 1, ..convolution };
        let through = reader.backward(
            Input { values: (&z[..]).into(), norm: Some(&output_norm), is_activated: false },
            &vec![1.; output.channels],
            OutputGradient::Plain((&vec![1.; output.batch * output.pixels()]).into()),
            &mut vec![0.; output.channels],
            InputGradient::SumsOnly,
            false,
        );
        let through = OutputGradient::ThroughNorm {
            gradient: &gradient,
            x: (&z[..]).into(),
            norm: &output_norm,
            sums: &through.unwrap(),
        };
        let raw = Input { norm: None, ..input };
        let wanted = InputGradient::Complete {
            output: (&mut of_input[..]).into(),
            addend: Some((&addend[..]).into()),
        };
        convolution.backward(raw, &weights, through, &mut of_weights, wanted, false);
        assert!(is_finite(&of_weights) && is_finite(&of_input), "{convolution:?}");
    });
}

fn check_weighted(instructions: Instructions, shape: MapShape, side: Side) {
    let random = |length: usize, seed: u64| Guarded::new(&random(length, seed), side);
    let [x, addend, values, gradient] = [1, 2, 3, 4].map(|seed| random(shape.len(), seed));
    let bias = random(shape.channels, 7);
    let norm = normalisation(shape.channels);
    let input = Input { values: (&x[..]).into(), norm: Some(&norm), is_activated: true };
    let merge = WeightedMerge { shape, is_activated: true, instructions };
    let gate = |is_exclusive: bool| Weights::Gate { logits: &values, bias: &bias, is_exclusive };
    let constant = Weights::Constant { shortcut: 0.5, residual: 0.5 };
    for weights in [constant, gate(true), gate(false), Weights::Mask(&values)] {
        let unwritten = |length: usize| Guarded::new(&vec![f32::NAN; length], side);
        let [mut output, mut of_input, mut of_addend, mut of_logits] = [shape.len(); 4].map(unwritten);
        let mut of_bias = unwritten(shape.channels);
        let is_gate = matches!(weights, Weights::Gate { .. });
        let of_gate = is_gate.then_some(GateGradient { logits: &mut of_logits, bias: &mut of_bias });
        merge.forward(input, &addend, weights, &mut output);
        merge.backward(input, &addend, weights, &output, &gradient, &mut of_input, &mut of_addend, of_gate);
        assert!(is_finite(&output) && is_finite(&of_input) && is_finite(&of_addend), "{merge:?}");
        assert!(!is_gate || is_finite(&of_logits) && is_finite(&of_bias), "{merge:?}");
    }
}

#[test]
fn weighted_merges_stay_within_their_slices() {
    for instructions in Instructions::available() {
        for (channels, side) in
            CHANNELS.into_iter().chain([64, 67]).flat_map(|c| [(c, Side::Start), (c, Side::End)])
        {
            for (height, width) in SIDES {
                check_weighted(instructions, MapShape { batch: 2, height, width, channels }, side);
            }
        }
    }
}

#[test]
fn forward_stays_within_its_slices() {
    Instructions::available().for_each(check_forward);
}

#[test]
fn backward_stays_within_its_slices() {
    Instructions::available().for_each(check_backward);
}

/// Whole pages: the map begins and ends at a guard, is aligned, and so large that it is stored past the caches.
#[test]
fn streamed_output_stays_within_its_slice() {
    let input = MapShape { batch: 384, height: 32, width: 32, channels: 1 };
    let x = random(input.len(), 1);
    for instructions in Instructions::available() {
        let convolution = Convolution {
            input,
            outputs: 16,
            size: 1,
            stride: 1,
            algorithm: Algorithm::Direct,
            instructions,
        };
        let mut output = Guarded::new(&vec![f32::NAN; convolution.output().len()], Side::Start);
        let input = Input { values: (&x[..]).into(), norm: None, is_activated: false };
        convolution.forward(input, &random(16, 2), None, (&mut output[..]).into(), None);
        assert!(is_finite(&output), "{instructions:?}");
    }
}
