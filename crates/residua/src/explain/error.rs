//! Explanations that cannot be had.

use thiserror::Error;

use super::unit_place::UnitPlace;
use crate::nn::NetworkError;

/// What was asked of a network that it cannot answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The images do not fit the network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network has no such unit.
    #[error("there is no unit {place}; the network has {units}")]
    NoUnit {
        /// The unit asked for.
        place: UnitPlace,
        /// Those that there are, in words.
        units: String,
    },
    /// The network has no such class.
    #[error("there is no class {class}; the network has {classes}, counted from 0")]
    NoClass {
        /// The class asked for.
        class: usize,
        /// How many there are.
        classes: usize,
    },
}
