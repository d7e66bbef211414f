//! Training: a recipe, the loop that follows it, and what it leaves behind.
//!
//! A [`Recipe`] determines a run's numbers; [`Trainer`] carries it out in a folder, writing metrics, curves and
//! checkpoints, and goes on exactly from any of them. [`Trained`] is what comes out; [`evaluate`] measures it and
//! [`Benchmark`] how fast it is.

mod atomic_file;
mod axes;
mod benchmark;
mod bitmap;
mod checkpoint;
mod checkpoint_store;
mod clock;
mod curves;
mod error;
mod evaluation;
mod failure;
mod inception_benchmark;
mod loader_benchmark;
mod metrics;
mod norms;
mod observer;
mod recipe;
mod resume;
mod run_data;
mod run_folder;
mod run_state;
mod schedule;
mod segments;
mod sgd;
mod step;
mod tensor_file;
mod tensorboard;
mod trained;
mod trainer;
mod weights_info;

pub use atomic_file::{FileError, check_writable, write_file};
pub use benchmark::{Benchmark, BenchmarkMode, Measurement, peak_memory_bytes};
pub(crate) use benchmark::{random_batch, timed};
pub use checkpoint::{Best, Checkpoint, CheckpointError, LogWindow, State};
pub use checkpoint_store::{CheckpointStore, Resumed, StoredWeights};
pub use curves::{curves_svg, draw_curves};
pub(crate) use curves::{register_plot_font, whole_pixels};
pub use error::TrainError;
pub(crate) use evaluation::evaluate_by;
pub use evaluation::{Evaluation, evaluate};
pub use failure::Failure;
pub use inception_benchmark::measure_inception;
pub use loader_benchmark::measure_loader;
pub(crate) use metrics::now;
pub use metrics::{MetricsError, MetricsLog, Record, read_metrics};
pub use norms::StageNorms;
pub use observer::{Observer, Progress};
pub use recipe::{
    DataOptions, DecayScope, Intervals, InvalidOption, NamedRecipe, OptimiserOptions, Recipe, RecipeError,
};
pub use resume::{Change, ResumeError};
pub use run_folder::saved_recipe;
pub use run_state::{RunState, is_run};
pub use schedule::{Schedule, Warmup, WarmupKind};
pub use sgd::Sgd;
pub use step::{StepOutcome, cross_entropy, images, step, to_host};
pub use tensor_file::{TensorFileError, read_weights, write_weights};
pub use trained::{Prediction, Trained};
pub use trainer::{Ending, Machine, Trainer};
pub use weights_info::WeightsInfo;
