//! `residua predict`: the likeliest classes of pictures.

mod pictures;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use rayon::prelude::*;
use residua::data::{DataError, read_image};
use residua::evaluate::Trained;
use residua::infer::{Classifier, Prediction, WeightsInfo};
use residua::run::RunError;
use serde_json::json;

use self::pictures::pictures;
use crate::machine::MachineArguments;
use crate::output::{print, tell};
use crate::remedy::explain;
use crate::usage::{count, whole};
use crate::weights::WeightsArguments;

const EXAMPLES: &str = "Examples:
  residua predict --checkpoint runs/preresnet20-cifar10 cat.jpg dog.png
  residua predict --checkpoint runs/preresnet20-cifar10 --top 1 --csv photos 'more/*.jpg' > classes.csv
  find photos -name '*.png' | residua predict --checkpoint weights.safetensors --json -";

/// Name the likeliest classes of pictures.
///
/// Pictures are JPEG, PNG, WebP, BMP or GIF files of any size. They are shown to the network as in its tests: scaled by
/// the shorter side, and the middle cut out. A picture that cannot be read gets an error of its own, the others go on.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Files, folders (all pictures in them, at any depth), patterns such as 'photos/*.jpg', or - for paths on standard
    /// input, one on each line.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// How many classes to name.
    #[arg(long, default_value = "5", value_name = "K", value_parser = count::<NonZeroUsize>)]
    top: NonZeroUsize,
    /// Pictures that are decoded and classified together; does not change the result.
    #[arg(long, default_value = "64", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Print a line of JSON for each picture.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values, a line for each class named: image,rank,class,probability.
    #[arg(long)]
    csv: bool,
    /// Height and width of what the network sees of a picture [default: as in training; of others' weights, the family's
    /// custom].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    size: Option<usize>,
    /// Pixels to which the shorter side of a picture is scaled before it is cropped [default: as in training, or 8/7 of
    /// --size].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    scale: Option<usize>,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { images, checkpoint, machine, .. } = arguments;
    let threads = machine.start_threads()?;
    let device = (!machine.infers_without_tensors()).then(|| machine.open_device()).transpose()?;
    let (weights, _) = arguments.weights.open(checkpoint, arguments.size, arguments.scale)?;
    let network = match device {
        None => {
            let (classifier, info) = Classifier::of(weights, threads)?;
            Network::Folded(Box::new(classifier), Box::new(info))
        }
        Some(device) => Network::Tensors(Box::new(Trained::of(weights, &device)?)),
    };
    let found = pictures(images)?;
    if found.is_empty() {
        bail!("there is no picture in {}; give files, folders with pictures, or patterns", images.join(", "));
    }
    let begun = Instant::now();
    let mut failures = 0;
    if arguments.csv {
        print("image,rank,class,probability")?;
    }
    for paths in found.chunks(arguments.batch.get()) {
        for (path, predicted) in paths.iter().zip(network.predict(paths, arguments)?) {
            match predicted {
                Ok(predictions) => print(arguments.report(network.info(), path, &predictions))?,
                // A bad picture has a line of its own; the others go on.
                Err(error) => {
                    tell(format_args!("error: {}", explain(&error)));
                    failures += 1;
                }
            }
        }
    }
    if found.len() > arguments.batch.get() {
        let seconds = begun.elapsed().as_secs_f64();
        let speed = found.len() as f64 / seconds.max(1e-9);
        tell(format_args!("{} pictures in {seconds:.1} s, {speed:.0} a second", found.len()));
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What finds the classes.
enum Network {
    Folded(Box<Classifier>, Box<WeightsInfo>),
    Tensors(Box<Trained>),
}

/// What a picture shows, or why it cannot be read.
type Predicted = Result<Vec<Prediction>, RunError>;

impl Network {
    fn info(&self) -> &WeightsInfo {
        match self {
            Self::Folded(_, info) => info,
            Self::Tensors(trained) => &trained.info,
        }
    }

    fn predict(&self, paths: &[PathBuf], arguments: &Arguments) -> Result<Vec<Predicted>, RunError> {
        let view = self.info().view();
        let decoded: Vec<Result<Vec<u8>, RunError>> =
            paths.par_iter().map(|path| Ok(read_image(path, &view).map_err(DataError::from)?)).collect();
        let top = arguments.top.get();
        match self {
            Self::Tensors(trained) => {
                let predict =
                    |pixels: Result<Vec<u8>, _>| trained.predict(&pixels?, top, arguments.machine.engine);
                Ok(decoded.into_iter().map(predict).collect())
            }
            Self::Folded(classifier, info) => {
                let readable: Vec<&[u8]> = decoded.iter().flatten().map(Vec::as_slice).collect();
                let mut classified = classifier
                    .classify(&readable, &info.normalisation, top)
                    .map_err(DataError::from)?
                    .into_iter();
                let predicted =
                    |pixels: Result<Vec<u8>, _>| pixels.map(|_| classified.next().unwrap_or_default());
                Ok(decoded.into_iter().map(predicted).collect())
            }
        }
    }
}

impl Arguments {
    fn report(&self, info: &WeightsInfo, path: &Path, predictions: &[Prediction]) -> String {
        let name = |prediction: &Prediction| info.classes[prediction.class].as_str();
        if self.json {
            let predictions: Vec<_> = predictions
                .iter()
                .map(|prediction| json!({ "class": name(prediction), "probability": prediction.probability }))
                .collect();
            return json!({ "image": path, "predictions": predictions }).to_string();
        }
        if self.csv {
            let image = quoted(&path.to_string_lossy());
            let line = |(rank, prediction): (usize, &Prediction)| {
                format!("{image},{},{},{}", rank + 1, quoted(name(prediction)), prediction.probability)
            };
            return predictions.iter().enumerate().map(line).collect::<Vec<_>>().join("\n");
        }
        let line = |prediction: &Prediction| {
            format!("\n  {:5.1} %  {}", 100. * prediction.probability, name(prediction))
        };
        predictions.iter().map(line).fold(path.display().to_string(), |report, line| report + &line)
    }
}

/// A value of a line of comma-separated values (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
