//! Which pixels decided: where in an image a network finds what speaks for a class.

mod activation;
mod activation_map;
mod error;
mod overlay;
mod unit_place;

pub use activation::{Explanation, Method, explain};
pub use activation_map::ActivationMap;
pub use error::ExplainError;
pub use overlay::overlay;
pub use unit_place::UnitPlace;
