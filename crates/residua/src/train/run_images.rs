//! The images of a run: what it learns from and what it is tested on.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::data::{
    DataError, Images, Loader, LoaderConfig, Mixing, Normalisation, Preview, Share, SmallSamples, Source,
    Split, normalisation_of,
};
use crate::run::{Recipe, RunError, SmallCrops};

/// Training images, images held out of them if a recipe asks for any, and test images, loaded or made once; clones share them.
///
/// ```
/// use residua::data::Dataset;
/// use residua::train::RunImages;
///
/// // Two images of 32x32 pixels, one black and one white.
/// let pixels = [vec![0; 32 * 32 * 3], vec![255; 32 * 32 * 3]].concat();
/// let classes = vec!["black".to_owned(), "white".to_owned()];
/// let images = Dataset::new("tiles", classes, (32, 32), pixels, vec![0, 1])?;
/// let images = RunImages::own(images.clone(), images)?;
/// assert_eq!(images.source().to_string(), "own:tiles");
/// # Ok::<(), residua::data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RunImages {
    source: Source,
    training: Arc<Images>,
    validation: Option<Arc<Images>>,
    test: Arc<Images>,
}

impl RunImages {
    /// Those that a recipe names, seen as it says.
    ///
    /// # Errors
    /// When they cannot be read, or are a program's [own](Self::own).
    pub fn load(recipe: &Recipe) -> Result<Self, RunError> {
        let source = recipe.data.source.clone();
        let (training, test) = (load(recipe, Split::Train)?, Arc::new(load(recipe, Split::Test)?));
        let (training, validation) = held_out(training, recipe)?;
        Ok(Self { source, training: Arc::new(training), validation: validation.map(Arc::new), test })
    }

    /// The same, with images held out of the training images as a recipe says, unless that has been done.
    pub(super) fn holding_out(self, recipe: &Recipe) -> Result<Self, RunError> {
        if self.validation.is_some() || recipe.data.validation.is_none() {
            return Ok(self);
        }
        // Others may go on with all of them.
        let training = Arc::unwrap_or_clone(self.training);
        let (training, validation) = held_out(training, recipe)?;
        Ok(Self { training: Arc::new(training), validation: validation.map(Arc::new), ..self })
    }

    /// A program's own, whatever it holds in memory or makes: usually two [`Dataset`](crate::data::Dataset)s, in the recipe of
    /// their run `own:NAME` with the name of the training set.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] where the test images have other classes or another size than the training images.
    pub fn own(training: impl Into<Images>, test: impl Into<Images>) -> Result<Self, DataError> {
        let (training, test) = (training.into(), test.into());
        let size = |images: &Images| (images.height(), images.width());
        let difference = match (training.classes() == test.classes(), size(&training) == size(&test)) {
            (true, true) => None,
            (false, _) => Some("other classes"),
            (_, false) => Some("another size"),
        };
        let name = training.name().to_owned();
        if let Some(difference) = difference {
            let problem = format!("its test images have {difference} than its training images");
            return Err(DataError::Inconsistent { name, problem });
        }
        let (training, test) = (Arc::new(training), Arc::new(test));
        Ok(Self { source: Source::Own(name), training, validation: None, test })
    }

    /// What a recipe calls them.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What is learnt from.
    pub fn training(&self) -> &Images {
        &self.training
    }

    /// What is chosen by, if any images are held out for that.
    pub fn validation(&self) -> Option<&Images> {
        self.validation.as_deref()
    }

    /// What is tested on.
    pub fn test(&self) -> &Images {
        &self.test
    }

    /// What is odd about their files.
    pub(super) fn warnings(&self) -> Vec<String> {
        let all = [Some(self.training()), self.validation(), Some(self.test())];
        let mut warnings: Vec<String> = Vec::new();
        for warning in all.into_iter().flatten().flat_map(Images::warnings) {
            // Images that are held out are files of the same folder.
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
        warnings
    }

    /// The stream of a recipe's training batches from sample `start` on, of each batch this share.
    pub(crate) fn loader(
        &self,
        recipe: &Recipe,
        normalisation: Normalisation,
        workers: NonZeroUsize,
        start: u64,
        share: Share,
    ) -> Result<Loader, RunError> {
        let config = loader_config(recipe)?.with_workers(workers).from_sample(start).with_share(share);
        Ok(Loader::open(self.training.clone(), normalisation, config)?)
    }
}

/// The training images that a recipe names, seen as it says, without those that it holds out.
///
/// # Errors
/// When they cannot be read, or are a program's [own](RunImages::own).
pub fn training_images(recipe: &Recipe) -> Result<Arc<Images>, RunError> {
    Ok(Arc::new(held_out(load(recipe, Split::Train)?, recipe)?.0))
}

/// The first images of a recipe's stream of training images, as [`Preview::of`] shows them.
///
/// # Errors
/// When they cannot be read or varied as the recipe says.
pub fn preview(
    recipe: &Recipe,
    training: &Arc<Images>,
    count: usize,
    variations: usize,
) -> Result<Preview, RunError> {
    let normalisation = normalisation_of(recipe.data.normalisation, training)?;
    Ok(Preview::of(training, &normalisation, &loader_config(recipe)?, count, variations)?)
}

fn load(recipe: &Recipe, split: Split) -> Result<Images, RunError> {
    let images = recipe.data.source.load(split)?.seen_by(recipe.view()?)?;
    Ok(images.tolerating(recipe.data.unreadable_share))
}

/// The training images that a recipe leaves, and those that it holds out of them.
fn held_out(training: Images, recipe: &Recipe) -> Result<(Images, Option<Images>), RunError> {
    Ok(match &recipe.data.validation {
        None => (training, None),
        Some(validation) => {
            let (training, held) = validation.hold_out(training, recipe.seed)?;
            (training, Some(held))
        }
    })
}

fn loader_config(recipe: &Recipe) -> Result<LoaderConfig, RunError> {
    Ok(LoaderConfig {
        is_shuffled: recipe.data.is_shuffled,
        sampling: recipe.data.sampling,
        mixing: Mixing { mixup: recipe.data.mixup, cutmix: recipe.data.cutmix },
        small_crops: recipe.schedule.small_crops.map(|SmallCrops { iterations, size }| SmallSamples {
            count: iterations.saturating_mul(recipe.optimiser.images() as u64),
            size,
        }),
        ..LoaderConfig::new(recipe.optimiser.batch, recipe.seed)
            .with_augmentation(recipe.augmentation_options()?)
    })
}
