//! What can keep a run from beginning or going on.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::checkpoint::CheckpointError;
use super::metrics::MetricsError;
use super::recipe::{InvalidOption, RecipeError};
use super::resume::ResumeError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::files::FileError;
use crate::nn::{MemoryError, NetworkError};
use residua_infer::ClassifierError;
use residua_infer::weights::{TensorFileError, WeightsError};

/// A run that cannot begin or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The recipe's file.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// An option of the recipe.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// A checkpoint or weight file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metrics file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A weight file.
    #[error(transparent)]
    WeightFile(#[from] TensorFileError),
    /// Another file of the run.
    #[error(transparent)]
    File(#[from] FileError),
    /// Options that may not change on resume.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// Weights that cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A classifier that cannot be made.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The memory that training takes.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The run's folder cannot be made or locked.
    #[error("cannot use the run folder {}: {reason}; choose another with --out", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A new run would overwrite another.
    #[error("{} already holds a run; go on with it by --resume {}, or choose another folder with --out", .folder.display(), .folder.display())]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing to resume.
    #[error("{} holds no run (no checkpoints); give the folder of a run, or begin one there with --out {}", .folder.display(), .folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process trains in this folder.
    #[error("another process is training in {}; wait for it or stop it", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing left to do.
    #[error("the run in {} has done {iteration} of {iterations} iterations; to train further give a larger --iterations", .folder.display())]
    AlreadyDone {
        /// The folder.
        folder: PathBuf,
        /// Finished iterations.
        iteration: u64,
        /// Iterations of the whole run.
        iterations: u64,
    },
    /// The loss is no number any more.
    #[error("training diverged: {what} at iteration {iteration}, learning rate {learning_rate}; the last good checkpoint is {}; begin again with a lower --lr or a longer --warmup", .checkpoint.display())]
    Diverged {
        /// What is not finite.
        what: String,
        /// Finished iterations.
        iteration: u64,
        /// Learning rate of the last step.
        learning_rate: f64,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}
