//! `residua import`: others' weights as a file of Residua's.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use residua::files::{check_writable, write_file};
use residua::infer::weights::encode;
use serde_json::json;

use crate::names::path_in_json;
use crate::output::{print_json, tell};
use crate::usage::UsageError;
use crate::weights::{ViewArguments, WeightsArguments, is_same, what};

const EXAMPLES: &str = "Examples:
  residua import resnet50-11ad3fa6.pth --out resnet50.safetensors --classes imagenet.txt
  residua import resnet20-12fca82f.th --out resnet20.safetensors
  residua import model.safetensors --out mine.safetensors --family torchvision --normalisation half";

/// Turn weights that PyTorch trained into a weight file of Residua's, which says all that is needed to classify.
///
/// PyTorch's files (.pth, .pt, .th) and safetensors are read; no code in them is run. Which network it is, is recognised by
/// names and shapes. eval, predict and train --init take the same files directly.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The file with the weights.
    file: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    view: ViewArguments,
    /// Print one line of JSON: the file, family, network, what was skipped and assumed.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { file, out, weights, view, json } = arguments;
    if is_same(file, out) {
        return Err(UsageError::new(format_args!(
            "--out {}: it is the file to import; name another",
            out.display()
        ))
        .into());
    }
    check_writable(out)?;
    let (weights, recognition) = weights.open(file, view)?;
    let bytes = encode(out, &weights.tensors, &weights.metadata)?;
    write_file(out, &bytes)?;
    if *json {
        let info = weights.info()?;
        print_json(&json!({
            "file": path_in_json(out),
            "family": recognition.family,
            "model": info.network.name(),
            "network": info.network,
            "classes": info.classes.len(),
            "size": [info.height, info.width],
            "shorter_side": info.shorter_side,
            "normalisation": info.normalisation,
            "tensors": weights.tensors.len(),
            "skipped": recognition.skipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "assumed": recognition.assumed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        tell(format_args!("{} holds {}", out.display(), what(&weights, &recognition)?));
    }
    Ok(ExitCode::SUCCESS)
}
