//! Convolutions for inference against the f64 reference: random shapes, every epilogue and instruction set, both algorithms.

#[cfg(unix)]
mod guarded;
mod reference;

use half::bf16;
use proptest::prelude::*;
use reference::{random, wide};
use residua_kernels::{
    Activation, Algorithm, Convolution, Epilogue, Input, Instructions, MapShape, Packing, Reading, Values,
};

proptest! {
    #![proptest_config(reference::cases_unless_asked(64))]

    #[test]
    fn packed_convolutions_are_the_references(
        (batch, height, width) in (1usize..6, 1usize..12, 1usize..12),
        (channels, outputs) in (prop_oneof![Just(16usize), Just(64), 1usize..40], prop_oneof![Just(16usize), Just(64), 1usize..40]),
        (size, stride) in (prop_oneof![Just(1usize), Just(3), Just(5)], 1usize..3),
        (adds, is_activated, activation) in (any::<bool>(), any::<bool>(), 0usize..3),
        seed: u64,
    ) {
        let input = MapShape { batch, height, width, channels };
        let output = reference::output_shape(input, outputs, stride);
        let x = random(input.len(), seed);
        let weights = random(outputs * channels * size * size, seed ^ 1);
        let [scale, shift] = [2, 3].map(|more| random(outputs, seed ^ more));
        let addend = random(output.len(), seed ^ 4);
        let activation = [Activation::None, Activation::Before, Activation::After][activation];
        let factor = 0.75;

        let relu = |value: f64, is_there: bool| if is_there { value.max(0.) } else { value };
        let read: Vec<f64> = wide(&x).into_iter().map(|value| relu(value, is_activated)).collect();
        let sums = reference::convolve(input, &read, outputs, size, stride, &wide(&weights));
        let bound = 1e-5 * (channels * size * size) as f64 + 1e-5;
        let epilogue = Epilogue::new(&scale, &shift, factor, activation);
        for instructions in Instructions::available() {
            for algorithm in [Algorithm::Winograd, Algorithm::Direct] {
                let packing = Packing::new(channels, outputs, size, stride, algorithm, instructions);
                prop_assert_eq!(packing.output(input), output);
                let mut packed = vec![f32::NAN; packing.packed_len()];
                packing.pack(&weights, &mut packed);
                let packed = packing.with_weights(&packed);
                let mut y = vec![f32::NAN; output.len()];
                let values = Input { values: (&x).into(), norm: None, is_activated };
                packed.forward(input, values, &epilogue, adds.then(|| Values::from(&addend)), &mut y, 1);
                let mut in_parts = vec![f32::NAN; output.len()];
                packed.forward(input, values, &epilogue, adds.then(|| Values::from(&addend)), &mut in_parts, 3);
                prop_assert!(y.iter().zip(&in_parts).all(|(y, part)| y.to_bits() == part.to_bits()));
                for (at, found) in y.iter().enumerate() {
                    let channel = at % outputs;
                    let [scale, shift] = [f64::from(scale[channel]), f64::from(shift[channel])];
                    let addend = if adds { f64::from(factor) * f64::from(addend[at]) } else { 0. };
                    let expected = match activation {
                        Activation::Before => relu(scale * sums[at] + shift, true) + addend,
                        activation => relu(scale * (sums[at] + addend) + shift, activation == Activation::After),
                    };
                    let difference = (f64::from(*found) - expected).abs();
                    prop_assert!(difference <= bound, "{instructions:?} {algorithm:?} at {at}: {found}, not {expected}");
                }
            }
        }
    }

    /// In bfloat16: operands are rounded, sums are of f32, and so is what follows until it is stored.
    #[test]
    fn packed_convolutions_of_bfloat16_are_the_references(
        (batch, height, width) in (1usize..4, 1usize..40, 1usize..40),
        (channels, outputs) in (prop_oneof![Just(16usize), Just(64), 1usize..40], prop_oneof![Just(16usize), Just(64), 1usize..40]),
        (size, stride) in (prop_oneof![Just(1usize), Just(3), Just(7)], 1usize..3),
        (adds, is_activated, is_normalised, activation) in (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..3),
        (reads_f32, writes_f32) in (any::<bool>(), any::<bool>()),
        seed: u64,
    ) {
        let input = MapShape { batch, height, width, channels };
        let output = reference::output_shape(input, outputs, stride);
        let (x, x_halves) = halves(input.len(), seed);
        let weights = random(outputs * channels * size * size, seed ^ 1);
        let [scale, shift] = [2, 3].map(|more| random(outputs, seed ^ more));
        let (addend, addend_halves) = halves(output.len(), seed ^ 4);
        let activation = [Activation::None, Activation::Before, Activation::After][activation];
        let factor = 0.75;

        let (norm, reference_norm) = reference::normalise(input, &x, 1, seed ^ 5);
        let relu = |value: f64, is_there: bool| if is_there { value.max(0.) } else { value };
        let read = if is_normalised { reference_norm.apply(input, &wide(&x)) } else { wide(&x) };
        let read: Vec<f64> = read.iter().map(|value| relu(*value, is_activated)).collect();
        let rounded_weights: Vec<f64> = weights.iter().map(|weight| bf16::from_f32(*weight).to_f64()).collect();
        let sums = reference::convolve(input, &read, outputs, size, stride, &rounded_weights);
        let magnitudes: [Vec<f64>; 2] = [&read, &rounded_weights].map(|values| values.iter().map(|value| value.abs()).collect());
        let magnitudes = reference::convolve(input, &magnitudes[0], outputs, size, stride, &magnitudes[1]);
        // What is normalised is rounded once it is.
        let relative = if is_normalised { 1. / 256. } else { 1e-6 };
        let epilogue = Epilogue::new(&scale, &shift, factor, activation);
        let with_tiles = Instructions::available().filter(|instructions| instructions.has_tiles());
        for instructions in with_tiles {
            let packing = Packing::new(channels, outputs, size, stride, Algorithm::Bf16, instructions);
            let mut packed = vec![f32::NAN; packing.packed_len()];
            packing.pack(&weights, &mut packed);
            let packed = packing.with_weights(&packed);
            let values = if reads_f32 { Values::F32(&x) } else { Values::Bf16(&x_halves) };
            let values = Input { values, norm: is_normalised.then_some(&norm), is_activated };
            let addend_values = if reads_f32 { Values::F32(&addend) } else { Values::Bf16(&addend_halves) };
            let in_parts = |parts| {
                let mut y = vec![f32::NAN; output.len()];
                if writes_f32 {
                    packed.forward(input, values, &epilogue, adds.then_some(addend_values), &mut y, parts);
                } else {
                    let mut halves = vec![bf16::NAN; output.len()];
                    packed.forward(input, values, &epilogue, adds.then_some(addend_values), &mut halves[..], parts);
                    y = halves.iter().map(|half| half.to_f32()).collect();
                }
                y
            };
            let y = in_parts(1);
            prop_assert_eq!(reference::bits(&y), reference::bits(&in_parts(3)), "in parts");
            for (at, found) in y.iter().enumerate() {
                let channel = at % outputs;
                let [scale, shift] = [f64::from(scale[channel]), f64::from(shift[channel])];
                let addend = if adds { f64::from(factor) * f64::from(addend[at]) } else { 0. };
                let expected = match activation {
                    Activation::Before => relu(scale * sums[at] + shift, true) + addend,
                    activation => relu(scale * (sums[at] + addend) + shift, activation == Activation::After),
                };
                let rounding = if writes_f32 { 0. } else { expected.abs() / 256. };
                let bound = relative * scale.abs() * magnitudes[at] + rounding + 1e-5;
                let difference = (f64::from(*found) - expected).abs();
                prop_assert!(difference <= bound, "{instructions:?} at {at}: {found}, not {expected}");
            }
        }
    }
}

/// Random numbers of bfloat16, as they are and as f32.
fn halves(len: usize, seed: u64) -> (Vec<f32>, Vec<bf16>) {
    let halves: Vec<bf16> = random(len, seed).into_iter().map(bf16::from_f32).collect();
    (halves.iter().map(|half| half.to_f32()).collect(), halves)
}

/// Weights of bfloat16 that do not stay in the caches next to a core, and pixels that do not either, in any parts.
#[test]
fn many_channels_of_bfloat16_in_parts() {
    for (size, stride, channels, outputs, side) in [
        (1, 1, 600, 540, 7),
        (1, 2, 512, 560, 9),
        (3, 1, 160, 224, 9),
        (3, 2, 160, 224, 9),
        (1, 1, 2048, 144, 17),
    ] {
        let input = MapShape { batch: 2, height: side, width: side, channels };
        let output = reference::output_shape(input, outputs, stride);
        let (x, x_halves) = halves(input.len(), 1);
        let (weights, _) = halves(outputs * channels * size * size, 2);
        let expected = reference::convolve(input, &wide(&x), outputs, size, stride, &wide(&weights));
        let epilogue = Epilogue::new(&vec![1.; outputs], &vec![0.; outputs], 0., Activation::None);
        for instructions in Instructions::available().filter(|instructions| instructions.has_tiles()) {
            let packing = Packing::new(channels, outputs, size, stride, Algorithm::Bf16, instructions);
            let mut packed = vec![f32::NAN; packing.packed_len()];
            packing.pack(&weights, &mut packed);
            let packed = packing.with_weights(&packed);
            let values = Input { values: Values::Bf16(&x_halves), norm: None, is_activated: false };
            let in_parts = |parts| {
                let mut y = vec![f32::NAN; output.len()];
                packed.forward(input, values, &epilogue, None, &mut y, parts);
                y
            };
            let y = in_parts(1);
            assert!(reference::difference(&expected, &y) < 1e-4, "{packing:?}");
            for parts in [2, 3, 20] {
                assert_eq!(
                    reference::bits(&y),
                    reference::bits(&in_parts(parts)),
                    "{packing:?} in {parts} parts"
                );
            }
        }
    }
}

/// Weights that do not stay in the caches next to a core, of single images and several: to the bit the training kernels' sums.
#[test]
fn many_channels_in_parts() {
    let layers = [(3, 140, 150), (1, 140, 150), (1, 520, 270)];
    // Of the last the training kernels transform the weights beforehand.
    let maps = [(1, 4), (1, 7), (5, 7), (17, 7)];
    for ((batch, side), (size, channels, outputs)) in
        maps.into_iter().flat_map(|map| layers.map(|of| (map, of)))
    {
        let input = MapShape { batch, height: side, width: side, channels };
        let x = random(input.len(), 1);
        let weights = random(outputs * channels * size * size, 2);
        let values = Input { values: (&x).into(), norm: None, is_activated: false };
        let epilogue = Epilogue::new(&vec![1.; outputs], &vec![0.; outputs], 0., Activation::None);
        for instructions in Instructions::available() {
            let algorithm = Algorithm::Winograd;
            let convolution = Convolution { input, outputs, size, stride: 1, algorithm, instructions };
            let mut expected = vec![f32::NAN; convolution.output().len()];
            convolution.forward(values, &weights, None, (&mut expected).into(), None);
            let packing = Packing::new(channels, outputs, size, 1, algorithm, instructions);
            let mut packed = vec![f32::NAN; packing.packed_len()];
            packing.pack(&weights, &mut packed);
            let packed = packing.with_weights(&packed);
            for parts in [1, 2, 3, 20] {
                let mut y = vec![f32::NAN; expected.len()];
                packed.forward(input, values, &epilogue, None, &mut y, parts);
                let are_same = y.iter().zip(&expected).all(|(y, expected)| y.to_bits() == expected.to_bits());
                assert!(are_same, "{convolution:?} in {parts} parts");
            }
        }
    }
}

/// Maps and weights that begin or end at inaccessible pages, in both precisions.
#[cfg(unix)]
#[test]
fn nothing_is_read_or_written_outside() {
    use guarded::{Guarded, Side};
    for instructions in Instructions::available() {
        let sides = [(1, 1), (4, 4), (5, 7), (9, 20)];
        let layers = [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)];
        for (side, (height, width)) in
            [Side::Start, Side::End].into_iter().flat_map(|side| sides.map(|map| (side, map)))
        {
            for ((channels, outputs), (size, stride)) in [(1, 3), (3, 64), (16, 16), (32, 17), (64, 40)]
                .into_iter()
                .flat_map(|of| layers.map(|layer| (of, layer)))
            {
                let input = MapShape { batch: 2, height, width, channels };
                let output = reference::output_shape(input, outputs, stride);
                let weights = random(outputs * channels * size * size, 1);
                let epilogue = Epilogue::new(&vec![1.; outputs], &vec![0.; outputs], 1., Activation::After);
                let packing =
                    Packing::new(channels, outputs, size, stride, Algorithm::Winograd, instructions);
                let (x, x_halves) = halves(input.len(), 2);
                let (addend, addend_halves) = halves(output.len(), 3);

                let mut packed = Guarded::new(&vec![f32::NAN; packing.packed_len()], side);
                packing.pack(&weights, &mut packed);
                let x = Guarded::new(&x, side);
                let addend = Guarded::new(&addend, side);
                let mut y = Guarded::new(&vec![f32::NAN; output.len()], side);
                let values = Input { values: Values::F32(&x), norm: None, is_activated: false };
                let added = Some(Values::F32(&addend));
                packing.with_weights(&packed).forward(input, values, &epilogue, added, &mut y[..], 1);
                assert!(y.iter().all(|value| value.is_finite()), "{packing:?}");
                if !instructions.has_tiles() {
                    continue;
                }
                let packing = Packing::new(channels, outputs, size, stride, Algorithm::Bf16, instructions);
                let mut packed = Guarded::new(&vec![f32::NAN; packing.packed_len()], side);
                packing.pack(&weights, &mut packed);
                let x = Guarded::new(&x_halves, side);
                let addend = Guarded::new(&addend_halves, side);
                let mut y = Guarded::new(&vec![bf16::NAN; output.len()], side);
                let values = Input { values: Values::Bf16(&x), norm: None, is_activated: false };
                let added = Some(Values::Bf16(&addend));
                packing.with_weights(&packed).forward(input, values, &epilogue, added, &mut y[..], 1);
                assert!(y.iter().all(|value| value.is_finite()), "{packing:?}");
            }
        }
    }
}

/// What is read is what is stored, in either storage and any parts.
#[test]
fn a_reading_is_the_normalised_map() {
    for (channels, side) in [(1, 5), (17, 3), (64, 40), (40, 9)] {
        let shape = MapShape { batch: 2, height: side, width: side, channels };
        let (x, x_halves) = halves(shape.len(), 1);
        let (norm, reference_norm) = reference::normalise(shape, &x, 1, 2);
        let expected: Vec<f64> =
            reference_norm.apply(shape, &wide(&x)).iter().map(|value| value.max(0.)).collect();
        for instructions in Instructions::available() {
            let reading = Reading { shape, instructions };
            for values in [Values::F32(&x), Values::Bf16(&x_halves)] {
                let input = Input { values, norm: Some(&norm), is_activated: true };
                for parts in [1, 3] {
                    let mut y = vec![f32::NAN; shape.len()];
                    reading.forward(input, &mut y, parts);
                    assert!(reference::difference(&expected, &y) < 1e-5, "{reading:?}");
                    let mut halves = vec![bf16::NAN; shape.len()];
                    reading.forward(input, &mut halves[..], parts);
                    let nearest: Vec<bf16> = y.into_iter().map(bf16::from_f32).collect();
                    assert_eq!(halves, nearest, "{reading:?}");
                }
            }
        }
    }
}
