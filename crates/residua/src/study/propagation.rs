//! How signals and gradients propagate through a network: the paper's Eqs. 4, 5 and 8, measured on a batch.
//!
//! Forward, Eq. 4 says `x_L = x_l + sum F_i` within a stage. F_i is taken from the branch itself, before the addition.
//!
//! Backward, Eq. 5 splits `dE/dx_l` into a term that the shortcuts carry and one through the weights. With
//! `g_i = dE/dx_i`, J of a branch or a shortcut its Jacobian, and `a_i` what the shortcut's signal is multiplied by:
//!
//! ```text
//! direct_L = g_L    direct_l = J_signal^T (a_l * direct_{l+1})
//! weight_L = 0      weight_l = J_signal^T (a_l * weight_{l+1}) + J_branch^T g_{l+1} + (J_shortcut^T g_{l+1} - J_signal^T (a_l * g_{l+1}))
//! ```
//!
//! For an identity shortcut `direct_l` is `g_L` itself and `weight_l` the sum of the branches' own vector-Jacobian products, which
//! is Eq. 5; with a constant `a` the direct term is Eq. 8's product times `g_L`. The bracket is the derivative of a gate, apart. The
//! Carried on through the units that change dimensions, by their projections or zero-padding instead of an identity, the same sums reach
//! over the whole network: the terms across stages.
//!
//! The
//! sum of both must be `dE/dx_l`, which is found by other means: the backward pass of whole units. Where something follows the addition
//! (orderings a and b) it is not.

use std::ops::Range;

use burn::tensor::Tensor;
use serde::Serialize;

use crate::nn::{Entry, FeatureMap, NetworkError, Pass, ResNet, Shortcut, UnitPlan, UnitTrace};
use crate::ops;
use crate::train::{Record, cross_entropy, now, to_host};

/// What a batch shows of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Propagation {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Every unit, in order.
    pub units: Vec<UnitPropagation>,
    /// The chains: runs of units within a stage that none breaks.
    pub stages: Vec<StagePropagation>,
    /// Norm of the gradient of the first unit's input over that of the last unit's output.
    pub early_over_late: f64,
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
    /// `|x_L - x_l - sum F_i| / |x_L|` to the end of its stage (Eq. 4); none where it breaks the chain.
    pub forward_error: Option<f64>,
    /// `|g_l - direct_l - weight_l| / |g_l|` to the end of its stage (Eq. 5); none where it breaks the chain.
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
    /// Passes a batch of images `[batch, 3, height, width]` through a network in training mode, forward and back. The network and
    /// the images must lie on a device with autodiff. Dropout masks follow from `seed`. Nothing is learnt.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn of(network: &ResNet, images: Tensor<4>, labels: &[u16], seed: u64) -> Result<Self, NetworkError> {
        let pass = Pass::train(seed, 0);
        let count = network.units().count();
        let mut inputs = vec![cut(network.forward_stem(images, &mut pass.clone())?.values)];
        for unit in 0..count {
            let output = network.forward_units(unit..unit + 1, leaf(&inputs[unit]).into(), &mut pass.clone());
            inputs.push(cut(output.values));
        }
        let last = leaf(&inputs[count]);
        let logits = network.forward_head(FeatureMap::from(last.clone()), &mut pass.clone());
        let loss = cross_entropy(logits, labels);
        let value = f64::from(to_host(loss.clone().inner())[0]);
        let gradient = last.grad(&loss.backward()).unwrap_or_else(|| inputs[count].zeros_like());

        let measured = Measured { network, pass, inputs };
        let mut gradients = vec![gradient];
        for unit in (0..count).rev() {
            let behind = gradients[gradients.len() - 1].clone();
            gradients.push(measured.whole_unit(unit, behind));
        }
        gradients.reverse();
        Ok(measured.propagation(value, &gradients))
    }

    /// What several batches show of one network: the means of all values, the largest of the errors. None of no batch.
    pub fn mean(batches: &[Self]) -> Option<Self> {
        let mut mean = batches.first()?.clone();
        let over =
            |value: &dyn Fn(&Self) -> f64| batches.iter().map(value).sum::<f64>() / batches.len() as f64;
        let worst = |error: &dyn Fn(&Self) -> Option<f64>| batches.iter().filter_map(error).reduce(f64::max);
        mean.loss = over(&|batch| batch.loss);
        mean.early_over_late = over(&|batch| batch.early_over_late);
        mean.across_error = batches.iter().map(|batch| batch.across_error).fold(0., f64::max);
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

    /// Of the gradient of the first unit's input, the share that has come through shortcuts alone, projections among them.
    pub fn direct_share_across(&self) -> f64 {
        self.units.first().map_or(1., |unit| unit.direct_across / unit.gradient)
    }

    /// The share of the gradient at its input that each unit's shortcut brings where dimensions change: the projections' shares.
    pub fn projection_shares(&self) -> Vec<f64> {
        self.units.iter().filter(|unit| unit.breaks_chain).map(|unit| unit.shortcut_share).collect()
    }

    /// The measurement as a line of a run's metrics.
    pub fn record(&self, iteration: u64) -> Record {
        let of = |value: fn(&UnitPropagation) -> f64| self.units.iter().map(value).collect();
        Record::Propagation {
            iteration,
            early_over_late: self.early_over_late,
            equation_4_error: self.worst(|unit| unit.forward_error),
            equation_5_error: self.worst(|unit| unit.backward_error),
            inputs: of(|unit| unit.input),
            residuals: of(|unit| unit.residual),
            gradients: of(|unit| unit.gradient),
            direct: of(|unit| unit.direct),
            weight: of(|unit| unit.weight),
            time: now(),
        }
    }
}

/// A network and what enters each of its units; the last is what leaves the last unit.
struct Measured<'a> {
    network: &'a ResNet,
    pass: Pass,
    inputs: Vec<Tensor<4>>,
}

/// A unit's own vector-Jacobian products.
struct Products {
    trace: UnitTrace,
    /// Of the branch, with the gradient behind the unit.
    branch: Tensor<4>,
    /// Of the derivative of what the signal is multiplied by, with the same.
    gate: Tensor<4>,
    /// Norm of what the shortcut carries back of that gradient.
    carried: f64,
}

impl Measured<'_> {
    fn propagation(&self, loss: f64, gradients: &[Tensor<4>]) -> Propagation {
        let plans: Vec<_> = self.network.units().map(|unit| unit.plan()).collect();
        let names =
            self.network.stages.iter().enumerate().flat_map(|(stage, units)| {
                (0..units.len()).map(move |unit| format!("stages.{stage}.{unit}"))
            });
        let mut units: Vec<UnitPropagation> = Vec::with_capacity(plans.len());
        let mut stages = Vec::new();
        // From the last unit back; the sums begin anew where dimensions change, but for the terms across stages.
        let mut sums: Option<Sums> = None;
        let mut across = Terms::begin(&gradients[gradients.len() - 1]);
        let mut across_error = 0f64;
        for (index, (name, plan)) in names.zip(&plans).enumerate().collect::<Vec<_>>().into_iter().rev() {
            let behind = &gradients[index + 1];
            let products = self.products(index, behind);
            let breaks_chain = breaks_chain(plan);
            let mut sum =
                sums.take().unwrap_or_else(|| Sums::begin(&self.inputs[index + 1], behind, index + 1));
            sum.add(self, index, &products);
            across.add(self, index, &products);
            let (input, gradient) = (&self.inputs[index], &gradients[index]);
            let (forward_error, backward_error) = match breaks_chain {
                true => (None, None),
                false => (Some(sum.forward_error(input)), Some(sum.terms.error(gradient))),
            };
            across_error = across_error.max(across.error(gradient));
            units.push(UnitPropagation {
                name,
                breaks_chain,
                input: norm(input),
                residual: norm(&products.trace.residual),
                gradient: norm(gradient),
                carried: products.carried / norm(behind),
                shortcut_share: products.carried / norm(gradient),
                direct: norm(&sum.terms.direct),
                weight: norm(&sum.terms.weight),
                direct_across: norm(&across.direct),
                weight_across: norm(&across.weight),
                forward_error,
                backward_error,
            });
            if breaks_chain {
                continue;
            }
            let begins_stage = index == 0 || self::breaks_chain(plans[index - 1]);
            if begins_stage {
                stages.push(StagePropagation {
                    units: index..sum.end,
                    attenuation: norm(&sum.terms.direct) / norm(&gradients[sum.end]),
                    expected_attenuation: sum.expected,
                });
            } else {
                sums = Some(sum);
            }
        }
        units.reverse();
        stages.reverse();
        let late = norm(&gradients[gradients.len() - 1]);
        Propagation { loss, units, stages, early_over_late: norm(&gradients[0]) / late, across_error }
    }

    /// The gradient of a unit's input by the backward pass of the whole unit, by the operations that its parts are found by: others
    /// round otherwise, and where an activation lies that near to 0 its ReLU would be open in one and closed in the other.
    fn whole_unit(&self, unit: usize, behind: Tensor<4>) -> Tensor<4> {
        let input = leaf(&self.inputs[unit]);
        let mut pass = self.pass.clone().with_traces();
        let output = self.network.forward_units(unit..unit + 1, input.clone().into(), &mut pass);
        pulled_back(&input, output.values, behind)
    }

    /// The gradient of a unit's input by a part of the unit alone. Each part is passed anew: a backward pass uses its graph up.
    fn part(&self, unit: usize, part: impl FnOnce(UnitTrace) -> Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
        let (input, trace) = self.traced(unit);
        pulled_back(&input, part(trace), gradient)
    }

    /// What the shortcut's signal carries back of a gradient, what it is multiplied by held fast.
    fn direct(&self, unit: usize, attenuation: Option<&Tensor<4>>, gradient: &Tensor<4>) -> Tensor<4> {
        let attenuated = match attenuation {
            Some(attenuation) => gradient.clone() * attenuation.clone(),
            None => gradient.clone(),
        };
        self.part(unit, |trace| trace.signal, attenuated)
    }

    fn traced(&self, unit: usize) -> (Tensor<4>, UnitTrace) {
        let input = leaf(&self.inputs[unit]);
        let mut pass = self.pass.clone().with_traces();
        self.network.forward_units(unit..unit + 1, input.clone().into(), &mut pass);
        (input, pass.traces()[0].clone())
    }

    fn products(&self, unit: usize, behind: &Tensor<4>) -> Products {
        let (_, trace) = self.traced(unit);
        let trace =
            UnitTrace { residual: cut(trace.residual), attenuation: trace.attenuation.map(cut), ..trace };
        let direct = self.direct(unit, trace.attenuation.as_ref(), behind);
        let gate = match trace.attenuation {
            None => direct.zeros_like(),
            Some(_) => self.part(unit, |trace| trace.shortcut, behind.clone()) - direct.clone(),
        };
        let branch = self.part(unit, |trace| trace.residual, behind.clone());
        Products { trace, branch, gate, carried: norm(&direct) }
    }
}

/// Whether the shortcut of a unit is no identity whatever its kind.
fn breaks_chain(plan: &UnitPlan) -> bool {
    plan.stride() != 1
        || plan.inputs() != plan.outputs()
        || plan.entry == Entry::Activated && plan.projection.is_none()
}

/// Eq. 5's two terms, from the end of a chain down to a unit.
struct Terms {
    direct: Tensor<4>,
    weight: Tensor<4>,
}

impl Terms {
    fn begin(gradient: &Tensor<4>) -> Self {
        Self { direct: gradient.clone(), weight: gradient.zeros_like() }
    }

    fn add(&mut self, measured: &Measured<'_>, unit: usize, products: &Products) {
        let Products { trace, branch, gate, .. } = products;
        let attenuation = trace.attenuation.as_ref();
        self.direct = measured.direct(unit, attenuation, &self.direct);
        self.weight = measured.direct(unit, attenuation, &self.weight) + branch.clone() + gate.clone();
    }

    fn error(&self, gradient: &Tensor<4>) -> f64 {
        norm(&(gradient.clone() - self.direct.clone() - self.weight.clone())) / norm(gradient)
    }
}

/// The equations' sums from the end of a stage down to a unit.
struct Sums {
    end: usize,
    output: Tensor<4>,
    residuals: Tensor<4>,
    terms: Terms,
    expected: Option<f64>,
}

impl Sums {
    fn begin(output: &Tensor<4>, gradient: &Tensor<4>, end: usize) -> Self {
        let (output, residuals) = (output.clone(), output.zeros_like());
        Self { end, output, residuals, terms: Terms::begin(gradient), expected: Some(1.) }
    }

    fn add(&mut self, measured: &Measured<'_>, unit: usize, products: &Products) {
        let Products { trace, .. } = products;
        self.residuals = self.residuals.clone() + trace.residual.clone();
        self.terms.add(measured, unit, products);
        let factor = match (measured.network.config().shortcut, trace.attenuation.as_ref()) {
            (Shortcut::ConstantScaling { shortcut, .. }, _) => Some(shortcut),
            (Shortcut::Conv1x1, _) => None,
            (_, Some(attenuation)) => Some(f64::from(to_host(attenuation.clone().mean())[0])),
            (_, None) => Some(1.),
        };
        self.expected = self.expected.zip(factor).map(|(product, factor)| product * factor);
    }

    fn forward_error(&self, input: &Tensor<4>) -> f64 {
        norm(&(self.output.clone() - input.clone() - self.residuals.clone())) / norm(&self.output)
    }
}

/// The gradient of a leaf, given that of something computed from it; zeros where it does not depend on it.
fn pulled_back(input: &Tensor<4>, output: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
    let gradients = ops::backward(output, gradient);
    input.grad(&gradients).unwrap_or_else(|| input.clone().inner().zeros_like())
}

/// Without a graph.
fn cut(values: Tensor<4>) -> Tensor<4> {
    values.inner()
}

/// The beginning of a graph.
fn leaf(values: &Tensor<4>) -> Tensor<4> {
    values.clone().autodiff().require_grad()
}

/// Euclidean norm, summed in f64.
fn norm(values: &Tensor<4>) -> f64 {
    to_host(values.clone()).iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::nn::NetworkOptions;

    /// A network of four units a stage on eight random images.
    fn measure(ordering: &str, shortcut: &str) -> Propagation {
        let options = NetworkOptions {
            ordering: Some(ordering.parse().unwrap()),
            shortcut: Some(shortcut.parse().unwrap()),
            ..NetworkOptions::named("resnet26")
        };
        let device = Device::flex().autodiff();
        let network = options.resolve(10).unwrap().init(1, &device).unwrap();
        let pixels: Vec<f32> = (0..8 * 3 * 256u32).map(|k| ((k * 7919 % 1009) as f32 / 504.) - 1.).collect();
        let images = Tensor::from_data(TensorData::new(pixels, [8, 3, 16, 16]), &device);
        Propagation::of(&network, images, &[0, 1, 2, 3, 4, 5, 6, 7], 3).unwrap()
    }

    fn worst(propagation: &Propagation, error: impl Fn(&UnitPropagation) -> Option<f64>) -> f64 {
        let errors: Vec<_> = propagation.units.iter().filter_map(error).collect();
        assert!(errors.len() >= 8, "{}", errors.len());
        errors.into_iter().fold(0., f64::max)
    }

    #[test]
    fn both_equations_hold_where_nothing_follows_the_addition() {
        for ordering in ["relu-before-add", "relu-preact", "preact"] {
            let found = measure(ordering, "identity");
            assert!(worst(&found, |unit| unit.forward_error) < 1e-5, "{ordering}");
            assert!(worst(&found, |unit| unit.backward_error) < 1e-4, "{ordering}");
            for stage in &found.stages {
                assert!((stage.attenuation - 1.).abs() < 1e-6 && stage.expected_attenuation == Some(1.));
                for unit in &found.units[stage.units.clone()] {
                    assert!((unit.carried - 1.).abs() < 1e-6 && unit.weight > 0.);
                }
            }
            assert!(found.loss > 1. && found.early_over_late > 0.);
            // The sums go on through projections.
            assert!(found.across_error < 1e-4, "{ordering}: {}", found.across_error);
            let [first, .., last] = found.units.as_slice() else { panic!("no units") };
            assert!(first.direct_across != first.direct && last.direct_across == last.direct);
            assert_eq!(
                found.projection_shares().len(),
                found.stages.len() - usize::from(ordering == "relu-before-add")
            );
        }
    }

    #[test]
    fn both_equations_fail_where_something_follows_the_addition_or_the_shortcut_is_scaled() {
        for ordering in ["original", "bn-after-add"] {
            let found = measure(ordering, "identity");
            assert!(worst(&found, |unit| unit.forward_error) > 0.01, "{ordering}");
            assert!(worst(&found, |unit| unit.backward_error) > 0.01, "{ordering}");
        }
        assert!(worst(&measure("preact", "scale:0.999,1"), |unit| unit.forward_error) > 1e-4);
    }

    #[test]
    fn scaled_shortcuts_attenuate_by_the_product_of_their_factors() {
        for (factor, units) in [(0.5, 4), (1.1, 4)] {
            let found = measure("preact", &format!("scale:{factor},1"));
            let stage = &found.stages[found.stages.len() - 1];
            let expected = f64::powi(factor, units - 1);
            assert_eq!(stage.units.len(), 3);
            assert!((stage.expected_attenuation.unwrap() - expected).abs() < 1e-9 * expected);
            assert!((stage.attenuation / expected - 1.).abs() < 1e-5, "{} {expected}", stage.attenuation);
            assert!(worst(&found, |unit| unit.backward_error) < 1e-4);
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
    fn the_two_terms_make_the_gradient_for_every_shortcut() {
        for shortcut in ["exclusive-gate:-1", "shortcut-gate:0", "conv1x1", "dropout:0.5", "scale:0.5,0.5"] {
            let found = measure("preact", shortcut);
            assert!(worst(&found, |unit| unit.backward_error) < 1e-4, "{shortcut}");
            let stage = &found.stages[0];
            assert_eq!(stage.expected_attenuation.is_none(), shortcut == "conv1x1");
            if let Some(expected) = stage.expected_attenuation {
                // A mask or a gate lets through what its mean says, roughly.
                let ratio = stage.attenuation / expected;
                assert!(ratio > 0.7 && ratio < 6., "{shortcut}: {ratio}");
            }
        }
    }
}
