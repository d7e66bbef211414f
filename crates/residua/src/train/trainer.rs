//! Who begins runs and goes on with them.

use std::path::Path;

use super::initial_weights::InitialWeights;
use super::machine::Machine;
use super::optimiser::Optimiser;
use super::ranks::{digest_of_program, share_of};
use super::ready::Ready;
use super::run::Run;
use super::run_data::RunData;
use super::run_files::{RunFiles, StoppedRun};
use super::run_images::RunImages;
use super::weight_average::WeightAverage;
use crate::cluster::Cluster;
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
        let Self { mut recipe, images, machine } = self;
        let cluster = machine.cluster.clone();
        recipe.validate()?;
        if !cluster.is_alone() && !machine.shares_statistics && recipe.network.bn_group.is_none() {
            // Nothing is a group of no images; such batches are refused.
            recipe.network.bn_group =
                Some(share_of(&cluster).len_of(recipe.optimiser.batch)).filter(|&share| share > 0);
        }
        check_same(&recipe, &cluster)?;
        check_shares(&recipe, &machine)?;
        let folder = cluster.is_first().then(folder).transpose()?;
        let mut ready = Ready::new(&recipe, images, &machine, None)?;
        let mut loaded = None;
        if let Some(weights) = weights {
            let (network, found) = weights.load(ready.network, ready.images.training().classes())?;
            (ready.network, loaded) = (network, Some(found));
        }
        let files = folder.map(|folder| RunFiles::begin(folder, &recipe, &machine)).transpose()?;
        let (optimiser, state) =
            (Optimiser::of(&recipe), State { ranks: cluster.ranks(), ..State::new(recipe.seed) });
        let average = recipe.optimiser.average_decay.map(|decay| WeightAverage::of(&ready.network, decay));
        let is_first = files.is_some();
        let mut run = Run::new(recipe, machine, ready, files, optimiser, average, state)?;
        run.loaded_weights = loaded;
        if !is_first {
            return Ok(run);
        }
        if let Some(data) = RunData::of(&run.ready.images, is_validation_apart(&run.recipe)) {
            data.write(&run.folder)?;
        }
        // From here on there is always a checkpoint to resume from.
        run.save()?;
        run.write_recipe()?;
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
        let Self { mut recipe, images, machine } = self;
        let cluster = machine.cluster.clone();
        recipe.validate()?;
        check_same(&recipe, &cluster)?;
        let (stopped, checkpoint) = match cluster.is_first() {
            true => {
                let (stopped, Resumed { checkpoint, path, damaged }) = StoppedRun::open(folder()?)?;
                (Some((stopped, path, damaged)), Some(checkpoint))
            }
            false => (None, None),
        };
        let Checkpoint { weights, weights_metadata, optimiser, average, recipe: old, mut state } =
            of_first(checkpoint, &cluster)?;
        if state.ranks > 1 && recipe.network.bn_group.is_none() {
            // So it was begun.
            recipe.network.bn_group = old.network.bn_group;
        }
        check_shares(&recipe, &machine)?;
        old.changes_after(&recipe, state.iteration)?;
        let folder = stopped.as_ref().map_or(Path::new(""), |(stopped, ..)| stopped.path()).to_owned();
        if state.iteration >= recipe.schedule.iterations && state.due.is_nothing() {
            let (iteration, iterations) = (state.iteration, recipe.schedule.iterations);
            let kind = recipe.schedule.kind;
            return Err(RunError::AlreadyDone { folder, iteration, iterations, kind });
        }
        if recipe.is_out_of_patience(state.iteration, state.best.as_ref()) && state.due.is_nothing() {
            return Err(RunError::EndedEarly { folder, iteration: state.iteration });
        }
        let before = WeightsInfo::from_metadata(&weights_metadata).ok();
        let mut ready = Ready::new(&recipe, images, &machine, before.as_ref())?;
        ready.network = ready.network.with_tensors(&weights)?;
        let optimiser = Optimiser::of(&recipe).with_tensors(&optimiser, &machine.device);
        let average = recipe.optimiser.average_decay.zip(average);
        let average =
            average.map(|(decay, tensors)| WeightAverage::with_tensors(&tensors, decay, &machine.device));
        let mut warnings = other_ranks(&mut state, cluster.ranks());
        let files = match stopped {
            None => None,
            Some((stopped, path, damaged)) => {
                warnings.extend(damaged.iter().map(ToString::to_string));
                warnings.extend(other_pictures(&folder, &ready.images, &recipe)?);
                Some(stopped.go_on(&recipe, &state, path, &machine)?)
            }
        };
        let mut run = Run::new(recipe, machine, ready, files, optimiser, average, state)?;
        run.warnings.extend(warnings);
        Ok(run)
    }
}

/// Refuses programs and recipes that are not the same on all ranks.
fn check_same(recipe: &Recipe, cluster: &Cluster) -> Result<(), RunError> {
    if !cluster.is_alone() {
        cluster.agree("another program", &digest_of_program())?;
        cluster.agree("another recipe", &recipe.to_toml())?;
    }
    Ok(())
}

/// Refuses batches that cannot be shared out.
fn check_shares(recipe: &Recipe, machine: &Machine) -> Result<(), RunError> {
    let cluster = &machine.cluster;
    let (batch, ranks) = (recipe.optimiser.batch, cluster.ranks());
    if cluster.is_alone() {
        return Ok(());
    }
    if !batch.is_multiple_of(ranks) {
        return Err(RunError::UnevenRanks { batch, ranks });
    }
    let (share, group) = (batch / ranks, recipe.network.bn_group.unwrap_or(batch));
    match (machine.shares_statistics, share.is_multiple_of(group)) {
        (true, _) if group != batch => Err(RunError::SharedGroups { group }),
        (true, _) | (false, true) => Ok(()),
        (false, false) => Err(RunError::GroupsOfRanks { group, ranks, share }),
    }
}

/// Rank 0's checkpoint, which alone need see the run's folder.
fn of_first(checkpoint: Option<Checkpoint>, cluster: &Cluster) -> Result<Checkpoint, RunError> {
    match checkpoint {
        Some(checkpoint) if cluster.is_alone() => Ok(checkpoint),
        own => {
            let bytes = || own.map_or_else(|| Ok(Vec::new()), |own| Ok::<_, RunError>(own.to_bytes()?));
            Ok(Checkpoint::from_bytes(&cluster.from_first(bytes)?)?)
        }
    }
}

/// Notes how many processes go on with a run, and says what that means where others began it.
fn other_ranks(state: &mut State, ranks: usize) -> Vec<String> {
    let before = std::mem::replace(&mut state.ranks, ranks);
    if before == ranks {
        return Vec::new();
    }
    let counted = |ranks| if ranks == 1 { "1 process".to_owned() } else { format!("{ranks} processes") };
    vec![format!(
        "the run was trained by {} so far and goes on with {}: to rounding, not to the bit, as it would have gone on",
        counted(before),
        counted(ranks)
    )]
}

/// Which pictures are others than those that the run in a folder was begun on.
fn other_pictures(folder: &Path, images: &RunImages, recipe: &Recipe) -> Result<Vec<String>, RunError> {
    let Some(now) = RunData::of(images, is_validation_apart(recipe)) else { return Ok(Vec::new()) };
    if let Some(before) = RunData::read(folder) {
        return Ok(before.changes(&now));
    }
    // A run of an earlier version: from here on it is known.
    now.write(folder)?;
    Ok(Vec::new())
}

/// Whether validation pictures lie in a folder of their own.
fn is_validation_apart(recipe: &Recipe) -> bool {
    matches!(recipe.data.validation, Some(Validation::Folder(_)))
}
