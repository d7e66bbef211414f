//! The temperature at which a network is as sure as it is right.

use rayon::prelude::*;
use residua_infer::Temperature;
use thiserror::Error;

use super::scored::Scored;

/// Logits of images that a network was not trained on, with their classes.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// `[image, class]`
    logits: Vec<f32>,
    labels: Vec<usize>,
    /// Their numbers in the data set.
    images: Vec<usize>,
    classes: usize,
}

/// Temperatures that are looked at.
const RANGE: [f64; 2] = [0.01, 100.];

/// The steps of Newton's method that are taken at most; a few are enough.
const MOST_STEPS: usize = 100;

impl HeldOut {
    /// No images yet, of networks with so many classes.
    pub fn new(classes: usize) -> Self {
        Self { logits: Vec::new(), labels: Vec::new(), images: Vec::new(), classes }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Adds an image. Its logits count, a temperature does not.
    ///
    /// # Panics
    /// When there are not as many logits as classes.
    pub fn add(&mut self, scored: &Scored<'_>) {
        assert_eq!(scored.logits().len(), self.classes, "logits of an image");
        self.logits.extend_from_slice(scored.logits());
        self.labels.push(scored.label);
        self.images.push(scored.image);
    }

    /// The images at a temperature, in the order in which they were added.
    pub fn at(&self, temperature: Temperature) -> impl Iterator<Item = Scored<'_>> {
        let images = self.images.iter().zip(&self.labels).zip(self.logits.chunks_exact(self.classes));
        images.map(move |((&image, &label), logits)| Scored::new(image, label, logits, temperature))
    }

    /// The temperature T for which the mean cross-entropy of `softmax(logits / T)` is least (Guo et al. 2017, section 4.2).
    ///
    /// In `1 / T` the cross-entropy is convex, so there is one minimum at most. It is found by Newton's method, kept inside a bracket.
    ///
    /// # Errors
    /// When there is no image, or no minimum between the temperatures 0.01 and 100.
    pub fn fit(&self) -> Result<Temperature, TemperatureFitError> {
        let images = self.labels.len();
        if images == 0 {
            return Err(TemperatureFitError::NoImages);
        }
        let [mut low, mut high] = [1. / RANGE[1], 1. / RANGE[0]];
        if self.slope(low).0 >= 0. {
            return Err(TemperatureFitError::SaysNothing { images });
        }
        if self.slope(high).0 <= 0. {
            return Err(TemperatureFitError::AllRight { images });
        }
        let mut inverse = 1.;
        for _ in 0..MOST_STEPS {
            let (slope, curvature) = self.slope(inverse);
            if slope < 0. {
                low = inverse;
            } else {
                high = inverse;
            }
            let step = inverse - slope / curvature;
            let next = if step > low && step < high { step } else { (low * high).sqrt() };
            let is_found = (next - inverse).abs() <= 1e-12 * inverse;
            inverse = next;
            if is_found {
                break;
            }
        }
        Ok(Temperature::new(1. / inverse).expect("it is between the temperatures that are looked at"))
    }

    /// First and second derivative of the sum of the cross-entropies by `1 / T`: of each image, how far the mean logit is above that of its class,
    /// and the logits' variance, both under the softmax.
    fn slope(&self, inverse: f64) -> (f64, f64) {
        let of_image = |(&label, logits): (&usize, &[f32])| {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut mean, mut square) = (0., 0., 0.);
            for &logit in logits {
                let logit = f64::from(logit - largest);
                let weight = (logit * inverse).exp();
                sum += weight;
                // What is infinitely unlikely weighs nothing.
                if weight > 0. {
                    mean += weight * logit;
                    square += weight * logit * logit;
                }
            }
            let (mean, square) = (mean / sum, square / sum);
            (mean - f64::from(logits[label] - largest), square - mean * mean)
        };
        let images = self.labels.par_iter().zip(self.logits.par_chunks_exact(self.classes));
        let slopes: Vec<(f64, f64)> = images.map(of_image).collect();
        // In the order of the images, whatever thread had them.
        slopes.iter().fold((0., 0.), |sum, slope| (sum.0 + slope.0, sum.1 + slope.1))
    }
}

/// Images to which no temperature can be fitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemperatureFitError {
    /// There is nothing to fit it to.
    #[error("there is no image to fit a temperature to")]
    NoImages,
    /// The colder the better.
    #[error(
        "the temperature that fits these {images} images best is below 0.01: the network is right about all of them or nearly so; give more \
         images, which it was not trained on"
    )]
    AllRight {
        /// How many images there are.
        images: usize,
    },
    /// The hotter the better.
    #[error(
        "the temperature that fits these {images} images best is above 100: the network's scores say nothing of them; give images like those \
         that it was trained on, or train it further"
    )]
    SaysNothing {
        /// How many images there are.
        images: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held_out(classes: usize, rows: &[(usize, Vec<f32>)]) -> HeldOut {
        let mut images = HeldOut::new(classes);
        for (image, (label, logits)) in rows.iter().enumerate() {
            images.add(&Scored::new(image, *label, logits, Temperature::ONE));
        }
        images
    }

    fn loss(images: &HeldOut, value: f64) -> f64 {
        images.at(Temperature::new(value).unwrap()).map(|scored| scored.loss()).sum()
    }

    #[test]
    fn two_classes_have_a_temperature_that_can_be_written_down() {
        // Right three times of four at a difference of 5: sigmoid(5 / T) = 3/4.
        let rows: Vec<_> = [0, 0, 0, 1].into_iter().map(|label| (label, vec![5., 0.])).collect();
        let found = held_out(2, &rows).fit().unwrap().get();
        assert!((found - 5. / 3f64.ln()).abs() < 1e-9, "{found}");
    }

    #[test]
    fn there_is_not_always_a_minimum() {
        let right = held_out(2, &[(0, vec![5., 0.]), (1, vec![-1., 0.])]);
        assert_eq!(right.fit(), Err(TemperatureFitError::AllRight { images: 2 }));
        for logits in [vec![0., 5.], vec![1., 1.]] {
            let wrong = held_out(2, &[(0, logits)]);
            assert_eq!(wrong.fit(), Err(TemperatureFitError::SaysNothing { images: 1 }));
        }
        assert_eq!(HeldOut::new(2).fit(), Err(TemperatureFitError::NoImages));
    }

    proptest! {
        #[test]
        fn no_other_temperature_has_less_loss(
            rows in prop::collection::vec((0usize..4, prop::collection::vec(-30f32..30., 4)), 1..40),
            factor in 0.3f64..3.,
        ) {
            let images = held_out(4, &rows);
            let slack = 1e-9 * loss(&images, 1.).abs().max(1.);
            match images.fit() {
                Ok(found) => {
                    let least = loss(&images, found.get());
                    for value in [found.get() * factor, found.get() * 1.0001, found.get() / 1.0001, 1.] {
                        prop_assert!(loss(&images, value) >= least - slack, "{found:?} {value}");
                    }
                }
                Err(TemperatureFitError::AllRight { .. }) => {
                    prop_assert!(loss(&images, 0.01) <= loss(&images, 0.02) + slack);
                }
                Err(_) => prop_assert!(loss(&images, 100.) <= loss(&images, 50.) + slack),
            }
        }
    }
}
