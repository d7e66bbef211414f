//! Loss and error of a network over a whole data set.

use std::num::NonZeroUsize;

use burn::module::Module;
use serde::Serialize;

use super::error::TrainError;
use super::step::{images, misclassified, to_host};
use crate::data::{Dataset, Normalisation, evaluation_batches};
use crate::nn::{Pass, ResNet};
use crate::ops::Engine;

/// What a network reaches on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images of the data set.
    pub images: u64,
    /// Mean cross-entropy.
    pub test_loss: f64,
    /// Misclassified images, in percent.
    pub test_error: f64,
}

/// Runs `network` over `dataset` in evaluation mode, single view, `batch_size` images at a time.
///
/// # Errors
/// When the images do not fit the network or the normalisation.
pub fn evaluate(
    network: &ResNet,
    dataset: &Dataset,
    normalisation: &Normalisation,
    batch_size: NonZeroUsize,
    engine: Engine,
) -> Result<Evaluation, TrainError> {
    let network = network.valid();
    let device = network.device();
    let (mut loss, mut wrong) = (0., 0);
    for batch in evaluation_batches(dataset, normalisation, batch_size)? {
        let mut pass = Pass::evaluate().with_engine(engine);
        let logits = to_host(network.forward(images(&batch, &device), &mut pass)?);
        // Image by image, so that the sum does not depend on the batches.
        loss = cross_entropies(&logits, &batch.labels).fold(loss, |sum, image| sum + image);
        wrong += misclassified(&logits, &batch.labels);
    }
    let count = dataset.len() as f64;
    Ok(Evaluation {
        images: dataset.len() as u64,
        test_loss: loss / count,
        test_error: 100. * wrong as f64 / count,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_large_scores_does_not_overflow() {
        let total: f64 = cross_entropies(&[1000., 1000., 0., 3.], &[0, 0]).sum();
        let expected = 2f64.ln() + 3. + (1. + (-3f64).exp()).ln();
        assert!((total - expected).abs() < 1e-9, "{total} {expected}");
    }
}
