//! What the runs in a folder have come to, row by row.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::agreement::{Agreement, Ranked, agreement, median};
use super::budget::{Budget, Sources};
use super::experiment::Experiment;
use super::row::{DataSet, Published, Row, Trial};
use super::view_test::saved_test_error;
use crate::report::{ReportError, RunSummary};
use crate::run::{Record, RunState};

/// A table or figure as the runs in a folder have it so far.
#[derive(Debug, Clone, Serialize)]
pub struct Reproduction {
    /// Which.
    pub experiment: Experiment,
    /// How much of the paper's protocol the runs carry out.
    pub budget: Budget,
    /// Seeds of every row: 1 to this, none left out.
    pub seeds: u64,
    /// The rows, in the paper's order.
    pub rows: Vec<RowResult>,
    /// Whether the rows lie in the paper's order; none while there are no two to compare.
    pub agreement: Option<Agreement>,
}

/// A row with its runs.
#[derive(Debug, Clone, Serialize)]
pub struct RowResult {
    /// What `--row` calls it.
    pub name: &'static str,
    /// What the paper calls it.
    pub label: &'static str,
    /// The paper's network.
    pub network: &'static str,
    /// Its images; none where the paper quotes others.
    pub data_set: Option<DataSet>,
    /// The network that is trained in its place, and on what; none where the paper quotes others.
    pub trained: Option<TrainedAs>,
    /// The paper's result.
    pub published: Published,
    /// A run for each seed.
    pub runs: Vec<RunResult>,
    /// What the finished runs come to.
    pub measured: Option<Measured>,
    /// The median minus the paper's, in points; none if either is a failure.
    pub difference: Option<f64>,
}

/// What stands for a row at a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainedAs {
    /// The network's name.
    pub model: String,
    /// The images' data set.
    pub data: String,
    /// Optimiser steps.
    pub iterations: u64,
    /// Images of a mini-batch.
    pub batch: usize,
    /// Images over which batch normalisation takes statistics.
    pub bn_group: Option<usize>,
}

/// A run of a row.
#[derive(Debug, Clone, Serialize)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// What it has come to.
    pub outcome: Outcome,
    /// Mean training loss of the last tenth of what has been trained.
    pub training_loss: Option<f64>,
    /// All measurements.
    #[serde(skip)]
    pub summary: Option<RunSummary>,
}

/// What a run has come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is no such run yet.
    Missing,
    /// It is going on, or was interrupted.
    Unfinished {
        /// Finished iterations.
        iteration: u64,
    },
    /// Its loss is no number any more; counts as a failure.
    Diverged,
    /// It is finished, with this test error in percent after the last iteration.
    TestError(f64),
}

/// What the finished runs of a row come to, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// How many have finished or diverged.
    pub runs: usize,
    /// How many of them have diverged.
    pub diverged: usize,
    /// Median; none if that is a run that diverged.
    pub median: Option<f64>,
    /// Mean of those with a number.
    pub mean: Option<f64>,
    /// Standard deviation of a sample, of two runs or more.
    pub deviation: Option<f64>,
    /// Median of the runs' training losses.
    pub training_loss: Option<f64>,
    /// Whether the median is a failure: no number, or above what the paper calls one.
    pub is_fail: bool,
}

impl Measured {
    /// The paper's "fail" on CIFAR-10: an error above 20 %.
    pub const FAIL_ABOVE: f64 = 20.;

    fn of(runs: &[RunResult], data: DataSet) -> Option<Self> {
        let errors: Vec<f64> = runs.iter().filter_map(|run| run.outcome.error()).collect();
        if errors.is_empty() {
            return None;
        }
        let numbers: Vec<f64> = errors.iter().copied().filter(|error| error.is_finite()).collect();
        let count = numbers.len() as f64;
        let mean = (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / count);
        let squares = |mean: f64| numbers.iter().map(|error| (error - mean).powi(2)).sum::<f64>();
        let losses: Vec<f64> = runs
            .iter()
            .filter(|run| run.outcome.error().is_some())
            .filter_map(|run| run.training_loss)
            .collect();
        let middle = median(&errors);
        Some(Self {
            runs: errors.len(),
            diverged: errors.len() - numbers.len(),
            median: Some(middle).filter(|median| median.is_finite()),
            mean,
            deviation: mean.filter(|_| numbers.len() > 1).map(|mean| (squares(mean) / (count - 1.)).sqrt()),
            training_loss: (!losses.is_empty()).then(|| median(&losses)),
            is_fail: !middle.is_finite() || (data == DataSet::Cifar10 && middle > Self::FAIL_ABOVE),
        })
    }
}

impl Outcome {
    /// The test error in percent of a run that is over; infinite if it diverged.
    pub fn error(self) -> Option<f64> {
        match self {
            Self::TestError(error) => Some(error),
            Self::Diverged => Some(f64::INFINITY),
            Self::Missing | Self::Unfinished { .. } => None,
        }
    }
}

impl Reproduction {
    /// Reads what the runs of an experiment have come to in `folder`, where each budget has a folder of its own.
    ///
    /// # Errors
    /// When a run is damaged, or is another than the one that belongs there.
    pub fn read(
        experiment: Experiment,
        budget: Budget,
        sources: &Sources,
        seeds: u64,
        folder: &Path,
    ) -> Result<Self, ReportError> {
        let row = |row: Row| RowResult::read(row, budget, sources, seeds, &folder.join(budget.as_str()));
        let rows: Vec<RowResult> = experiment.rows().into_iter().map(row).collect::<Result<_, _>>()?;
        let ranked: Vec<Ranked> = rows.iter().filter_map(RowResult::ranked).collect();
        Ok(Self { experiment, budget, seeds, agreement: agreement(&ranked), rows })
    }

    /// The rows with measurements, and their first run that has any.
    pub fn curves(&self) -> Vec<(&RowResult, &RunSummary)> {
        let first = |row: &RowResult| -> Option<usize> {
            row.runs.iter().position(|run| run.summary.as_ref().is_some_and(|run| !run.records.is_empty()))
        };
        let rows = self.rows.iter().filter_map(|row| Some((row, row.runs[first(row)?].summary.as_ref()?)));
        rows.collect()
    }

    /// The sentence at the top of everything that shows the results: budget, seeds, and how far they are.
    pub fn caveat(&self) -> String {
        let planned: usize = self.rows.iter().map(|row| row.runs.len()).sum();
        let runs = self.rows.iter().flat_map(|row| &row.runs);
        let over = runs.filter(|run| run.outcome.error().is_some()).count();
        let seeds = match self.seeds {
            1 => "seed 1".to_owned(),
            seeds => format!("seeds 1 to {seeds}"),
        };
        let budget = self.budget;
        let description = match (self.experiment, budget) {
            (Experiment::Fig1, Budget::Short) => {
                "the beginning alone, the first 300 of 64,000 iterations of the paper's own runs at 1001 layers"
            }
            _ => budget.description(),
        };
        format!("Budget {budget}: {description}. {seeds}; {over} of {planned} runs are over.")
    }
}

impl RowResult {
    fn read(
        row: Row,
        budget: Budget,
        sources: &Sources,
        seeds: u64,
        folder: &Path,
    ) -> Result<Self, ReportError> {
        let Row { name, label, network, published, trial } = row;
        let mut runs = Vec::new();
        let mut trained = None;
        for seed in (1..=seeds).filter(|_| trial.is_some()) {
            let Some(trial) = &trial else { continue };
            let (run, trained_as) = RunResult::read(trial, budget, sources, seed, folder)?;
            runs.push(run);
            trained = Some(trained_as);
        }
        let data_set = trial.as_ref().map(|trial| trial.data);
        let measured = data_set.and_then(|data| Measured::of(&runs, data));
        let difference = measured.filter(|measured| !measured.is_fail).and_then(|measured| {
            let published = published.median()?;
            Some(measured.median? - published)
        });
        Ok(Self { name, label, network, data_set, trained, published, runs, measured, difference })
    }

    fn ranked(&self) -> Option<Ranked> {
        Some(Ranked {
            group: self.data_set? as usize,
            published: self.published.median().unwrap_or(f64::INFINITY),
            runs: self.runs.iter().filter_map(|run| run.outcome.error()).collect(),
        })
    }
}

impl RunResult {
    fn read(
        trial: &Trial,
        budget: Budget,
        sources: &Sources,
        seed: u64,
        folder: &Path,
    ) -> Result<(Self, TrainedAs), ReportError> {
        let plan = budget.plan(trial, sources, seed)?;
        let recipe = &plan.recipe;
        let trained = TrainedAs {
            model: recipe.network.model.clone(),
            data: recipe.data.source.short_name(),
            iterations: recipe.schedule.iterations,
            batch: recipe.optimiser.batch,
            bn_group: recipe.network.bn_group,
        };
        let folder = folder.join(&plan.name);
        let Some(summary) = plan.read_run(&folder)? else {
            let outcome = Outcome::Missing;
            return Ok((Self { seed, folder, outcome, training_loss: None, summary: None }, trained));
        };
        let outcome = outcome(&summary, trial);
        let training_loss = training_loss(&summary.records);
        Ok((Self { seed, folder, outcome, training_loss, summary: Some(summary) }, trained))
    }
}

fn outcome(run: &RunSummary, trial: &Trial) -> Outcome {
    let unfinished = Outcome::Unfinished { iteration: run.iteration() };
    match &run.state {
        RunState::Failed(failure) if failure.is_divergence => Outcome::Diverged,
        RunState::Finished => {
            let error = match trial.view {
                Some(view) => saved_test_error(&run.folder, view),
                None => run.tests().last().map(|test| test.test_error),
            };
            error.map_or(unfinished, Outcome::TestError)
        }
        _ => unfinished,
    }
}

fn training_loss(records: &[Record]) -> Option<f64> {
    let losses: Vec<f64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Training { loss, .. } => Some(*loss),
            _ => None,
        })
        .collect();
    let last = &losses[losses.len() - losses.len().div_ceil(10)..];
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}
