//! What a network's logits say of one image.

use residua_infer::Temperature;

/// The logits of a test image whose class is known.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// The image's number in its data set.
    pub image: usize,
    /// Its class.
    pub label: usize,
    /// What the network says, of each class. Where it was shown several crops: the logarithms of their mean probabilities.
    logits: &'a [f32],
    /// What the logits are still to be divided by.
    temperature: f64,
}

/// What a network makes of a test image, in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The image's number in its data set.
    pub image: usize,
    /// Its class.
    pub label: usize,
    /// The class that it is taken for: the likeliest, the first of equals.
    pub predicted: usize,
    /// Classes that are taken for likelier than its own: 0 if it is classified rightly.
    pub rank: usize,
    /// The probability of the class that it is taken for.
    pub confidence: f64,
    /// Minus the logarithm of its own class's probability.
    pub loss: f64,
}

impl<'a> Scored<'a> {
    /// The `logits` of an image of class `label`, to be divided by a temperature.
    ///
    /// # Panics
    /// When there is no logit of that class.
    pub fn new(image: usize, label: usize, logits: &'a [f32], temperature: Temperature) -> Self {
        assert!(label < logits.len(), "class {label} of {}", logits.len());
        Self { image, label, logits, temperature: temperature.get() }
    }

    /// What the network says of each class, before the temperature.
    pub fn logits(&self) -> &'a [f32] {
        self.logits
    }

    /// The probability of each class.
    pub fn probabilities(&self) -> Vec<f64> {
        let (largest, sum) = self.largest_and_sum();
        self.logits.iter().map(|&logit| self.weight(logit, largest) / sum).collect()
    }

    /// `log(sum(exp(logits / T))) - logits[label] / T`, in f64.
    pub fn loss(&self) -> f64 {
        self.loss_by(self.largest_and_sum())
    }

    /// How many classes are before the image's own by their logits, of equals those of smaller numbers. A logit that is no number is before all
    /// that are.
    pub fn rank(&self) -> usize {
        let own = self.logits[self.label];
        let is_behind = |(class, &logit): (usize, &f32)| logit < own || (logit == own && class >= self.label);
        self.logits.iter().enumerate().filter(|&logit| !is_behind(logit)).count()
    }

    /// The few numbers.
    pub fn answer(&self) -> Answer {
        let better = |best: usize, class: usize| {
            if self.logits[class] > self.logits[best] { class } else { best }
        };
        let (largest, sum) = self.largest_and_sum();
        Answer {
            image: self.image,
            label: self.label,
            predicted: (0..self.logits.len()).fold(0, better),
            rank: self.rank(),
            confidence: 1. / sum,
            loss: self.loss_by((largest, sum)),
        }
    }

    fn loss_by(&self, (largest, sum): (f32, f64)) -> f64 {
        let at_temperature = |logit: f32| f64::from(logit) / self.temperature;
        sum.ln() + at_temperature(largest) - at_temperature(self.logits[self.label])
    }

    /// In proportion to the probability; of the likeliest class it is 1.
    fn weight(&self, logit: f32, largest: f32) -> f64 {
        (f64::from(logit - largest) / self.temperature).exp()
    }

    /// The largest logit, and the sum of all weights.
    fn largest_and_sum(&self) -> (f32, f64) {
        let largest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (largest, self.logits.iter().map(|&logit| self.weight(logit, largest)).sum())
    }
}

impl Answer {
    /// Whether the image is taken for what it is.
    pub fn is_right(&self) -> bool {
        self.rank == 0
    }

    /// Whether the network has said anything: logits that are no numbers, of a network whose training has diverged, say nothing.
    pub fn is_number(&self) -> bool {
        !self.loss.is_nan() && !self.confidence.is_nan()
    }
}

/// How many rows of `logits` have their (first) largest value elsewhere than at the label.
pub(crate) fn misclassified(logits: &[f32], labels: &[u16]) -> u64 {
    let rows = logits.chunks_exact(logits.len() / labels.len()).zip(labels);
    let is_wrong = |&(row, &label): &(&[f32], &u16)| {
        Scored::new(0, usize::from(label), row, Temperature::ONE).rank() > 0
    };
    rows.filter(is_wrong).count() as u64
}

/// Logits of images from those of their crops, `[image, crop, class]`, and the temperature that is still to be applied to them: of several crops,
/// these are the logarithms of the mean probabilities at the temperature.
pub(super) fn mean_over_crops(
    logits: Vec<f32>,
    crops: usize,
    classes: usize,
    temperature: Temperature,
) -> (Vec<f32>, Temperature) {
    if crops == 1 {
        return (logits, temperature);
    }
    let of_image = |image: &[f32]| {
        let mut mean = vec![0f64; classes];
        for crop in image.chunks_exact(classes) {
            let largest = crop.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |value: f32| (f64::from(value - largest) / temperature.get()).exp();
            let sum: f64 = crop.iter().copied().map(weight).sum();
            mean.iter_mut().zip(crop).for_each(|(mean, &value)| *mean += weight(value) / sum);
        }
        mean.into_iter().map(move |sum| (sum / crops as f64).ln() as f32)
    };
    (logits.chunks_exact(crops * classes).flat_map(of_image).collect(), Temperature::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(label: usize, logits: &[f32]) -> Scored<'_> {
        Scored::new(0, label, logits, Temperature::ONE)
    }

    #[test]
    fn crops_are_averaged_as_probabilities() {
        let half = 0.5f32.ln();
        // Probabilities 1/2, 1/2 and 4/5, 1/5; then twice 1/4, 3/4 with another offset of the logits.
        let logits = [3., 3., 4f32.ln(), 0., 7., 7. + 3f32.ln(), 0., 3f32.ln()];
        for value in [1., 2.] {
            let temperature = Temperature::new(value).unwrap();
            let logits = logits.iter().map(|logit| logit * value as f32).collect();
            let (means, left) = mean_over_crops(logits, 2, 2, temperature);
            for (mean, expected) in means.iter().zip([0.65f32.ln(), 0.35f32.ln(), 0.25f32.ln(), 0.75f32.ln()])
            {
                assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
            }
            assert_eq!(left, Temperature::ONE);
            assert_eq!(mean_over_crops(vec![half, 9.], 1, 2, temperature), (vec![half, 9.], temperature));
        }
    }

    #[test]
    fn cross_entropy_of_large_scores_does_not_overflow() {
        let total = scored(0, &[1000., 1000.]).loss() + scored(0, &[0., 3.]).loss();
        let expected = 2f64.ln() + 3. + (1. + (-3f64).exp()).ln();
        assert!((total - expected).abs() < 1e-9, "{total} {expected}");
    }

    #[test]
    fn the_first_of_equal_scores_is_the_prediction_and_nan_is_wrong() {
        assert_eq!(misclassified(&[1., 1., 0., 2.], &[0, 1]), 0);
        assert_eq!(misclassified(&[1., 1., 2., 0.], &[1, 1]), 2);
        assert_eq!(misclassified(&[f32::NAN, 1., 1., f32::NAN], &[1, 0]), 2);
        assert!(!scored(0, &[1., f32::NAN]).answer().is_number());
    }

    #[test]
    fn a_temperature_changes_loss_and_confidence_and_no_rank() {
        let logits = [2., 4., 4., 1., 3.];
        for (value, label, rank) in [(1., 1, 0), (2., 2, 1), (0.5, 4, 2), (8., 3, 4)] {
            let found = Scored::new(7, label, &logits, Temperature::new(value).unwrap());
            let weights = logits.map(|logit| (f64::from(logit) / value).exp());
            let sum: f64 = weights.iter().sum();
            let answer = found.answer();
            assert_eq!((answer.image, answer.label, answer.predicted, answer.rank), (7, label, 1, rank));
            assert!((answer.loss + (weights[label] / sum).ln()).abs() < 1e-12);
            assert!((answer.confidence - weights[1] / sum).abs() < 1e-12);
            for (probability, weight) in found.probabilities().iter().zip(weights) {
                assert!((probability - weight / sum).abs() < 1e-12);
            }
        }
    }
}
