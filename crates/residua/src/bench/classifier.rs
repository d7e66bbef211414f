//! How fast a network classifies without tensors.

use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;

use residua_infer::{Classifier, ClassifierOptions, InputRanges};

use super::training::{Measurement, random_batch, timed};
use crate::device::Device;
use crate::nn::{ResNet, ResNetConfig};
use crate::run::RunError;

/// Measures a new network on random images of `size`, height and width, that are in memory already.
///
/// # Errors
/// When the network does not take such images, or the processor does not compute in the precision.
pub fn measure_classifier(
    config: &ResNetConfig,
    batch: usize,
    size: [usize; 2],
    steps: usize,
    options: impl Into<ClassifierOptions>,
) -> Result<Measurement, RunError> {
    let [height, width] = size;
    let images = random_batch(batch, height, width, config.classes).images;
    let network = ResNet::init(config, 0, &Device::flex())?;
    let parameters = network.parameters() as u64;
    let classifier = Classifier::new(config, network.tensors(), size, options)?;
    drop(network);
    let mut logits = vec![0.; batch * config.classes];
    timed(steps, batch, parameters, |_| {
        classifier.logits(&images, &mut logits);
        Ok(())
    })
}

/// The ranges of what a new network's convolutions read of a few random images, with which it can be measured in bytes.
///
/// # Errors
/// When the network does not take such images.
pub fn random_ranges(
    config: &ResNetConfig,
    size: [usize; 2],
    threads: NonZeroUsize,
) -> Result<InputRanges, RunError> {
    let [height, width] = size;
    let images = random_batch(4, height, width, config.classes).images;
    let network = ResNet::init(config, 0, &Device::flex())?;
    Ok(Classifier::new(config, network.tensors(), size, threads)?.input_ranges(&images))
}

/// How long callers wait who each classify one batch after another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the calls take no longer, in seconds.
    pub median: f64,
    /// Of a hundred calls 99 take no longer.
    pub percentile_99: f64,
    /// Images of all callers.
    pub images_per_second: f64,
}

/// Measures `callers` threads that each make `calls` calls with `batch` random images.
///
/// # Errors
/// When the network does not take such images.
pub fn measure_latency(
    config: &ResNetConfig,
    batch: usize,
    size: [usize; 2],
    (callers, calls): (NonZeroUsize, NonZeroUsize),
    options: impl Into<ClassifierOptions>,
) -> Result<Latency, RunError> {
    let [height, width] = size;
    let images = random_batch(batch, height, width, config.classes).images;
    let network = ResNet::init(config, 0, &Device::flex())?;
    let classifier = Classifier::new(config, network.tensors(), size, options)?;
    drop(network);
    let call = || {
        let mut logits = vec![0.; batch * config.classes];
        let one = |_| {
            let start = Instant::now();
            classifier.logits(&images, &mut logits);
            start.elapsed().as_secs_f64()
        };
        (0..calls.get()).map(one).collect::<Vec<f64>>()
    };
    call();
    let start = Instant::now();
    let mut seconds: Vec<f64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..callers.get()).map(|_| scope.spawn(call)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a caller does not panic")).collect()
    });
    let all = start.elapsed().as_secs_f64();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[(share * (seconds.len() - 1) as f64).round() as usize];
    Ok(Latency {
        median: at(0.5),
        percentile_99: at(0.99),
        images_per_second: (seconds.len() * batch) as f64 / all,
    })
}
