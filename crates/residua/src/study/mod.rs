//! The paper, reproduced: what it derives, measured, and its experiments.

mod cost;
mod cost_page;
mod cost_picture;
pub mod paper;
mod propagation;
mod propagation_page;
mod propagation_picture;

pub use cost::{Compared, Cost, CostSet, OwnError, Speed, pareto_front};
pub use cost_page::{HEADINGS, cost_page};
pub use cost_picture::cost_picture;
pub use propagation::{Propagation, StagePropagation, UnitPropagation};
pub use propagation_page::propagation_page;
pub use propagation_picture::propagation_picture;
