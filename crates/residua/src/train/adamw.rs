//! AdamW, in PyTorch's arithmetic.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use super::stepper::{Rule, Stepper};
use crate::nn::{NamedTensors, ResNet, TensorValues, flat_tensor};
use crate::run::OptimiserOptions;

/// Adam with weight decay of its own (Loshchilov and Hutter, 2019, algorithm 2; PyTorch's `AdamW`).
///
/// The t-th step of a tensor is `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2` and
/// `w = w - lr weight_decay w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)`; `m` and `v` start at zero. What has no gradient
/// makes no step. Its [tensors](Stepper::tensors) are `.exp_avg`, `.exp_avg_sq` and `.step` behind each name.
pub type AdamW = Stepper<Means>;

/// What is kept of each trained tensor.
#[derive(Debug, Clone, Default)]
pub struct Means(BTreeMap<String, State>);

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

impl Rule for Means {
    fn step<const D: usize>(
        &mut self,
        name: String,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        options: &OptimiserOptions,
        weight_decay: f64,
        learning_rate: f64,
    ) -> Tensor<D> {
        let state = self.0.entry(name).or_insert_with(|| State::new(&weight));
        state.step(weight, gradient, options, weight_decay, learning_rate)
    }

    fn tensors(&self, network: &ResNet) -> NamedTensors {
        let of = |what: &'static str, tensor: fn(&State) -> &Tensor<1>| {
            let tensors = self.0.iter().map(|(name, state)| (name.clone(), tensor(state).clone())).collect();
            let named = move |(name, values)| (format!("{name}{what}"), values);
            network.shaped(&tensors).into_iter().map(named)
        };
        let steps = |(name, state): (&String, &State)| {
            (format!("{name}{STEPS}"), TensorValues { shape: vec![1], values: vec![state.steps as f32] })
        };
        let means = of(MEAN, |state| &state.mean).chain(of(SQUARE, |state| &state.square));
        means.chain(self.0.iter().map(steps)).collect()
    }

    fn of_tensors(tensors: &NamedTensors, device: &Device) -> Self {
        let flat = |name: String| Some(flat_tensor(tensors.get(&name)?, device));
        let state = |name: &str| {
            Some(State {
                steps: *tensors.get(&format!("{name}{STEPS}"))?.values.first()? as u32,
                mean: flat(format!("{name}{MEAN}"))?,
                square: flat(format!("{name}{SQUARE}"))?,
            })
        };
        let names = tensors.keys().filter_map(|name| name.strip_suffix(STEPS));
        Self(names.filter_map(|name| Some((name.to_owned(), state(name)?))).collect())
    }
}

impl State {
    /// That of a tensor before its first step.
    fn new<const D: usize>(weight: &Tensor<D>) -> Self {
        let zeros = weight.zeros_like().reshape([-1]);
        Self { steps: 0, mean: zeros.clone(), square: zeros }
    }

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
            let mut state = State::new(&weight);
            for (gradient, expected) in fixture.gradients.iter().zip(&fixture.weights) {
                weight = state.step(weight, tensor(gradient), &options, weight_decay, learning_rate);
                for (found, expected) in to_host(weight.clone()).into_iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 1e-6, "{found} {expected}");
                }
            }
        }
    }
}
