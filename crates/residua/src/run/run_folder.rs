//! The folder of a run: its recipe, and the lock of the process that trains in it.

use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::checkpoint::RECIPE;
use super::checkpoint_store::latest_checkpoint;
use super::error::RunError;
use super::recipe::Recipe;

/// Held by the process that trains.
pub(super) const LOCK: &str = ".lock";

/// Whoever looks whether a run is going on holds its lock for a moment.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The recipe of the run, checkpoint or weight file at `path`.
///
/// # Errors
/// When there is no recipe, or it cannot be read.
pub fn saved_recipe(path: &Path) -> Result<Recipe, RunError> {
    let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    if folder.join(RECIPE).exists() {
        return Ok(Recipe::read(&folder.join(RECIPE))?);
    }
    match latest_checkpoint(folder)? {
        Some(checkpoint) => Ok(Recipe::read(&checkpoint.join(RECIPE))?),
        None => Err(RunError::NoRun { folder: path.to_owned() }),
    }
}

/// Two processes in one run would overwrite each other's checkpoints.
pub(crate) fn lock(folder: &Path) -> Result<File, RunError> {
    let failed = |reason| RunError::Folder { folder: folder.to_owned(), reason };
    let file = File::create(folder.join(LOCK)).map_err(failed)?;
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
            Err(fs::TryLockError::WouldBlock) => sleep(PAUSE),
        }
    }
    Err(RunError::Locked { folder: folder.to_owned() })
}
