//! `residua cost`: is depth worth its time?

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use residua::bench::BenchmarkMode;
use residua::device::DeviceChoice;
use residua::nn::{Layout, Memory, MemoryChoice, NetworkOptions};
use residua::report::{RunSummary, find_runs};
use residua::study::{Compared, Cost, CostSet, HEADINGS, Speed, cost_page, cost_picture};
use serde_json::Value;

use crate::destination::Destination;
use crate::network::parse_network;
use crate::output::{print, tell};
use crate::table::table;
use crate::usage::{UsageError, count};

const EXAMPLES: &str = "Examples:
  residua cost
  residua cost resnet20 preresnet20 preresnet110 --batch 64 --runs runs --out cost.html
  residua cost --set imagenet --batch 4 --steps 1 --out cost.svg
  residua cost --set imagenet --counts-only";

/// Compare what networks cost with the error that they reach: is depth worth its time?
///
/// For each network: parameters, multiply-adds, images a second in training and inference and the memory of training, measured on this
/// machine in a process of its own, beside the published error and that of one's own runs.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Networks, as MODEL or MODEL/REFINEMENT/... (see `residua propagate`), or inception-v3 [default: those of the set].
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// The usual networks: cifar (20 to 1001 layers) or imagenet (18 to 200 layers, Inception-v3).
    #[arg(long, default_value_t = CostSet::Cifar, value_name = "SET")]
    set: CostSet,
    /// Count, look up and measure nothing.
    #[arg(long)]
    counts_only: bool,
    /// Images of a batch [default: 32 for CIFAR networks, 4 for ImageNet networks].
    #[arg(long, value_name = "N", value_parser = count)]
    batch: Option<NonZeroUsize>,
    /// Steps that count, after two that warm up.
    #[arg(long, default_value = "3", value_name = "N", value_parser = count)]
    steps: NonZeroUsize,
    /// A folder of runs of one's own; the errors of those that are finished are put beside the published ones.
    #[arg(long, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Write a page (a name that ends in .html) or a picture (.svg); may be given twice.
    #[arg(long, value_name = "FILE")]
    out: Vec<Destination>,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    /// Where to compute, as in `residua bench`.
    #[arg(long, default_value_t = DeviceChoice::Cpu, value_name = "DEVICE", help_heading = "Machine")]
    device: DeviceChoice,
    /// Threads that compute [default: one for each core].
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Machine")]
    threads: Option<NonZeroUsize>,
    /// What training keeps in memory, as in `residua bench`.
    #[arg(long, default_value_t = MemoryChoice::Mode(Memory::Fast), value_name = "MODE|SIZE", help_heading = "Machine")]
    memory: MemoryChoice,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let names: Vec<&str> = match arguments.networks.as_slice() {
        [] => arguments.set.networks().to_vec(),
        networks => networks.iter().map(String::as_str).collect(),
    };
    let networks: Vec<Compared> = names.iter().map(|name| parse(name)).collect::<Result<_, _>>()?;
    arguments.out.iter().try_for_each(Destination::check)?;
    let mut runs = Vec::new();
    for folder in &arguments.runs {
        for run in find_runs(folder)? {
            match RunSummary::read(&run) {
                Ok(run) => runs.push(run),
                Err(error) => tell(format_args!("warning: left out: {error}")),
            }
        }
    }
    let mut costs = Vec::with_capacity(networks.len());
    for (name, network) in names.iter().zip(&networks) {
        let mut cost = network.cost(name)?;
        cost.ours = network.error_of(&runs);
        if !arguments.counts_only {
            cost.training = arguments.measured(name, network, BenchmarkMode::Train);
            cost.inference = arguments.measured(name, network, BenchmarkMode::Infer);
        }
        costs.push(cost);
    }
    if arguments.json {
        print(serde_json::to_string(&costs)?)?;
    } else {
        let head = HEADINGS.map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(costs.iter().map(Cost::cells)).collect();
        print(table(&rows, 1))?;
    }
    for out in &arguments.out {
        out.write(|| cost_page(&costs, &arguments.machine()), || cost_picture(&costs))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// A benchmark in a process of its own, whose memory is then this network's; one that fails is told of and left out.
    fn measured(&self, name: &str, network: &Compared, mode: BenchmarkMode) -> Option<Speed> {
        tell(format_args!("{name}: {mode}"));
        match self.benchmark(network, mode) {
            Ok(speed) => Some(speed),
            Err(error) => {
                tell(format_args!("warning: {name}: no speed in {mode}: {error:#}"));
                None
            }
        }
    }

    fn benchmark(&self, network: &Compared, mode: BenchmarkMode) -> anyhow::Result<Speed> {
        let batch = self.batch.map_or_else(|| usual_batch(network), NonZeroUsize::get);
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        command.args(["bench", "--json", "--mode", mode.as_str(), "--batch", &batch.to_string()]);
        command.args(["--steps", &self.steps.to_string(), "--device", &self.device.to_string()]);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        match network {
            Compared::Inception => drop(command.args(["--model", Compared::INCEPTION])),
            Compared::Residual(options) => {
                command.args(options_of(options));
                command.args(["--memory", &self.memory.to_string()]);
            }
        }
        let output = command.stdin(Stdio::null()).output().context("cannot start residua bench")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} ({})", errors.trim().trim_start_matches("error: "), output.status);
        }
        let report: Value =
            serde_json::from_slice(&output.stdout).context("residua bench printed no report")?;
        let speed = report["images_per_second_median"].as_f64().context("residua bench printed no speed")?;
        let peak_memory_bytes = report["peak_memory_bytes"].as_u64();
        Ok(Speed { images_per_second: speed, batch, peak_memory_bytes })
    }

    fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or(cores, NonZeroUsize::get);
        format!("{} with {threads} threads", self.device)
    }
}

fn parse(text: &str) -> Result<Compared, UsageError> {
    if text == Compared::INCEPTION {
        return Ok(Compared::Inception);
    }
    Ok(Compared::Residual(parse_network(text)?))
}

fn usual_batch(network: &Compared) -> usize {
    match network {
        Compared::Residual(options)
            if options.resolve(1).is_ok_and(|config| config.layout == Layout::Cifar) =>
        {
            32
        }
        _ => 4,
    }
}

/// The network as options of `residua bench`.
fn options_of(options: &NetworkOptions) -> Vec<String> {
    let NetworkOptions { model, ordering, shortcut, dimensions, block, .. } = options;
    let mut arguments = vec!["--model".to_owned(), model.clone()];
    let refinements = [
        ("ordering", ordering.map(|ordering| ordering.to_string())),
        ("shortcut", shortcut.map(|shortcut| shortcut.to_string())),
        ("dimensions", dimensions.map(|dimensions| dimensions.to_string())),
        ("block", block.map(|block| block.to_string())),
    ];
    arguments
        .extend(refinements.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    arguments
}
