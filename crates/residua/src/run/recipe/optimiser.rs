//! What makes steps of gradients, and how large they are.

use serde::{Deserialize, Serialize};

use super::is_default;
use residua_infer::words;

/// How steps are made of gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct OptimiserOptions {
    /// Which optimiser.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: OptimiserKind,
    /// Images of a mini-batch.
    pub batch: usize,
    /// Mini-batches whose gradients are added for one step: the step of a batch so many times as large with batch statistics of
    /// `batch` images, in the memory of one.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Of SGD: how much of the last step goes into the next; at least 0 and below 1.
    pub momentum: f64,
    /// Whether the gradient is taken where the momentum leads (Nesterov).
    pub is_nesterov: bool,
    /// Of AdamW: what is left of the mean of gradients at a step.
    #[serde(skip_serializing_if = "is_beta1")]
    pub beta1: f64,
    /// Of AdamW: what is left of the mean of their squares.
    #[serde(skip_serializing_if = "is_beta2")]
    pub beta2: f64,
    /// Times each weight, what is added to its gradient; of AdamW, what it loses at a step with learning rate 1.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decays: DecayScope,
    /// The largest Euclidean norm of all gradients together, to which longer ones are shortened (Pascanu, Mikolov and Bengio, 2013,
    /// algorithm 1); if left out, they stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// The decay `d` of the exponential average of weights that is kept beside them: after each step
    /// `average = d * average + (1 - d) * weights`, running statistics included; if left out, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
}

impl OptimiserOptions {
    /// Images of a step.
    pub fn images(&self) -> usize {
        self.batch.saturating_mul(self.accumulate)
    }
}

/// The paper's values.
impl Default for OptimiserOptions {
    fn default() -> Self {
        Self {
            kind: OptimiserKind::Sgd,
            batch: 128,
            accumulate: 1,
            momentum: 0.9,
            is_nesterov: false,
            beta1: BETA1,
            beta2: BETA2,
            weight_decay: 1e-4,
            decays: DecayScope::All,
            clip_norm: None,
            average_decay: None,
        }
    }
}

/// Which optimiser a run steps by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OptimiserKind {
    /// Stochastic gradient descent with momentum ([`Sgd`](crate::train::Sgd)), as in the paper.
    #[default]
    Sgd,
    /// Adam with weight decay of its own ([`AdamW`](crate::train::AdamW)).
    AdamW,
}

words!(OptimiserKind, "optimiser", {
    Sgd => "sgd": "stochastic gradient descent with momentum",
    AdamW => "adamw": "Adam with weight decay of its own",
});

/// PyTorch's, and what a recipe need not say.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

fn is_beta1(beta: &f64) -> bool {
    *beta == BETA1
}

fn is_beta2(beta: &f64) -> bool {
    *beta == BETA2
}

/// Which parameters weight decay shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecayScope {
    /// Every parameter, as in the paper.
    All,
    /// The weights of convolutions and the classifier; neither BN's parameters nor biases.
    Weights,
}

words!(DecayScope, "decay scope", {
    All => "all": "all parameters",
    Weights => "weights": "neither parameters of BN nor biases",
});

fn is_one(number: &usize) -> bool {
    *number == 1
}
