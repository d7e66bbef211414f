//! How fast Inception-v3 trains or classifies, to compare residual networks with.

use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;

use super::training::{BenchmarkMode, Measurement, random_batch, timed};
use crate::evaluate::{images, to_host};
use crate::nn::{InceptionConfig, InceptionV3, NetworkError};
use crate::ops::{self, SgdOptions};
use crate::run::RunError;
use crate::train::cross_entropy;

/// Measures Inception-v3 for 1000 classes on random images of `side` x `side` pixels. A training step is forward, cross-entropy of the
/// classifier and 0.4 times that of the auxiliary one, backward, SGD with momentum 0.9 and weight decay 1e-4; dropout is left out.
///
/// # Errors
/// When the images are too small.
pub fn measure_inception(
    mode: BenchmarkMode,
    batch: usize,
    side: usize,
    steps: usize,
    device: &Device,
) -> Result<Measurement, RunError> {
    let config = InceptionConfig { classes: CLASSES };
    let cost = config.cost(side, side)?;
    let examples = random_batch(batch, side, side, CLASSES);
    let labels = examples.labels.clone();
    let device = match mode {
        BenchmarkMode::Train => device.clone().autodiff(),
        BenchmarkMode::Infer => device.clone().inner(),
    };
    let mut network = InceptionV3::init(&config, 0, &device)?;
    let mut momentum = BTreeMap::new();
    timed(steps, batch, cost.parameters, |_| {
        let images = images(&examples, &device);
        match mode {
            BenchmarkMode::Train => {
                network = step(network.clone(), images, &labels, &mut momentum)?;
            }
            BenchmarkMode::Infer => drop(to_host(network.forward(images)?)),
        }
        Ok(())
    })
}

const CLASSES: usize = 1000;
/// What the auxiliary classifier's loss counts.
const AUXILIARY: f32 = 0.4;

fn step(
    network: InceptionV3,
    images: Tensor<4>,
    labels: &[u16],
    momentum: &mut BTreeMap<String, Tensor<1>>,
) -> Result<InceptionV3, NetworkError> {
    let mask = Tensor::ones([labels.len(), 2048], &images.device());
    let output = network.forward_in_training(images, mask)?;
    let loss =
        cross_entropy(output.logits, labels) + cross_entropy(output.auxiliary_logits, labels) * AUXILIARY;
    let mut gradients = loss.backward();
    let mut network = network.absorb(output.statistics);
    let options = SgdOptions { learning_rate: 0.001, momentum: 0.9, weight_decay: 1e-4, is_nesterov: false };
    for (name, tensor) in network.trained_mut() {
        let Some(gradient) = tensor.grad_remove(&mut gradients) else { continue };
        let (weight, buffer) =
            ops::sgd_step(tensor.clone().inner(), gradient, momentum.remove(name), options);
        momentum.extend(buffer.map(|buffer| (name.clone(), buffer)));
        *tensor = Tensor::from_inner(weight).require_grad();
    }
    Ok(network)
}
