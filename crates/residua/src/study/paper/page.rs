//! A reproduction as a page.

use maud::{Markup, html};

use super::experiment::Panel;
use super::markdown::{HEADINGS, cells, in_words};
use super::reproduction::{Outcome, Reproduction, RowResult};
use crate::report::chart::{Chart, Named, learning, learning_apart};
use crate::report::document::document;

/// One HTML file of tables and figures with their curves. It needs no other file and no network.
pub fn page(reproductions: &[Reproduction]) -> String {
    let title = match reproductions {
        [reproduction] => reproduction.experiment.title().to_owned(),
        _ => "The paper's tables and figures".to_owned(),
    };
    let head = html! {
        header {
            h1 { (title) }
            p { "Of " em { "Identity Mappings in Deep Residual Networks" } " (He et al., 2016), from runs of one's own." }
        }
        @for reproduction in reproductions {
            section id=(reproduction.experiment) {
                @if reproductions.len() > 1 { h2 { (reproduction.experiment.title()) } }
                p.note role="note" { strong { (reproduction.caveat()) } }
                (table(reproduction))
                p.note { (in_words(reproduction.agreement.as_ref())) }
                @if !unfinished(reproduction).is_empty() {
                    p.note { "Not over yet: " (unfinished(reproduction).join(", ")) "." }
                }
            }
        }
        @if reproductions.iter().any(|reproduction| !reproduction.curves().is_empty()) {
            section {
                p.note { "Curves are of each row's first run that has any; test error solid, training loss dashed where both are in a chart. The budgets above hold for them, too." }
            }
        }
    };
    let charts: Vec<Chart> = reproductions.iter().flat_map(charts).collect();
    document(&title, &head, &charts, &html! {})
}

fn table(reproduction: &Reproduction) -> Markup {
    html! {
        div.wide {
            table.results {
                thead { tr { @for (column, heading) in HEADINGS.into_iter().enumerate() {
                    th scope="col" class=[(column < 3).then_some("words")] { (heading) }
                } } }
                tbody {
                    @for row in &reproduction.rows {
                        tr data-row=(row.name) {
                            @for (column, text) in cells(row).into_iter().enumerate() {
                                @match column {
                                    0 => { th scope="row" { (text) } }
                                    1 | 2 => { td.words { (text) } }
                                    _ => { td { (text) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Runs that have begun and are not over.
fn unfinished(reproduction: &Reproduction) -> Vec<String> {
    let of_row = |row: &RowResult| -> Vec<String> {
        let begun = row.runs.iter().filter_map(|run| match run.outcome {
            Outcome::Unfinished { iteration } => {
                Some(format!("{}, seed {} at iteration {iteration}", row.name, run.seed))
            }
            _ => None,
        });
        begun.collect()
    };
    reproduction.rows.iter().flat_map(of_row).collect()
}

/// A figure's diagrams, or a table's test errors and training losses.
fn charts(reproduction: &Reproduction) -> Vec<Chart> {
    let experiment = reproduction.experiment;
    let curves = reproduction.curves();
    let named = |names: Option<&[&str]>| -> Vec<Named<'_>> {
        let shown = curves.iter().filter(|(row, _)| names.is_none_or(|names| names.contains(&row.name)));
        shown.map(|(row, run)| (legend(row), *run)).collect()
    };
    let mut charts: Vec<Chart> = match experiment.panels() {
        [] => {
            let mut charts = learning_apart(&named(None));
            for chart in &mut charts {
                chart.title = format!("{experiment}: {}", chart.title.to_lowercase());
            }
            charts.into()
        }
        panels => {
            let panel =
                |panel: &Panel| learning(format!("{experiment}: {}", panel.title), &named(Some(panel.rows)));
            panels.iter().map(panel).collect()
        }
    };
    charts.retain(|chart| !chart.curves.is_empty());
    charts
}

/// A row's name among others: what it is called, and the network that was trained.
pub(super) fn legend(row: &RowResult) -> String {
    let trained = row.trained.as_ref().map_or("", |trained| trained.model.as_str());
    format!("{} ({trained})", row.label)
}
