//! Whether a run is going on, has ended, or how it was left.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::checkpoint::{Checkpoint, Due, RECIPE};
use super::checkpoint_store::{CHECKPOINTS, latest_checkpoint, latest_iteration};
use super::failure::Failure;
use super::recipe::Recipe;
use super::run_folder::LOCK;

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// A process trains in its folder.
    Running,
    /// All its iterations and its last test are done, or its patience is at an end.
    Finished,
    /// An error ended it; it can be resumed.
    Failed(Failure),
    /// It was interrupted, or killed; it can be resumed.
    Stopped,
}

impl RunState {
    /// The state of the run of `recipe` in a folder. Nothing in the folder is changed.
    pub fn of_run(folder: &Path, recipe: &Recipe) -> Self {
        if is_locked(folder) {
            return Self::Running;
        }
        let is_done = |(done, due): (u64, Due)| done >= recipe.schedule.iterations && due.is_nothing();
        if latest_iteration(folder).is_some_and(is_done)
            || recipe.intervals.patience.is_some() && is_out_of_patience(folder, recipe)
        {
            return Self::Finished;
        }
        Failure::of_run(folder).map_or(Self::Stopped, Self::Failed)
    }

    /// The state in one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether a folder holds a run, as far as can be seen from outside.
pub fn is_run(folder: &Path) -> bool {
    folder.join(CHECKPOINTS).is_dir() || folder.join(RECIPE).is_file()
}

fn is_out_of_patience(folder: &Path, recipe: &Recipe) -> bool {
    let state = latest_checkpoint(folder).ok().flatten().and_then(|latest| Checkpoint::read_state(&latest));
    state.is_some_and(|state| {
        state.due.is_nothing() && recipe.is_out_of_patience(state.iteration, state.best.as_ref())
    })
}

fn is_locked(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
