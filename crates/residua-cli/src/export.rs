//! `residua export`: a trained network for other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::export::onnx::{AxisOrder, Norms, OnnxOptions, Pixels, Scores, encode};
use residua::export::{ExportError, ExportFormat};
use residua::files::write_file;
use residua::infer::StoredWeights;
use residua::run::stored_weights;
use serde_json::json;

use crate::output::print;
use crate::usage::UsageError;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua export runs/preresnet20-cifar10 --to onnx --out network.onnx
  residua export weights.safetensors --to onnx --out network.onnx --with-normalisation --input nhwc
  residua export runs/preresnet20-cifar10 --to onnx --out network.onnx --keep-norms --json";

/// Write a trained network for other programs.
///
/// An ONNX file (operator set 17) takes batches of any size. Its tensors have the names of weight files. Its metadata says which
/// network it is, the classes, the size of the images, how they are scaled and their normalisation, under the keys of
/// weight files. A file that is there already is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weights.safetensors of one.
    #[arg(value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// What to write.
    #[arg(long, value_name = "FORMAT", value_parser = words::<ExportFormat>())]
    to: ExportFormat,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Put the normalisation inside: the input is bytes, 0 to 255, as decoders give them [default: normalised float32].
    #[arg(long)]
    with_normalisation: bool,
    /// How the input's axes lie.
    #[arg(long, value_name = "AXES", default_value_t = AxisOrder::Nchw, value_parser = words::<AxisOrder>())]
    input: AxisOrder,
    /// Put out probabilities, by softmax [default: logits].
    #[arg(long)]
    probabilities: bool,
    /// Keep every batch normalisation, as in training [default: those behind convolutions are folded into them].
    #[arg(long)]
    keep_norms: bool,
    /// Print one line of JSON: format, file, bytes, checkpoint, network, input, output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, to, out, .. } = arguments;
    let weights = stored_weights(checkpoint)?;
    if is_same_file(&weights.path, out) {
        return Err(UsageError::new(format_args!(
            "--out: {} holds the weights to export; give another name",
            out.display()
        ))
        .into());
    }
    let info = weights.info()?;
    let StoredWeights { path, tensors, .. } = weights;
    let file = match to {
        ExportFormat::Onnx => encode(&info, tensors, arguments.onnx()),
    };
    let file = file.map_err(|error| match error {
        ExportError::Network(error) => anyhow::Error::from(StoredWeights::refused(&path, error)),
        error => error.into(),
    })?;
    write_file(out, &file.bytes)?;
    if arguments.json {
        print(json!({
            "format": to,
            "file": out,
            "bytes": file.bytes.len(),
            "checkpoint": path,
            "network": info.network,
            "input": file.input,
            "output": file.output,
        }))?;
    } else {
        print(format_args!(
            "{}: {:.2} MB, {} -> {} ({})",
            out.display(),
            file.bytes.len() as f64 / 1e6,
            file.input,
            file.output,
            file.description
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn onnx(&self) -> OnnxOptions {
        OnnxOptions {
            pixels: if self.with_normalisation { Pixels::Raw } else { Pixels::Normalised },
            axes: self.input,
            norms: if self.keep_norms { Norms::Kept } else { Norms::Folded },
            scores: if self.probabilities { Scores::Probabilities } else { Scores::Logits },
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}
