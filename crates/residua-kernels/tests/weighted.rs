//! Merges of weighted paths against the f64 reference: random shapes, every kind of weights, every instruction set.

mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use reference::{
    Factors, bits, difference, difference_beside, masked, normalise, random, relu, sigmoid, wide,
    with_threads,
};
use residua_kernels::{GateGradient, Input, Instructions, MapShape, WeightedMerge, Weights};

const TOLERANCE: f64 = 1e-5;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Constant,
    Gate { is_exclusive: bool },
    Mask,
}

const KINDS: [Kind; 4] =
    [Kind::Constant, Kind::Gate { is_exclusive: true }, Kind::Gate { is_exclusive: false }, Kind::Mask];

/// What weights are made of.
struct Material {
    values: Vec<f32>,
    bias: Vec<f32>,
}

impl Material {
    fn new(shape: MapShape, seed: u64) -> Self {
        let values = random(shape.len(), seed).iter().map(|value| 3. * value).collect();
        Self { values, bias: random(shape.channels, seed + 1) }
    }

    fn weights(&self, kind: Kind) -> Weights<'_> {
        match kind {
            Kind::Constant => Weights::Constant { shortcut: self.bias[0], residual: self.values[0] },
            Kind::Gate { is_exclusive } => {
                Weights::Gate { logits: &self.values, bias: &self.bias, is_exclusive }
            }
            Kind::Mask => Weights::Mask(&self.values),
        }
    }
}

/// All that a backward pass computes; of the gate's two, nothing where there is none.
#[derive(Clone)]
struct Gradients {
    input: Vec<f32>,
    addend: Vec<f32>,
    logits: Vec<f32>,
    bias: Vec<f32>,
}

fn forward(merge: WeightedMerge, input: Input, addend: &[f32], weights: Weights) -> Vec<f32> {
    let mut output = vec![f32::NAN; merge.shape.len()];
    merge.forward(input, addend, weights, &mut output);
    output
}

fn backward(
    merge: WeightedMerge,
    input: Input,
    addend: &[f32],
    weights: Weights,
    output: &[f32],
    gradient: &[f32],
) -> Gradients {
    let unwritten = |length: usize| vec![f32::NAN; length];
    let (length, is_gate) = (merge.shape.len(), matches!(weights, Weights::Gate { .. }));
    let (mut of_input, mut of_addend) = (unwritten(length), unwritten(length));
    let mut logits = unwritten(if is_gate { length } else { 0 });
    let mut bias = unwritten(if is_gate { merge.shape.channels } else { 0 });
    let of_gate = is_gate.then_some(GateGradient { logits: &mut logits, bias: &mut bias });
    merge.backward(input, addend, weights, output, gradient, &mut of_input, &mut of_addend, of_gate);
    Gradients { input: of_input, addend: of_addend, logits, bias }
}

fn raw(values: &[f32]) -> Input<'_> {
    Input { values: values.into(), norm: None, is_activated: false }
}

#[derive(Debug, Clone)]
struct Case {
    shape: MapShape,
    groups: usize,
    kind: Kind,
    is_normalised: bool,
    is_activated_before: bool,
    is_activated: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![Just(16usize), Just(64), 1usize..40];
    let shapes = (1usize..4, 1usize..3, 1usize..25, 1usize..25, channels);
    (shapes, prop::sample::select(KINDS.to_vec()), any::<[bool; 3]>(), any::<u32>()).prop_map(
        |((group, groups, height, width, channels), kind, flags, seed)| Case {
            shape: MapShape { batch: group * groups, height, width, channels },
            groups,
            kind,
            is_normalised: flags[0],
            is_activated_before: flags[1],
            is_activated: flags[2],
            seed: seed.into(),
        },
    )
}

fn check(case: &Case, instructions: Instructions) {
    let Case { shape, groups, kind, is_activated, seed, .. } = *case;
    let merge = WeightedMerge { shape, is_activated, instructions };
    let (x, addend) = (random(shape.len(), seed), random(shape.len(), seed + 1));
    let (kernel_norm, norm) = normalise(shape, &x, groups, seed + 2);
    let input = Input {
        values: (&x).into(),
        norm: case.is_normalised.then_some(&kernel_norm),
        is_activated: case.is_activated_before,
    };
    let material = Material::new(shape, seed + 4);
    let weights = material.weights(kind);
    let factors = Factors::new(shape, weights);

    let normalised = if case.is_normalised { norm.apply(shape, &wide(&x)) } else { wide(&x) };
    let term = if case.is_activated_before { relu(&normalised) } else { normalised };
    let summed = factors.sum(&term, &wide(&addend));
    let expected = if is_activated { relu(&summed) } else { summed };
    let y = forward(merge, input, &addend, weights);
    assert!(difference(&expected, &y) < TOLERANCE, "output");

    let g = random(shape.len(), seed + 6);
    let of_sum = if is_activated { masked(&wide(&g), &wide(&y)) } else { wide(&g) };
    let output = if is_activated { y.as_slice() } else { &[] };
    let found = backward(merge, input, &addend, weights, output, &g);
    let [of_input, of_addend, of_logits, of_bias] = factors.backward(&term, &wide(&addend), &of_sum);
    assert!(difference(&of_input, &found.input) < TOLERANCE, "gradient of the input");
    assert!(difference(&of_addend, &found.addend) < TOLERANCE, "gradient of the addend");
    if let Kind::Gate { .. } = kind {
        assert!(difference(&of_logits, &found.logits) < TOLERANCE, "gradient of the logits");
        assert!(difference_beside(&of_logits, &of_bias, &found.bias) < 1e-4, "gradient of the bias");
    }
}

proptest! {
    #![proptest_config(reference::proptest_config())]

    #[test]
    fn weighted_merges_compute_what_the_reference_does(case in cases()) {
        for instructions in Instructions::available() {
            check(&case, instructions);
        }
    }
}

/// Both of a gate's factors to a millionth of themselves, however small they are.
#[test]
fn gates_are_accurate_relative_to_themselves() {
    let logits: Vec<f32> = (-86_000..=86_000).map(|step| step as f32 / 1000.).collect();
    let shape = MapShape { batch: 1, height: 1, width: logits.len(), channels: 1 };
    let weights = Weights::Gate { logits: &logits, bias: &[0.], is_exclusive: true };
    let (ones, zeros) = (vec![1.; logits.len()], vec![0.; logits.len()]);
    for instructions in Instructions::available() {
        let merge = WeightedMerge { shape, is_activated: false, instructions };
        let gates = forward(merge, raw(&ones), &zeros, weights);
        let rests = forward(merge, raw(&zeros), &ones, weights);
        let slopes = backward(merge, raw(&ones), &zeros, weights, &[], &ones).logits;
        for (at, logit) in logits.iter().enumerate() {
            let (gate, rest) = sigmoid(f64::from(*logit));
            let expected = [gate, rest, gate * rest];
            for (expected, found) in expected.iter().zip([gates[at], rests[at], slopes[at]]) {
                let error = (f64::from(found) / expected - 1.).abs();
                assert!(error < 1e-6, "{error} of {expected} at {logit} with {instructions:?}");
            }
        }
    }
}

/// The loss is a fixed weighting of the outputs; its slope by every number is measured with a step to both sides.
#[test]
fn gradients_are_slopes_of_the_loss() {
    const STEP: f32 = 1. / 64.;
    let shape = MapShape { batch: 2, height: 2, width: 2, channels: 3 };
    let (x, addend, g) = (random(shape.len(), 1), random(shape.len(), 2), random(shape.len(), 3));
    let Material { values: logits, bias } = Material::new(shape, 4);
    for instructions in Instructions::available() {
        for is_exclusive in [true, false] {
            let merge = WeightedMerge { shape, is_activated: false, instructions };
            let loss = |[x, addend, logits, bias]: &[Vec<f32>; 4]| {
                let weights = Weights::Gate { logits, bias, is_exclusive };
                let y = forward(merge, raw(x), addend, weights);
                y.iter().zip(&g).map(|(&y, &g)| f64::from(y) * f64::from(g)).sum::<f64>()
            };
            let weights = Weights::Gate { logits: &logits, bias: &bias, is_exclusive };
            let found = backward(merge, raw(&x), &addend, weights, &[], &g);
            let found = [found.input, found.addend, found.logits, found.bias];
            let parameters = [&x, &addend, &logits, &bias].map(Vec::clone);
            for (which, found) in found.iter().enumerate() {
                assert_eq!(found.len(), parameters[which].len());
                for (at, &found) in found.iter().enumerate() {
                    let moved = |step: f32| {
                        let mut parameters = parameters.clone();
                        parameters[which][at] += step;
                        loss(&parameters)
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / f64::from(2. * STEP);
                    let error = (slope - f64::from(found)).abs();
                    assert!(error < 2e-4, "{found} for {slope}: {which} at {at} with {instructions:?}");
                }
            }
        }
    }
}

/// Logits that close or open a gate as far as f32 can tell.
#[test]
fn extreme_logits_give_finite_numbers() {
    let logits = [f32::NEG_INFINITY, f32::MIN, -1e9, -100., -88., 88., 100., 1e9, f32::MAX, f32::INFINITY];
    let shape = MapShape { batch: 1, height: 1, width: logits.len(), channels: 1 };
    let (x, addend, g) = (random(shape.len(), 1), random(shape.len(), 2), random(shape.len(), 3));
    for instructions in Instructions::available() {
        for is_exclusive in [true, false] {
            let merge = WeightedMerge { shape, is_activated: false, instructions };
            let weights = Weights::Gate { logits: &logits, bias: &[0.], is_exclusive };
            let y = forward(merge, raw(&x), &addend, weights);
            let found = backward(merge, raw(&x), &addend, weights, &[], &g);
            for at in 0..logits.len() {
                let gate = if logits[at] > 0. { 1. } else { 0. };
                let residual = if is_exclusive { gate } else { 1. };
                let expected =
                    [residual * x[at] + (1. - gate) * addend[at], residual * g[at], (1. - gate) * g[at], 0.];
                let found = [y[at], found.input[at], found.addend[at], found.logits[at]];
                for (expected, found) in expected.into_iter().zip(found) {
                    assert!((found - expected).abs() < 1e-30, "{found} at {} for {expected}", logits[at]);
                }
            }
            assert!(found.bias[0].abs() < 1e-30, "{}", found.bias[0]);
        }
    }
}

/// A NaN is found in whatever depends on it, and nowhere else.
#[test]
fn nan_stays_nan() {
    const AT: usize = 21;
    let shape = MapShape { batch: 1, height: 3, width: 1, channels: 17 };
    // Their bits differ: those of a NaN must not be taken for a number's.
    let nans = [f32::NAN, -f32::NAN, f32::from_bits(0x7fc0_0001), f32::from_bits(0xffff_ffff)];
    let only = |values: &[f32], is_there: bool, what: &str| {
        for (at, value) in values.iter().enumerate() {
            assert_eq!(value.is_nan(), is_there && at == AT, "{value} at {at}, {what}");
        }
    };
    let sources = ["logits", "input", "addend", "gradient"];
    for instructions in Instructions::available() {
        for (is_exclusive, is_activated) in [(true, true), (true, false), (false, true), (false, false)] {
            for (nan, source) in nans.into_iter().flat_map(|nan| sources.map(|source| (nan, source))) {
                let [mut logits, mut x, mut addend, mut g] =
                    [1, 2, 3, 4].map(|seed| random(shape.len(), seed));
                match source {
                    "logits" => logits[AT] = nan,
                    "input" => x[AT] = nan,
                    "addend" => addend[AT] = nan,
                    _ => (g[AT], x[AT], addend[AT]) = (nan, 1., 1.),
                }
                let merge = WeightedMerge { shape, is_activated, instructions };
                let weights = Weights::Gate { logits: &logits, bias: &[0.5; 17], is_exclusive };
                let y = forward(merge, raw(&x), &addend, weights);
                let found = backward(merge, raw(&x), &addend, weights, &y, &g);
                let what = format!("{source} {is_exclusive} {instructions:?}");
                let (of_logits, of_gradient) = (source == "logits", source == "gradient");
                only(&y, !of_gradient, &what);
                only(&found.input, of_gradient || of_logits && is_exclusive, &what);
                only(&found.addend, of_gradient || of_logits, &what);
                let is_there = source != "input" || is_exclusive;
                only(&found.logits, is_there, &what);
                for (channel, bias) in found.bias.iter().enumerate() {
                    assert_eq!(bias.is_nan(), is_there && channel == AT % 17, "bias, {what}");
                }
                if !of_logits && !of_gradient {
                    assert!(found.addend[AT] != 0., "NaN counts as active: {what}");
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_computes_the_same() {
    let shape = MapShape { batch: 38, height: 5, width: 7, channels: 19 };
    let (x, addend, g) = (random(shape.len(), 1), random(shape.len(), 2), random(shape.len(), 3));
    let (norm, _) = normalise(shape, &x, 2, 4);
    let material = Material::new(shape, 6);
    for (kind, instructions) in
        KINDS.into_iter().flat_map(|kind| Instructions::available().map(move |i| (kind, i)))
    {
        let results = with_threads(|| {
            let input = Input { values: (&x).into(), norm: Some(&norm), is_activated: true };
            let merge = WeightedMerge { shape, is_activated: true, instructions };
            let weights = material.weights(kind);
            let y = forward(merge, input, &addend, weights);
            let Gradients { input, addend, logits, bias } = backward(merge, input, &addend, weights, &y, &g);
            [y, input, addend, logits, bias].map(|values| bits(&values))
        });
        assert!(results.iter().all(|result| *result == results[0]), "{kind:?} with {instructions:?}");
    }
}

/// Large enough to be written past the caches, and more pieces than one per image.
#[test]
fn large_maps_are_the_same_written_past_the_caches() {
    let small = MapShape { batch: 1, height: 160, width: 160, channels: 64 };
    let shape = MapShape { batch: 2, ..small };
    let twice = |values: &[f32]| values.repeat(2);
    let [x, addend, g] = [1, 2, 3].map(|seed| random(small.len(), seed));
    let material = Material::new(small, 4);
    let (is_exclusive, bias) = (true, material.bias.as_slice());
    let mut rooms = [const { Vec::new() }; 4];
    for instructions in Instructions::available() {
        let merge = WeightedMerge { shape: small, is_activated: true, instructions };
        let weights = material.weights(Kind::Gate { is_exclusive });
        let y = forward(merge, raw(&x), &addend, weights);
        let one = backward(merge, raw(&x), &addend, weights, &y, &g);

        let merge = WeightedMerge { shape, ..merge };
        let (x, addend, g, logits) = (twice(&x), twice(&addend), twice(&g), twice(&material.values));
        let weights = Weights::Gate { logits: &logits, bias, is_exclusive };
        // Aligned, so that writing past the caches is allowed.
        let [output, of_input, of_addend, of_logits] = rooms.each_mut().map(|room| {
            *room = vec![f32::NAN; shape.len() + 16];
            let start = room.as_ptr().align_offset(64);
            &mut room[start..start + shape.len()]
        });
        let mut of_bias = vec![f32::NAN; shape.channels];
        merge.forward(raw(&x), &addend, weights, output);
        let of_gate = Some(GateGradient { logits: of_logits, bias: &mut of_bias });
        merge.backward(raw(&x), &addend, weights, output, &g, of_input, of_addend, of_gate);
        let both = [output, of_input, of_addend, of_logits];
        for (one, both) in [y, one.input, one.addend, one.logits].into_iter().zip(both) {
            assert!(both[..one.len()] == one && both[one.len()..] == one, "{instructions:?}");
        }
        assert!(of_bias.iter().zip(&one.bias).all(|(both, one)| *both == 2. * one), "{instructions:?}");
    }
}

/// Every length is checked, and whether a gradient of a gate is wanted of a gate.
#[test]
fn what_does_not_belong_together_panics() {
    let shape = MapShape { batch: 1, height: 2, width: 1, channels: 3 };
    let (whole, short, bias) = ([1f32; 6], [1f32; 5], [1f32; 3]);
    let gate = Weights::Gate { logits: &whole, bias: &bias, is_exclusive: true };
    let merge = WeightedMerge { shape, is_activated: true, instructions: Instructions::Portable };
    // Lengths of: input, addend, output, gradient, of_input, of_addend, and of the gate's gradient.
    let run = |weights: Weights, lengths: [usize; 6], of_gate: Option<[usize; 2]>| {
        let [input, addend, output, gradient, of_input, of_addend] = lengths.map(|length| vec![1f32; length]);
        let gate = of_gate.map(|lengths| lengths.map(|length| vec![1f32; length]));
        catch_unwind(AssertUnwindSafe(move || {
            let (mut of_input, mut of_addend, mut gate) = (of_input, of_addend, gate);
            let of_gate = gate.as_mut().map(|[logits, bias]| GateGradient { logits, bias });
            let input = raw(&input);
            merge.backward(
                input,
                &addend,
                weights,
                &output,
                &gradient,
                &mut of_input,
                &mut of_addend,
                of_gate,
            );
        }))
        .is_ok()
    };
    let constant = Weights::Constant { shortcut: 1., residual: 1. };
    assert!(
        run(gate, [6; 6], Some([6, 3]))
            && run(constant, [6; 6], None)
            && run(Weights::Mask(&whole), [6; 6], None)
    );
    for which in 0..6 {
        let mut lengths = [6; 6];
        lengths[which] = 5;
        assert!(!run(gate, lengths, Some([6, 3])), "{which}");
        assert!(!run(constant, lengths, None), "{which}");
    }
    assert!(!run(gate, [6; 6], None) && !run(gate, [6; 6], Some([5, 3])) && !run(gate, [6; 6], Some([6, 2])));
    assert!(!run(constant, [6; 6], Some([6, 3])) && !run(Weights::Mask(&whole), [6; 6], Some([6, 3])));
    let ill = [
        Weights::Gate { logits: &short, bias: &bias, is_exclusive: true },
        Weights::Gate { logits: &whole, bias: &bias[..2], is_exclusive: false },
        Weights::Mask(&short),
    ];
    for weights in ill {
        let is_gate = matches!(weights, Weights::Gate { .. });
        assert!(!run(weights, [6; 6], is_gate.then_some([6, 3])), "{weights:?}");
        let forward = || forward(merge, raw(&whole), &whole, weights);
        assert!(catch_unwind(forward).is_err(), "{weights:?}");
    }
    for (x, addend, length) in [(&short[..], &whole[..], 6), (&whole, &short, 6), (&whole, &whole, 5)] {
        let forward = || merge.forward(raw(x), addend, gate, &mut vec![0.; length]);
        assert!(catch_unwind(forward).is_err());
    }
}
