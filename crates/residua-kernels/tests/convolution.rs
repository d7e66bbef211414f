//! Convolutions, forward and backward, against the f64 reference: random shapes, every instruction set, both algorithms.

mod reference;

use proptest::prelude::*;
use reference::{EPSILON, Norm, error, magnitudes, narrow, random, wide};
use residua_kernels::{
    Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation,
    NormalisationGradient, OutputGradient,
};

/// Of the largest sum of a result's absolute terms: a sum that cancels keeps the rounding errors of its terms.
const TOLERANCE: f64 = 1e-5;

#[derive(Debug, Clone, Copy)]
struct Case {
    input: MapShape,
    outputs: usize,
    size: usize,
    stride: usize,
    groups: usize,
    is_normalised: bool,
    is_activated: bool,
    adds: bool,
    seed: u64,
}

impl Case {
    /// Of a known shape, with all that there can be around the convolution.
    fn known(input: MapShape, [outputs, size, stride]: [usize; 3], seed: u64) -> Self {
        let (is_normalised, is_activated, adds) = (true, true, true);
        Self { input, outputs, size, stride, groups: 1, is_normalised, is_activated, adds, seed }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = || prop_oneof![Just(16usize), Just(32), Just(64), 1usize..40];
    (
        (1usize..4, 1usize..3, 1usize..13, 1usize..13, channels(), channels()),
        (prop_oneof![Just(1usize), Just(3), Just(5)], 1usize..3, any::<[bool; 3]>(), any::<u64>()),
    )
        .prop_map(|((group, groups, height, width, channels, outputs), (size, stride, flags, seed))| {
            Case {
                input: MapShape { batch: group * groups, height, width, channels },
                outputs,
                size,
                stride,
                groups,
                is_normalised: flags[0],
                is_activated: flags[1],
                adds: flags[2],
                seed,
            }
        })
}

/// A map, its normalisation by its own statistics and the same in f64. No normalised number is so close to zero that
/// rounding could decide whether ReLU lets it through.
fn normalised_map(shape: MapShape, groups: usize, seed: u64) -> (Vec<f32>, Normalisation, Norm) {
    let mut x = random(shape.len(), seed);
    let moments = narrow(&reference::moments(shape, &wide(&x), groups));
    let gamma = random(shape.channels, seed ^ 1);
    let mut beta = random(shape.channels, seed ^ 2);
    beta.iter_mut().filter(|beta| beta.abs() < 0.01).for_each(|beta| *beta = 0.01);
    let norm = Norm { moments: wide(&moments), gamma: wide(&gamma), beta: wide(&beta) };
    let per_group = shape.len() / groups;
    for (at, normalised) in norm.apply(shape, &wide(&x)).into_iter().enumerate() {
        if normalised.abs() < 1e-3 {
            // The mean is normalised to beta.
            x[at] = moments[at / per_group * 2 * shape.channels + at % shape.channels];
        }
    }
    (x, Normalisation::new(&moments, &gamma, &beta, EPSILON), norm)
}

/// Everything that a convolution is given, and what the reference makes of its input.
struct Problem {
    case: Case,
    output: MapShape,
    x: Vec<f32>,
    kernel_norm: Normalisation,
    norm: Norm,
    weights: Vec<f32>,
    /// Of the output's shape: an addend, or the output's gradient.
    beside: Vec<f32>,
    /// `norm(x)`, or `x`.
    normalised: Vec<f64>,
    /// `relu` of that, if there is one.
    activated: Vec<f64>,
}

impl Problem {
    fn new(case: Case) -> Self {
        let Case { input, outputs, size, stride, groups, seed, .. } = case;
        let output = reference::output_shape(input, outputs, stride);
        let (x, kernel_norm, norm) = normalised_map(input, groups, seed);
        let normalised = if case.is_normalised { norm.apply(input, &wide(&x)) } else { wide(&x) };
        let activated = if case.is_activated { reference::relu(&normalised) } else { normalised.clone() };
        Self {
            case,
            output,
            weights: random(outputs * input.channels * size * size, seed ^ 3),
            beside: random(output.len(), seed ^ 4),
            x,
            kernel_norm,
            norm,
            normalised,
            activated,
        }
    }

    fn input(&self) -> Input<'_> {
        let norm = self.case.is_normalised.then_some(&self.kernel_norm);
        Input { values: (&self.x).into(), norm, is_activated: self.case.is_activated }
    }

    /// With every instruction set and algorithm.
    fn convolutions(&self) -> impl Iterator<Item = Convolution> {
        let Case { input, outputs, size, stride, .. } = self.case;
        Instructions::available().flat_map(move |instructions| {
            [Algorithm::Winograd, Algorithm::Direct].map(|algorithm| Convolution {
                input,
                outputs,
                size,
                stride,
                algorithm,
                instructions,
            })
        })
    }

    /// The gradient of `norm(x)` (or of `x`) for the gradient `g` of the output, and the sums of its absolute terms.
    fn data_gradient(&self, g: &[f64], g_magnitudes: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let Case { input, outputs, size, stride, is_activated, .. } = self.case;
        let weights = wide(&self.weights);
        let gradient = reference::data_gradient(input, outputs, size, stride, &weights, g);
        let magnitude =
            reference::data_gradient(input, outputs, size, stride, &magnitudes(&weights), g_magnitudes);
        let masked = |g: Vec<f64>| if is_activated { reference::masked(&g, &self.normalised) } else { g };
        (masked(gradient), masked(magnitude))
    }

    fn weights_gradient(&self, g: &[f64], g_magnitudes: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let Case { input, outputs, size, stride, .. } = self.case;
        let of = |x: &[f64], g: &[f64]| reference::weights_gradient(input, x, outputs, size, stride, g);
        (of(&self.activated, g), of(&magnitudes(&self.activated), g_magnitudes))
    }

    /// The plain gradient [`Problem::beside`] of the output, taken back to `norm(x)`.
    fn run_backward(
        &self,
        convolution: &Convolution,
        input_gradient: InputGradient,
        is_constant: bool,
    ) -> (Vec<f32>, Option<NormalisationGradient>) {
        let mut of_weights = vec![f32::NAN; self.weights.len()];
        let gradient = OutputGradient::Plain((&self.beside).into());
        let sums = convolution.backward(
            self.input(),
            &self.weights,
            gradient,
            &mut of_weights,
            input_gradient,
            is_constant,
        );
        (of_weights, sums)
    }
}

fn check_output(case: Case) {
    let problem = Problem::new(case);
    let Case { input, outputs, size, stride, .. } = case;
    let weights = wide(&problem.weights);
    let addend = case.adds.then_some(problem.beside.as_slice());
    let convolve = |x: &[f64], weights: &[f64], addend: Option<Vec<f64>>| {
        let y = reference::convolve(input, x, outputs, size, stride, weights);
        addend.map_or(y.clone(), |addend| reference::sum(&y, &addend))
    };
    let expected = convolve(&problem.activated, &weights, addend.map(wide));
    let terms = addend.map(|addend| magnitudes(&wide(addend)));
    let magnitude = convolve(&magnitudes(&problem.activated), &magnitudes(&weights), terms);
    for convolution in problem.convolutions() {
        let mut y = vec![f32::NAN; problem.output.len()];
        convolution.forward(problem.input(), &problem.weights, addend.map(Into::into), (&mut y).into(), None);
        let error = error(&expected, &y, &magnitude);
        assert!(error < TOLERANCE, "{error} with {convolution:?}");
    }
}

fn check_weights_gradient(case: Case) {
    let problem = Problem::new(case);
    let g = wide(&problem.beside);
    let (expected, magnitude) = problem.weights_gradient(&g, &magnitudes(&g));
    for convolution in problem.convolutions() {
        let (found, sums) = problem.run_backward(&convolution, InputGradient::Unneeded, false);
        let error = error(&expected, &found, &magnitude);
        assert!(error < TOLERANCE, "{error} with {convolution:?}");
        assert!(sums.is_none());
    }
}

fn check_finished_gradient(case: Case) {
    let problem = Problem::new(Case { is_normalised: true, ..case });
    let input = case.input;
    let (x, g) = (wide(&problem.x), wide(&problem.beside));
    let (of_norm, of_norm_magnitude) = problem.data_gradient(&g, &magnitudes(&g));
    let extra = random(input.len(), case.seed ^ 5);
    let addend = case.adds.then_some(extra.as_slice());
    for (convolution, is_constant) in
        problem.convolutions().flat_map(|convolution| [(convolution, false), (convolution, true)])
    {
        let (_, sums) = problem.run_backward(&convolution, InputGradient::SumsOnly, is_constant);
        let (mut expected, ..) = problem.norm.backward(input, &x, &of_norm, is_constant);
        let mut magnitude = problem.norm.backward_magnitude(input, &x, &of_norm_magnitude);
        if let Some(addend) = addend {
            expected = reference::sum(&expected, &wide(addend));
            magnitude = reference::sum(&magnitude, &magnitudes(&wide(addend)));
        }
        let mut found = vec![f32::NAN; input.len()];
        convolution.finish_input_gradient(
            problem.input(),
            &problem.weights,
            OutputGradient::Plain((&problem.beside).into()),
            &sums.expect("the input is normalised"),
            addend.map(Into::into),
            (&mut found).into(),
        );
        let error = error(&expected, &found, &magnitude);
        assert!(error < TOLERANCE, "{error} with {convolution:?}, constant statistics: {is_constant}");
    }
}

proptest! {
    // Plain defaults, so that PROPTEST_CASES sets the number of cases.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..reference::proptest_config() })]

    #[test]
    fn output_is_the_sum_over_the_kernel(case in cases()) {
        check_output(case);
    }

    #[test]
    fn moments_are_those_of_the_stored_output(case in cases()) {
        let problem = Problem::new(case);
        let adds = case.adds.then_some(problem.beside.as_slice());
        for convolution in problem.convolutions() {
            let mut y = vec![f32::NAN; problem.output.len()];
            let mut moments = vec![f32::NAN; case.groups * 2 * case.outputs];
            convolution.forward(problem.input(), &problem.weights, adds.map(Into::into), (&mut y).into(), Some((case.groups, &mut moments)));
            let expected = reference::moments(problem.output, &wide(&y), case.groups);
            let squares: Vec<f64> = wide(&y).iter().map(|y| y * y).chain([1.]).collect();
            let error = error(&expected, &moments, &squares);
            prop_assert!(error < TOLERANCE, "{} with {:?}", error, convolution);
        }
    }

    #[test]
    fn moments_do_not_change_the_output(case in cases()) {
        let problem = Problem::new(case);
        for convolution in problem.convolutions() {
            let (mut with, mut without) = (vec![f32::NAN; problem.output.len()], vec![f32::NAN; problem.output.len()]);
            let mut moments = vec![f32::NAN; case.groups * 2 * case.outputs];
            convolution.forward(problem.input(), &problem.weights, None, (&mut with).into(), Some((case.groups, &mut moments)));
            convolution.forward(problem.input(), &problem.weights, None, (&mut without).into(), None);
            prop_assert!(with == without, "{:?}", convolution);
        }
    }

    #[test]
    fn weights_gradient_is_the_sum_over_pixels(case in cases()) {
        check_weights_gradient(case);
    }

    #[test]
    fn raw_input_gradient_is_masked_and_added_to(case in cases()) {
        let problem = Problem::new(Case { is_normalised: false, ..case });
        let g = wide(&problem.beside);
        let (mut expected, mut magnitude) = problem.data_gradient(&g, &magnitudes(&g));
        let extra = random(case.input.len(), case.seed ^ 5);
        let addend = case.adds.then_some(extra.as_slice());
        if case.adds {
            expected = reference::sum(&expected, &wide(&extra));
            magnitude = reference::sum(&magnitude, &magnitudes(&wide(&extra)));
        }
        for convolution in problem.convolutions() {
            let mut found = vec![f32::NAN; case.input.len()];
            let (_, sums) = problem.run_backward(&convolution, InputGradient::Complete { output: (&mut found).into(), addend: addend.map(Into::into) }, false);
            let error = error(&expected, &found, &magnitude);
            prop_assert!(error < TOLERANCE, "{} with {:?}", error, convolution);
            prop_assert!(sums.is_none());
        }
    }

    #[test]
    fn gradients_of_a_normalisation_and_its_parameters(case in cases()) {
        let problem = Problem::new(Case { is_normalised: true, ..case });
        let g = wide(&problem.beside);
        let (expected, magnitude) = problem.data_gradient(&g, &magnitudes(&g));
        let x = wide(&problem.x);
        let (_, gamma, beta) = problem.norm.backward(case.input, &x, &expected, false);
        let (gamma_magnitude, beta_magnitude) = problem.norm.parameter_magnitudes(case.input, &x, &magnitude);
        for convolution in problem.convolutions() {
            let mut found = vec![f32::NAN; case.input.len()];
            let (_, sums) = problem.run_backward(&convolution, InputGradient::OfNorm(&mut found), false);
            let sums = sums.unwrap();
            let of_norm = error(&expected, &found, &magnitude);
            prop_assert!(of_norm < TOLERANCE, "norm(x): {} with {:?}", of_norm, convolution);
            let gamma = error(&gamma, &sums.gamma, &gamma_magnitude);
            prop_assert!(gamma < TOLERANCE, "gamma: {} with {:?}", gamma, convolution);
            let beta = error(&beta, &sums.beta, &beta_magnitude);
            prop_assert!(beta < TOLERANCE, "beta: {} with {:?}", beta, convolution);
        }
    }

    #[test]
    fn sums_do_not_depend_on_whether_the_gradient_is_stored(case in cases()) {
        let problem = Problem::new(Case { is_normalised: true, ..case });
        for convolution in problem.convolutions() {
            let mut stored = vec![f32::NAN; case.input.len()];
            let (weights, sums) = problem.run_backward(&convolution, InputGradient::OfNorm(&mut stored), false);
            let (weights_again, again) = problem.run_backward(&convolution, InputGradient::SumsOnly, false);
            let (sums, again) = (sums.unwrap(), again.unwrap());
            prop_assert!(weights == weights_again, "{:?}", convolution);
            prop_assert!(sums.gamma == again.gamma && sums.beta == again.beta, "{:?}", convolution);
        }
    }

    #[test]
    fn finished_gradient_is_that_of_the_raw_input(case in cases()) {
        check_finished_gradient(case);
    }

    #[test]
    fn output_gradients_pass_through_a_normalisation(case in cases()) {
        let problem = Problem::new(case);
        let output = problem.output;
        // relu(norm(z)), read by an identity: its backward pass leaves the sums over the masked gradient.
        let (z, kernel_norm, norm) = normalised_map(output, case.groups, case.seed ^ 6);
        let (wide_z, g) = (wide(&z), wide(&problem.beside));
        let masked = reference::masked(&g, &norm.apply(output, &wide_z));
        let gradient = norm.backward(output, &wide_z, &masked, false).0;
        let gradient_magnitude = norm.backward_magnitude(output, &wide_z, &magnitudes(&masked));
        let (expected, magnitude) = problem.weights_gradient(&gradient, &gradient_magnitude);
        let identity = reference::identity(output.channels);
        for convolution in problem.convolutions() {
            let reader = Convolution { input: output, size: 1, stride: 1, ..convolution };
            let mut of_norm = vec![f32::NAN; output.len()];
            let sums = reader
                .backward(
                    Input { values: (&z).into(), norm: Some(&kernel_norm), is_activated: true },
                    &identity,
                    OutputGradient::Plain((&problem.beside).into()),
                    &mut vec![0.; identity.len()],
                    InputGradient::OfNorm(&mut of_norm),
                    false,
                )
                .unwrap();
            let through = OutputGradient::ThroughNorm { gradient: &of_norm, x: (&z).into(), norm: &kernel_norm, sums: &sums };
            let mut found = vec![f32::NAN; problem.weights.len()];
            convolution.backward(problem.input(), &problem.weights, through, &mut found, InputGradient::Unneeded, false);
            let error = error(&expected, &found, &magnitude);
            prop_assert!(error < TOLERANCE, "{} with {:?}", error, convolution);
        }
    }
}

fn check(case: Case) {
    check_output(case);
    check_weights_gradient(case);
    check_finished_gradient(case);
}

/// The shapes of the networks that the kernels are for.
#[test]
fn shapes_of_cifar_networks() {
    for (side, channels, outputs, size, stride) in [
        (32, 3, 16, 3, 1),
        (32, 16, 16, 3, 1),
        (32, 64, 16, 1, 1),
        (32, 16, 64, 1, 1),
        (32, 16, 32, 3, 2),
        (8, 64, 64, 3, 1),
        (16, 64, 128, 1, 2),
        (8, 256, 64, 1, 1),
    ] {
        let input = MapShape { batch: 2, height: side, width: side, channels };
        let is_normalised = channels > 3;
        let known = Case::known(input, [outputs, size, stride], 7);
        check(Case { is_normalised, is_activated: is_normalised, ..known });
    }
}

/// Weights that do not stay in the caches next to a core are read a block at a time, and work on them is divided by channels.
#[test]
fn shapes_of_wide_networks() {
    for (batch, side, channels, outputs, size, stride) in [
        (1, 4, 136, 160, 3, 1),
        (3, 9, 150, 140, 3, 1),
        (9, 6, 141, 136, 3, 1),
        (17, 6, 141, 136, 3, 1),
        (2, 7, 272, 256, 1, 1),
        (1, 9, 256, 270, 1, 1),
        (2, 7, 250, 272, 1, 2),
        (7, 4, 520, 400, 1, 1),
        (3, 5, 270, 1000, 1, 2),
        (1, 2, 8300, 9, 1, 1),
        (2, 9, 80, 96, 3, 2),
    ] {
        let input = MapShape { batch, height: side, width: side + 1, channels };
        check(Case::known(input, [outputs, size, stride], 11));
    }
}

/// 1x1 convolutions that pass over pixels, in rows longer than what is processed together too, and patches whose rows begin
/// within a block.
#[test]
fn shapes_with_strides() {
    for (height, width, channels, outputs, size, stride) in [
        (3, 150, 20, 24, 1, 2),
        (5, 40, 16, 16, 1, 3),
        (13, 12, 3, 20, 7, 2),
        (9, 14, 5, 16, 7, 3),
        (6, 5, 18, 33, 3, 2),
    ] {
        let input = MapShape { batch: 2, height, width, channels };
        for is_normalised in [false, true] {
            check(Case { is_normalised, ..Case::known(input, [outputs, size, stride], 13) });
        }
    }
}

/// Maps too large for the caches are stored past them, which needs aligned memory: elsewhere they are not.
#[test]
fn streamed_outputs_are_the_same_numbers() {
    let input = MapShape { batch: 385, height: 32, width: 32, channels: 1 };
    let x = random(input.len(), 1);
    let weights = random(16, 2);
    for instructions in Instructions::available() {
        let convolution = Convolution {
            input,
            outputs: 16,
            size: 1,
            stride: 1,
            algorithm: Algorithm::Direct,
            instructions,
        };
        let length = convolution.output().len();
        let mut memory = vec![f32::NAN; length + 32];
        let aligned = memory.as_ptr().align_offset(64);
        let input = Input { values: (&x).into(), norm: None, is_activated: false };
        convolution.forward(input, &weights, None, (&mut memory[aligned..][..length]).into(), None);
        let streamed = memory[aligned..][..length].to_vec();
        memory.fill(f32::NAN);
        convolution.forward(input, &weights, None, (&mut memory[aligned + 1..][..length]).into(), None);
        assert!(streamed == memory[aligned + 1..][..length], "{instructions:?}");
    }
}

/// What the transforms' points decide: with 1 and 2 instead of 2/3 and 3/2, errors are 1e-6. And what their coefficients do: a sum of positive
/// numbers, whose random errors average out, shows those that are the same everywhere.
#[test]
fn winograd_rounds_little() {
    let input = MapShape { batch: 4, height: 16, width: 16, channels: 16 };
    let (length, weights_length) = (input.len(), 16 * 16 * 9);
    let relative = |of: &dyn Fn(&[f64]) -> f64, expected: &[f64], found: &[f32]| {
        let errors: Vec<f64> = expected.iter().zip(found).map(|(a, &b)| f64::from(b) - a).collect();
        of(&errors).abs() / of(expected)
    };
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    for is_positive in [false, true] {
        let numbers = |length: usize, seed: u64| {
            let numbers = random(length, seed);
            if is_positive { narrow(&magnitudes(&wide(&numbers))) } else { numbers }
        };
        let (x, weights, g) = (numbers(length, 1), numbers(weights_length, 2), numbers(length, 3));
        let (wide_x, wide_weights, wide_g) = (wide(&x), wide(&weights), wide(&g));
        let of_output = reference::convolve(input, &wide_x, 16, 3, 1, &wide_weights);
        let of_data = reference::data_gradient(input, 16, 3, 1, &wide_weights, &wide_g);
        let of_weights = reference::weights_gradient(input, &wide_x, 16, 3, 1, &wide_g);
        for instructions in Instructions::available() {
            let algorithm = Algorithm::Winograd;
            let convolution = Convolution { input, outputs: 16, size: 3, stride: 1, algorithm, instructions };
            let (mut y, mut data) = (vec![f32::NAN; length], vec![f32::NAN; length]);
            let mut gradient = vec![f32::NAN; weights_length];
            let input = Input { values: (&x).into(), norm: None, is_activated: false };
            convolution.forward(input, &weights, None, (&mut y).into(), None);
            let wanted = InputGradient::Complete { output: (&mut data).into(), addend: None };
            let output_gradient = OutputGradient::Plain((&g).into());
            convolution.backward(input, &weights, output_gradient, &mut gradient, wanted, false);
            for (expected, found) in [(&of_output, &y), (&of_data, &data), (&of_weights, &gradient)] {
                let error = relative(&norm, expected, found);
                assert!(error < 8e-7, "{error} with {instructions:?}");
                let mean = relative(&sum, expected, found);
                assert!(!is_positive || mean < 4e-8, "{mean} on average with {instructions:?}");
            }
        }
    }
}
