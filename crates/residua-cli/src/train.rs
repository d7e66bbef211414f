//! `residua train`: trains a network and keeps the run in a folder.

mod fine_tuning;
mod length;
mod loss;
mod schedule;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::anyhow;
use clap::Args;
use residua::cluster::Cluster;
use residua::data::Source;
use residua::infer::StoredWeights;
use residua::infer::choice::{Choice, Choices};
use residua::run::{NamedRecipe, Recipe, RecipeError, RunError, RunFolder, is_unused, saved_recipe};
use residua::train::{Ending, Machine, Run, Trainer};
use serde_json::json;

use self::fine_tuning::FineTuningArguments;
use self::loss::LossArguments;
use self::schedule::ScheduleArguments;
use crate::cluster;
use crate::interrupt::{Interruptible, stopped};
use crate::machine::{MachineArguments, MemoryArguments, memory_in_words};
use crate::names::path_in_json;
use crate::network::{NetworkArguments, impossible};
use crate::output::{print_json, tell};
use crate::progress::Terminal;
use crate::propagate::BATCH;
use crate::training_data::TrainingDataArguments;
use crate::usage::{UsageError, count, counted, impossible_run, threads, whole};
use crate::waiting::Waiting;
use crate::watch::Watch;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua train
  residua train --data cifar10:data --model preresnet164
  residua train --data cifar10:data --model resnet110 --shortcut exclusive-gate:-6
  residua train --data cifar10:data --iterations 8000 --decay-at 4000,6000 --warmup 400:0.01
  residua train --data cifar10:data --epochs 20 --lr 0.2 --schedule cosine --warmup 5%:0.02:gradual
  residua train --data folder:flowers --model preresnet18 --epochs 90 --batch 64 --decay-at 30epochs,60epochs
  residua train --data folder:flowers --model preresnet18 --init runs/first --freeze stem,stage1 --lr 0.01 --head-lr 0.1
  residua train --data folder:flowers --init resnet50-11ad3fa6.pth --recipe finetune --freeze stem,stage1,stage2
  residua train --resume runs/preresnet164-cifar10";

/// Train a network; the run is kept in a folder.
///
/// Without options: preresnet20 on built-in images by the recipe `quick`, a few minutes on two cores. With CIFAR
/// data the default is `paper-cifar`, the paper's own recipe: batch 128, 64,000 iterations, learning rate 0.1 divided
/// by 10 at 32,000 and 48,000, the first 400 at 0.01.
///
/// The run's folder holds recipe.toml, metrics.jsonl, curves.svg, curves.png, checkpoints/ and a file of events for
/// TensorBoard (tensorboard --logdir runs). Ctrl-C, or a signal TERM, HUP, USR1 or USR2, saves the run within seconds and ends
/// it with exit code 130; --resume goes on, bit for bit as if the run had never stopped, also after a crash.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where to start from: a recipe by its name, or a recipe file; every other option refines it [default: quick for
    /// the built-in images, paper-cifar for others].
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "resume", value_parser = words::<RecipeChoice>())]
    recipe: Option<RecipeChoice>,
    /// The run's folder, which must not hold a run yet [default: runs/MODEL-DATA, numbered].
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder. Of the options that make up a run, only its length (--iterations, --epochs; where
    /// the learning rate falls in steps), drops that lie ahead (--decay-at), the intervals and the data's folder may change.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Write no file of events for TensorBoard into the run's folder.
    #[arg(long)]
    no_tensorboard: bool,
    /// Print one line of JSON at the end: the run's folder, iterations, test error.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    loss: LossArguments,
    #[command(flatten)]
    regularisation: RegularisationArguments,
    #[command(flatten)]
    fine_tuning: FineTuningArguments,
    #[command(flatten)]
    intervals: IntervalArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    /// Threads that make batches ahead of the step; the batches do not depend on it.
    #[arg(long, default_value = "1", value_name = "N", value_parser = threads, help_heading = "Machine")]
    workers: NonZeroUsize,
    /// Under MPI, normalise with the statistics of the whole batch, as one process does, instead of each process with those of its own
    /// images. Slower: processes wait for each other in every normalisation, and operations are not fused.
    #[arg(long, help_heading = "Machine")]
    sync_batch_norm: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
struct DataArguments {
    /// The data set; `residua data download` gets those that can be downloaded [default: shapes].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    #[command(flatten)]
    training_data: TrainingDataArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Regularisation")]
struct RegularisationArguments {
    /// Drop units' branches at random, that of unit l of L with probability l/L times P, in each step anew; those that are there are
    /// divided by the probability that they are. A branch that is dropped is not computed [default: 0].
    #[arg(long, value_name = "P")]
    stochastic_depth: Option<f64>,
    /// Drop each feature in front of the classifier with this probability, and divide the others by the probability that they are
    /// there [default: 0].
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Drop each value that a unit's last convolution reads with this probability, and divide the others by the probability that they
    /// are there, as wide networks do; 0.3 is usual there for CIFAR [default: 0].
    #[arg(long, value_name = "P")]
    unit_dropout: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Intervals")]
struct IntervalArguments {
    /// Iterations between tests, on the --validation images if there are any [default: 40 in quick, 1000 in paper-cifar; of a length in
    /// epochs, or of a folder's pictures if that is less, a twentieth, in whole epochs].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    evaluate_every: Option<u64>,
    /// Iterations between checkpoints [default: as between tests].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    checkpoint_every: Option<u64>,
    /// Iterations that a training line of metrics.jsonl is the mean of [default: 10].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    log_every: Option<u64>,
    /// Iterations between measurements of the norms of weights and gradients, stage by stage [default: not measured].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    log_norms: Option<u64>,
    /// Iterations between measurements of how gradients go through the network, as `residua propagate` measures them, of the
    /// first 32 training images (or a group of --bn-group, if that is larger); 32 take about as long as two steps of 128 each time
    /// [default: not measured]. A run that is resumed goes on with it.
    #[arg(long, value_name = "K", value_parser = count::<NonZeroU64>)]
    watch: Option<NonZeroU64>,
    /// End the run when N tests on the --validation images, one behind the other, have found no lower error [default: never].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    patience: Option<u64>,
    /// How many of the last checkpoints are kept, besides the best [default: 3].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    keep: Option<usize>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = cluster::join()?;
    // Before anything is computed: a pool of threads is made once.
    arguments.machine.start_threads_of(&cluster)?;
    let weights = arguments.fine_tuning.open()?;
    let recipe = arguments.recipe(weights.as_ref(), &cluster)?;
    // Before anything is read: what another process has is none of this one's business.
    let place = match (&arguments.resume, &arguments.out) {
        _ if !cluster.is_first() => None,
        (Some(folder), _) => Some(RunFolder::reopen(folder)?),
        (None, Some(folder)) => Some(RunFolder::claim(folder)?),
        (None, None) => Some(free_folder(&recipe)?),
    };
    let resumable = arguments.resume.as_deref().map(Interruptible::resumable);
    let folder = place.as_ref().map_or(Path::new(""), RunFolder::path).to_owned();
    let reading = Waiting::for_work(format!("reading {}", recipe.data.source));
    let trainer = arguments.trainer(recipe)?;
    let machine = Machine::on(arguments.machine.open_device_of(&cluster)?)
        .with_engine(arguments.machine.engine)
        .with_memory(arguments.memory.memory)
        .with_workers(arguments.workers)
        .with_cluster(cluster.clone())
        .with_shared_statistics(arguments.sync_batch_norm)
        .with_events(!arguments.no_tensorboard);
    let trainer = trainer.with_machine(machine);
    let run = match arguments.resume {
        Some(_) => resume(trainer, place)?,
        None => arguments.fine_tuning.begin(trainer, weights, place)?,
    };
    drop((resumable, reading));
    let has_validation = run.recipe().data.validation.is_some();
    let (as_json, place) = (arguments.json, folder.clone());
    let interruptible = Interruptible::run(run.saver(), move |ending| {
        // Whoever has stopped it reads the exit code.
        let _ = report(&ending, has_validation, &place, as_json);
    });
    for warning in run.warnings() {
        tell(format_args!("warning: {warning}"));
    }
    let (done, iterations) = (run.iteration(), run.recipe().schedule.iterations);
    let (model, source) = (&run.recipe().network.model, &run.recipe().data.source);
    let begun = if done > 0 { format!("resumed at iteration {done}") } else { "begun".to_owned() };
    let memory = memory_in_words(run.memory());
    tell(format_args!(
        "{}: {model} on {source}, {}{memory}{}, {begun}",
        folder.display(),
        counted(iterations, "iteration", "iterations"),
        cluster::in_words(&cluster),
    ));
    let watch = match run.recipe().intervals.watch.and_then(NonZeroU64::new).filter(|_| cluster.is_first()) {
        Some(every) => run.first_images(BATCH)?.map(|batch| Watch { every, batch, seed: run.recipe().seed }),
        None => None,
    };
    let mut observers = (Terminal::new(done, iterations), watch);
    let ending = run.train(&mut observers);
    observers.0.finish();
    let ending = interruptible.ended(ending)?;
    report(&ending, has_validation, &folder, arguments.json)
}

fn report(ending: &Ending, has_validation: bool, folder: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let Ending { iteration, is_finished, checkpoint, evaluation, average_evaluation, best } = ending;
    // What chose the best says what its error is of.
    let (best_name, chosen_on) = match has_validation {
        true => ("best_validation_error", "validation images"),
        false => ("best_test_error", "test images"),
    };
    if as_json {
        let mut line = json!({
            "run": path_in_json(folder),
            "is_finished": is_finished,
            "iteration": iteration,
            "checkpoint": path_in_json(checkpoint),
            "test_error": evaluation.map(|evaluation| evaluation.test_error),
            "test_loss": evaluation.map(|evaluation| evaluation.test_loss),
            best_name: best.as_ref().map(|best| best.error),
            "best_iteration": best.as_ref().map(|best| best.iteration),
        });
        if let Some(average) = average_evaluation {
            line["average_test_error"] = average.test_error.into();
            line["average_test_loss"] = average.test_loss.into();
        }
        print_json(&line)?;
    }
    if !is_finished {
        tell(format_args!(
            "stopped at iteration {iteration}, saved; go on with: residua train --resume {}",
            folder.display()
        ));
        return Ok(stopped());
    }
    let mut reached =
        evaluation.map_or(String::new(), |result| format!(": test error {:.2} %", result.test_error));
    if let Some(average) = average_evaluation {
        reached += &format!(", of the average of weights {:.2} %", average.test_error);
    }
    if let Some(best) = best.as_ref().filter(|best| best.iteration != *iteration) {
        reached += &format!(" (best {:.2} % at {}, chosen on the {chosen_on})", best.error, best.iteration);
    }
    tell(format_args!("finished at iteration {iteration}{reached}; the run is in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// The recipe meant, as far as it says which network learns from which images: that of the run to resume, or the one to start from,
    /// refined by the options. Where no recipe is named, weights to begin from say which network it is.
    fn recipe(&self, weights: Option<&StoredWeights>, cluster: &Cluster) -> anyhow::Result<Recipe> {
        let mut recipe = match (&self.resume, &self.recipe) {
            (Some(folder), _) => {
                // The run's folder is rank 0's.
                let text =
                    cluster.from_first(|| Ok::<_, RunError>(saved_recipe(folder)?.to_toml().into_bytes()))?;
                Recipe::parse(&String::from_utf8_lossy(&text), folder)?
            }
            (None, Some(choice)) => choice.read()?,
            (None, None) => RecipeChoice::usual(self.data.data.as_ref()),
        };
        // Of the recipes, fine-tuning is meant for any network.
        let is_for_any = matches!(self.recipe, None | Some(RecipeChoice::Named(NamedRecipe::Finetune)));
        if let (Some(weights), true) = (weights, is_for_any) {
            recipe.network = weights.info()?.network.residual()?.options();
        }
        let network = self.network.refine(&recipe.network);
        recipe.network = network.written_out().map_err(|error| impossible(&network, &error))?;
        self.data.refine(&mut recipe);
        Ok(recipe)
    }

    /// Who trains by this recipe, refined by all other options.
    fn trainer(&self, mut recipe: Recipe) -> anyhow::Result<Trainer> {
        self.loss.refine(&mut recipe)?;
        self.regularisation.refine(&mut recipe);
        self.fine_tuning.refine(&mut recipe);
        let epochs = match &self.recipe {
            Some(RecipeChoice::Named(name)) => {
                name.epochs().and_then(|epochs| NonZeroUsize::new(epochs as usize))
            }
            _ => None,
        };
        let has_usual_intervals =
            self.resume.is_none() && !matches!(self.recipe, Some(RecipeChoice::File(_)));
        let images = self.schedule.refine(&mut recipe, epochs, has_usual_intervals, self.resume.is_some())?;
        self.intervals.refine(&mut recipe);
        recipe.validate().map_err(UsageError::from)?;
        schedule::tell_of_endless_warmup(&recipe.schedule);
        // Written out, so that the run's recipe says how its images were cropped.
        recipe.data.augmentation = Some(recipe.augmentation().map_err(UsageError::from)?);
        let trainer = Trainer::new(recipe);
        Ok(match images {
            Some(images) => trainer.with_images(images),
            None => trainer,
        })
    }
}

impl DataArguments {
    fn refine(&self, recipe: &mut Recipe) {
        set(&mut recipe.data.source, &self.data);
        self.training_data.refine(&mut recipe.data);
    }
}

impl RegularisationArguments {
    /// Nothing is dropped with probability zero, and recipes do not say so.
    fn refine(&self, recipe: &mut Recipe) {
        let regularisation = &mut recipe.regularisation;
        let refine = |known: &mut Option<f64>, asked: Option<f64>| {
            *known = asked.or(*known).filter(|&probability| probability != 0.);
        };
        refine(&mut regularisation.stochastic_depth, self.stochastic_depth);
        refine(&mut regularisation.dropout, self.dropout);
        refine(&mut regularisation.unit_dropout, self.unit_dropout);
    }
}

impl IntervalArguments {
    fn refine(&self, recipe: &mut Recipe) {
        set(&mut recipe.intervals.evaluate, &self.evaluate_every);
        set(&mut recipe.intervals.checkpoint, &self.checkpoint_every);
        set(&mut recipe.intervals.log, &self.log_every);
        set(&mut recipe.intervals.keep, &self.keep);
        recipe.intervals.patience = self.patience.or(recipe.intervals.patience);
        recipe.intervals.norms = self.log_norms.or(recipe.intervals.norms);
        recipe.intervals.watch = self.watch.map(NonZeroU64::get).or(recipe.intervals.watch);
    }
}

/// Takes what is given, if anything is.
fn set<T: Clone>(value: &mut T, option: &Option<T>) {
    if let Some(option) = option {
        value.clone_from(option);
    }
}

/// A recipe by name or file.
#[derive(Debug, Clone)]
pub(crate) enum RecipeChoice {
    Named(NamedRecipe),
    File(PathBuf),
}

impl RecipeChoice {
    pub(crate) fn read(&self) -> Result<Recipe, RecipeError> {
        match self {
            Self::Named(name) => Ok(Recipe::named(*name)),
            Self::File(path) => Recipe::read(path),
        }
    }

    /// The recipe to start from for these images where none is named.
    pub(crate) fn usual(data: Option<&Source>) -> Recipe {
        Recipe::named(match data {
            None | Some(Source::Shapes) => NamedRecipe::Quick,
            Some(_) => NamedRecipe::PaperCifar,
        })
    }
}

impl Choices for RecipeChoice {
    const CHOICES: &'static [Choice] = NamedRecipe::CHOICES;
}

impl FromStr for RecipeChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(name) => Ok(Self::Named(name)),
            Err(_) if Path::new(text).exists() || text.ends_with(".toml") => Ok(Self::File(text.into())),
            Err(unknown) => Err(anyhow!("{unknown}, or a recipe file")),
        }
    }
}

/// The first of runs/MODEL-DATA, runs/MODEL-DATA-2, ... that is not there yet, and that no other process is about to begin in.
fn free_folder(recipe: &Recipe) -> Result<RunFolder, RunError> {
    let name = format!("runs/{}-{}", recipe.network.model, recipe.data.source.short_name());
    let numbered = (2u32..).map(|number| format!("{name}-{number}"));
    let names = std::iter::once(name.clone()).chain(numbered).map(PathBuf::from);
    for folder in names.filter(|folder| is_unused(folder)) {
        match RunFolder::claim(folder) {
            Err(RunError::Locked { .. } | RunError::RunExists { .. }) => {}
            claimed => return claimed,
        }
    }
    unreachable!("there are more names than processes")
}

/// What a process is given in the place of a folder that another one has, and does not look at.
const ELSEWHERE: &str = "";

/// Goes on with a run; options that may not change are an error of whoever gave them.
fn resume(trainer: Trainer, folder: Option<RunFolder>) -> anyhow::Result<Run> {
    let run = match folder {
        Some(folder) => trainer.resume_in(folder),
        None => trainer.resume(ELSEWHERE),
    };
    run.map_err(|error| match error {
        RunError::Resume(error) => UsageError::from(error).into(),
        error => impossible_run(error),
    })
}
