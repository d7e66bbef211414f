//! `residua summary`: what a network is made of and what it costs.

use std::process::ExitCode;

use clap::Args;
use residua::nn::LayerSummary;
use serde::Serialize;

use crate::network::{NetworkArguments, parse_size, usual_classes, usual_size};

/// Show a network's stages and units: output shape, parameters, multiply-adds, feature maps kept for training.
///
/// Examples:
///
///   residua summary --model preresnet164
///   residua summary --model resnet110 --shortcut exclusive-gate:-6 --dimensions b
///   residua summary --model preresnet200 --size 320x320 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// Outputs of the classifier [default: 10 for CIFAR networks, 1000 for ImageNet networks].
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Height and width of the images [default: 32x32 for CIFAR networks, 224x224 for ImageNet networks].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Print JSON, with every unit.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = arguments.network.options("preresnet20");
    let classes = arguments.classes.map_or_else(|| usual_classes(&options), Ok)?;
    let config = options.resolve(classes)?;
    let [height, width] = arguments.size.unwrap_or(usual_size(config.layout));
    let summary = config.summary(height, width)?;
    if arguments.json {
        #[derive(Serialize)]
        struct Report<'a> {
            model: &'a str,
            network: &'a residua::nn::ResNetConfig,
            input: [usize; 3],
            #[serde(flatten)]
            summary: &'a residua::nn::Summary,
        }
        let report =
            Report { model: &options.model, network: &config, input: [3, height, width], summary: &summary };
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} ordering, {} shortcut, {} units, dimensions {}, {classes} classes, input 3x{height}x{width}\n",
        options.model, config.ordering, config.shortcut, config.block, config.dimensions
    );
    println!(
        "{:<18} {:<36} {:>12} {:>12} {:>10} {:>11}",
        "layer", "", "output", "parameters", "mult-adds", "kept/image"
    );
    for alike in summary.layers.chunk_by(are_alike) {
        print_layers(alike);
    }
    println!(
        "{:<18} {:<36} {:>12} {:>12} {:>10} {:>11}",
        "total",
        "",
        "",
        thousands(summary.parameters),
        millions(summary.multiply_adds),
        bytes(summary.activation_bytes_per_image)
    );
    Ok(ExitCode::SUCCESS)
}

/// Units of a stage that differ in nothing but their number share a line.
fn are_alike(left: &LayerSummary, right: &LayerSummary) -> bool {
    LayerSummary { name: right.name.clone(), ..left.clone() } == *right
}

fn print_layers(alike: &[LayerSummary]) {
    let [first, ..] = alike else { return };
    let count = alike.len() as u64;
    let name = match alike {
        [one] => one.name.clone(),
        [first, .., last] => format!("{}..{}", first.name, last.name.rsplit('.').next().unwrap_or_default()),
        [] => return,
    };
    let times = if count > 1 { format!("{count} x ") } else { String::new() };
    let output = first.output.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    println!(
        "{name:<18} {:<36} {output:>12} {:>12} {:>10} {:>11}",
        format!("{times}{}", first.description),
        thousands(count * first.parameters),
        millions(count * first.multiply_adds),
        bytes(count * first.activation_bytes)
    );
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn millions(number: u64) -> String {
    format!("{:.1} M", number as f64 / 1e6)
}

fn bytes(number: u64) -> String {
    format!("{:.2} MB", number as f64 / 1e6)
}
