//! Loss and error of a network over a whole data set, in three numbers.

use std::num::NonZeroUsize;
use std::ops::Range;

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
    let all = 0..test_set.len();
    Evaluation::of(&scores(network, test_set, all, normalisation, batch_size, engine)?)
}

/// What a network makes of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    loss: f64,
    is_wrong: bool,
}

/// As [`evaluate`], of some of the images, image by image.
pub(crate) fn scores(
    network: &ResNet,
    test_set: &Images,
    part: Range<usize>,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
    engine: Engine,
) -> Result<Vec<Score>, RunError> {
    let network = network.valid();
    let device = network.device();
    let (options, classes) = (TestOptions::new(batch_size), network.config().classes);
    let logits_of = |batch: &_| {
        let mut pass = Pass::evaluate().with_engine(engine);
        Ok(to_host(network.forward(images(batch, &device), &mut pass)?))
    };
    let mut scores = Vec::with_capacity(part.len());
    score_by(test_set, part, normalisation, &options, classes, logits_of, |scored| {
        scores.push(Score::of(&scored));
        Ok::<_, RunError>(())
    })?;
    Ok(scores)
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
    let mut scores = Vec::new();
    score(&mut |scored| {
        scores.push(Score::of(&scored));
        Ok(())
    })?;
    Evaluation::of(&scores)
}

impl Score {
    fn of(scored: &Scored<'_>) -> Self {
        Self { loss: scored.loss(), is_wrong: scored.rank() > 0 }
    }

    /// As two numbers.
    pub(crate) fn to_numbers(self) -> [f64; 2] {
        [self.loss, f64::from(u8::from(self.is_wrong))]
    }

    /// The score that has become these two numbers.
    pub(crate) fn from_numbers([loss, is_wrong]: [f64; 2]) -> Self {
        Self { loss, is_wrong: is_wrong != 0. }
    }
}

impl Evaluation {
    /// Of all images, in their order.
    pub(crate) fn of(scores: &[Score]) -> Result<Self, RunError> {
        let count = scores.len();
        if count == 0 {
            return Err(RunError::NoTestImages);
        }
        let wrong = scores.iter().filter(|score| score.is_wrong).count();
        Ok(Self {
            images: count as u64,
            test_loss: scores.iter().fold(0., |sum, score| sum + score.loss) / count as f64,
            test_error: 100. * wrong as f64 / count as f64,
        })
    }
}
