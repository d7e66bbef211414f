//! What the command says. A reader may have gone (`residua summary | head`), the disk may be full: neither is a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde_json::Value;

use crate::names::{harmless, json_text};

/// Whether another process speaks for this one.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing from here on.
pub(crate) fn fall_silent() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// Whether another process speaks for this one.
pub(crate) fn is_silent() -> bool {
    IS_SILENT.load(Ordering::Relaxed)
}

/// Prints a line of results to standard output.
pub(crate) fn print(line: impl Display) -> anyhow::Result<()> {
    print_bytes(line.to_string().as_bytes())
}

/// Prints JSON in a line.
pub(crate) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(json_text(value))
}

/// Prints a line of results that may be no text: it has names of files in it.
pub(crate) fn print_bytes(line: &[u8]) -> anyhow::Result<()> {
    if is_silent() {
        return Ok(());
    }
    let mut output = io::stdout().lock();
    let written = match output.is_terminal() {
        true => writeln!(output, "{}", harmless(line, is_layout)),
        false => output.write_all(line).and_then(|()| output.write_all(b"\n")),
    };
    written.and_then(|()| output.flush()).context("cannot write to standard output")
}

/// Prints a line about the work to standard error. Work goes on if nobody can read it.
pub(crate) fn tell(line: impl Display) {
    if !is_silent() {
        tell_of_rank(line);
    }
}

/// The same of what concerns this process alone, though another speaks for it otherwise.
pub(crate) fn tell_of_rank(line: impl Display) {
    let mut output = io::stderr().lock();
    let _ = match output.is_terminal() {
        true => writeln!(output, "{}", harmless(line.to_string().as_bytes(), is_layout)),
        false => writeln!(output, "{line}"),
    };
}

/// Whether a control character is one that results are laid out with.
fn is_layout(character: char) -> bool {
    matches!(character, '\n' | '\t')
}

/// Whether an error is that of [`print`] to a reader who has seen enough.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
