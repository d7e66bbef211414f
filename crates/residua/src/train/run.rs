//! The training loop, exact to the bit across interruptions.
//!
//! A run is a folder: `recipe.toml`, `metrics.jsonl`, `checkpoints/`, `curves.svg` and `curves.png`. Everything random
//! is a function of the recipe's seed and of a position (the iteration, the sample), so the state of a run is its
//! tensors and a few counters, and [`Trainer::resume`](super::Trainer::resume) goes on from the last checkpoint as if nothing had happened.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::clock::Clock;
use super::exchanges::Exchanges;
use super::initial_weights::LoadedWeights;
use super::loss::StepOutcome;
use super::machine::Machine;
use super::norms::StageNorms;
use super::observer::{Observer, Progress};
use super::optimiser::Optimiser;
use super::ranks::{Said, backward_on_ranks, digest, evaluate_on_ranks, share_of};
use super::ready::Ready;
use super::run_files::RunFiles;
use super::saver::{Described, OpenFiles, Saver, Stand, Standing, first_not_finite};
use super::step::backward_on_this_thread;
use super::weight_average::WeightAverage;
use crate::data::{Batch, Images, Loader, evaluation_batches};
use crate::device::peak_memory_bytes;
use crate::evaluate::{Evaluation, evaluate};
use crate::nn::{Memory, Pass, ResNet};
use crate::ops;
#[cfg(feature = "reports")]
use crate::plot::draw_curves;
use crate::run::{Best, Due, Failure, LogWindow, Recipe, Record, RunError, State, now};

/// Steps between two comparisons of the ranks' weights.
const COMPARED_EVERY: u64 = 100;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Finished iterations.
    pub iteration: u64,
    /// Whether that is all of them, or as many as the run's patience allows, or the observer stopped the run.
    pub is_finished: bool,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The last evaluation in this process, if there was one.
    pub evaluation: Option<Evaluation>,
    /// The same of the average of the weights, if the run keeps one.
    pub average_evaluation: Option<Evaluation>,
    /// The best evaluation of the run.
    pub best: Option<Best>,
}

/// A run in its folder, begun or resumed by a [`Trainer`](super::Trainer), which nobody else can go on with meanwhile.
pub struct Run {
    pub(super) recipe: Recipe,
    machine: Machine,
    pub(super) ready: Ready,
    exchanged: Exchanges,
    /// Those of rank 0, which alone writes.
    files: Option<Arc<OpenFiles>>,
    pub(super) folder: PathBuf,
    standing: Arc<Standing>,
    described: Arc<Described>,
    optimiser: Optimiser,
    /// The average of the weights, if one is kept.
    average: Option<WeightAverage>,
    loader: Loader,
    state: State,
    /// What has been told of files that cannot be read.
    told: RefCell<BTreeSet<String>>,
    pub(super) warnings: Vec<String>,
    pub(super) loaded_weights: Option<LoadedWeights>,
}

impl Run {
    pub(super) fn new(
        recipe: Recipe,
        machine: Machine,
        ready: Ready,
        files: Option<RunFiles>,
        optimiser: Optimiser,
        average: Option<WeightAverage>,
        state: State,
    ) -> Result<Self, RunError> {
        let loader = ready.images.loader(
            &recipe,
            ready.normalisation.clone(),
            machine.workers,
            state.samples_drawn,
            share_of(&machine.cluster),
        )?;
        let weights_metadata = ready.weights_info().to_metadata();
        let described = Arc::new(Described { recipe: recipe.clone(), weights_metadata });
        let (warnings, exchanged) = (ready.images.warnings(), Exchanges::new(&machine.cluster));
        let run = Self {
            recipe,
            machine,
            ready,
            exchanged,
            folder: files.as_ref().map(|files| files.folder.clone()).unwrap_or_default(),
            files: files.map(OpenFiles::new),
            standing: Arc::default(),
            described,
            optimiser,
            average,
            loader,
            state,
            told: RefCell::default(),
            warnings,
            loaded_weights: None,
        };
        run.stand();
        Ok(run)
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
        let Ready { images, normalisation, network, .. } = &self.ready;
        let config = network.config();
        let count = config.whole_groups(count);
        let mut batches = evaluation_batches(images.training(), normalisation, count)?;
        let batch = batches.next().transpose()?;
        Ok(batch.map(|batch| batch.repeated_to_multiple_of(config.group())))
    }

    /// Finished iterations.
    pub fn iteration(&self) -> u64 {
        self.state.iteration
    }

    /// What a step keeps for its backward pass.
    pub fn memory(&self) -> Memory {
        self.ready.memory
    }

    /// The classes that the network tells apart.
    pub fn classes(&self) -> &[String] {
        self.ready.images.training().classes()
    }

    /// What became of the weights that the run was begun with, if it has just been begun with any.
    pub fn loaded_weights(&self) -> Option<&LoadedWeights> {
        self.loaded_weights.as_ref()
    }

    /// What is odd about the images and about the checkpoints that the run was resumed from, and which of its pictures are others now.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Saves the run from another thread while this one trains.
    pub fn saver(&self) -> Saver {
        Saver::new(self.files.as_ref(), &self.standing)
    }

    /// Trains to the end of the schedule, or until `observer` wants to stop.
    ///
    /// # Errors
    /// When the loss diverges, or a file cannot be written; [`RunError::Closed`] when a [`Saver`] has closed the run.
    pub fn train(mut self, observer: &mut dyn Observer) -> Result<Ending, RunError> {
        self.follow_schedule(observer).inspect_err(|error| {
            if !matches!(error, RunError::Closed) && self.files.is_some() {
                // What has ended the run is about to be told; that no note of it could be left is no second error.
                let _ = Failure::note(&self.folder, error, self.state.iteration);
            }
        })
    }

    fn follow_schedule(&mut self, observer: &mut dyn Observer) -> Result<Ending, RunError> {
        let (mut tested, mut clock) = (Tested::default(), Clock::start());
        let mut is_stopping = self.wants_to_stop(observer)?;
        loop {
            if !self.state.due.is_nothing() {
                self.finish_iteration(observer, &mut tested, &mut clock)?;
            }
            let wants_to_stop = observer.wants_to_stop();
            // Ranks tell each other with their steps.
            if tested.is_over || is_stopping || self.machine.cluster.is_alone() && wants_to_stop {
                break;
            }
            self.stand();
            let learning_rate = self.learning_rate(self.state.iteration + 1);
            let outcome;
            (outcome, is_stopping) = self.step(learning_rate, wants_to_stop)?;
            clock.count(self.recipe.optimiser.images());
            observer.stepped(&self.progress(outcome, learning_rate, &clock));
        }
        if !self.is_saved()? {
            self.save_with_curves(false)?;
        }
        let Tested { is_over, evaluation, average_evaluation } = tested;
        Ok(Ending {
            iteration: self.state.iteration,
            is_finished: is_over,
            checkpoint: self.last_checkpoint().unwrap_or_default(),
            evaluation,
            average_evaluation,
            best: self.state.best.clone(),
        })
    }

    /// Does what is due after an iteration: measurements, a line of the metrics, tests, checkpoints. Where the observer wants to stop,
    /// tests stay due.
    fn finish_iteration(
        &mut self,
        observer: &mut dyn Observer,
        tested: &mut Tested,
        clock: &mut Clock,
    ) -> Result<(), RunError> {
        let iteration = self.state.iteration;
        let intervals = self.recipe.intervals.clone();
        let is_last = iteration == self.recipe.schedule.iterations;
        if self.state.due == Due::Measurements {
            self.stand();
            let started = Instant::now();
            let measured = observer.measure(iteration, &self.ready.network)?;
            if !measured.is_empty() {
                measured.iter().try_for_each(|record| self.record(record))?;
                clock.pause(started);
            }
            let is_logged = iteration.is_multiple_of(intervals.log) || is_last;
            if is_logged || self.machine.cluster.is_alone() {
                self.tell_of_unreadable(self.ready.images.training(), observer)?;
            }
            if is_logged {
                self.log(self.learning_rate(iteration), clock)?;
                clock.begin_window();
            }
        }
        let mut is_best = false;
        let is_saved = iteration.is_multiple_of(intervals.checkpoint) || is_last;
        if iteration.is_multiple_of(intervals.evaluate) || is_last {
            self.state.due = Due::Tests;
            if self.wants_to_stop(observer)? {
                return Ok(());
            }
            let started = Instant::now();
            // A test may take longer than those who end programs wait.
            if is_saved && !self.is_saved()? {
                self.save()?;
            }
            self.stand();
            is_best = self.validate(observer)?;
            tested.is_over = is_last || self.is_out_of_patience();
            if tested.is_over || self.ready.images.validation().is_none() {
                let (result, averaged) = self.evaluate(self.ready.images.test(), observer)?;
                is_best |= self.note(&result, averaged.as_ref())?;
                observer.evaluated(iteration, &result);
                if let Some(averaged) = &averaged {
                    observer.evaluated_average(iteration, averaged);
                }
                (tested.evaluation, tested.average_evaluation) = (Some(result), averaged);
            }
            clock.pause(started);
        }
        if tested.is_over && !self.is_saved()? {
            // Memory may give out over the curves.
            self.save()?;
        }
        self.state.due = Due::Nothing;
        if is_saved || is_best || tested.is_over {
            self.stand();
            let started = Instant::now();
            self.save_with_curves(tested.is_over)?;
            clock.pause(started);
        }
        Ok(())
    }

    /// Whether the observer of this rank, or that of another, wants to stop.
    fn wants_to_stop(&self, observer: &mut dyn Observer) -> Result<bool, RunError> {
        let own = f64::from(u8::from(observer.wants_to_stop()));
        Ok(self.machine.cluster.gather(&[own])?.concat().contains(&1.))
    }

    /// That of an iteration, counted from 1.
    fn learning_rate(&self, iteration: u64) -> f64 {
        self.recipe.schedule.learning_rate_at(iteration.saturating_sub(1))
    }

    /// Leaves how the run stands for whoever saves it from another thread.
    fn stand(&self) {
        self.standing.put(self.as_it_stands());
    }

    fn as_it_stands(&self) -> Stand {
        Stand {
            network: self.ready.network.clone(),
            optimiser: self.optimiser.clone(),
            average: self.average.clone(),
            state: self.state.clone(),
            described: self.described.clone(),
        }
    }

    fn last_checkpoint(&self) -> Option<PathBuf> {
        self.files.as_ref()?.open().ok()?.last_checkpoint.clone()
    }

    /// Ranks that do not write have nothing to save.
    fn is_saved(&self) -> Result<bool, RunError> {
        let Some(files) = &self.files else { return Ok(true) };
        Ok(files.open()?.store.last_saved() == Some((self.state.iteration, self.state.due)))
    }

    fn record(&self, record: &Record) -> Result<(), RunError> {
        self.files.as_ref().map_or(Ok(()), |files| files.open()?.record(record))
    }

    pub(super) fn write_recipe(&self) -> Result<(), RunError> {
        self.files.as_ref().map_or(Ok(()), |files| files.open()?.write_recipe(&self.recipe))
    }

    /// What the step has taught, and whether the run is to stop behind it.
    fn step(&mut self, learning_rate: f64, wants_to_stop: bool) -> Result<(StepOutcome, bool), RunError> {
        let iteration = self.state.iteration + 1;
        let measures_norms = self.recipe.intervals.norms.is_some_and(|norms| iteration.is_multiple_of(norms));
        let pass = Pass::train(self.recipe.seed, self.state.iteration)
            .with_engine(self.machine.engine)
            .with_memory(self.ready.memory);
        let pass = match self.machine.sharing_statistics() {
            Some(cluster) => pass.with_shared_statistics(cluster.clone()),
            None => pass,
        };
        let mut pass = self.recipe.regularisation.of_pass(pass);
        let (network, loss) = (self.ready.network.clone(), &self.ready.loss);
        let (loader, optimiser, options) = (&mut self.loader, &mut self.optimiser, &self.recipe.optimiser);
        let (standing, cluster, exchanged) = (&self.standing, &self.machine.cluster, &mut self.exchanged);
        let (network, outcome, norms, is_stopping) = ops::with_threads_awake(&network.device(), || {
            let batches = (0..options.accumulate).map(|_| loader.next_batch().map_err(RunError::from));
            let (mut learnt, outcome, is_stopping);
            if cluster.is_alone() {
                learnt = backward_on_this_thread(&network, batches, loss, &mut pass)?;
                (outcome, is_stopping) = (None, false);
            } else {
                let is_compared = (iteration - 1).is_multiple_of(COMPARED_EVERY);
                let weights = is_compared.then(|| digest(&network));
                let said = Said { wants_to_stop, weights, waited: exchanged.waited };
                let together = backward_on_ranks(&network, batches, loss, &mut pass, cluster, said)?;
                exchanged.add(&together);
                (outcome, is_stopping) = (Some(together.outcome), together.wants_to_stop);
                learnt = together.learnt;
            }
            let norms = measures_norms.then(|| StageNorms::of(&network, &learnt.gradients));
            if let Some(norm) = options.clip_norm {
                learnt.clip(&network, norm);
            }
            standing.take_away();
            let network = optimiser.step(network, &mut learnt.gradients, learning_rate).absorb(pass);
            let outcome = outcome.unwrap_or_else(|| learnt.outcome());
            Ok::<_, RunError>((network, outcome, norms, is_stopping))
        })?;
        if !outcome.loss.is_finite() {
            return Err(self.diverged(format!("loss {}", outcome.loss), learning_rate));
        }
        if let Some(average) = &mut self.average {
            average.follow(&network, iteration);
        }
        self.ready.network = network;
        self.state.iteration = iteration;
        self.state.due = Due::Measurements;
        self.state.samples_drawn = self.loader.position();
        let images = self.recipe.optimiser.images() as u64;
        self.state.window.add(outcome.loss, outcome.misclassified, images);
        if let Some(StageNorms { weights, gradients }) = norms {
            let (weight_norms, gradient_norms) = (weights, gradients);
            self.record(&Record::Norms { iteration, weight_norms, gradient_norms, time: now() })?;
        }
        Ok((outcome, is_stopping))
    }

    /// A training line of the metrics: means since the last one.
    fn log(&mut self, learning_rate: f64, clock: &Clock) -> Result<(), RunError> {
        let LogWindow { loss, misclassified, images, iterations } = std::mem::take(&mut self.state.window);
        let exchange = self.exchanged.window(&self.machine.cluster, clock.window_seconds());
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
            exchange,
            time: now(),
        })
    }

    /// What the network and the average of its weights, if there is one, reach on some images.
    fn evaluate(
        &self,
        images: &Images,
        observer: &mut dyn Observer,
    ) -> Result<(Evaluation, Option<Evaluation>), RunError> {
        observer.tests(self.state.iteration, images.len());
        let network = &self.ready.network;
        let result = self.evaluate_network(network, images);
        // A rank that fails asks the others for nothing more.
        if result.is_ok() || self.machine.cluster.is_alone() {
            self.tell_of_unreadable(images, observer)?;
        }
        let result = result?;
        let averaged = self.average.as_ref().map(|average| average.network(network));
        let averaged = averaged.map(|network| self.evaluate_network(&network, images)).transpose()?;
        Ok((result, averaged))
    }

    /// Tells of files that could not be read, each once, whichever rank has met it.
    fn tell_of_unreadable(&self, images: &Images, observer: &mut dyn Observer) -> Result<(), RunError> {
        let reasons = self.machine.cluster.gather_texts(images.take_newly_unreadable())?;
        let mut told = self.told.borrow_mut();
        for reason in reasons {
            if told.insert(reason.clone()) {
                observer.skipped(&reason);
            }
        }
        Ok(())
    }

    fn evaluate_network(&self, network: &ResNet, images: &Images) -> Result<Evaluation, RunError> {
        let batch = NonZeroUsize::new(self.recipe.optimiser.batch).unwrap_or(NonZeroUsize::MIN);
        let (normalisation, engine) = (&self.ready.normalisation, self.machine.engine);
        let evaluation = match self.machine.cluster.is_alone() {
            true => evaluate(network, images, normalisation, batch, engine)?,
            false => evaluate_on_ranks(network, images, normalisation, batch, engine, &self.machine.cluster)?,
        };
        if !evaluation.test_loss.is_finite() {
            let learning_rate = self.learning_rate(self.state.iteration);
            return Err(self.diverged(format!("test loss {}", evaluation.test_loss), learning_rate));
        }
        Ok(evaluation)
    }

    /// Looks at the validation images, if there are any, and writes down what the network reaches on them; whether it is the best so
    /// far.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<bool, RunError> {
        let Some(images) = self.ready.images.validation() else { return Ok(false) };
        let (result, averaged) = self.evaluate(images, observer)?;
        let (iteration, epoch) = (self.state.iteration, self.epoch());
        self.record(&Record::Validation {
            iteration,
            epoch,
            validation_loss: result.test_loss,
            validation_error: result.test_error,
            average_validation_loss: averaged.map(|average| average.test_loss),
            average_validation_error: averaged.map(|average| average.test_error),
            time: now(),
        })?;
        observer.validated(iteration, &result, averaged.as_ref());
        Ok(self.note_best(averaged.unwrap_or(result).test_error))
    }

    /// Writes an evaluation on the test images down; whether it is the best so far, where that goes by them.
    fn note(&mut self, evaluation: &Evaluation, average: Option<&Evaluation>) -> Result<bool, RunError> {
        let Evaluation { test_loss, test_error, .. } = *evaluation;
        let iteration = self.state.iteration;
        let epoch = self.epoch();
        self.record(&Record::Evaluation {
            iteration,
            epoch,
            test_loss,
            test_error,
            average_test_loss: average.map(|average| average.test_loss),
            average_test_error: average.map(|average| average.test_error),
            time: now(),
        })?;
        let error = average.map_or(test_error, |average| average.test_error);
        Ok(self.ready.images.validation().is_none() && self.note_best(error))
    }

    fn note_best(&mut self, error: f64) -> bool {
        let is_best = self.state.best.as_ref().is_none_or(|best| error < best.error);
        if is_best {
            self.state.best = Some(Best { iteration: self.state.iteration, error });
        }
        is_best
    }

    fn is_out_of_patience(&self) -> bool {
        self.recipe.is_out_of_patience(self.state.iteration, self.state.best.as_ref())
    }

    /// The checkpoint comes first, but where the run is over: nothing would draw curves then that a kill had prevented, and it is saved
    /// already but for its last test. That they cannot be drawn costs no checkpoint.
    #[cfg(feature = "reports")]
    fn save_with_curves(&mut self, is_over: bool) -> Result<(), RunError> {
        if !is_over {
            self.save()?;
            return self.draw_curves();
        }
        let drawn = self.draw_curves();
        self.save()?;
        drawn
    }

    #[cfg(not(feature = "reports"))]
    fn save_with_curves(&mut self, _is_over: bool) -> Result<(), RunError> {
        self.save()
    }

    pub(super) fn save(&mut self) -> Result<(), RunError> {
        let Some(files) = &self.files else { return Ok(()) };
        let checkpoint = self.as_it_stands().checkpoint();
        // Gradients that blew up show in the loss one step later; such weights must not replace good ones.
        if let Some(name) = first_not_finite(&checkpoint.weights) {
            return Err(
                self.diverged(format!("'{name}' not finite"), self.learning_rate(self.state.iteration))
            );
        }
        files.open()?.save(&checkpoint)
    }

    #[cfg(feature = "reports")]
    fn draw_curves(&self) -> Result<(), RunError> {
        let Some(files) = &self.files else { return Ok(()) };
        let title = format!("{} on {}", self.recipe.network.model, self.ready.images.training().name());
        let records = files.open()?.records()?;
        Ok(draw_curves(&title, &records, &self.folder)?)
    }

    fn progress(&self, outcome: StepOutcome, learning_rate: f64, clock: &Clock) -> Progress {
        Progress {
            iteration: self.state.iteration,
            iterations: self.recipe.schedule.iterations,
            epoch: self.epoch(),
            loss: outcome.loss,
            error: 100. * outcome.misclassified as f64 / self.recipe.optimiser.images() as f64,
            learning_rate,
            images_per_second: clock.images_per_second(),
        }
    }

    fn epoch(&self) -> f64 {
        self.state.samples_drawn as f64 / self.ready.images.training().len() as f64
    }

    fn diverged(&self, what: String, learning_rate: f64) -> RunError {
        RunError::Diverged {
            what,
            iteration: self.state.iteration,
            learning_rate,
            checkpoint: self.last_checkpoint().unwrap_or_else(|| self.folder.clone()),
        }
    }
}

/// The tests of a run in this process.
#[derive(Default)]
struct Tested {
    /// Whether the last of them all is done.
    is_over: bool,
    evaluation: Option<Evaluation>,
    average_evaluation: Option<Evaluation>,
}
