//! Statistics, merges and finished gradients against the f64 reference: random shapes, every instruction set.

mod reference;

use proptest::prelude::*;
use reference::{
    bits, difference, difference_beside, masked, normalise, random, relu, sum, wide, with_threads,
};
use residua_kernels::{
    Input, InputGradient, Instructions, MapShape, Merge, NormalisationGradient, OutputGradient, SumGradient,
    finish_gradient, finish_gradient_in_place, moments,
};

const TOLERANCE: f64 = 1e-5;

#[derive(Debug, Clone)]
struct Case {
    shape: MapShape,
    groups: usize,
    is_normalised: bool,
    is_activated_before: bool,
    adds: bool,
    is_activated: bool,
    is_constant: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![Just(16usize), Just(64), 1usize..40];
    (1usize..4, 1usize..3, 1usize..25, 1usize..25, channels, any::<[bool; 5]>(), any::<u32>()).prop_map(
        |(group, groups, height, width, channels, flags, seed)| Case {
            shape: MapShape { batch: group * groups, height, width, channels },
            groups,
            is_normalised: flags[0],
            is_activated_before: flags[1],
            adds: flags[2],
            is_activated: flags[3],
            is_constant: flags[4],
            seed: seed.into(),
        },
    )
}

/// Which side of zero f32 finds a number on that is as close as this is chance: no gradient there.
fn without_doubtful(g: Vec<f32>, x: &[f64]) -> Vec<f32> {
    g.into_iter().zip(x).map(|(g, x)| if x.abs() < 1e-4 { 0. } else { g }).collect()
}

fn check_merge(case: &Case, instructions: Instructions) {
    let Case { shape, groups, is_activated, is_constant, seed, .. } = *case;
    let merge = Merge { shape, is_activated, instructions };
    let x = random(shape.len(), seed);
    let added = random(shape.len(), seed + 1);
    let (kernel_norm, norm) = normalise(shape, &x, groups, seed + 2);
    let norm = case.is_normalised.then_some(norm);
    let input = Input {
        values: (&x).into(),
        norm: case.is_normalised.then_some(&kernel_norm),
        is_activated: case.is_activated_before,
    };
    let addend = case.adds.then_some(added.as_slice());

    let normalised = norm.as_ref().map_or(wide(&x), |norm| norm.apply(shape, &wide(&x)));
    let activated = if case.is_activated_before { relu(&normalised) } else { normalised.clone() };
    let summed = addend.map_or(activated.clone(), |addend| sum(&activated, &wide(addend)));
    let expected = if is_activated { relu(&summed) } else { summed };
    let mut y = vec![f32::NAN; shape.len()];
    let mut found = vec![f32::NAN; groups * 2 * shape.channels];
    merge.forward(input, addend, &mut y, Some((groups, &mut found)));
    assert!(difference(&expected, &y) < TOLERANCE, "output");
    let error = difference(&reference::moments(shape, &expected, groups), &found);
    assert!(error < 1e-4, "moments {error}");
    let mut alone = vec![f32::NAN; shape.len()];
    merge.forward(input, addend, &mut alone, None);
    assert_eq!(bits(&alone), bits(&y), "without moments");
    let mut again = vec![f32::NAN; found.len()];
    moments(shape, &y, groups, instructions, &mut again);
    assert_eq!(bits(&again), bits(&found), "moments alone");

    let g = without_doubtful(random(shape.len(), seed + 4), &normalised);
    let of_sum = if is_activated { masked(&wide(&g), &wide(&y)) } else { wide(&g) };
    let of_norm = if case.is_activated_before { masked(&of_sum, &normalised) } else { of_sum.clone() };
    let expected = match &norm {
        Some(norm) => norm.backward(shape, &wide(&x), &of_norm, is_constant),
        None => (of_norm.clone(), vec![], vec![]),
    };
    let constant = |norm: &reference::Norm| norm.backward(shape, &wide(&x), &of_norm, true).0;
    let terms = norm.as_ref().map_or(of_norm.clone(), constant);
    let check_sums = |sums: Option<NormalisationGradient>| match sums {
        None => assert!(!case.is_normalised),
        Some(sums) => {
            assert!(difference_beside(&of_norm, &expected.1, &sums.gamma) < 1e-4, "gamma");
            assert!(difference_beside(&of_norm, &expected.2, &sums.beta) < 1e-4, "beta");
        }
    };
    for extra in [None, Some(added.as_slice())] {
        let complete = extra.map_or(expected.0.clone(), |extra| sum(&expected.0, &wide(extra)));
        for way in 0..3 {
            let (mut replaced, mut stored) = (g.clone(), vec![f32::NAN; g.len()]);
            let gradient = match way {
                0 => SumGradient::Discarded(&g),
                1 => SumGradient::Replaced(&mut replaced),
                _ => SumGradient::Stored { gradient: &g, sum: &mut stored },
            };
            let mut output = vec![f32::NAN; shape.len()];
            let wanted =
                InputGradient::Complete { output: (&mut output).into(), addend: extra.map(Into::into) };
            check_sums(merge.backward(input, &y, gradient, wanted, is_constant));
            assert!(difference_beside(&terms, &complete, &output) < 1e-4, "gradient of the input");
            match way {
                0 => {}
                1 => assert_eq!(wide(&replaced), of_sum, "replaced"),
                _ => assert_eq!(wide(&stored), of_sum, "stored"),
            }
        }
    }
    let mut stored = vec![f32::NAN; g.len()];
    let gradient = SumGradient::Stored { gradient: &g, sum: &mut stored };
    assert!(merge.backward(input, &y, gradient, InputGradient::Unneeded, is_constant).is_none());
    assert_eq!(wide(&stored), of_sum, "the sum's alone");

    // In two steps.
    let Some(norm) = input.norm else { return };
    let mut of_norm_found = vec![f32::NAN; shape.len()];
    let wanted = InputGradient::OfNorm(&mut of_norm_found);
    let sums = merge.backward(input, &y, SumGradient::Discarded(&g), wanted, is_constant).unwrap();
    assert_eq!(wide(&of_norm_found), of_norm, "gradient of norm(x)");
    let wanted = InputGradient::SumsOnly;
    check_sums(merge.backward(input, &y, SumGradient::Discarded(&g), wanted, is_constant));
    let complete = addend.map_or(expected.0.clone(), |addend| sum(&expected.0, &wide(addend)));
    let mut output = vec![f32::NAN; shape.len()];
    let gradient =
        OutputGradient::ThroughNorm { gradient: &of_norm_found, x: (&x).into(), norm, sums: &sums };
    finish_gradient(shape, gradient, addend.map(Into::into), (&mut output).into(), instructions);
    assert!(difference_beside(&terms, &complete, &output) < 1e-4, "finished");
    finish_gradient_in_place(
        shape,
        &mut of_norm_found,
        (&x).into(),
        norm,
        &sums,
        addend.map(Into::into),
        instructions,
    );
    assert_eq!(bits(&of_norm_found), bits(&output), "in place");
}

proptest! {
    #![proptest_config(reference::proptest_config())]

    #[test]
    fn merges_compute_what_the_reference_does(case in cases()) {
        for instructions in Instructions::available() {
            check_merge(&case, instructions);
        }
    }
}

/// Large means cost the variance no digits.
#[test]
fn moments_far_from_zero() {
    let shape = MapShape { batch: 6, height: 9, width: 7, channels: 21 };
    let x: Vec<f32> = random(shape.len(), 3).iter().map(|x| x + 1000.).collect();
    let expected = reference::moments(shape, &wide(&x), 2);
    for instructions in Instructions::available() {
        let mut found = vec![f32::NAN; expected.len()];
        moments(shape, &x, 2, instructions, &mut found);
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected - f64::from(*found)).abs() < 1e-5 * expected.abs(), "{expected} {found}");
        }
    }
}

/// Large enough to be written past the caches, and more pieces than one per image.
#[test]
fn large_maps_are_the_same_written_past_the_caches() {
    let shape = MapShape { batch: 2, height: 224, width: 224, channels: 64 };
    let small = MapShape { batch: 1, ..shape };
    let one = random(small.len(), 5);
    let x = [one.clone(), one.clone()].concat();
    // Aligned, so that writing past the caches is allowed.
    let mut room = vec![f32::NAN; shape.len() + 16];
    let start = room.as_ptr().align_offset(64);
    let y = &mut room[start..start + shape.len()];
    for instructions in Instructions::available() {
        let input = Input { values: (&x[..]).into(), norm: None, is_activated: true };
        Merge { shape, is_activated: false, instructions }.forward(input, Some(&x), y, None);
        let mut expected = vec![f32::NAN; small.len()];
        let input = Input { values: (&one).into(), norm: None, is_activated: true };
        let merge = Merge { shape: small, is_activated: false, instructions };
        merge.forward(input, Some(&one), &mut expected, None);
        assert!(y[..small.len()] == expected && y[small.len()..] == expected);
    }
}

#[test]
fn nan_stays_nan() {
    let shape = MapShape { batch: 1, height: 1, width: 3, channels: 1 };
    let x = [1., f32::NAN, -1.];
    for instructions in Instructions::available() {
        let mut y = [0.; 3];
        let mut found = [0.; 2];
        let input = Input { values: (&x[..]).into(), norm: None, is_activated: true };
        let merge = Merge { shape, is_activated: true, instructions };
        merge.forward(input, None, &mut y, Some((1, &mut found)));
        assert!(y[0] == 1. && y[1].is_nan() && y[2] == 0.);
        assert!(found[0].is_nan() && found[1].is_nan());
    }
}

#[test]
fn any_number_of_threads_computes_the_same() {
    let shape = MapShape { batch: 38, height: 5, width: 7, channels: 19 };
    let (x, g) = (random(shape.len(), 1), random(shape.len(), 2));
    let (norm, _) = normalise(shape, &x, 2, 3);
    for instructions in Instructions::available() {
        let results = with_threads(|| {
            let input = Input { values: (&x).into(), norm: Some(&norm), is_activated: true };
            let merge = Merge { shape, is_activated: true, instructions };
            let mut y = vec![f32::NAN; shape.len()];
            let mut moments = vec![f32::NAN; 4 * shape.channels];
            merge.forward(input, Some(&g), &mut y, Some((2, &mut moments)));
            let mut output = vec![f32::NAN; shape.len()];
            let wanted = InputGradient::Complete { output: (&mut output).into(), addend: None };
            let sums = merge.backward(input, &y, SumGradient::Discarded(&g), wanted, false).unwrap();
            [y, moments, output, sums.gamma, sums.beta].map(|values| bits(&values))
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
