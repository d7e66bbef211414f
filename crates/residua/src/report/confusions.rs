//! Which mistakes a network makes of the test images, as part of a page.

use maud::{Markup, html};

use super::examination::Examination;
use super::images::data_address;

/// Classes beyond which a matrix says less than the list of its largest entries.
const MOST_CLASSES: usize = 20;

/// Which classes are taken for which.
pub(super) fn confusions(examination: &Examination) -> Markup {
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
    }
}

/// The hardest images.
pub(super) fn hardest(examination: &Examination) -> Markup {
    let name = |class: usize| &examination.classes[class];
    html! {
        section {
            h2 { "Hardest test images" }
            div.pictures {
                @for image in &examination.hardest {
                    figure {
                        img src=(data_address(image)) alt={ "a test image of class " (name(image.answer.label)) };
                        figcaption {
                            strong { (name(image.answer.label)) }
                            @if image.answer.is_right() { " right, but" } @else { " taken for " (name(image.answer.predicted)) }
                            " at " (format!("{:.0} %", 100. * image.answer.confidence))
                        }
                    }
                }
            }
        }
    }
}

fn matrix(examination: &Examination) -> Markup {
    let classes = examination.classes.len();
    let confusions = &examination.measures.confusions;
    let share = |label: usize, predicted: usize| {
        let images = confusions.images_of(label).max(1);
        confusions.count(label, predicted) as f64 / images as f64
    };
    let words = |label: usize, predicted: usize| {
        format!(
            "{} of {} images of {} taken for {} ({:.1} %)",
            confusions.count(label, predicted),
            confusions.images_of(label),
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
                                    @let count = confusions.count(label, predicted);
                                    @if count > 0 { (count) }
                                }
                            }
                            td { @if let Some(error) = examination.measures.classes[label].error { (format!("{error:.1} %")) } }
                        }
                    }
                }
            }
        }
    }
}

fn list(examination: &Examination) -> Markup {
    let confusions = &examination.measures.confusions;
    let mistakes = confusions.mistakes();
    let name = |class: usize| &examination.classes[class];
    html! {
        @if mistakes.is_empty() { p { "None." } } @else {
            div.wide {
                table {
                    thead { tr { th scope="col" { "true class" } th.words scope="col" { "taken for" } th scope="col" { "images" } } }
                    tbody {
                        @for &(label, predicted, count) in mistakes.iter().take(MOST_CLASSES) {
                            tr {
                                th scope="row" { (name(label)) }
                                td.words { (name(predicted)) }
                                td { (count) " of " (confusions.images_of(label)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
