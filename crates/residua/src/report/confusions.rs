//! What a network makes of the test images, as part of a page.

use maud::{Markup, html};

use super::examination::Examination;
use super::images::data_address;

/// Classes beyond which a matrix says less than the list of its largest entries.
const MOST_CLASSES: usize = 20;

/// Which classes are taken for which, and the hardest images.
pub(super) fn confusions(examination: &Examination) -> Markup {
    let name = |class: usize| &examination.classes[class];
    html! {
        section {
            h2 { "Confusions" }
            p.note { "Of the last checkpoint, on the test images." }
            @if examination.classes.len() <= MOST_CLASSES {
                (matrix(examination))
            } @else {
                (list(examination))
            }
        }
        section {
            h2 { "Hardest test images" }
            div.pictures {
                @for image in &examination.hardest {
                    figure {
                        img src=(data_address(image)) alt={ "a test image of class " (name(image.label)) };
                        figcaption {
                            strong { (name(image.label)) }
                            @if image.predicted == image.label { " right, but" } @else { " taken for " (name(image.predicted)) }
                            " at " (format!("{:.0} %", 100. * image.probability))
                        }
                    }
                }
            }
        }
    }
}

fn matrix(examination: &Examination) -> Markup {
    let classes = examination.classes.len();
    let share = |label: usize, predicted: usize| {
        let images = examination.images_of(label).max(1);
        examination.count(label, predicted) as f64 / images as f64
    };
    let words = |label: usize, predicted: usize| {
        format!(
            "{} of {} images of {} taken for {} ({:.1} %)",
            examination.count(label, predicted),
            examination.images_of(label),
            examination.classes[label],
            examination.classes[predicted],
            100. * share(label, predicted)
        )
    };
    html! {
        div.wide {
            table.matrix {
                thead {
                    tr {
                        th scope="col" { "true class" }
                        @for class in &examination.classes { th.turned scope="col" { span { (class) } } }
                        th scope="col" { "error" }
                    }
                }
                tbody {
                    @for label in 0..classes {
                        tr {
                            th scope="row" { (examination.classes[label]) }
                            @for predicted in 0..classes {
                                // The square root shows a few mistakes beside many right answers.
                                td.right[label == predicted] title=(words(label, predicted))
                                    style=(format!("--share: {:.3}", share(label, predicted).sqrt())) {
                                    @let count = examination.count(label, predicted);
                                    @if count > 0 { (count) }
                                }
                            }
                            td { @if let Some(error) = examination.error_of(label) { (format!("{error:.1} %")) } }
                        }
                    }
                }
            }
        }
    }
}

fn list(examination: &Examination) -> Markup {
    let mut classes: Vec<_> = (0..examination.classes.len())
        .filter_map(|label| Some((label, examination.error_of(label)?)))
        .collect();
    classes.sort_by(|a, b| b.1.total_cmp(&a.1));
    let name = |class: usize| &examination.classes[class];
    html! {
        div.beside {
            div.wide {
                table {
                    thead { tr { th scope="col" { "true class" } th scope="col" { "taken for" } th scope="col" { "images" } } }
                    tbody {
                        @for (label, predicted, count) in examination.frequent_confusions().into_iter().take(MOST_CLASSES) {
                            tr {
                                th scope="row" { (name(label)) }
                                td.words { (name(predicted)) }
                                td { (count) " of " (examination.images_of(label)) }
                            }
                        }
                    }
                }
            }
            div.wide {
                table {
                    thead { tr { th scope="col" { "hardest classes" } th scope="col" { "error" } } }
                    tbody {
                        @for (label, error) in classes.into_iter().take(MOST_CLASSES) {
                            tr { th scope="row" { (name(label)) } td { (format!("{error:.1} %")) } }
                        }
                    }
                }
            }
        }
    }
}
