//! What can keep a run from beginning or going on.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::checkpoint::CheckpointError;
use super::checkpoint_store::CHECKPOINTS;
use super::metrics::MetricsError;
use super::recipe::{InvalidOption, RecipeError, RecipeOption};
use super::resume::ResumeError;
use super::schedule::ScheduleKind;
use crate::cluster::ClusterError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::files::FileError;
use crate::nn::{MemoryError, NetworkError};
use residua_infer::choice::some_of;
use residua_infer::foreign::ForeignError;
use residua_infer::weights::{TensorFileError, WeightsError};
use residua_infer::{ClassifierError, UnavailablePrecision};

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
    /// This processor does not compute in the network's precision.
    #[error("cannot train in this precision: {0}")]
    Precision(#[from] UnavailablePrecision),
    /// A precision that neither GPUs nor the reference compute in.
    #[error("training in bf16 is for the CPU and its fused operations; train in f32")]
    PrecisionElsewhere,
    /// Options that may not change on resume.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// Weights that cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights of others that cannot be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// A classifier that cannot be made.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// No test image could be read.
    #[error("none of the images to test on could be read; repair them or give others")]
    NoTestImages,
    /// A network that says nothing.
    #[error(
        "what the network says of test image {image} is no number: its training has diverged, or its file is damaged; take an \
         earlier checkpoint"
    )]
    NoNumber {
        /// The image's number in its data set.
        image: usize,
    },
    /// The memory that training takes.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Other images than the run's were given to go on with it.
    #[error("the images given are not those of the run: they have other {difference}")]
    OtherImages {
        /// What differs: `classes`, `sizes` or `pixels`.
        difference: &'static str,
    },
    /// Images of other classes than those that a network was trained on.
    #[error(
        "the images given are not those of the run: they have other classes{difference}; give those images, or begin another run"
    )]
    OtherClasses {
        /// Which are missing and which are new.
        difference: String,
    },
    /// The run's folder cannot be made or locked.
    #[error("cannot use the run folder {}: {reason}; choose another", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
    /// The folder of a run that is to go on cannot be written.
    #[error(
        "cannot go on in {}: {reason}; give yourself permission to write there, or copy the folder to another place and go on with the \
         copy",
        .folder.display()
    )]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
    /// A new run would overwrite another.
    #[error("{} already holds a run", .folder.display())]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing to resume.
    #[error("{} holds no run (no checkpoints); give the folder of a run{}", .folder.display(), which_is(.around.as_deref()))]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// The run that it belongs to, if it is a file or a folder in one.
        around: Option<PathBuf>,
    },
    /// Another process trains in this folder.
    #[error("another process is training in {}; wait for it or stop it", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// Processes that cannot train together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Batches that cannot be shared out.
    #[error(
        "a batch of {batch} images has no {ranks} equal parts, one for each rank; take a batch of a multiple of {ranks}, or other ranks"
    )]
    UnevenRanks {
        /// Images in a batch.
        batch: usize,
        /// How many processes there are.
        ranks: usize,
    },
    /// Shares of a batch that are no whole groups of batch normalisation.
    #[error(
        "the network normalises {group} images together, and each of {ranks} ranks has {share} of a batch; go on with so many ranks that          each has a multiple of {group}"
    )]
    GroupsOfRanks {
        /// Images that are normalised together.
        group: usize,
        /// How many processes there are.
        ranks: usize,
        /// Images of a batch that each has.
        share: usize,
    },
    /// Statistics of all ranks' images, of a network that normalises groups of them.
    #[error(
        "the network normalises groups of {group} images, and statistics that processes share are those of the whole batch; leave one of          both out"
    )]
    SharedGroups {
        /// Images that are normalised together.
        group: usize,
    },
    /// A [`Saver`](crate::train::Saver) has saved the run as it stood, and nothing is written any more.
    #[error("the run has been saved as it stood, and goes on no further")]
    Closed,
    /// There is nothing left to do.
    #[error("{}", already_done(.folder, [*.iteration, *.iterations], *.kind, RecipeOption::as_str))]
    AlreadyDone {
        /// The folder.
        folder: PathBuf,
        /// Finished iterations.
        iteration: u64,
        /// Iterations of the whole run.
        iterations: u64,
        /// How its learning rate fell.
        kind: ScheduleKind,
    },
    /// The run's validation error has not fallen for as long as it was to wait.
    #[error("{}", ended_early(.folder, *.iteration, RecipeOption::as_str))]
    EndedEarly {
        /// The folder.
        folder: PathBuf,
        /// Finished iterations.
        iteration: u64,
    },
    /// The loss is no number any more.
    #[error("{}", diverged(.what, *.iteration, *.learning_rate, .checkpoint, RecipeOption::as_str))]
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

impl RunError {
    /// Of a place that holds no run.
    pub(crate) fn no_run(folder: &Path) -> Self {
        let around = folder.ancestors().skip(1).find(|folder| folder.join(CHECKPOINTS).is_dir());
        Self::NoRun { folder: folder.to_owned(), around: around.map(Path::to_owned) }
    }

    /// Of images whose classes are not those of the run.
    pub(crate) fn other_classes(before: &[String], now: &[String]) -> Self {
        let but = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|class| !those.contains(class)).cloned().collect()
        };
        let (missing, new) = (but(before, now), but(now, before));
        let named = |what: &str, classes: &[String]| match classes {
            [] => None,
            _ => Some(format!("{what} {}", some_of(classes))),
        };
        let parts = [named("without", &missing), named("with", &new)].into_iter().flatten();
        let difference = match parts.collect::<Vec<_>>().as_slice() {
            [] => " (in another order)".to_owned(),
            parts => format!(" ({})", parts.join(", ")),
        };
        Self::OtherClasses { difference }
    }

    /// The message, where options are called what `name` calls them.
    pub fn with_names(&self, name: fn(RecipeOption) -> &'static str) -> String {
        match self {
            Self::Option(error) => error.with_names(name),
            Self::Resume(error) => error.with_names(name),
            Self::AlreadyDone { folder, iteration, iterations, kind } => {
                already_done(folder, [*iteration, *iterations], *kind, name)
            }
            Self::EndedEarly { folder, iteration } => ended_early(folder, *iteration, name),
            Self::Diverged { what, iteration, learning_rate, checkpoint } => {
                diverged(what, *iteration, *learning_rate, checkpoint, name)
            }
            error => error.to_string(),
        }
    }
}

fn which_is(around: Option<&Path>) -> String {
    around.map_or_else(String::new, |run| format!(", which is {} here", run.display()))
}

fn already_done(
    folder: &Path,
    [iteration, iterations]: [u64; 2],
    kind: ScheduleKind,
    name: fn(RecipeOption) -> &'static str,
) -> String {
    let further = match kind {
        ScheduleKind::Step => format!("to train further give a larger {}", name(RecipeOption::Iterations)),
        ScheduleKind::Cosine | ScheduleKind::Linear | ScheduleKind::OneCycle => {
            "its learning rate has come to its end; to train further begin another run from its weights"
                .to_owned()
        }
    };
    let word = if iterations == 1 { "iteration" } else { "iterations" };
    format!("the run in {} has done {iteration} of {iterations} {word}; {further}", folder.display())
}

fn ended_early(folder: &Path, iteration: u64, name: fn(RecipeOption) -> &'static str) -> String {
    format!(
        "the run in {} has ended early at iteration {iteration}, as its validation error fell no further; to train further give a \
         larger {}",
        folder.display(),
        name(RecipeOption::Patience)
    )
}

fn diverged(
    what: &str,
    iteration: u64,
    learning_rate: f64,
    checkpoint: &Path,
    name: fn(RecipeOption) -> &'static str,
) -> String {
    format!(
        "training diverged: {what} at iteration {iteration}, learning rate {learning_rate}; the last checkpoint is {}, which may have gone \
         wrong already; begin again with a lower {} or a longer {}",
        checkpoint.display(),
        name(RecipeOption::LearningRate),
        name(RecipeOption::Warmup)
    )
}
