//! A reproduction as Markdown.

use super::agreement::Agreement;
use super::reproduction::{Measured, Outcome, Reproduction, RowResult, TrainedAs};

/// The table or figure as a Markdown table, with the budget and the seeds at its top.
pub fn markdown(reproduction: &Reproduction) -> String {
    let Reproduction { experiment, rows, .. } = reproduction;
    let mut lines = vec![
        format!("## {}", experiment.title()),
        String::new(),
        format!("*{}*", reproduction.caveat()),
        String::new(),
        format!("| {} |", HEADINGS.join(" | ")),
        format!("|---|---|---|{}", "---:|".repeat(HEADINGS.len() - 3)),
    ];
    lines.extend(rows.iter().map(|row| format!("| {} |", cells(row).join(" | "))));
    lines.push(String::new());
    lines.push(in_words(reproduction.agreement.as_ref()));
    lines.push(String::new());
    lines.join("\n")
}

/// The columns of a table.
pub(super) const HEADINGS: [&str; 8] = [
    "row",
    "paper's network",
    "trained here",
    "ours, test error %",
    "mean ± std",
    "paper, %",
    "difference",
    "training loss",
];

/// A row's cells, below [`HEADINGS`].
pub(super) fn cells(row: &RowResult) -> [String; 8] {
    let dash = || "-".to_owned();
    let ours = row.measured.as_ref().map_or_else(|| progress(row), median);
    let trained = row.trained.as_ref().map_or_else(
        || "quoted".to_owned(),
        |TrainedAs { model, data, iterations, .. }| match row.data_set {
            Some(own) if own.title().replace('-', "").to_lowercase() == *data => {
                format!("{model}, {iterations} iterations")
            }
            _ => format!("{model} on {data}, {iterations} iterations"),
        },
    );
    let spread = row.measured.and_then(|measured| {
        Some(match measured.deviation {
            Some(deviation) => format!("{:.2} ± {deviation:.2} ({} runs)", measured.mean?, measured.runs),
            None => "1 run".to_owned(),
        })
    });
    let loss = row.measured.and_then(|measured| measured.training_loss);
    let difference = match (row.difference, row.measured) {
        (Some(points), _) => format!("{points:+.2}"),
        (None, Some(measured)) if measured.is_fail && row.published.median().is_none() => {
            "both fail".to_owned()
        }
        _ => dash(),
    };
    [
        row.label.to_owned(),
        row.network.to_owned(),
        trained,
        ours,
        spread.unwrap_or_else(dash),
        row.published.text(),
        difference,
        loss.map_or_else(dash, |loss| format!("{loss:.4}")),
    ]
}

/// What the agreement says.
pub(super) fn in_words(agreement: Option<&Agreement>) -> String {
    let Some(Agreement { pairs, agreeing, interval: [low, high], single_runs, chance }) = agreement else {
        return "Order: no two finished rows are at least one point apart in the paper.".to_owned();
    };
    let unknown = match single_runs {
        0 => String::new(),
        1 => ", without the spread of the row of one run".to_owned(),
        _ => format!(", without the spread of the {single_runs} rows of one run"),
    };
    format!(
        "Order: {agreeing} of {pairs} pairs of rows that the paper separates by a point or more lie in its order ({:.0} %; 95 % interval over \
         draws of rows and runs {:.0} to {:.0} %{unknown}; rows in random order agree as well in {:.1} % of cases).",
        100. * agreeing / *pairs as f64,
        100. * low,
        100. * high,
        100. * chance
    )
}

fn median(measured: &Measured) -> String {
    match measured.median {
        None => "fail (diverged)".to_owned(),
        Some(median) if measured.is_fail => format!("fail ({median:.2})"),
        Some(median) => format!("{median:.2}"),
    }
}

/// How far a row without a result is.
fn progress(row: &RowResult) -> String {
    let done = row.runs.iter().filter_map(|run| match run.outcome {
        Outcome::Unfinished { iteration } => Some(iteration),
        _ => None,
    });
    match (done.max(), &row.trained) {
        (Some(iteration), Some(trained)) => format!("at iteration {iteration} of {}", trained.iterations),
        _ => "-".to_owned(),
    }
}
