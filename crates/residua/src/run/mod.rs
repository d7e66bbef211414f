//! A run on disk: its recipe, checkpoints, metrics, and how it stands. Reading one needs no training loop.

mod checkpoint;
mod checkpoint_store;
mod error;
mod failure;
mod measurement;
mod metrics;
mod recipe;
mod resume;
mod run_folder;
mod run_state;
mod schedule;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub(crate) use checkpoint::RECIPE;
pub use checkpoint::{Best, Checkpoint, CheckpointError, Due, LogWindow, State};
pub use checkpoint_store::{CheckpointStore, Resumed, stored_average, stored_weights};
pub use error::RunError;
pub use failure::Failure;
pub use measurement::{Measured, Measurement};
pub use metrics::{Exchanged, MetricsError, Record, read_metrics};
pub(crate) use metrics::{MetricsLog, now};
pub use recipe::{
    ClassWeights, DataOptions, DecayScope, FineTuning, Intervals, InvalidOption, LearningRates, LossKind,
    LossOptions, NamedRecipe, OptimiserKind, OptimiserOptions, OptionProblem, Recipe, RecipeError,
    RecipeOption, Regularisation,
};
pub use resume::{Change, ResumeError};
pub use run_folder::{RunFolder, is_unused, saved_recipe};
pub use run_state::{RunState, is_run};
pub use schedule::{Schedule, ScheduleKind, SmallCrops, Warmup, WarmupKind};
#[cfg(feature = "tensorboard")]
pub(crate) use tensorboard::EventFile;
