//! The options that say what of the machine to use.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::Args;
use residua::device::{Device, DeviceChoice};
use residua::infer::{ClassifierOptions, Precision};
use residua::nn::{Memory, MemoryChoice};
use residua::ops::Engine;
use serde::{Deserialize, Serialize};

use crate::usage::{UsageError, threads};
use crate::words::words;

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArguments {
    /// Where to compute.
    #[arg(long, default_value_t = DeviceChoice::Cpu, value_name = "DEVICE", value_parser = words::<DeviceChoice>())]
    pub(crate) device: DeviceChoice,
    /// Threads that compute [default: one for each core].
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Implementation of the operations.
    #[arg(long, default_value_t = Engine::Fused, value_name = "ENGINE", value_parser = words::<Engine>())]
    pub(crate) engine: Engine,
}

/// What trained networks compute in.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct PrecisionArguments {
    /// What the network computes in: bf16 is faster, and rounds all numbers to three digits.
    #[arg(long, default_value_t, value_name = "PRECISION", value_parser = words::<Precision>())]
    pub(crate) precision: Precision,
}

/// What training keeps in memory.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MemoryArguments {
    /// What a training step keeps for its backward pass; results are the same to the bit. A size such as 4GiB, 2.5GB or 800MB
    /// means the fastest that fits in it. `residua summary --batch N` says what each takes.
    #[arg(
        long, default_value_t = MemoryChoice::default(), value_name = "MODE|SIZE", value_parser = words::<MemoryChoice>()
    )]
    pub(crate) memory: MemoryChoice,
}

/// The mode of a run, where it is not the usual one.
pub(crate) fn memory_in_words(memory: Memory) -> String {
    if memory == Memory::Fast { String::new() } else { format!(", memory {memory}") }
}

impl MachineArguments {
    /// Sizes the process's thread pool; to be called once, before anything computes, and checks what the environment says of the
    /// processor. The number of threads.
    pub(crate) fn start_threads(&self) -> anyhow::Result<NonZeroUsize> {
        self.device.check_environment()?;
        let threads = self.threads.or(available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global()
            .with_context(|| format!("cannot start {threads} threads; try fewer with --threads"))?;
        Ok(threads)
    }

    /// Whether networks are run by [`residua::infer`]: on the CPU, unless the reference is asked for.
    pub(crate) fn infers_without_tensors(&self) -> bool {
        self.device == DeviceChoice::Cpu && self.engine == Engine::Fused
    }

    /// How a network without tensors computes in this precision with so many threads. Others compute in f32.
    pub(crate) fn classifier_options(
        &self,
        precision: Precision,
        threads: NonZeroUsize,
    ) -> Result<ClassifierOptions, UsageError> {
        if precision != Precision::F32 && !self.infers_without_tensors() {
            return Err(UsageError::new(format_args!(
                "--precision {precision} is for --device cpu and --engine fused"
            )));
        }
        precision.check().map_err(|error| UsageError::new(format_args!("--precision: {error}")))?;
        Ok(ClassifierOptions { threads, precision })
    }

    /// The device, ready to compute.
    pub(crate) fn open_device(&self) -> anyhow::Result<Device> {
        Ok(self.device.open()?)
    }
}
