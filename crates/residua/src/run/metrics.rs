//! The measurements of a run: `metrics.jsonl`, one JSON object a line.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::checkpoint::Due;
use super::measurement::Measurement;
use super::recipe::RecipeOption;
use crate::files::{FileError, is_linked_elsewhere, read_file, write_file};

/// A line of the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Record {
    /// What training has done since the last training line.
    Training {
        /// Finished iterations.
        iteration: u64,
        /// Times that the training set has been gone through.
        epoch: f64,
        /// Mean cross-entropy of the training images since the last line, weight decay not counted.
        loss: f64,
        /// Training images since the last line that were classified wrongly, in percent.
        error: f64,
        /// Learning rate of the last step.
        learning_rate: f64,
        /// Training images a second since the last line; not the same from run to run.
        images_per_second: f64,
        /// Seconds of training; not the same from run to run.
        seconds: f64,
        /// Largest resident memory of the process so far, in bytes, where the system tells; not the same from run to
        /// run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_memory_bytes: Option<u64>,
        /// What passed between the processes that train together, if there are several; not the same from run to run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange: Option<Exchanged>,
        /// Unix time in seconds; not the same from run to run. Older files have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<f64>,
    },
    /// A test of the network on all test images.
    Evaluation {
        /// Finished iterations.
        iteration: u64,
        /// Times that the training set has been gone through.
        epoch: f64,
        /// Mean cross-entropy of the test images.
        test_loss: f64,
        /// Test images that were classified wrongly, in percent.
        test_error: f64,
        /// The same of the average of the weights, if the run keeps one: its mean cross-entropy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        average_test_loss: Option<f64>,
        /// And its error in percent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        average_test_error: Option<f64>,
        /// Unix time in seconds; not the same from run to run. Older files have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<f64>,
    },
    /// A test of the network on the validation images.
    Validation {
        /// Finished iterations.
        iteration: u64,
        /// Times that the training set has been gone through.
        epoch: f64,
        /// Mean cross-entropy of the validation images.
        validation_loss: f64,
        /// Validation images that were classified wrongly, in percent.
        validation_error: f64,
        /// The same of the average of the weights, if the run keeps one: its mean cross-entropy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        average_validation_loss: Option<f64>,
        /// And its error in percent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        average_validation_error: Option<f64>,
        /// Unix time in seconds; not the same from run to run.
        time: Option<f64>,
    },
    /// How large weights and gradients are, on request.
    Norms {
        /// Finished iterations.
        iteration: u64,
        /// Euclidean norm of the weights of the stem, each stage and the head, before the step.
        weight_norms: BTreeMap<String, f64>,
        /// The same of the gradients, weight decay not counted.
        gradient_norms: BTreeMap<String, f64>,
        /// Unix time in seconds; not the same from run to run.
        time: Option<f64>,
    },
    /// What an observer has measured.
    Measurement(Measurement),
}

/// What passes between processes that train together, since the last line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchanged {
    /// How many processes there are.
    pub ranks: u64,
    /// How long a process waits for others with nothing else to do, in percent of the time, in the mean over processes.
    pub waited: f64,
    /// Bytes that a process sends for a step.
    pub bytes_sent: u64,
}

impl Record {
    /// The iterations that were finished when it was measured.
    pub fn iteration(&self) -> u64 {
        match self {
            Self::Training { iteration, .. }
            | Self::Evaluation { iteration, .. }
            | Self::Validation { iteration, .. }
            | Self::Norms { iteration, .. }
            | Self::Measurement(Measurement { iteration, .. }) => *iteration,
        }
    }

    /// When it was measured: Unix time in seconds.
    pub fn time(&self) -> Option<f64> {
        match self {
            Self::Training { time, .. }
            | Self::Evaluation { time, .. }
            | Self::Validation { time, .. }
            | Self::Norms { time, .. }
            | Self::Measurement(Measurement { time, .. }) => *time,
        }
    }

    /// Whether it belongs to a run that has finished `iteration` iterations, after which this is still due.
    fn is_before(&self, iteration: u64, due: Due) -> bool {
        let is_done = match self {
            // The norms are measured within the iteration.
            Self::Norms { .. } => true,
            Self::Training { .. } | Self::Measurement(_) => due != Due::Measurements,
            Self::Evaluation { .. } | Self::Validation { .. } => due.is_nothing(),
        };
        self.iteration() < iteration || self.iteration() == iteration && is_done
    }

    /// The first number that is not finite.
    fn not_finite(&self) -> Option<(&str, f64)> {
        let numbers = match *self {
            Self::Training { epoch, loss, error, learning_rate, images_per_second, seconds, .. } => vec![
                ("epoch", epoch),
                ("loss", loss),
                ("error", error),
                ("learning_rate", learning_rate),
                ("images_per_second", images_per_second),
                ("seconds", seconds),
            ],
            Self::Evaluation {
                epoch, test_loss, test_error, average_test_loss, average_test_error, ..
            } => {
                let average = [average_test_loss, average_test_error].map(Option::unwrap_or_default);
                let of_average = ["average_test_loss", "average_test_error"].into_iter().zip(average);
                [("epoch", epoch), ("test_loss", test_loss), ("test_error", test_error)]
                    .into_iter()
                    .chain(of_average)
                    .collect()
            }
            Self::Validation {
                epoch,
                validation_loss,
                validation_error,
                average_validation_loss,
                average_validation_error,
                ..
            } => vec![
                ("epoch", epoch),
                ("validation_loss", validation_loss),
                ("validation_error", validation_error),
                ("average_validation_loss", average_validation_loss.unwrap_or_default()),
                ("average_validation_error", average_validation_error.unwrap_or_default()),
            ],
            Self::Norms { ref weight_norms, ref gradient_norms, .. } => {
                let weights = weight_norms.values().map(|&norm| ("weight_norms", norm));
                weights.chain(gradient_norms.values().map(|&norm| ("gradient_norms", norm))).collect()
            }
            Self::Measurement(ref measurement) => return measurement.not_finite(),
        };
        numbers.into_iter().find(|(_, number)| !number.is_finite())
    }
}

/// The metrics of a run that is going on, open for more lines.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
    length: u64,
}

impl MetricsLog {
    /// Begins the metrics of a new run.
    ///
    /// # Errors
    /// When the file holds metrics already, or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, MetricsError> {
        match path.metadata() {
            Ok(file) if file.len() > 0 => Err(MetricsError::Exists { path: path.to_owned() }),
            _ => Self::begin_with(path, &[]),
        }
    }

    /// Goes on with the metrics of a run that is resumed after `iteration` finished iterations, where this is still due:
    /// later lines are dropped, for they will be measured again, and so is a last line that a kill left unfinished.
    /// Without a file a new one is begun.
    ///
    /// # Errors
    /// When a line is damaged, or the file cannot be read or written.
    pub(crate) fn resume(path: &Path, iteration: u64, due: Due) -> Result<Self, MetricsError> {
        let bytes = if path.exists() { read_file(path)? } else { Vec::new() };
        let mut kept = Vec::new();
        for (line, record) in parse(path, &bytes)? {
            if record.is_before(iteration, due) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
        if path.exists() && kept == bytes && !is_linked_elsewhere(path) {
            Self::open(path, bytes.len())
        } else {
            Self::begin_with(path, &kept)
        }
    }

    /// Adds a line. A kill leaves it whole, or unfinished at the end of the file, where it does no harm.
    ///
    /// # Errors
    /// When a number is not finite (the line is not written then), or the file cannot be written.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), MetricsError> {
        if let Some((name, value)) = record.not_finite() {
            let (iteration, name) = (record.iteration(), name.to_owned());
            return Err(MetricsError::NotFinite { iteration, name, value });
        }
        let mut line = serde_json::to_vec(record).expect("plain numbers can be written as JSON");
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.flush()).map_err(|error| {
            // Half a line, as when the disk is full, must not stand before the next one.
            let _ = self.file.set_len(self.length);
            FileError::cannot("write", &self.path)(error)
        })?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Forces all lines to disk. To be called before the checkpoint that they belong to is saved.
    ///
    /// # Errors
    /// When the operating system cannot.
    pub(crate) fn sync(&self) -> Result<(), MetricsError> {
        Ok(self.file.sync_all().map_err(FileError::cannot("write", &self.path))?)
    }

    fn begin_with(path: &Path, lines: &[u8]) -> Result<Self, MetricsError> {
        write_file(path, lines)?;
        Self::open(path, lines.len())
    }

    fn open(path: &Path, length: usize) -> Result<Self, MetricsError> {
        let file = OpenOptions::new().append(true).open(path).map_err(FileError::cannot("write", path))?;
        Ok(Self { path: path.to_owned(), file, length: length as u64 })
    }
}

/// The present Unix time in seconds.
pub(crate) fn now() -> Option<f64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs_f64())
}

/// All lines of a file, which may belong to a run that is going on: an unfinished last line is left out.
///
/// # Errors
/// When a line is damaged or the file cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Record>, MetricsError> {
    let bytes = read_file(path)?;
    Ok(parse(path, &bytes)?.into_iter().map(|(_, record)| record).collect())
}

/// The finished lines of a file, with what they say.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Record)>, MetricsError> {
    let finished = bytes.iter().rposition(|&byte| byte == b'\n').map_or(&bytes[..0], |end| &bytes[..end]);
    let lines = finished.split(|&byte| byte == b'\n').enumerate().filter(|_| !finished.is_empty());
    lines
        .map(|(index, line)| match serde_json::from_slice(line) {
            Ok(record) => Ok((line, record)),
            Err(error) => Err(MetricsError::Line {
                path: path.to_owned(),
                number: index + 1,
                reason: error.to_string(),
            }),
        })
        .collect()
}

/// Metrics that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A new run would overwrite an older one's metrics.
    #[error("{} holds the metrics of an earlier run; resume that run or choose another folder", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A line is damaged.
    #[error("{}, line {number}: no line that residua writes ({reason}); delete the line", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A number is infinite or not a number.
    #[error(
        "{name} is {value} after iteration {iteration}: training has diverged; lower {} or add a warm-up",
        RecipeOption::LearningRate
    )]
    NotFinite {
        /// The iteration.
        iteration: u64,
        /// The number's name.
        name: String,
        /// The number.
        value: f64,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn training(iteration: u64) -> Record {
        let epoch = iteration as f64 / 4.0;
        Record::Training {
            iteration,
            epoch,
            loss: 0.1 + 0.2,
            error: 12.5,
            learning_rate: 0.01,
            images_per_second: 1000.0,
            seconds: 1.5,
            peak_memory_bytes: None,
            exchange: None,
            time: None,
        }
    }

    fn evaluation(iteration: u64) -> Record {
        Record::Evaluation {
            iteration,
            epoch: 1.0,
            test_loss: 0.5,
            test_error: 6.37,
            average_test_loss: None,
            average_test_error: None,
            time: Some(1.5),
        }
    }

    fn run(lines: &[Record]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        lines.iter().for_each(|line| log.append(line).unwrap());
        log.sync().unwrap();
        (folder, path)
    }

    #[test]
    fn lines_have_their_fields_in_order() {
        let (_folder, path) = run(&[training(10), evaluation(10)]);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"iteration\":10,\"epoch\":2.5,\"loss\":0.30000000000000004,\"error\":12.5,\"learning_rate\":0.01,\
             \"images_per_second\":1000.0,\"seconds\":1.5}\n\
             {\"iteration\":10,\"epoch\":1.0,\"test_loss\":0.5,\"test_error\":6.37,\"time\":1.5}\n"
        );
        assert_eq!(read_metrics(&path).unwrap(), [training(10), evaluation(10)]);
    }

    #[test]
    fn norms_and_the_lines_of_older_files_are_read() {
        let norms = |norm: f64| [("stage1".to_owned(), norm), ("stem".to_owned(), 2. * norm)].into();
        let record =
            Record::Norms { iteration: 5, weight_norms: norms(1.5), gradient_norms: norms(0.25), time: None };
        let (_folder, path) = run(std::slice::from_ref(&record));
        assert_eq!(read_metrics(&path).unwrap(), [record]);
        let old = "{\"iteration\":10,\"epoch\":1.0,\"test_loss\":0.5,\"test_error\":6.37}\n";
        fs::write(&path, old).unwrap();
        assert_eq!(read_metrics(&path).unwrap()[0].time(), None);
    }

    #[test]
    fn a_new_run_does_not_overwrite_an_older_one() {
        let (_folder, path) = run(&[training(10)]);
        let message = MetricsLog::create(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl holds the metrics of an earlier run"), "{message}");
        assert_eq!(read_metrics(&path).unwrap().len(), 1);
        fs::write(&path, "").unwrap();
        MetricsLog::create(&path).unwrap();
    }

    #[test]
    fn resuming_drops_what_will_be_measured_again() {
        let lines = [training(10), training(20), evaluation(20), training(30), evaluation(40)];
        let (_folder, path) = run(&lines);
        let before = fs::read_to_string(&path).unwrap();
        let mut log = MetricsLog::resume(&path, 20, Due::Nothing).unwrap();
        assert!(before.starts_with(&fs::read_to_string(&path).unwrap()));
        log.append(&training(30)).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), lines[..4]);

        MetricsLog::resume(&path, 0, Due::Nothing).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), []);
        fs::remove_file(&path).unwrap();
        MetricsLog::resume(&path, 20, Due::Nothing).unwrap().append(&training(30)).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), [training(30)]);
    }

    #[test]
    fn what_is_still_due_is_measured_again() {
        let norms = |iteration| Record::Norms {
            iteration,
            weight_norms: [].into(),
            gradient_norms: [].into(),
            time: None,
        };
        let measurement = Record::Measurement(Measurement::new("sparsity", 20).with("zeros", 0.5));
        let lines = [training(10), norms(20), measurement, training(20), evaluation(20), norms(21)];
        for (due, kept) in [(Due::Nothing, 5), (Due::Tests, 4), (Due::Measurements, 2)] {
            let (_folder, path) = run(&lines);
            MetricsLog::resume(&path, 20, due).unwrap();
            assert_eq!(read_metrics(&path).unwrap(), lines[..kept], "{due:?}");
        }
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_damaged_one_named() {
        let (_folder, path) = run(&[training(10), evaluation(10)]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read_metrics(&path).unwrap().len(), usize::from(length >= first), "{length}");
            MetricsLog::resume(&path, 10, Due::Nothing).unwrap().append(&evaluation(10)).unwrap();
            assert_eq!(read_metrics(&path).unwrap().last(), Some(&evaluation(10)), "{length}");
        }
        for damage in
            ["{\"iteration\":1}", "", "\u{0}\u{0}", "{\"iteration\":1,\"epoch\":1,\"test_loss\":null}"]
        {
            fs::write(&path, [&whole[..first], damage.as_bytes(), b"\n", &whole[first..]].concat()).unwrap();
            let message = MetricsLog::resume(&path, 10, Due::Nothing).unwrap_err().to_string();
            assert!(message.contains("metrics.jsonl, line 2: no line"), "{message}");
            assert!(read_metrics(&path).is_err());
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_and_not_written() {
        let (_folder, path) = run(&[]);
        let mut log = MetricsLog::resume(&path, 0, Due::Nothing).unwrap();
        let mut line = training(7);
        if let Record::Training { loss, .. } = &mut line {
            *loss = f64::NAN;
        }
        let message = log.append(&line).unwrap_err().to_string();
        assert!(message.starts_with("loss is NaN after iteration 7: training has diverged"), "{message}");
        assert!(fs::read(&path).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn numbers_come_back_exactly(iteration: u64, bits: [u64; 3]) {
            let [epoch, test_loss, test_error] = bits.map(f64::from_bits);
            prop_assume!([epoch, test_loss, test_error].iter().all(|number| number.is_finite()));
            let (average_test_loss, average_test_error) = (Some(0.25), None);
            let record = Record::Evaluation { iteration, epoch, test_loss, test_error, average_test_loss, average_test_error, time: None };
            let line = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        }
    }
}
