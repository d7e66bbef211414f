//! Numbers at the edge: large means, constant channels, NaN and infinity, exact zeros, any gamma.

mod reference;

use reference::{EPSILON, Norm, at, difference, identity, narrow, random, wide};
use residua_kernels::{
    Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation,
    NormalisationGradient, OutputGradient, finish_gradient, moments,
};

const SHAPE: MapShape = MapShape { batch: 3, height: 12, width: 9, channels: 17 };

/// A 3x3 convolution of [`SHAPE`] to as many channels.
fn convolutions() -> impl Iterator<Item = Convolution> {
    Instructions::available().flat_map(|instructions| {
        [Algorithm::Winograd, Algorithm::Direct].map(|algorithm| Convolution {
            input: SHAPE,
            outputs: SHAPE.channels,
            size: 3,
            stride: 1,
            algorithm,
            instructions,
        })
    })
}

fn pointwise(instructions: Instructions) -> Convolution {
    let outputs = SHAPE.channels;
    Convolution { input: SHAPE, outputs, size: 1, stride: 1, algorithm: Algorithm::Direct, instructions }
}

/// Backward through an identity that reads `norm(x)` or, if `is_activated`, `relu(norm(x))`: the gradient of `norm(x)`,
/// that of `x`, and those of the parameters.
fn backward_through_identity(
    instructions: Instructions,
    x: &[f32],
    norm: &Normalisation,
    is_activated: bool,
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>, NormalisationGradient) {
    let (reader, weights) = (pointwise(instructions), identity(SHAPE.channels));
    let input = Input { values: x.into(), norm: Some(norm), is_activated };
    let plain = OutputGradient::Plain(gradient.into());
    let (mut of_norm, mut of_x) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    let mut of_weights = vec![0.; weights.len()];
    let wanted = InputGradient::OfNorm(&mut of_norm);
    let sums = reader.backward(input, &weights, plain, &mut of_weights, wanted, false).unwrap();
    reader.finish_input_gradient(input, &weights, plain, &sums, None, (&mut of_x).into());
    (of_norm, of_x, sums)
}

#[test]
fn moments_of_a_mean_of_a_thousand_deviations() {
    let x: Vec<f32> = random(SHAPE.len(), 1).iter().map(|x| x + 1000.).collect();
    let expected = reference::moments(SHAPE, &wide(&x), 1);
    for instructions in Instructions::available() {
        let (mut y, mut moments) = (vec![0.; x.len()], vec![0.; 2 * SHAPE.channels]);
        let input = Input { values: (&x).into(), norm: None, is_activated: false };
        pointwise(instructions).forward(
            input,
            &identity(SHAPE.channels),
            None,
            (&mut y).into(),
            Some((1, &mut moments)),
        );
        assert!(y == x, "{instructions:?}");
        for (expected, found) in expected.iter().zip(&moments) {
            assert!(
                (f64::from(*found) / expected - 1.).abs() < 1e-5,
                "{found} for {expected} with {instructions:?}"
            );
        }
    }
}

#[test]
fn gradients_at_a_mean_of_a_thousand_deviations() {
    let x: Vec<f32> = random(SHAPE.len(), 1).iter().map(|x| x + 1000.).collect();
    let moments = reference::moments(SHAPE, &wide(&x), 1);
    let (gamma, beta) = (random(SHAPE.channels, 2), random(SHAPE.channels, 3));
    let gradient = random(SHAPE.len(), 4);
    let norm = Normalisation::new(&narrow(&moments), &gamma, &beta, EPSILON);
    let exact = Norm { moments, gamma: wide(&gamma), beta: wide(&beta) };
    let (of_x, of_gamma, of_beta) = exact.backward(SHAPE, &wide(&x), &wide(&gradient), false);
    for instructions in Instructions::available() {
        let (_, found, sums) = backward_through_identity(instructions, &x, &norm, false, &gradient);
        assert!(difference(&of_x, &found) < 1e-4, "x with {instructions:?}");
        assert!(difference(&of_gamma, &sums.gamma) < 1e-4, "gamma with {instructions:?}");
        assert!(difference(&of_beta, &sums.beta) < 1e-4, "beta with {instructions:?}");
    }
}

#[test]
fn constant_channels_have_no_variance_and_normalise_to_beta() {
    let x: Vec<f32> = (0..SHAPE.len()).map(|at| (at % SHAPE.channels) as f32 * 0.7 - 3.).collect();
    let beta = random(SHAPE.channels, 1);
    for instructions in Instructions::available() {
        let (mut y, mut moments) = (vec![0.; x.len()], vec![f32::NAN; 2 * SHAPE.channels]);
        let convolution = pointwise(instructions);
        let raw = Input { values: (&x).into(), norm: None, is_activated: false };
        convolution.forward(raw, &identity(SHAPE.channels), None, (&mut y).into(), Some((1, &mut moments)));
        assert!(moments[SHAPE.channels..].iter().all(|&variance| variance == 0.), "{instructions:?}");
        let norm = Normalisation::new(&moments, &[1.; SHAPE.channels], &beta, EPSILON);
        convolution.forward(
            Input { norm: Some(&norm), ..raw },
            &identity(SHAPE.channels),
            None,
            (&mut y).into(),
            None,
        );
        for (found, expected) in y.iter().zip(beta.iter().cycle()) {
            assert!((found - expected).abs() < 1e-4, "{found} for {expected} with {instructions:?}");
        }
    }
}

/// Winograd computes 4x4 outputs together, from the same numbers: a NaN spreads over its tiles.
#[test]
fn what_is_not_finite_reaches_the_outputs_that_depend_on_it() {
    let weights = random(SHAPE.channels * SHAPE.channels * 9, 2);
    let (image, row, column) = (1, 5, 4);
    for (convolution, value) in
        convolutions().flat_map(|convolution| [f32::NAN, f32::INFINITY].map(|value| (convolution, value)))
    {
        let mut x = random(SHAPE.len(), 1);
        x[at(SHAPE, image, row, column, 3)] = value;
        let mut y = vec![0.; SHAPE.len()];
        let input = Input { values: (&x).into(), norm: None, is_activated: true };
        convolution.forward(input, &weights, None, (&mut y).into(), None);
        for (pixel, values) in y.chunks(SHAPE.channels).enumerate() {
            let (y, x) = (pixel / SHAPE.width % SHAPE.height, pixel % SHAPE.width);
            let is_same_image = pixel / SHAPE.pixels() == image;
            let depends = is_same_image && y.abs_diff(row) <= 1 && x.abs_diff(column) <= 1;
            let is_reached = values.iter().all(|value| !value.is_finite());
            if depends {
                assert!(is_reached, "({y}, {x}) misses {value} with {convolution:?}");
            } else if convolution.algorithm == Algorithm::Direct || !is_same_image {
                assert!(
                    values.iter().all(|value| value.is_finite()),
                    "({y}, {x}) has {value} with {convolution:?}"
                );
            }
        }
    }
}

#[test]
fn relu_has_no_gradient_at_either_zero() {
    let x: Vec<f32> = (0..SHAPE.len()).map(|at| [0., -0., 1., -1., f32::MIN_POSITIVE][at % 5]).collect();
    let (gradient, weights) = (random(SHAPE.len(), 1), identity(SHAPE.channels));
    for instructions in Instructions::available() {
        let mut found = vec![f32::NAN; x.len()];
        let input = Input { values: (&x).into(), norm: None, is_activated: true };
        let wanted = InputGradient::Complete { output: (&mut found).into(), addend: None };
        let plain = OutputGradient::Plain((&gradient).into());
        pointwise(instructions).backward(input, &weights, plain, &mut vec![0.; weights.len()], wanted, false);
        for ((x, g), found) in x.iter().zip(&gradient).zip(&found) {
            let expected = if *x > 0. { *g } else { 0. };
            assert!(*found == expected, "{found} at {x} with {instructions:?}");
        }
    }
}

#[test]
fn gamma_may_be_negative_or_zero() {
    let x = random(SHAPE.len(), 1);
    let moments = narrow(&reference::moments(SHAPE, &wide(&x), 1));
    let gamma: Vec<f32> = (0..SHAPE.channels).map(|channel| [-1.5, 0., -0., 0.5][channel % 4]).collect();
    let (beta, gradient) = (vec![0.25; SHAPE.channels], random(SHAPE.len(), 2));
    let norm = Normalisation::new(&moments, &gamma, &beta, EPSILON);
    let exact = Norm { moments: wide(&moments), gamma: wide(&gamma), beta: wide(&beta) };
    let masked = reference::masked(&wide(&gradient), &exact.apply(SHAPE, &wide(&x)));
    let (of_x, of_gamma, of_beta) = exact.backward(SHAPE, &wide(&x), &masked, false);
    for instructions in Instructions::available() {
        let (of_norm, found, sums) = backward_through_identity(instructions, &x, &norm, true, &gradient);
        assert!(difference(&masked, &of_norm) == 0., "norm(x) with {instructions:?}");
        assert!(difference(&of_x, &found) < 1e-5, "x with {instructions:?}");
        assert!(difference(&of_gamma, &sums.gamma) < 1e-5, "gamma with {instructions:?}");
        assert!(difference(&of_beta, &sums.beta) < 1e-5, "beta with {instructions:?}");
    }
}

/// The loss is a fixed weighting of the outputs, linear in the weights: a wide step has no error but rounding.
#[test]
fn weights_gradient_is_the_slope_of_the_loss() {
    let (x, weighting) = (random(SHAPE.len(), 1), random(SHAPE.len(), 2));
    for convolution in convolutions() {
        let weights = random(convolution.weights_len(), 3);
        let direction = random(weights.len(), 4);
        let input = Input { values: (&x).into(), norm: None, is_activated: true };
        let loss = |step: f32| {
            let moved: Vec<f32> = weights.iter().zip(&direction).map(|(w, d)| w + step * d).collect();
            let mut y = vec![0.; SHAPE.len()];
            convolution.forward(input, &moved, None, (&mut y).into(), None);
            y.iter().zip(&weighting).map(|(&y, &w)| f64::from(y) * f64::from(w)).sum::<f64>()
        };
        let mut gradient = vec![0.; weights.len()];
        let plain = OutputGradient::Plain((&weighting).into());
        convolution.backward(input, &weights, plain, &mut gradient, InputGradient::Unneeded, false);
        let slope: f64 = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
        let measured = loss(0.5) - loss(-0.5);
        let scale: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!((slope - measured).abs() < 1e-4 * scale, "{slope} for {measured} with {convolution:?}");
    }
}

#[test]
#[should_panic(expected = "sums of another normalisation")]
fn sums_belong_to_the_normalisation() {
    let (x, gradient) = (random(SHAPE.len(), 1), random(SHAPE.len(), 2));
    let norm = |groups: usize| {
        let moments = vec![1.; groups * 2 * SHAPE.channels];
        Normalisation::new(&moments, &[1.; SHAPE.channels], &[0.; SHAPE.channels], EPSILON)
    };
    let (one, three) = (norm(1), norm(3));
    let (_, _, sums) = backward_through_identity(Instructions::Portable, &x, &one, false, &gradient);
    let gradient =
        OutputGradient::ThroughNorm { gradient: &gradient, x: (&x).into(), norm: &three, sums: &sums };
    finish_gradient(SHAPE, gradient, None, (&mut vec![0.; SHAPE.len()]).into(), Instructions::Portable);
}

#[test]
fn instructions_that_the_machine_lacks_do_not_run() {
    for instructions in Instructions::ALL.into_iter().filter(|set| !set.is_available()) {
        let x = random(SHAPE.len(), 1);
        let run = || moments(SHAPE, &x, 1, instructions, &mut [0.; 2 * SHAPE.channels]);
        assert!(std::panic::catch_unwind(run).is_err(), "{instructions:?}");
    }
}
