//! One self-contained HTML page that shows a run, or several beside each other.

use maud::{Markup, html};

use super::chart::charts;
use super::class_table::class_table;
use super::comparison::differences;
use super::confusions::{confusions, hardest};
use super::document::document;
use super::examination::Examination;
use super::network_table::{network_table, thousands};
use super::reliability::reliability;
use super::run_summary::{ChosenOn, RunSummary};
use crate::run::RunState;

/// A run and what its network makes of the test set.
#[derive(Debug)]
pub struct ReportedRun {
    /// The run.
    pub run: RunSummary,
    /// The test images, looked at one by one.
    pub examined: Examined,
}

/// Whether the test images have been looked at.
#[derive(Debug)]
pub enum Examined {
    /// By the network of the last checkpoint.
    Yes(Box<Examination>),
    /// They were not to be.
    No,
    /// They could not be, for this reason.
    Failed(String),
}

/// The page. It needs no other file and no network; text from files and folders is escaped.
pub fn page(runs: &[ReportedRun]) -> String {
    let summaries: Vec<&RunSummary> = runs.iter().map(|reported| &reported.run).collect();
    let title = summaries.iter().map(|run| run.name()).collect::<Vec<_>>().join(", ");
    let head = match runs {
        [reported] => heading(reported),
        _ => html! {
            header { h1 { "Comparison of " (runs.len()) " runs" } }
            (comparison(&summaries))
        },
    };
    let rest = html! {
        @for reported in runs {
            @if runs.len() == 1 {
                (details(reported))
            } @else {
                details.run {
                    summary { (reported.run.name()) }
                    (details(reported))
                }
            }
        }
    };
    document(&title, &head, &charts(&summaries), &rest)
}

fn heading(reported: &ReportedRun) -> Markup {
    let run = &reported.run;
    html! {
        header {
            h1 { (run.name()) }
            p { (run.recipe.network.model) " on " (run.recipe.data.source) ", " (state(run)) }
        }
        (failure(run))
        dl.facts {
            @for (name, value) in facts(reported) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// Why the run has ended before its time, if an error ended it.
fn failure(run: &RunSummary) -> Markup {
    html! {
        @if let RunState::Failed(failure) = &run.state {
            p.failure role="alert" { "Ended at iteration " (failure.iteration) ": " (failure.message) }
        }
    }
}

fn state(run: &RunSummary) -> String {
    let (done, of) = (thousands(run.iteration()), thousands(run.recipe.schedule.iterations));
    match run.state {
        RunState::Finished => format!("finished after {of} iteration{}", if of == "1" { "" } else { "s" }),
        _ => format!("{} at iteration {done} of {of}", run.state.as_str()),
    }
}

/// How many classes the network tells apart: as many as were examined, or as the data set has.
fn class_count(ReportedRun { run, examined }: &ReportedRun) -> Option<usize> {
    match examined {
        Examined::Yes(examination) => Some(examination.classes.len()),
        _ => run.recipe.data.source.class_count(),
    }
}

/// The classes that are assumed where nothing says how many there are.
const USUAL_CLASSES: usize = 10;

fn facts(reported: &ReportedRun) -> Vec<(&'static str, String)> {
    let run = &reported.run;
    let tests = run.tests();
    let parameters =
        |classes| Some(run.recipe.network.resolve(classes).ok()?.summary(32, 32).ok()?.parameters);
    let mut facts = Vec::new();
    if let Some(last) = tests.last() {
        facts.push(("test error", format!("{:.2} %", last.test_error)));
        facts.push(("test loss", format!("{:.4}", last.test_loss)));
    }
    if let Some(best) = run.best() {
        let (name, note) = match best.chosen_on {
            ChosenOn::Validation => ("best validation error", ""),
            ChosenOn::Test => ("best test error", ", chosen on the test images"),
        };
        facts.push((name, format!("{:.2} % at {}{note}", best.error, thousands(best.iteration))));
    }
    if let Examined::Yes(examination) = &reported.examined {
        let measures = &examination.measures;
        facts.extend(measures.top5_error.map(|error| ("top-5 error", format!("{error:.2} %"))));
        facts.push(("calibration error", format!("{:.3}", measures.calibration.expected_error)));
    }
    facts.extend(run.loss().map(|loss| ("training loss", format!("{loss:.4}"))));
    facts.extend(run.images_per_second().map(|speed| ("speed", format!("{speed:.0} images/s"))));
    let known = class_count(reported);
    if let Some(parameters) = parameters(known.unwrap_or(USUAL_CLASSES)) {
        let assumed =
            if known.is_none() { format!(" (with {USUAL_CLASSES} classes)") } else { String::new() };
        facts.push(("parameters", format!("{}{assumed}", thousands(parameters))));
    }
    facts.push(("seed", run.recipe.seed.to_string()));
    facts
}

fn comparison(runs: &[&RunSummary]) -> Markup {
    let recipes: Vec<_> = runs.iter().map(|run| &run.recipe).collect();
    let percent = |error: Option<f64>| error.map_or("-".to_owned(), |error| format!("{error:.2} %"));
    let results: [(&str, Vec<String>); 5] = [
        ("state", runs.iter().map(|run| state(run)).collect()),
        (
            "test error",
            runs.iter().map(|run| percent(run.tests().last().map(|test| test.test_error))).collect(),
        ),
        (
            "best error, chosen on",
            runs.iter()
                .map(|run| match run.best() {
                    Some(best) => format!("{:.2} %, {}", best.error, best.chosen_on),
                    None => "-".to_owned(),
                })
                .collect(),
        ),
        (
            "training loss",
            runs.iter().map(|run| run.loss().map_or("-".to_owned(), |loss| format!("{loss:.4}"))).collect(),
        ),
        (
            "images/s",
            runs.iter()
                .map(|run| run.images_per_second().map_or("-".to_owned(), |speed| format!("{speed:.0}")))
                .collect(),
        ),
    ];
    html! {
        section {
            h2 { "Results, and what differs" }
            div.wide {
                table.results {
                    thead {
                        tr { th {} @for (index, run) in runs.iter().enumerate() {
                            th scope="col" { span.mark data-run=(index % 12) {} (run.name()) }
                        } }
                    }
                    tbody {
                        @for (name, values) in &results {
                            tr { th scope="row" { (name) } @for value in values { td { (value) } } }
                        }
                        @for difference in differences(&recipes) {
                            tr {
                                th scope="row" { code { (difference.option) } }
                                @for value in &difference.values {
                                    td { @match value { Some(value) => code { (value) }, None => "-" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn details(reported: &ReportedRun) -> Markup {
    let ReportedRun { run, examined } = reported;
    html! {
        (failure(run))
        (answers(examined))
        section {
            h2 { "Recipe" }
            p { "The same run again: " code { "residua train --recipe " (run.folder.join("recipe.toml").display()) } }
            div.wide {
                table.options {
                    tbody {
                        @for (name, value) in run.recipe.options() {
                            tr { th scope="row" { code { (name) } } td { code { (value) } } }
                        }
                    }
                }
            }
        }
        (network(reported))
        (tests(run))
    }
}

fn answers(examined: &Examined) -> Markup {
    match examined {
        Examined::No => html! {},
        Examined::Failed(reason) => {
            html! { section { h2 { "Confusions" } p.failure { "Not examined: " (reason) } } }
        }
        Examined::Yes(examination) => html! {
            (confusions(examination))
            (class_table(examination))
            (reliability(&examination.measures.calibration))
            (hardest(examination))
        },
    }
}

fn network(reported: &ReportedRun) -> Markup {
    let run = &reported.run;
    let classes = class_count(reported).unwrap_or(USUAL_CLASSES);
    let Ok(view) = run.recipe.view() else { return html! {} };
    let summary =
        run.recipe.network.resolve(classes).and_then(|config| config.summary(view.height, view.width));
    let Ok(summary) = summary else { return html! {} };
    let table = network_table(&summary);
    html! {
        section {
            h2 { "Network" }
            p.note { "For images of " (view.height) "x" (view.width) " and " (classes) " classes." }
            div.wide {
                table {
                    thead { tr { @for cell in &table[0] { th scope="col" { (cell) } } } }
                    tbody {
                        @for row in &table[1..] {
                            tr {
                                th scope="row" { (row[0]) }
                                td.words { (row[1]) }
                                @for cell in &row[2..] { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn tests(run: &RunSummary) -> Markup {
    let tests = run.tests();
    html! {
        @if !tests.is_empty() {
            section {
                h2 { "Tests" }
                details {
                    summary { (tests.len()) " tests" }
                    div.wide {
                        table {
                            thead { tr {
                                th scope="col" { "iteration" }
                                th scope="col" { "epoch" }
                                th scope="col" { "test error" }
                                th scope="col" { "test loss" }
                            } }
                            tbody {
                                @for test in &tests {
                                    tr {
                                        td { (thousands(test.iteration)) }
                                        td { (format!("{:.2}", test.epoch)) }
                                        td { (format!("{:.2} %", test.test_error)) }
                                        td { (format!("{:.4}", test.test_loss)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::evaluate::{Answer, Measures};
    use crate::report::HardImage;
    use crate::run::{Failure, NamedRecipe, Recipe, Record};

    const EVIL: &str = "</script><script>alert('x')</script>";

    fn run(records: Vec<Record>) -> RunSummary {
        RunSummary {
            folder: Path::new("runs").join("some run"),
            recipe: Recipe::named(NamedRecipe::Quick),
            state: RunState::Stopped,
            records,
            last_written: None,
        }
    }

    fn training(iteration: u64) -> Record {
        Record::Training {
            iteration,
            epoch: 0.1,
            loss: 2.,
            error: 70.,
            learning_rate: 0.1,
            images_per_second: 300.,
            seconds: 1.,
            peak_memory_bytes: None,
            exchange: None,
            time: None,
        }
    }

    fn examined(classes: usize) -> Examined {
        let answer = |predicted: usize| Answer {
            image: 0,
            label: 0,
            predicted,
            rank: predicted,
            confidence: 0.9,
            loss: 3.,
        };
        let answers: Vec<_> = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1].map(answer).into();
        let hardest = HardImage { answer: answer(1), size: [2, 2], pixels: vec![9; 12] };
        let measures = Measures::of(&answers, classes).unwrap();
        let classes = (0..classes).map(|class| format!("{EVIL}{class}")).collect();
        Examined::Yes(Box::new(Examination { measures, classes, hardest: vec![hardest] }))
    }

    #[test]
    fn names_from_files_are_escaped_everywhere() {
        for classes in [2, 30] {
            let mut evil = run(vec![training(10)]);
            evil.folder = EVIL.replace('/', "|").into();
            evil.state = RunState::Failed(Failure {
                message: EVIL.into(),
                iteration: 3,
                time: None,
                is_divergence: false,
            });
            let reported = || ReportedRun { run: evil.clone(), examined: examined(classes) };
            for runs in [vec![reported()], vec![reported(), reported()]] {
                let page = page(&runs);
                assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"));
                assert_eq!(page.matches("<script").count(), 2);
                assert!(
                    page.contains("7 of 10") == (classes == 2) && page.contains("data:image/png;base64,")
                );
            }
        }
    }

    /// What the page says of the parameters, in its facts and in its table's last row.
    fn parameters(source: &str, examined: Examined) -> (String, String) {
        let mut run = run(vec![]);
        run.recipe.data.source = source.parse().unwrap();
        let page = page(&[ReportedRun { run, examined }]);
        let between = |before: &str, after: &str| {
            let (_, rest) = page.split_once(before).unwrap();
            rest.split_once(after).unwrap().0.to_owned()
        };
        let total = between(">total</th>", "</tr>");
        let cells: Vec<_> = total.split("<td").filter_map(|cell| cell.split_once('>')).collect();
        let of_table = cells[2].1.split_once('<').unwrap().0.to_owned();
        (between("<dt>parameters</dt><dd>", "</dd>"), of_table)
    }

    #[test]
    fn parameters_are_counted_with_the_classes_of_the_data() {
        // 64 features, so that each class has 65 parameters.
        let with = |classes: u64| thousands(269_722 + 65 * (classes - 10));
        for (source, classes) in [("shapes", 10), ("cifar10:data", 10), ("cifar100:data", 100)] {
            assert_eq!(parameters(source, Examined::No), (with(classes), with(classes)), "{source}");
        }
        assert_eq!(parameters("folder:pictures", examined(7)), (with(7), with(7)));
        let assumed = (format!("{} (with 10 classes)", with(10)), with(10));
        assert_eq!(parameters("folder:pictures", Examined::No), assumed);
    }

    #[test]
    fn runs_that_have_hardly_begun_have_a_page() {
        let test = Record::Evaluation {
            iteration: 20,
            epoch: 1.,
            test_loss: 1.,
            test_error: 42.125,
            average_test_loss: None,
            average_test_error: None,
            time: None,
        };
        for records in [vec![], vec![training(10)], vec![training(10), test.clone()], vec![test]] {
            let has_records = !records.is_empty();
            let failed = Examined::Failed("no such data".into());
            let page = page(&[ReportedRun { run: run(records), examined: failed }]);
            assert!(page.ends_with("</html>") && page.contains("no such data"));
            assert_eq!(page.contains("<figure data-chart"), has_records);
            assert_eq!(page.contains("Nothing has been measured yet"), !has_records);
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = page(&[ReportedRun { run: run(vec![training(10)]), examined: examined(3) }]);
        for address in ["http:", "https:", "src=\"/", "url(h", "url(/", "@import", "<link"] {
            assert!(!page.contains(address), "{address}");
        }
    }
}
