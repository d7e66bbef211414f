//! What the command says. A reader may have gone (`residua summary | head`), the disk may be full: neither is a panic.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context;

/// Prints a line of results to standard output.
pub(crate) fn print(line: impl Display) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).context("cannot write to standard output")
}

/// Prints a line about the work to standard error. Work goes on if nobody can read it.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether an error is that of [`print`] to a reader who has seen enough.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
