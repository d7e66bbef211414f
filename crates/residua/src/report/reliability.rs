//! How often a network is right, by how sure it is: a reliability diagram as part of a page.

use maud::{Markup, html};

use super::network_table::thousands;
use crate::evaluate::{Calibration, CalibrationBin};

/// The diagram, with the images of each bin below it.
pub(super) fn reliability(calibration: &Calibration) -> Markup {
    let Calibration { expected_error, confidence, bins } = calibration;
    let images: u64 = bins.iter().map(|bin| bin.images).sum();
    let right = bins.iter().filter_map(|bin| Some(bin.accuracy? * bin.images as f64)).sum::<f64>();
    let accuracy = right / images.max(1) as f64;
    let description = format!(
        "{:.1} % of {} answers are right; the mean confidence is {:.1} %. The expected calibration error is {:.3}.",
        100. * accuracy,
        thousands(images),
        100. * confidence,
        expected_error
    );
    html! {
        section {
            h2 { "How sure, and how often right" }
            p { (description) }
            div.reliability { (diagram(bins, images)) }
            p.note {
                "Answers by their confidence, the probability of the class that an image is taken for. The line on each bar is the share that is right. \
                 A network that is as sure as it is right has it on the dashed line; orange is what it is off by. Below: how many answers there are."
            }
        }
    }
}

const LEFT: f64 = 48.;
const WIDTH: f64 = 264.;
const TOP: f64 = 8.;
const HEIGHT: f64 = 220.;
/// Where the bars of images stand, and how high they are.
const FLOOR: f64 = 288.;
const BARS: f64 = 46.;
/// Of the whole picture.
const SIZE: [f64; 2] = [332., 324.];

fn diagram(bins: &[CalibrationBin], images: u64) -> Markup {
    let x = |share: f64| LEFT + WIDTH * share;
    let y = |share: f64| TOP + HEIGHT * (1. - share);
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1).max(1);
    let ticks = [0., 0.25, 0.5, 0.75, 1.];
    html! {
        svg viewBox=(format!("0 0 {} {}", SIZE[0], SIZE[1])) role="img" aria-label="Share of right answers by confidence" {
            @for tick in ticks {
                line.grid x1=(LEFT) x2=(LEFT + WIDTH) y1=(number(y(tick))) y2=(number(y(tick))) {}
                text x=(LEFT - 6.) y=(number(y(tick) + 4.)) text-anchor="end" { (format!("{:.0} %", 100. * tick)) }
                text x=(number(x(tick))) y=(FLOOR + 15.) text-anchor="middle" { (format!("{:.0}", 100. * tick)) }
            }
            @for bin in bins {
                @if let (Some(accuracy), Some(confidence)) = (bin.accuracy, bin.confidence) {
                    @let (from, width) = (x(bin.above) + 1., x(bin.to) - x(bin.above) - 2.);
                    @let (low, high) = (accuracy.min(confidence), accuracy.max(confidence));
                    g {
                        title { (words(bin)) }
                        rect.right x=(number(from)) width=(number(width)) y=(number(y(low))) height=(number(HEIGHT * low)) {}
                        rect.gap x=(number(from)) width=(number(width)) y=(number(y(high))) height=(number(HEIGHT * (high - low))) {}
                        rect.accuracy x=(number(from)) width=(number(width)) y=(number(y(accuracy) - 1.)) height="2" {}
                        @let bar = (BARS * bin.images as f64 / most as f64).max(1.);
                        rect.count x=(number(from)) width=(number(width)) y=(number(FLOOR - bar)) height=(number(bar)) {}
                    }
                }
            }
            line.ideal x1=(LEFT) y1=(y(0.)) x2=(LEFT + WIDTH) y2=(y(1.)) {}
            line.grid x1=(LEFT) x2=(LEFT + WIDTH) y1=(FLOOR) y2=(FLOOR) {}
            text x=(LEFT - 6.) y=(FLOOR - BARS + 8.) text-anchor="end" { (format!("{:.0} %", 100. * most as f64 / images.max(1) as f64)) }
            text x=(LEFT + WIDTH / 2.) y=(SIZE[1] - 4.) text-anchor="middle" { "confidence, %" }
        }
    }
}

fn words(bin: &CalibrationBin) -> String {
    let percent = |share: f64| format!("{:.1} %", 100. * share);
    format!(
        "{} to {} sure: {} images, {} right at a mean confidence of {}",
        percent(bin.above),
        percent(bin.to),
        thousands(bin.images),
        percent(bin.accuracy.unwrap_or(0.)),
        percent(bin.confidence.unwrap_or(0.))
    )
}

/// A coordinate, to a hundredth of a pixel.
fn number(value: f64) -> f64 {
    (value * 100.).round() / 100.
}
