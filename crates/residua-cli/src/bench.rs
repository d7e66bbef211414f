//! `residua bench`: how fast a network trains or classifies here, and in how much memory.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use residua::train::{Benchmark, BenchmarkMode, TrainError};
use serde_json::json;

use crate::machine::{MachineArguments, MemoryArguments};
use crate::network::{ImageArguments, NetworkArguments};
use crate::output::print;
use crate::usage::{UsageError, count, impossible_training};

const EXAMPLES: &str = "Examples:
  residua bench --model preresnet164 --batch 64 --steps 5
  residua bench --model resnet110 --mode infer --batch 1 --threads 1 --json";

/// Measure training or inference on random images that are in memory already.
///
/// A training step is the trainer's own: forward, cross-entropy, backward, SGD with momentum 0.9 and weight decay
/// 1e-4. Two more steps, to warm up, precede those that count.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// Images of a batch.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count)]
    batch: NonZeroUsize,
    /// Steps that count.
    #[arg(long, default_value = "5", value_name = "N", value_parser = count)]
    steps: NonZeroUsize,
    /// train or infer.
    #[arg(long, default_value_t = BenchmarkMode::Train, value_name = "MODE")]
    mode: BenchmarkMode,
    #[command(flatten)]
    images: ImageArguments,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    memory: MemoryArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { batch, steps, mode, machine, .. } = arguments;
    let threads = machine.start_threads()?;
    let options = arguments.network.options("preresnet110");
    let (network, size) = arguments.images.resolve(&options)?;
    let memory = arguments.memory.memory.resolve(&network, batch.get(), size[0], size[1]);
    let memory = memory.map_err(|error| impossible_training(&error))?;
    let benchmark = Benchmark {
        network: network.clone(),
        mode: *mode,
        batch: batch.get(),
        size,
        steps: steps.get(),
        engine: machine.engine,
        memory,
    };
    let measured = benchmark.run(&machine.open_device()?).map_err(|error| match error {
        TrainError::Network(error) => UsageError::new(error).into(),
        error => anyhow::Error::new(error),
    })?;
    if arguments.json {
        let report = json!({
            "engine": format!("residua {} {}", env!("CARGO_PKG_VERSION"), machine.engine),
            "model": options.model,
            "ordering": network.ordering,
            "shortcut": network.shortcut,
            "dimensions": network.dimensions,
            "block": network.block,
            "mode": mode.as_str(),
            "batch": batch,
            "steps": steps,
            "memory": memory,
            "device": machine.device,
            "threads": threads,
            "parameters": measured.parameters,
            "images_per_second_median": measured.images_per_second_median,
            "images_per_second": measured.images_per_second,
            "peak_memory_bytes": measured.peak_memory_bytes,
        });
        print(report)?;
    } else {
        let peak = measured
            .peak_memory_bytes
            .map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
        print(format_args!(
            "{} {mode}, batch {batch}, {threads} threads on {}, memory {memory}: {:.1} images/s (median of {steps} steps; best {:.1}), \
             peak memory {peak}, {} parameters",
            options.model,
            machine.device,
            measured.images_per_second_median,
            measured.images_per_second,
            measured.parameters
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
