//! The number of threads changes nothing, not a bit.

mod reference;

use rayon::ThreadPoolBuilder;
use reference::{EPSILON, bits, random};
use residua_kernels::{
    Algorithm, Convolution, Input, InputGradient, Instructions, MapShape, Normalisation, OutputGradient,
};

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Every batch size up to the largest of the networks' would take long: all small ones, and those around the numbers
/// of runs that a batch is cut into.
fn batches() -> impl Iterator<Item = usize> {
    (1..=18).chain([31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 130])
}

fn each_convolution(check: impl Fn(Convolution) + Sync) {
    for batch in batches() {
        let input = MapShape { batch, height: 6, width: 5, channels: 17 };
        for (size, stride, algorithm) in [
            (3, 1, Algorithm::Winograd),
            (3, 1, Algorithm::Direct),
            (3, 2, Algorithm::Direct),
            (1, 1, Algorithm::Direct),
        ] {
            let instructions = Instructions::current();
            check(Convolution { input, outputs: 20, size, stride, algorithm, instructions });
        }
    }
    // Work on many channels is divided by channels, too.
    for (batch, channels, size) in [(1, 137, 3), (5, 137, 3), (40, 137, 3), (3, 264, 1)] {
        let input = MapShape { batch, height: 6, width: 5, channels };
        let (algorithm, instructions) = (Algorithm::Winograd, Instructions::current());
        check(Convolution { input, outputs: channels + 3, size, stride: 1, algorithm, instructions });
    }
}

/// What `run` returns in a pool of each size, one after the other.
fn with_each_pool<R: Send>(run: impl Fn() -> R + Sync) -> Vec<R> {
    let pool = |threads: usize| ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    THREADS.map(|threads| pool(threads).install(&run)).into()
}

fn normalisation(channels: usize) -> Normalisation {
    let moments: Vec<f32> = (0..2 * channels).map(|at| if at < channels { 0.1 } else { 0.5 }).collect();
    Normalisation::new(&moments, &random(channels, 5), &random(channels, 6), EPSILON)
}

fn assert_equal(results: &[Vec<u32>], convolution: Convolution) {
    for (result, threads) in results.iter().zip(THREADS) {
        assert!(*result == results[0], "{threads} threads differ from one with {convolution:?}");
    }
}

#[test]
fn forward_is_bitwise_the_same() {
    each_convolution(|convolution| {
        let x = random(convolution.input.len(), 1);
        let weights = random(convolution.weights_len(), 2);
        let norm = normalisation(convolution.input.channels);
        let results = with_each_pool(|| {
            let mut output = vec![f32::NAN; convolution.output().len()];
            let mut moments = vec![f32::NAN; 2 * convolution.outputs];
            let input = Input { values: (&x).into(), norm: Some(&norm), is_activated: true };
            convolution.forward(input, &weights, None, (&mut output).into(), Some((1, &mut moments)));
            output.extend(moments);
            bits(&output)
        });
        assert_equal(&results, convolution);
    });
}

#[test]
fn backward_is_bitwise_the_same() {
    each_convolution(|convolution| {
        let x = random(convolution.input.len(), 1);
        let weights = random(convolution.weights_len(), 2);
        let gradient = random(convolution.output().len(), 3);
        let norm = normalisation(convolution.input.channels);
        let results = with_each_pool(|| {
            let mut of_weights = vec![f32::NAN; weights.len()];
            let mut of_input = vec![f32::NAN; x.len()];
            let mut finished = vec![f32::NAN; x.len()];
            let input = Input { values: (&x).into(), norm: Some(&norm), is_activated: true };
            let gradient = OutputGradient::Plain((&gradient).into());
            let sums = convolution
                .backward(
                    input,
                    &weights,
                    gradient,
                    &mut of_weights,
                    InputGradient::OfNorm(&mut of_input),
                    false,
                )
                .expect("the input is normalised");
            convolution.finish_input_gradient(input, &weights, gradient, &sums, None, (&mut finished).into());
            bits(&[of_weights, of_input, finished, sums.gamma, sums.beta].concat())
        });
        assert_equal(&results, convolution);
    });
}
