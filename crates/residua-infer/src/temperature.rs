//! How sure a network is meant to be.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::classifier::Prediction;

/// What logits are divided by before the softmax makes probabilities of them: `softmax(logits / T)` (Guo et al. 2017, *On Calibration of Modern
/// Neural Networks*, section 4.2). Above 1 it makes a network less sure, below 1 more. It is finite and above 0, and changes no order of classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(f64);

impl Temperature {
    /// The temperature of a softmax as it is.
    pub const ONE: Self = Self(1.);

    /// The temperature of this value.
    ///
    /// # Errors
    /// When it is no number above 0.
    pub fn new(value: f64) -> Result<Self, TemperatureError> {
        if value.is_finite() && value > 0. { Ok(Self(value)) } else { Err(TemperatureError { value }) }
    }

    /// Its value.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The likeliest classes of an image by its logits, likeliest first; of equal ones the first.
    pub fn likeliest(self, logits: &[f32], count: usize) -> Vec<Prediction> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponential = |logit: &f32| ((f64::from(logit - largest) / self.0) as f32).exp();
        let exponentials: Vec<f32> = logits.iter().map(exponential).collect();
        let sum: f32 = exponentials.iter().sum();
        let mut predictions: Vec<Prediction> = exponentials
            .into_iter()
            .enumerate()
            .map(|(class, exponential)| Prediction { class, probability: exponential / sum })
            .collect();
        // Of probabilities that are equal by rounding the logits decide.
        predictions.sort_by(|a, b| {
            let by_logit = || logits[b.class].total_cmp(&logits[a.class]);
            b.probability.total_cmp(&a.probability).then_with(by_logit).then(a.class.cmp(&b.class))
        });
        predictions.truncate(count);
        predictions
    }
}

impl Default for Temperature {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<f64> for Temperature {
    type Error = TemperatureError;

    fn try_from(value: f64) -> Result<Self, TemperatureError> {
        Self::new(value)
    }
}

impl From<Temperature> for f64 {
    fn from(temperature: Temperature) -> Self {
        temperature.0
    }
}

/// A number that no softmax can be divided by.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("{value} is no temperature: it must be finite and above 0")]
pub struct TemperatureError {
    /// The number.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_divides_logits_and_keeps_their_order() {
        let logits = [1., 3., 2., 3.];
        for value in [0.25, 1., 4.] {
            let found = Temperature::new(value).unwrap().likeliest(&logits, 4);
            assert_eq!(found.iter().map(|one| one.class).collect::<Vec<_>>(), [1, 3, 2, 0]);
            let weight = |logit: f32| (f64::from(logit) / value).exp();
            let sum: f64 = logits.map(weight).iter().sum();
            for Prediction { class, probability } in found {
                assert!((f64::from(probability) - weight(logits[class]) / sum).abs() < 1e-6);
            }
        }
        // So far behind that their probabilities are both 0.
        let far = Temperature::new(0.01).unwrap().likeliest(&[-300., 0., -200.], 3);
        assert_eq!(far.iter().map(|one| one.class).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn what_is_no_temperature_is_refused() {
        for value in [0., -1., f64::NAN, f64::INFINITY] {
            assert!(Temperature::new(value).is_err());
        }
        assert_eq!(serde_json::from_str::<Temperature>("1.5").unwrap().get(), 1.5);
        let message = serde_json::from_str::<Temperature>("0").unwrap_err().to_string();
        assert!(message.contains("0 is no temperature"), "{message}");
    }
}
