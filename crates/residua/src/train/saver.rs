//! Saving a run from another thread, while a step or a test is going on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::optimiser::Optimiser;
use super::run::Ending;
use super::run_files::RunFiles;
use super::weight_average::WeightAverage;
use crate::nn::{NamedTensors, ResNet};
use crate::run::{Checkpoint, Recipe, RunError, State};

/// Saves a [`Run`](super::Run) as it stood after its last finished iteration, from another thread: steps and tests may take minutes,
/// and whoever stops a program seldom waits for so long.
///
/// ```no_run
/// # use std::thread;
/// # use residua::run::{NamedRecipe, Recipe};
/// # use residua::train::Trainer;
/// # fn asked_to_stop() {}
/// let run = Trainer::new(Recipe::named(NamedRecipe::Quick)).start("runs/quick")?;
/// let saver = run.saver();
/// thread::spawn(move || {
///     asked_to_stop();
///     if let Ok(Some(ending)) = saver.save_and_close() {
///         println!("saved at iteration {}", ending.iteration);
///         std::process::exit(0);
///     }
/// });
/// run.train(&mut ())?;
/// # Ok::<(), residua::run::RunError>(())
/// ```
#[derive(Clone)]
pub struct Saver {
    files: Weak<OpenFiles>,
    standing: Arc<Standing>,
}

impl Saver {
    /// Saves the run, if it is not over, and writes nothing of it from then on: [`Run::train`](super::Run::train) fails with
    /// [`RunError::Closed`] where it would. When this returns, all of the run is on disk, and the process may end.
    ///
    /// What the iteration in hand has done is not in the checkpoint; going on from there does it again, to the same bits.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub fn save_and_close(&self) -> Result<Option<Ending>, RunError> {
        let Some(files) = self.files.upgrade() else { return Ok(None) };
        let standing = self.standing.wait();
        // Whatever is being written now is written to its end first.
        let mut files = files.lock();
        if files.is_closed {
            return Ok(None);
        }
        files.is_closed = true;
        let Stand { state, .. } = &standing;
        // The thread that trains may have saved this state, or a later one, in the meantime.
        let is_newer = |(iteration, due)| (iteration, Reverse(due)) < (state.iteration, Reverse(state.due));
        if files.store.last_saved().is_none_or(is_newer) {
            let checkpoint = standing.checkpoint();
            // A run that has diverged keeps its last good checkpoint.
            if first_not_finite(&checkpoint.weights).is_none() {
                files.save(&checkpoint)?;
            }
        }
        let (iteration, _) = files.store.last_saved().unwrap_or_default();
        Ok(Some(Ending {
            iteration,
            is_finished: false,
            checkpoint: files.last_checkpoint.clone().unwrap_or_default(),
            evaluation: None,
            average_evaluation: None,
            best: standing.state.best.clone(),
        }))
    }

    /// That of a run with these files; without any there is never something to save.
    pub(super) fn new(files: Option<&Arc<OpenFiles>>, standing: &Arc<Standing>) -> Self {
        Self { files: files.map(Arc::downgrade).unwrap_or_default(), standing: standing.clone() }
    }
}

/// The files of a run, for the thread that trains and for one that saves.
pub(super) struct OpenFiles(Mutex<RunFiles>);

impl OpenFiles {
    pub(super) fn new(files: RunFiles) -> Arc<Self> {
        Arc::new(Self(Mutex::new(files)))
    }

    /// For whoever writes next.
    ///
    /// # Errors
    /// When nothing is to be written any more.
    pub(super) fn open(&self) -> Result<MutexGuard<'_, RunFiles>, RunError> {
        let files = self.lock();
        if files.is_closed { Err(RunError::Closed) } else { Ok(files) }
    }

    fn lock(&self) -> MutexGuard<'_, RunFiles> {
        // Files are whole or not there, whatever a panicking thread was at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run as it stood when its last iteration, or a part of what follows one, was over.
#[derive(Clone)]
pub(super) struct Stand {
    pub(super) network: ResNet,
    pub(super) optimiser: Optimiser,
    pub(super) average: Option<WeightAverage>,
    pub(super) state: State,
    pub(super) described: Arc<Described>,
}

/// What the checkpoints of a run say that is always the same.
pub(super) struct Described {
    pub(super) recipe: Recipe,
    pub(super) weights_metadata: BTreeMap<String, String>,
}

impl Stand {
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let Self { network, optimiser, average, state, described } = self;
        Checkpoint {
            weights: network.tensors(),
            weights_metadata: described.weights_metadata.clone(),
            optimiser: optimiser.tensors(network),
            average: average.as_ref().map(|average| average.tensors(network)),
            recipe: described.recipe.clone(),
            state: state.clone(),
        }
    }
}

/// A tensor of the network whose values are not all numbers.
pub(super) fn first_not_finite(tensors: &NamedTensors) -> Option<&String> {
    let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    tensors.iter().find(|(_, tensor)| !is_finite(&tensor.values)).map(|(name, _)| name)
}

/// Where the thread that trains leaves how the run stands. There is nothing while the optimiser changes what it would be saved from:
/// steps in place are why a run takes no more memory than its tensors.
#[derive(Default)]
pub(super) struct Standing {
    place: Mutex<Option<Stand>>,
    is_there: Condvar,
}

impl Standing {
    pub(super) fn put(&self, stand: Stand) {
        *self.lock() = Some(stand);
        self.is_there.notify_all();
    }

    pub(super) fn take_away(&self) {
        *self.lock() = None;
    }

    fn wait(&self) -> Stand {
        let mut place = self.lock();
        loop {
            match &*place {
                Some(stand) => return stand.clone(),
                None => place = self.is_there.wait(place).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stand>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
