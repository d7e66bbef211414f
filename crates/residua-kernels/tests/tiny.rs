//! Every operation on the portable path, on maps so small that an interpreter can run it: Miri, with
//! `scripts/test-miri`.

mod reference;

use reference::{Factors, difference, masked, normalise, positions_of_maxima, random, relu, sum, wide};
use residua_kernels::{
    Activation, Algorithm, AveragePool, Beginning, Convolution, Epilogue, Finishing, GateGradient, Input,
    InputGradient, Instructions, Int8Input, Int8Output, Int8Packing, Junction, MapShape, MaxPool, Merge,
    OutputGradient, Packing, Quantisation, Sgd, SumGradient, TrainedTensor, Values, WeightedMerge, Weights,
    cross_entropy, finish_gradient, finish_gradient_in_place, moments, with_threads_awake,
};

const TOLERANCE: f64 = 1e-4;

const fn convolution(input: MapShape, outputs: usize, size: usize, stride: usize) -> Convolution {
    let instructions = Instructions::Portable;
    Convolution { input, outputs, size, stride, algorithm: Algorithm::Direct, instructions }
}

/// Forward with an addend and moments, and backward to a normalised input in every way there is.
fn check_normalised(convolution: Convolution) {
    let Convolution { input: shape, outputs, size, stride, .. } = convolution;
    let output = convolution.output();
    let (x, weights) = (random(shape.len(), 1), random(convolution.weights_len(), 2));
    let (addend, gradient) = (random(output.len(), 3), random(output.len(), 4));
    let (kernel_norm, norm) = normalise(shape, &x, 1, 5);
    let input = Input { values: (&x).into(), norm: Some(&kernel_norm), is_activated: true };
    let normalised = norm.apply(shape, &wide(&x));
    let activated = relu(&normalised);

    let (mut y, mut found) = (vec![f32::NAN; output.len()], vec![f32::NAN; 2 * outputs]);
    convolution.forward(input, &weights, Some((&addend).into()), (&mut y).into(), Some((1, &mut found)));
    let expected = reference::convolve(shape, &activated, outputs, size, stride, &wide(&weights));
    let expected = sum(&expected, &wide(&addend));
    assert!(difference(&expected, &y) < TOLERANCE, "output");
    assert!(difference(&reference::moments(output, &expected, 1), &found) < TOLERANCE, "moments");

    let (mut of_weights, mut of_norm) = (vec![f32::NAN; weights.len()], vec![f32::NAN; shape.len()]);
    let plain = OutputGradient::Plain((&gradient).into());
    let wanted = InputGradient::OfNorm(&mut of_norm);
    let sums = convolution.backward(input, &weights, plain, &mut of_weights, wanted, false).unwrap();
    let g = wide(&gradient);
    let expected = reference::weights_gradient(shape, &activated, outputs, size, stride, &g);
    assert!(difference(&expected, &of_weights) < TOLERANCE, "gradient of the weights");
    let expected = reference::data_gradient(shape, outputs, size, stride, &wide(&weights), &g);
    let expected = masked(&expected, &normalised);
    assert!(difference(&expected, &of_norm) < TOLERANCE, "gradient of norm(x)");
    let (expected, gamma, beta) = norm.backward(shape, &wide(&x), &expected, false);
    assert!(difference(&gamma, &sums.gamma) < TOLERANCE, "gamma");
    assert!(difference(&beta, &sums.beta) < TOLERANCE, "beta");

    let mut found = vec![f32::NAN; shape.len()];
    convolution.finish_input_gradient(input, &weights, plain, &sums, Some((&x).into()), (&mut found).into());
    let expected = sum(&expected, &wide(&x));
    assert!(difference(&expected, &found) < TOLERANCE, "gradient of the input");
}

/// Backward to an input that is not normalised, from an output that is.
fn check_raw(convolution: Convolution) {
    let Convolution { input: shape, outputs, size, stride, .. } = convolution;
    let output = convolution.output();
    let (x, weights) = (random(shape.len(), 1), random(convolution.weights_len(), 2));
    let (z, g) = (random(output.len(), 3), random(output.len(), 4));
    let (kernel_norm, norm) = normalise(output, &z, 1, 5);
    let reader = Merge { shape: output, is_activated: false, instructions: Instructions::Portable };
    let read = Input { values: (&z).into(), norm: Some(&kernel_norm), is_activated: false };
    let sums = reader.backward(read, &[], SumGradient::Discarded(&g), InputGradient::SumsOnly, false);
    let sums = &sums.unwrap();
    let through = OutputGradient::ThroughNorm { gradient: &g, x: (&z).into(), norm: &kernel_norm, sums };

    let (mut of_weights, mut found) = (vec![f32::NAN; weights.len()], vec![f32::NAN; shape.len()]);
    let input = Input { values: (&x).into(), norm: None, is_activated: true };
    let wanted = InputGradient::Complete { output: (&mut found).into(), addend: Some((&x).into()) };
    convolution.backward(input, &weights, through, &mut of_weights, wanted, false);
    let g = norm.backward(output, &wide(&z), &wide(&g), false).0;
    let activated = relu(&wide(&x));
    let expected = reference::weights_gradient(shape, &activated, outputs, size, stride, &g);
    assert!(difference(&expected, &of_weights) < TOLERANCE, "gradient of the weights");
    let expected = reference::data_gradient(shape, outputs, size, stride, &wide(&weights), &g);
    let expected = sum(&masked(&expected, &wide(&x)), &wide(&x));
    assert!(difference(&expected, &found) < TOLERANCE, "gradient of the input");
}

#[test]
fn winograd() {
    let input = MapShape { batch: 2, height: 5, width: 3, channels: 9 };
    let convolution = Convolution { algorithm: Algorithm::Winograd, ..convolution(input, 8, 3, 1) };
    check_normalised(convolution);
    check_raw(convolution);
}

#[test]
fn pointwise() {
    let input = MapShape { batch: 2, height: 3, width: 3, channels: 17 };
    check_normalised(convolution(input, 3, 1, 1));
    check_raw(convolution(input, 3, 1, 1));
}

/// In one pass what are two, to the bit.
#[test]
fn junction() {
    let [m, x, u] = [3, 16, 2].map(|channels| MapShape { batch: 2, height: 1, width: 2, channels });
    let (before, behind) = (convolution(m, 16, 1, 1), convolution(x, 2, 1, 1));
    let maps = [m, x, u].map(|shape| random(shape.len(), shape.channels as u64));
    let [of_x, of_u] = [x, u].map(|shape| random(shape.len(), 7));
    let weights = [random(3 * 16, 8), random(16 * 2, 9)];
    let shapes = [m, x, u];
    let norms = [0, 1, 2].map(|at| normalise(shapes[at], &maps[at], 1, 5).0);
    let input = |at: usize| Input { values: (&maps[at]).into(), norm: Some(&norms[at]), is_activated: true };
    let reader = Merge { shape: u, is_activated: false, instructions: Instructions::Portable };
    let read = Input { is_activated: false, ..input(2) };
    let sums = reader.backward(read, &[], SumGradient::Discarded(&of_u), InputGradient::SumsOnly, false);
    let sums = &sums.unwrap();
    let gradient =
        OutputGradient::ThroughNorm { gradient: &of_u, x: (&maps[2]).into(), norm: &norms[2], sums };
    let mut unused = vec![f32::NAN; weights[1].len()];
    let wanted = InputGradient::SumsOnly;
    let sums = &behind.backward(input(1), &weights[1], gradient, &mut unused, wanted, false).unwrap();
    let addend = Values::from(&of_x);

    let (mut expected, mut of_norm) = (vec![f32::NAN; x.len()], vec![f32::NAN; m.len()]);
    let mut of_weights = vec![f32::NAN; weights[0].len()];
    behind.finish_input_gradient(input(1), &weights[1], gradient, sums, Some(addend), (&mut expected).into());
    let (plain, wanted) = (OutputGradient::Plain((&expected).into()), InputGradient::OfNorm(&mut of_norm));
    let expected_sums =
        before.backward(input(0), &weights[0], plain, &mut of_weights, wanted, false).unwrap();

    let (mut found, mut found_norm) = (vec![f32::NAN; x.len()], vec![f32::NAN; m.len()]);
    let mut found_weights = vec![f32::NAN; weights[0].len()];
    let output = (&mut found).into();
    let finishing = Finishing { input: input(1), weights: &weights[1], gradient, sums, addend, output };
    let beginning = Beginning {
        input: input(0),
        weights: &weights[0],
        weights_gradient: &mut found_weights,
        of_norm: &mut found_norm,
        statistics_are_constant: false,
    };
    let found_sums = Junction { before, behind }.backward(finishing, beginning);
    assert_eq!([found, found_norm, found_weights], [expected, of_norm, of_weights]);
    assert_eq!([found_sums.gamma, found_sums.beta], [expected_sums.gamma, expected_sums.beta]);
}

#[test]
fn patches() {
    let input = MapShape { batch: 2, height: 3, width: 4, channels: 3 };
    for stride in [1, 2] {
        check_normalised(convolution(input, 2, 3, stride));
        check_raw(convolution(input, 2, 3, stride));
    }
}

#[test]
fn merges_and_finished_gradients() {
    let instructions = Instructions::Portable;
    let shape = MapShape { batch: 2, height: 2, width: 2, channels: 67 };
    let (x, addend, g) = (random(shape.len(), 1), random(shape.len(), 2), random(shape.len(), 3));
    let (kernel_norm, norm) = normalise(shape, &x, 2, 4);
    let input = Input { values: (&x).into(), norm: Some(&kernel_norm), is_activated: false };
    let merge = Merge { shape, is_activated: true, instructions };
    let normalised = norm.apply(shape, &wide(&x));

    let (mut y, mut found) = (vec![f32::NAN; shape.len()], vec![f32::NAN; 4 * shape.channels]);
    merge.forward(input, Some(&addend), &mut y, Some((2, &mut found)));
    let expected = relu(&sum(&normalised, &wide(&addend)));
    assert!(difference(&expected, &y) < TOLERANCE);
    let mut again = vec![f32::NAN; found.len()];
    moments(shape, &y, 2, instructions, &mut again);
    assert_eq!(again, found);

    let (mut of_x, mut of_sum) = (vec![f32::NAN; shape.len()], g.clone());
    let wanted = InputGradient::Complete { output: (&mut of_x).into(), addend: None };
    let sums = merge.backward(input, &y, SumGradient::Replaced(&mut of_sum), wanted, false).unwrap();
    let expected = masked(&wide(&g), &wide(&y));
    assert_eq!(wide(&of_sum), expected);
    let expected = norm.backward(shape, &wide(&x), &expected, false).0;
    assert!(difference(&expected, &of_x) < TOLERANCE);

    let gradient =
        OutputGradient::ThroughNorm { gradient: &of_sum, x: (&x).into(), norm: &kernel_norm, sums: &sums };
    let mut finished = vec![f32::NAN; shape.len()];
    finish_gradient(shape, gradient, None, (&mut finished).into(), instructions);
    assert_eq!(finished, of_x);
    finish_gradient_in_place(shape, &mut of_sum, (&x).into(), &kernel_norm, &sums, None, instructions);
    assert_eq!(of_sum, of_x);
}

#[test]
fn weighted_merges() {
    let instructions = Instructions::Portable;
    let shape = MapShape { batch: 2, height: 2, width: 1, channels: 67 };
    let [x, addend, g, values] = [1, 2, 3, 4].map(|seed| random(shape.len(), seed));
    let bias = random(shape.channels, 5);
    let (kernel_norm, norm) = normalise(shape, &x, 1, 6);
    let input = Input { values: (&x).into(), norm: Some(&kernel_norm), is_activated: true };
    let term = relu(&norm.apply(shape, &wide(&x)));
    let merge = WeightedMerge { shape, is_activated: true, instructions };
    let gate = |is_exclusive: bool| Weights::Gate { logits: &values, bias: &bias, is_exclusive };
    let constant = Weights::Constant { shortcut: 0.5, residual: -2. };
    for weights in [constant, gate(true), gate(false), Weights::Mask(&values)] {
        let factors = Factors::new(shape, weights);
        let mut y = vec![f32::NAN; shape.len()];
        merge.forward(input, &addend, weights, &mut y);
        assert!(difference(&relu(&factors.sum(&term, &wide(&addend))), &y) < TOLERANCE);

        let [mut of_input, mut of_addend, mut of_logits] = [(); 3].map(|()| vec![f32::NAN; shape.len()]);
        let mut of_bias = vec![f32::NAN; shape.channels];
        let is_gate = matches!(weights, Weights::Gate { .. });
        let of_gate = is_gate.then_some(GateGradient { logits: &mut of_logits, bias: &mut of_bias });
        merge.backward(input, &addend, weights, &y, &g, &mut of_input, &mut of_addend, of_gate);
        let of_sum = masked(&wide(&g), &wide(&y));
        let expected = factors.backward(&term, &wide(&addend), &of_sum);
        let found = [of_input, of_addend, of_logits, of_bias];
        for (expected, found) in expected.iter().zip(&found).take(if is_gate { 4 } else { 2 }) {
            assert!(difference(expected, found) < TOLERANCE, "{weights:?}");
        }
    }
}

#[test]
fn pooling() {
    let instructions = Instructions::Portable;
    let shape = MapShape { batch: 2, height: 4, width: 3, channels: 17 };
    let x = random(shape.len(), 1);
    let input = Input { values: (&x).into(), norm: None, is_activated: false };

    let average = AveragePool { input: shape, instructions };
    let mut means = vec![f32::NAN; shape.batch * shape.channels];
    average.forward(input, &mut means);
    assert!(difference(&reference::average_pool(shape, &wide(&x)), &means) < TOLERANCE);
    let mut found = vec![f32::NAN; shape.len()];
    let wanted = InputGradient::Complete { output: (&mut found).into(), addend: None };
    average.backward(input, &means, wanted, false);
    assert!(difference(&reference::average_pool_gradient(shape, &wide(&means)), &found) < TOLERANCE);

    let max = MaxPool { input: shape, instructions };
    let positions = positions_of_maxima(shape, &wide(&x));
    let mut maxima = vec![f32::NAN; positions.len()];
    max.forward(input, &mut maxima);
    assert!(positions.iter().map(|&at| &x[at]).eq(&maxima));
    let mut expected = vec![0.; shape.len()];
    positions.iter().zip(&maxima).for_each(|(&at, &g)| expected[at] += f64::from(g));
    let wanted = InputGradient::Complete { output: (&mut found).into(), addend: None };
    max.backward(input, &maxima, wanted, false);
    assert!(difference(&expected, &found) < TOLERANCE);
}

#[test]
fn loss() {
    let mut gradient = [f32::NAN; 4];
    let loss = cross_entropy(&[1., 1., -2., -2.], &[0, 1], 2, Some(&mut gradient));
    assert!((loss - 2f64.ln()).abs() < TOLERANCE);
    assert!(difference(&[-0.25, 0.25, 0.25, -0.25], &gradient) < TOLERANCE);
}

#[test]
fn sgd() {
    let sgd = Sgd { learning_rate: 0.5, momentum: 0.5, weight_decay: 0.5, is_nesterov: true };
    let (mut weight, gradient, mut momentum) = ([2f32; 17], [1f32; 17], [4f32; 17]);
    let tensor = TrainedTensor {
        weight: &mut weight,
        gradient: &gradient,
        momentum: &mut momentum,
        is_first: false,
        decays: true,
    };
    sgd.step(&mut [tensor], Instructions::Portable);
    // d = 1 + 0.5 * 2, v = 0.5 * 4 + d, w = 2 - 0.5 * (d + 0.5 * v)
    assert_eq!((weight, momentum), ([0f32; 17], [4f32; 17]));
}

#[test]
fn packed_convolutions_in_parts_by_threads_that_are_awake() {
    let shape = MapShape { batch: 1, height: 5, width: 4, channels: 17 };
    let outputs = 18;
    for (size, algorithm) in [(3, Algorithm::Winograd), (1, Algorithm::Direct)] {
        let (x, weights) = (random(shape.len(), 1), random(outputs * shape.channels * size * size, 2));
        let packing = Packing::new(shape.channels, outputs, size, 1, algorithm, Instructions::Portable);
        let mut packed = vec![f32::NAN; packing.packed_len()];
        packing.pack(&weights, &mut packed);
        let packed = packing.with_weights(&packed);
        let epilogue = Epilogue::new(&[1.; 18], &[0.25; 18], 1., Activation::None);
        let input = Input { values: (&x).into(), norm: None, is_activated: false };
        let mut y = vec![f32::NAN; packing.output(shape).len()];
        with_threads_awake(|| {
            for _ in 0..3 {
                packed.forward(shape, input, &epilogue, None, &mut y, 2);
            }
        });
        let expected = reference::convolve(shape, &wide(&x), outputs, size, 1, &wide(&weights));
        let expected: Vec<f64> = expected.iter().map(|value| value + 0.25).collect();
        assert!(difference(&expected, &y) < TOLERANCE, "{size}");
    }
}

#[test]
fn packed_convolutions_of_bfloat16() {
    let shape = MapShape { batch: 1, height: 3, width: 4, channels: 17 };
    for (size, stride) in [(3, 1), (3, 2), (1, 1)] {
        let (x, weights) = (random(shape.len(), 1), random(3 * shape.channels * size * size, 2));
        let packing = Packing::new(shape.channels, 3, size, stride, Algorithm::Bf16, Instructions::Portable);
        let mut packed = vec![f32::NAN; packing.packed_len()];
        packing.pack(&weights, &mut packed);
        let epilogue = Epilogue::new(&[1.; 3], &[0.25; 3], 1., Activation::None);
        let input = Input { values: (&x).into(), norm: None, is_activated: false };
        let mut y = vec![f32::NAN; packing.output(shape).len()];
        packing.with_weights(&packed).forward(shape, input, &epilogue, None, &mut y, 1);
        let expected = reference::convolve(shape, &wide(&x), 3, size, stride, &wide(&weights));
        let expected: Vec<f64> = expected.iter().map(|value| value + 0.25).collect();
        assert!(difference(&expected, &y) < 0.02, "{size} {stride}");
    }
}

#[test]
fn packed_convolutions_of_bytes() {
    let shape = MapShape { batch: 1, height: 3, width: 4, channels: 17 };
    for (size, stride, reads_bytes) in [(3, 1, false), (3, 2, true), (1, 1, true)] {
        let (x, weights) = (random(shape.len(), 1), random(3 * shape.channels * size * size, 2));
        let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let quantisation = Quantisation::of(-largest..=largest);
        let packing = Int8Packing::new([17, 3], size, stride, quantisation, Instructions::Portable);
        let mut packed = vec![f32::NAN; packing.packed_len()];
        packing.pack(&weights, &mut packed);
        let epilogue = Epilogue::new(&[1.; 3], &[0.25; 3], 1., Activation::None);
        let zero = f32::from(quantisation.zero_point);
        let bytes: Vec<u8> = x.iter().map(|x| (x / quantisation.scale + zero).round() as u8).collect();
        let input = match reads_bytes {
            true => Int8Input::Bytes(&bytes),
            false => Int8Input::Numbers(Input { values: (&x).into(), norm: None, is_activated: false }),
        };
        let mut y = vec![f32::NAN; packing.output(shape).len()];
        packing.forward(&packed, shape, input, &epilogue, None, Int8Output::Numbers((&mut y).into()), 1);
        let expected = reference::convolve(shape, &wide(&x), 3, size, stride, &wide(&weights));
        let expected: Vec<f64> = expected.iter().map(|value| value + 0.25).collect();
        assert!(difference(&expected, &y) < 0.02, "{size} {stride}");
    }
}
