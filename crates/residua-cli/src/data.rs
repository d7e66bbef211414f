//! `residua data`: data sets, before anything is learnt from them.

mod download;
mod preview;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Get data sets, and see what a network would see of them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Download(download::DownloadArguments),
    Preview(Box<preview::PreviewArguments>),
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Download(arguments) => download::run(arguments),
        Action::Preview(arguments) => preview::run(arguments),
    }
}
