//! `residua eval`: loss and error of a trained network on a test set.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use residua::data::{Source, Split};
use residua::train::{Trained, evaluate, saved_recipe};
use serde_json::json;

use crate::machine::MachineArguments;

/// Measure a trained network on a data set's test images.
///
/// Examples:
///
///   residua eval --checkpoint runs/preresnet20-shapes
///   residua eval --checkpoint weights.safetensors --data cifar10:data --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weights.safetensors of one.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// The data set: shapes, cifar10:DIR or cifar100:DIR [default: the one that the run was trained on].
    #[arg(long, value_name = "DATA")]
    data: Option<Source>,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value_t = NonZeroUsize::new(128).expect("128 is not zero"), value_name = "N")]
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
        None => {
            saved_recipe(checkpoint).context("no --data is given and the run's own is not known")?.data.source
        }
    };
    let test_set = source.load(Split::Test)?;
    let (outputs, classes) = (trained.info.classes.len(), test_set.classes().len());
    if outputs != classes {
        bail!(
            "{} has {outputs} classes, {source} has {classes}; give the data set it was trained for by --data",
            trained.path.display()
        );
    }
    let result = evaluate(&trained.network, &test_set, &trained.info.normalisation, *batch, machine.engine)?;
    if *json {
        println!(
            "{}",
            json!({
                "test_error": result.test_error,
                "test_loss": result.test_loss,
                "images": result.images,
                "checkpoint": trained.path,
                "data": source,
            })
        );
    } else {
        println!(
            "test error {:.2} %, test loss {:.4} on {} images of {source} ({})",
            result.test_error,
            result.test_loss,
            result.images,
            trained.path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
