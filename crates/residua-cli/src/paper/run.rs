//! `residua paper run`: runs what is missing and resumes what was interrupted.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::Split;
use residua::infer::choice::UnknownChoice;
use residua::run::{RunError, RunState};
use residua::study::paper::{
    DataSet, Experiment, Outcome, PlannedRun, Reproduction, Row, Trial, markdown, test_by_view,
};
use residua::train::{Ending, Machine, Trainer};

use super::{Chosen, ResultArguments, experiments};
use crate::cluster;
use crate::interrupt::{Interruptible, is_asked_to_stop, stopped};
use crate::machine::{MachineArguments, MemoryArguments, memory_in_words};
use crate::output::{print, tell};
use crate::progress::Terminal;
use crate::remedy::explain;
use crate::usage::{UsageError, impossible_run, threads};
use crate::waiting::Waiting;
use crate::words::words;

/// Run what is missing of tables and figures, resume what was interrupted, and report.
///
/// The first seed of every row comes first, then the second. After each run the results are written: a page, Markdown, pictures
/// and JSON for each table or figure, in the budget's folder. A run that diverges counts as the paper's "fail", as does an error above 20 %.
/// Ctrl-C saves the run that is going on; the same command goes on with it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Tables and figures.
    #[arg(required = true, value_name = "EXPERIMENT", value_parser = words::<Chosen>())]
    experiments: Vec<Chosen>,
    /// Run these rows alone, by the names in `residua paper list`; several may be given.
    #[arg(long, value_name = "ROW")]
    row: Vec<String>,
    #[command(flatten)]
    results: ResultArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    /// Threads that make batches ahead of the step; the batches do not depend on it.
    #[arg(long, default_value = "1", value_name = "N", value_parser = threads, help_heading = "Machine")]
    workers: NonZeroUsize,
}

const STOPPED: &str = "stopped, saved; the same command goes on";

/// A run to be done, and whose it is.
struct Task {
    plan: PlannedRun,
    trial: Trial,
    folder: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { results, machine, memory, workers, .. } = &arguments;
    let cluster = cluster::join()?;
    let experiments = experiments(&arguments.experiments);
    let rows = chosen(&experiments, &arguments.row)?;
    let tasks = arguments.tasks(&rows)?;
    if cluster.is_first() {
        results.read(&experiments)?;
    }
    machine.start_threads_of(&cluster)?;
    let machine = Machine::on(machine.open_device_of(&cluster)?)
        .with_engine(machine.engine)
        .with_memory(memory.memory)
        .with_workers(*workers)
        .with_cluster(cluster.clone());
    let mut is_stopped = false;
    for (number, task) in tasks.iter().enumerate() {
        let ends = task.run(&machine, number + 1, tasks.len())?;
        if cluster.is_first() {
            results.write(&results.read(&experiments)?)?;
        }
        is_stopped = ends == Ends::Stopped;
        if is_stopped {
            tell(STOPPED);
            break;
        }
    }
    if !cluster.is_first() {
        return Ok(if is_stopped { stopped() } else { ExitCode::SUCCESS });
    }
    let reproductions = results.read(&experiments)?;
    let pages = results.write(&reproductions)?;
    let tables: Vec<String> = reproductions.iter().map(markdown).collect();
    print(tables.join("\n").trim_end())?;
    for page in pages {
        tell(format_args!("the page is {}", page.display()));
    }
    if is_stopped {
        return Ok(stopped());
    }
    let left = unfinished(&reproductions, &rows);
    if left > 0 {
        tell(format_args!("{left} runs of these rows are not over; the same command goes on with them"));
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// The runs of the chosen rows, each once, the first seeds first; those whose data are not there are told of and left out.
    fn tasks(&self, rows: &[Row]) -> anyhow::Result<Vec<Task>> {
        let Self { results, .. } = self;
        let (sources, folder) = (results.sources(), results.out.join(results.budget.as_str()));
        let (mut tasks, mut names) = (Vec::new(), BTreeSet::new());
        let mut reasons: HashMap<DataSet, Option<String>> = HashMap::new();
        let mut left_out: Vec<&Row> = Vec::new();
        for seed in 1..=results.seeds() {
            for (row, trial) in rows.iter().filter_map(|row| Some((row, row.trial.as_ref()?))) {
                let plan = results.budget.plan(trial, &sources, seed)?;
                // Reading is cheap beside training, and hours of training must not end at the tenth row.
                let reason = reasons.entry(trial.data).or_insert_with(|| match sources.of(trial.data) {
                    None => Some("give its pictures by --data folder:DIR".to_owned()),
                    Some(source) => source.load(Split::Test).err().map(|error| explain(&error)),
                });
                if reason.is_some() {
                    left_out.extend((seed == 1).then_some(row));
                } else if names.insert(plan.name.clone()) {
                    let folder = folder.join(&plan.name);
                    tasks.push(Task { plan, trial: trial.clone(), folder });
                }
            }
        }
        for (data, reason) in reasons {
            let Some(reason) = reason else { continue };
            let of_data = |row: &&&Row| row.trial.as_ref().is_some_and(|trial| trial.data == data);
            let names: Vec<_> = left_out.iter().filter(of_data).map(|row| row.name).collect();
            tell(format_args!("without {}, left out {}: {reason}", data.title(), names.join(", ")));
        }
        if tasks.is_empty() {
            return Err(UsageError::new("none of these rows can be run: see above").into());
        }
        Ok(tasks)
    }
}

/// What is to be done next about a run.
#[derive(Clone, Copy)]
enum Next {
    Begin,
    GoOn,
    /// The last test.
    Test,
    Nothing,
    /// Another process is at it.
    Leave,
    /// Everything is to stop.
    Stop,
}

impl Next {
    const ALL: [Self; 6] = [Self::Begin, Self::GoOn, Self::Test, Self::Nothing, Self::Leave, Self::Stop];
}

#[derive(PartialEq)]
enum Ends {
    Over,
    Stopped,
}

impl Task {
    fn run(&self, machine: &Machine, number: usize, of: usize) -> anyhow::Result<Ends> {
        let Self { plan, folder, .. } = self;
        let cluster = &machine.cluster;
        let name = &plan.name;
        let trainer = Trainer::new(plan.recipe.clone()).with_machine(machine.clone());
        let reading = Waiting::for_work(format!("reading {}", plan.recipe.data.source));
        // The folders are rank 0's.
        let next = cluster.from_first(|| Ok::<_, anyhow::Error>(vec![self.next()? as u8]))?;
        let run = match Next::ALL.into_iter().find(|known| next == [*known as u8]) {
            Some(Next::Begin) => trainer.start(folder).map_err(impossible_run)?,
            Some(Next::GoOn) => trainer.resume(folder).map_err(impossible_run)?,
            Some(Next::Leave) => {
                tell(format_args!("{number}/{of} {name}: another process is at it"));
                return Ok(Ends::Over);
            }
            Some(Next::Test) => {
                self.test(machine)?;
                return Ok(Ends::Over);
            }
            Some(Next::Nothing) => return Ok(Ends::Over),
            Some(Next::Stop) | None => return Ok(Ends::Stopped),
        };
        drop(reading);
        let interruptible = Interruptible::run(run.saver(), |_| tell(STOPPED));
        for warning in run.warnings() {
            tell(format_args!("warning: {warning}"));
        }
        let (done, iterations) = (run.iteration(), plan.recipe.schedule.iterations);
        let begun = if done > 0 { format!("resumed at iteration {done}") } else { "begun".to_owned() };
        tell(format_args!(
            "{number}/{of} {name}: {} on {}{}, {begun}",
            plan.recipe.network.model,
            plan.recipe.data.source,
            memory_in_words(run.memory())
        ));
        let mut terminal = Terminal::new(done, iterations);
        let ending = run.train(&mut terminal);
        terminal.finish();
        match interruptible.ended(ending) {
            Ok(Ending { is_finished: false, .. }) => return Ok(Ends::Stopped),
            // The test that is left is done when the same command goes on.
            Ok(_) if is_asked_to_stop() && cluster.is_alone() => return Ok(Ends::Stopped),
            Ok(_) => self.test(machine)?,
            // What the paper calls "fail" is a result.
            Err(error @ RunError::Diverged { .. }) => {
                tell(format_args!("{name}: fails: {}", explain(&error)))
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Ends::Over)
    }

    /// What is to be done next about the run.
    fn next(&self) -> anyhow::Result<Next> {
        if is_asked_to_stop() {
            return Ok(Next::Stop);
        }
        Ok(match self.plan.read_run(&self.folder)?.map(|run| run.state) {
            None => Next::Begin,
            Some(RunState::Running) => Next::Leave,
            Some(RunState::Finished) => Next::Test,
            Some(RunState::Failed(failure)) if failure.is_divergence => Next::Nothing,
            Some(RunState::Failed(_) | RunState::Stopped) => Next::GoOn,
        })
    }

    /// The last test of networks that are tested on other crops than during training; of several processes the first does it.
    fn test(&self, machine: &Machine) -> anyhow::Result<()> {
        let Some(view) = self.trial.view.filter(|_| machine.cluster.is_first()) else { return Ok(()) };
        let batch = NonZeroUsize::new(self.plan.recipe.optimiser.batch / 4).unwrap_or(NonZeroUsize::MIN);
        let result = test_by_view(&self.folder, view, &machine.device, machine.engine, batch)?;
        tell(format_args!(
            "{}: test error {:.2} % on crops of {}",
            self.plan.name, result.test_error, view.height
        ));
        Ok(())
    }
}

/// The rows of the experiments, or those of them that are named.
fn chosen(experiments: &[Experiment], names: &[String]) -> Result<Vec<Row>, UsageError> {
    let rows: Vec<Row> = experiments.iter().flat_map(|experiment| experiment.rows()).collect();
    for name in names {
        let Some(row) = rows.iter().find(|row| row.name == name) else {
            let mut choices: Vec<&str> =
                rows.iter().filter(|row| row.trial.is_some()).map(|row| row.name).collect();
            choices.sort_unstable();
            choices.dedup();
            return Err(UsageError::new(UnknownChoice::new("row", name, &choices)));
        };
        if row.trial.is_none() {
            return Err(UsageError::new(format_args!(
                "{name} is the work of others, which the paper quotes; it is not run"
            )));
        }
    }
    Ok(rows.into_iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

/// Runs of these rows that have no result yet.
fn unfinished(reproductions: &[Reproduction], rows: &[Row]) -> usize {
    let results = reproductions.iter().flat_map(|reproduction| &reproduction.rows);
    let chosen = results.filter(|result| rows.iter().any(|row| row.name == result.name));
    let folders: BTreeSet<&Path> = chosen
        .flat_map(|row| &row.runs)
        .filter(|run| matches!(run.outcome, Outcome::Missing | Outcome::Unfinished { .. }))
        .map(|run| run.folder.as_path())
        .collect();
    folders.len()
}
