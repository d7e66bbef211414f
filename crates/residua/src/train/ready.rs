//! Images, and a network for them: what a run needs besides its folder.

use super::loss::Loss;
use super::machine::Machine;
use super::precision::check_precision;
use super::ranks::{check_images, share_of};
use super::run_images::RunImages;
use crate::data::{Images, Normalisation, normalisation_of};
use crate::device::free_memory;
use crate::nn::{Memory, ResNet, Workload};
use crate::ops::Engine;
use crate::run::{OptimiserKind, Recipe, RunError};
use residua_infer::weights::WeightsInfo;

/// All of a run that needs no folder.
pub(super) struct Ready {
    pub(super) images: RunImages,
    pub(super) normalisation: Normalisation,
    pub(super) memory: Memory,
    pub(super) network: ResNet,
    pub(super) loss: Loss,
}

impl Ready {
    /// Images that are loaded unless they are given, and a new network for them. Where a run goes on they are those of its weights, of
    /// which `before` is said, as far as that can be told, and their normalisation stays.
    ///
    /// # Errors
    /// When there are no such images, no such network, or too little memory.
    pub(super) fn new(
        recipe: &Recipe,
        images: Option<RunImages>,
        machine: &Machine,
        before: Option<&WeightsInfo>,
    ) -> Result<Self, RunError> {
        let cluster = &machine.cluster;
        let images = match images {
            Some(images) => images,
            None => RunImages::load(recipe)?,
        };
        let images = images.holding_out(recipe)?;
        let training = images.training();
        if recipe.data.source.is_folder() && training.view() != recipe.view()? {
            return Err(RunError::OtherImages { difference: "sizes" });
        }
        recipe.check_augmentation(training.height(), training.width())?;
        let normalisation = match before {
            Some(before) => same_normalisation(before, recipe, training)?,
            None => normalisation_of(recipe.data.normalisation, training)?,
        };
        check_images(&images, &normalisation, cluster)?;
        let config = recipe.network.resolve(training.classes().len())?;
        let plan = config.plan()?;
        let engine = machine.sharing_statistics().map_or(machine.engine, |_| Engine::Composed);
        check_precision(config.precision, &machine.device, engine)?;
        let batch = share_of(cluster).len_of(recipe.optimiser.batch);
        let (height, width) = (training.height(), training.width());
        let (_, on_host) = cluster.place_on_host();
        let free = free_memory(&machine.device).map(|free| free / on_host as u64);
        let memory =
            machine.memory.resolve_plan(&config, &plan, &workload(recipe, batch, height, width), free)?;
        config.check_input(height, width)?;
        config.check_batch(batch, height, width)?;
        let network = ResNet::of_plan(&config, plan, recipe.seed, &machine.device.clone().autodiff());
        let network = network.freeze(&recipe.fine_tuning.frozen)?;
        let weights = recipe.loss.class_weights.as_ref();
        let weights = weights.map(|weights| weights.of_classes(training.classes(), training.labels()));
        let loss = Loss::new(&recipe.loss, weights.transpose()?.unwrap_or_default());
        Ok(Self { images, normalisation, memory, network, loss })
    }

    /// What a weight file says of the network and its images.
    pub(super) fn weights_info(&self) -> WeightsInfo {
        let (training, test) = (self.images.training(), self.images.test());
        WeightsInfo {
            ranges: None,
            temperature: None,
            network: self.network.config().clone().into(),
            classes: training.classes().to_vec(),
            height: training.height(),
            width: training.width(),
            shorter_side: test.view().shorter_side,
            normalisation: self.normalisation.clone(),
        }
    }
}

/// The normalisation of a run that goes on, whose images these must be. Those in memory are compared by it; what files hold is not looked
/// at.
fn same_normalisation(
    before: &WeightsInfo,
    recipe: &Recipe,
    training: &Images,
) -> Result<Normalisation, RunError> {
    if before.classes != training.classes() {
        return Err(RunError::other_classes(&before.classes, training.classes()));
    }
    if [before.height, before.width] != [training.height(), training.width()] {
        return Err(RunError::OtherImages { difference: "sizes" });
    }
    if let Images::InMemory(_) = training
        && before.normalisation != normalisation_of(recipe.data.normalisation, training)?
    {
        return Err(RunError::OtherImages { difference: "pixels" });
    }
    Ok(before.normalisation.clone())
}

/// What this recipe trains with, as far as it takes memory, `batch` images in this process.
fn workload(recipe: &Recipe, batch: usize, height: usize, width: usize) -> Workload {
    let Recipe { optimiser, regularisation, fine_tuning, .. } = recipe;
    let has_second_mean = optimiser.kind == OptimiserKind::AdamW;
    let more = [has_second_mean, optimiser.accumulate > 1, optimiser.average_decay.is_some()];
    Workload {
        frozen: fine_tuning.frozen.clone(),
        more_copies: more.into_iter().map(u64::from).sum(),
        drops_in_units: regularisation.unit_dropout.is_some(),
        ..Workload::new(batch, height, width)
    }
}
