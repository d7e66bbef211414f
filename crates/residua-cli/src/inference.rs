//! A trained network that pictures are shown to: on plain memory, or as tensors on a device.

use std::path::Path;

use clap::Args;
use residua::data::{DataError, Images};
use residua::device::Device;
use residua::evaluate::{Scored, TestOptions, Trained, score_by_classifier};
use residua::infer::classifier::ClassifierError;
use residua::infer::{Classifier, Prediction, StoredWeights, WeightsInfo};
use residua::nn::Architecture;
use residua::ops::Engine;
use residua::run::RunError;

use crate::machine::{Asked, InferencePrecision, MachineArguments, PrecisionArguments};
use crate::usage::UsageError;
use crate::weights::{ViewArguments, WeightsArguments, check_residual};

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
    pub(crate) fn open(&self, checkpoint: &Path, precision: PrecisionArguments) -> anyhow::Result<Network> {
        let Self { view, weights, machine } = self;
        let asked = machine.asked(precision.precision, machine.start_threads()?)?;
        let device = machine.open_device()?;
        let (weights, _) = weights.open(checkpoint, view)?;
        let info = weights.info()?;
        let size = [info.height, info.width];
        Network::of(weights, info, size, machine, asked, &device)
    }

    /// As [`open`](Self::open), a residual network always as tensors, which have gradients; and what computes with them. `command` is what
    /// is for those alone.
    pub(crate) fn open_tensors(&self, checkpoint: &Path, command: &str) -> anyhow::Result<(Trained, Engine)> {
        let Self { view, weights, machine } = self;
        machine.start_threads()?;
        let device = machine.open_device()?;
        let (weights, _) = weights.open(checkpoint, view)?;
        check_residual(&weights, command)?;
        Ok((Trained::of(weights, &device)?, machine.engine))
    }
}

/// Something that gives predictions and features of pictures, and the error on a test set.
pub(crate) enum Network {
    Folded(Box<Classifier>, Box<WeightsInfo>),
    Tensors(Box<Trained>, Engine),
}

impl Network {
    /// The network that weights belong to, as their `info` tells, for images of `size`, height and width. Where that is asked for, residual
    /// networks do without tensors.
    pub(crate) fn of(
        weights: StoredWeights,
        info: WeightsInfo,
        size: [usize; 2],
        machine: &MachineArguments,
        asked: Asked,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let config = match &info.network {
            Architecture::ResNet(config) if machine.infers_without_tensors() => config,
            _ if !matches!(asked.precision, None | Some(InferencePrecision::F32)) => {
                let given = info.network.name();
                let precision = asked.precision.map_or("", InferencePrecision::as_str);
                let path = weights.path.display();
                return Err(UsageError::new(format_args!(
                    "--precision {precision} is for residual networks; {path} is {given}"
                ))
                .into());
            }
            _ => return Ok(Self::Tensors(Box::new(Trained::of(weights, device)?), machine.engine)),
        };
        let StoredWeights { path, tensors, .. } = weights;
        let options = asked.options(info.ranges.as_ref()).ok_or_else(|| {
            UsageError::new(format_args!(
                "--precision int8: {} is not of a network that computes in bytes; write one by residua export {0} --to int8",
                path.display()
            ))
        })?;
        let options = options.for_weights(&info);
        let classifier = Classifier::new(config, tensors, size, options).map_err(|error| match error {
            ClassifierError::Network(error) => StoredWeights::refused(&path, error).into(),
            error => error,
        })?;
        let classifier = classifier.with_temperature(info.temperature.unwrap_or_default());
        Ok(Self::Folded(Box::new(classifier), Box::new(info)))
    }

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

    /// Shows the network a test set, whose images have the size that it is for; `scored` is told what it says of each.
    pub(crate) fn score(
        &self,
        test_set: &Images,
        options: &TestOptions,
        scored: impl FnMut(Scored<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Folded(classifier, info) => {
                score_by_classifier(classifier, test_set, &info.normalisation, options, scored)
            }
            Self::Tensors(trained, engine) => trained.score(test_set, options, *engine, scored),
        }
    }
}
