//! A network of any kind that classifies as tensors.

use burn::tensor::{Device, Tensor};

use crate::nn::{Architecture, InceptionConfig, InceptionV3, NamedTensors, NetworkError, Pass, ResNet};
use crate::ops::Engine;

/// A network of any kind, with trained tensors on a device.
#[derive(Debug)]
pub enum TrainedNetwork {
    /// A residual network.
    ResNet(Box<ResNet>),
    /// Inception-v3.
    InceptionV3(Box<InceptionV3>),
}

/// Images that go through Inception-v3 together: its first maps are large, and in evaluation images do not mix.
const TOGETHER: usize = 8;

impl TrainedNetwork {
    /// The network with these tensors, without autodiff.
    ///
    /// # Errors
    /// When there is no such network, or the tensors are not its own.
    pub fn of(
        architecture: &Architecture,
        tensors: &NamedTensors,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let device = device.clone().inner();
        Ok(match architecture {
            Architecture::ResNet(config) => {
                // Before memory is taken for a network that they may not be of.
                config.check_tensors(tensors)?;
                Self::ResNet(Box::new(ResNet::init(config, 0, &device)?.with_tensors(tensors)?))
            }
            Architecture::InceptionV3(config) => {
                Self::InceptionV3(Box::new(InceptionV3::of_tensors(config, tensors, &device)?))
            }
        })
    }

    /// Logits `[batch, classes]` of normalised images `[batch, 3, height, width]`. What is no residual network runs on Burn's own
    /// operations, whichever the engine.
    ///
    /// # Errors
    /// When the network does not take such images.
    pub fn logits(&self, images: Tensor<4>, engine: Engine) -> Result<Tensor<2>, NetworkError> {
        match self {
            Self::ResNet(network) => network.forward(images, &mut Pass::evaluate().with_engine(engine)),
            Self::InceptionV3(network) => in_parts(images, |images| network.forward(images)),
        }
    }

    /// What the classifier reads of normalised images `[batch, 3, height, width]`, the means of the last map: `[batch, features]`.
    ///
    /// # Errors
    /// When the network does not take such images.
    pub fn features(&self, images: Tensor<4>, engine: Engine) -> Result<Tensor<2>, NetworkError> {
        match self {
            Self::ResNet(network) => network.features(images, &mut Pass::evaluate().with_engine(engine)),
            Self::InceptionV3(network) => in_parts(images, |images| network.features(images)),
        }
    }

    /// Where its tensors are.
    pub fn device(&self) -> Device {
        match self {
            Self::ResNet(network) => network.device(),
            Self::InceptionV3(network) => network.device(),
        }
    }

    /// The residual network that it is.
    ///
    /// # Errors
    /// When it is another.
    pub fn residual(&self) -> Result<&ResNet, NetworkError> {
        match self {
            Self::ResNet(network) => Ok(network),
            Self::InceptionV3(_) => {
                Err(NetworkError::NotResidual { given: InceptionConfig::NAME.to_owned() })
            }
        }
    }
}

/// Rows of few images at a time, one below the other.
fn in_parts(
    images: Tensor<4>,
    rows: impl Fn(Tensor<4>) -> Result<Tensor<2>, NetworkError>,
) -> Result<Tensor<2>, NetworkError> {
    let parts: Result<Vec<_>, _> = images.split(TOGETHER, 0).into_iter().map(rows).collect();
    Ok(Tensor::cat(parts?, 0))
}
