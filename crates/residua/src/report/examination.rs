//! A trained network's answers, image by image.

use std::num::NonZeroUsize;

use burn::tensor::activation;

use crate::data::{Images, evaluation_batches};
use crate::evaluate::{Trained, images, to_host};
use crate::ops::Engine;
use crate::run::RunError;

/// What a network makes of a test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Examination {
    /// Images of class `row` that were taken for class `column`, row by row.
    pub confusions: Vec<u64>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The images with the highest loss, worst first.
    pub hardest: Vec<HardImage>,
}

/// An image that a network finds hard.
#[derive(Debug, Clone, PartialEq)]
pub struct HardImage {
    /// Its class.
    pub label: usize,
    /// The class that it was taken for.
    pub predicted: usize,
    /// The probability of that class.
    pub probability: f32,
    /// Minus the logarithm of its own class's probability.
    pub loss: f32,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Pixels as the network saw them, `[height, width, channel]`.
    pub pixels: Vec<u8>,
}

impl Examination {
    /// Shows every image of a test set to a network, the middle of it, and keeps the `hardest` of them.
    ///
    /// # Errors
    /// When the images do not fit the network or the normalisation, or too many files cannot be read.
    pub fn of(
        trained: &Trained,
        test_set: &Images,
        batch_size: NonZeroUsize,
        engine: Engine,
        hardest: usize,
    ) -> Result<Self, RunError> {
        let classes = trained.info.classes.clone();
        let device = trained.network.device();
        let normalisation = &trained.info.normalisation;
        let mut examination =
            Self { confusions: vec![0; classes.len().pow(2)], classes, hardest: Vec::new() };
        for batch in evaluation_batches(test_set, normalisation, batch_size)? {
            let batch = batch?;
            let logits = trained.network.logits(images(&batch, &device), engine)?;
            let probabilities = to_host(activation::softmax(logits, 1));
            let size = batch.images.len() / batch.len();
            for (index, row) in probabilities.chunks_exact(examination.classes.len()).enumerate() {
                let label = usize::from(batch.labels[index]);
                examination.note(label, row, hardest, || HardImage {
                    label,
                    predicted: 0,
                    probability: 0.,
                    loss: 0.,
                    size: [batch.height, batch.width],
                    pixels: normalisation.to_pixels(&batch.images[index * size..][..size]),
                });
            }
        }
        Ok(examination)
    }

    /// Images of class `label` that were taken for class `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.confusions[label * self.classes.len() + predicted]
    }

    /// Test images of class `label`.
    pub fn images_of(&self, label: usize) -> u64 {
        self.confusions[label * self.classes.len()..][..self.classes.len()].iter().sum()
    }

    /// Misclassified images of class `label`, in percent; none if it has no test images.
    pub fn error_of(&self, label: usize) -> Option<f64> {
        let images = self.images_of(label);
        (images > 0).then(|| 100. * (images - self.count(label, label)) as f64 / images as f64)
    }

    /// Pairs of classes that were mixed up (true class, predicted class, images), most frequent first.
    pub fn frequent_confusions(&self) -> Vec<(usize, usize, u64)> {
        let classes = self.classes.len();
        let pairs = (0..classes).flat_map(|label| (0..classes).map(move |predicted| (label, predicted)));
        let mut pairs: Vec<_> = pairs
            .filter(|(label, predicted)| label != predicted)
            .map(|(label, predicted)| (label, predicted, self.count(label, predicted)))
            .filter(|(.., count)| *count > 0)
            .collect();
        pairs.sort_by_key(|&(label, predicted, count)| (u64::MAX - count, label, predicted));
        pairs
    }

    fn note(&mut self, label: usize, row: &[f32], hardest: usize, image: impl FnOnce() -> HardImage) {
        // The first of equals, as in tests.
        let better = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
        let predicted = (0..row.len()).fold(0, better);
        self.confusions[label * self.classes.len() + predicted] += 1;
        let loss = -row[label].max(f32::MIN_POSITIVE).ln();
        let place = self.hardest.partition_point(|hard| hard.loss >= loss);
        if place < hardest {
            let image = HardImage { predicted, probability: row[predicted], loss, ..image() };
            self.hardest.insert(place, image);
            self.hardest.truncate(hardest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(label: usize) -> HardImage {
        HardImage {
            label,
            predicted: 0,
            probability: 0.,
            loss: 0.,
            size: [1, 1],
            pixels: vec![label as u8; 3],
        }
    }

    #[test]
    fn answers_are_counted_and_the_worst_are_kept() {
        let classes: Vec<String> = ["cat", "dog", "cow"].map(str::to_owned).into();
        let mut seen = Examination { confusions: vec![0; 9], classes, hardest: Vec::new() };
        for (label, row) in [
            (0, [0.9, 0.05, 0.05]),
            (0, [0.2, 0.7, 0.1]),
            (1, [0.4, 0.4, 0.2]),
            (1, [0.8, 0.1, 0.1]),
            (1, [0., 1., 0.]),
        ] {
            seen.note(label, &row, 2, || image(label));
        }
        assert_eq!(seen.confusions, [1, 1, 0, 2, 1, 0, 0, 0, 0]);
        assert_eq!(
            [seen.error_of(0), seen.error_of(1), seen.error_of(2)],
            [Some(50.), Some(200. / 3.), None]
        );
        assert_eq!(seen.frequent_confusions(), [(1, 0, 2), (0, 1, 1)]);
        let kept: Vec<_> =
            seen.hardest.iter().map(|hard| (hard.label, hard.predicted, hard.probability)).collect();
        assert_eq!(kept, [(1, 0, 0.8), (0, 1, 0.7)]);
        assert!((seen.hardest[0].loss - 0.1f32.ln().abs()).abs() < 1e-6);
    }
}
