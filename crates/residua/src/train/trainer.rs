//! Who begins runs and goes on with them.

use std::path::Path;

use super::initial_weights::InitialWeights;
use super::machine::Machine;
use super::optimiser::Optimiser;
use super::ready::Ready;
use super::run::Run;
use super::run_data::RunData;
use super::run_files::{RunFiles, StoppedRun};
use super::run_images::RunImages;
use super::weight_average::WeightAverage;
use crate::data::Validation;
use crate::run::{Checkpoint, Recipe, Resumed, RunError, RunFolder, State};
use residua_infer::weights::WeightsInfo;

/// Trains by a recipe: on the images that the recipe names, or on a program's own, with as much of the machine as it is given.
///
/// ```no_run
/// use residua::run::{NamedRecipe, Recipe};
/// use residua::train::Trainer;
///
/// let ending = Trainer::new(Recipe::named(NamedRecipe::Quick)).start("runs/quick")?.train(&mut ())?;
/// println!("test error {:.2} %", ending.evaluation.unwrap().test_error);
/// # Ok::<(), residua::run::RunError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trainer {
    recipe: Recipe,
    images: Option<RunImages>,
    machine: Machine,
}

impl Trainer {
    /// A trainer for this recipe, on the images that it names and with the default [`Machine`].
    pub fn new(recipe: Recipe) -> Self {
        Self { recipe, images: None, machine: Machine::default() }
    }

    /// The same on these images, whatever the recipe says: it is made to name them.
    pub fn with_images(mut self, images: RunImages) -> Self {
        self.recipe.data.source = images.source().clone();
        Self { images: Some(images), ..self }
    }

    /// The same with this of the machine.
    pub fn with_machine(self, machine: Machine) -> Self {
        Self { machine, ..self }
    }

    /// The recipe as it would be followed now.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Begins a run in `folder`, which must not hold one yet.
    ///
    /// # Errors
    /// When the recipe is impossible, its images cannot be read, or the folder cannot be written.
    pub fn start(self, folder: impl AsRef<Path>) -> Result<Run, RunError> {
        self.begin(|| RunFolder::claim(folder), None)
    }

    /// As [`start`](Self::start), from these weights instead of random ones. Where they are for another number of classes, the
    /// classifier is as in a new network; what became of them says [`Run::loaded_weights`].
    ///
    /// # Errors
    /// As there, and when the weights are another network's.
    pub fn start_from(self, weights: InitialWeights, folder: impl AsRef<Path>) -> Result<Run, RunError> {
        self.begin(|| RunFolder::claim(folder), Some(weights))
    }

    /// As these two, in a folder that is claimed already.
    ///
    /// # Errors
    /// As there.
    pub fn start_in(self, folder: RunFolder, weights: Option<InitialWeights>) -> Result<Run, RunError> {
        self.begin(|| Ok(folder), weights)
    }

    fn begin(
        self,
        folder: impl FnOnce() -> Result<RunFolder, RunError>,
        weights: Option<InitialWeights>,
    ) -> Result<Run, RunError> {
        let Self { recipe, images, machine } = self;
        recipe.validate()?;
        let folder = folder()?;
        let mut ready = Ready::new(&recipe, images, &machine, None)?;
        let mut loaded = None;
        if let Some(weights) = weights {
            let (network, found) = weights.load(ready.network, ready.images.training().classes())?;
            (ready.network, loaded) = (network, Some(found));
        }
        let files = RunFiles::begin(folder, &recipe, &machine)?;
        let (optimiser, state) = (Optimiser::of(&recipe), State::new(recipe.seed));
        let average = recipe.optimiser.average_decay.map(|decay| WeightAverage::of(&ready.network, decay));
        let mut run = Run::new(recipe, machine, ready, files, optimiser, average, state)?;
        run.loaded_weights = loaded;
        if let Some(data) = RunData::of(&run.ready.images, is_validation_apart(&run.recipe)) {
            data.write(&run.folder)?;
        }
        // From here on there is always a checkpoint to resume from.
        run.save()?;
        run.files.open()?.write_recipe(&run.recipe)?;
        Ok(run)
    }

    /// Goes on with the run in `folder` from its last checkpoint. The recipe may differ from the run's own
    /// ([`saved_recipe`](crate::run::saved_recipe)) in what [`Recipe::changes_on_resume`] allows. A run on a program's own
    /// images must be given the same images again.
    ///
    /// # Errors
    /// When there is no such run, no checkpoint of it is whole, the recipe is another one, or the images are others.
    pub fn resume(self, folder: impl AsRef<Path>) -> Result<Run, RunError> {
        self.go_on(|| RunFolder::reopen(folder))
    }

    /// As [`resume`](Self::resume), in a folder that has been reopened already.
    ///
    /// # Errors
    /// As there.
    pub fn resume_in(self, folder: RunFolder) -> Result<Run, RunError> {
        self.go_on(|| Ok(folder))
    }

    fn go_on(self, folder: impl FnOnce() -> Result<RunFolder, RunError>) -> Result<Run, RunError> {
        let Self { recipe, images, machine } = self;
        recipe.validate()?;
        let run_folder = folder()?;
        let folder = &run_folder.path().to_owned();
        let (stopped, Resumed { checkpoint, path, damaged }) = StoppedRun::open(run_folder)?;
        let Checkpoint { weights, weights_metadata, optimiser, average, recipe: old, state } = checkpoint;
        old.changes_after(&recipe, state.iteration)?;
        if state.iteration >= recipe.schedule.iterations && state.due.is_nothing() {
            let (iteration, iterations) = (state.iteration, recipe.schedule.iterations);
            let (folder, kind) = (folder.to_owned(), recipe.schedule.kind);
            return Err(RunError::AlreadyDone { folder, iteration, iterations, kind });
        }
        if recipe.is_out_of_patience(state.iteration, state.best.as_ref()) && state.due.is_nothing() {
            return Err(RunError::EndedEarly { folder: folder.to_owned(), iteration: state.iteration });
        }
        let before = WeightsInfo::from_metadata(&weights_metadata).ok();
        let mut ready = Ready::new(&recipe, images, &machine, before.as_ref())?;
        let now = RunData::of(&ready.images, is_validation_apart(&recipe));
        let changes = match (RunData::read(folder), &now) {
            (Some(before), Some(now)) => before.changes(now),
            (None, Some(now)) => {
                // A run of an earlier version: from here on it is known.
                now.write(folder)?;
                Vec::new()
            }
            (_, None) => Vec::new(),
        };
        ready.network = ready.network.with_tensors(&weights)?;
        let optimiser = Optimiser::of(&recipe).with_tensors(&optimiser, &machine.device);
        let average = recipe.optimiser.average_decay.zip(average);
        let average =
            average.map(|(decay, tensors)| WeightAverage::with_tensors(&tensors, decay, &machine.device));
        let files = stopped.go_on(&recipe, &state, path, &machine)?;
        let mut run = Run::new(recipe, machine, ready, files, optimiser, average, state)?;
        run.warnings.extend(damaged.iter().map(ToString::to_string).chain(changes));
        Ok(run)
    }
}

/// Whether validation pictures lie in a folder of their own.
fn is_validation_apart(recipe: &Recipe) -> bool {
    matches!(recipe.data.validation, Some(Validation::Folder(_)))
}
