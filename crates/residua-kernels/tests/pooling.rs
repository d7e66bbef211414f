//! Pooling against the f64 reference: random shapes, every instruction set.

mod reference;

use proptest::prelude::*;
use reference::{
    bits, difference, difference_beside, masked, normalise, positions_of_maxima, random, relu, sum, wide,
    with_threads,
};
use residua_kernels::{
    AveragePool, Input, InputGradient, Instructions, MapShape, MaxPool, NormalisationGradient, Values,
    finish_gradient_in_place,
};

const TOLERANCE: f64 = 1e-5;

#[derive(Debug, Clone)]
struct Case {
    shape: MapShape,
    groups: usize,
    is_normalised: bool,
    is_activated: bool,
    is_constant: bool,
    adds: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![Just(16usize), Just(64), 1usize..40];
    (1usize..4, 1usize..3, 1usize..20, 1usize..20, channels, any::<[bool; 4]>(), any::<u32>()).prop_map(
        |(group, groups, height, width, channels, flags, seed)| Case {
            shape: MapShape { batch: group * groups, height, width, channels },
            groups,
            is_normalised: flags[0],
            is_activated: flags[1],
            is_constant: flags[2],
            adds: flags[3],
            seed: seed.into(),
        },
    )
}

/// Few different numbers: maxima that a window has twice, and none that only f32 takes for equal.
fn coarse(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| (value * 16.).round() / 16. + 1. / 64.).collect()
}

type Backward<'a> = dyn Fn(Input, &[f32], InputGradient, bool) -> Option<NormalisationGradient> + 'a;

/// `of_pooled`: the expected gradient of what is pooled.
fn check_backward(
    case: &Case,
    instructions: Instructions,
    input: Input,
    norm: Option<&reference::Norm>,
    (g, of_pooled): (&[f32], &[f64]),
    backward: &Backward,
) {
    let Case { shape, is_constant, .. } = *case;
    let Values::F32(x) = input.values else { unreachable!("maps of f32") };
    let x = wide(x);
    let normalised = norm.map_or(x.clone(), |norm| norm.apply(shape, &x));
    let of_norm = if case.is_activated { masked(of_pooled, &normalised) } else { of_pooled.to_vec() };
    let extra = random(shape.len(), case.seed + 9);
    let addend = case.adds.then_some(extra.as_slice());
    let complete = |of_x: Vec<f64>| if case.adds { sum(&of_x, &wide(&extra)) } else { of_x };
    let mut output = vec![f32::NAN; shape.len()];
    let wanted = InputGradient::Complete { output: (&mut output).into(), addend: addend.map(Into::into) };
    let sums = backward(input, g, wanted, is_constant);
    let (Some(norm), Some(kernel_norm)) = (norm, input.norm) else {
        assert!(sums.is_none());
        assert!(difference(&complete(of_norm), &output) < TOLERANCE, "gradient of the input");
        return;
    };
    let sums = sums.unwrap();
    let (of_x, gamma, beta) = norm.backward(shape, &x, &of_norm, is_constant);
    let terms = norm.backward(shape, &x, &of_norm, true).0;
    assert!(difference_beside(&terms, &complete(of_x), &output) < 1e-4, "gradient of the input");
    assert!(difference_beside(&of_norm, &gamma, &sums.gamma) < 1e-4, "gamma");
    assert!(difference_beside(&of_norm, &beta, &sums.beta) < 1e-4, "beta");
    let mut stored = vec![f32::NAN; shape.len()];
    let sums = backward(input, g, InputGradient::OfNorm(&mut stored), is_constant).unwrap();
    assert!(difference(&of_norm, &stored) < TOLERANCE, "gradient of norm(x)");
    finish_gradient_in_place(
        shape,
        &mut stored,
        input.values,
        kernel_norm,
        &sums,
        addend.map(Into::into),
        instructions,
    );
    assert_eq!(bits(&stored), bits(&output), "in two steps");
}

fn check(case: &Case, instructions: Instructions) {
    let Case { shape, groups, seed, .. } = *case;
    let x = coarse(random(shape.len(), seed));
    let (kernel_norm, norm) = normalise(shape, &x, groups, seed + 1);
    let norm = case.is_normalised.then_some(&norm);
    let input = Input {
        values: (&x).into(),
        norm: case.is_normalised.then_some(&kernel_norm),
        is_activated: case.is_activated,
    };
    let normalised = norm.map_or(wide(&x), |norm| norm.apply(shape, &wide(&x)));
    let pooled = if case.is_activated { relu(&normalised) } else { normalised };

    let average = AveragePool { input: shape, instructions };
    let expected = reference::average_pool(shape, &pooled);
    let mut means = vec![f32::NAN; expected.len()];
    average.forward(input, &mut means);
    let largest = pooled.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    let error = expected.iter().zip(&means).map(|(expected, &mean)| (expected - f64::from(mean)).abs());
    assert!(error.fold(0., f64::max) <= 1e-6 * largest, "means");
    let g = random(expected.len(), seed + 3);
    let of_pooled = reference::average_pool_gradient(shape, &wide(&g));
    let backward = |input: Input, g: &[f32], wanted: InputGradient, is_constant: bool| {
        average.backward(input, g, wanted, is_constant)
    };
    check_backward(case, instructions, input, norm, (&g, &of_pooled), &backward);

    let max = MaxPool { input: shape, instructions };
    let positions = positions_of_maxima(shape, &pooled);
    assert_eq!(max.output().len(), positions.len());
    let expected: Vec<f64> = positions.iter().map(|&at| pooled[at]).collect();
    let mut maxima = vec![f32::NAN; expected.len()];
    max.forward(input, &mut maxima);
    assert!(difference(&expected, &maxima) < TOLERANCE, "maxima");
    let g = random(expected.len(), seed + 4);
    let mut of_pooled = vec![0.; shape.len()];
    positions.iter().zip(&g).for_each(|(&at, &g)| of_pooled[at] += f64::from(g));
    let backward = |input: Input, g: &[f32], wanted: InputGradient, is_constant: bool| {
        max.backward(input, g, wanted, is_constant)
    };
    check_backward(case, instructions, input, norm, (&g, &of_pooled), &backward);
}

proptest! {
    #![proptest_config(reference::proptest_config())]

    #[test]
    fn pooling_computes_what_the_reference_does(case in cases()) {
        for instructions in Instructions::available() {
            check(&case, instructions);
        }
    }
}

/// The maximum of a window with a NaN is NaN, and its gradient goes to the last NaN; one of negative infinities goes to
/// the first.
#[test]
fn maxima_of_what_is_not_a_number() {
    let shape = MapShape { batch: 1, height: 5, width: 5, channels: 17 };
    let mut x = coarse(random(shape.len(), 1));
    x[..9 * 17].fill(f32::NEG_INFINITY);
    x[12 * 17 + 3] = f32::NAN;
    x[13 * 17 + 3] = f32::NAN;
    let positions = positions_of_maxima(shape, &wide(&x));
    let expected: Vec<f32> = positions.iter().map(|&at| x[at]).collect();
    let g = random(expected.len(), 2);
    let mut expected_gradient = vec![0f32; shape.len()];
    positions.iter().zip(&g).for_each(|(&at, &g)| expected_gradient[at] += g);
    let input = Input { values: (&x).into(), norm: None, is_activated: false };
    for instructions in Instructions::available() {
        let max = MaxPool { input: shape, instructions };
        let mut maxima = vec![0.; expected.len()];
        max.forward(input, &mut maxima);
        assert_eq!(bits(&maxima), bits(&expected));
        assert!(maxima.iter().any(|maximum| maximum.is_nan()));
        let mut output = vec![f32::NAN; shape.len()];
        max.backward(
            input,
            &g,
            InputGradient::Complete { output: (&mut output).into(), addend: None },
            false,
        );
        assert_eq!(output, expected_gradient);
    }
}

#[test]
fn any_number_of_threads_computes_the_same() {
    let shape = MapShape { batch: 34, height: 7, width: 6, channels: 18 };
    let x = coarse(random(shape.len(), 1));
    let (norm, _) = normalise(shape, &x, 2, 3);
    let input = Input { values: (&x).into(), norm: Some(&norm), is_activated: true };
    for instructions in Instructions::available() {
        let results = with_threads(|| {
            let (average, max) =
                (AveragePool { input: shape, instructions }, MaxPool { input: shape, instructions });
            let mut means = vec![f32::NAN; shape.batch * shape.channels];
            average.forward(input, &mut means);
            let mut maxima = vec![f32::NAN; max.output().len()];
            max.forward(input, &mut maxima);
            let (mut first, mut second) = (vec![f32::NAN; shape.len()], vec![f32::NAN; shape.len()]);
            let complete = |output| InputGradient::Complete { output, addend: None };
            let of_means = average.backward(input, &means, complete((&mut first).into()), false).unwrap();
            let of_maxima = max.backward(input, &maxima, complete((&mut second).into()), false).unwrap();
            let sums = [of_means.gamma, of_means.beta, of_maxima.gamma, of_maxima.beta].concat();
            [means, maxima, first, second, sums].map(|values| bits(&values))
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
