//! Convolutions for inference against the f64 reference: random shapes, every epilogue and instruction set, both algorithms.

mod reference;

use proptest::prelude::*;
use reference::{random, wide};
use residua_kernels::{Activation, Algorithm, Convolution, Epilogue, Input, Instructions, MapShape, Packing};

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
                packed.forward(input, values, &epilogue, adds.then_some(&addend[..]), &mut y, 1);
                let mut in_parts = vec![f32::NAN; output.len()];
                packed.forward(input, values, &epilogue, adds.then_some(&addend[..]), &mut in_parts, 3);
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
