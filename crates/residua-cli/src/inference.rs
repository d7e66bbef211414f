//! A trained network that pictures are shown to: on plain memory, or as tensors on a device.

use std::path::Path;

use clap::Args;
use residua::data::DataError;
use residua::evaluate::Trained;
use residua::infer::{Classifier, Prediction, WeightsInfo};
use residua::ops::Engine;
use residua::run::RunError;

use crate::machine::MachineArguments;
use crate::weights::{ViewArguments, WeightsArguments};

/// What the network sees of a picture, what its file leaves unsaid, and where it computes.
#[derive(Debug, Args)]
pub(crate) struct InferenceArguments {
    #[command(flatten)]
    view: ViewArguments,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    machine: MachineArguments,
}

impl InferenceArguments {
    /// The network of a run, a checkpoint or a weight file, on the machine asked for. To be called once: it sizes the process's thread pool.
    pub(crate) fn open(&self, checkpoint: &Path) -> anyhow::Result<Network> {
        let Self { view, weights, machine } = self;
        let threads = machine.start_threads()?;
        let device = (!machine.infers_without_tensors()).then(|| machine.open_device()).transpose()?;
        let (weights, _) = weights.open(checkpoint, view)?;
        Ok(match device {
            None => {
                let (classifier, info) = Classifier::of(weights, threads)?;
                Network::Folded(Box::new(classifier), Box::new(info))
            }
            Some(device) => Network::Tensors(Box::new(Trained::of(weights, &device)?), machine.engine),
        })
    }

    /// As [`open`](Self::open), always as tensors, which have gradients; and what computes with them.
    pub(crate) fn open_tensors(&self, checkpoint: &Path) -> anyhow::Result<(Trained, Engine)> {
        let Self { view, weights, machine } = self;
        machine.start_threads()?;
        let device = machine.open_device()?;
        let (weights, _) = weights.open(checkpoint, view)?;
        Ok((Trained::of(weights, &device)?, machine.engine))
    }
}

pub(crate) enum Network {
    Folded(Box<Classifier>, Box<WeightsInfo>),
    Tensors(Box<Trained>, Engine),
}

impl Network {
    pub(crate) fn info(&self) -> &WeightsInfo {
        match self {
            Self::Folded(_, info) => info,
            Self::Tensors(trained, _) => &trained.info,
        }
    }

    /// The likeliest classes of each picture, which is `[height, width, 3]` bytes of the network's size.
    pub(crate) fn predict(&self, pictures: &[&[u8]], top: usize) -> Result<Vec<Vec<Prediction>>, RunError> {
        match self {
            Self::Folded(classifier, info) => {
                Ok(classifier.classify(pictures, &info.normalisation, top).map_err(DataError::from)?)
            }
            Self::Tensors(trained, engine) => {
                pictures.iter().map(|pixels| trained.predict(pixels, top, *engine)).collect()
            }
        }
    }

    /// The features of all pictures, one behind the other.
    pub(crate) fn features(&self, pictures: &[&[u8]]) -> Result<Vec<f32>, RunError> {
        match self {
            Self::Folded(classifier, info) => {
                Ok(classifier.features_of(pictures, &info.normalisation).map_err(DataError::from)?)
            }
            Self::Tensors(trained, engine) => {
                let features: Result<Vec<_>, _> =
                    pictures.iter().map(|pixels| trained.features(pixels, *engine)).collect();
                Ok(features?.concat())
            }
        }
    }
}
