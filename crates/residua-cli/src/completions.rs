//! `residua completions`: what a shell needs to complete residua's options.

use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// Print a shell's completion script.
///
/// Example, for bash:
///
///   residua completions bash > ~/.local/share/bash-completion/completions/residua
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    generate(arguments.shell, &mut crate::Command::command(), "residua", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
