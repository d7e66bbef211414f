//! `residua bench`: how fast a network trains or classifies here, and in how much memory.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use residua::bench::{BenchmarkMode, Latency, measure_latency, measure_loader};
use residua::data::Source;
use residua::nn::{NetworkOptions, Part, Parts, Precision};
use residua::run::{NamedRecipe, Recipe};
use residua::study::Compared;
use serde_json::json;

use crate::augmentation::AugmentationArguments;
use crate::machine::{InferencePrecision, MachineArguments, MemoryArguments};
use crate::measure::{Measured, Request, Subject, classifier_options, impossible_inference};
use crate::network::{ImageArguments, NetworkArguments};
use crate::output::print;
use crate::usage::{UsageError, count, threads};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua bench --model preresnet164 --batch 64 --steps 5
  residua bench --model resnet110 --mode infer --batch 1 --threads 1 --json
  residua bench --model inception-v3 --batch 8
  residua bench --load folder:flowers --model preresnet50 --workers 2";

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
    #[arg(long, default_value = "128", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Steps that count.
    #[arg(long, default_value = "5", value_name = "N", value_parser = count::<NonZeroUsize>)]
    steps: NonZeroUsize,
    /// What to measure.
    #[arg(long, default_value_t = BenchmarkMode::Train, value_name = "MODE", value_parser = words::<BenchmarkMode>())]
    mode: BenchmarkMode,
    /// Parts of the network that training leaves as they are, such as stem,stage1.
    #[arg(long, value_name = "PART,PART,...", value_delimiter = ',', value_parser = words::<Part>(), conflicts_with = "load")]
    freeze: Vec<Part>,
    /// In infer: compute in bytes, as networks do that were exported to int8.
    #[arg(long, conflicts_with_all = ["precision", "load"])]
    int8: bool,
    /// In infer: as many callers at once, each with one batch after another; the time that a call takes.
    #[arg(long, value_name = "N", value_parser = threads)]
    callers: Option<NonZeroUsize>,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    augmentation: AugmentationArguments,
    /// Measure how fast training images of this data set are made, without any network. Steps are batches then. The options of
    /// augmentation are for this.
    #[arg(
        long, value_name = "DATA", conflicts_with = "mode", help_heading = "Loading", value_parser = words::<Source>()
    )]
    load: Option<Source>,
    /// Threads that make them.
    #[arg(long, default_value = "1", value_name = "N", value_parser = threads, help_heading = "Loading")]
    workers: NonZeroUsize,
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
    let mut options = arguments.network.options("preresnet110");
    if let Some(source) = &arguments.load {
        return load(arguments, source, options);
    }
    if arguments.augmentation.are_given() {
        return Err(UsageError::new("augmentation is for --load, which makes training images").into());
    }
    if arguments.int8 && (*mode != BenchmarkMode::Infer || options.model == Compared::INCEPTION) {
        let given = "--int8 is for --mode infer of residual networks; they are trained in f32 or bf16";
        return Err(UsageError::new(given).into());
    }
    let is_trained = *mode == BenchmarkMode::Train && options.model != Compared::INCEPTION;
    if !arguments.freeze.is_empty() && !is_trained {
        return Err(UsageError::new("--freeze is for --mode train of residual networks").into());
    }
    if options.model == Compared::INCEPTION {
        if options != NetworkOptions::named(Compared::INCEPTION) || arguments.images.are_given() {
            let given = "--model inception-v3 is one network, for 1000 classes and images of 299x299";
            return Err(UsageError::new(format_args!("{given}; leave out what refines it")).into());
        }
        return inception(arguments, threads);
    }
    if *mode == BenchmarkMode::Infer {
        // A classifier computes all networks in bfloat16, training not.
        options.precision = None;
    }
    let (network, size) = arguments.images.resolve(&options)?;
    if let Some(callers) = arguments.callers {
        if *mode != BenchmarkMode::Infer || !machine.infers_without_tensors() {
            return Err(UsageError::new("--callers is for --mode infer on the cpu").into());
        }
        let precision = arguments.precision();
        let classifier = classifier_options(machine, precision, threads, (&network, size))?;
        let measured = measure_latency(&network, batch.get(), size, (callers, *steps), classifier);
        return latency(arguments, &options.model, callers, &measured.map_err(impossible_inference)?);
    }
    let precision = match arguments.precision() {
        Some(precision) => precision.as_str(),
        None => network.precision.as_str(),
    };
    let subject = Subject::Residual { network: network.clone(), size };
    let Measured { measurement: measured, memory } = arguments.request(subject).run(threads)?;
    if arguments.json {
        let mut report = json!({
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
            "trunk": network.trunk,
            "precision": precision,
            "device": machine.device,
            "threads": threads,
            "parameters": measured.parameters,
            "images_per_second_median": measured.images_per_second_median,
            "images_per_second": measured.images_per_second,
            "peak_memory_bytes": measured.peak_memory_bytes,
        });
        if !arguments.freeze.is_empty() {
            report["frozen"] = json!(arguments.frozen());
        }
        print(report)?;
    } else {
        let peak = measured
            .peak_memory_bytes
            .map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
        print(format_args!(
            "{} {mode}, batch {batch}, {threads} threads on {}, memory {memory}, trunk {}, {}: {:.1} images/s (median of {steps} steps; best {:.1}), \
             peak memory {peak}, {} parameters",
            options.model,
            machine.device,
            network.trunk,
            precision,
            measured.images_per_second_median,
            measured.images_per_second,
            measured.parameters
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn request(&self, subject: Subject) -> Request {
        Request {
            subject,
            mode: self.mode,
            batch: self.batch,
            steps: self.steps,
            machine: self.machine.clone(),
            memory: self.memory.memory,
            frozen: self.frozen(),
            precision: self.precision(),
        }
    }

    /// What a classifier computes in.
    fn precision(&self) -> Option<InferencePrecision> {
        match self.network.precision() {
            _ if self.int8 => Some(InferencePrecision::Int8),
            Some(Precision::Bf16) => Some(InferencePrecision::Bf16),
            Some(Precision::F32) | None => None,
        }
    }

    fn frozen(&self) -> Parts {
        self.freeze.iter().copied().collect()
    }
}

/// What callers at once have to wait.
fn latency(
    arguments: &Arguments,
    model: &str,
    callers: NonZeroUsize,
    measured: &Latency,
) -> anyhow::Result<ExitCode> {
    let Arguments { batch, steps, .. } = arguments;
    let Latency { median, percentile_99, images_per_second } = measured;
    if arguments.json {
        print(json!({
            "engine": concat!("residua ", env!("CARGO_PKG_VERSION")),
            "model": model,
            "batch": batch,
            "callers": callers,
            "calls": steps,
            "seconds_median": median,
            "seconds_percentile_99": percentile_99,
            "images_per_second": images_per_second,
        }))?;
    } else {
        print(format_args!(
            "{model}, batch {batch}, {callers} callers with {steps} calls each: median {:.2} ms, 99 % within {:.2} ms, \
             {images_per_second:.0} images/s",
            1e3 * median,
            1e3 * percentile_99
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Inception-v3 for 1000 classes, beside which the paper puts its networks; on Burn's own operations.
fn inception(arguments: &Arguments, threads: NonZeroUsize) -> anyhow::Result<ExitCode> {
    let Arguments { batch, steps, mode, machine, .. } = arguments;
    let measured = arguments.request(Subject::Inception).run(threads)?.measurement;
    if arguments.json {
        print(json!({
            "engine": format!("residua {} composed", env!("CARGO_PKG_VERSION")),
            "model": Compared::INCEPTION,
            "mode": mode.as_str(),
            "batch": batch,
            "steps": steps,
            "device": machine.device,
            "threads": threads,
            "parameters": measured.parameters,
            "images_per_second_median": measured.images_per_second_median,
            "images_per_second": measured.images_per_second,
            "peak_memory_bytes": measured.peak_memory_bytes,
        }))?;
    } else {
        print(format_args!(
            "{} {mode}, {side}x{side}, batch {batch}, {threads} threads on {}: {:.1} images/s (median of {steps} steps)",
            Compared::INCEPTION,
            machine.device,
            measured.images_per_second_median,
            side = Subject::INCEPTION_SIDE
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures the loader instead of a network.
fn load(arguments: &Arguments, source: &Source, network: NetworkOptions) -> anyhow::Result<ExitCode> {
    let Arguments { batch, steps, workers, .. } = arguments;
    let mut recipe = Recipe::named(NamedRecipe::PaperCifar);
    recipe.network = network;
    recipe.optimiser.batch = batch.get();
    recipe.data.source = source.clone();
    arguments.augmentation.refine(&mut recipe.data);
    if source.is_folder() {
        let (_, [height, _]) = arguments.images.resolve(&recipe.network)?;
        recipe.data.size = Some(height);
    }
    recipe.validate().map_err(UsageError::from)?;
    let augmentation = recipe.augmentation_options().map_err(UsageError::from)?;
    let speed = measure_loader(&recipe, *workers, *steps)?;
    if arguments.json {
        print(json!({
            "engine": concat!("residua ", env!("CARGO_PKG_VERSION")),
            "data": source,
            "augmentation": augmentation.crop,
            "varies_colour": augmentation.varies_colour,
            "variation": augmentation.to_string(),
            "workers": workers,
            "batch": batch,
            "steps": steps,
            "images_per_second": speed,
        }))?;
    } else {
        print(format_args!(
            "{source}, {augmentation}: {speed:.0} images/s made by {workers} workers ({:.0} each)",
            speed / workers.get() as f64
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
