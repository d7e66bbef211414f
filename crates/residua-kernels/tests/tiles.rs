//! Training's convolutions in bfloat16 against those in f32: random shapes, every direction, source and sink.

mod reference;

use proptest::prelude::*;
use reference::{bits, normalise, random, with_threads};
use residua_kernels::{Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, OutputGradient};

/// All that a convolution computes in training, by a name.
type Results = Vec<(&'static str, Vec<f32>)>;

fn all(convolution: Convolution, is_normalised: bool, adds: bool, seed: u64) -> Results {
    let (shape, output) = (convolution.input, convolution.output());
    let [x, signal] = [1, 2].map(|more| random(shape.len(), seed ^ more));
    let [addend, gradient, z] = [3, 4, 5].map(|more| random(output.len(), seed ^ more));
    let weights = random(convolution.weights_len(), seed ^ 6);
    let (norm, _) = normalise(shape, &x, 1, seed ^ 7);
    let input =
        Input { values: (&x).into(), norm: is_normalised.then_some(&norm), is_activated: is_normalised };
    let mut results = Results::new();

    let (mut y, mut moments) = (vec![f32::NAN; output.len()], vec![f32::NAN; 2 * output.channels]);
    let added = adds.then(|| (&addend).into());
    convolution.forward(input, &weights, added, (&mut y).into(), Some((1, &mut moments)));
    results.extend([("output", y), ("moments", moments)]);

    // The gradient through a normalisation behind the convolution, whose sums a convolution further on has found.
    let (behind, _) = normalise(output, &z, 1, seed ^ 8);
    let next = Convolution { input: output, algorithm: Algorithm::Direct, stride: 1, ..convolution };
    let next_weights = random(next.weights_len(), seed ^ 9);
    let read = Input { values: (&z).into(), norm: Some(&behind), is_activated: true };
    let of_next = random(next.output().len(), seed ^ 10);
    let mut of_norm = vec![f32::NAN; output.len()];
    let wanted = InputGradient::OfNorm(&mut of_norm);
    let mut unused = vec![0.; next_weights.len()];
    let through = OutputGradient::Plain((&of_next).into());
    let sums = next.backward(read, &next_weights, through, &mut unused, wanted, false).unwrap();
    let through =
        OutputGradient::ThroughNorm { gradient: &of_norm, x: (&z).into(), norm: &behind, sums: &sums };

    for (gradient, names) in [
        (OutputGradient::Plain((&gradient).into()), ["weights", "input", "gamma", "finished"]),
        (through, ["weights, through", "input, through", "gamma, through", "finished, through"]),
    ] {
        let mut of_weights = vec![f32::NAN; weights.len()];
        let mut of_x = vec![f32::NAN; shape.len()];
        if is_normalised {
            let wanted = InputGradient::OfNorm(&mut of_x);
            let sums = convolution.backward(input, &weights, gradient, &mut of_weights, wanted, false);
            let sums = sums.unwrap();
            let mut finished = vec![f32::NAN; shape.len()];
            let added = adds.then(|| (&signal).into());
            convolution.finish_input_gradient(
                input,
                &weights,
                gradient,
                &sums,
                added,
                (&mut finished).into(),
            );
            results.extend([(names[2], [sums.gamma, sums.beta].concat()), (names[3], finished)]);
        } else {
            let wanted = InputGradient::Complete {
                output: (&mut of_x).into(),
                addend: adds.then(|| (&signal).into()),
            };
            convolution.backward(input, &weights, gradient, &mut of_weights, wanted, false);
        }
        results.extend([(names[0], of_weights), (names[1], of_x)]);
    }
    results
}

/// `|a - b| / |b|`
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b))).max(1e-9)
}

fn with_tiles() -> impl Iterator<Item = Instructions> {
    Instructions::available().filter(|instructions| instructions.has_tiles())
}

fn check(convolution: Convolution, is_normalised: bool, adds: bool, seed: u64) {
    for instructions in with_tiles() {
        let rounded = Convolution { algorithm: Algorithm::Bf16, instructions, ..convolution };
        let exact = Convolution { algorithm: Algorithm::Direct, ..rounded };
        let rounded = all(rounded, is_normalised, adds, seed);
        for ((name, rounded), (_, exact)) in rounded.iter().zip(all(exact, is_normalised, adds, seed)) {
            let distance = distance(rounded, &exact);
            // Sums over all pixels cancel, and so do gradients less their means.
            let bound = if name.contains("gamma") || name.contains("moments") { 0.08 } else { 0.02 };
            assert!(distance < bound, "{convolution:?} {instructions:?}, {name}: {distance}");
        }
    }
}

proptest! {
    #![proptest_config(reference::cases_unless_asked(48))]

    #[test]
    fn convolutions_round_their_operands_only(
        (batch, height, width) in (1usize..7, 1usize..12, 1usize..40),
        (channels, outputs) in (prop_oneof![Just(16usize), Just(64), 1usize..50], prop_oneof![Just(16usize), Just(64), 1usize..50]),
        (size, stride) in (prop_oneof![Just(1usize), Just(3), Just(5)], prop_oneof![Just(1usize), Just(1), Just(2), Just(3)]),
        (is_normalised, adds) in (any::<bool>(), any::<bool>()),
        seed: u64,
    ) {
        let input = MapShape { batch, height, width, channels };
        let (algorithm, instructions) = (Algorithm::Bf16, Instructions::Portable);
        check(Convolution { input, outputs, size, stride, algorithm, instructions }, is_normalised, adds, seed);
    }
}

/// Weights that do not stay next to a core, whose work is divided.
#[test]
fn many_channels() {
    for (size, stride, side, channels, outputs) in [
        (1, 1, 7, 600, 540),
        (1, 1, 11, 128, 130),
        (1, 1, 3, 33, 500),
        (3, 1, 5, 200, 176),
        (1, 2, 9, 200, 300),
        (1, 3, 7, 128, 128),
        (3, 2, 6, 176, 200),
        (3, 2, 7, 300, 40),
    ] {
        let input = MapShape { batch: 3, height: side, width: side, channels };
        let (algorithm, instructions) = (Algorithm::Bf16, Instructions::Portable);
        check(Convolution { input, outputs, size, stride, algorithm, instructions }, true, true, 1);
    }
}

#[test]
fn any_number_of_threads_computes_the_same() {
    for (size, stride, channels, outputs) in
        [(3, 1, 24, 16), (1, 1, 520, 300), (3, 2, 16, 24), (1, 2, 300, 200)]
    {
        let input = MapShape { batch: 9, height: 7, width: 6, channels };
        for instructions in with_tiles() {
            let algorithm = Algorithm::Bf16;
            let convolution = Convolution { input, outputs, size, stride, algorithm, instructions };
            let found = with_threads(|| {
                assert!(convolution.is_in_bf16());
                let results = all(convolution, true, true, 1);
                results.into_iter().map(|(name, values)| (name, bits(&values))).collect::<Vec<_>>()
            });
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{convolution:?}");
        }
    }
}
