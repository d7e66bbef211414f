//! A run in a few numbers, read from its folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use thiserror::Error;

use crate::nn::NetworkError;
use crate::run::{Recipe, Record, RunError, RunState, is_run, read_metrics, saved_recipe};
use residua_infer::words;

/// A run as its folder tells it. It may be going on, or damaged in parts.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The folder.
    pub folder: PathBuf,
    /// What the run is.
    pub recipe: Recipe,
    /// Whether it is going on, or how it was left.
    pub state: RunState,
    /// All measurements, in the order of the iterations.
    pub records: Vec<Record>,
    /// When something was last measured: Unix time in seconds.
    pub last_written: Option<f64>,
}

/// A folder that is not read as a run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The run's own files.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is no run where one was said to be.
    #[error("{} holds no run{}", .folder.display(), .suggestion)]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// A run that may have been meant, or nothing.
        suggestion: String,
    },
    /// A run lies where another belongs.
    #[error("{}: {reason}; move it away", .folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// What is another.
        reason: String,
    },
    /// A network that cannot be.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A folder cannot be listed.
    #[error("cannot list {}: {reason}", .folder.display())]
    Unlisted {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
}

impl RunSummary {
    /// Reads the run in a folder. Its files are left as they are.
    ///
    /// # Errors
    /// When there is no run, or its recipe or metrics are damaged.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        if !is_run(folder) {
            return Err(ReportError::NoRun { folder: folder.to_owned(), suggestion: suggestion(folder) });
        }
        let recipe = saved_recipe(folder)?;
        let metrics = folder.join("metrics.jsonl");
        let records =
            if metrics.exists() { read_metrics(&metrics).map_err(RunError::from)? } else { Vec::new() };
        let written = || {
            let modified = fs::metadata(&metrics).and_then(|file| file.modified()).ok()?;
            Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
        };
        Ok(Self {
            folder: folder.to_owned(),
            state: RunState::of_run(folder, &recipe),
            last_written: records.iter().rev().find_map(Record::time).or_else(written),
            recipe,
            records,
        })
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        let full = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        full.file_name()
            .map_or_else(|| full.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Iterations that have been measured.
    pub fn iteration(&self) -> u64 {
        self.records.iter().map(Record::iteration).max().unwrap_or(0)
    }

    /// The last training loss.
    pub fn loss(&self) -> Option<f64> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Training { loss, .. } => Some(*loss),
            _ => None,
        })
    }

    /// Iteration, error in percent and loss of every test.
    pub fn tests(&self) -> Vec<Test> {
        let test = |record: &Record| match *record {
            Record::Evaluation { iteration, epoch, test_loss, test_error, .. } => {
                Some(Test { iteration, epoch, test_loss, test_error })
            }
            _ => None,
        };
        self.records.iter().filter_map(test).collect()
    }

    /// The lowest error that the run chose by, the first of equals; of the average of weights, if it keeps one.
    pub fn best(&self) -> Option<BestError> {
        let chosen_on = match self.recipe.data.validation {
            Some(_) => ChosenOn::Validation,
            None => ChosenOn::Test,
        };
        let error = |record: &Record| match (chosen_on, record) {
            (ChosenOn::Test, Record::Evaluation { iteration, test_error, average_test_error, .. }) => {
                Some((*iteration, average_test_error.unwrap_or(*test_error)))
            }
            (
                ChosenOn::Validation,
                Record::Validation { iteration, validation_error, average_validation_error, .. },
            ) => Some((*iteration, average_validation_error.unwrap_or(*validation_error))),
            _ => None,
        };
        let errors = self.records.iter().filter_map(error);
        let (iteration, error) = errors.reduce(|best, next| if next.1 < best.1 { next } else { best })?;
        Some(BestError { iteration, error, chosen_on })
    }

    /// Median of the last ten measurements of training speed.
    pub fn images_per_second(&self) -> Option<f64> {
        let speeds = self.records.iter().rev().filter_map(|record| match record {
            Record::Training { images_per_second, .. } => Some(*images_per_second),
            _ => None,
        });
        let mut speeds: Vec<_> = speeds.take(10).collect();
        speeds.sort_by(f64::total_cmp);
        speeds.get(speeds.len() / 2).copied()
    }
}

/// The lowest error of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestError {
    /// Finished iterations.
    pub iteration: u64,
    /// In percent.
    pub error: f64,
    /// Of which images.
    pub chosen_on: ChosenOn,
}

/// Which images say what the best of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenOn {
    /// Images that were held out for it.
    Validation,
    /// The test images: the lowest of several looks at them is lower than what the network does on images that nobody has
    /// chosen by.
    Test,
}

words!(ChosenOn, "images to choose by", {
    Validation => "validation",
    Test => "test",
});

/// A test of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    /// Finished iterations.
    pub iteration: u64,
    /// Times that the training set has been gone through.
    pub epoch: f64,
    /// Mean cross-entropy.
    pub test_loss: f64,
    /// Misclassified images, in percent.
    pub test_error: f64,
}

/// The runs in a folder, and what of it cannot be looked into.
#[derive(Debug, Default)]
pub struct FoundRuns {
    /// Their folders, in the order of their paths.
    pub runs: Vec<PathBuf>,
    /// Why folders in it cannot be listed, in their order.
    pub unlisted: Vec<ReportError>,
}

/// The runs in a folder, two levels deep, or the folder itself if it is a run.
///
/// # Errors
/// When the folder itself cannot be listed.
pub fn find_runs(folder: &Path) -> Result<FoundRuns, ReportError> {
    let mut found = FoundRuns::default();
    collect(folder, 2, &mut found)?;
    found.runs.sort();
    found.unlisted.sort_by_cached_key(ToString::to_string);
    Ok(found)
}

fn collect(folder: &Path, levels: usize, found: &mut FoundRuns) -> Result<(), ReportError> {
    if is_run(folder) {
        found.runs.push(folder.to_owned());
        return Ok(());
    }
    let unlisted = |reason| ReportError::Unlisted { folder: folder.to_owned(), reason };
    for entry in fs::read_dir(folder).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        let is_looked_into = path.is_dir() && (levels > 1 || is_run(&path));
        if is_looked_into && let Err(error) = collect(&path, levels - 1, found) {
            found.unlisted.push(error);
        }
    }
    Ok(())
}

/// A run beside `folder` whose name is like its own.
fn suggestion(folder: &Path) -> String {
    let Some(parent) = folder.parent() else { return String::new() };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let given = folder.file_name().unwrap_or_default().to_string_lossy();
    let names: Vec<String> = find_runs(parent)
        .unwrap_or_default()
        .runs
        .iter()
        .filter_map(|run| Some(run.strip_prefix(parent).ok()?.display().to_string()))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match residua_infer::choice::nearest(&given, &names) {
        Some(name) => format!(" (did you mean {}?)", folder.with_file_name(name).display()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::NamedRecipe;

    fn run(folder: &Path) {
        fs::create_dir_all(folder.join("checkpoints")).unwrap();
        fs::write(folder.join("recipe.toml"), Recipe::named(NamedRecipe::Quick).to_toml()).unwrap();
    }

    fn line(iteration: u64, speed: f64) -> String {
        format!(
            "{{\"iteration\":{iteration},\"epoch\":1.0,\"loss\":{},\"error\":50.0,\"learning_rate\":0.1,\
             \"images_per_second\":{speed},\"seconds\":1.0}}\n",
            2. / iteration as f64
        )
    }

    #[test]
    fn a_run_is_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path());
        let test = |iteration, error| {
            format!(
                "{{\"iteration\":{iteration},\"epoch\":1.0,\"test_loss\":0.5,\"test_error\":{error},\"time\":7.5}}\n"
            )
        };
        let speeds: String = (1..=12).map(|k| line(k, f64::from(k as u32))).collect();
        let tests = [test(12, 30.), test(14, 20.), test(16, 20.), test(18, 25.)].concat();
        fs::write(folder.path().join("metrics.jsonl"), speeds + &tests).unwrap();
        let summary = RunSummary::read(folder.path()).unwrap();
        assert_eq!((summary.iteration(), summary.loss()), (18, Some(2. / 12.)));
        // Of 3 to 12 the sixth.
        assert_eq!(summary.images_per_second(), Some(8.));
        let best = summary.best().unwrap();
        assert_eq!((best.iteration, best.error, best.chosen_on), (14, 20., ChosenOn::Test));
        assert_eq!((summary.last_written, &summary.state), (Some(7.5), &RunState::Stopped));
    }

    #[test]
    fn a_run_without_measurements_has_none() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path());
        let summary = RunSummary::read(folder.path()).unwrap();
        assert_eq!((summary.iteration(), summary.loss(), summary.images_per_second()), (0, None, None));
        assert!(summary.best().is_none() && summary.last_written.is_none());
    }

    #[test]
    fn runs_are_found_two_levels_deep() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "group/c", "group/deeper/d"] {
            run(&folder.path().join(name));
        }
        fs::write(folder.path().join("file"), "").unwrap();
        let found = find_runs(folder.path()).unwrap().runs;
        assert_eq!(found, ["a", "b", "group/c"].map(|name| folder.path().join(name)));
        assert_eq!(find_runs(&folder.path().join("a")).unwrap().runs, [folder.path().join("a")]);
        let missing = find_runs(&folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(missing.contains("cannot list"), "{missing}");
    }

    #[test]
    fn a_misspelt_run_is_answered_with_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        run(&folder.path().join("preresnet20-shapes"));
        let message = RunSummary::read(&folder.path().join("preresnet20-shape")).unwrap_err().to_string();
        assert!(
            message.contains("holds no run (did you mean") && message.contains("preresnet20-shapes?)"),
            "{message}"
        );
    }
}
