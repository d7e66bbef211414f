//! What the page's charts show; `script.js` draws them.

use serde::Serialize;

use super::run_summary::RunSummary;
use crate::run::{Measurement, Record};

/// A chart: curves over the iterations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What a point belongs to: an iteration, or a unit.
    pub(crate) step: &'static str,
    pub(crate) left: Axis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) right: Option<Axis>,
    pub(crate) curves: Vec<Curve>,
    /// Whether points have been left out.
    pub(crate) is_thinned: bool,
}

/// The values of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) is_logarithmic: bool,
    /// Whether a click changes that.
    pub(crate) is_switchable: bool,
    /// Whether it begins at 0.
    pub(crate) has_zero: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Curve {
    pub(crate) label: String,
    /// Which colour.
    pub(crate) run: usize,
    pub(crate) is_dashed: bool,
    pub(crate) is_on_right: bool,
    /// Iteration and value.
    pub(crate) points: Vec<(u64, f64)>,
}

/// Points of a curve that are drawn at most; on any screen they are closer than pixels.
const MOST_POINTS: usize = 2000;

/// The charts of some runs, those that have nothing to show left out.
pub(super) fn charts(runs: &[&RunSummary]) -> Vec<Chart> {
    let named = named(runs);
    let runs = named.as_slice();
    let learning = learning("Test error and training loss", runs);
    let linear = |label| Axis { label, is_logarithmic: false, is_switchable: false, has_zero: true };
    let rate = Axis { label: "learning rate", is_logarithmic: true, is_switchable: false, has_zero: false };

    let mut training = Chart::new("Training error", linear("training error, %"), None);
    training.add(runs, "training error", false, false, |record| match record {
        Record::Training { error, .. } => Some(*error),
        _ => None,
    });
    let mut rates = Chart::new("Learning rate", rate, None);
    rates.add(runs, "learning rate", false, false, |record| match record {
        Record::Training { learning_rate, .. } => Some(*learning_rate),
        _ => None,
    });
    let mut speed = Chart::new("Speed", linear("images/s"), None);
    speed.add(runs, "images/s", false, false, |record| match record {
        Record::Training { images_per_second, .. } => Some(*images_per_second),
        _ => None,
    });
    let mut memory = Chart::new("Peak memory", linear("GB"), None);
    memory.add(runs, "peak memory", false, false, |record| match record {
        Record::Training { peak_memory_bytes, .. } => peak_memory_bytes.map(|bytes| bytes as f64 / 1e9),
        _ => None,
    });
    let bytes = Axis { label: "MB sent for a step", ..linear("") };
    let mut exchange = Chart::new("Exchange between processes", linear("waited, % of the time"), Some(bytes));
    exchange.add(runs, "waited for others", false, false, |record| match record {
        Record::Training { exchange, .. } => exchange.map(|exchange| exchange.waited),
        _ => None,
    });
    exchange.add(runs, "sent", true, true, |record| match record {
        Record::Training { exchange, .. } => exchange.map(|exchange| exchange.bytes_sent as f64 / 1e6),
        _ => None,
    });
    let gradients =
        Axis { label: "early / late", is_logarithmic: true, is_switchable: true, has_zero: false };
    let mut propagation =
        Chart::new("Gradient of the first unit's input over the last unit's", gradients, None);
    propagation.add(runs, "early / late gradient", false, false, |record| match record {
        Record::Measurement(measured) if measured.kind == Measurement::PROPAGATION => {
            measured.number("early_over_late")
        }
        _ => None,
    });
    let mut charts = vec![learning, training, rates, speed, memory, exchange, propagation];
    if let [(_, run)] = runs {
        charts.extend(norms(run));
    }
    charts.retain(|chart| !chart.curves.is_empty());
    charts
}

/// A run's name in a legend, and the run.
pub(crate) type Named<'a> = (String, &'a RunSummary);

const TEST_ERROR: Axis =
    Axis { label: "test error, %", is_logarithmic: false, is_switchable: false, has_zero: true };
const TRAINING_LOSS: Axis =
    Axis { label: "training loss", is_logarithmic: true, is_switchable: true, has_zero: false };

/// Test error on the left, training loss dashed on the right, as the paper's figures have them.
pub(crate) fn learning(title: impl Into<String>, runs: &[Named<'_>]) -> Chart {
    let is_validated = runs.iter().any(|(_, run)| run.recipe.data.validation.is_some());
    let errors = Axis { label: if is_validated { "error, %" } else { TEST_ERROR.label }, ..TEST_ERROR };
    let mut chart = Chart::new(title, errors, Some(TRAINING_LOSS));
    chart.add(runs, "test error", false, false, test_error);
    // Beside each other runs have a colour each, and one line.
    if let [(_, run)] = runs {
        let others: [(&str, Value); 3] = [
            ("test error of the average", average_test_error),
            ("validation error", validation_error),
            ("validation error of the average", average_validation_error),
        ];
        for (colour, (label, value)) in (1..).zip(others) {
            chart.add_curve(label.to_owned(), colour, false, false, &run.records, value);
        }
    }
    chart.add(runs, "training loss", true, true, training_loss);
    chart
}

/// Test error and training loss of many runs, each in a chart of its own.
pub(crate) fn learning_apart(runs: &[Named<'_>]) -> [Chart; 2] {
    let mut errors = Chart::new("Test error", TEST_ERROR, None);
    errors.add(runs, "", false, false, test_error);
    let mut losses = Chart::new("Training loss", TRAINING_LOSS, None);
    losses.add(runs, "", false, false, training_loss);
    [errors, losses]
}

/// What a curve shows of a record.
type Value = fn(&Record) -> Option<f64>;

fn test_error(record: &Record) -> Option<f64> {
    match record {
        Record::Evaluation { test_error, .. } => Some(*test_error),
        _ => None,
    }
}

fn average_test_error(record: &Record) -> Option<f64> {
    match record {
        Record::Evaluation { average_test_error, .. } => *average_test_error,
        _ => None,
    }
}

fn validation_error(record: &Record) -> Option<f64> {
    match record {
        Record::Validation { validation_error, .. } => Some(*validation_error),
        _ => None,
    }
}

fn average_validation_error(record: &Record) -> Option<f64> {
    match record {
        Record::Validation { average_validation_error, .. } => *average_validation_error,
        _ => None,
    }
}

fn training_loss(record: &Record) -> Option<f64> {
    match record {
        Record::Training { loss, .. } => Some(*loss),
        _ => None,
    }
}

/// The runs by their folders' names; one by itself needs none.
fn named<'a>(runs: &[&'a RunSummary]) -> Vec<Named<'a>> {
    let name = |run: &RunSummary| if runs.len() == 1 { String::new() } else { run.name() };
    runs.iter().map(|&run| (name(run), run)).collect()
}

/// The norms of a run's weights and gradients, a curve for each stage.
fn norms(run: &RunSummary) -> [Chart; 2] {
    let axis = |label| Axis { label, is_logarithmic: true, is_switchable: true, has_zero: false };
    let mut charts = [
        Chart::new("Norms of the gradients", axis("Euclidean norm"), None),
        Chart::new("Norms of the weights", axis("Euclidean norm"), None),
    ];
    for (chart, is_gradient) in charts.iter_mut().zip([true, false]) {
        let norms = |record: &Record| match record {
            Record::Norms { weight_norms, gradient_norms, .. } => {
                Some(if is_gradient { gradient_norms.clone() } else { weight_norms.clone() })
            }
            _ => None,
        };
        let stages = run.records.iter().find_map(norms).unwrap_or_default();
        for (index, stage) in stages.keys().enumerate() {
            chart.add_curve(stage.clone(), index, false, false, &run.records, |record| {
                norms(record)?.get(stage).copied()
            });
        }
    }
    charts
}

impl Chart {
    fn new(title: impl Into<String>, left: Axis, right: Option<Axis>) -> Self {
        Self { title: title.into(), step: "iteration", left, right, curves: Vec::new(), is_thinned: false }
    }

    fn add(
        &mut self,
        runs: &[Named<'_>],
        what: &str,
        is_dashed: bool,
        is_on_right: bool,
        value: impl Fn(&Record) -> Option<f64>,
    ) {
        for (index, (name, run)) in runs.iter().enumerate() {
            let label = match (name.as_str(), what) {
                ("", what) => what.to_owned(),
                (name, "") => name.to_owned(),
                (name, what) => format!("{name}: {what}"),
            };
            self.add_curve(label, index, is_dashed, is_on_right, &run.records, &value);
        }
    }

    fn add_curve(
        &mut self,
        label: String,
        run: usize,
        is_dashed: bool,
        is_on_right: bool,
        records: &[Record],
        value: impl Fn(&Record) -> Option<f64>,
    ) {
        let axis = if is_on_right { self.right.as_ref() } else { Some(&self.left) };
        let is_logarithmic = axis.is_some_and(|axis| axis.is_logarithmic);
        let point = |record: &Record| Some((record.iteration(), value(record)?));
        // A logarithmic axis has no place for 0.
        let is_drawn = |point: &(u64, f64)| point.1.is_finite() && (!is_logarithmic || point.1 > 0.);
        let points: Vec<_> = records.iter().filter_map(point).filter(is_drawn).collect();
        if points.is_empty() {
            return;
        }
        self.is_thinned |= points.len() > MOST_POINTS;
        self.curves.push(Curve { label, run, is_dashed, is_on_right, points: thinned(&points, MOST_POINTS) });
    }
}

/// At most `most` points that look like all of them: of each run of neighbours the smallest and the largest value.
fn thinned(points: &[(u64, f64)], most: usize) -> Vec<(u64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    // First and last stay.
    let inner = &points[1..points.len() - 1];
    let together = inner.len().div_ceil((most - 2) / 2);
    let extremes = inner.chunks(together).flat_map(|chunk| {
        let smallest = chunk.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let largest = chunk.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let mut both: Vec<_> = smallest.into_iter().chain(largest).collect();
        both.sort_by_key(|point| point.0);
        both.dedup();
        both
    });
    points.first().copied().into_iter().chain(extremes).chain(points.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_ends_and_extremes() {
        let points: Vec<(u64, f64)> =
            (0..64_000).map(|k| (k, if k == 31_007 { 9. } else { (k % 17) as f64 / 17. })).collect();
        let few = thinned(&points, 2000);
        assert!((1500..=2000).contains(&few.len()), "{}", few.len());
        assert!(few.contains(&(31_007, 9.)) && few.is_sorted_by_key(|point| point.0));
        assert_eq!((few.first(), few.last()), (points.first(), points.last()));
        assert_eq!(thinned(&points[..2000], 2000), points[..2000]);
    }
}
