//! How fast a network trains or classifies, and in how much memory.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::data::Batch;
use crate::device::peak_memory_bytes;
use crate::evaluate::{images, to_host};
use crate::nn::{Memory, Parts, Pass, ResNet, ResNetConfig};
use crate::ops::Engine;
use crate::run::OptimiserOptions;
use crate::run::RunError;
use crate::train::{Sgd, check_precision, step};
use residua_infer::words;

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BenchmarkMode {
    /// The trainer's own step.
    #[default]
    Train,
    /// The forward pass in evaluation mode.
    Infer,
}

words!(BenchmarkMode, "mode", {
    Train => "train": "the trainer's own step",
    Infer => "infer": "the forward pass",
});

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Benchmark {
    /// The network.
    pub network: ResNetConfig,
    /// Training or inference.
    pub mode: BenchmarkMode,
    /// Images of a batch.
    pub batch: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Steps that count; two more, to warm up, precede them.
    pub steps: usize,
    /// Which implementation of the operations.
    pub engine: Engine,
    /// What a training step keeps for its backward pass.
    pub memory: Memory,
    /// The parts of the network that training leaves as they are.
    pub frozen: Parts,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Of the median step.
    pub images_per_second_median: f64,
    /// Of the fastest step.
    pub images_per_second: f64,
    /// Largest resident memory of the whole process so far; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Trained values of the network.
    pub parameters: u64,
}

/// Steps that do not count.
const WARM_UP: usize = 2;

impl Benchmark {
    /// Runs the steps on random images that are in memory already.
    ///
    /// # Errors
    /// When the batch does not fit the network.
    pub fn run(&self, device: &Device) -> Result<Measurement, RunError> {
        if self.mode == BenchmarkMode::Train {
            check_precision(self.network.precision, device, self.engine)?;
        }
        let [height, width] = self.size;
        let batch = random_batch(self.batch, height, width, self.network.classes);
        let network = ResNet::init(&self.network, 0, &device.clone().autodiff())?.freeze(&self.frozen)?;
        let parameters = network.parameters() as u64;
        let mut sgd = Sgd::new(&OptimiserOptions::default());
        let evaluated = network.valid();
        let mut network = Some(network);
        timed(self.steps, self.batch, parameters, |iteration| {
            match self.mode {
                BenchmarkMode::Train => {
                    let pass = Pass::train(0, iteration).with_engine(self.engine).with_memory(self.memory);
                    let Some(trained) = network.take() else { return Ok(()) };
                    // Random labels cannot be learnt: a small rate keeps the numbers in range.
                    network = Some(step(trained, &mut sgd, &batch, pass, 0.001)?.0);
                }
                BenchmarkMode::Infer => {
                    let mut pass = Pass::evaluate().with_engine(self.engine);
                    to_host(evaluated.forward(images(&batch, &evaluated.device()), &mut pass)?);
                }
            }
            Ok(())
        })
    }
}

/// Times the steps after those that warm up.
pub(crate) fn timed(
    steps: usize,
    batch: usize,
    parameters: u64,
    mut step: impl FnMut(u64) -> Result<(), RunError>,
) -> Result<Measurement, RunError> {
    let mut seconds = Vec::with_capacity(steps + WARM_UP);
    for iteration in 0..steps + WARM_UP {
        let start = Instant::now();
        step(iteration as u64)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let mut counted = seconds.split_off(WARM_UP);
    counted.sort_by(f64::total_cmp);
    let rate = |seconds: f64| batch as f64 / seconds;
    Ok(Measurement {
        images_per_second_median: rate(median(&counted)),
        images_per_second: rate(counted.first().copied().unwrap_or(f64::NAN)),
        peak_memory_bytes: peak_memory_bytes(),
        parameters,
    })
}

pub(crate) fn random_batch(count: usize, height: usize, width: usize, classes: usize) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let images = (0..count * height * width * 3).map(|_| StandardNormal.sample(&mut random)).collect();
    let labels = (0..count).map(|_| (random.next_u64() % classes as u64) as u16).collect();
    Batch::new(images, labels, height, width)
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.,
    }
}
