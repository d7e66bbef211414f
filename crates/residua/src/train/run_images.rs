//! The images of a run, and the network that they ask for.

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::tensor::Device;

use crate::data::{DataError, Images, Loader, LoaderConfig, Normalisation, Split, normalisation_of};
use crate::device::free_memory;
use crate::nn::{Memory, MemoryChoice, ResNet};
use crate::run::Recipe;
use crate::run::RunError;

/// The images of a recipe.
pub(crate) struct RunData {
    pub(crate) training_set: Arc<Images>,
    pub(crate) test_set: Images,
    pub(crate) normalisation: Normalisation,
}

impl RunData {
    pub(crate) fn load(recipe: &Recipe) -> Result<Self, RunError> {
        let view = recipe.view()?;
        let load = |split| -> Result<Images, DataError> {
            Ok(recipe.data.source.load(split)?.seen_by(view)?.tolerating(recipe.data.unreadable_share))
        };
        let (training_set, test_set) = (load(Split::Train)?, load(Split::Test)?);
        let normalisation = normalisation_of(recipe.data.normalisation, &training_set)?;
        Ok(Self { training_set: Arc::new(training_set), test_set, normalisation })
    }

    /// The stream of training batches from sample `start` on.
    pub(crate) fn loader(
        &self,
        recipe: &Recipe,
        workers: NonZeroUsize,
        start: u64,
    ) -> Result<Loader, RunError> {
        let config = LoaderConfig {
            batch_size: NonZeroUsize::new(recipe.optimiser.batch).unwrap_or(NonZeroUsize::MIN),
            seed: recipe.seed,
            is_shuffled: recipe.data.is_shuffled,
            augmentation: recipe.augmentation()?,
            varies_colour: recipe.data.varies_colour,
            workers,
            start,
        };
        Ok(Loader::open(self.training_set.clone(), self.normalisation.clone(), config)?)
    }

    /// The mode that is meant for training on these images, now that they are loaded.
    pub(crate) fn memory(
        &self,
        recipe: &Recipe,
        choice: MemoryChoice,
        device: &Device,
    ) -> Result<Memory, RunError> {
        let config = recipe.network.resolve(self.training_set.classes().len())?;
        let (height, width) = (self.training_set.height(), self.training_set.width());
        Ok(choice.resolve(&config, recipe.optimiser.batch, height, width, free_memory(device))?)
    }

    /// A new network for these images, ready to be trained.
    pub(crate) fn network(&self, recipe: &Recipe, device: &Device) -> Result<ResNet, RunError> {
        let config = recipe.network.resolve(self.training_set.classes().len())?;
        let (height, width) = (self.training_set.height(), self.training_set.width());
        config.check_input(height, width)?;
        config.check_batch(recipe.optimiser.batch, height, width)?;
        Ok(ResNet::init(&config, recipe.seed, &device.clone().autodiff())?)
    }
}
