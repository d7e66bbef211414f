//! Loss and error of a network over a whole data set.

use std::num::NonZeroUsize;

use burn::module::Module;
use residua_infer::Classifier;
use serde::Serialize;

use super::host::{images, to_host};
use crate::data::{Batch, Images, Normalisation, evaluation_batches};
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
/// When the images do not fit the network or the normalisation, or too many files cannot be read.
pub fn evaluate(
    network: &ResNet,
    test_set: &Images,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
    engine: Engine,
) -> Result<Evaluation, RunError> {
    let network = network.valid();
    let device = network.device();
    evaluate_by(test_set, normalisation, batch_size, network.config().classes, |batch| {
        let mut pass = Pass::evaluate().with_engine(engine);
        Ok(to_host(network.forward(images(batch, &device), &mut pass)?))
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
    let classes = classifier.classes();
    evaluate_by(test_set, normalisation, batch_size, classes, |batch| {
        let mut logits = vec![0.; batch.images.len() / classifier.image_len() * classes];
        classifier.logits(&batch.images, &mut logits);
        Ok(logits)
    })
}

/// As [`evaluate`], by whatever finds the logits `[image, crop, class]` of a batch.
pub(super) fn evaluate_by(
    test_set: &Images,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
    classes: usize,
    mut logits_of: impl FnMut(&Batch) -> Result<Vec<f32>, RunError>,
) -> Result<Evaluation, RunError> {
    let (mut loss, mut wrong, mut count) = (0., 0, 0);
    for batch in evaluation_batches(test_set, normalisation, batch_size)? {
        let batch = batch?;
        let logits = mean_over_crops(logits_of(&batch)?, batch.crops, classes);
        // Image by image, so that the sum does not depend on the batches.
        loss = cross_entropies(&logits, &batch.labels).fold(loss, |sum, image| sum + image);
        wrong += misclassified(&logits, &batch.labels);
        count += batch.len() as u64;
    }
    Ok(Evaluation {
        images: count,
        test_loss: loss / count as f64,
        test_error: 100. * wrong as f64 / count as f64,
    })
}

/// Logits of an image from those of its crops, `[image, crop, class]`: the logarithms of the crops' mean probabilities.
fn mean_over_crops(logits: Vec<f32>, crops: usize, classes: usize) -> Vec<f32> {
    if crops == 1 {
        return logits;
    }
    let of_image = |image: &[f32]| {
        let mut mean = vec![0f64; classes];
        for crop in image.chunks_exact(classes) {
            let largest = crop.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |value: f32| f64::from(value - largest).exp();
            let sum: f64 = crop.iter().copied().map(weight).sum();
            mean.iter_mut().zip(crop).for_each(|(mean, &value)| *mean += weight(value) / sum);
        }
        mean.into_iter().map(move |sum| (sum / crops as f64).ln() as f32)
    };
    logits.chunks_exact(crops * classes).flat_map(of_image).collect()
}

/// `log(sum(exp(logits))) - logits[label]` of each row, in f64.
fn cross_entropies(logits: &[f32], labels: &[u16]) -> impl Iterator<Item = f64> {
    let classes = logits.len() / labels.len();
    let of_row = |(row, &label): (&[f32], &u16)| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&value| f64::from(value - largest).exp()).sum();
        sum.ln() + f64::from(largest) - f64::from(row[usize::from(label)])
    };
    logits.chunks_exact(classes).zip(labels).map(of_row)
}

/// How many rows of `logits` have their (first) largest value elsewhere than at the label.
pub(crate) fn misclassified(logits: &[f32], labels: &[u16]) -> u64 {
    let classes = logits.len() / labels.len();
    let is_wrong = |(row, label): &(&[f32], &u16)| {
        let label = usize::from(**label);
        let is_behind =
            |(class, &value): (usize, &f32)| value < row[label] || (value == row[label] && class >= label);
        // Written so that NaN counts as wrong.
        !row.iter().enumerate().all(is_behind)
    };
    logits.chunks_exact(classes).zip(labels).filter(is_wrong).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_averaged_as_probabilities() {
        let half = 0.5f32.ln();
        // Probabilities 1/2, 1/2 and 4/5, 1/5; then twice 1/4, 3/4 with another offset of the logits.
        let logits = vec![3., 3., 4f32.ln(), 0., 7., 7. + 3f32.ln(), 0., 3f32.ln()];
        let means = mean_over_crops(logits, 2, 2);
        for (mean, expected) in means.iter().zip([0.65f32.ln(), 0.35f32.ln(), 0.25f32.ln(), 0.75f32.ln()]) {
            assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
        }
        assert_eq!(mean_over_crops(vec![half, 9.], 1, 2), [half, 9.]);
    }

    #[test]
    fn cross_entropy_of_large_scores_does_not_overflow() {
        let total: f64 = cross_entropies(&[1000., 1000., 0., 3.], &[0, 0]).sum();
        let expected = 2f64.ln() + 3. + (1. + (-3f64).exp()).ln();
        assert!((total - expected).abs() < 1e-9, "{total} {expected}");
    }

    #[test]
    fn the_first_of_equal_scores_is_the_prediction_and_nan_is_wrong() {
        assert_eq!(misclassified(&[1., 1., 0., 2.], &[0, 1]), 0);
        assert_eq!(misclassified(&[1., 1., 2., 0.], &[1, 1]), 2);
        assert_eq!(misclassified(&[f32::NAN, 1., 1., f32::NAN], &[1, 0]), 2);
    }
}
