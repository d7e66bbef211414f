//! What is dropped at random in training, so that less is learnt by heart.

use serde::{Deserialize, Serialize};

use crate::nn::Pass;

/// What is dropped at random in training. By default nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Regularisation {
    /// The probability that the last unit's branch is dropped in a step, that of unit l of L being l / L times as much
    /// ([`Pass::with_stochastic_depth`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stochastic_depth: Option<f64>,
    /// The probability that a feature is dropped in front of the classifier ([`Pass::with_dropout`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// The probability that a value between the convolutions of a unit is dropped ([`Pass::with_unit_dropout`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_dropout: Option<f64>,
}

impl Regularisation {
    /// A training pass that drops what is to be dropped.
    pub(crate) fn of_pass(&self, pass: Pass) -> Pass {
        let Self { stochastic_depth, dropout, unit_dropout } = *self;
        pass.with_stochastic_depth(stochastic_depth.unwrap_or_default())
            .with_dropout(dropout.unwrap_or_default())
            .with_unit_dropout(unit_dropout.unwrap_or_default())
    }
}
