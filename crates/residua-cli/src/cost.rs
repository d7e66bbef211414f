//! `residua cost`: is depth worth its time?

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use residua::bench::BenchmarkMode;
use residua::device::DeviceChoice;
use residua::nn::{Layout, Memory, MemoryChoice, Parts};
use residua::ops::Engine;
use residua::report::{FoundRuns, RunSummary, find_runs};
use residua::study::{Compared, Cost, CostSet, HEADINGS, Speed, cost_page, cost_picture};

use crate::destination::Destination;
use crate::machine::MachineArguments;
use crate::measure::{Request, Subject};
use crate::network::{ImageArguments, parse_network};
use crate::output::{print, tell};
use crate::remedy::explain;
use crate::table::table;
use crate::usage::{UsageError, count, counted, threads};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua cost
  residua cost resnet20 preresnet20 preresnet110 --batch 64 --runs runs --out cost.html
  residua cost --set wide --out cost.html
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
    /// The usual networks on this data set.
    #[arg(long, default_value_t = CostSet::Cifar, value_name = "SET", value_parser = words::<CostSet>())]
    set: CostSet,
    /// Count, look up and measure nothing.
    #[arg(long)]
    counts_only: bool,
    /// Images of a batch [default: 32 for CIFAR networks, 4 for ImageNet networks].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: Option<NonZeroUsize>,
    /// Steps that count, after two that warm up.
    #[arg(long, default_value = "3", value_name = "N", value_parser = count::<NonZeroUsize>)]
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
    /// Where to compute.
    #[arg(
        long, default_value_t = DeviceChoice::Cpu, value_name = "DEVICE", help_heading = "Machine",
        value_parser = words::<DeviceChoice>()
    )]
    device: DeviceChoice,
    /// Threads that compute [default: one for each core].
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Machine")]
    threads: Option<NonZeroUsize>,
    /// What training keeps in memory, as in `residua bench`.
    #[arg(
        long, default_value_t = MemoryChoice::Mode(Memory::Fast), value_name = "MODE|SIZE", help_heading = "Machine",
        value_parser = words::<MemoryChoice>()
    )]
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
        let FoundRuns { runs: found, unlisted } = find_runs(folder)?;
        unlisted.iter().for_each(|error| tell(format_args!("warning: left out: {}", explain(error))));
        for run in found {
            match RunSummary::read(&run) {
                Ok(run) => runs.push(run),
                Err(error) => tell(format_args!("warning: left out: {}", explain(&error))),
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
                tell(format_args!("warning: {name}: no speed in {mode}: {}", explain(error.as_ref())));
                None
            }
        }
    }

    fn benchmark(&self, network: &Compared, mode: BenchmarkMode) -> anyhow::Result<Speed> {
        let (subject, usual_batch) = match network {
            Compared::Inception => (Subject::Inception, 4),
            Compared::Residual(options) => {
                let (network, size) = ImageArguments::default().resolve(options)?;
                let usual_batch = if network.layout == Layout::Cifar { 32 } else { 4 };
                (Subject::Residual { network, size }, usual_batch)
            }
        };
        let batch = self.batch.or(NonZeroUsize::new(usual_batch)).unwrap_or(NonZeroUsize::MIN);
        let machine =
            MachineArguments { device: self.device, threads: self.threads, engine: Engine::default() };
        let request = Request {
            precision: None,
            subject,
            mode,
            batch,
            steps: self.steps,
            machine,
            memory: self.memory,
            frozen: Parts::default(),
        };
        let measured = request.run_apart()?;
        Ok(Speed {
            images_per_second: measured.images_per_second_median,
            batch: batch.get(),
            peak_memory_bytes: measured.peak_memory_bytes,
        })
    }

    fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or(cores, NonZeroUsize::get);
        format!("{} with {}", self.device, counted(threads as u64, "thread", "threads"))
    }
}

fn parse(text: &str) -> Result<Compared, UsageError> {
    if text == Compared::INCEPTION {
        return Ok(Compared::Inception);
    }
    Ok(Compared::Residual(parse_network(text)?))
}
