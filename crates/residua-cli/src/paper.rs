//! `residua paper`: the paper's tables and figures from runs of one's own.

mod list;
mod run;
mod show;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand};
use residua::data::Source;
use residua::files::write_file;
use residua::infer::choice::{Choice, Choices, UnknownChoice};
use residua::study::paper::{Budget, Experiment, Reproduction, Sources, markdown, page, pictures};

use crate::usage::count;
use crate::words::words;

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
    /// How much of the paper's protocol.
    #[arg(long, default_value_t = Budget::Short, value_name = "BUDGET", value_parser = words::<Budget>())]
    budget: Budget,
    /// Runs of each row, with the seeds 1, 2, ... [default: 1 in smoke, 2 in short and deep, 5 in full].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroU64>)]
    runs: Option<NonZeroU64>,
    /// Where the data are: CIFAR's two sets, or shapes in the place of both; a folder for ImageNet; several may be given
    /// [default: where `residua data download` puts them].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Vec<Source>,
    /// The folder of the runs and the results, with a folder for each budget.
    #[arg(long, default_value = "runs/paper", value_name = "DIR")]
    out: PathBuf,
}

impl ResultArguments {
    fn seeds(&self) -> u64 {
        self.runs.map_or(self.budget.runs() as u64, NonZeroU64::get)
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
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(write_file(path, text.as_bytes())?)
}

/// One of the experiments, or all of them.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    All,
    One(Experiment),
}

impl Choices for Chosen {
    const CHOICES: &'static [Choice] = &{
        let mut choices = [Choice::new("all", "each of them"); Experiment::CHOICES.len() + 1];
        choices.split_at_mut(Experiment::CHOICES.len()).0.copy_from_slice(Experiment::CHOICES);
        choices
    };
}

impl FromStr for Chosen {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.parse() {
            _ if word == "all" => Ok(Self::All),
            Ok(experiment) => Ok(Self::One(experiment)),
            Err(_) => Err(UnknownChoice::new("experiment", word, &Self::words())),
        }
    }
}

/// The experiments that are meant, each once.
fn experiments(chosen: &[Chosen]) -> Vec<Experiment> {
    let mut experiments = Vec::new();
    for chosen in chosen {
        match chosen {
            Chosen::All => return Experiment::ALL.to_vec(),
            Chosen::One(experiment) if experiments.contains(experiment) => {}
            Chosen::One(experiment) => experiments.push(*experiment),
        }
    }
    experiments
}
