//! What a weight file says of itself, so that the file alone suffices to classify an image.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::network::Architecture;
use crate::normalisation::Normalisation;
use crate::ranges::InputRanges;
use crate::temperature::Temperature;
use crate::view::{Crops, View};

/// The network that weights belong to, and the images it was trained on. In a weight file each field is a string of
/// JSON in the metadata, its key prefixed by `residua.`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfo {
    /// The network.
    pub network: Architecture,
    /// Names of the classes, in the order of the classifier's outputs.
    pub classes: Vec<String>,
    /// Height of the training images.
    pub height: usize,
    /// Width of the training images.
    pub width: usize,
    /// To how many pixels the shorter side of a picture is scaled before it is cropped, see [`View`].
    pub shorter_side: usize,
    /// How pixels become inputs.
    pub normalisation: Normalisation,
    /// The ranges with which the network computes in bytes, if it was exported for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<InputRanges>,
    /// What its logits are divided by before the softmax, if that was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
}

/// What the metadata says under a key.
fn read<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, key: &str) -> Result<T, String> {
    let text = metadata.get(key).ok_or_else(|| format!("its metadata has no '{key}'"))?;
    serde_json::from_str(text).map_err(|error| format!("its metadata '{key}' is wrong: {error}"))
}

/// The key of the metadata that says which network the weights belong to.
pub(super) const NETWORK: &str = "residua.network";

/// The key of the ranges that convolutions read, in files of networks that compute in bytes.
const RANGES: &str = "residua.input_ranges";

/// The key of the temperature, in files of networks that it was fitted for.
const TEMPERATURE: &str = "residua.temperature";

impl WeightsInfo {
    /// How a picture of any size is shown to the network.
    pub fn view(&self) -> View {
        let Self { height, width, shorter_side, .. } = *self;
        View { height, width, shorter_side, crops: Crops::Centre }
    }

    /// The metadata that says this.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let json = |value: serde_json::Result<String>| value.expect("plain structs can be written as JSON");
        let mut metadata = BTreeMap::from([
            (NETWORK.to_owned(), json(serde_json::to_string(&self.network))),
            ("residua.classes".to_owned(), json(serde_json::to_string(&self.classes))),
            ("residua.size".to_owned(), json(serde_json::to_string(&[self.height, self.width]))),
            ("residua.shorter_side".to_owned(), json(serde_json::to_string(&self.shorter_side))),
            ("residua.normalisation".to_owned(), json(serde_json::to_string(&self.normalisation))),
        ]);
        if let Some(ranges) = &self.ranges {
            metadata.insert(RANGES.to_owned(), json(serde_json::to_string(ranges)));
        }
        if let Some(temperature) = &self.temperature {
            metadata.insert(TEMPERATURE.to_owned(), json(serde_json::to_string(temperature)));
        }
        metadata
    }

    /// The metadata of a file by another family's names: it says all but the network, which those names say.
    pub fn to_foreign_metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = self.to_metadata();
        metadata.remove(NETWORK);
        // By other names they say nothing.
        metadata.remove(RANGES);
        // What safetensors files of PyTorch's programs say.
        metadata.insert("format".to_owned(), "pt".to_owned());
        metadata
    }

    /// What the metadata says.
    ///
    /// # Errors
    /// The reason why it does not say it, in words.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        Self::of_network(read(metadata, NETWORK)?, metadata)
    }

    /// What the metadata says besides the network, if it was written by [`to_foreign_metadata`](Self::to_foreign_metadata).
    ///
    /// # Errors
    /// The reason why it says it wrongly, in words.
    pub(crate) fn from_foreign_metadata(
        network: &Architecture,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, String> {
        let is_said = metadata.keys().any(|key| key.starts_with("residua."));
        is_said.then(|| Self::of_network(network.clone(), metadata)).transpose()
    }

    fn of_network(network: Architecture, metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let [height, width]: [usize; 2] = read(metadata, "residua.size")?;
        let shorter_side = match metadata.contains_key("residua.shorter_side") {
            true => read(metadata, "residua.shorter_side")?,
            false => height.min(width),
        };
        let info = Self {
            shorter_side,
            network,
            classes: read(metadata, "residua.classes")?,
            height,
            width,
            normalisation: read(metadata, "residua.normalisation")?,
            ranges: metadata.contains_key(RANGES).then(|| read(metadata, RANGES)).transpose()?,
            temperature: metadata
                .contains_key(TEMPERATURE)
                .then(|| read(metadata, TEMPERATURE))
                .transpose()?,
        };
        if info.classes.len() != info.network.classes() {
            let (names, outputs) = (info.classes.len(), info.network.classes());
            return Err(format!("its metadata names {names} classes, its network has {outputs}"));
        }
        info.view().check().map_err(|error| format!("its metadata is wrong: {error}"))?;
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkOptions;
    use crate::weights::{Container, StoredWeights};

    #[test]
    fn numbers_are_bounded_before_memory_is_taken() {
        let network = NetworkOptions::named("preresnet8").resolve(2).unwrap();
        let info = WeightsInfo {
            network: network.into(),
            classes: vec!["cat".into(), "dog".into()],
            height: 32,
            width: 32,
            shorter_side: 32,
            normalisation: Normalisation::PerChannel { mean: [0.; 3], deviation: [1.; 3] },
            ranges: None,
            temperature: None,
        };
        let metadata = info.to_metadata();
        assert_eq!(WeightsInfo::from_metadata(&metadata), Ok(info));
        for (key, from, to, told) in [
            (
                NETWORK,
                "\"depth\":8",
                "\"depth\":1000000004",
                "a depth of 1000000004: it must be at most 999999",
            ),
            (NETWORK, "\"depth\":8", "\"depth\":999998", "0 tensors are too few for 999998 layers"),
            (NETWORK, "\"depth\":8", "\"depth\":18446744073709551615", "it must be at most"),
            (
                NETWORK,
                "\"depth\":8",
                "\"width\":18446744073709551615,\"depth\":8",
                "a width of 18446744073709551615",
            ),
            (
                NETWORK,
                "\"classes\":2",
                "\"classes\":18446744073709551615",
                "names 2 classes, its network has",
            ),
            ("residua.size", "[32,32]", "[4294967296,4294967296]", "sides must be 1 to 16384"),
            ("residua.shorter_side", "32", "18446744073709551615", "sides must be 1 to 16384"),
        ] {
            let mut metadata = metadata.clone();
            let text = metadata.get_mut(key).unwrap();
            *text = text.replacen(from, to, 1);
            let (tensors, others, container) = (Default::default(), Vec::new(), Container::Safetensors);
            let weights = StoredWeights { path: "w".into(), container, tensors, others, metadata };
            let message = weights.info().unwrap_err().to_string();
            assert!(message.contains(told), "{to}: {message}");
        }
    }
}
