//! Test images, each shown to a network once.

use std::num::NonZeroUsize;
use std::ops::Range;

use residua_infer::view::CHANNELS;
use residua_infer::{Classifier, Temperature};

use super::scored::{Scored, mean_over_crops};
use crate::data::{Batch, Images, Normalisation, NumberedBatch, evaluation_batch};
use crate::run::RunError;

/// How test images are shown to a network, and what becomes of its logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestOptions {
    /// Images that are shown together. It does not change the results.
    pub batch_size: NonZeroUsize,
    /// Whether their mirror images are shown, too.
    pub mirroring: Mirroring,
    /// What logits are divided by before the softmax.
    pub temperature: Temperature,
}

/// Whether a network is shown the mirror image (left and right changed) of each crop of a test image, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mirroring {
    /// Images as they are.
    #[default]
    No,
    /// The mean of the probabilities of the image and its mirror image counts.
    Also,
}

impl TestOptions {
    /// All images as they are.
    pub fn new(batch_size: NonZeroUsize) -> Self {
        Self { batch_size, mirroring: Mirroring::No, temperature: Temperature::ONE }
    }
}

/// Shows test images to a network that classifies without tensors, in their order and as their view shows them; `scored` is told what it says
/// of each. Of several crops of an image the mean of their probabilities counts. Files that cannot be read are left out.
///
/// # Errors
/// When the images do not fit the normalisation, too many files cannot be read, or `scored` fails.
///
/// # Panics
/// When the images do not fit the network.
pub fn score_by_classifier<E: From<RunError>>(
    classifier: &Classifier,
    test_set: &Images,
    normalisation: &Normalisation,
    options: &TestOptions,
    scored: impl FnMut(Scored<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let classes = classifier.classes();
    let logits_of = |batch: &Batch| {
        let mut logits = vec![0.; batch.images.len() / classifier.image_len() * classes];
        classifier.logits(&batch.images, &mut logits);
        Ok(logits)
    };
    score_by(test_set, 0..test_set.len(), normalisation, options, classes, logits_of, scored)
}

/// As [`score_by_classifier`], of some of the images, by whatever finds the logits `[image, crop, class]` of a batch.
pub(super) fn score_by<E: From<RunError>>(
    test_set: &Images,
    part: Range<usize>,
    normalisation: &Normalisation,
    options: &TestOptions,
    classes: usize,
    mut logits_of: impl FnMut(&Batch) -> Result<Vec<f32>, RunError>,
    mut scored: impl FnMut(Scored<'_>) -> Result<(), E>,
) -> Result<(), E> {
    normalisation.check(test_set.height(), test_set.width()).map_err(|error| data(error.into()))?;
    let all: Vec<usize> = part.collect();
    for chosen in all.chunks(options.batch_size.get()) {
        let NumberedBatch { batch, numbers } =
            evaluation_batch(test_set, normalisation, chosen).map_err(data)?;
        if numbers.is_empty() {
            continue;
        }
        let batch = match options.mirroring {
            Mirroring::No => batch,
            Mirroring::Also => with_mirror_images(&batch),
        };
        let logits = logits_of(&batch)?;
        let (logits, temperature) = mean_over_crops(logits, batch.crops, classes, options.temperature);
        // Image by image, so that sums do not depend on the batches.
        for ((&image, &label), logits) in numbers.iter().zip(&batch.labels).zip(logits.chunks_exact(classes))
        {
            scored(Scored::new(image, usize::from(label), logits, temperature))?;
        }
    }
    Ok(())
}

fn data(error: crate::data::DataError) -> RunError {
    error.into()
}

/// The same images with more crops: behind those of each image their mirror images. What is mirrored are the normalised numbers, as in training
/// on images of one size.
fn with_mirror_images(batch: &Batch) -> Batch {
    let line = batch.width * CHANNELS;
    let of_image = batch.crops * batch.height * line;
    let mut images = Vec::with_capacity(2 * batch.images.len());
    for image in batch.images.chunks_exact(of_image) {
        images.extend_from_slice(image);
        for line in image.chunks_exact(line) {
            line.rchunks_exact(CHANNELS).for_each(|pixel| images.extend_from_slice(pixel));
        }
    }
    let labels = batch.labels.clone();
    Batch {
        crops: 2 * batch.crops,
        first_sample: batch.first_sample,
        ..Batch::new(images, labels, batch.height, batch.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn one(value: usize) -> NonZeroUsize {
        NonZeroUsize::new(value).unwrap()
    }

    /// Three images of 1x2 pixels.
    fn images() -> Images {
        let pixels = vec![0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 51, 51, 51, 51, 51, 51];
        Dataset::new("tiny", vec!["a".into(), "b".into()], (1, 2), pixels, vec![1, 0, 1]).unwrap().into()
    }

    const PLAIN: Normalisation = Normalisation::PerChannel { mean: [0.; 3], deviation: [1.; 3] };

    /// What a network says whose logits are 0 and the sum over the left pixel.
    fn scores(options: &TestOptions) -> Vec<(usize, usize, [f64; 2])> {
        let mut scores = Vec::new();
        let logits_of = |batch: &Batch| {
            let crops = batch.images.chunks_exact(6);
            Ok(crops.flat_map(|crop| [0., crop[..3].iter().sum()]).collect())
        };
        score_by::<RunError>(&images(), 0..3, &PLAIN, options, 2, logits_of, |scored| {
            scores.push((scored.image, scored.label, scored.probabilities().try_into().unwrap()));
            Ok(())
        })
        .unwrap();
        scores
    }

    fn sigmoid(x: f64) -> [f64; 2] {
        let probability = 1. / (1. + (-x).exp());
        [1. - probability, probability]
    }

    fn assert_near(found: &[(usize, usize, [f64; 2])], expected: &[(usize, usize, [f64; 2])]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0, found.1), (expected.0, expected.1));
            assert!(found.2.iter().zip(expected.2).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn images_come_in_their_order_whatever_the_batches() {
        let sums = [0., 1., 0.6];
        let expected = [(0, 1, sigmoid(sums[0])), (1, 0, sigmoid(sums[1])), (2, 1, sigmoid(sums[2]))];
        for batch_size in [1, 2, 3, usize::MAX] {
            let options = TestOptions::new(one(batch_size));
            assert_near(&scores(&options), &expected);
        }
    }

    #[test]
    fn mirror_images_count_as_much_as_images() {
        let mean = |a: f64, b: f64| {
            let (a, b) = (sigmoid(a), sigmoid(b));
            [(a[0] + b[0]) / 2., (a[1] + b[1]) / 2.]
        };
        for value in [1., 2.] {
            let expected =
                [(0, 1, mean(0., 3. / value)), (1, 0, mean(1. / value, 0.)), (2, 1, sigmoid(0.6 / value))];
            for batch_size in [1, 2] {
                let options = TestOptions {
                    mirroring: Mirroring::Also,
                    temperature: Temperature::new(value).unwrap(),
                    ..TestOptions::new(one(batch_size))
                };
                assert_near(&scores(&options), &expected);
            }
        }
    }
}
