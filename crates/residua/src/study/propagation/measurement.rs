//! What is measured, and how.
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
//! is Eq. 5; with a constant `a` the direct term is Eq. 8's product times `g_L`. The bracket is the derivative of a gate, apart.
//! Carried on through the units that change dimensions, by their projections or zero-padding instead of an identity, the same sums reach
//! over the whole network: the terms across stages.
//!
//! The sum of both must be `dE/dx_l`, which is found by other means: the backward pass of whole units. Where something follows the addition
//! (orderings a and b) it is not.

use burn::tensor::Tensor;

use super::{Propagation, StagePropagation, UnitPropagation, largest};
use crate::evaluate::to_host;
use crate::nn::{Entry, FeatureMap, NetworkError, Pass, ResNet, UnitPlan, UnitTrace, Weighting};
use crate::ops;
use crate::train::cross_entropy;

impl Propagation {
    /// Passes a batch of images `[batch, 3, height, width]` through a network in training mode, forward and back. The network and
    /// the images must lie on a device with autodiff. Dropout masks follow from `seed`. Nothing is learnt, and all
    /// is computed in f32.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn of(network: &ResNet, images: Tensor<4>, labels: &[u16], seed: u64) -> Result<Self, NetworkError> {
        let pass = Pass::train(seed, 0).in_f32();
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
        let mut across_errors = Vec::with_capacity(plans.len());
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
                false => (sum.forward_error(input), sum.terms.error(gradient)),
            };
            across_errors.extend(across.error(gradient));
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
        let across_error = largest(across_errors.into_iter()).unwrap_or_default();
        let early_over_late = relative(norm(&gradients[0]), late);
        Propagation { loss, units, stages, early_over_late, across_error }
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
        || plan.entry == Entry::BothActivated && plan.projection.is_none()
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

    fn error(&self, gradient: &Tensor<4>) -> Option<f64> {
        relative(norm(&(gradient.clone() - self.direct.clone() - self.weight.clone())), norm(gradient))
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
        let shortcut = measured.network.config().shortcut;
        let factor = match (shortcut.weighting(), trace.attenuation.as_ref()) {
            _ if shortcut.projects() => None,
            (Weighting::Constant { shortcut, .. }, _) => Some(shortcut),
            (_, Some(attenuation)) => Some(f64::from(to_host(attenuation.clone().mean())[0])),
            (_, None) => Some(1.),
        };
        self.expected = self.expected.zip(factor).map(|(product, factor)| product * factor);
    }

    fn forward_error(&self, input: &Tensor<4>) -> Option<f64> {
        relative(norm(&(self.output.clone() - input.clone() - self.residuals.clone())), norm(&self.output))
    }
}

/// A norm over another; none where both are 0, which says nothing.
fn relative(norm: f64, to: f64) -> Option<f64> {
    (norm != 0. || to != 0.).then(|| norm / to)
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
