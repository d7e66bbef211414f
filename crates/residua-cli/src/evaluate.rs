//! `residua eval`: loss and error of a trained network on a test set.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::{Source, Split};
use residua::train::{TrainError, Trained, evaluate, saved_recipe};
use serde_json::json;

use crate::machine::MachineArguments;
use crate::output::print;
use crate::usage::{UsageError, count};

const EXAMPLES: &str = "Examples:
  residua eval --checkpoint runs/preresnet20-shapes
  residua eval --checkpoint weights.safetensors --data cifar10:data --json";

/// Measure a trained network on a data set's test images.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weights.safetensors of one.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// The data set: shapes, cifar10:DIR or cifar100:DIR [default: the one that the run was trained on].
    #[arg(long, value_name = "DATA")]
    data: Option<Source>,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count)]
    batch: NonZeroUsize,
    /// Print one line of JSON: test_error (percent), test_loss, images.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, data, batch, json, machine } = arguments;
    machine.start_threads()?;
    let trained = Trained::load(checkpoint, &machine.open_device()?)?;
    let source = match data {
        Some(source) => source.clone(),
        None => trained_on(checkpoint)?,
    };
    let test_set = source.load(Split::Test)?;
    let (outputs, classes) = (trained.info.classes.len(), test_set.classes().len());
    if outputs != classes {
        return Err(UsageError::new(format_args!(
            "{} has {outputs} classes, {source} has {classes}; give the data set it was trained for by --data",
            trained.path.display()
        ))
        .into());
    }
    let result = evaluate(&trained.network, &test_set, &trained.info.normalisation, *batch, machine.engine)?;
    if *json {
        print(json!({
            "test_error": result.test_error,
            "test_loss": result.test_loss,
            "images": result.images,
            "checkpoint": trained.path,
            "data": source,
        }))?;
    } else {
        print(format_args!(
            "test error {:.2} %, test loss {:.4} on {} images of {source} ({})",
            result.test_error,
            result.test_loss,
            result.images,
            trained.path.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The data set that the run of these weights was trained on.
fn trained_on(checkpoint: &Path) -> anyhow::Result<Source> {
    match saved_recipe(checkpoint) {
        Ok(recipe) => Ok(recipe.data.source),
        Err(TrainError::NoRun { .. }) => Err(UsageError::new(format_args!(
            "nothing beside {} says which data set it was trained on; name one with --data",
            checkpoint.display()
        ))
        .into()),
        Err(error) => Err(error.into()),
    }
}
