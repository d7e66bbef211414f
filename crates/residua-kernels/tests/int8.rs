//! Convolutions of bytes against the f64 reference on rounded numbers: random shapes, every epilogue and instruction set.

mod reference;

use half::bf16;
use proptest::prelude::*;
use reference::random;
use residua_kernels::{
    Activation, Epilogue, Input, Instructions, Int8Input, Int8Output, Int8Packing, MapShape, Normalisation,
    Quantisation, Values, rounded_weights,
};

/// Bytes that are all near, which is all but those that lie between two steps.
fn are_near(found: &[u8], expected: &[u8]) -> bool {
    let differences = found.iter().zip(expected).map(|(found, expected)| found.abs_diff(*expected));
    let (mut largest, mut count) = (0, 0);
    for difference in differences {
        largest = difference.max(largest);
        count += usize::from(difference > 0);
    }
    largest <= 1 && count <= 2 + found.len() / 500
}

proptest! {
    #![proptest_config(reference::cases_unless_asked(64))]

    #[test]
    fn convolutions_round_their_operands_only(
        (batch, height, width) in (1usize..6, 1usize..12, 1usize..40),
        (channels, outputs) in (prop_oneof![Just(16usize), Just(64), 1usize..150], prop_oneof![Just(16usize), Just(64), 1usize..40]),
        (size, stride) in (prop_oneof![Just(1usize), Just(3), Just(5)], 1usize..4),
        (adds, reads, is_signed, activation) in (any::<bool>(), 0usize..4, any::<bool>(), 0usize..3),
        seed: u64,
    ) {
        let input = MapShape { batch, height, width, channels };
        let output = reference::output_shape(input, outputs, stride);
        let x = random(input.len(), seed);
        let weights = random(outputs * channels * size * size, seed ^ 1);
        let [scale, shift] = [2, 3].map(|more| random(outputs, seed ^ more));
        let addend: Vec<bf16> = random(output.len(), seed ^ 4).into_iter().map(bf16::from_f32).collect();
        let activation = [Activation::None, Activation::Before, Activation::After][activation];
        let factor = 0.75;

        // What is read: bytes, numbers as they are, rectified, or normalised and rectified.
        let norm = Normalisation::new(&random(2 * channels, seed ^ 5).iter().map(|value| value.abs() + 0.5).collect::<Vec<_>>(), &vec![1.5; channels], &random(channels, seed ^ 6), 1e-5);
        let is_activated = reads >= 2;
        let numbers = Input { values: (&x).into(), norm: (reads == 3).then_some(&norm), is_activated };
        let quantisation = Quantisation::of(if is_signed && !is_activated { -1.7..=2.1 } else { 0.0..=2.3 });
        let byte_of = |value: f32| {
            (f64::from(value) / f64::from(quantisation.scale) + f64::from(quantisation.zero_point))
                .round_ties_even()
                .clamp(0., 255.) as u8
        };
        let bytes: Vec<u8> = x.iter().map(|value| byte_of(*value)).collect();
        let relu = |value: f64, is_there: bool| if is_there { value.max(0.) } else { value };

        let (rounded, steps) = rounded_weights(&weights, outputs);
        let each = weights.len() / outputs;
        let of_weights: Vec<f64> = rounded
            .iter()
            .enumerate()
            .map(|(at, byte)| f64::from(*byte) * f64::from(steps[at / each]))
            .collect();
        let epilogue = Epilogue::new(&scale, &shift, factor, activation);
        let to = Quantisation::of(-2.5..=3.5);
        for instructions in Instructions::available() {
            let packing = Int8Packing::new([channels, outputs], size, stride, quantisation, instructions);
            prop_assert_eq!(packing.output(input), output);
            let mut packed = vec![f32::NAN; packing.packed_len()];
            packing.pack(&weights, &mut packed);
            let read = if reads == 0 { Int8Input::Bytes(&bytes) } else { Int8Input::Numbers(numbers) };
            let added = adds.then(|| Values::from(&*addend));
            let mut y = vec![f32::NAN; output.len()];
            packing.forward(&packed, input, read, &epilogue, added, Int8Output::Numbers((&mut y).into()), 1);
            let mut in_parts = vec![f32::NAN; output.len()];
            packing.forward(&packed, input, read, &epilogue, added, Int8Output::Numbers((&mut in_parts).into()), 3);
            prop_assert!(y.iter().zip(&in_parts).all(|(y, part)| y.to_bits() == part.to_bits()));

            if reads < 3 {
                let of_x: Vec<f64> = x
                    .iter()
                    .map(|value| if reads == 0 { *value } else { relu(f64::from(*value), is_activated) as f32 })
                    .map(|value| (f64::from(byte_of(value)) - f64::from(quantisation.zero_point)) * f64::from(quantisation.scale))
                    .collect();
                let sums = reference::convolve(input, &of_x, outputs, size, stride, &of_weights);
                // What is added up, the zeros' share included, which is subtracted again.
                let zeros = f64::from(quantisation.zero_point) * f64::from(quantisation.scale);
                let magnitudes: Vec<f64> = of_x.iter().map(|value| value.abs() + zeros).collect();
                let of_magnitudes: Vec<f64> = of_weights.iter().map(|weight| weight.abs()).collect();
                let magnitudes = reference::convolve(input, &magnitudes, outputs, size, stride, &of_magnitudes);
                for (at, found) in y.iter().enumerate() {
                    let channel = at % outputs;
                    let [scale, shift] = [f64::from(scale[channel]), f64::from(shift[channel])];
                    let addend = if adds { f64::from(factor) * addend[at].to_f64() } else { 0. };
                    let expected = match activation {
                        Activation::Before => relu(scale * sums[at] + shift, true) + addend,
                        activation => relu(scale * (sums[at] + addend) + shift, activation == Activation::After),
                    };
                    // A number between two steps may go to either.
                    let of_input = if reads == 0 { 0. } else { 4. * f64::from(quantisation.scale) };
                    let bound = 1e-6 * (1. + magnitudes[at]) * (1. + scale.abs()) + of_input * scale.abs();
                    let difference = (f64::from(*found) - expected).abs();
                    prop_assert!(difference <= bound, "{:?}: {} for {}", instructions, found, expected);
                }
            }

            // Bytes of that, and numbers of bfloat16.
            let mut to_bytes = vec![0; output.len()];
            packing.forward(&packed, input, read, &epilogue, added, Int8Output::Bytes(&mut to_bytes, to), 2);
            let expected: Vec<u8> = y
                .iter()
                .map(|y| (y / to.scale + f32::from(to.zero_point)).round_ties_even().clamp(0., 255.) as u8)
                .collect();
            prop_assert!(are_near(&to_bytes, &expected));
            let mut halves = vec![bf16::NAN; output.len()];
            packing.forward(&packed, input, read, &epilogue, added, Int8Output::Numbers((&mut *halves).into()), 2);
            prop_assert!(halves.iter().zip(&y).all(|(half, y)| *half == bf16::from_f32(*y)));
        }
    }
}

/// Weights that do not stay next to a core, whose work is divided by outputs.
#[test]
fn all_instructions_add_up_the_same() {
    for (size, stride, side, channels, outputs) in
        [(1, 1, 7, 1024, 600), (3, 1, 5, 300, 260), (3, 2, 9, 256, 256), (7, 2, 15, 3, 64), (1, 2, 8, 90, 70)]
    {
        let input = MapShape { batch: 3, height: side, width: side + 1, channels };
        let bytes: Vec<u8> = random(input.len(), 1).iter().map(|value| (value * 1000.) as u8).collect();
        let weights = random(outputs * channels * size * size, 2);
        let epilogue = Epilogue::new(&vec![1.; outputs], &random(outputs, 3), 0., Activation::After);
        let quantisation = Quantisation { scale: 0.01, zero_point: 3 };
        let mut expected: Option<Vec<u8>> = None;
        for instructions in Instructions::available() {
            let packing = Int8Packing::new([channels, outputs], size, stride, quantisation, instructions);
            let mut packed = vec![f32::NAN; packing.packed_len()];
            packing.pack(&weights, &mut packed);
            for parts in [1, 3] {
                let mut y = vec![0; packing.output(input).len()];
                let (read, to) = (Int8Input::Bytes(&bytes), Quantisation { scale: 0.3, zero_point: 0 });
                packing.forward(&packed, input, read, &epilogue, None, Int8Output::Bytes(&mut y, to), parts);
                assert!(y.iter().any(|byte| *byte > 0), "something to compare");
                match &expected {
                    None => expected = Some(y),
                    Some(expected) => assert!(are_near(&y, expected), "{instructions:?}, {size}x{size}"),
                }
            }
        }
    }
}

#[test]
fn a_range_has_zero_as_a_byte() {
    for range in [-1.0..=3.0, 0.5..=2.0, -3.0..=-1.0, 0.0..=0.0, -1e-3..=1e-3] {
        let quantisation = Quantisation::of(range.clone());
        assert_eq!(quantisation.rounded(0.), 0.);
        for value in [*range.start(), *range.end()] {
            let difference = (quantisation.rounded(value) - value).abs();
            assert!(difference <= quantisation.scale * 0.5001, "{range:?}: {quantisation:?}");
        }
    }
}
