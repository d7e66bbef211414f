//! The folder of a run while it is trained.

use std::path::{Path, PathBuf};

use super::machine::Machine;
use crate::files::write_file;
#[cfg(feature = "tensorboard")]
use crate::run::EventFile;
#[cfg(any(feature = "reports", feature = "tensorboard"))]
use crate::run::read_metrics;
use crate::run::{
    Checkpoint, CheckpointStore, Failure, MetricsLog, RECIPE, Recipe, Record, Resumed, RunError, RunFolder,
    State,
};

/// The file of a run that holds its metrics.
const METRICS: &str = "metrics.jsonl";

/// `recipe.toml`, `metrics.jsonl`, `checkpoints/` and the events for TensorBoard, open and locked.
pub(super) struct RunFiles {
    pub(super) folder: PathBuf,
    pub(super) store: CheckpointStore,
    /// The last checkpoint, if there is one.
    pub(super) last_checkpoint: Option<PathBuf>,
    /// Whether nothing is to be written any more.
    pub(super) is_closed: bool,
    metrics: MetricsLog,
    #[cfg(feature = "tensorboard")]
    events: Option<EventFile>,
    _lock: RunFolder,
}

/// A run that is about to go on: its folder is locked, and nothing in it has been changed.
pub(super) struct StoppedRun {
    folder: RunFolder,
    store: CheckpointStore,
}

impl RunFiles {
    /// The files of a new run.
    pub(super) fn begin(mut folder: RunFolder, recipe: &Recipe, machine: &Machine) -> Result<Self, RunError> {
        let metrics = MetricsLog::create(&folder.path().join(METRICS))?;
        folder.keep();
        let store = CheckpointStore::open(folder.path())?;
        Self::open(folder, recipe, machine, metrics, store)
    }

    #[cfg_attr(not(feature = "tensorboard"), expect(unused_variables, reason = "events alone are a choice"))]
    fn open(
        lock: RunFolder,
        recipe: &Recipe,
        machine: &Machine,
        metrics: MetricsLog,
        store: CheckpointStore,
    ) -> Result<Self, RunError> {
        let folder = lock.path().to_owned();
        Ok(Self {
            // They say what the metrics say, so they are written anew.
            #[cfg(feature = "tensorboard")]
            events: match machine.writes_events {
                true => Some(EventFile::begin(&folder, recipe, &read_metrics(&folder.join(METRICS))?)?),
                false => None,
            },
            folder,
            store,
            last_checkpoint: None,
            is_closed: false,
            metrics,
            _lock: lock,
        })
    }

    pub(super) fn write_recipe(&self, recipe: &Recipe) -> Result<(), RunError> {
        write_recipe(&self.folder, recipe)
    }

    /// All lines of the metrics.
    #[cfg(feature = "reports")]
    pub(super) fn records(&self) -> Result<Vec<Record>, RunError> {
        Ok(read_metrics(&self.folder.join(METRICS))?)
    }

    /// A line of the metrics, and what it is for TensorBoard.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), RunError> {
        self.metrics.append(record)?;
        #[cfg(feature = "tensorboard")]
        if let Some(events) = &mut self.events {
            events.append(record)?;
        }
        Ok(())
    }

    /// Saves a checkpoint, behind the metrics that belong to it, and removes those that need not be kept.
    pub(super) fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), RunError> {
        self.metrics.sync()?;
        self.last_checkpoint = Some(self.store.save(checkpoint)?);
        let best = checkpoint.state.best.as_ref().map(|best| best.iteration);
        self.store.retain(checkpoint.recipe.intervals.keep, best)?;
        Ok(())
    }
}

impl StoppedRun {
    /// The run in a folder, and its last whole checkpoint.
    pub(super) fn open(folder: RunFolder) -> Result<(Self, Resumed), RunError> {
        let mut store = CheckpointStore::open(folder.path())?;
        let resumed = store.resume()?;
        let resumed = resumed.ok_or_else(|| RunError::no_run(folder.path()))?;
        Ok((Self { folder, store }, resumed))
    }

    /// The run's folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Goes on where the run is in this state, as the checkpoint there says.
    pub(super) fn go_on(
        self,
        recipe: &Recipe,
        state: &State,
        checkpoint: PathBuf,
        machine: &Machine,
    ) -> Result<RunFiles, RunError> {
        let Self { folder, store } = self;
        Failure::clear(folder.path())?;
        let metrics = MetricsLog::resume(&folder.path().join(METRICS), state.iteration, state.due)?;
        write_recipe(folder.path(), recipe)?;
        let files = RunFiles::open(folder, recipe, machine, metrics, store)?;
        Ok(RunFiles { last_checkpoint: Some(checkpoint), ..files })
    }
}

fn write_recipe(folder: &Path, recipe: &Recipe) -> Result<(), RunError> {
    Ok(write_file(&folder.join(RECIPE), recipe.to_toml().as_bytes())?)
}
