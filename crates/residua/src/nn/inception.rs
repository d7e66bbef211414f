//! Inception-v3 as tensors, to compare residual networks with (paper section 5, Table 5), and to run trained weights of.
//!
//! What the network is, says [`residua_infer::network::inception`]; auxiliary classifier included, without torchvision's
//! transformation of the input. It runs on Burn's own operations, not on the fused ones.

mod run;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use self::run::Runner;
use super::initialise::Initialiser;
use super::weights::values_of;
use residua_infer::network::inception::{auxiliary, is_auxiliary, network};
use residua_infer::network::{
    InceptionConfig, NamedTensors, NetworkError, TensorValues, check_tensors, is_trained,
};

/// The network, with its tensors on a device.
#[derive(Debug, Clone)]
pub struct InceptionV3 {
    config: InceptionConfig,
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
    /// A new network: convolutions by He initialisation as in [`super::ResNet`], BN gamma 1 and beta 0, classifiers uniform within
    /// `+- 1 / sqrt(inputs)`, biases 0. On a device with autodiff it can be trained.
    ///
    /// # Errors
    /// When there is no class.
    pub fn init(config: &InceptionConfig, seed: u64, device: &Device) -> Result<Self, NetworkError> {
        let initialiser = Initialiser::new(seed, device);
        let shapes = config.tensor_shapes()?;
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
        Ok(Self { config: config.clone(), tensors, shapes })
    }

    /// The network with these tensors; torchvision's `num_batches_tracked` are passed over. Without the auxiliary classifier's it can
    /// do all but be trained.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong to this network.
    pub fn of_tensors(
        config: &InceptionConfig,
        tensors: &NamedTensors,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let shapes = config.shapes_beside(tensors)?;
        let mut known = shapes.clone();
        let counters = tensors.iter().filter(|(name, _)| name.ends_with("num_batches_tracked"));
        known.extend(counters.map(|(name, counter)| (name.clone(), counter.shape.clone())));
        check_tensors(&known, tensors)?;
        let tensor = |name: &String| {
            let values = &tensors[name].values;
            let data = TensorData::new(values.clone(), [values.len()]);
            let tensor = Tensor::from_data(data, &device.clone().inner());
            (name.clone(), leaf(name, tensor, device))
        };
        let tensors = shapes.keys().map(tensor).collect();
        Ok(Self { config: config.clone(), tensors, shapes })
    }

    /// Logits `[batch, classes]` of images `[batch, 3, height, width]` by the running statistics.
    ///
    /// # Errors
    /// When the images are too small.
    pub fn forward(&self, images: Tensor<4>) -> Result<Tensor<2>, NetworkError> {
        Ok(self.classify("fc", self.features(images)?))
    }

    /// What the classifier reads of images `[batch, 3, height, width]`, the means of the last map by the running statistics:
    /// `[batch, 2048]`.
    ///
    /// # Errors
    /// When the images are too small.
    pub fn features(&self, images: Tensor<4>) -> Result<Tensor<2>, NetworkError> {
        let [_, _, height, width] = images.dims();
        self.config.check_input(height, width)?;
        let mut runner = Runner::evaluation(&self.tensors);
        Ok(flat(network(&mut runner, images).features))
    }

    /// Logits of images `[batch, 3, height, width]` by the batch's statistics. The features before the classifier are multiplied by
    /// `mask` `[batch, 2048]`: torchvision's dropout of 0.5 has 0 or 2 there; ones drop nothing.
    ///
    /// # Errors
    /// When the images are too small, or the weights have no auxiliary classifier.
    pub fn forward_in_training(
        &self,
        images: Tensor<4>,
        mask: Tensor<2>,
    ) -> Result<InceptionOutput, NetworkError> {
        let [_, _, height, width] = images.dims();
        self.config.check_input_of_training(height, width)?;
        if !self.tensors.keys().any(|name| is_auxiliary(name)) {
            return Err(NetworkError::NoAuxiliary);
        }
        let mut runner = Runner::training(&self.tensors);
        let maps = network(&mut runner, images);
        let auxiliary = auxiliary(&mut runner, maps.before_auxiliary);
        Ok(InceptionOutput {
            logits: self.classify("fc", flat(maps.features) * mask),
            auxiliary_logits: self.classify("AuxLogits.fc", flat(auxiliary)),
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

    /// Which network it is.
    pub fn config(&self) -> &InceptionConfig {
        &self.config
    }

    /// Where its tensors are.
    pub fn device(&self) -> Device {
        self.tensors["fc.bias"].device()
    }

    /// All parameters and running statistics.
    pub fn tensors(&self) -> NamedTensors {
        let values = |(name, tensor): (&String, &Tensor<1>)| {
            let values = TensorValues { shape: self.shapes[name].clone(), ..values_of(tensor.clone()) };
            (name.clone(), values)
        };
        self.tensors.iter().map(values).collect()
    }

    /// The network with all its tensors replaced, as [`of_tensors`](Self::of_tensors).
    ///
    /// # Errors
    /// As there.
    pub fn with_tensors(self, tensors: &NamedTensors) -> Result<Self, NetworkError> {
        Self::of_tensors(&self.config, tensors, &self.device())
    }

    /// `features * weight^T + bias`, features `[batch, channels]`.
    fn classify(&self, name: &str, features: Tensor<2>) -> Tensor<2> {
        let [_, channels] = features.dims();
        let weight = self.tensors[&format!("{name}.weight")].clone().reshape([self.config.classes, channels]);
        let bias = self.tensors[&format!("{name}.bias")].clone();
        features.matmul(weight.transpose()) + bias.unsqueeze()
    }
}

/// `[batch, channels]` of `[batch, channels, 1, 1]`.
fn flat(means: Tensor<4>) -> Tensor<2> {
    let [batch, channels, _, _] = means.dims();
    means.reshape([batch, channels])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_images_and_tensors_are_refused() {
        let device = Device::flex();
        let network = InceptionV3::init(&InceptionConfig { classes: 10 }, 1, &device).unwrap();
        let images = Tensor::zeros([1, 3, 80, 60], &device);
        assert!(network.forward(images).unwrap_err().to_string().contains("75 or more"));
        let mask = Tensor::ones([1, 2048], &device);
        let images = |side| Tensor::zeros([1, 3, side, side], &device);
        let small = network.forward_in_training(images(200), mask.clone()).unwrap_err();
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
        assert!(
            refused(&|tensors| drop(tensors.remove("AuxLogits.conv1.bn.bias")))
                .contains("'AuxLogits.conv1.bn.bias' is missing")
        );
        let mut inference = tensors.clone();
        inference.retain(|name, _| !is_auxiliary(name));
        let untrained = network.clone().with_tensors(&inference).unwrap();
        assert_eq!(untrained.tensors(), inference);
        let untrained = untrained.forward_in_training(images(299), mask).unwrap_err();
        assert!(untrained.to_string().contains("no auxiliary classifier"), "{untrained}");

        let mut tracked = tensors.clone();
        tracked.insert("Mixed_5b.branch1x1.bn.num_batches_tracked".into(), bias);
        assert_eq!(network.clone().with_tensors(&tracked).unwrap().tensors(), tensors);
    }
}
