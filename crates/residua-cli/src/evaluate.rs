//! `residua eval`: loss and error of a trained network on a test set.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::{Crops, ImageFolder, Source, Split, View};
use residua::infer::StoredWeights;
use residua::run::{RunError, saved_recipe};
use serde_json::json;

use crate::inference::Network;
use crate::machine::{MachineArguments, PrecisionArguments};
use crate::output::{print, tell};
use crate::usage::{UsageError, count, impossible_images, share, whole};
use crate::weights::{ViewArguments, WeightsArguments};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua eval --checkpoint runs/preresnet20-shapes
  residua eval --checkpoint weights.safetensors --data cifar10:data --json
  residua eval --checkpoint resnet20-12fca82f.th --data cifar10:data
  residua eval --checkpoint runs/preresnet50-flowers --size 320 --scale 320 --crops 10";

/// Measure a trained network on a data set's test images.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// The data set [default: the one that the run was trained on].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// Height and width of what the network sees of a folder's pictures [default: as in training].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    size: Option<usize>,
    /// Pixels to which the shorter side of a folder's pictures is scaled before they are cropped [default: 8/7 of the
    /// size, 256 for 224; the size itself up to 64].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    scale: Option<usize>,
    /// Crops of each of a folder's pictures.
    #[arg(long, value_name = "N", value_parser = words::<Crops>())]
    crops: Option<Crops>,
    /// The share of a folder's pictures that may be unreadable.
    #[arg(long, value_name = "SHARE", default_value_t = ImageFolder::UNREADABLE_SHARE, value_parser = share)]
    max_unreadable: f64,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Print one line of JSON: test_error (percent), test_loss, images.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, data, batch, json, weights, machine, max_unreadable, .. } = arguments;
    let asked = machine.asked(arguments.precision.precision, machine.start_threads()?)?;
    let device = machine.open_device()?;
    let (weights, _) = weights.open(checkpoint, &ViewArguments::default())?;
    let (info, path) = (weights.info()?, weights.path.clone());
    let fits = info.network.check_tensors(&weights.tensors);
    fits.map_err(|error| StoredWeights::refused(&path, error))?;
    let source = data.clone().map_or_else(|| trained_on(checkpoint), Ok)?;
    let view = arguments.view(&source, info.view())?;
    let fits = info.network.check_input(view.height, view.width);
    fits.map_err(|error| impossible_images(&error))?;
    let test_set = source.load(Split::Test)?.seen_by(view)?.tolerating(*max_unreadable);
    let (outputs, classes) = (info.classes.len(), test_set.classes().len());
    if outputs != classes {
        return Err(UsageError::new(format_args!(
            "{} has {outputs} classes, {source} has {classes}; give the data set it was trained for by --data",
            path.display()
        ))
        .into());
    }
    if source.is_folder() && info.classes != test_set.classes() {
        return Err(UsageError::new(format_args!(
            "the classes of {} ({}) are not those that {} was trained on ({})",
            source,
            some(test_set.classes()),
            path.display(),
            some(&info.classes)
        ))
        .into());
    }
    let network = Network::of(weights, info, [view.height, view.width], machine, asked, &device)?;
    let result = network.evaluate(&test_set, *batch)?;
    for reason in test_set.take_newly_unreadable() {
        tell(format_args!("skipped: {reason}"));
    }
    if *json {
        print(json!({
            "test_error": result.test_error,
            "test_loss": result.test_loss,
            "images": result.images,
            "checkpoint": path.to_string_lossy(),
            "data": source,
        }))?;
    } else {
        print(format_args!(
            "test error {:.2} %, test loss {:.4} on {} images of {source} ({})",
            result.test_error,
            result.test_loss,
            result.images,
            path.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// What the network sees of a picture, if the options do not say otherwise as `usual`.
    fn view(&self, source: &Source, usual: View) -> Result<View, UsageError> {
        let Self { size, scale, crops, .. } = self;
        if !source.is_folder() && (size.is_some() || scale.is_some() || crops.is_some()) {
            let given = "--size, --scale and --crops are for pictures in a folder";
            return Err(UsageError::new(format_args!("{given}, not for {source}")));
        }
        let view = size.map_or(usual, View::square);
        let view = View {
            shorter_side: scale.unwrap_or(view.shorter_side),
            crops: crops.unwrap_or(view.crops),
            ..view
        };
        let flag = if scale.is_some() { "--scale" } else { "--size" };
        view.check().map_err(|error| UsageError::new(format_args!("{flag}: {error}")))?;
        Ok(view)
    }
}

/// The first few of many names.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, ...: {}", names.len()) } else { shown }
}

/// The data set that the run of these weights was trained on.
pub(crate) fn trained_on(checkpoint: &Path) -> anyhow::Result<Source> {
    match saved_recipe(checkpoint) {
        Ok(recipe) => Ok(recipe.data.source),
        Err(RunError::NoRun { .. }) => Err(UsageError::new(format_args!(
            "nothing beside {} says which data set it was trained on; name one with --data",
            checkpoint.display()
        ))
        .into()),
        Err(error) => Err(error.into()),
    }
}
