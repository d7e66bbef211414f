//! `residua paper`: the paper's tables and figures from runs of one's own.

mod list;
mod run;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use residua::data::Source;
use residua::files::write_file;
use residua::infer::choice::UnknownChoice;
use residua::study::paper::{Budget, Experiment, Reproduction, Sources, markdown, page, pictures};

use crate::usage::UsageError;

const EXAMPLES: &str = "Examples:
  residua paper list
  residua paper run table1 --budget smoke --data shapes
  residua paper run table2 --budget short --row original-110 --row preact-110
  residua paper run fig1 --budget short --data cifar10:data
  residua paper show table2 --budget short";

/// Reproduce the paper's tables and figures: list them, run them, show what the runs have come to.
///
/// Each row is a recipe; each of its runs an ordinary run's folder, which `residua train --resume`, `runs` and `report` also take.
/// What is finished is not run again, what was interrupted goes on. Results always say the budget that they were made with.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::Arguments),
    Show(show::Arguments),
    Run(Box<run::Arguments>),
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::List(arguments) => list::run(&arguments),
        Action::Show(arguments) => show::run(&arguments),
        Action::Run(arguments) => run::run(*arguments),
    }
}

/// Which results, and where they are.
#[derive(Debug, Args)]
struct ResultArguments {
    /// How much of the paper's protocol. smoke: tiny networks, minutes for everything. short: 56 layers for 110, 290 for 1001, 3,000
    /// iterations, hours for a table; Figure 1 is the first 300 iterations of 1001 layers. deep: 3,000 iterations at the paper's
    /// depths. full: the paper's protocol to the letter.
    #[arg(long, default_value_t = Budget::Short, value_name = "BUDGET")]
    budget: Budget,
    /// Runs of each row, with the seeds 1, 2, ... [default: 1 in smoke, 2 in short and deep, 5 in full].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Where the data are: cifar10:DIR, cifar100:DIR, folder:DIR for ImageNet, or shapes in the place of both CIFAR sets; several
    /// may be given [default: where `residua data download` puts them].
    #[arg(long, value_name = "DATA")]
    data: Vec<Source>,
    /// The folder of the runs and the results, with a folder for each budget.
    #[arg(long, default_value = "runs/paper", value_name = "DIR")]
    out: PathBuf,
}

impl ResultArguments {
    fn seeds(&self) -> u64 {
        self.runs.unwrap_or(self.budget.runs() as u64)
    }

    fn sources(&self) -> Sources {
        Sources::from_list(self.data.clone())
    }

    fn read(&self, experiments: &[Experiment]) -> anyhow::Result<Vec<Reproduction>> {
        let (sources, seeds) = (self.sources(), self.seeds());
        let read = |&experiment| Ok(Reproduction::read(experiment, self.budget, &sources, seeds, &self.out)?);
        experiments.iter().map(read).collect()
    }

    /// The files of the results; several experiments have a page together besides.
    fn write(&self, reproductions: &[Reproduction]) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.out.join(self.budget.as_str());
        let mut pages = Vec::new();
        for reproduction in reproductions {
            let one = std::slice::from_ref(reproduction);
            let file = |ending: &str| folder.join(format!("{}{ending}", reproduction.experiment));
            write_new(&file(".html"), &page(one))?;
            write_new(&file(".md"), &markdown(reproduction))?;
            write_new(&file(".json"), &serde_json::to_string_pretty(reproduction)?)?;
            for (ending, picture) in pictures(reproduction) {
                write_new(&file(&format!("{ending}.svg")), &picture)?;
            }
            pages.push(file(".html"));
        }
        if reproductions.len() > 1 {
            let all = folder.join("paper.html");
            write_new(&all, &page(reproductions))?;
            pages = vec![all];
        }
        Ok(pages)
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| anyhow::anyhow!("cannot make the folder {}: {error}", folder.display()))?;
    }
    Ok(write_file(path, text.as_bytes())?)
}

/// The experiments that a word means: one of them, or `all`.
fn parse_experiments(words: &[String]) -> Result<Vec<Experiment>, UsageError> {
    let mut experiments = Vec::new();
    for word in words {
        if word == "all" {
            return Ok(Experiment::ALL.to_vec());
        }
        let choices: Vec<&str> =
            Experiment::ALL.iter().map(|experiment| experiment.as_str()).chain(["all"]).collect();
        let unknown = || UsageError::new(UnknownChoice::new("experiment", word, &choices));
        let experiment = word.parse().map_err(|_| unknown())?;
        if !experiments.contains(&experiment) {
            experiments.push(experiment);
        }
    }
    Ok(experiments)
}
