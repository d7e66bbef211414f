//! How fast training images can be made.

use std::num::NonZeroUsize;
use std::time::Instant;

use crate::data::{Share, normalisation_of};
use crate::run::{Recipe, RunError};
use crate::train::RunImages;

/// Images a second that `workers` threads make of a recipe's training set, as training would see them: decoded, varied,
/// normalised, batched. Nothing else runs meanwhile.
///
/// # Errors
/// When the data cannot be read.
pub fn measure_loader(
    recipe: &Recipe,
    workers: NonZeroUsize,
    batches: NonZeroUsize,
) -> Result<f64, RunError> {
    recipe.validate()?;
    let images = RunImages::load(recipe)?;
    let normalisation = normalisation_of(recipe.data.normalisation, images.training())?;
    let mut loader = images.loader(recipe, normalisation, workers, 0, Share::default())?;
    // Until every worker has filled its queue, batches come faster than they are made.
    for _ in 0..3 * workers.get() {
        loader.next_batch()?;
    }
    let (begun, mut images) = (Instant::now(), 0);
    for _ in 0..batches.get() {
        images += loader.next_batch()?.len();
    }
    Ok(images as f64 / begun.elapsed().as_secs_f64())
}
