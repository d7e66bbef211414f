//! The paper, reproduced: what it derives, measured, and its experiments.

pub mod paper;
mod propagation;
mod propagation_page;
mod propagation_picture;

pub use propagation::{Propagation, StagePropagation, UnitPropagation};
pub use propagation_page::propagation_page;
pub use propagation_picture::propagation_picture;
