//! How fast a network classifies without tensors.

use std::num::NonZeroUsize;

use super::classifier::Classifier;
use crate::device::Device;
use crate::nn::ResNetConfig;
use crate::train::{Measurement, TrainError, random_batch, timed};

/// Measures a new network on random images of `size`, height and width, that are in memory already.
///
/// # Errors
/// When the network does not take such images.
pub fn measure_classifier(
    config: &ResNetConfig,
    batch: usize,
    size: [usize; 2],
    steps: usize,
    threads: NonZeroUsize,
) -> Result<Measurement, TrainError> {
    let [height, width] = size;
    let images = random_batch(batch, height, width, config.classes).images;
    let network = config.init(0, &Device::flex())?;
    let parameters = network.parameters() as u64;
    let classifier = Classifier::new(config, &network.tensors(), size, threads)?;
    drop(network);
    let mut logits = vec![0.; batch * config.classes];
    timed(steps, batch, parameters, |_| {
        classifier.logits(&images, &mut logits);
        Ok(())
    })
}
