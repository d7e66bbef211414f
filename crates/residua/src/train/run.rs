//! The training loop, exact to the bit across interruptions.
//!
//! A run is a folder: `recipe.toml`, `metrics.jsonl`, `checkpoints/`, `curves.svg` and `curves.png`. Everything random
//! is a function of the recipe's seed and of a position (the iteration, the sample), so the state of a run is its
//! tensors and a few counters, and [`Trainer::resume`] goes on from the last checkpoint as if nothing had happened.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Gradients};

use super::clock::Clock;
use super::norms::StageNorms;
use super::observer::{Observer, Progress};
use super::run_data::RunData;
use super::sgd::Sgd;
use super::step::{StepOutcome, step_looked_at};
use crate::data::{Batch, Images, Loader, Normalisation, evaluation_batches};
use crate::device::peak_memory_bytes;
use crate::evaluate::{Evaluation, evaluate};
use crate::files::write_file;
use crate::nn::{Memory, MemoryChoice, NamedTensors, Pass, ResNet};
use crate::ops::Engine;
#[cfg(feature = "reports")]
use crate::plot::draw_curves;
#[cfg(feature = "tensorboard")]
use crate::run::EventFile;
use crate::run::Failure;
use crate::run::Recipe;
use crate::run::RunError;
use crate::run::lock;
#[cfg(any(feature = "reports", feature = "tensorboard"))]
use crate::run::read_metrics;
use crate::run::{Best, Checkpoint, LogWindow, RECIPE, State};
use crate::run::{CHECKPOINTS, CheckpointStore, Resumed, latest_checkpoint};
use crate::run::{MetricsLog, Record, now};
use residua_infer::weights::WeightsInfo;

/// The file of a run that holds its metrics.
const METRICS: &str = "metrics.jsonl";

/// What a run uses of the machine; none of it is part of the recipe.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where the network runs.
    pub device: Device,
    /// Which implementation of the operations.
    pub engine: Engine,
    /// What a step keeps for its backward pass, or the memory that it must fit in.
    pub memory: MemoryChoice,
    /// Threads that make batches ahead of the step.
    pub workers: NonZeroUsize,
    /// Whether the run's folder gets a file of events for TensorBoard.
    #[cfg(feature = "tensorboard")]
    pub writes_events: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Finished iterations.
    pub iteration: u64,
    /// Whether that is all of them, or the observer stopped the run.
    pub is_finished: bool,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The last evaluation in this process, if there was one.
    pub evaluation: Option<Evaluation>,
    /// The best evaluation of the run.
    pub best: Option<Best>,
}

/// A run of a recipe in a folder.
pub struct Trainer {
    recipe: Recipe,
    folder: PathBuf,
    machine: Machine,
    memory: Memory,
    network: ResNet,
    sgd: Sgd,
    normalisation: Normalisation,
    training_set: Arc<Images>,
    test_set: Images,
    batch_size: NonZeroUsize,
    loader: Loader,
    store: CheckpointStore,
    metrics: MetricsLog,
    #[cfg(feature = "tensorboard")]
    events: Option<EventFile>,
    state: State,
    last_checkpoint: Option<PathBuf>,
    warnings: Vec<String>,
    _lock: File,
}

impl Trainer {
    /// Begins a run in `folder`, which must not hold one yet, from `initial` weights if they are given.
    ///
    /// # Errors
    /// When the recipe is impossible, its data cannot be read, or the folder cannot be written.
    pub fn start(
        recipe: Recipe,
        folder: &Path,
        machine: Machine,
        initial: Option<&NamedTensors>,
    ) -> Result<Self, RunError> {
        recipe.validate()?;
        if folder.join(RECIPE).exists() || latest_checkpoint(folder)?.is_some() {
            return Err(RunError::RunExists { folder: folder.to_owned() });
        }
        let data = RunData::load(&recipe)?;
        let memory = data.memory(&recipe, machine.memory, &machine.device)?;
        let mut network = data.network(&recipe, &machine.device)?;
        if let Some(tensors) = initial {
            network = network.with_tensors(tensors)?;
        }
        fs::create_dir_all(folder)
            .map_err(|reason| RunError::Folder { folder: folder.to_owned(), reason })?;
        let lock = lock(folder)?;
        let sgd = Sgd::new(&recipe.optimiser);
        let metrics = MetricsLog::create(&folder.join(METRICS))?;
        let state = State::new(recipe.seed);
        let store = CheckpointStore::open(folder)?;
        let mut trainer =
            Self::assemble(recipe, folder, machine, memory, network, sgd, data, metrics, store, state, lock)?;
        // From here on there is always a checkpoint to resume from.
        trainer.save()?;
        write_file(&folder.join(RECIPE), trainer.recipe.to_toml().as_bytes())?;
        Ok(trainer)
    }

    /// Goes on with the run in `folder` from its last checkpoint. `recipe` may differ from the run's own in what
    /// [`Recipe::changes_on_resume`] allows.
    ///
    /// # Errors
    /// When there is no such run, no checkpoint of it is whole, or the recipe is another one.
    pub fn resume(folder: &Path, recipe: Recipe, machine: Machine) -> Result<Self, RunError> {
        recipe.validate()?;
        if !folder.join(CHECKPOINTS).is_dir() {
            return Err(RunError::NoRun { folder: folder.to_owned() });
        }
        let lock = lock(folder)?;
        let mut store = CheckpointStore::open(folder)?;
        let no_run = || RunError::NoRun { folder: folder.to_owned() };
        let Resumed { checkpoint, path, damaged } = store.resume()?.ok_or_else(no_run)?;
        let Checkpoint { weights, momentum, recipe: old, state, .. } = checkpoint;
        old.changes_on_resume(&recipe)?;
        if state.iteration >= recipe.schedule.iterations {
            let iterations = recipe.schedule.iterations;
            return Err(RunError::AlreadyDone {
                folder: folder.to_owned(),
                iteration: state.iteration,
                iterations,
            });
        }
        let data = RunData::load(&recipe)?;
        let memory = data.memory(&recipe, machine.memory, &machine.device)?;
        let network = data.network(&recipe, &machine.device)?.with_tensors(&weights)?;
        let sgd = Sgd::new(&recipe.optimiser).with_tensors(&momentum, &machine.device);
        Failure::clear(folder)?;
        let metrics = MetricsLog::resume(&folder.join(METRICS), state.iteration)?;
        write_file(&folder.join(RECIPE), recipe.to_toml().as_bytes())?;
        let mut trainer =
            Self::assemble(recipe, folder, machine, memory, network, sgd, data, metrics, store, state, lock)?;
        trainer.last_checkpoint = Some(path);
        trainer.warnings = damaged.iter().map(ToString::to_string).collect();
        Ok(trainer)
    }

    /// The recipe of this run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The first training images, `count` of them or as many more as batch normalisation needs for whole groups, neither
    /// cropped nor mirrored at random; where there are not enough for a whole group they come again. None where none of them
    /// can be read.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn first_images(&self, count: NonZeroUsize) -> Result<Option<Batch>, RunError> {
        let config = self.network.config();
        let count = config.whole_groups(count);
        let mut batches = evaluation_batches(&self.training_set, &self.normalisation, count)?;
        let batch = batches.next().transpose()?;
        Ok(batch.map(|batch| batch.repeated_to_multiple_of(config.group())))
    }

    /// Finished iterations.
    pub fn iteration(&self) -> u64 {
        self.state.iteration
    }

    /// What a step keeps for its backward pass.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// What was odd about the checkpoints that the run was resumed from.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Trains to the end of the schedule, or until `observer` wants to stop.
    ///
    /// # Errors
    /// When the loss diverges, or a file cannot be written.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Ending, RunError> {
        self.train(observer).inspect_err(|error| {
            // What has ended the run is about to be told; that no note of it could be left is no second error.
            let _ = Failure::note(&self.folder, error, self.state.iteration);
        })
    }

    fn train(&mut self, observer: &mut dyn Observer) -> Result<Ending, RunError> {
        let iterations = self.recipe.schedule.iterations;
        let intervals = self.recipe.intervals.clone();
        let mut evaluation = None;
        let mut clock = Clock::start();
        while self.state.iteration < iterations && !observer.wants_to_stop() {
            let learning_rate = self.recipe.schedule.learning_rate_at(self.state.iteration);
            let outcome = self.step(learning_rate)?;
            let iteration = self.state.iteration;
            clock.count(self.batch_size.get());
            observer.stepped(&self.progress(outcome, learning_rate, &clock));
            let started = Instant::now();
            if let Some(record) = observer.look(iteration, &self.network)? {
                self.record(&record)?;
                clock.pause(started);
            }
            self.training_set.take_newly_unreadable().iter().for_each(|reason| observer.skipped(reason));

            let is_last = iteration == iterations;
            if iteration.is_multiple_of(intervals.log) || is_last {
                self.log(learning_rate, &clock)?;
                clock.begin_window();
            }
            let mut is_best = false;
            if iteration.is_multiple_of(intervals.evaluate) || is_last {
                let started = Instant::now();
                let result = self.evaluate()?;
                is_best = self.note(&result)?;
                observer.evaluated(iteration, &result);
                self.test_set.take_newly_unreadable().iter().for_each(|reason| observer.skipped(reason));
                evaluation = Some(result);
                clock.pause(started);
            }
            if iteration.is_multiple_of(intervals.checkpoint) || is_best || is_last {
                let started = Instant::now();
                self.save_with_curves()?;
                clock.pause(started);
            }
        }
        if self.store.last_saved() != Some(self.state.iteration) {
            self.save_with_curves()?;
        }
        Ok(Ending {
            iteration: self.state.iteration,
            is_finished: self.state.iteration >= iterations,
            checkpoint: self.last_checkpoint.clone().unwrap_or_default(),
            evaluation,
            best: self.state.best.clone(),
        })
    }

    fn step(&mut self, learning_rate: f64) -> Result<StepOutcome, RunError> {
        let batch = self.loader.next_batch()?;
        let pass = Pass::train(self.recipe.seed, self.state.iteration)
            .with_engine(self.machine.engine)
            .with_memory(self.memory);
        let network = self.network.clone();
        let is_measured =
            self.recipe.intervals.norms.is_some_and(|norms| (self.state.iteration + 1).is_multiple_of(norms));
        let look =
            |network: &ResNet, gradients: &Gradients| is_measured.then(|| StageNorms::of(network, gradients));
        let (network, outcome, norms) =
            step_looked_at(network, &mut self.sgd, &batch, pass, learning_rate, look)?;
        if !outcome.loss.is_finite() {
            return Err(self.diverged(format!("loss {}", outcome.loss), learning_rate));
        }
        self.network = network;
        self.state.iteration += 1;
        self.state.samples_drawn = self.loader.position();
        self.state.window.add(outcome.loss, outcome.misclassified, batch.len() as u64);
        if let Some(StageNorms { weights, gradients }) = norms {
            let iteration = self.state.iteration;
            let (weight_norms, gradient_norms) = (weights, gradients);
            self.record(&Record::Norms { iteration, weight_norms, gradient_norms, time: now() })?;
        }
        Ok(outcome)
    }

    /// A training line of the metrics: means since the last one.
    fn log(&mut self, learning_rate: f64, clock: &Clock) -> Result<(), RunError> {
        let LogWindow { loss, misclassified, images, iterations } = std::mem::take(&mut self.state.window);
        if iterations == 0 {
            return Ok(());
        }
        self.record(&Record::Training {
            iteration: self.state.iteration,
            epoch: self.epoch(),
            loss: loss / iterations as f64,
            error: 100. * misclassified as f64 / images as f64,
            learning_rate,
            images_per_second: clock.images_per_second(),
            seconds: clock.seconds(),
            peak_memory_bytes: peak_memory_bytes(),
            time: now(),
        })
    }

    fn record(&mut self, record: &Record) -> Result<(), RunError> {
        self.metrics.append(record)?;
        #[cfg(feature = "tensorboard")]
        if let Some(events) = &mut self.events {
            events.append(record)?;
        }
        Ok(())
    }

    fn evaluate(&self) -> Result<Evaluation, RunError> {
        let Self { network, test_set, normalisation, batch_size, machine, .. } = self;
        let evaluation = evaluate(network, test_set, normalisation, *batch_size, machine.engine)?;
        if !evaluation.test_loss.is_finite() {
            let learning_rate = self.recipe.schedule.learning_rate_at(self.state.iteration.saturating_sub(1));
            return Err(self.diverged(format!("test loss {}", evaluation.test_loss), learning_rate));
        }
        Ok(evaluation)
    }

    /// Writes an evaluation down; whether it is the best so far.
    fn note(&mut self, evaluation: &Evaluation) -> Result<bool, RunError> {
        let Evaluation { test_loss, test_error, .. } = *evaluation;
        let iteration = self.state.iteration;
        let epoch = self.epoch();
        self.record(&Record::Evaluation { iteration, epoch, test_loss, test_error, time: now() })?;
        let is_best = self.state.best.as_ref().is_none_or(|best| test_error < best.test_error);
        if is_best {
            self.state.best = Some(Best { iteration, test_error });
        }
        Ok(is_best)
    }

    /// The curves come first: with its last checkpoint a run is over, and nothing would draw curves that a kill had prevented. That
    /// they cannot be drawn costs no checkpoint.
    #[cfg(feature = "reports")]
    fn save_with_curves(&mut self) -> Result<(), RunError> {
        let drawn = self.draw_curves();
        self.save()?;
        drawn
    }

    #[cfg(not(feature = "reports"))]
    fn save_with_curves(&mut self) -> Result<(), RunError> {
        self.save()
    }

    fn save(&mut self) -> Result<(), RunError> {
        let weights = self.network.tensors();
        // Gradients that blew up show in the loss one step later; such weights must not replace good ones.
        if let Some(name) = first_not_finite(&weights) {
            let learning_rate = self.recipe.schedule.learning_rate_at(self.state.iteration.saturating_sub(1));
            return Err(self.diverged(format!("'{name}' not finite"), learning_rate));
        }
        self.metrics.sync()?;
        let checkpoint = Checkpoint {
            weights_metadata: self.weights_info().to_metadata(),
            momentum: self.sgd.tensors(&self.network),
            recipe: self.recipe.clone(),
            state: self.state.clone(),
            weights,
        };
        self.last_checkpoint = Some(self.store.save(&checkpoint)?);
        let best = self.state.best.as_ref().map(|best| best.iteration);
        self.store.retain(self.recipe.intervals.keep, best)?;
        Ok(())
    }

    #[cfg(feature = "reports")]
    fn draw_curves(&self) -> Result<(), RunError> {
        let records = read_metrics(&self.folder.join(METRICS))?;
        let title = format!("{} on {}", self.recipe.network.model, self.training_set.name());
        Ok(draw_curves(&title, &records, &self.folder)?)
    }

    fn progress(&self, outcome: StepOutcome, learning_rate: f64, clock: &Clock) -> Progress {
        Progress {
            iteration: self.state.iteration,
            iterations: self.recipe.schedule.iterations,
            epoch: self.epoch(),
            loss: outcome.loss,
            error: 100. * outcome.misclassified as f64 / self.batch_size.get() as f64,
            learning_rate,
            images_per_second: clock.images_per_second(),
        }
    }

    fn epoch(&self) -> f64 {
        self.state.samples_drawn as f64 / self.training_set.len() as f64
    }

    fn weights_info(&self) -> WeightsInfo {
        WeightsInfo {
            network: self.network.config().clone(),
            classes: self.training_set.classes().to_vec(),
            height: self.training_set.height(),
            width: self.training_set.width(),
            shorter_side: self.test_set.view().shorter_side,
            normalisation: self.normalisation.clone(),
        }
    }

    fn diverged(&self, what: String, learning_rate: f64) -> RunError {
        RunError::Diverged {
            what,
            iteration: self.state.iteration,
            learning_rate,
            checkpoint: self.last_checkpoint.clone().unwrap_or_else(|| self.folder.clone()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts that `start` and `resume` make differently")]
    fn assemble(
        recipe: Recipe,
        folder: &Path,
        machine: Machine,
        memory: Memory,
        network: ResNet,
        sgd: Sgd,
        data: RunData,
        metrics: MetricsLog,
        store: CheckpointStore,
        state: State,
        lock: File,
    ) -> Result<Self, RunError> {
        #[cfg(feature = "tensorboard")]
        let events = match machine.writes_events {
            true => Some(EventFile::begin(folder, &recipe, &read_metrics(&folder.join(METRICS))?)?),
            false => None,
        };
        let batch_size = NonZeroUsize::new(recipe.optimiser.batch).unwrap_or(NonZeroUsize::MIN);
        let loader = data.loader(&recipe, machine.workers, state.samples_drawn)?;
        Ok(Self {
            store,
            folder: folder.to_owned(),
            recipe,
            machine,
            memory,
            network,
            sgd,
            normalisation: data.normalisation,
            training_set: data.training_set,
            test_set: data.test_set,
            batch_size,
            loader,
            #[cfg(feature = "tensorboard")]
            events,
            metrics,
            state,
            last_checkpoint: None,
            warnings: Vec::new(),
            _lock: lock,
        })
    }
}

fn first_not_finite(tensors: &NamedTensors) -> Option<&String> {
    let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    tensors.iter().find(|(_, tensor)| !is_finite(&tensor.values)).map(|(name, _)| name)
}
