//! The folder of a run: its recipe, and the lock of the process that trains in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::checkpoint::RECIPE;
use super::checkpoint_store::{CHECKPOINTS, latest_checkpoint};
use super::error::RunError;
use super::recipe::Recipe;
use crate::files::is_linked_elsewhere;

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
        None => Err(RunError::no_run(path)),
    }
}

/// The folder of a run, for this process alone as long as this is there: no other begins a run in it or goes on with the one that it
/// holds.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
    /// The uppermost of the folders that were made for a new run.
    made: Option<PathBuf>,
    is_new: bool,
}

impl RunFolder {
    /// A folder for a new run; it is made if it is not there. Unless a run begins in it, what was made goes again.
    ///
    /// # Errors
    /// When it holds a run, another process has it, or it cannot be written.
    pub fn claim(path: impl AsRef<Path>) -> Result<Self, RunError> {
        let path = path.as_ref();
        check_is_free(path)?;
        let failed = |reason| RunError::Folder { folder: path.to_owned(), reason };
        let made = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let made = made.last().map(Path::to_owned);
        fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path, failed)?;
        let folder = Self { path: path.to_owned(), _lock: lock, made, is_new: true };
        // Another process may have begun a run while this one waited, and left it.
        check_is_free(path)?;
        Ok(folder)
    }

    /// The folder of a run that is to go on.
    ///
    /// # Errors
    /// When it holds no run, another process trains in it, or it cannot be written.
    pub fn reopen(path: impl AsRef<Path>) -> Result<Self, RunError> {
        let path = path.as_ref();
        if !path.join(CHECKPOINTS).is_dir() {
            return Err(RunError::no_run(path));
        }
        let lock = lock(path, |reason| RunError::Unwritable { folder: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), _lock: lock, made: None, is_new: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A run begins in it, so it stays.
    pub(crate) fn keep(&mut self) {
        self.is_new = false;
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.is_new {
            return;
        }
        // What cannot be taken away is no harm: it is a folder that a run may begin in.
        let _ = fs::remove_file(self.path.join(LOCK));
        let Some(made) = &self.made else { return };
        for folder in self.path.ancestors().take_while(|folder| folder.starts_with(made)) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Whether there is nothing in a folder but what a process leaves that was about to begin a run there.
pub fn is_unused(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().all(|entry| entry.file_name() == LOCK),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether a new run can begin in a folder.
fn check_is_free(folder: &Path) -> Result<(), RunError> {
    if folder.join(RECIPE).exists() || latest_checkpoint(folder)?.is_some() {
        return Err(RunError::RunExists { folder: folder.to_owned() });
    }
    Ok(())
}

/// Two processes in one run would overwrite each other's checkpoints.
fn lock(folder: &Path, failed: impl Fn(io::Error) -> RunError) -> Result<File, RunError> {
    let path = folder.join(LOCK);
    if is_linked_elsewhere(&path) {
        // A copy's lock is its own.
        let _ = fs::remove_file(&path);
    }
    for _ in 0..ATTEMPTS {
        let file = File::create(&path).map_err(&failed)?;
        match file.try_lock() {
            // Whoever had it may have taken the file away with its lock.
            Ok(()) if is_at(&file, &path) => return Ok(file),
            Ok(()) => {}
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
            Err(fs::TryLockError::WouldBlock) => sleep(PAUSE),
        }
    }
    Err(RunError::Locked { folder: folder.to_owned() })
}

/// Whether an open file is the one that lies there.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(open), Ok(there)) if identity(&open) == identity(&there))
}

/// A file that is open is not taken away there.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_no_run_begins_in_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("runs/deep/one");
        let claimed = RunFolder::claim(&place).unwrap();
        assert!(is_unused(&place));
        let error = RunFolder::claim(&place).unwrap_err();
        assert!(matches!(error, RunError::Locked { .. }), "{error}");
        drop(claimed);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        drop(RunFolder::claim(&kept).unwrap());
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
        fs::write(kept.join("notes.txt"), "mine").unwrap();
        assert!(!is_unused(&kept));

        let mut begun = RunFolder::claim(&place).unwrap();
        begun.keep();
        drop(begun);
        assert!(place.join(LOCK).exists());
        fs::create_dir(place.join(CHECKPOINTS)).unwrap();
        let reopened = RunFolder::reopen(&place).unwrap();
        assert!(matches!(RunFolder::reopen(&place).unwrap_err(), RunError::Locked { .. }));
        drop(reopened);
        RunFolder::reopen(&place).unwrap();
    }

    #[test]
    fn of_many_that_claim_a_folder_one_gets_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let holders = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(claimed) = RunFolder::claim(&place) else { continue };
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        sleep(Duration::from_micros(200));
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(claimed);
                    }
                });
            }
        });
    }
}
