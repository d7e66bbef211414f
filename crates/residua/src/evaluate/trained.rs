//! A trained network, from a run, a checkpoint or a weight file.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use residua_infer::foreign::Description;
use residua_infer::view::CHANNELS;
use residua_infer::{Prediction, StoredWeights, WeightsInfo};

use super::evaluation::{Evaluation, evaluation_of};
use super::host::{self, to_host};
use super::network::TrainedNetwork;
use super::scored::Scored;
use super::test_pass::{TestOptions, score_by};
use crate::data::{DataError, Images};
use crate::ops::Engine;
use crate::run::{RunError, stored_weights};

/// A network with trained weights, and what its file says of it.
#[derive(Debug)]
pub struct Trained {
    /// The file that the weights came from.
    pub path: PathBuf,
    /// Network, classes, image size and normalisation.
    pub info: WeightsInfo,
    /// The network, without autodiff.
    pub network: TrainedNetwork,
}

impl Trained {
    /// Reads a run's folder (its last checkpoint), a checkpoint's folder, or a weight file, Residua's or others'.
    ///
    /// # Errors
    /// When there is no such file, it is damaged, or its weights are no network's that is known.
    pub fn load(path: &Path, device: &Device) -> Result<Self, RunError> {
        let (weights, _) = stored_weights(path)?.recognised(&Description::default())?;
        Self::of(weights, device)
    }

    /// The network of weights that say which it is.
    ///
    /// # Errors
    /// When they do not, or do not fit it.
    pub fn of(weights: StoredWeights, device: &Device) -> Result<Self, RunError> {
        let info = weights.info()?;
        let StoredWeights { path, tensors, .. } = weights;
        let network = TrainedNetwork::of(&info.network, &tensors, device)
            .map_err(|error| StoredWeights::refused(&path, error))?;
        Ok(Self { path, info, network })
    }

    /// The likeliest classes of an image, likeliest first, with probabilities at the temperature in `info`. `pixels`: `[height, width, 3]` of the size in `info`.
    ///
    /// # Errors
    /// When the image has another size.
    pub fn predict(&self, pixels: &[u8], count: usize, engine: Engine) -> Result<Vec<Prediction>, RunError> {
        let logits = self.network.logits(self.images(&[pixels])?, engine)?;
        Ok(self.info.temperature.unwrap_or_default().likeliest(&to_host(logits), count))
    }

    /// What the classifier reads of an image, `[features]`. `pixels`: `[height, width, 3]` of the size in `info`.
    ///
    /// # Errors
    /// When the image has another size.
    pub fn features(&self, pixels: &[u8], engine: Engine) -> Result<Vec<f32>, RunError> {
        Ok(to_host(self.network.features(self.images(&[pixels])?, engine)?))
    }

    /// Runs the network over all images of a test set, see [`evaluate`](super::evaluate()). Their view may be another than that in `info`.
    ///
    /// # Errors
    /// As there.
    pub fn evaluate(
        &self,
        test_set: &Images,
        batch_size: NonZeroUsize,
        engine: Engine,
    ) -> Result<Evaluation, RunError> {
        let options = TestOptions::new(batch_size);
        evaluation_of(|scored| self.score(test_set, &options, engine, scored))
    }

    /// Shows test images to the network, see [`score_by_classifier`](super::score_by_classifier). Their view may be another than that in `info`, and
    /// the temperature is that of the options.
    ///
    /// # Errors
    /// When the images do not fit the network or the normalisation, too many files cannot be read, or `scored` fails.
    pub fn score<E: From<RunError>>(
        &self,
        test_set: &Images,
        options: &TestOptions,
        engine: Engine,
        scored: impl FnMut(Scored<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let WeightsInfo { network, normalisation, .. } = &self.info;
        let device = self.network.device();
        let logits_of = |batch: &_| Ok(to_host(self.network.logits(host::images(batch, &device), engine)?));
        score_by(test_set, 0..test_set.len(), normalisation, options, network.classes(), logits_of, scored)
    }

    /// Pictures as the network takes them, `[picture, 3, height, width]`. Each is `[height, width, 3]` bytes of the size in `info`.
    ///
    /// # Errors
    /// When the normalisation is not one for such images.
    ///
    /// # Panics
    /// When a picture has another size.
    pub fn images(&self, pictures: &[&[u8]]) -> Result<Tensor<4>, RunError> {
        let WeightsInfo { height, width, normalisation, .. } = &self.info;
        normalisation.check(*height, *width).map_err(DataError::from)?;
        let image = height * width * CHANNELS;
        let mut values = vec![0.; pictures.len() * image];
        for (pixels, values) in pictures.iter().zip(values.chunks_exact_mut(image)) {
            assert_eq!(pixels.len(), image, "a picture's size");
            normalisation.apply(pixels, values);
        }
        let images = TensorData::new(values, [pictures.len(), *height, *width, CHANNELS]);
        Ok(Tensor::<4>::from_data(images, &self.network.device()).permute([0, 3, 1, 2]))
    }
}
