//! The exponential average of a network's weights.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::nn::{NamedMapper, NamedTensors, NamedVisitor, ResNet, flat_tensor};

/// `average = average + (1 - d) (weights - average)` after every step, of parameters and running statistics alike (timm's `ModelEmaV2`).
/// After the n-th step `d` is the least of the decay and `(1 + n) / (10 + n)`, so that short runs do not keep the random weights
/// that they begin with (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
#[derive(Debug, Clone)]
pub struct WeightAverage {
    decay: f64,
    /// Flattened, on the network's device.
    tensors: BTreeMap<String, Tensor<1>>,
}

impl WeightAverage {
    /// The average before the first step: the weights themselves.
    pub fn of(network: &ResNet, decay: f64) -> Self {
        let mut average = Self { decay, tensors: BTreeMap::new() };
        network.valid().visit_named(&mut Move { average: &mut average, part: 1. });
        average
    }

    /// The average that was saved as these tensors.
    pub fn with_tensors(tensors: &NamedTensors, decay: f64, device: &Device) -> Self {
        let flat = |(name, values): (&String, _)| (name.clone(), flat_tensor(values, device));
        Self { decay, tensors: tensors.iter().map(flat).collect() }
    }

    /// Moves it to the weights after the `step`-th step, counted from 1.
    pub fn follow(&mut self, network: &ResNet, step: u64) {
        let step = step as f64;
        let decay = self.decay.min((1. + step) / (10. + step));
        network.valid().visit_named(&mut Move { average: self, part: 1. - decay });
    }

    /// The network with the average for weights, without autodiff.
    pub fn network(&self, network: &ResNet) -> ResNet {
        network.valid().map_named(&mut Replace(self))
    }

    /// The average, by the names of the weights.
    pub fn tensors(&self, network: &ResNet) -> NamedTensors {
        network.shaped(&self.tensors)
    }
}

/// Moves the average so far towards the weights.
struct Move<'a> {
    average: &'a mut WeightAverage,
    part: f64,
}

impl NamedVisitor for Move<'_> {
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>) {
        let weight = parameter.val().reshape([-1]);
        let moved = match self.average.tensors.remove(&name) {
            None => weight,
            Some(average) => average.clone() + (weight - average) * self.part,
        };
        self.average.tensors.insert(name, moved);
    }
}

struct Replace<'a>(&'a WeightAverage);

impl NamedMapper for Replace<'_> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(average) = self.0.tensors.get(&name) else { return parameter };
        parameter.map(|weight| average.clone().reshape(weight.dims()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    fn network(seed: u64) -> ResNet {
        let config = NetworkOptions::named("preresnet8").resolve(3).unwrap();
        ResNet::init(&config, seed, &Device::flex().autodiff()).unwrap()
    }

    fn first(tensors: &NamedTensors) -> f64 {
        f64::from(tensors["stem.conv.weight"].values[5])
    }

    #[test]
    fn the_average_follows_the_weights_by_the_decay() {
        let (first_network, second) = (network(1), network(2));
        let (before, now) = (first(&first_network.tensors()), first(&second.tensors()));
        let mut average = WeightAverage::of(&first_network, 0.999);
        assert_eq!(average.tensors(&first_network), first_network.tensors());
        for (step, decay) in [(1, 2. / 11.), (1_000_000, 0.999)] {
            let mut moved = average.clone();
            moved.follow(&second, step);
            let expected = decay * before + (1. - decay) * now;
            let found = first(&moved.tensors(&second));
            assert!((found - expected).abs() < 1e-7, "{step}: {found} {expected}");
            assert_eq!(first(&moved.network(&second).tensors()), found);
        }
        let saved = average.tensors(&first_network);
        let mut loaded = WeightAverage::with_tensors(&saved, 0.999, &Device::flex().autodiff());
        loaded.follow(&second, 3);
        average.follow(&second, 3);
        assert_eq!(loaded.tensors(&second), average.tensors(&second));
    }
}
