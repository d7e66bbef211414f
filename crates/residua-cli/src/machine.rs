//! The options that say what of the machine to use.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::Args;
use residua::cluster::Cluster;
use residua::device::{Device, DeviceChoice};
use residua::infer::{ClassifierOptions, ClassifierPrecision, InputRanges, Precision};
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
    /// Threads that compute [default: one for each core, under MPI shared with the other processes of the host].
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
    /// What the network computes in [default: int8, if that is what its file was exported to and this processor is fast at it; else f32].
    #[arg(long, value_name = "PRECISION", value_parser = words::<InferencePrecision>())]
    pub(crate) precision: Option<InferencePrecision>,
}

/// What a trained network computes in, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InferencePrecision {
    F32,
    Bf16,
    Int8,
}

residua::infer::words!(InferencePrecision, "precision", {
    F32 => "f32",
    Bf16 => "bf16": "bfloat16 with sums of f32: three digits; wants a processor with AMX",
    Int8 => "int8": "bytes with exact sums, of networks that were exported to it",
});

/// What a network is asked to be run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) threads: NonZeroUsize,
    pub(crate) precision: Option<InferencePrecision>,
}

impl Asked {
    /// For a network whose convolutions have such ranges, if they have any; nothing if they are needed and there are none.
    pub(crate) fn options(self, ranges: Option<&InputRanges>) -> Option<ClassifierOptions> {
        let Self { threads, precision } = self;
        let precision = match precision {
            None => None,
            Some(InferencePrecision::F32) => Some(ClassifierPrecision::F32),
            Some(InferencePrecision::Bf16) => Some(ClassifierPrecision::Bf16),
            Some(InferencePrecision::Int8) => Some(ClassifierPrecision::Int8(ranges?.clone())),
        };
        Some(ClassifierOptions { threads, precision })
    }
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
        self.start_threads_of(&Cluster::alone())
    }

    /// The same of one of several processes.
    pub(crate) fn start_threads_of(&self, cluster: &Cluster) -> anyhow::Result<NonZeroUsize> {
        self.device.check_environment()?;
        let own = |cores: NonZeroUsize| NonZeroUsize::new(cores.get() / cluster.sharing_cores());
        let threads = self.threads.or(available_parallelism().ok().and_then(own));
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global().with_context(|| match threads.get() {
            1 => "cannot start a thread; raise the limit of threads (ulimit -u) or of memory".to_owned(),
            threads => format!("cannot start {threads} threads; try fewer with --threads"),
        })?;
        Ok(threads)
    }

    /// Whether networks are run by [`residua::infer`]: on the CPU, unless the reference is asked for.
    pub(crate) fn infers_without_tensors(&self) -> bool {
        self.device == DeviceChoice::Cpu && self.engine == Engine::Fused
    }

    /// That a network without tensors computes in this precision, if one is asked for, with so many threads. Others compute in f32.
    pub(crate) fn asked(
        &self,
        precision: Option<InferencePrecision>,
        threads: NonZeroUsize,
    ) -> Result<Asked, UsageError> {
        if let Some(given @ (InferencePrecision::Bf16 | InferencePrecision::Int8)) = precision
            && !self.infers_without_tensors()
        {
            return Err(UsageError::new(format_args!(
                "--precision {given} is for --device cpu and --engine fused"
            )));
        }
        if precision == Some(InferencePrecision::Bf16) {
            let available = Precision::Bf16.check();
            available.map_err(|error| UsageError::new(format_args!("--precision: {error}")))?;
        }
        Ok(Asked { threads, precision })
    }

    /// The device, ready to compute.
    pub(crate) fn open_device(&self) -> anyhow::Result<Device> {
        Ok(self.device.open()?)
    }

    /// The device of one of several processes: where none is named by its index, that of the process's number on its host.
    pub(crate) fn open_device_of(&self, cluster: &Cluster) -> anyhow::Result<Device> {
        let device = match cluster.is_alone() {
            true => self.device,
            false => self.device.of_process(cluster.place_on_host().0),
        };
        Ok(device.open()?)
    }
}
