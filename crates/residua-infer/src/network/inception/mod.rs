//! Inception-v3, to compare residual networks with (paper section 5, Table 5), and to take trained weights of.
//!
//! Szegedy et al., *Rethinking the Inception Architecture for Computer Vision* (2016), as torchvision's `inception_v3` has it,
//! without its transformation of the input; tensors have torchvision's names. One description of the network ([`network`]) is read
//! by whoever implements [`Layers`]: to list it, to count it, to run it, to write it for other programs.

mod count;
mod layers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::count::Counter;
use self::layers::{classifiers, convolutions};
use super::error::NetworkError;
use super::summary::{LayerSummary, Summary};
use super::tensors::{NamedTensors, is_trained};

pub use layers::{BATCH_NORM_EPSILON, ConvolutionLayer, Layers, Maps, auxiliary, is_auxiliary, network};

/// Inception-v3, fully specified.
///
/// It may have its auxiliary classifier (`AuxLogits`) or not: training needs it, and nothing else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename = "inception-v3")]
pub struct InceptionConfig {
    /// Outputs of the classifier.
    pub classes: usize,
}

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

impl InceptionConfig {
    /// The name of the network.
    pub const NAME: &str = "inception-v3";
    /// The smallest image side in inference.
    pub const LEAST_SIDE: usize = 75;
    /// The smallest in training, for the auxiliary classifier's convolutions.
    pub const LEAST_SIDE_IN_TRAINING: usize = 299;

    /// The shape of each tensor by name, those of the auxiliary classifier among them.
    ///
    /// # Errors
    /// When there is no class.
    pub fn tensor_shapes(&self) -> Result<BTreeMap<String, Vec<usize>>, NetworkError> {
        let Self { classes } = *self;
        if classes == 0 {
            return Err(NetworkError::Zero { what: "the number of classes" });
        }
        let mut shapes = BTreeMap::new();
        for ConvolutionLayer { name, inputs, outputs, kernel: [height, width], .. } in convolutions() {
            shapes.insert(format!("{name}.conv.weight"), vec![outputs, inputs, height, width]);
            for of_norm in ["weight", "bias", "running_mean", "running_var"] {
                shapes.insert(format!("{name}.bn.{of_norm}"), vec![outputs]);
            }
        }
        for (name, inputs) in classifiers() {
            shapes.insert(format!("{name}.weight"), vec![classes, inputs]);
            shapes.insert(format!("{name}.bias"), vec![classes]);
        }
        Ok(shapes)
    }

    /// The shapes that `tensors` must have to be those of this network: the auxiliary classifier's are among them where it has any.
    ///
    /// # Errors
    /// When there is no class.
    pub fn shapes_beside(
        &self,
        tensors: &NamedTensors,
    ) -> Result<BTreeMap<String, Vec<usize>>, NetworkError> {
        let mut shapes = self.tensor_shapes()?;
        if !tensors.keys().any(|name| is_auxiliary(name)) {
            shapes.retain(|name, _| !is_auxiliary(name));
        }
        Ok(shapes)
    }

    /// Checks that inference takes images of `height` x `width` pixels.
    ///
    /// # Errors
    /// When they are too small.
    pub fn check_input(&self, height: usize, width: usize) -> Result<(), NetworkError> {
        check_sides([height, width], Self::LEAST_SIDE)
    }

    /// Checks that training does.
    ///
    /// # Errors
    /// When they are too small.
    pub fn check_input_of_training(&self, height: usize, width: usize) -> Result<(), NetworkError> {
        check_sides([height, width], Self::LEAST_SIDE_IN_TRAINING)
    }

    /// Counts the network for images of `height` x `width` pixels, without the auxiliary classifier. A row is a module, or a
    /// convolution that stands alone. The feature maps counted are the images, each convolution's output before BN, and what is pooled.
    ///
    /// # Errors
    /// When the images are too small.
    pub fn summary(&self, height: usize, width: usize) -> Result<Summary, NetworkError> {
        self.check_input(height, width)?;
        let mut counter = Counter::new();
        let features = network(&mut counter, Counter::images(height, width)).features;
        let mut layers = counter.layers;
        let weights = (features.channels * self.classes) as u64;
        layers.push(LayerSummary {
            name: "fc".to_owned(),
            description: "average pooling, linear".to_owned(),
            output: vec![self.classes],
            parameters: weights + self.classes as u64,
            multiply_adds: weights,
            activation_bytes: 0,
        });
        Ok(Summary::of(layers))
    }

    /// What the network costs for images of `height` x `width` pixels.
    ///
    /// # Errors
    /// When they are too small.
    pub fn cost(&self, height: usize, width: usize) -> Result<InceptionCost, NetworkError> {
        let Summary { parameters, multiply_adds, .. } = self.summary(height, width)?;
        let trained = self.tensor_shapes()?.into_iter().filter(|(name, _)| is_trained(name));
        Ok(InceptionCost {
            parameters: trained.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum(),
            parameters_of_inference: parameters,
            multiply_adds,
        })
    }
}

fn check_sides([height, width]: [usize; 2], least: usize) -> Result<(), NetworkError> {
    match height.min(width) < least {
        true => Err(NetworkError::TooSmall { height, width, least }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::TensorValues;

    #[test]
    fn it_costs_what_torchvision_says() {
        let config = InceptionConfig { classes: 1000 };
        let cost = config.cost(299, 299).unwrap();
        assert_eq!((cost.parameters, cost.parameters_of_inference), (27_161_264, 23_834_568));
        // torchvision's documentation: 5.71 G.
        assert_eq!(cost.multiply_adds, 5_713_216_096);
        let layers = config.summary(299, 299).unwrap().layers;
        assert_eq!(layers.len(), 17);
        for (name, description, output) in [
            ("Conv2d_1a_3x3", "3x3 convolution, stride 2", vec![32, 149, 149]),
            ("Conv2d_2b_3x3", "3x3 convolution", vec![64, 73, 73]),
            ("Mixed_5b", "7 convolutions", vec![256, 35, 35]),
            ("Mixed_6a", "4 convolutions", vec![768, 17, 17]),
            ("Mixed_7c", "9 convolutions", vec![2048, 8, 8]),
        ] {
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            assert_eq!((layer.description.as_str(), &layer.output), (description, &output), "{name}");
        }
    }

    #[test]
    fn the_auxiliary_classifier_is_wanted_whole_or_not_at_all() {
        let config = InceptionConfig { classes: 10 };
        let all = config.tensor_shapes().unwrap();
        assert_eq!(all["AuxLogits.fc.weight"], [10, 768]);
        let bias = TensorValues { shape: vec![10], values: vec![0.; 10] };
        let some = NamedTensors::from([("AuxLogits.fc.bias".to_owned(), bias)]);
        assert_eq!(config.shapes_beside(&some).unwrap(), all);
        let without = config.shapes_beside(&NamedTensors::new()).unwrap();
        assert_eq!(all.len() - without.len(), 12);
        assert!(without.keys().all(|name| !is_auxiliary(name)));
    }

    #[test]
    fn impossible_networks_and_images_are_refused() {
        let config = InceptionConfig { classes: 10 };
        let small = config.check_input(80, 74).unwrap_err().to_string();
        assert!(small.contains("80x74 pixels are too small; their sides must be 75 or more"), "{small}");
        assert!(config.check_input_of_training(298, 299).is_err());
        assert!(InceptionConfig { classes: 0 }.tensor_shapes().is_err());
    }
}
