//! A trained network, from a run, a checkpoint or a weight file.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::checkpoint_store::StoredWeights;
use super::error::TrainError;
use super::step::to_host;
use super::weights_info::WeightsInfo;
use crate::nn::{Pass, ResNet};
use crate::ops::Engine;

/// A network with trained weights, and what its file says of it.
#[derive(Debug)]
pub struct Trained {
    /// The file that the weights came from.
    pub path: PathBuf,
    /// Network, classes, image size and normalisation.
    pub info: WeightsInfo,
    /// The network, without autodiff.
    pub network: ResNet,
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The class's number: an output of the classifier.
    pub class: usize,
    /// Its probability by softmax.
    pub probability: f32,
}

impl Trained {
    /// Reads a run's folder (its last checkpoint), a checkpoint's folder, or a `.safetensors` file written by Residua.
    ///
    /// # Errors
    /// When there is no such file, it is damaged, or it does not say which network it belongs to.
    pub fn load(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let StoredWeights { path, tensors, metadata } = StoredWeights::load(path)?;
        let info = WeightsInfo::from_metadata(&metadata)
            .map_err(|reason| TrainError::UnknownWeights { path: path.clone(), reason })?;
        let network = info.network.init(0, &device.clone().inner())?;
        let network = network
            .with_tensors(&tensors)
            .map_err(|error| TrainError::Weights { path: path.clone(), error })?;
        Ok(Self { path, info, network })
    }

    /// The likeliest classes of an image, likeliest first. `pixels`: `[height, width, 3]` of the size in `info`.
    ///
    /// # Errors
    /// When the image has another size.
    pub fn predict(
        &self,
        pixels: &[u8],
        count: usize,
        engine: Engine,
    ) -> Result<Vec<Prediction>, TrainError> {
        let WeightsInfo { height, width, normalisation, .. } = &self.info;
        normalisation.check(*height, *width)?;
        let mut values = vec![0.; pixels.len()];
        normalisation.apply(pixels, &mut values);
        let image = TensorData::new(values, [1, *height, *width, 3]);
        let image = Tensor::<4>::from_data(image, &self.network.device()).permute([0, 3, 1, 2]);
        let logits = self.network.forward(image, &mut Pass::evaluate().with_engine(engine))?;
        let probabilities = to_host(activation::softmax(logits, 1));
        let mut predictions: Vec<_> = probabilities
            .into_iter()
            .enumerate()
            .map(|(class, probability)| Prediction { class, probability })
            .collect();
        predictions.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.class.cmp(&b.class)));
        predictions.truncate(count);
        Ok(predictions)
    }
}
