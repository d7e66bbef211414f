//! How good a network is at each class, as part of a page.

use maud::{Markup, html};

use super::examination::Examination;
use super::network_table::thousands;

/// Classes that are shown at once; of more the hardest are.
const MOST_CLASSES: usize = 20;

/// Precision, recall and F1 of the classes.
pub(super) fn class_table(examination: &Examination) -> Markup {
    let measures = &examination.measures;
    let count = examination.classes.len();
    let all: Vec<usize> = (0..count).collect();
    let hardest = measures.hardest_classes();
    html! {
        section {
            h2 { "Classes" }
            p.note {
                "The mean of their errors is " (format!("{:.2} %", measures.mean_per_class_error)) ". "
                "Precision: the share of the images taken for a class that are of it. Recall: the share of its images that are taken for it. F1: the \
                 harmonic mean of both."
            }
            @if count <= MOST_CLASSES {
                (table(examination, &all))
            } @else {
                p { "The " (MOST_CLASSES) " with the highest error:" }
                (table(examination, &hardest[..hardest.len().min(MOST_CLASSES)]))
                details {
                    summary { "All " (thousands(count as u64)) " classes" }
                    (table(examination, &all))
                }
            }
        }
    }
}

fn table(examination: &Examination, classes: &[usize]) -> Markup {
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", 100. * share));
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        @for heading in ["class", "images", "taken for it", "precision", "recall", "F1"] {
                            th scope="col" { (heading) }
                        }
                    }
                }
                tbody {
                    @for &class in classes {
                        @let measures = &examination.measures.classes[class];
                        tr {
                            th scope="row" { (examination.classes[class]) }
                            td { (thousands(measures.images)) }
                            td { (thousands(measures.predicted)) }
                            @for value in [measures.precision, measures.recall, measures.f1] { td { (share(value)) } }
                        }
                    }
                }
            }
        }
    }
}
