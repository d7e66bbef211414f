//! The checkpoints of a run: `checkpoints/iteration-00001200/` and its like, in the run's folder.

use std::fs;
use std::path::{Path, PathBuf};

use residua_infer::StoredWeights;

use super::checkpoint::{AVERAGE, CHECKSUMS, Checkpoint, CheckpointError, Due, WEIGHTS};
use crate::files::{FileError, clear_leftovers, remove_folder, rename, sync_folder};

/// The checkpoints of a run, for the one process that trains it.
///
/// Killed at any moment, it leaves whole checkpoints and things that the next [`CheckpointStore::open`] clears.
#[derive(Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
    last_saved: Option<(u64, Due)>,
}

/// The checkpoint that a run goes on from.
#[derive(Debug)]
pub struct Resumed {
    /// The latest whole checkpoint.
    pub checkpoint: Checkpoint,
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with the later ones, which were set aside under names that begin with `damaged-`.
    pub damaged: Vec<CheckpointError>,
}

impl CheckpointStore {
    /// Opens the store of a run, making its folder if there is none and clearing what a kill has left. No other
    /// process may have it open.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn open(run_folder: &Path) -> Result<Self, CheckpointError> {
        let folder = run_folder.join(CHECKPOINTS);
        fs::create_dir_all(&folder).map_err(FileError::cannot("create", &folder))?;
        sync_folder(run_folder)?;
        clear_leftovers(&folder)?;
        Ok(Self { folder, last_saved: None })
    }

    /// Saves a checkpoint under its iteration, in place of one that is there already, and returns its folder.
    ///
    /// # Errors
    /// When a file cannot be written; the other checkpoints stay as they are.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<PathBuf, CheckpointError> {
        let iteration = checkpoint.state.iteration;
        let path = self.folder.join(folder_name(iteration));
        checkpoint.save(&path)?;
        self.last_saved = Some((iteration, checkpoint.state.due));
        Ok(path)
    }

    /// The iteration of the checkpoint that was last saved or resumed here, and what was still due after it.
    pub fn last_saved(&self) -> Option<(u64, Due)> {
        self.last_saved
    }

    /// Loads the latest whole checkpoint, if there is any checkpoint. Later ones that are damaged are set aside, so
    /// that they will not be taken for the future of the run that now goes on.
    ///
    /// # Errors
    /// When all checkpoints are damaged, one is of another version, or a file cannot be read.
    pub fn resume(&mut self) -> Result<Option<Resumed>, CheckpointError> {
        let checkpoints = list(&self.folder)?;
        let mut damaged = Vec::new();
        for (index, (iteration, path)) in checkpoints.iter().enumerate().rev() {
            match Checkpoint::load(path) {
                Ok(checkpoint) => {
                    checkpoints[index + 1..].iter().try_for_each(|(_, later)| self.set_aside(later))?;
                    self.last_saved = Some((*iteration, checkpoint.state.due));
                    return Ok(Some(Resumed { checkpoint, path: path.clone(), damaged }));
                }
                Err(error) if error.is_damage() => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        match damaged.is_empty() {
            true => Ok(None),
            false => Err(CheckpointError::AllDamaged { folder: self.folder.clone(), damaged }),
        }
    }

    /// Deletes all checkpoints but the last `keep_last` and that after iteration `best`.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub fn retain(&self, keep_last: usize, best: Option<u64>) -> Result<(), CheckpointError> {
        for (iteration, path) in list(&self.folder)?.into_iter().rev().skip(keep_last) {
            if Some(iteration) != best {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path) -> Result<(), CheckpointError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.folder.join(format!("damaged-{name}"));
        if aside.exists() {
            remove_folder(&aside)?;
        }
        rename(path, &aside)?;
        Ok(sync_folder(&self.folder)?)
    }
}

/// The folder of a run's latest checkpoint, whole or not, if it has one.
pub(crate) fn latest_checkpoint(run_folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let folder = run_folder.join(CHECKPOINTS);
    if !folder.is_dir() {
        return Ok(None);
    }
    Ok(list(&folder)?.pop().map(|(_, path)| path))
}

/// The iteration of a run's latest checkpoint, whole or not, and what is due after it as far as that can be read.
pub(super) fn latest_iteration(run_folder: &Path) -> Option<(u64, Due)> {
    let (iteration, folder) = list(&run_folder.join(CHECKPOINTS)).ok()?.pop()?;
    let due = Checkpoint::read_state(&folder).map_or(Due::Nothing, |state| state.due);
    Some((iteration, due))
}

/// The weights that are meant by `path`: a file, Residua's or others', a checkpoint's folder, or a run's folder, whose latest
/// checkpoint is taken. Those of a checkpoint (also when their file is given) are checked for damage, and
/// damaged ones are not passed over in silence.
///
/// # Errors
/// When there are no weights or they are damaged.
pub fn stored_weights(path: &Path) -> Result<StoredWeights, CheckpointError> {
    if !path.is_file() {
        let folder = checkpoint_of(path)?;
        return Ok(StoredWeights::of(folder.join(WEIGHTS), Checkpoint::load_weights(&folder)?));
    }
    let folder = path.parent().unwrap_or(path);
    match path.with_file_name(CHECKSUMS).exists() {
        true if path.ends_with(WEIGHTS) => {
            Ok(StoredWeights::of(path.to_owned(), Checkpoint::load_weights(folder)?))
        }
        true if path.ends_with(AVERAGE) => {
            Ok(StoredWeights::of(path.to_owned(), Checkpoint::load_average(folder)?))
        }
        _ => Ok(StoredWeights::read(path)?),
    }
}

/// The exponential average of weights that is meant by `path`: a checkpoint's folder, or a run's folder, whose latest checkpoint is
/// taken.
///
/// # Errors
/// As there, and when the run keeps none.
pub fn stored_average(path: &Path) -> Result<StoredWeights, CheckpointError> {
    if path.is_file() {
        let problem = "a file is not asked for an average of weights";
        return Err(CheckpointError::NoWeights { path: path.to_owned(), problem });
    }
    let folder = checkpoint_of(path)?;
    Ok(StoredWeights::of(folder.join(AVERAGE), Checkpoint::load_average(&folder)?))
}

/// The checkpoint's folder that is meant by a folder, its own or a run's.
fn checkpoint_of(path: &Path) -> Result<PathBuf, CheckpointError> {
    let no_weights = |problem| CheckpointError::NoWeights { path: path.to_owned(), problem };
    if !path.exists() {
        return Err(no_weights("there is no such file or folder"));
    }
    if path.join(WEIGHTS).exists() {
        return Ok(path.to_owned());
    }
    let inner = path.join(CHECKPOINTS);
    let latest = list(if inner.is_dir() { &inner } else { path })?.pop();
    Ok(latest.ok_or_else(|| no_weights("there is no checkpoint in this folder"))?.1)
}

/// The folder of a run that holds its checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

fn folder_name(iteration: u64) -> String {
    format!("iteration-{iteration:08}")
}

/// The checkpoints in a folder with their iterations, the latest last.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    let mut checkpoints = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::cannot("list", folder))? {
        let path = entry.map_err(FileError::cannot("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let iteration = name.strip_prefix("iteration-").and_then(|iteration| iteration.parse().ok());
        if let Some(iteration) =
            iteration.filter(|&iteration| name == folder_name(iteration) && path.is_dir())
        {
            checkpoints.push((iteration, path));
        }
    }
    checkpoints.sort();
    Ok(checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checkpoint::tests::checkpoint;

    fn run(iterations: &[u64]) -> (tempfile::TempDir, CheckpointStore) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(folder.path()).unwrap();
        for &iteration in iterations {
            store.save(&checkpoint(iteration)).unwrap();
        }
        (folder, store)
    }

    fn names(store: &CheckpointStore) -> Vec<String> {
        let entries = fs::read_dir(&store.folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn iterations(store: &CheckpointStore) -> Vec<u64> {
        list(&store.folder).unwrap().into_iter().map(|(iteration, _)| iteration).collect()
    }

    fn truncate(store: &CheckpointStore, iteration: u64, name: &str) {
        let path = store.folder.join(folder_name(iteration)).join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }

    #[test]
    fn the_latest_checkpoint_is_resumed() {
        let (folder, mut store) = run(&[]);
        assert!(store.resume().unwrap().is_none());
        assert_eq!(store.last_saved(), None);
        // Beyond eight digits the order of names is not that of iterations.
        for iteration in [40, 123_456_789, 99_999_999] {
            store.save(&checkpoint(iteration)).unwrap();
        }
        let resumed = store.resume().unwrap().unwrap();
        assert_eq!(resumed.checkpoint, checkpoint(123_456_789));
        assert_eq!(resumed.path, folder.path().join("checkpoints/iteration-123456789"));
        assert!(resumed.damaged.is_empty());
        assert_eq!(store.last_saved(), Some((123_456_789, Due::Nothing)));
    }

    #[test]
    fn a_damaged_latest_checkpoint_is_reported_and_set_aside() {
        let (_folder, mut store) = run(&[40, 80, 120, 160]);
        truncate(&store, 160, "weights.safetensors");
        fs::remove_file(store.folder.join("iteration-00000120/state.json")).unwrap();
        let resumed = store.resume().unwrap().unwrap();
        assert_eq!(resumed.checkpoint.state.iteration, 80);
        let messages: Vec<_> = resumed.damaged.iter().map(ToString::to_string).collect();
        assert!(messages[0].contains("iteration-00000160/weights.safetensors is damaged"), "{messages:?}");
        assert!(messages[1].contains("iteration-00000120/state.json is damaged"), "{messages:?}");

        // The run goes on with other intervals; the damaged ones count for nothing.
        store.save(&checkpoint(100)).unwrap();
        store.retain(1, None).unwrap();
        assert_eq!(
            names(&store),
            ["damaged-iteration-00000120", "damaged-iteration-00000160", "iteration-00000100"]
        );
        store.save(&checkpoint(160)).unwrap();
        truncate(&store, 160, "state.json");
        assert_eq!(store.resume().unwrap().unwrap().checkpoint.state.iteration, 100);
    }

    #[test]
    fn with_no_whole_checkpoint_nothing_is_begun_afresh_in_silence() {
        let (_folder, mut store) = run(&[40, 80]);
        truncate(&store, 40, "SHA256SUMS");
        truncate(&store, 80, "recipe.toml");
        let message = store.resume().unwrap_err().to_string();
        assert!(message.contains("none of the checkpoints is whole"), "{message}");
        assert!(
            message.contains("00000080/recipe.toml") && message.contains("00000040/SHA256SUMS"),
            "{message}"
        );
        assert_eq!(iterations(&store), [40, 80]);
    }

    #[test]
    fn the_last_and_the_best_are_retained() {
        let (_folder, store) = run(&[40, 80, 120, 160, 200]);
        store.retain(2, Some(80)).unwrap();
        assert_eq!(names(&store), ["iteration-00000080", "iteration-00000160", "iteration-00000200"]);
        store.retain(2, Some(200)).unwrap();
        assert_eq!(iterations(&store), [160, 200]);
        store.retain(5, None).unwrap();
        assert_eq!(iterations(&store), [160, 200]);
    }

    #[test]
    fn what_a_kill_leaves_is_cleared_when_the_run_is_opened_again() {
        let (folder, store) = run(&[40, 80]);
        let at = |name: &str| store.folder.join(name);
        // Killed while saving 120, while deleting 20, and between the two renames of replacing 80.
        fs::create_dir(at(".tmp-iteration-00000120")).unwrap();
        fs::write(at(".tmp-iteration-00000120/weights.safetensors"), "half").unwrap();
        fs::create_dir(at(".tmp-iteration-00000020")).unwrap();
        fs::rename(at("iteration-00000080"), at(".replaced-iteration-00000080")).unwrap();
        let mut store = CheckpointStore::open(folder.path()).unwrap();
        assert_eq!(names(&store), ["iteration-00000040", "iteration-00000080"]);
        assert_eq!(store.resume().unwrap().unwrap().checkpoint, checkpoint(80));
    }

    #[test]
    fn weights_are_found_from_a_run_a_checkpoint_or_a_file() {
        let (folder, store) = run(&[40, 80]);
        let checkpoint = folder.path().join("checkpoints/iteration-00000040");
        let file = checkpoint.join("weights.safetensors");
        let found = |path: &Path| stored_weights(path).unwrap().path;
        let latest = folder.path().join("checkpoints/iteration-00000080/weights.safetensors");
        assert_eq!(found(folder.path()), latest);
        assert_eq!(found(&folder.path().join("checkpoints")), latest);
        assert_eq!(found(&checkpoint), file);
        assert_eq!(found(&file), file);

        truncate(&store, 80, "weights.safetensors");
        let message = stored_weights(folder.path()).unwrap_err().to_string();
        assert!(message.contains("iteration-00000080/weights.safetensors is damaged"), "{message}");
        let message = stored_weights(&latest).unwrap_err().to_string();
        assert!(message.contains("its content is not what SHA256SUMS says"), "{message}");
        let empty = tempfile::tempdir().unwrap();
        let message = stored_weights(empty.path()).unwrap_err().to_string();
        assert!(message.contains("there is no checkpoint in this folder; give a run's folder"), "{message}");
        let message = stored_weights(&empty.path().join("none")).unwrap_err().to_string();
        assert!(message.contains("there is no such file or folder"), "{message}");
    }
}
