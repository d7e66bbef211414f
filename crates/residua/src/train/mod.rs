//! Training: the loop that follows a recipe.
//!
//! [`Trainer`] carries out a [`Recipe`](crate::run::Recipe) in a folder, writing metrics, curves and checkpoints, and goes on
//! exactly from any of them. [`step`](step()) is one step of it.

mod clock;
mod norms;
mod observer;
mod run_data;
mod segments;
mod sgd;
mod step;
mod trainer;

pub use norms::StageNorms;
pub use observer::{Observer, Progress};
pub(crate) use run_data::RunData;
pub use sgd::Sgd;
pub use step::{StepOutcome, cross_entropy, step};
pub use trainer::{Ending, Machine, Trainer};
