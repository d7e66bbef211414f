//! The kernels on the shapes of CIFAR networks, batch 128, and of ImageNet bottlenecks, batch 16, beside the peaks of the
//! machine that runs them.
//!
//! Items are floating-point operations of the sums as they are written: Winograd's F(4x4, 3x3) does a quarter of the
//! multiplications and may exceed the machine's peak. `RAYON_NUM_THREADS` sets the threads, `RESIDUA_INSTRUCTIONS` the
//! instruction set.

mod maps;
mod peaks;

use std::fmt;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use maps::{Map, normalisation, numbers};
use residua_kernels::{
    Algorithm, AveragePool, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation,
    NormalisationGradient, OutputGradient, Sgd, TrainedTensor, finish_gradient,
};

/// Seconds for a kernel and shape.
const SECONDS: f64 = 0.4;
/// Of CIFAR networks.
const BATCH: usize = 128;
/// Of ImageNet networks.
const FEW: usize = 16;

fn main() {
    let is_listing = std::env::args().any(|argument| argument == "--list");
    if !is_listing {
        peaks::print();
    }
    divan::main();
}

/// A convolution of a residual unit.
#[derive(Clone, Copy)]
struct Layer {
    batch: usize,
    side: usize,
    inputs: usize,
    outputs: usize,
    size: usize,
    stride: usize,
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { batch: _, side, inputs, outputs, size, stride } = self;
        write!(formatter, "{size}x{size} {inputs:3} -> {outputs:3} at {side:2}")?;
        if *stride > 1 { write!(formatter, ", stride {stride}") } else { Ok(()) }
    }
}

const fn layer(size: usize, inputs: usize, outputs: usize, side: usize) -> Layer {
    Layer { batch: BATCH, side, inputs, outputs, size, stride: 1 }
}

/// Of a network for photographs.
const fn large(size: usize, inputs: usize, outputs: usize, side: usize) -> Layer {
    Layer { batch: FEW, ..layer(size, inputs, outputs, side) }
}

/// Of basic units, 3x3, and of bottleneck units, 1x1 beside the same 3x3, in the three stages; of the bottlenecks of the
/// four stages for photographs, and the first of a stage.
const LAYERS: [Layer; 23] = [
    layer(3, 16, 16, 32),
    layer(3, 32, 32, 16),
    layer(3, 64, 64, 8),
    layer(1, 64, 16, 32),
    layer(1, 16, 64, 32),
    layer(1, 128, 32, 16),
    layer(1, 32, 128, 16),
    layer(1, 256, 64, 8),
    layer(1, 64, 256, 8),
    large(1, 256, 64, 56),
    large(3, 64, 64, 56),
    large(1, 64, 256, 56),
    large(1, 512, 128, 28),
    large(3, 128, 128, 28),
    large(1, 128, 512, 28),
    large(1, 1024, 256, 14),
    large(3, 256, 256, 14),
    large(1, 256, 1024, 14),
    large(1, 2048, 512, 7),
    large(3, 512, 512, 7),
    large(1, 512, 2048, 7),
    Layer { stride: 2, ..large(1, 512, 256, 28) },
    Layer { stride: 2, ..large(1, 512, 1024, 28) },
];

/// A convolution of `relu(norm(x))` and all that its kernels read.
struct Problem {
    convolution: Convolution,
    x: Map,
    norm: Normalisation,
    weights: Map,
    /// Of the input's shape.
    shortcut: Map,
    /// Of the output's shape.
    gradient: Map,
}

impl Problem {
    fn new(layer: Layer) -> Self {
        let Layer { batch, side, inputs, outputs, size, stride } = layer;
        let convolution = Convolution {
            input: MapShape { batch, height: side, width: side, channels: inputs },
            outputs,
            size,
            stride,
            algorithm: Algorithm::Winograd,
            instructions: Instructions::current(),
        };
        Self {
            x: numbers(convolution.input.len()),
            norm: normalisation(inputs),
            weights: numbers(convolution.weights_len()),
            shortcut: numbers(convolution.input.len()),
            gradient: numbers(convolution.output().len()),
            convolution,
        }
    }

    fn input(&self) -> Input<'_> {
        Input { values: (&self.x[..]).into(), norm: Some(&self.norm), is_activated: true }
    }

    /// Floating-point operations of one product with the weights.
    fn operations(&self) -> usize {
        let Convolution { input, size, .. } = self.convolution;
        2 * self.gradient.len() * input.channels * size * size
    }

    fn backward(&self, of_weights: &mut [f32], wanted: InputGradient) -> NormalisationGradient {
        let gradient = OutputGradient::Plain((&self.gradient[..]).into());
        let sums =
            self.convolution.backward(self.input(), &self.weights, gradient, of_weights, wanted, false);
        sums.expect("the input is normalised")
    }
}

/// With an addend, and the moments of the output.
#[divan::bench(args = LAYERS, max_time = SECONDS)]
fn forward(bencher: Bencher, layer: Layer) {
    let problem = Problem::new(layer);
    let mut output = Map::zeros(problem.gradient.len());
    let mut moments = vec![0.; 2 * layer.outputs];
    bencher.counter(ItemsCount::new(problem.operations())).bench_local(|| {
        let (addend, moments) = (Some(&*problem.gradient), Some((1, moments.as_mut_slice())));
        problem.convolution.forward(
            problem.input(),
            &problem.weights,
            addend.map(Into::into),
            (&mut output[..]).into(),
            moments,
        );
    });
}

/// The gradient of the weights, that of the normalised input, and the sums over it.
#[divan::bench(args = LAYERS, max_time = SECONDS)]
fn backward(bencher: Bencher, layer: Layer) {
    let problem = Problem::new(layer);
    let mut of_weights = vec![0.; problem.weights.len()];
    let mut of_norm = Map::zeros(problem.x.len());
    bencher
        .counter(ItemsCount::new(2 * problem.operations()))
        .bench_local(|| problem.backward(&mut of_weights, InputGradient::OfNorm(&mut of_norm)));
}

/// With the shortcut's gradient.
#[divan::bench(args = LAYERS, max_time = SECONDS)]
fn finish_input_gradient(bencher: Bencher, layer: Layer) {
    let problem = Problem::new(layer);
    let sums = problem.backward(&mut vec![0.; problem.weights.len()], InputGradient::SumsOnly);
    let mut output = Map::zeros(problem.x.len());
    bencher.counter(ItemsCount::new(problem.operations())).bench_local(|| {
        let gradient = OutputGradient::Plain((&problem.gradient[..]).into());
        let addend = Some(&*problem.shortcut);
        problem.convolution.finish_input_gradient(
            problem.input(),
            &problem.weights,
            gradient,
            &sums,
            addend.map(Into::into),
            (&mut output[..]).into(),
        );
    });
}

/// `scale * g + slope * (x - mean) + offset + addend`, for the channels of the three stages of a basic network.
#[divan::bench(args = [16, 32, 64], max_time = SECONDS)]
fn finish_gradient_elementwise(bencher: Bencher, channels: usize) {
    let instructions = Instructions::current();
    let side = 512 / channels;
    let shape = MapShape { batch: BATCH, height: side, width: side, channels };
    let (gradient, x, addend) = (numbers(shape.len()), numbers(shape.len()), numbers(shape.len()));
    let norm = normalisation(channels);
    let input = Input { values: (&x[..]).into(), norm: Some(&norm), is_activated: false };
    let of_means = numbers(BATCH * channels);
    let pool = AveragePool { input: shape, instructions };
    let sums = pool.backward(input, &of_means, InputGradient::SumsOnly, false);
    let sums = sums.expect("the input is normalised");
    let mut output = Map::zeros(shape.len());
    let gradient =
        OutputGradient::ThroughNorm { gradient: &gradient, x: (&x[..]).into(), norm: &norm, sums: &sums };
    bencher
        .counter(ItemsCount::new(6 * shape.len()))
        .counter(BytesCount::of_many::<f32>(4 * shape.len()))
        .bench_local(|| {
            finish_gradient(
                shape,
                gradient,
                Some((&addend[..]).into()),
                (&mut output[..]).into(),
                instructions,
            )
        });
}

/// A step of the 3x3 weights of ResNet-110, with momentum and weight decay.
#[divan::bench(max_time = SECONDS)]
fn sgd(bencher: Bencher) {
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4, is_nesterov: false };
    let lengths = [16usize, 32, 64].map(|channels| [channels * channels * 9; 36]).concat();
    let mut values: Vec<[Map; 3]> = lengths.iter().map(|&length| [0; 3].map(|_| numbers(length))).collect();
    let total: usize = lengths.iter().sum();
    let mut tensors: Vec<TrainedTensor> = values
        .iter_mut()
        .map(|[weight, gradient, momentum]| TrainedTensor {
            weight,
            gradient,
            momentum,
            is_first: false,
            decays: true,
        })
        .collect();
    bencher
        .counter(ItemsCount::new(6 * total))
        .counter(BytesCount::of_many::<f32>(5 * total))
        .bench_local(|| sgd.step(&mut tensors, Instructions::current()));
}
