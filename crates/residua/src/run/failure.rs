//! The note that a run leaves behind when an error ends it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::metrics::now;
use crate::files::{FileError, read_file, write_file};

/// Why the last process that trained in a run's folder ended before its time: `failure.json`, which goes when the run
/// is resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The error.
    pub message: String,
    /// Finished iterations.
    pub iteration: u64,
    /// Unix time in seconds.
    pub time: Option<f64>,
    /// Whether the loss or a weight was no number any more.
    #[serde(default)]
    pub is_divergence: bool,
}

const FAILURE: &str = "failure.json";

impl Failure {
    /// That of the run in a folder, if there is one that can be read.
    pub fn of_run(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&read_file(&folder.join(FAILURE)).ok()?).ok()
    }

    /// Leaves the note.
    pub(crate) fn note(folder: &Path, error: &RunError, iteration: u64) -> Result<(), FileError> {
        let is_divergence = matches!(error, RunError::Diverged { .. });
        let failure = Self { message: error.to_string(), iteration, time: now(), is_divergence };
        let text = serde_json::to_string(&failure).expect("a text and numbers can be written as JSON");
        write_file(&folder.join(FAILURE), format!("{text}\n").as_bytes())
    }

    /// Takes the note away, for the run goes on.
    pub(crate) fn clear(folder: &Path) -> Result<(), FileError> {
        let path = folder.join(FAILURE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::cannot("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}
