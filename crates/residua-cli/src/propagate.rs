//! `residua propagate`: how signals and gradients go through networks.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use residua::data::{Normalisation, NormalisationKind, Source, Split, evaluation_batches, normalisation_of};
use residua::device::Device;
use residua::evaluate::{Trained, images};
use residua::nn::{NetworkOptions, ResNet};
use residua::study::{Propagation, propagation_page, propagation_picture};
use serde_json::{Value, json};

use crate::destination::Destination;
use crate::images::{check_classes, tell_of_oddities};
use crate::machine::MachineArguments;
use crate::network::{parse_network, visible};
use crate::output::{print, tell};
use crate::usage::{UsageError, count, whole};
use crate::waiting::Waiting;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua propagate preresnet56 resnet56
  residua propagate preresnet110 preresnet110/scale:0.5,0.5 preresnet110/shortcut-gate:-6 --out gradients.html
  residua propagate runs/preresnet20-cifar10 --data cifar10";

/// Images that are measured at a time, here and by `train --watch`, unless batch normalisation works in larger groups.
pub(crate) const BATCH: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Measure how signals and gradients propagate through networks: the paper's Eqs. 4, 5 and 8.
///
/// A batch goes through each network in training mode, forward and back; nothing is learnt. Per unit: the norms of its input x, of
/// its branch F and of dE/dx; what its shortcut carries back of the gradient; the direct and the weight term of Eq. 5; and the errors of Eqs. 4 and 5
/// within its stage, where F and the terms are taken from the branches themselves.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Networks with their initial weights, as MODEL or MODEL/REFINEMENT/..., where a refinement is an ordering, a
    /// shortcut, a block, dimensions a or b, or a width (width:2); or trained ones: a run's or checkpoint's folder. Where a folder has a
    /// model's name, a refinement that changes nothing (preresnet20/identity) means the model.
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Whose training images to take.
    #[arg(long, default_value_t = Source::Shapes, value_name = "DATA", value_parser = words::<Source>())]
    data: Source,
    /// Batches, each of other images, as far as the data set has that many; values are their means, errors the largest.
    #[arg(long, default_value = "1", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batches: NonZeroUsize,
    /// Images of a batch [default: 32, or as many more as batch normalisation needs for whole groups].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: Option<NonZeroUsize>,
    /// What initial weights and dropout masks follow from.
    #[arg(long, default_value = "1", value_name = "N", value_parser = whole::<u64>)]
    seed: u64,
    /// Write a page of all units' values (a name that ends in .html) or a picture (.svg); may be given twice.
    #[arg(long, value_name = "FILE")]
    out: Vec<Destination>,
    /// Print one line of JSON with every unit.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { networks, data, batches: count, batch, seed, out, json, machine } = arguments;
    out.iter().try_for_each(Destination::check)?;
    // Reading the data takes longer than finding out that there is no such network.
    networks.iter().filter(|name| !Path::new(name).is_dir()).try_for_each(|name| parse(name).map(drop))?;
    machine.start_threads()?;
    let device = machine.open_device()?.autodiff();
    let reading = Waiting::for_work(format!("reading {data}"));
    let training_set = data.load(Split::Train)?;
    tell_of_oddities(&training_set);
    let classes = training_set.classes().len();
    let normalisation = normalisation_of(NormalisationKind::PerChannel, &training_set)?;
    drop(reading);
    let mut looked_at: Vec<(&String, ResNet, Normalisation)> = Vec::new();
    for name in networks {
        let (network, normalisation) = match Path::new(name).is_dir() {
            true => {
                let (network, normalisation, names) = trained(Path::new(name), &device)?;
                check_classes(name, &names, &training_set, data)?;
                (network, normalisation)
            }
            false => (initial(name, classes, *seed, &device)?, normalisation.clone()),
        };
        looked_at.push((name, network, normalisation));
    }
    let usual = looked_at.iter().map(|(_, network, _)| network.config().whole_groups(BATCH)).max();
    let size = batch.or(usual).unwrap_or(BATCH);
    let mut found: Vec<(String, Propagation)> = Vec::new();
    for (name, network, normalisation) in looked_at {
        let mut measured = Vec::new();
        for batch in evaluation_batches(&training_set, &normalisation, size)?.take(count.get()) {
            let mut batch = batch?;
            if batch.len() < size.get() {
                // Norms are a whole batch's: beside others a shorter one would count for less.
                if !measured.is_empty() {
                    continue;
                }
                batch = batch.repeated_to_multiple_of(network.config().group());
            }
            let propagation = Propagation::of(&network, images(&batch, &device), &batch.labels, *seed);
            measured.push(propagation.map_err(|error| UsageError::new(format_args!("{name}: {error}")))?);
        }
        let propagation = Propagation::mean(&measured).context("the data set is empty")?;
        tell(format_args!("{name}: measured {} units", propagation.units.len()));
        found.push((name.clone(), propagation));
    }
    if *json {
        let networks =
            found.iter().map(|(name, propagation)| json!({ "network": name, "propagation": propagation }));
        print(Value::from_iter(networks))?;
    } else {
        print(table(&found))?;
    }
    for out in out {
        out.write(|| propagation_page(&found), || propagation_picture(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn initial(name: &str, classes: usize, seed: u64, device: &Device) -> anyhow::Result<ResNet> {
    let config = parse(name)?.resolve(classes)?;
    Ok(ResNet::init(&config, seed, device)?)
}

fn parse(name: &str) -> Result<NetworkOptions, UsageError> {
    parse_network(name)
        .map_err(|error| UsageError::new(format_args!("{error} (and there is no folder {})", visible(name))))
}

/// A trained network, its normalisation and the names of its classes.
fn trained(folder: &Path, device: &Device) -> anyhow::Result<(ResNet, Normalisation, Vec<String>)> {
    let Trained { network, info, path } = Trained::load(folder, device)?;
    let network = network.residual().with_context(|| path.display().to_string())?;
    let network = ResNet::init(network.config(), 0, device)?
        .with_tensors(&network.tensors())
        .with_context(|| path.display().to_string())?;
    Ok((network, info.normalisation, info.classes))
}

fn table(found: &[(String, Propagation)]) -> String {
    let width = found.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max(7);
    let head = format!(
        "{:<width$}  {:>12}  {:>10}  {:>10}  {:>24}  {:>24}  {:>12}  {:>20}",
        "network",
        "early / late",
        "Eq. 4 off",
        "Eq. 5 off",
        "attenuation of stages",
        "by Eq. 8",
        "direct share",
        "projections' shares"
    );
    let row = |(name, found): &(String, Propagation)| {
        let error = |worst: Option<f64>| worst.map_or_else(|| "-".to_owned(), |worst| format!("{worst:.1e}"));
        let list = |values: Vec<Option<f64>>| match values.is_empty() {
            true => "-".to_owned(),
            false => values.into_iter().map(if_any).collect::<Vec<_>>().join(" "),
        };
        format!(
            "{name:<width$}  {:>12}  {:>10}  {:>10}  {:>24}  {:>24}  {:>12}  {:>20}",
            found.early_over_late.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.4}")),
            error(found.worst(|unit| unit.forward_error)),
            error(found.worst(|unit| unit.backward_error)),
            list(found.stages.iter().map(|stage| Some(stage.attenuation)).collect()),
            list(found.stages.iter().map(|stage| stage.expected_attenuation).collect()),
            number(found.direct_share_across()),
            list(found.projection_shares().into_iter().map(Some).collect())
        )
    };
    std::iter::once(head).chain(found.iter().map(row)).collect::<Vec<_>>().join("\n")
}

fn if_any(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

fn number(value: f64) -> String {
    match value {
        // Of nothing there is no share.
        value if value.is_nan() => "-".to_owned(),
        0. | 0.001..1000. => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}
