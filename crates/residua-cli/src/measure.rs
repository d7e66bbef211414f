//! A benchmark as it is asked for: run in this process, or in one of its own, whose peak of memory is then this benchmark's. The
//! other process is `residua measure`, asked and answered in JSON.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, bail};
use residua::bench::{
    Benchmark, BenchmarkMode, Measurement, measure_classifier, measure_inception, random_ranges,
};
use residua::device::free_memory;
use residua::infer::ClassifierOptions;
use residua::nn::{Memory, MemoryChoice, Parts, ResNetConfig};
use residua::run::RunError;
use serde::{Deserialize, Serialize};

use crate::machine::{InferencePrecision, MachineArguments};
use crate::output::print;
use crate::usage::{UsageError, impossible_images, impossible_run, impossible_training};

/// What is measured, and on what of the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) mode: BenchmarkMode,
    /// Images of a batch.
    pub(crate) batch: NonZeroUsize,
    /// Steps that count.
    pub(crate) steps: NonZeroUsize,
    pub(crate) machine: MachineArguments,
    pub(crate) memory: MemoryChoice,
    /// Parts of the network that training leaves as they are.
    pub(crate) frozen: Parts,
    /// What a classifier computes in; training does what the network says.
    pub(crate) precision: Option<InferencePrecision>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Subject {
    Residual {
        network: ResNetConfig,
        /// Height and width of its images.
        size: [usize; 2],
    },
    /// For 1000 classes; on Burn's own operations.
    Inception,
}

impl Subject {
    /// Height and width of Inception-v3's images.
    pub(crate) const INCEPTION_SIDE: usize = 299;
}

/// What was measured, and the memory mode that it was measured in.
pub(crate) struct Measured {
    pub(crate) measurement: Measurement,
    pub(crate) memory: Memory,
}

impl Request {
    /// Measures here, where so many threads have been started.
    pub(crate) fn run(&self, threads: NonZeroUsize) -> anyhow::Result<Measured> {
        let Self { subject, mode, machine, .. } = self;
        let (batch, steps) = (self.batch.get(), self.steps.get());
        let device = machine.open_device()?;
        let (network, size) = match subject {
            Subject::Residual { network, size } => (network, *size),
            Subject::Inception => {
                let measurement = measure_inception(*mode, batch, Subject::INCEPTION_SIDE, steps, &device)?;
                return Ok(Measured { measurement, memory: Memory::default() });
            }
        };
        let classifier = match mode {
            BenchmarkMode::Infer => {
                check_images(self.batch, size, free_memory(&device))?;
                Some(classifier_options(machine, self.precision, threads, (network, size))?)
            }
            BenchmarkMode::Train => None,
        };
        let memory = match mode {
            BenchmarkMode::Infer => Memory::default(),
            BenchmarkMode::Train => {
                let [height, width] = size;
                let free = free_memory(&device);
                let memory = self.memory.resolve_frozen(network, &self.frozen, batch, height, width, free);
                memory.map_err(|error| impossible_training(&error))?
            }
        };
        let measured = match classifier.filter(|_| machine.infers_without_tensors()) {
            Some(options) => measure_classifier(network, batch, size, steps, options),
            None => self.benchmark(network, size, memory).run(&device),
        };
        Ok(Measured { measurement: measured.map_err(impossible_inference)?, memory })
    }

    fn benchmark(&self, network: &ResNetConfig, size: [usize; 2], memory: Memory) -> Benchmark {
        let Self { mode, batch, steps, machine, frozen, .. } = self;
        Benchmark {
            network: network.clone(),
            mode: *mode,
            batch: batch.get(),
            size,
            steps: steps.get(),
            engine: machine.engine,
            memory,
            frozen: frozen.clone(),
        }
    }

    /// Measures in a process of its own.
    pub(crate) fn run_apart(&self) -> anyhow::Result<Measurement> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut process = Command::new(program)
            .arg("measure")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start residua measure")?;
        let mut request = serde_json::to_vec(self)?;
        request.push(b'\n');
        // It stays open as long as this process is there: the other one ends with it.
        let mut stdin = process.stdin.take();
        let written = stdin.as_mut().map(|stdin| stdin.write_all(&request));
        let output = process.wait_with_output().context("cannot wait for residua measure")?;
        drop(stdin);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} ({})", errors.trim().trim_start_matches("error: "), output.status);
        }
        written.transpose().context("cannot ask residua measure")?;
        serde_json::from_slice(&output.stdout).context("residua measure printed no measurement")
    }
}

/// Whether images of this size that are classified together leave memory for all else.
fn check_images(
    batch: NonZeroUsize,
    [height, width]: [usize; 2],
    free: Option<u64>,
) -> Result<(), UsageError> {
    let bytes = [batch.get(), height, width, 3 * size_of::<f32>()].map(|factor| factor as f64);
    let (bytes, gigabytes) = (bytes.iter().product::<f64>(), |bytes: f64| bytes / 1e9);
    match free {
        Some(free) if bytes > free as f64 / 2. => Err(UsageError::new(format_args!(
            "--batch: {batch} images take {:.2} GB, and {:.2} GB are free; make the batch smaller",
            gigabytes(bytes),
            gigabytes(free as f64)
        ))),
        _ => Ok(()),
    }
}

/// How a new network classifies in this precision, f32 if none is given.
pub(crate) fn classifier_options(
    machine: &MachineArguments,
    precision: Option<InferencePrecision>,
    threads: NonZeroUsize,
    (network, size): (&ResNetConfig, [usize; 2]),
) -> anyhow::Result<ClassifierOptions> {
    let asked = machine.asked(precision, threads)?;
    let is_of_bytes = precision == Some(InferencePrecision::Int8);
    let ranges = is_of_bytes.then(|| random_ranges(network, size, threads)).transpose();
    let options = asked.options(ranges.map_err(impossible_inference)?.as_ref());
    Ok(options.expect("there are ranges where they are needed"))
}

/// The other process: measures what standard input asks for.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("standard input cannot be read")?;
    let request: Request = serde_json::from_str(&line).context("standard input holds no request")?;
    end_with_whoever_asks();
    let threads = request.machine.start_threads()?;
    let Measured { measurement, .. } = request.run(threads)?;
    print(serde_json::to_string(&measurement)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Standard input ends with the process that asked, in whichever way that ends; nobody would read the answer.
fn end_with_whoever_asks() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(1);
    });
}

/// A network that cannot classify such images is an error of whoever asked for them.
pub(crate) fn impossible_inference(error: RunError) -> anyhow::Error {
    match error {
        RunError::Network(error) => impossible_images(&error).into(),
        error => impossible_run(error),
    }
}
