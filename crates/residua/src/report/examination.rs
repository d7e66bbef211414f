//! A trained network's answers, image by image.

use std::num::NonZeroUsize;

use crate::data::Images;
use crate::evaluate::{Answer, Measures, TestOptions, Trained};
use crate::ops::Engine;
use crate::run::RunError;

/// What a network makes of a test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Examination {
    /// How good its answers are.
    pub measures: Measures,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The images with the highest loss, worst first.
    pub hardest: Vec<HardImage>,
}

/// An image that a network finds hard.
#[derive(Debug, Clone, PartialEq)]
pub struct HardImage {
    /// What the network says of it.
    pub answer: Answer,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Pixels as the network saw them, `[height, width, channel]`.
    pub pixels: Vec<u8>,
}

impl Examination {
    /// Shows every image of a test set to a network, the middle of it, and keeps the `hardest` of them. Probabilities are at the temperature that the
    /// network's file says.
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
        let temperature = trained.info.temperature.unwrap_or_default();
        let options = TestOptions { temperature, ..TestOptions::new(batch_size) };
        let mut answers = Vec::with_capacity(test_set.len());
        trained.score::<RunError>(test_set, &options, engine, |scored| {
            answers.push(scored.answer());
            Ok(())
        })?;
        let measures = Measures::of(&answers, classes.len())?;
        let size = [test_set.height(), test_set.width()];
        let hard_image = |answer: Answer| {
            Ok(HardImage { answer, size, pixels: test_set.image(answer.image)?.into_owned() })
        };
        let hardest: Result<_, RunError> =
            worst(&answers, hardest).into_iter().copied().map(hard_image).collect();
        Ok(Self { measures, classes, hardest: hardest? })
    }
}

/// So many answers with the highest losses, the highest first; of equals the first.
fn worst(answers: &[Answer], count: usize) -> Vec<&Answer> {
    let mut worst: Vec<&Answer> = answers.iter().collect();
    worst.sort_by(|a, b| b.loss.total_cmp(&a.loss));
    worst.truncate(count);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_answers_are_kept() {
        let answer = |image: usize, loss: f64| Answer {
            image,
            label: 0,
            predicted: 0,
            rank: 0,
            confidence: 0.5,
            loss,
        };
        let answers = [answer(0, 1.), answer(1, 3.), answer(2, 2.), answer(3, 3.), answer(4, 0.1)];
        let images = |count| worst(&answers, count).iter().map(|answer| answer.image).collect::<Vec<_>>();
        assert_eq!((images(2), images(3), images(9).len()), (vec![1, 3], vec![1, 3, 2], 5));
    }
}
