//! AdamW, in PyTorch's arithmetic.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::sgd::{decays, rates_of_parts};
use crate::nn::{NamedMapper, NamedTensors, Part, ResNet, TensorValues, values_of};
use crate::run::{LearningRates, OptimiserOptions};

/// Adam with weight decay of its own (Loshchilov and Hutter, 2019, algorithm 2; PyTorch's `AdamW`).
///
/// The t-th step of a tensor is `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2` and
/// `w = w - lr weight_decay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)`; `m` and `v` start at zero. What has no gradient
/// makes no step.
#[derive(Debug, Clone)]
pub struct AdamW {
    optimiser: OptimiserOptions,
    learning_rates: LearningRates,
    states: BTreeMap<String, State>,
}

/// What is kept of a tensor, flattened.
#[derive(Debug, Clone)]
struct State {
    /// `t`
    steps: u32,
    /// `m`
    mean: Tensor<1>,
    /// `v`
    square: Tensor<1>,
}

const EPSILON: f64 = 1e-8;

/// What is behind a tensor's name in the optimiser's file, in PyTorch's words.
const STEPS: &str = ".step";
const MEAN: &str = ".exp_avg";
const SQUARE: &str = ".exp_avg_sq";

impl AdamW {
    /// An optimiser before its first step.
    pub fn new(optimiser: &OptimiserOptions) -> Self {
        let learning_rates = LearningRates::default();
        Self { optimiser: optimiser.clone(), learning_rates, states: BTreeMap::new() }
    }

    /// The optimiser with a learning rate of its own for each part of the network, following from that of the step.
    pub fn with_learning_rates(self, learning_rates: LearningRates) -> Self {
        Self { learning_rates, ..self }
    }

    /// The network after a step against the gradients, which are used up.
    pub fn step(&mut self, network: ResNet, gradients: &mut Gradients, learning_rate: f64) -> ResNet {
        let learning_rates = rates_of_parts(&self.learning_rates, &network, learning_rate);
        network.map_named(&mut Step { adamw: self, gradients, learning_rates })
    }

    /// What is kept of every tensor, by its name and what it is: `.exp_avg`, `.exp_avg_sq` and `.step`.
    pub fn tensors(&self, network: &ResNet) -> NamedTensors {
        let shapes = network.tensor_shapes();
        let mut tensors = NamedTensors::new();
        for (name, State { steps, mean, square }) in &self.states {
            for (what, values) in [(MEAN, mean), (SQUARE, square)] {
                let values = values_of(values.clone());
                let shape = shapes.get(name).cloned().unwrap_or_else(|| values.shape.clone());
                tensors.insert(format!("{name}{what}"), TensorValues { shape, ..values });
            }
            let steps = TensorValues { shape: vec![1], values: vec![*steps as f32] };
            tensors.insert(format!("{name}{STEPS}"), steps);
        }
        tensors
    }

    /// The optimiser with these tensors, on `device`.
    pub fn with_tensors(mut self, tensors: &NamedTensors, device: &Device) -> Self {
        let device = device.clone().inner();
        let flat = |name: String| {
            let values = &tensors.get(&name)?.values;
            Some(Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &device))
        };
        let state = |name: &str| {
            Some(State {
                steps: *tensors.get(&format!("{name}{STEPS}"))?.values.first()? as u32,
                mean: flat(format!("{name}{MEAN}"))?,
                square: flat(format!("{name}{SQUARE}"))?,
            })
        };
        let names = tensors.keys().filter_map(|name| name.strip_suffix(STEPS));
        self.states = names.filter_map(|name| Some((name.to_owned(), state(name)?))).collect();
        self
    }
}

impl State {
    /// A step of a tensor that decays by `weight_decay`.
    fn step<const D: usize>(
        &mut self,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        options: &OptimiserOptions,
        weight_decay: f64,
        learning_rate: f64,
    ) -> Tensor<D> {
        let OptimiserOptions { beta1, beta2, .. } = *options;
        self.steps += 1;
        let shape = weight.dims();
        let gradient = gradient.reshape([-1]);
        self.mean = self.mean.clone() * beta1 + gradient.clone() * (1. - beta1);
        self.square = self.square.clone() * beta2 + gradient.clone() * gradient * (1. - beta2);
        let correction = |beta: f64| 1. - libm::pow(beta, self.steps.into());
        let deviation = self.square.clone().sqrt() * (1. / correction(beta2).sqrt()) + EPSILON;
        let step = self.mean.clone() / deviation * (learning_rate / correction(beta1));
        weight * (1. - learning_rate * weight_decay) - step.reshape(shape)
    }
}

struct Step<'a> {
    adamw: &'a mut AdamW,
    gradients: &'a mut Gradients,
    learning_rates: BTreeMap<Part, f64>,
}

impl NamedMapper for Step<'_> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = parameter.val().grad_remove(self.gradients) else { return parameter };
        let part = Part::of_tensor(&name).expect("a tensor of a network lies in one of its parts");
        let AdamW { optimiser, states, .. } = &mut *self.adamw;
        let weight_decay = if decays::<D>(optimiser.decays) { optimiser.weight_decay } else { 0. };
        parameter.map(|weight| {
            let weight = weight.inner();
            let state = states.entry(name).or_insert_with(|| {
                let zeros = weight.zeros_like().reshape([-1]);
                State { steps: 0, mean: zeros.clone(), square: zeros }
            });
            let weight = state.step(weight, gradient, optimiser, weight_decay, self.learning_rates[&part]);
            Tensor::from_inner(weight).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::to_host;

    #[derive(serde::Deserialize)]
    struct Fixture {
        learning_rate: f64,
        weight_decay: f64,
        beta1: f64,
        beta2: f64,
        weight: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        weights: Vec<Vec<f64>>,
    }

    #[test]
    fn steps_are_pytorchs() {
        let text = include_str!("../../tests/fixtures/adamw.json");
        let fixtures: Vec<Fixture> = serde_json::from_str(text).unwrap();
        assert_eq!(fixtures.len(), 2);
        for fixture in fixtures {
            let Fixture { learning_rate, weight_decay, beta1, beta2, .. } = fixture;
            let options = OptimiserOptions { beta1, beta2, ..OptimiserOptions::default() };
            let tensor = |values: &[f32]| {
                Tensor::<1>::from_floats(values, &Device::flex()).reshape([2, values.len() / 2])
            };
            let mut weight: Tensor<2> = tensor(&fixture.weight);
            let zeros = weight.zeros_like().reshape([-1]);
            let mut state = State { steps: 0, mean: zeros.clone(), square: zeros };
            for (gradient, expected) in fixture.gradients.iter().zip(&fixture.weights) {
                weight = state.step(weight, tensor(gradient), &options, weight_decay, learning_rate);
                for (found, expected) in to_host(weight.clone()).into_iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 1e-6, "{found} {expected}");
                }
            }
        }
    }
}
