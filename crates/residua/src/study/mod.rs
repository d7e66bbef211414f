//! What the paper derives, measured.

mod propagation;
mod propagation_page;

pub use propagation::{Propagation, StagePropagation, UnitPropagation};
pub use propagation_page::propagation_page;
