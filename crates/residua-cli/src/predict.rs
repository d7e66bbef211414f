//! `residua predict`: the likeliest classes of pictures.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::read_image;
use residua::train::{Prediction, TrainError, Trained};
use serde_json::json;

use crate::machine::MachineArguments;
use crate::output::{print, tell};
use crate::usage::count;

const EXAMPLES: &str = "Examples:
  residua predict --checkpoint runs/preresnet20-cifar10 cat.jpg dog.png
  residua predict --checkpoint weights.safetensors --json *.png";

/// Name the likeliest classes of pictures.
///
/// Pictures are JPEG, PNG, WebP, BMP or GIF files of any size. They are shown to the network as in its tests: scaled by
/// the shorter side, and the middle cut out.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The pictures.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weights.safetensors of one.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// How many classes to name.
    #[arg(long, default_value = "5", value_name = "K", value_parser = count)]
    top: NonZeroUsize,
    /// Print a line of JSON for each picture.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { images, checkpoint, machine, .. } = arguments;
    machine.start_threads()?;
    let trained = Trained::load(checkpoint, &machine.open_device()?)?;
    let mut failures = 0;
    for path in images {
        match predict(&trained, path, arguments) {
            Ok(predictions) => print(report(&trained, path, &predictions, arguments.json))?,
            // A bad picture has a line of its own; the others go on.
            Err(error) => {
                tell(format_args!("error: {error}"));
                failures += 1;
            }
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn predict(trained: &Trained, path: &Path, arguments: &Arguments) -> Result<Vec<Prediction>, TrainError> {
    let pixels = read_image(path, &trained.info.view())?;
    trained.predict(&pixels, arguments.top.get(), arguments.machine.engine)
}

fn report(trained: &Trained, path: &Path, predictions: &[Prediction], as_json: bool) -> String {
    let name = |prediction: &Prediction| &trained.info.classes[prediction.class];
    if as_json {
        let predictions: Vec<_> = predictions
            .iter()
            .map(|prediction| json!({ "class": name(prediction), "probability": prediction.probability }))
            .collect();
        return json!({ "image": path, "predictions": predictions }).to_string();
    }
    let line = |prediction: &Prediction| {
        format!("\n  {:5.1} %  {}", 100. * prediction.probability, name(prediction))
    };
    predictions.iter().map(line).fold(path.display().to_string(), |report, line| report + &line)
}
