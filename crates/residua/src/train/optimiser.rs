//! What turns gradients into steps, as a recipe names it.

use burn::tensor::{Device, Gradients};

use super::adamw::AdamW;
use super::sgd::Sgd;
use crate::nn::{NamedTensors, ResNet};
use crate::run::{LearningRates, OptimiserKind, Recipe};

/// The optimiser of a run.
#[derive(Debug, Clone)]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam with weight decay of its own.
    AdamW(AdamW),
}

impl Optimiser {
    /// That of a recipe, before its first step.
    pub fn of(recipe: &Recipe) -> Self {
        let rates = LearningRates::new(&recipe.fine_tuning, recipe.schedule.learning_rate);
        match recipe.optimiser.kind {
            OptimiserKind::Sgd => Self::Sgd(Sgd::new(&recipe.optimiser).with_learning_rates(rates)),
            OptimiserKind::AdamW => Self::AdamW(AdamW::new(&recipe.optimiser).with_learning_rates(rates)),
        }
    }

    /// The network after a step against the gradients, which are used up.
    pub fn step(&mut self, network: ResNet, gradients: &mut Gradients, learning_rate: f64) -> ResNet {
        match self {
            Self::Sgd(sgd) => sgd.step(network, gradients, learning_rate),
            Self::AdamW(adamw) => adamw.step(network, gradients, learning_rate),
        }
    }

    /// What it keeps from step to step.
    pub fn tensors(&self, network: &ResNet) -> NamedTensors {
        match self {
            Self::Sgd(sgd) => sgd.tensors(network),
            Self::AdamW(adamw) => adamw.tensors(network),
        }
    }

    /// The optimiser with these tensors, on `device`.
    pub fn with_tensors(self, tensors: &NamedTensors, device: &Device) -> Self {
        match self {
            Self::Sgd(sgd) => Self::Sgd(sgd.with_tensors(tensors, device)),
            Self::AdamW(adamw) => Self::AdamW(adamw.with_tensors(tensors, device)),
        }
    }
}
