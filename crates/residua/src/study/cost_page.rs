//! What networks cost, as a page.

use maud::{PreEscaped, html};

use super::cost::{Cost, OwnError, Speed};
use super::cost_picture::cost_picture;
use super::paper::Published;
use crate::report::still_document;

/// A page of a table and the scatter plots. It needs no other file; `machine` is what the speeds were measured on.
pub fn cost_page(costs: &[Cost], machine: &str) -> String {
    let body = html! {
        header {
            h1 { "Is depth worth its time?" }
            p { "Parameters and multiply-adds are counted; speeds and memory measured on " (machine) ", each network in a process of its own." }
        }
        section.picture { (PreEscaped(cost_picture(costs))) }
        section {
            div.wide {
                table {
                    thead { tr { @for heading in HEADINGS { th scope="col" { (heading) } } } }
                    tbody {
                        @for cost in costs {
                            tr {
                                @for (column, text) in cost.cells().into_iter().enumerate() {
                                    @if column == 0 { th scope="row" { (text) } } @else { td { (text) } }
                                }
                            }
                        }
                    }
                }
            }
            p.note {
                "Published errors: CIFAR-10, median of five runs; wide networks (wrn), one number, trained without dropout on whitened images; \
                 ImageNet, top-1 on single crops of 320 after training on crops of 224, \
                 Inception-v3 on crops of 299. Costs are of the images in the second column; testing on crops of 320 takes twice as much as on \
                 224. Inception-v3 runs on Burn's own operations, the others on the fused ones where there are such: its speed is no \
                 judgement on the architecture. Errors of one's own are medians of finished runs of the iterations given, and no more \
                 comparable with the published ones than their iterations."
            }
        }
    };
    still_document("Cost", &body)
}

/// The columns of the table.
pub const HEADINGS: [&str; 9] = [
    "network",
    "image",
    "parameters",
    "mult-adds",
    "published error, %",
    "ours, %",
    "training, images/s",
    "training memory",
    "inference, images/s",
];

impl Cost {
    /// The row below [`HEADINGS`].
    pub fn cells(&self) -> [String; 9] {
        let dash = || "-".to_owned();
        let speed =
            |speed: Option<Speed>| speed.map_or_else(dash, |speed| three_digits(speed.images_per_second));
        let memory = self.training.and_then(|training| training.peak_memory_bytes);
        let ours = |OwnError { error, runs, iterations, data }: &OwnError| {
            format!("{error:.2} ({runs} x {iterations} iterations, {data})")
        };
        let published = |published: Published| match self.published_cifar100 {
            Some(on_cifar100) => format!("{} (CIFAR-100: {})", published.text(), on_cifar100.text()),
            None => published.text(),
        };
        [
            self.name.clone(),
            format!("{0}x{0}", self.side),
            format!("{:.2} M", self.parameters as f64 / 1e6),
            format!("{} G", three_digits(self.multiply_adds as f64 / 1e9)),
            self.published.map_or_else(dash, published),
            self.ours.as_ref().map_or_else(dash, ours),
            speed(self.training),
            memory.map_or_else(dash, |bytes| format!("{:.2} GB", bytes as f64 / 1e9)),
            speed(self.inference),
        ]
    }
}

fn three_digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0..100. => format!("{value:.1}"),
        1.0..10. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
