//! The paper, reproduced: what it derives, measured, and its experiments.

mod cost;
#[cfg(feature = "reports")]
mod cost_page;
#[cfg(feature = "reports")]
mod cost_picture;
pub mod paper;
mod propagation;
#[cfg(feature = "reports")]
mod propagation_page;
#[cfg(feature = "reports")]
mod propagation_picture;

pub use cost::{Compared, Cost, CostSet, OwnError, Speed, pareto_front};
#[cfg(feature = "reports")]
pub use cost_page::{HEADINGS, cost_page};
#[cfg(feature = "reports")]
pub use cost_picture::cost_picture;
pub use propagation::{Propagation, StagePropagation, UnitPropagation};
#[cfg(feature = "reports")]
pub use propagation_page::propagation_page;
#[cfg(feature = "reports")]
pub use propagation_picture::propagation_picture;
