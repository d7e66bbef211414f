//! Stochastic gradient descent with momentum, in PyTorch's arithmetic.

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use std::collections::BTreeMap;

use crate::nn::{NamedMapper, NamedTensors, Part, ResNet, TensorValues, values_of};
use crate::ops::{self, SgdOptions};
use crate::run::{DecayScope, LearningRates, OptimiserOptions};

/// The optimiser's state: a momentum buffer for each trained tensor.
///
/// A step is `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - learning_rate * v` (with Nesterov's
/// momentum: `w - learning_rate * (d + momentum * v)`); `v` starts at zero. There is no dampening. The learning rate may differ from
/// part to part of a network; what has no gradient, as what is frozen, stays as it is.
#[derive(Debug, Clone)]
pub struct Sgd {
    optimiser: OptimiserOptions,
    learning_rates: LearningRates,
    momentum: BTreeMap<String, Tensor<1>>,
}

impl Sgd {
    /// An optimiser before its first step.
    pub fn new(optimiser: &OptimiserOptions) -> Self {
        let learning_rates = LearningRates::default();
        Self { optimiser: optimiser.clone(), learning_rates, momentum: BTreeMap::new() }
    }

    /// The optimiser with a learning rate of its own for each part of the network, following from that of the step.
    pub fn with_learning_rates(self, learning_rates: LearningRates) -> Self {
        Self { learning_rates, ..self }
    }

    /// The network after a step against the gradients, which are used up.
    pub fn step(&mut self, network: ResNet, gradients: &mut Gradients, learning_rate: f64) -> ResNet {
        let learning_rates = rates_of_parts(&self.learning_rates, &network, learning_rate);
        network.map_named(&mut Step { sgd: self, gradients, learning_rates })
    }

    /// The momentum buffers, by the names of the tensors they belong to.
    pub fn tensors(&self, network: &ResNet) -> NamedTensors {
        let shapes = network.tensor_shapes();
        let shape = |name: &str, values: &Tensor<1>| {
            shapes.get(name).cloned().unwrap_or_else(|| values.dims().to_vec())
        };
        let values = |(name, buffer): (&String, &Tensor<1>)| {
            let values = TensorValues { shape: shape(name, buffer), ..values_of(buffer.clone()) };
            (name.clone(), values)
        };
        self.momentum.iter().map(values).collect()
    }

    /// The optimiser with these momentum buffers, on `device`.
    pub fn with_tensors(mut self, tensors: &NamedTensors, device: &Device) -> Self {
        let buffer = |values: &TensorValues| {
            let data = TensorData::new(values.values.clone(), [values.values.len()]);
            Tensor::from_data(data, &device.clone().inner())
        };
        self.momentum = tensors.iter().map(|(name, values)| (name.clone(), buffer(values))).collect();
        self
    }
}

/// The learning rate of every part of a network.
pub(super) fn rates_of_parts(
    rates: &LearningRates,
    network: &ResNet,
    learning_rate: f64,
) -> BTreeMap<Part, f64> {
    let plan = network.plan();
    plan.parts().into_iter().map(|part| (part, rates.of_part(part, plan, learning_rate))).collect()
}

/// Whether a tensor of `D` axes decays. BN parameters and biases are those of one.
pub(super) fn decays<const D: usize>(scope: DecayScope) -> bool {
    match scope {
        DecayScope::All => true,
        DecayScope::Weights => D > 1,
    }
}

struct Step<'a> {
    sgd: &'a mut Sgd,
    gradients: &'a mut Gradients,
    learning_rates: BTreeMap<Part, f64>,
}

impl NamedMapper for Step<'_> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = parameter.val().grad_remove(self.gradients) else { return parameter };
        let part = Part::of_tensor(&name).expect("a tensor of a network lies in one of its parts");
        let OptimiserOptions { momentum, is_nesterov, weight_decay, decays, .. } = self.sgd.optimiser;
        parameter.map(|weight| {
            let weight = weight.inner();
            let options = SgdOptions {
                learning_rate: self.learning_rates[&part],
                momentum,
                weight_decay: if self::decays::<D>(decays) { weight_decay } else { 0. },
                is_nesterov,
            };
            let buffer = self.sgd.momentum.remove(&name);
            let (weight, buffer) = ops::sgd_step(weight, gradient, buffer, options);
            if let Some(buffer) = buffer {
                self.sgd.momentum.insert(name, buffer);
            }
            Tensor::from_inner(weight).require_grad()
        })
    }
}
