//! Loss and error of a network over a whole data set, in three numbers.

use std::num::NonZeroUsize;

use burn::module::Module;
use residua_infer::Classifier;
use serde::Serialize;

use super::host::{images, to_host};
use super::scored::Scored;
use super::test_pass::{TestOptions, score_by, score_by_classifier};
use crate::data::{Images, Normalisation};
use crate::nn::{Pass, ResNet};
use crate::ops::Engine;
use crate::run::RunError;

/// What a network reaches on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images of the data set, unreadable files not counted.
    pub images: u64,
    /// Mean cross-entropy.
    pub test_loss: f64,
    /// Misclassified images, in percent.
    pub test_error: f64,
}

/// Runs `network` over all `images` in evaluation mode, as their view shows them, `batch_size` images at a time. Of several
/// crops of an image the mean of their probabilities counts.
///
/// # Errors
/// When the images do not fit the network or the normalisation, or too many files cannot be read, or all.
pub fn evaluate(
    network: &ResNet,
    test_set: &Images,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
    engine: Engine,
) -> Result<Evaluation, RunError> {
    let network = network.valid();
    let device = network.device();
    let (options, classes) = (TestOptions::new(batch_size), network.config().classes);
    evaluation_of(|scored| {
        let logits_of = |batch: &_| {
            let mut pass = Pass::evaluate().with_engine(engine);
            Ok(to_host(network.forward(images(batch, &device), &mut pass)?))
        };
        score_by(test_set, normalisation, &options, classes, logits_of, scored)
    })
}

/// As [`evaluate`], by a network that classifies without tensors.
///
/// # Errors
/// As there.
pub fn evaluate_classifier(
    classifier: &Classifier,
    test_set: &Images,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
) -> Result<Evaluation, RunError> {
    let options = TestOptions::new(batch_size);
    evaluation_of(|scored| score_by_classifier(classifier, test_set, normalisation, &options, scored))
}

/// The evaluation of what `score` tells of every image.
pub(super) fn evaluation_of(
    score: impl FnOnce(&mut dyn FnMut(Scored<'_>) -> Result<(), RunError>) -> Result<(), RunError>,
) -> Result<Evaluation, RunError> {
    let (mut loss, mut wrong, mut count) = (0., 0, 0);
    score(&mut |scored| {
        loss += scored.loss();
        wrong += u64::from(scored.rank() > 0);
        count += 1;
        Ok(())
    })?;
    if count == 0 {
        return Err(RunError::NoTestImages);
    }
    Ok(Evaluation {
        images: count,
        test_loss: loss / count as f64,
        test_error: 100. * wrong as f64 / count as f64,
    })
}
