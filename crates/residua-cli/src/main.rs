//! The `residua` command: parses, calls the library, draws progress and reports.

mod augmentation;
mod bench;
mod calibrate;
mod cluster;
mod completions;
mod cost;
mod csv;
mod data;
mod destination;
mod evaluate;
mod explain;
mod export;
mod features;
mod images;
mod import;
mod inference;
mod interrupt;
mod machine;
mod measure;
mod names;
mod network;
mod output;
mod paper;
mod patterns;
mod pictures;
mod predict;
mod progress;
mod propagate;
mod remedy;
mod report;
mod runs;
mod summary;
mod table;
mod train;
mod training_data;
mod usage;
mod waiting;
mod watch;
mod weights;
mod words;

use std::any::TypeId;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::output::{is_reader_gone, tell};
use crate::remedy::explain;
use crate::usage::UsageError;

const EXAMPLES: &str = "Examples:
  residua train                           preresnet20 on built-in images, a few minutes
  residua summary --model preresnet1001";

/// Build, train, evaluate and use very deep residual networks.
///
/// Everything runs on the CPU and on built-in images by default. Each command's --help states its defaults and gives
/// examples.
#[derive(Debug, Parser)]
#[command(name = "residua", version, max_term_width = 100, after_long_help = EXAMPLES)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Train(Box<train::Arguments>),
    Eval(evaluate::Arguments),
    Calibrate(calibrate::Arguments),
    Predict(predict::Arguments),
    Explain(explain::Arguments),
    Features(features::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    Summary(summary::Arguments),
    Cost(cost::Arguments),
    Paper(paper::Arguments),
    Propagate(propagate::Arguments),
    Runs(runs::Arguments),
    Report(report::Arguments),
    Bench(bench::Arguments),
    Data(data::Arguments),
    Completions(completions::Arguments),
    /// Run one benchmark, asked for on standard input.
    #[command(hide = true)]
    Measure,
}

fn main() -> ExitCode {
    cluster::begin();
    let command = negative_numbers_are_values(Command::command()).try_get_matches();
    let command = command.and_then(|mut matches| Command::from_arg_matches_mut(&mut matches));
    let command = command.unwrap_or_else(|error| match cluster::is_behind() {
        true => cluster::exit_behind(error.exit_code()),
        false => error.exit(),
    });
    if cluster::is_behind() && !command.action.is_shared() {
        return ExitCode::SUCCESS;
    }
    if let Err(error) = interrupt::listen() {
        tell(format_args!("error: {}", explain(error.as_ref())));
        return ExitCode::FAILURE;
    }
    let result = match command.action {
        Action::Train(arguments) => train::run(*arguments),
        Action::Eval(arguments) => evaluate::run(&arguments),
        Action::Calibrate(arguments) => calibrate::run(&arguments),
        Action::Predict(arguments) => predict::run(&arguments),
        Action::Explain(arguments) => explain::run(&arguments),
        Action::Features(arguments) => features::run(&arguments),
        Action::Import(arguments) => import::run(&arguments),
        Action::Export(arguments) => export::run(&arguments),
        Action::Summary(arguments) => summary::run(&arguments),
        Action::Cost(arguments) => cost::run(&arguments),
        Action::Paper(arguments) => paper::run(arguments),
        Action::Propagate(arguments) => propagate::run(&arguments),
        Action::Runs(arguments) => runs::run(&arguments),
        Action::Report(arguments) => report::run(&arguments),
        Action::Bench(arguments) => bench::run(&arguments),
        Action::Data(arguments) => data::run(&arguments),
        Action::Completions(arguments) => completions::run(&arguments),
        Action::Measure => measure::run(),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) if is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => return cluster::fail(&error, if error.is::<UsageError>() { 2 } else { 1 }),
    };
    cluster::leave();
    code
}

impl Action {
    /// Whether processes that MPI has started share the work; the others leave it to the first of them.
    fn is_shared(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Paper(_))
    }
}

/// Has `--batch -1` answered by what `--batch` takes, and not as an option `-1` that there is not.
fn negative_numbers_are_values(command: clap::Command) -> clap::Command {
    let names_a_path = |argument: &Arg| argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    command
        .mut_args(|argument| match argument.is_positional() || names_a_path(&argument) {
            true => argument,
            false => argument.allow_negative_numbers(true),
        })
        .mut_subcommands(negative_numbers_are_values)
}
