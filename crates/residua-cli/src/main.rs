//! The `residua` command: parses, calls the library, draws progress and reports.

mod bench;
mod completions;
mod evaluate;
mod machine;
mod network;
mod predict;
mod progress;
mod summary;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, train, evaluate and use very deep residual networks.
///
/// Everything runs on the CPU and on built-in images by default:
///
///   residua train                  trains preresnet20 on built-in images in a few minutes
///   residua summary --model preresnet1001
///
/// Each command's --help states its defaults and gives examples.
#[derive(Debug, Parser)]
#[command(name = "residua", version, verbatim_doc_comment, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Train(Box<train::Arguments>),
    Eval(evaluate::Arguments),
    Predict(predict::Arguments),
    Summary(summary::Arguments),
    Bench(bench::Arguments),
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse().action {
        Action::Train(arguments) => train::run(*arguments),
        Action::Eval(arguments) => evaluate::run(&arguments),
        Action::Predict(arguments) => predict::run(&arguments),
        Action::Summary(arguments) => summary::run(&arguments),
        Action::Bench(arguments) => bench::run(&arguments),
        Action::Completions(arguments) => completions::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
