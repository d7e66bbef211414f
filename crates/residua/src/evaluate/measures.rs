//! What a network's answers to a test set come to.

use serde::Serialize;

use super::calibration::Calibration;
use super::confusions::Confusions;
use super::scored::Answer;
use crate::run::RunError;

/// How good a network's answers are. A measure that is the share of nothing is none, neither 0 nor NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// Images that were classified.
    pub images: u64,
    /// Mean cross-entropy.
    pub test_loss: f64,
    /// Misclassified images, in percent.
    pub test_error: f64,
    /// Images whose class is not among the five likeliest, in percent; none where there are no more than five classes.
    pub top5_error: Option<f64>,
    /// The mean of the errors of the classes that have images, in percent.
    pub mean_per_class_error: f64,
    /// Each class.
    pub classes: Vec<ClassMeasures>,
    /// Whether it is as often right as it says.
    pub calibration: Calibration,
    /// Which classes are taken for which.
    pub confusions: Confusions,
}

/// How good a network's answers are as to one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassMeasures {
    /// Images of the class.
    pub images: u64,
    /// Images that are taken for it.
    pub predicted: u64,
    /// The share of its images that are taken for another, in percent; none where it has no images.
    pub error: Option<f64>,
    /// The share of the images taken for it that are of it, 0 to 1; none where no image is taken for it.
    pub precision: Option<f64>,
    /// The share of its images that are taken for it, 0 to 1; none where it has no images.
    pub recall: Option<f64>,
    /// `2 right / (images + predicted)`, the harmonic mean of precision and recall; none where there are neither.
    pub f1: Option<f64>,
}

/// How many answers a network has for top-5 error.
const TOP: usize = 5;

impl Measures {
    /// The measures of answers between so many classes.
    ///
    /// # Errors
    /// When there is no answer, or one says nothing.
    ///
    /// # Panics
    /// When an answer is of another class.
    pub fn of(answers: &[Answer], classes: usize) -> Result<Self, RunError> {
        if answers.is_empty() {
            return Err(RunError::NoTestImages);
        }
        if let Some(answer) = answers.iter().find(|answer| !answer.is_number()) {
            return Err(RunError::NoNumber { image: answer.image });
        }
        let images = answers.len() as u64;
        let percent = |count: usize| 100. * count as f64 / images as f64;
        let beyond = |rank: usize| percent(answers.iter().filter(|answer| answer.rank >= rank).count());
        let confusions = Confusions::of(answers, classes);
        let classes: Vec<_> = (0..classes).map(|class| ClassMeasures::of(&confusions, class)).collect();
        let errors: Vec<f64> = classes.iter().filter_map(|class| class.error).collect();
        Ok(Self {
            images,
            test_loss: answers.iter().fold(0., |sum, answer| sum + answer.loss) / images as f64,
            test_error: beyond(1),
            top5_error: (classes.len() > TOP).then(|| beyond(TOP)),
            mean_per_class_error: errors.iter().sum::<f64>() / errors.len() as f64,
            classes,
            calibration: Calibration::of(answers),
            confusions,
        })
    }

    /// The classes that have images, those with the highest error first, of equals in their order.
    pub fn hardest_classes(&self) -> Vec<usize> {
        let error = |class: &usize| self.classes[*class].error;
        let mut classes: Vec<usize> =
            (0..self.classes.len()).filter(|class| error(class).is_some()).collect();
        classes.sort_by(|a, b| error(b).unwrap_or(0.).total_cmp(&error(a).unwrap_or(0.)));
        classes
    }
}

impl ClassMeasures {
    fn of(confusions: &Confusions, class: usize) -> Self {
        let (images, predicted) = (confusions.images_of(class), confusions.taken_for(class));
        let right = confusions.count(class, class);
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            images,
            predicted,
            error: share(images - right, images).map(|share| 100. * share),
            precision: share(right, predicted),
            recall: share(right, images),
            f1: share(2 * right, images + predicted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(label: usize, predicted: usize, rank: usize) -> Answer {
        Answer { image: 0, label, predicted, rank, confidence: 0.5, loss: 1. }
    }

    #[test]
    fn shares_of_nothing_are_none() {
        // Class 2 has no images, class 1 is never predicted, class 3 is not there at all.
        let answers = [answer(0, 0, 0), answer(0, 2, 1), answer(1, 0, 3), answer(0, 0, 0)];
        let measures = Measures::of(&answers, 4).unwrap();
        let third = 1. / 3.;
        assert_eq!((measures.images, measures.test_error, measures.top5_error), (4, 50., None));
        assert_eq!(measures.mean_per_class_error, (100. * third + 100.) / 2.);
        let expected = [
            (3, 3, Some(100. * third), Some(2. / 3.), Some(2. / 3.), Some(2. / 3.)),
            (1, 0, Some(100.), None, Some(0.), Some(0.)),
            (0, 1, None, Some(0.), None, Some(0.)),
            (0, 0, None, None, None, None),
        ];
        for (class, (images, predicted, error, precision, recall, f1)) in
            measures.classes.iter().zip(expected)
        {
            assert_eq!(*class, ClassMeasures { images, predicted, error, precision, recall, f1 });
        }
        assert_eq!(measures.hardest_classes(), [1, 0]);
        assert_eq!(measures.confusions.mistakes(), [(0, 2, 1), (1, 0, 1)]);
        assert_eq!(measures.confusions.pairs().collect::<Vec<_>>(), [(0, 0, 2), (0, 2, 1), (1, 0, 1)]);
        assert!(matches!(Measures::of(&[], 4), Err(RunError::NoTestImages)));
        let nothing = Answer { image: 7, loss: f64::NAN, ..answer(0, 0, 0) };
        let found = Measures::of(&[answer(0, 0, 0), nothing], 4);
        assert!(matches!(found, Err(RunError::NoNumber { image: 7 })), "{found:?}");
    }

    #[test]
    fn the_fifth_likeliest_counts_and_the_sixth_does_not() {
        let answers = [answer(0, 0, 0), answer(0, 1, 4), answer(0, 1, 5), answer(5, 1, 1)];
        assert_eq!(Measures::of(&answers, 6).unwrap().top5_error, Some(25.));
    }
}
