//! Maps stored in bfloat16: the kernels compute what they compute of the same numbers in f32, and round it at the end.

#[cfg(unix)]
mod guarded;
mod reference;

use half::bf16;
use proptest::prelude::*;
use reference::{EPSILON, random};
use residua_kernels::{
    Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation, OutputGradient,
    Values, ValuesMut, finish_gradient, moments,
};

fn rounded(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&value| bf16::from_f32(value)).collect()
}

fn widened(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// A map in bfloat16, and the same numbers in f32.
fn map(length: usize, seed: u64) -> (Vec<bf16>, Vec<f32>) {
    let halves = rounded(&random(length, seed));
    let wide = widened(&halves);
    (halves, wide)
}

fn normalisation(channels: usize) -> Normalisation {
    let moments = [vec![0.1; channels], vec![0.5; channels]].concat();
    Normalisation::new(&moments, &random(channels, 5), &random(channels, 6), EPSILON)
}

#[track_caller]
fn assert_rounded(found: &[bf16], exact: &[f32], what: &str) {
    let bits = |values: &[bf16]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(found) == bits(&rounded(exact)), "{what}");
}

/// For Miri, with `scripts/test-miri`.
#[test]
fn tiny_maps_on_the_portable_path() {
    for (size, algorithm) in [(1, Algorithm::Direct), (3, Algorithm::Winograd)] {
        let input = MapShape { batch: 1, height: 2, width: 1, channels: 3 };
        let instructions = Instructions::Portable;
        check(Convolution { input, outputs: 2, size, stride: 1, algorithm, instructions }, 7);
    }
}

/// Every kind of number through a kernel that changes none of them: a 1x1 convolution by the identity.
#[cfg_attr(miri, ignore = "too large for an interpreter")]
#[test]
fn numbers_are_rounded_to_the_nearest() {
    let mut numbers = vec![0., -0., 1., -1., f32::MIN_POSITIVE, 1e-40, -1e-45, f32::MAX, f32::INFINITY];
    for pattern in [0x3f80_0000u32, 0x0000_0001, 0x7f7f_0000, 0x0080_0000, 0xc123_0000] {
        // Around a tie, above an even number and an odd one.
        for offset in [0x7fff, 0x8000, 0x8001, 0x1_7fff, 0x1_8000, 0x1_8001] {
            numbers.push(f32::from_bits(pattern + offset));
        }
    }
    numbers.extend(random(1000, 9));
    for instructions in Instructions::available() {
        for number in [&numbers[..], &[f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)]].concat() {
            // One channel, so that no zero is multiplied by an infinite number.
            let shape = MapShape { batch: 1, height: 1, width: 1, channels: 1 };
            let mut output = [bf16::ZERO];
            let plain = OutputGradient::Plain(Values::F32(std::slice::from_ref(&number)));
            finish_gradient(shape, plain, None, ValuesMut::Bf16(&mut output), instructions);
            if number.is_nan() {
                assert!(output[0].is_nan(), "{instructions:?}: {number:?}");
            } else {
                let expected = bf16::from_f32(number);
                assert_eq!(output[0].to_bits(), expected.to_bits(), "{instructions:?}: {number:?}");
            }
        }
        // Whole vectors.
        let length = numbers.len() / 16 * 16;
        let shape = MapShape { batch: 1, height: 1, width: length / 16, channels: 16 };
        let mut output = vec![bf16::ZERO; length];
        let plain = OutputGradient::Plain(Values::F32(&numbers[..length]));
        finish_gradient(shape, plain, None, ValuesMut::Bf16(&mut output), instructions);
        assert_rounded(&output, &numbers[..length], "whole vectors");
    }
}

/// Forward and backward by every combination that the kernels have, in bfloat16 and in f32.
fn check(convolution: Convolution, seed: u64) {
    let (input, output) = (convolution.input, convolution.output());
    let (x, wide_x) = map(input.len(), seed);
    let (beside, wide_beside) = map(output.len(), seed + 1);
    let (signal, wide_signal) = map(input.len(), seed + 2);
    let weights = random(convolution.weights_len(), seed + 3);
    let norm = normalisation(input.channels);
    for norm in [None, Some(&norm)] {
        let narrow = Input { values: Values::Bf16(&x), norm, is_activated: true };
        let wide = Input { values: (&wide_x).into(), norm, is_activated: true };

        let mut y = vec![bf16::ZERO; output.len()];
        let mut wide_y = vec![0.; output.len()];
        let mut found = vec![f32::NAN; 2 * output.channels];
        convolution.forward(
            narrow,
            &weights,
            Some(Values::Bf16(&beside)),
            ValuesMut::Bf16(&mut y),
            Some((1, &mut found)),
        );
        convolution.forward(wide, &weights, Some((&wide_beside).into()), (&mut wide_y).into(), None);
        assert_rounded(&y, &wide_y, "output");
        let mut of_stored = vec![0.; 2 * output.channels];
        moments(output, &widened(&y), 1, convolution.instructions, &mut of_stored);
        for (found, expected) in found.iter().zip(&of_stored) {
            assert!((found - expected).abs() <= 1e-4 * (1. + expected.abs()), "moments of what is stored");
        }

        let gradients = |input: Input, gradient: Values| {
            let mut of_weights = vec![f32::NAN; weights.len()];
            let mut of_norm = vec![f32::NAN; wide_x.len()];
            let gradient = OutputGradient::Plain(gradient);
            let wanted = match norm {
                Some(_) => InputGradient::OfNorm(&mut of_norm),
                None => InputGradient::Unneeded,
            };
            let sums = convolution.backward(input, &weights, gradient, &mut of_weights, wanted, false);
            (of_weights, of_norm, sums)
        };
        let (of_weights, of_norm, sums) = gradients(narrow, Values::Bf16(&beside));
        let (wide_of_weights, wide_of_norm, _) = gradients(wide, Values::F32(&wide_beside));
        assert!(of_weights == wide_of_weights, "gradient of the weights");
        assert!(norm.is_none() || of_norm == wide_of_norm, "gradient of the normalised input");

        let mut of_x = vec![bf16::ZERO; x.len()];
        let mut wide_of_x = vec![0.; x.len()];
        let narrow_gradient = OutputGradient::Plain(Values::Bf16(&beside));
        let wide_gradient = OutputGradient::Plain((&wide_beside).into());
        let (Some(norm), Some(sums)) = (norm, sums) else {
            let mut unused = vec![0.; weights.len()];
            let output = ValuesMut::Bf16(&mut of_x);
            let wanted = InputGradient::Complete { output, addend: Some(Values::Bf16(&signal)) };
            convolution.backward(narrow, &weights, narrow_gradient, &mut unused, wanted, false);
            let (output, addend) = ((&mut wide_of_x).into(), Some((&wide_signal).into()));
            let wanted = InputGradient::Complete { output, addend };
            convolution.backward(wide, &weights, wide_gradient, &mut unused, wanted, false);
            assert_rounded(&of_x, &wide_of_x, "gradient of a raw input");
            continue;
        };
        convolution.finish_input_gradient(
            narrow,
            &weights,
            narrow_gradient,
            &sums,
            Some(Values::Bf16(&signal)),
            ValuesMut::Bf16(&mut of_x),
        );
        let addend = Some((&wide_signal).into());
        convolution.finish_input_gradient(
            wide,
            &weights,
            wide_gradient,
            &sums,
            addend,
            (&mut wide_of_x).into(),
        );
        assert_rounded(&of_x, &wide_of_x, "gradient of the input, computed again");

        let instructions = convolution.instructions;
        let through = |x| OutputGradient::ThroughNorm { gradient: &of_norm, x, norm, sums: &sums };
        let (gradient, addend) = (through(Values::Bf16(&x)), Some(Values::Bf16(&signal)));
        finish_gradient(input, gradient, addend, ValuesMut::Bf16(&mut of_x), instructions);
        let (gradient, addend) = (through((&wide_x).into()), Some((&wide_signal).into()));
        finish_gradient(input, gradient, addend, (&mut wide_of_x).into(), instructions);
        assert_rounded(&of_x, &wide_of_x, "gradient of the input, finished");
    }
}

proptest! {
    #![proptest_config(reference::cases_unless_asked(48))]

    #[cfg_attr(miri, ignore = "too large for an interpreter")]
    #[test]
    fn kernels_compute_in_f32_and_round(
        batch in 1usize..4,
        sides in (1usize..10, 1usize..10),
        channels in prop_oneof![1usize..40, Just(16usize), Just(32), Just(64)],
        outputs in prop_oneof![1usize..40, Just(16usize), Just(32), Just(64)],
        (size, stride) in prop_oneof![Just((1usize, 1usize)), Just((1, 2)), Just((3, 1)), Just((3, 2))],
        seed in 0u64..1000,
    ) {
        let input = MapShape { batch, height: sides.0, width: sides.1, channels };
        for instructions in Instructions::available() {
            for algorithm in [Algorithm::Winograd, Algorithm::Direct] {
                check(Convolution { input, outputs, size, stride, algorithm, instructions }, seed);
            }
        }
    }
}

/// Maps that begin or end at inaccessible pages.
#[cfg(unix)]
#[cfg_attr(miri, ignore = "too large for an interpreter")]
#[test]
fn nothing_is_read_or_written_outside() {
    use guarded::{Guarded, Side};
    for instructions in Instructions::available() {
        for side in [Side::Start, Side::End] {
            for channels in [1, 3, 16, 17, 32] {
                let input = MapShape { batch: 2, height: 5, width: 7, channels };
                for (size, stride) in [(1, 1), (1, 2), (3, 1), (3, 2)] {
                    let algorithm = Algorithm::Winograd;
                    let convolution =
                        Convolution { input, outputs: channels, size, stride, algorithm, instructions };
                    let x = Guarded::new(&rounded(&random(input.len(), 1)), side);
                    let outputs = convolution.output().len();
                    let addend = Guarded::new(&rounded(&random(outputs, 2)), side);
                    let mut y = Guarded::new(&vec![bf16::NAN; outputs], side);
                    let weights = random(convolution.weights_len(), 3);
                    let norm = normalisation(channels);
                    let read = Input { values: Values::Bf16(&x), norm: Some(&norm), is_activated: true };
                    let (values, written) = (Some(Values::Bf16(&addend)), ValuesMut::Bf16(&mut y));
                    convolution.forward(read, &weights, values, written, None);
                    assert!(y.iter().all(|value| value.is_finite()), "{convolution:?}");

                    let gradient = OutputGradient::Plain(Values::Bf16(&addend));
                    let mut of_weights = vec![0.; weights.len()];
                    let wanted = InputGradient::SumsOnly;
                    let sums = convolution.backward(read, &weights, gradient, &mut of_weights, wanted, false);
                    let mut of_x = Guarded::new(&vec![bf16::NAN; input.len()], side);
                    let (signal, written) = (Some(Values::Bf16(&x)), ValuesMut::Bf16(&mut of_x));
                    let sums = sums.expect("the input is normalised");
                    convolution.finish_input_gradient(read, &weights, gradient, &sums, signal, written);
                    assert!(of_x.iter().all(|value| value.is_finite()), "{convolution:?}");
                }
            }
        }
    }
}
