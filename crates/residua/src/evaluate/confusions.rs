//! Which classes are taken for which.

use std::collections::BTreeMap;

use super::scored::Answer;

/// How many images of each class are taken for each. Only pairs that occur take memory, so that there may be many classes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusions {
    /// By true class and predicted class.
    pairs: BTreeMap<(usize, usize), u64>,
    images: Vec<u64>,
    predicted: Vec<u64>,
}

impl Confusions {
    /// The confusions of answers between so many classes.
    ///
    /// # Panics
    /// When an answer is of another class.
    pub fn of(answers: &[Answer], classes: usize) -> Self {
        let mut confusions =
            Self { pairs: BTreeMap::new(), images: vec![0; classes], predicted: vec![0; classes] };
        for answer in answers {
            *confusions.pairs.entry((answer.label, answer.predicted)).or_default() += 1;
            confusions.images[answer.label] += 1;
            confusions.predicted[answer.predicted] += 1;
        }
        confusions
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.images.len()
    }

    /// Images of class `label` that were taken for class `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.pairs.get(&(label, predicted)).copied().unwrap_or(0)
    }

    /// Images of class `label`.
    pub fn images_of(&self, label: usize) -> u64 {
        self.images[label]
    }

    /// Images that were taken for class `predicted`.
    pub fn taken_for(&self, predicted: usize) -> u64 {
        self.predicted[predicted]
    }

    /// True class, predicted class and images of all pairs that occur, right answers included, in the order of the classes.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.pairs.iter().map(|(&(label, predicted), &count)| (label, predicted, count))
    }

    /// Pairs of classes that were mixed up (true class, predicted class, images), most frequent first.
    pub fn mistakes(&self) -> Vec<(usize, usize, u64)> {
        let mut mistakes: Vec<_> = self.pairs().filter(|(label, predicted, _)| label != predicted).collect();
        mistakes.sort_by_key(|&(label, predicted, count)| (u64::MAX - count, label, predicted));
        mistakes
    }
}
