//! `residua paper show`: published numbers beside ours so far.

use std::process::ExitCode;

use clap::Args;
use residua::study::paper::markdown;

use super::{Chosen, ResultArguments, experiments};
use crate::output::{print, tell};
use crate::words::words;

/// Show the published numbers beside those of one's own runs so far; nothing is trained.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Tables and figures.
    #[arg(required = true, value_name = "EXPERIMENT", value_parser = words::<Chosen>())]
    experiments: Vec<Chosen>,
    #[command(flatten)]
    results: ResultArguments,
    /// Write the page, Markdown, pictures and JSON anew, as `run` does.
    #[arg(long)]
    write: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let reproductions = arguments.results.read(&experiments(&arguments.experiments))?;
    if arguments.json {
        print(serde_json::to_string(&reproductions)?)?;
    } else {
        let tables: Vec<String> = reproductions.iter().map(markdown).collect();
        print(tables.join("\n").trim_end())?;
    }
    if arguments.write {
        for page in arguments.results.write(&reproductions)? {
            tell(format_args!("the page is {}", page.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
