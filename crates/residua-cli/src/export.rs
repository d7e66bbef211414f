//! `residua export`: a trained network for other programs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use residua::data::{Source, Split};
use residua::export::onnx::{AxisOrder, Norms, OnnxOptions, Pixels, Scores, encode};
use residua::export::{ExportError, ExportFormat, calibrated, int8_file, weight_file};
use residua::files::write_file;
use residua::infer::network::NamedTensors;
use residua::infer::{StoredWeights, WeightsInfo};
use serde_json::json;

use crate::images::{tell_of_oddities, trained_on};
use crate::names::path_in_json;
use crate::output::{print, print_json, tell};
use crate::usage::{UsageError, count, threads};
use crate::weights::{ViewArguments, WeightsArguments, check_residual, is_same};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua export runs/preresnet20-cifar10 --to onnx --out network.onnx
  residua export weights.safetensors --to onnx --out network.onnx --with-normalisation --input nhwc
  residua export runs/preresnet20-cifar10 --to onnx --out network.onnx --keep-norms --json
  residua export runs/resnet50-flowers --to torchvision --out flowers.safetensors
  residua export runs/preresnet110-cifar10 --to int8 --out small.safetensors
  residua export resnet50-11ad3fa6.pth --to onnx --out resnet50.onnx --classes imagenet.txt";

/// Write a trained network for other programs.
///
/// An ONNX file (operator set 17) takes batches of any size. Its tensors have the names of weight files. Its metadata says which
/// network it is, the classes, the size of the images, how they are scaled and their normalisation, under the keys of
/// weight files.
///
/// A network exported to int8 computes in bytes: eval, predict and features run it so where the processor is fast at it. The
/// file takes a quarter of the room. What convolutions read of some images says how they compute: training images are shown to the network.
///
/// The other formats are safetensors files with the names of a family: load_state_dict(load_file(FILE)) of its network takes them.
/// A file that is there already is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
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
    /// The data set whose training images are shown to a network that is exported to int8 [default: the one that the run was trained on].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// How many of them.
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    images: Option<NonZeroUsize>,
    /// Threads that show them [default: all].
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    view: ViewArguments,
    #[command(flatten)]
    weights: WeightsArguments,
    /// Print one line of JSON: format, file, bytes, checkpoint, network; of ONNX also input and output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, to, out, .. } = arguments;
    if *to != ExportFormat::Onnx && arguments.onnx() != OnnxOptions::default() {
        let given = "--with-normalisation, --input, --probabilities and --keep-norms are for --to onnx";
        return Err(UsageError::new(given).into());
    }
    let is_calibrated = arguments.data.is_some() || arguments.images.is_some() || arguments.threads.is_some();
    if *to != ExportFormat::Int8 && is_calibrated {
        return Err(UsageError::new("--data, --images and --threads are for --to int8").into());
    }
    let (weights, _) = arguments.weights.open(checkpoint, &arguments.view)?;
    if is_same(&weights.path, out) {
        return Err(UsageError::new(format_args!(
            "--out: {} holds the weights to export; give another name",
            out.display()
        ))
        .into());
    }
    if *to == ExportFormat::Int8 {
        check_residual(&weights, "--to int8")?;
    }
    let info = weights.info()?;
    let StoredWeights { path, tensors, .. } = weights;
    let refused = |error| match error {
        ExportError::Network(error) => anyhow::Error::from(StoredWeights::refused(&path, error)),
        ExportError::Family { .. } => UsageError::new(format_args!("--to {to}: {error}")).into(),
        error => error.into(),
    };
    let (bytes, onnx) = match weight_file(*to, &info, &tensors, out).map_err(refused)? {
        Some(bytes) => (bytes, None),
        None if *to == ExportFormat::Int8 => {
            let info = arguments.calibrated(&info, &tensors)?.map_err(refused)?;
            (int8_file(&info, &tensors, out).map_err(refused)?, None)
        }
        None => {
            let file = encode(&info, tensors, arguments.onnx()).map_err(refused)?;
            (file.bytes, Some((file.input, file.output, file.description)))
        }
    };
    write_file(out, &bytes)?;
    if arguments.json {
        let mut report = json!({
            "format": to,
            "file": path_in_json(out),
            "bytes": bytes.len(),
            "checkpoint": path_in_json(&path),
            "network": info.network,
        });
        if let Some((input, output, _)) = onnx {
            report["input"] = json!(input);
            report["output"] = json!(output);
        }
        print_json(&report)?;
    } else {
        let what = match onnx {
            Some((input, output, description)) => format!("{input} -> {output} ({description})"),
            None => {
                let purpose = if *to == ExportFormat::Int8 { "in bytes".into() } else { format!("for {to}") };
                format!("{}, {} classes, {purpose}", info.network.name(), info.classes.len())
            }
        };
        print(format_args!("{}: {:.2} MB, {what}", out.display(), bytes.len() as f64 / 1e6))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// What is said of weights, with the ranges of what convolutions read.
    fn calibrated(
        &self,
        info: &WeightsInfo,
        tensors: &NamedTensors,
    ) -> anyhow::Result<Result<WeightsInfo, ExportError>> {
        const IMAGES: NonZeroUsize = NonZeroUsize::new(512).unwrap();
        let source = self.data.clone().map_or_else(|| trained_on(&self.checkpoint), Ok)?;
        let images = source.load(Split::Train)?;
        tell_of_oddities(&images);
        let threads = match self.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism()?,
        };
        let count = self.images.unwrap_or(IMAGES);
        let skipped = |reason| tell(format_args!("skipped: {reason}"));
        Ok(calibrated(info, tensors, images, count, threads, skipped))
    }

    fn onnx(&self) -> OnnxOptions {
        OnnxOptions {
            pixels: if self.with_normalisation { Pixels::Raw } else { Pixels::Normalised },
            axes: self.input,
            norms: if self.keep_norms { Norms::Kept } else { Norms::Folded },
            scores: if self.probabilities { Scores::Probabilities } else { Scores::Logits },
        }
    }
}
