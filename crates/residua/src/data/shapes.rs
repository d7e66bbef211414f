//! `shapes`: built-in images, so that everything can be tried without a download.
//!
//! Ten figures in random colours, sizes, places and rotations, on textured ground with strokes and noise
//! about them. Figure and ground have the same distribution of colours, so that the mean image of every class
//! is the same: softmax regression on the pixels stays above 70 % test error, where a pre-activation
//! ResNet-20 (mini-batch 128, learning rate 0.1) has about 65 % after two epochs, 20 % after three and 2 %
//! after four.

mod figure;
mod painting;

use self::{
    figure::FIGURES,
    painting::{SIDE, paint},
};
use super::{
    dataset::{Dataset, Split},
    random_stream::{Purpose, random_stream},
};

/// Number of training images of [`shapes`].
pub const SHAPES_TRAINING_IMAGES: usize = 5_000;

/// Number of test images of [`shapes`].
pub const SHAPES_TEST_IMAGES: usize = 1_000;

/// Number of classes of [`shapes`].
pub(super) const SHAPES_CLASSES: usize = FIGURES.len();

/// Seed of the images; another would make another data set.
const SEED: u64 = 160_305_027;

/// The built-in data set: 32x32 images of arrow, circle, crescent, cross, heart, ring, semicircle, square,
/// star and triangle, equally many of each and one after the other, the same on every machine.
///
/// There are [`SHAPES_TRAINING_IMAGES`] and [`SHAPES_TEST_IMAGES`]; both are drawn in the same way, from
/// different random numbers.
pub fn shapes(split: Split) -> Dataset {
    match split {
        Split::Train => draw(Purpose::TrainingShape, SHAPES_TRAINING_IMAGES),
        Split::Test => draw(Purpose::TestShape, SHAPES_TEST_IMAGES),
    }
}

fn draw(purpose: Purpose, images: usize) -> Dataset {
    let mut pixels = Vec::with_capacity(images * SIDE * SIDE * 3);
    let mut labels = Vec::with_capacity(images);
    for image in 0..images {
        let label = image % FIGURES.len();
        pixels.extend(paint(&FIGURES[label], &mut random_stream(SEED, purpose, image as u64)));
        labels.push(label as u16);
    }
    let classes = FIGURES.iter().map(|figure| figure.name.into()).collect();
    Dataset::new("shapes", classes, (SIDE, SIDE), pixels, labels).expect("every figure is a class")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_the_documented_sizes() {
        for (split, images) in [(Split::Train, SHAPES_TRAINING_IMAGES), (Split::Test, SHAPES_TEST_IMAGES)] {
            let dataset = shapes(split);
            assert_eq!((dataset.len(), dataset.height(), dataset.width()), (images, 32, 32));
            assert!((0..images).all(|k| usize::from(dataset.label(k)) == k % 10));
            assert_eq!(dataset.classes()[8], "star");
        }
    }

    #[test]
    fn no_image_is_both_trained_and_tested_on() {
        let (train, test) = (draw(Purpose::TrainingShape, 50), draw(Purpose::TestShape, 50));
        assert!((0..50).all(|k| (0..50).all(|other| train.image(k) != test.image(other))));
        assert!((1..50).all(|k| train.image(k) != train.image(0)));
    }

    /// Published errors on `shapes` compare only as long as the images stay what they are, on every machine.
    #[test]
    fn the_images_are_the_same_everywhere() {
        let fingerprint = |purpose| {
            let dataset = draw(purpose, 40);
            dataset.pixels().iter().fold(0u64, |hash, &pixel| hash.wrapping_mul(1_000_003) ^ u64::from(pixel))
        };
        assert_eq!([fingerprint(Purpose::TrainingShape), fingerprint(Purpose::TestShape)], FINGERPRINTS);
    }

    const FINGERPRINTS: [u64; 2] = [343_759_785_683_804_998, 5_029_756_882_708_779_111];

    /// Softmax regression on 8x8 averages.
    #[test]
    fn a_linear_classifier_fails() {
        let (train, test) =
            (features(&draw(Purpose::TrainingShape, 1000)), features(&draw(Purpose::TestShape, 500)));
        let mut weights = vec![[0.0f32; 10]; FEATURES];
        for epoch in 0..30 {
            for (sample, x) in train.iter().enumerate() {
                let mut scores = scores(&weights, x);
                let largest = scores.iter().copied().fold(f32::MIN, f32::max);
                scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
                let sum: f32 = scores.iter().sum();
                let rate = 0.02 / (1.0 + epoch as f32);
                let step: [f32; 10] = std::array::from_fn(|class| {
                    rate * (f32::from(u8::from(class == sample % 10)) - scores[class] / sum)
                });
                for (row, x) in weights.iter_mut().zip(x) {
                    row.iter_mut().zip(step).for_each(|(weight, step)| *weight += step * x);
                }
            }
        }
        let error = |samples: &[Vec<f32>]| {
            let wrong = samples.iter().enumerate().filter(|(sample, x)| {
                let scores = scores(&weights, x);
                scores.iter().any(|&score| score > scores[sample % 10])
            });
            wrong.count() as f64 / samples.len() as f64
        };
        let (training_error, test_error) = (error(&train), error(&test));
        assert!(
            training_error < 0.7,
            "the classifier does not even learn its training images: {training_error}"
        );
        assert!(test_error > 0.65, "a linear classifier should fail, not reach {test_error}");
    }

    const FEATURES: usize = 8 * 8 * 3 + 1;

    /// Averages over 4x4 pixels, centred, and a constant.
    fn features(dataset: &Dataset) -> Vec<Vec<f32>> {
        let block = |image: usize, place: usize| {
            let (row, column, channel) = (place / 24 * 4, place / 3 % 8 * 4, place % 3);
            let at = |k: usize| {
                f32::from(dataset.image(image)[((row + k / 4) * 32 + column + k % 4) * 3 + channel])
            };
            (0..16).map(at).sum::<f32>() / 16.0 / 73.0 - 1.75
        };
        let image = |image| (0..FEATURES - 1).map(|place| block(image, place)).chain([1.0]).collect();
        (0..dataset.len()).map(image).collect()
    }

    fn scores(weights: &[[f32; 10]], x: &[f32]) -> [f32; 10] {
        let mut scores = [0.0; 10];
        for (row, x) in weights.iter().zip(x) {
            scores.iter_mut().zip(row).for_each(|(score, weight)| *score += weight * x);
        }
        scores
    }
}
