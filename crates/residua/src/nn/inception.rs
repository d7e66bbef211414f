//! Inception-v3, to compare residual networks with (paper section 5, Table 5).
//!
//! Szegedy et al., *Rethinking the Inception Architecture for Computer Vision* (2016), as torchvision's `inception_v3` has it, auxiliary
//! classifier included and without its transformation of the input; tensors have torchvision's names. One description of the network
//! ([`architecture`]) is read three times: to count it, to initialise it and to run it. It runs on Burn's own operations, not on the
//! fused ones.

mod architecture;
mod count;
mod run;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use self::architecture::{ConvolutionLayer, classifiers, network};
use self::count::Counter;
use self::run::Runner;
use super::initialise::Initialiser;
use super::weights::values_of;
use residua_infer::network::{NamedTensors, NetworkError, TensorValues, is_trained};

/// What Inception-v3 costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InceptionCost {
    /// Trained values with the auxiliary classifier, which is needed in training alone.
    pub parameters: u64,
    /// Trained values without it.
    pub parameters_of_inference: u64,
    /// Multiply-adds of convolutions and classifier for an image in inference.
    pub multiply_adds: u64,
}

/// The network, with its tensors on a device.
#[derive(Debug, Clone)]
pub struct InceptionV3 {
    classes: usize,
    /// Every tensor flat, by torchvision's name.
    tensors: BTreeMap<String, Tensor<1>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

/// What a batch gives in training.
#[derive(Debug, Clone)]
pub struct InceptionOutput {
    /// `[batch, classes]`
    pub logits: Tensor<2>,
    /// `[batch, classes]`, from the auxiliary classifier; its loss counts 0.4 times.
    pub auxiliary_logits: Tensor<2>,
    /// Running statistics after this batch, for [`InceptionV3::absorb`].
    pub statistics: Vec<(String, Tensor<1>)>,
}

impl InceptionV3 {
    /// The smallest image side in inference.
    pub const LEAST_SIDE: usize = 75;
    /// The smallest in training, for the auxiliary classifier's convolutions.
    pub const LEAST_SIDE_IN_TRAINING: usize = 299;

    /// Counts the network for images of `side` x `side` pixels.
    ///
    /// # Errors
    /// When they are too small.
    pub fn cost(classes: usize, side: usize) -> Result<InceptionCost, NetworkError> {
        check([side, side], Self::LEAST_SIDE)?;
        let shapes = shapes(classes);
        let parameters = |counts: &dyn Fn(&str) -> bool| {
            let counted = shapes.iter().filter(|(name, _)| is_trained(name) && counts(name));
            counted.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
        };
        let mut counter = Counter { multiply_adds: 0 };
        let features = network(&mut counter, Counter::images(side)).features;
        Ok(InceptionCost {
            parameters: parameters(&|_| true),
            parameters_of_inference: parameters(&|name| !name.starts_with("AuxLogits")),
            multiply_adds: counter.multiply_adds + (features.channels * classes) as u64,
        })
    }

    /// A new network: convolutions by He initialisation as in [`super::ResNet`], BN gamma 1 and beta 0, classifiers uniform within
    /// `+- 1 / sqrt(inputs)`, biases 0. On a device with autodiff it can be trained.
    pub fn init(classes: usize, seed: u64, device: &Device) -> Self {
        let initialiser = Initialiser::new(seed, device);
        let shapes = shapes(classes);
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            let values = match shape.as_slice() {
                &[outputs, inputs, height, width] => {
                    let shape = [outputs, inputs, height, width];
                    initialiser.convolution(name, shape).val().reshape([outputs * inputs * height * width])
                }
                &[outputs, inputs] => {
                    let bound = 1. / (inputs as f64).sqrt();
                    initialiser.uniform(name, [outputs * inputs], bound).val()
                }
                shape => {
                    let starts_at_one = name.ends_with("bn.weight") || name.ends_with("running_var");
                    initialiser.constant(shape[0], f64::from(u8::from(starts_at_one))).val()
                }
            };
            (name.clone(), leaf(name, values.inner_if(device), device))
        };
        let tensors = shapes.iter().map(tensor).collect();
        Self { classes, tensors, shapes }
    }

    /// Logits `[batch, classes]` of images `[batch, 3, height, width]` by the running statistics.
    ///
    /// # Errors
    /// When the images are too small.
    pub fn forward(&self, images: Tensor<4>) -> Result<Tensor<2>, NetworkError> {
        check(sides(&images), Self::LEAST_SIDE)?;
        let mut runner = Runner::evaluation(&self.tensors);
        let features = network(&mut runner, images).features;
        Ok(self.classify("fc", features))
    }

    /// Logits of images `[batch, 3, height, width]` by the batch's statistics. The features before the classifier are multiplied by
    /// `mask` `[batch, 2048]`: torchvision's dropout of 0.5 has 0 or 2 there; ones drop nothing.
    ///
    /// # Errors
    /// When the images are too small.
    pub fn forward_in_training(
        &self,
        images: Tensor<4>,
        mask: Tensor<2>,
    ) -> Result<InceptionOutput, NetworkError> {
        check(sides(&images), Self::LEAST_SIDE_IN_TRAINING)?;
        let mut runner = Runner::training(&self.tensors);
        let maps = network(&mut runner, images);
        let auxiliary = architecture::auxiliary(&mut runner, maps.before_auxiliary);
        let mask = mask.unsqueeze_dims::<4>(&[2, 3]);
        Ok(InceptionOutput {
            logits: self.classify("fc", maps.features * mask),
            auxiliary_logits: self.classify("AuxLogits.fc", auxiliary),
            statistics: runner.statistics,
        })
    }

    /// The network with the running statistics that a batch has moved.
    pub fn absorb(mut self, statistics: Vec<(String, Tensor<1>)>) -> Self {
        self.tensors.extend(statistics);
        self
    }

    /// The trained tensors, flat, by name: what an optimiser moves.
    pub fn trained_mut(&mut self) -> impl Iterator<Item = (&String, &mut Tensor<1>)> {
        self.tensors.iter_mut().filter(|(name, _)| is_trained(name))
    }

    /// Outputs of the classifier.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All parameters and running statistics.
    pub fn tensors(&self) -> NamedTensors {
        let values = |(name, tensor): (&String, &Tensor<1>)| {
            let values = TensorValues { shape: self.shapes[name].clone(), ..values_of(tensor.clone()) };
            (name.clone(), values)
        };
        self.tensors.iter().map(values).collect()
    }

    /// The network with all its tensors replaced; torchvision's `num_batches_tracked` are passed over.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong to this network.
    pub fn with_tensors(mut self, tensors: &NamedTensors) -> Result<Self, NetworkError> {
        let wrong = |problem| Err(NetworkError::Weights(problem));
        for (name, shape) in &self.shapes {
            match tensors.get(name) {
                None => return wrong(format!("'{name}' is missing")),
                Some(tensor) if tensor.shape != *shape => {
                    return wrong(format!("'{name}' has shape {:?}, not {shape:?}", tensor.shape));
                }
                Some(TensorValues { values, .. }) => {
                    let device = self.tensors[name].device();
                    let data = TensorData::new(values.clone(), [values.len()]);
                    let tensor = Tensor::from_data(data, &device.clone().inner());
                    self.tensors.insert(name.clone(), leaf(name, tensor, &device));
                }
            }
        }
        let known = |name: &&String| self.shapes.contains_key(*name) || name.ends_with("num_batches_tracked");
        match tensors.keys().find(|name| !known(name)) {
            Some(name) => wrong(format!("'{name}' is unknown")),
            None => Ok(self),
        }
    }

    /// `features * weight^T + bias`, features `[batch, channels, 1, 1]`.
    fn classify(&self, name: &str, features: Tensor<4>) -> Tensor<2> {
        let [batch, channels, _, _] = features.dims();
        let weight = self.tensors[&format!("{name}.weight")].clone().reshape([self.classes, channels]);
        let bias = self.tensors[&format!("{name}.bias")].clone();
        features.reshape([batch, channels]).matmul(weight.transpose()) + bias.unsqueeze()
    }
}

/// Names and shapes of all tensors.
fn shapes(classes: usize) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for ConvolutionLayer { name, inputs, outputs, kernel: [height, width], .. } in
        architecture::convolutions()
    {
        shapes.insert(format!("{name}.conv.weight"), vec![outputs, inputs, height, width]);
        for of_norm in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("{name}.bn.{of_norm}"), vec![outputs]);
        }
    }
    for (name, inputs) in classifiers() {
        shapes.insert(format!("{name}.weight"), vec![classes, inputs]);
        shapes.insert(format!("{name}.bias"), vec![classes]);
    }
    shapes
}

/// On a device with autodiff, a tensor without a graph: a trained one becomes the beginning of one.
fn leaf(name: &str, tensor: Tensor<1>, device: &Device) -> Tensor<1> {
    match (device.is_autodiff(), is_trained(name)) {
        (false, _) => tensor,
        (true, true) => tensor.autodiff().require_grad(),
        (true, false) => tensor.autodiff(),
    }
}

/// A tensor of an autodiff device, without its graph.
trait InnerIf {
    fn inner_if(self, device: &Device) -> Self;
}

impl InnerIf for Tensor<1> {
    fn inner_if(self, device: &Device) -> Self {
        if device.is_autodiff() { self.inner() } else { self }
    }
}

fn sides(images: &Tensor<4>) -> [usize; 2] {
    let [_, _, height, width] = images.dims();
    [height, width]
}

fn check([height, width]: [usize; 2], least: usize) -> Result<(), NetworkError> {
    match height.min(width) < least {
        true => Err(NetworkError::TooSmall { height, width, least }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_costs_what_torchvision_says() {
        let cost = InceptionV3::cost(1000, 299).unwrap();
        assert_eq!((cost.parameters, cost.parameters_of_inference), (27_161_264, 23_834_568));
        // torchvision's documentation: 5.71 G.
        assert_eq!(cost.multiply_adds, 5_713_216_096);
        assert_eq!(shapes(10)["AuxLogits.fc.weight"], [10, 768]);
    }

    #[test]
    fn wrong_images_and_tensors_are_refused() {
        assert!(InceptionV3::cost(10, 74).unwrap_err().to_string().contains("74x74 pixels are too small"));
        let device = Device::flex();
        let network = InceptionV3::init(10, 1, &device);
        let images = Tensor::zeros([1, 3, 80, 60], &device);
        assert!(network.forward(images).unwrap_err().to_string().contains("75 or more"));
        let mask = Tensor::ones([1, 2048], &device);
        let small = network.forward_in_training(Tensor::zeros([1, 3, 200, 200], &device), mask).unwrap_err();
        assert!(small.to_string().contains("299 or more"), "{small}");

        let tensors = network.tensors();
        let refused = |change: &dyn Fn(&mut NamedTensors)| {
            let mut changed = tensors.clone();
            change(&mut changed);
            network.clone().with_tensors(&changed).unwrap_err().to_string()
        };
        let bias = TensorValues { shape: vec![10], values: vec![0.; 10] };
        assert!(refused(&|tensors| drop(tensors.remove("fc.bias"))).contains("'fc.bias' is missing"));
        assert!(
            refused(&|tensors| drop(tensors.insert("fc.weight".into(), bias.clone())))
                .contains("has shape [10]")
        );
        assert!(
            refused(&|tensors| drop(tensors.insert("f.c".into(), bias.clone()))).contains("'f.c' is unknown")
        );
        let mut tracked = tensors.clone();
        tracked.insert("Mixed_5b.branch1x1.bn.num_batches_tracked".into(), bias);
        assert_eq!(network.clone().with_tensors(&tracked).unwrap().tensors(), tensors);
    }
}
