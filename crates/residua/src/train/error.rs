use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::atomic_file::FileError;
use super::checkpoint::CheckpointError;
use super::metrics::MetricsError;
use super::recipe::{InvalidOption, RecipeError};
use super::resume::ResumeError;
use super::tensor_file::TensorFileError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::nn::NetworkError;

/// A run that cannot begin or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
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
    /// Weights that do not fit the network.
    #[error("{}: {error}", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        error: NetworkError,
    },
    /// A weight file that does not say which network it belongs to.
    #[error("{}: no weights that residua has written: {reason}; give a run folder, or a weights.safetensors of one", .path.display())]
    UnknownWeights {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
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
