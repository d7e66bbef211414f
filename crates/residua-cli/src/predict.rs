//! `residua predict`: the likeliest classes of pictures.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use residua::infer::{Prediction, WeightsInfo};
use serde_json::json;

use crate::csv::{quoted, quoted_bytes};
use crate::inference::InferenceArguments;
use crate::machine::PrecisionArguments;
use crate::names::{in_text, json_text, path_in_json};
use crate::output::{print, print_bytes};
use crate::pictures::{Decoded, find_pictures, tell_speed};
use crate::usage::count;

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
    images: Vec<OsString>,
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
    #[command(flatten)]
    inference: InferenceArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { images, checkpoint, top, batch, csv, inference, precision, .. } = arguments;
    let network = inference.open(checkpoint, *precision)?;
    let (info, view) = (network.info(), network.info().view());
    let found = find_pictures(images)?;
    let begun = Instant::now();
    let mut unreadable = found.unlisted;
    if *csv {
        print("image,rank,class,probability")?;
    }
    for paths in found.paths.chunks(batch.get()) {
        let decoded = Decoded::of(paths, &view);
        let predicted = network.predict(&decoded.readable(), top.get())?;
        unreadable += decoded.report(paths, predicted, |path, predictions| {
            print_bytes(&arguments.report(info, path, &predictions))
        })?;
    }
    if found.paths.len() > batch.get() {
        tell_speed(found.paths.len(), begun);
    }
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn report(&self, info: &WeightsInfo, path: &Path, predictions: &[Prediction]) -> Vec<u8> {
        let name = |prediction: &Prediction| info.classes[prediction.class].as_str();
        if self.json {
            let predictions: Vec<_> = predictions
                .iter()
                .map(|prediction| json!({ "class": name(prediction), "probability": prediction.probability }))
                .collect();
            return json_text(&json!({ "image": path_in_json(path), "predictions": predictions }))
                .into_bytes();
        }
        if self.csv {
            let image = quoted_bytes(path.as_os_str().as_encoded_bytes());
            let line = |(rank, prediction): (usize, &Prediction)| {
                let rest = format!(",{},{},{}", rank + 1, quoted(name(prediction)), prediction.probability);
                [&*image, rest.as_bytes()].concat()
            };
            return predictions.iter().enumerate().map(line).collect::<Vec<_>>().join(&b'\n');
        }
        let line = |prediction: &Prediction| {
            format!("\n  {:5.1} %  {}", 100. * prediction.probability, name(prediction))
        };
        [&*in_text(path), predictions.iter().map(line).collect::<String>().as_bytes()].concat()
    }
}
