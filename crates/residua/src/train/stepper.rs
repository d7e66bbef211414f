//! What all optimisers have: options, learning rates of the parts of a network, and the way through its tensors.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor};

use crate::nn::{NamedMapper, NamedTensors, Part, ResNet};
use crate::run::{DecayScope, LearningRates, OptimiserOptions};

/// An optimiser by the rule of [`Sgd`](super::Sgd) or [`AdamW`](super::AdamW). The learning rate may differ from part to part of a network;
/// what has no gradient, as what is frozen, stays as it is.
#[derive(Debug, Clone)]
pub struct Stepper<R> {
    options: OptimiserOptions,
    learning_rates: LearningRates,
    rule: R,
}

/// How one tensor steps, and what is kept of it for the next step, by its name.
pub trait Rule: Default {
    /// The weight after its step. `weight_decay` is 0 where it does not decay.
    fn step<const D: usize>(
        &mut self,
        name: String,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        options: &OptimiserOptions,
        weight_decay: f64,
        learning_rate: f64,
    ) -> Tensor<D>;

    /// What is kept of the tensors of a network.
    fn tensors(&self, network: &ResNet) -> NamedTensors;

    /// The rule with what has been kept as these tensors, on `device`.
    fn of_tensors(tensors: &NamedTensors, device: &Device) -> Self;
}

impl<R: Rule> Stepper<R> {
    /// An optimiser before its first step.
    pub fn new(options: &OptimiserOptions) -> Self {
        Self { options: options.clone(), learning_rates: LearningRates::default(), rule: R::default() }
    }

    /// The optimiser with a learning rate of its own for each part of the network, following from that of the step.
    pub fn with_learning_rates(self, learning_rates: LearningRates) -> Self {
        Self { learning_rates, ..self }
    }

    /// The network after a step against the gradients, which are used up.
    pub fn step(&mut self, network: ResNet, gradients: &mut Gradients, learning_rate: f64) -> ResNet {
        let plan = network.plan();
        let of_part = |part| (part, self.learning_rates.of_part(part, plan, learning_rate));
        let learning_rates = plan.parts().into_iter().map(of_part).collect();
        network.map_named(&mut Step { stepper: self, gradients, learning_rates })
    }

    /// What is kept from step to step, by the names of the tensors it belongs to.
    pub fn tensors(&self, network: &ResNet) -> NamedTensors {
        self.rule.tensors(network)
    }

    /// The optimiser with what has been kept as these tensors, on `device`.
    pub fn with_tensors(self, tensors: &NamedTensors, device: &Device) -> Self {
        Self { rule: R::of_tensors(tensors, device), ..self }
    }
}

struct Step<'a, R> {
    stepper: &'a mut Stepper<R>,
    gradients: &'a mut Gradients,
    learning_rates: BTreeMap<Part, f64>,
}

impl<R: Rule> NamedMapper for Step<'_, R> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = parameter.val().grad_remove(self.gradients) else { return parameter };
        let part = Part::of_tensor(&name).expect("a tensor of a network lies in one of its parts");
        let learning_rate = self.learning_rates[&part];
        let Stepper { options, rule, .. } = &mut *self.stepper;
        let decays = match options.decays {
            DecayScope::All => true,
            // BN parameters and biases are the tensors of one axis.
            DecayScope::Weights => D > 1,
        };
        let weight_decay = if decays { options.weight_decay } else { 0. };
        parameter.map(|weight| {
            let weight = rule.step(name, weight.inner(), gradient, options, weight_decay, learning_rate);
            Tensor::from_inner(weight).require_grad()
        })
    }
}
