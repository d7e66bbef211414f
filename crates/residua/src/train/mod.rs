//! Training: the loop that follows a recipe.
//!
//! A [`Trainer`] begins a [`Run`] of a [`Recipe`](crate::run::Recipe) in a folder, or goes on exactly from its last checkpoint;
//! the run writes metrics, curves and checkpoints, shows an [`Observer`] what it does, and stops when that one wants it to.
//! [`step`](step()) is one step of it, for loops of one's own, and [`backward`] with [`Sgd`] its parts.

mod adamw;
mod clock;
mod exchanges;
mod gradient_exchange;
mod initial_weights;
mod loss;
mod machine;
mod norms;
mod observer;
mod optimiser;
mod precision;
mod ranks;
mod ready;
mod run;
mod run_data;
mod run_files;
mod run_images;
mod saver;
mod segments;
mod sgd;
mod step;
mod stepper;
mod trainer;
mod weight_average;

pub use adamw::AdamW;
pub use initial_weights::{InitialWeights, LoadedClassifier, LoadedWeights};
pub use loss::{Backward, Loss, StepOutcome, Targets, cross_entropy};
pub use machine::Machine;
pub use norms::StageNorms;
pub use observer::{Observer, Progress};
pub use optimiser::Optimiser;
pub(crate) use precision::check_precision;
pub use run::{Ending, Run};
pub use run_images::{RunImages, preview, training_images};
pub use saver::Saver;
pub use sgd::Sgd;
pub use step::{backward, backward_of, step};
pub use stepper::Stepper;
pub use trainer::Trainer;
pub use weight_average::WeightAverage;
