//! `residua summary`: what a network is made of and what it costs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use residua::data::Normalisation;
use residua::device::{Device, free_memory};
use residua::infer::WeightsInfo;
use residua::nn::{Architecture, Memory, MemoryChoice, MemoryError, MemoryPlan, Part, Parts, ResNetConfig};
use residua::report::network_table;
use serde::Serialize;

use crate::network::{ImageArguments, NetworkArguments};
use crate::output::print;
use crate::usage::{UsageError, count, impossible_images, impossible_training};
use crate::weights::FileArguments;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua summary --model preresnet164
  residua summary --model resnet110 --shortcut exclusive-gate:-6 --dimensions b
  residua summary --model preresnet1001 --batch 128
  residua summary --model preresnet200 --size 320x320 --json
  residua summary --checkpoint resnet50-11ad3fa6.pth";

/// Show a network's stages and units: output shape, parameters, multiply-adds, feature maps kept for training.
///
/// With --checkpoint, what a run or a weight file holds: Residua's, or one of others.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    images: ImageArguments,
    /// Show the network of a run, a checkpoint or a weight file, and what the file says of it.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    file: FileArguments,
    /// Predict the peak memory of training on batches of so many images on the CPU, in each mode of --memory.
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: Option<NonZeroUsize>,
    /// Predict it for this mode only, or for the fastest that fits in a size such as 4GiB.
    #[arg(long, value_name = "MODE|SIZE", requires = "batch", value_parser = words::<MemoryChoice>())]
    memory: Option<MemoryChoice>,
    /// Predict it where training leaves these parts as they are, such as stem,stage1.
    #[arg(
        long, value_name = "PART,PART,...", requires = "batch", value_delimiter = ',', value_parser = words::<Part>()
    )]
    freeze: Vec<Part>,
    /// Print JSON, with every unit.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Asked { model, network, size: [height, width], weights } = arguments.asked()?;
    let summary = network.summary(height, width).map_err(|error| impossible_images(&error))?;
    let frozen: Parts = arguments.freeze.iter().copied().collect();
    let training = arguments.batch.map(|batch| {
        let config = network.residual()?;
        plans(config, &frozen, batch.get(), [height, width], arguments.memory)
    });
    let training = training.transpose().map_err(|error| impossible_training(&error))?;
    if arguments.json {
        #[derive(Serialize)]
        struct Report<'a> {
            model: &'a str,
            network: &'a Architecture,
            input: [usize; 3],
            #[serde(skip_serializing_if = "Option::is_none")]
            weights: Option<&'a WeightsInfo>,
            #[serde(flatten)]
            summary: &'a residua::nn::Summary,
            #[serde(skip_serializing_if = "Option::is_none")]
            batch: Option<NonZeroUsize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            training_memory: Option<Vec<MemoryPlan>>,
        }
        let report = Report {
            model: &model,
            network: &network,
            input: [3, height, width],
            weights: weights.as_ref(),
            summary: &summary,
            batch: arguments.batch,
            training_memory: training,
        };
        print(serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let title = format!("{model}: {}, input 3x{height}x{width}\n", network.description());
    print(format_args!("{title}\n{}", table(&network_table(&summary))))?;
    if let Some(info) = &weights {
        print(format_args!("\n{}", in_words(info)))?;
    }
    if let (Some(batch), Some(plans)) = (arguments.batch, training) {
        let head = ["memory", "keeps", "maps", "gradients", "other", "peak"].map(str::to_owned);
        let rows: Vec<_> = [head].into_iter().chain(plans.iter().map(plan_row)).collect();
        print(format_args!("\nTraining on batches of {batch}, predicted:\n\n{}", table(&rows)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The network that is meant.
struct Asked {
    model: String,
    network: Architecture,
    size: [usize; 2],
    /// What its file says of it.
    weights: Option<WeightsInfo>,
}

impl Arguments {
    fn asked(&self) -> anyhow::Result<Asked> {
        let Some(path) = &self.checkpoint else {
            let options = self.network.options("preresnet20");
            let (config, size) = self.images.resolve(&options)?;
            return Ok(Asked { model: options.model, network: config.into(), size, weights: None });
        };
        if self.network.are_given() || self.images.are_given() {
            let given = "--checkpoint says which network it is; leave the options of the network out";
            return Err(UsageError::new(given).into());
        }
        let info = self.file.open(path)?.info()?;
        let (model, network, size) = (info.network.name(), info.network.clone(), [info.height, info.width]);
        Ok(Asked { model, network, size, weights: Some(info) })
    }
}

/// What a weight file says of itself, besides its network.
fn in_words(info: &WeightsInfo) -> String {
    let WeightsInfo { classes, height, width, shorter_side, normalisation, .. } = info;
    let names = classes.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if classes.len() > 5 { format!(", ...: {}", classes.len()) } else { String::new() };
    let normalisation = match normalisation {
        Normalisation::PerChannel { mean, deviation } => {
            format!("mean {mean:?}, deviation {deviation:?} of pixel / 255")
        }
        Normalisation::PerPixelMean { .. } => "less the mean image".to_owned(),
    };
    format!(
        "classes: {names}{more}\npictures: scaled to {shorter_side}, cropped to {height}x{width}\nnormalisation: {normalisation}"
    )
}

/// What training takes: in the mode chosen, or in each.
fn plans(
    config: &ResNetConfig,
    frozen: &Parts,
    batch: usize,
    [height, width]: [usize; 2],
    choice: Option<MemoryChoice>,
) -> Result<Vec<MemoryPlan>, MemoryError> {
    config.check_batch(batch, height, width)?;
    let modes = match choice {
        None => Memory::ALL.to_vec(),
        Some(choice) => {
            let free = free_memory(&Device::flex());
            vec![choice.resolve_frozen(config, frozen, batch, height, width, free)?]
        }
    };
    let plan = |memory| Ok(MemoryPlan::of_frozen(config, frozen, batch, height, width, memory)?);
    modes.into_iter().map(plan).collect()
}

fn plan_row(plan: &MemoryPlan) -> [String; 6] {
    let keeps = match (plan.memory, plan.segment) {
        (Memory::Fast, _) => "all raw feature maps".to_owned(),
        (Memory::Balanced, _) => "all but first convolutions".to_owned(),
        (Memory::Lean, segment) => format!("inputs of every {} units", segment.unwrap_or(1)),
    };
    [
        plan.memory.to_string(),
        keeps,
        bytes(plan.feature_map_bytes),
        bytes(plan.gradient_map_bytes),
        bytes(plan.parameter_bytes + plan.image_bytes + plan.workspace_bytes + plan.process_bytes),
        bytes(plan.peak_bytes),
    ]
}

/// Rows with the cells of a column below each other: two of words, then numbers.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let [a, b, c, d, e, f] = std::array::from_fn(width);
    let line = |[name, description, output, parameters, multiply_adds, kept]: &[String; 6]| {
        format!(
            "{name:<a$}  {description:<b$}  {output:>c$}  {parameters:>d$}  {multiply_adds:>e$}  {kept:>f$}"
        )
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn bytes(number: u64) -> String {
    format!("{:.2} MB", number as f64 / 1e6)
}
