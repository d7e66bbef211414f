//! How signals and gradients propagate through a network: the paper's Eqs. 4, 5 and 8, measured on a batch.

mod measurement;

use std::ops::Range;

use serde::Serialize;

use crate::run::{Measurement, Record};

/// What a batch shows of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Propagation {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Every unit, in order.
    pub units: Vec<UnitPropagation>,
    /// The chains: runs of units within a stage that none breaks.
    pub stages: Vec<StagePropagation>,
    /// Norm of the gradient of the first unit's input over that of the last unit's output; none where that is 0, as of a network whose loss
    /// is.
    pub early_over_late: Option<f64>,
    /// The largest of `|g_l - direct_l - weight_l| / |g_l|` with the terms across stages.
    pub across_error: f64,
}

/// A residual unit on a batch. Norms are Euclidean, over the whole batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnitPropagation {
    /// Its name in weight files.
    pub name: String,
    /// Whether Eqs. 4 and 5 do not reach over it: it changes dimensions, or activates its input for both paths.
    pub breaks_chain: bool,
    /// Norm of its input `x_l`.
    pub input: f64,
    /// Norm of `F_l`, the branch's term of the addition.
    pub residual: f64,
    /// Norm of `dE/dx_l`.
    pub gradient: f64,
    /// What its shortcut carries back of the gradient behind it, `|J_signal^T (a * g)| / |g|`: 1 for an identity.
    pub carried: f64,
    /// The same over `|dE/dx_l|`: the share of the shortcut alone, which is a projection where the chain breaks.
    pub shortcut_share: f64,
    /// Norms of Eq. 5's direct and weight terms, from the end of its stage.
    pub direct: f64,
    /// See `direct`.
    pub weight: f64,
    /// Norms of the direct and weight terms across stages, from the last unit's output.
    pub direct_across: f64,
    /// See `direct_across`.
    pub weight_across: f64,
    /// `|x_L - x_l - sum F_i| / |x_L|` to the end of its stage (Eq. 4); none where it breaks the chain, or the norm is 0.
    pub forward_error: Option<f64>,
    /// `|g_l - direct_l - weight_l| / |g_l|` to the end of its stage (Eq. 5); none where it breaks the chain, or the norm is 0.
    pub backward_error: Option<f64>,
}

/// Units of a stage that Eqs. 4 and 5 reach over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StagePropagation {
    /// The first of the units, and the one after the last.
    pub units: Range<usize>,
    /// `|direct| / |dE/dx_L|` at the first: what the shortcuts alone let through.
    pub attenuation: f64,
    /// Eq. 8's product of the shortcuts' factors; of a gate and of a dropout mask the mean counts. None for 1x1 convolutions, which
    /// multiply by no number.
    pub expected_attenuation: Option<f64>,
}

impl Propagation {
    /// What several batches show of one network: the means of all values, the largest of the errors. None of no batch.
    pub fn mean(batches: &[Self]) -> Option<Self> {
        let mut mean = batches.first()?.clone();
        let over =
            |value: &dyn Fn(&Self) -> f64| batches.iter().map(value).sum::<f64>() / batches.len() as f64;
        let worst = |error: &dyn Fn(&Self) -> Option<f64>| largest(batches.iter().filter_map(error));
        mean.loss = over(&|batch| batch.loss);
        let ratios: Vec<f64> = batches.iter().filter_map(|batch| batch.early_over_late).collect();
        mean.early_over_late = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64);
        mean.across_error = worst(&|batch| Some(batch.across_error))?;
        for (index, unit) in mean.units.iter_mut().enumerate() {
            let of = |value: fn(&UnitPropagation) -> f64| over(&|batch| value(&batch.units[index]));
            unit.input = of(|unit| unit.input);
            unit.residual = of(|unit| unit.residual);
            unit.gradient = of(|unit| unit.gradient);
            unit.carried = of(|unit| unit.carried);
            unit.shortcut_share = of(|unit| unit.shortcut_share);
            unit.direct = of(|unit| unit.direct);
            unit.weight = of(|unit| unit.weight);
            unit.direct_across = of(|unit| unit.direct_across);
            unit.weight_across = of(|unit| unit.weight_across);
            unit.forward_error = worst(&|batch| batch.units[index].forward_error);
            unit.backward_error = worst(&|batch| batch.units[index].backward_error);
        }
        for (index, stage) in mean.stages.iter_mut().enumerate() {
            stage.attenuation = over(&|batch| batch.stages[index].attenuation);
            if stage.expected_attenuation.is_some() {
                let expected = over(&|batch| batch.stages[index].expected_attenuation.unwrap_or_default());
                stage.expected_attenuation = Some(expected);
            }
        }
        Some(mean)
    }

    /// The largest of an error over all units that have one. None where no unit has: where every unit breaks the chain.
    pub fn worst(&self, error: impl Fn(&UnitPropagation) -> Option<f64>) -> Option<f64> {
        largest(self.units.iter().filter_map(error))
    }

    /// Of the gradient of the first unit's input, the share that has come through shortcuts alone, projections among them.
    pub fn direct_share_across(&self) -> f64 {
        self.units.first().map_or(1., |unit| unit.direct_across / unit.gradient)
    }

    /// The share of the gradient at its input that each unit's shortcut brings where dimensions change: the projections' shares.
    pub fn projection_shares(&self) -> Vec<f64> {
        self.units.iter().filter(|unit| unit.breaks_chain).map(|unit| unit.shortcut_share).collect()
    }

    /// The measurement as a line of a run's metrics; lists have a value for each unit.
    pub fn record(&self, iteration: u64) -> Record {
        let of = |value: fn(&UnitPropagation) -> f64| self.units.iter().map(value).collect::<Vec<_>>();
        let measurement = Measurement::new(Measurement::PROPAGATION, iteration)
            .with("early_over_late", self.early_over_late)
            .with("equation_4_error", self.worst(|unit| unit.forward_error))
            .with("equation_5_error", self.worst(|unit| unit.backward_error))
            .with("inputs", of(|unit| unit.input))
            .with("residuals", of(|unit| unit.residual))
            .with("gradients", of(|unit| unit.gradient))
            .with("direct", of(|unit| unit.direct))
            .with("weight", of(|unit| unit.weight));
        Record::Measurement(measurement)
    }
}

/// The largest of relative errors. One that is no number, as of features that overflow, is larger than all others: nothing is
/// known to hold there.
fn largest(errors: impl Iterator<Item = f64>) -> Option<f64> {
    errors.map(f64::abs).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::nn::{NetworkOptions, ResNet};

    /// What f32 leaves of Eq. 5: ten times what there is, about one rounding.
    const BACKWARD_ERROR: f64 = 5e-7;

    /// A network of four units a stage on eight random images.
    fn measure(ordering: &str, shortcut: &str) -> Propagation {
        let options = NetworkOptions {
            ordering: Some(ordering.parse().unwrap()),
            shortcut: Some(shortcut.parse().unwrap()),
            ..NetworkOptions::named("resnet26")
        };
        let device = Device::flex().autodiff();
        let network = ResNet::init(&options.resolve(10).unwrap(), 1, &device).unwrap();
        let pixels: Vec<f32> = (0..8 * 3 * 256u32).map(|k| ((k * 7919 % 1009) as f32 / 504.) - 1.).collect();
        let images = Tensor::from_data(TensorData::new(pixels, [8, 3, 16, 16]), &device);
        Propagation::of(&network, images, &[0, 1, 2, 3, 4, 5, 6, 7], 3).unwrap()
    }

    fn worst(propagation: &Propagation, error: impl Fn(&UnitPropagation) -> Option<f64>) -> f64 {
        let measured = propagation.units.iter().filter_map(&error).count();
        assert!(measured >= 8, "{measured}");
        propagation.worst(error).unwrap()
    }

    #[test]
    fn both_equations_hold_where_nothing_follows_the_addition() {
        for ordering in ["relu-before-add", "relu-preact", "preact"] {
            let found = measure(ordering, "identity");
            assert!(worst(&found, |unit| unit.forward_error) < 5e-6, "{ordering}");
            assert!(worst(&found, |unit| unit.backward_error) < BACKWARD_ERROR, "{ordering}");
            for stage in &found.stages {
                assert!((stage.attenuation - 1.).abs() < 1e-6 && stage.expected_attenuation == Some(1.));
                for unit in &found.units[stage.units.clone()] {
                    assert!((unit.carried - 1.).abs() < 1e-6 && unit.weight > 0.);
                }
            }
            assert!(found.loss > 1. && found.early_over_late > Some(0.));
            // The sums go on through projections.
            assert!(found.across_error < BACKWARD_ERROR, "{ordering}: {}", found.across_error);
            let [first, .., last] = found.units.as_slice() else { panic!("no units") };
            assert!(first.direct_across != first.direct && last.direct_across == last.direct);
            assert_eq!(
                found.projection_shares().len(),
                found.stages.len() - usize::from(ordering == "relu-before-add")
            );
        }
    }

    #[test]
    fn of_a_network_that_nothing_is_to_be_learnt_from_no_ratio_is_measured() {
        let device = Device::flex().autodiff();
        let config = NetworkOptions::named("preresnet20").resolve(2).unwrap();
        let network = ResNet::init(&config, 1, &device).unwrap();
        let mut tensors = network.tensors();
        tensors.get_mut("classifier.bias").unwrap().values[0] = 1000.;
        let network = network.with_tensors(&tensors).unwrap();
        let images = Tensor::from_data(TensorData::new(vec![0.5f32; 2 * 3 * 256], [2, 3, 16, 16]), &device);
        let found = Propagation::of(&network, images, &[0, 0], 3).unwrap();
        assert_eq!((found.loss, found.early_over_late, found.across_error), (0., None, 0.));
        assert_eq!(found.worst(|unit| unit.backward_error), None);
        assert!(found.worst(|unit| unit.forward_error).is_some());
        assert_eq!(Propagation::mean(&[found.clone(), found.clone()]).unwrap().early_over_late, None);
        let Record::Measurement(measurement) = found.record(7) else { panic!("a measurement") };
        assert_eq!(measurement.not_finite(), None);
    }

    #[test]
    fn both_equations_fail_where_something_follows_the_addition_or_the_shortcut_is_scaled() {
        for ordering in ["original", "bn-after-add"] {
            let found = measure(ordering, "identity");
            assert!(worst(&found, |unit| unit.forward_error) > 0.3, "{ordering}");
            assert!(worst(&found, |unit| unit.backward_error) > 0.3, "{ordering}");
        }
        // Three units of a thousandth each, and what they have to go through.
        let scaled = worst(&measure("preact", "scale:0.999,1"), |unit| unit.forward_error);
        assert!((1e-3..4e-3).contains(&scaled), "{scaled}");
    }

    #[test]
    fn scaled_shortcuts_attenuate_by_the_product_of_their_factors() {
        for (factor, units) in [(0.5, 4), (1.1, 4)] {
            let found = measure("preact", &format!("scale:{factor},1"));
            let stage = &found.stages[found.stages.len() - 1];
            let expected = f64::powi(factor, units - 1);
            assert_eq!(stage.units.len(), 3);
            assert!((stage.expected_attenuation.unwrap() - expected).abs() < 1e-9 * expected);
            assert!((stage.attenuation / expected - 1.).abs() < 1e-6, "{} {expected}", stage.attenuation);
            assert!(worst(&found, |unit| unit.backward_error) < BACKWARD_ERROR);
        }
    }

    #[test]
    fn several_batches_are_averaged() {
        let one = measure("preact", "identity");
        assert_eq!(Propagation::mean(&[]), None);
        let mut other = one.clone();
        other.units[3].gradient *= 3.;
        other.units[3].forward_error = Some(0.5);
        let mean = Propagation::mean(&[one.clone(), other]).unwrap();
        assert!((mean.units[3].gradient / one.units[3].gradient - 2.).abs() < 1e-12);
        assert_eq!((mean.units[3].forward_error, mean.units[2].input), (Some(0.5), one.units[2].input));
    }

    #[test]
    fn an_error_that_is_no_number_is_the_worst_and_none_is_none() {
        let one = measure("preact", "identity");
        for no_number in [f64::NAN, -f64::NAN] {
            let mut other = one.clone();
            other.units[3].forward_error = Some(no_number);
            for batches in [[one.clone(), other.clone()], [other, one.clone()]] {
                let mean = Propagation::mean(&batches).unwrap();
                assert!(mean.worst(|unit| unit.forward_error).unwrap().is_nan());
                assert!(mean.worst(|unit| unit.backward_error).unwrap() < BACKWARD_ERROR);
            }
        }
        assert_eq!(one.worst(|_| None), None);
    }

    #[test]
    fn the_two_terms_make_the_gradient_for_every_shortcut() {
        // What a gate lets through varies, which adds to its norm; of three masks that keep a half, the norm is 8^0.5 times what
        // the mean says.
        for (shortcut, ratios) in [
            ("exclusive-gate:-1", Some(1.0..1.3)),
            ("shortcut-gate:0", Some(1.1..2.0)),
            ("conv1x1", None),
            ("dropout:0.5", Some(2.5..3.2)),
            ("scale:0.5,0.5", Some(1. - 1e-6..1. + 1e-6)),
        ] {
            let found = measure("preact", shortcut);
            assert!(worst(&found, |unit| unit.backward_error) < BACKWARD_ERROR, "{shortcut}");
            for stage in &found.stages {
                let ratio = stage.expected_attenuation.map(|expected| stage.attenuation / expected);
                assert_eq!(ratio.is_some(), ratios.is_some(), "{shortcut}");
                if let (Some(ratio), Some(ratios)) = (ratio, &ratios) {
                    assert!(ratios.contains(&ratio), "{shortcut}: {ratio}");
                }
            }
        }
    }
}
