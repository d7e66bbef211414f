//! What of a network is trained, and how fast each part of it.

use serde::{Deserialize, Serialize};

use crate::nn::{Part, Parts, Plan};

/// How training differs from part to part of a network, for networks that begin from trained weights. By default all parts are
/// trained alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FineTuning {
    /// The parts that are left as they are ([`ResNet::freeze`](crate::nn::ResNet::freeze)).
    #[serde(skip_serializing_if = "Parts::is_empty")]
    pub frozen: Parts,
    /// The classifier's learning rate while the run's is the schedule's `learning_rate`; it rises and falls with that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_learning_rate: Option<f64>,
    /// What the learning rate of each stage is, as a part of the next one's; see [`LearningRates`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
}

/// The learning rate of each part of a network, given the run's, `rate`:
///
/// - of the classifier `rate`, or in proportion to it `classifier_learning_rate * (rate / learning_rate)`, `learning_rate` being the
///   schedule's;
/// - of the last of N stages, and of BN behind it, `rate * layer_decay`; of stage n `rate * layer_decay ^ (N + 1 - n)`;
/// - of the stem `rate * layer_decay ^ (N + 1)`.
///
/// This is timm's layer decay with a group for each stage, not for each unit: a factor means the same for every depth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LearningRates {
    layer_decay: Option<f64>,
    classifier: Option<Proportion>,
}

/// The classifier's learning rate while the run's is `base`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Proportion {
    classifier: f64,
    base: f64,
}

impl LearningRates {
    /// Those that are asked for, where the schedule's learning rate is `base`.
    pub fn new(fine_tuning: &FineTuning, base: f64) -> Self {
        let FineTuning { classifier_learning_rate, layer_decay, .. } = *fine_tuning;
        Self {
            layer_decay,
            classifier: classifier_learning_rate.map(|classifier| Proportion { classifier, base }),
        }
    }

    /// The learning rate of a part of a network of these layers, where the run's is `rate`.
    pub fn of_part(&self, part: Part, plan: &Plan, rate: f64) -> f64 {
        let stages = plan.stages.len();
        let steps = match (part, self.classifier) {
            (Part::Classifier, None) => return rate,
            (Part::Classifier, Some(Proportion { classifier, base })) => return classifier * (rate / base),
            (Part::Norm, _) => 1,
            (Part::Stage(stage), _) => (stages + 1).saturating_sub(stage),
            (Part::Stem, _) => stages + 1,
        };
        // Multiplied one by one, as powers differ in their last bits from machine to machine.
        self.layer_decay.map_or(rate, |decay| (0..steps).fold(rate, |rate, _| rate * decay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    #[test]
    fn rates_fall_from_the_classifier_to_the_stem() {
        let plan = NetworkOptions::named("preresnet20").resolve(10).unwrap().plan().unwrap();
        let options = FineTuning {
            layer_decay: Some(0.5),
            classifier_learning_rate: Some(0.3),
            ..FineTuning::default()
        };
        let rates = LearningRates::new(&options, 0.1);
        let of = |rates: &LearningRates, rate: f64| -> Vec<f64> {
            plan.parts().into_iter().map(|part| rates.of_part(part, &plan, rate)).collect()
        };
        // stem, three stages, norm, classifier
        assert_eq!(of(&rates, 0.1), [0.1 / 16., 0.1 / 8., 0.1 / 4., 0.1 / 2., 0.1 / 2., 0.3]);
        let later = of(&rates, 0.01);
        assert!((later[5] - 0.03).abs() < 1e-15, "{}", later[5]);
        assert_eq!(of(&LearningRates::default(), 0.7), [0.7; 6]);
    }
}
