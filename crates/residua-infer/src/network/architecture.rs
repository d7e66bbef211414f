//! Networks of any kind, as weight files name them.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::ResNetConfig;
use super::error::NetworkError;
use super::inception::{InceptionConfig, is_auxiliary};
use super::summary::Summary;
use super::tensors::{NamedTensors, check_tensors};

/// Which network weights belong to. In files a residual network is its configuration, any other says its `architecture` first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Value")]
pub enum Architecture {
    /// A residual network.
    ResNet(ResNetConfig),
    /// Inception-v3.
    InceptionV3(InceptionConfig),
}

impl TryFrom<Value> for Architecture {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        match value.get("architecture") {
            None => serde_json::from_value(value).map(Self::ResNet),
            Some(name) if name == InceptionConfig::NAME => {
                serde_json::from_value(value).map(Self::InceptionV3)
            }
            Some(name) => Err(serde_json::Error::custom(format_args!(
                "unknown architecture {name}, known are residual networks and {}",
                InceptionConfig::NAME
            ))),
        }
    }
}

impl From<ResNetConfig> for Architecture {
    fn from(config: ResNetConfig) -> Self {
        Self::ResNet(config)
    }
}

impl From<InceptionConfig> for Architecture {
    fn from(config: InceptionConfig) -> Self {
        Self::InceptionV3(config)
    }
}

impl Architecture {
    /// The name of the network, refinements left out: `resnet50`, `preresnet110`, `inception-v3`.
    pub fn name(&self) -> String {
        match self {
            Self::ResNet(config) => config.name(),
            Self::InceptionV3(_) => InceptionConfig::NAME.to_owned(),
        }
    }

    /// What the name leaves open, in words.
    pub fn description(&self) -> String {
        match self {
            Self::ResNet(ResNetConfig { ordering, shortcut, block, width, dimensions, classes, .. }) => {
                let width = if *width == 1 { String::new() } else { format!(" of width {width}") };
                format!(
                    "{ordering} ordering, {shortcut} shortcut, {block} units{width}, dimensions {dimensions}, {classes} classes"
                )
            }
            Self::InceptionV3(InceptionConfig { classes }) => format!("{classes} classes"),
        }
    }

    /// Outputs of the classifier.
    pub fn classes(&self) -> usize {
        match self {
            Self::ResNet(config) => config.classes,
            Self::InceptionV3(config) => config.classes,
        }
    }

    /// The residual network that it is.
    ///
    /// # Errors
    /// When it is another.
    pub fn residual(&self) -> Result<&ResNetConfig, NetworkError> {
        match self {
            Self::ResNet(config) => Ok(config),
            Self::InceptionV3(_) => Err(NetworkError::NotResidual { given: self.name() }),
        }
    }

    /// Checks that a network of so many tensors can be this one, before memory is taken for it: every layer has one at least.
    ///
    /// # Errors
    /// When there is no such network, or it has more layers.
    pub(crate) fn check_size(&self, tensors: usize) -> Result<(), NetworkError> {
        let Self::ResNet(config) = self else { return Ok(()) };
        config.check()?;
        match config.depth > tensors {
            true => Err(NetworkError::Weights(format!(
                "{tensors} tensors are too few for {} layers",
                config.depth
            ))),
            false => Ok(()),
        }
    }

    /// Checks that the network takes images of `height` x `width` pixels.
    ///
    /// # Errors
    /// When it does not; the error says which sizes work.
    pub fn check_input(&self, height: usize, width: usize) -> Result<(), NetworkError> {
        match self {
            Self::ResNet(config) => config.check_input(height, width),
            Self::InceptionV3(config) => config.check_input(height, width),
        }
    }

    /// The shapes that `tensors` must have, by name, to be those of this network. Inception-v3's auxiliary classifier is wanted whole
    /// where there is any of it.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn shapes_beside(
        &self,
        tensors: &NamedTensors,
    ) -> Result<BTreeMap<String, Vec<usize>>, NetworkError> {
        match self {
            Self::ResNet(config) => config.tensor_shapes(),
            Self::InceptionV3(config) => config.shapes_beside(tensors),
        }
    }

    /// Whether `tensors` are those of this network, by name and shape, and can be computed with: all finite, no variance negative.
    ///
    /// # Errors
    /// When there is no such network, or a tensor is missing, has another shape or impossible values, or does not belong to it.
    pub fn check_tensors(&self, tensors: &NamedTensors) -> Result<(), NetworkError> {
        check_tensors(&self.shapes_beside(tensors)?, tensors)
    }

    /// Whether a tensor of this network has a part in its logits; what serves training alone has none.
    pub fn infers_with(&self, tensor: &str) -> bool {
        match self {
            Self::ResNet(_) => true,
            Self::InceptionV3(_) => !is_auxiliary(tensor),
        }
    }

    /// Counts this network for inputs of `height` x `width` pixels.
    ///
    /// # Errors
    /// When there is no such network or it does not take such inputs.
    pub fn summary(&self, height: usize, width: usize) -> Result<Summary, NetworkError> {
        match self {
            Self::ResNet(config) => config.summary(height, width),
            Self::InceptionV3(config) => config.summary(height, width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkOptions;

    #[test]
    fn architectures_are_written_and_read() {
        let config = NetworkOptions::named("preresnet20").resolve(10).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        let residual = Architecture::from(config);
        assert_eq!(serde_json::to_string(&residual).unwrap(), json);
        assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), residual);
        let inception = Architecture::from(InceptionConfig { classes: 7 });
        let json = r#"{"architecture":"inception-v3","classes":7}"#;
        assert_eq!(serde_json::to_string(&inception).unwrap(), json);
        assert_eq!(serde_json::from_str::<Architecture>(json).unwrap(), inception);
        assert_eq!((inception.name().as_str(), inception.classes()), ("inception-v3", 7));
        assert!(residual.residual().is_ok() && inception.residual().is_err());
    }

    #[test]
    fn what_is_no_network_is_said() {
        for (json, problem) in [
            ("{}", "missing field `depth`"),
            (r#"{"architecture":"inception-v3"}"#, "missing field `classes`"),
            (r#"{"architecture":"vgg16","classes":7}"#, "unknown architecture \"vgg16\", known are residual"),
            ("7", "invalid type"),
        ] {
            let message = serde_json::from_str::<Architecture>(json).unwrap_err().to_string();
            assert!(message.contains(problem), "{json}: {message}");
        }
    }
}
