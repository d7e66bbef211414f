//! Stochastic gradient descent with momentum, in PyTorch's arithmetic.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use super::stepper::{Rule, Stepper};
use crate::nn::{NamedTensors, ResNet, flat_tensor};
use crate::ops::{self, SgdOptions};
use crate::run::OptimiserOptions;

/// Stochastic gradient descent. A step is `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - learning_rate * v` (with Nesterov's
/// momentum: `w - learning_rate * (d + momentum * v)`); `v` starts at zero. There is no dampening. Its [tensors](Stepper::tensors) are `v`.
pub type Sgd = Stepper<Momentum>;

/// A momentum buffer for each trained tensor, flattened.
#[derive(Debug, Clone, Default)]
pub struct Momentum(BTreeMap<String, Tensor<1>>);

impl Rule for Momentum {
    fn step<const D: usize>(
        &mut self,
        name: String,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        options: &OptimiserOptions,
        weight_decay: f64,
        learning_rate: f64,
    ) -> Tensor<D> {
        let OptimiserOptions { momentum, is_nesterov, .. } = *options;
        let options = SgdOptions { learning_rate, momentum, weight_decay, is_nesterov };
        let (weight, buffer) = ops::sgd_step(weight, gradient, self.0.remove(&name), options);
        if let Some(buffer) = buffer {
            self.0.insert(name, buffer);
        }
        weight
    }

    fn tensors(&self, network: &ResNet) -> NamedTensors {
        network.shaped(&self.0)
    }

    fn of_tensors(tensors: &NamedTensors, device: &Device) -> Self {
        Self(tensors.iter().map(|(name, values)| (name.clone(), flat_tensor(values, device))).collect())
    }
}
