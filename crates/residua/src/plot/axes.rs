//! The axes of a run's figure: how far they reach, where their ticks are, and what of a curve they show.

use std::ops::Range;

/// A point of a curve: iteration and value.
pub(super) type Point = (f64, f64);

/// How far the axes reach. Iterations and error begin at 0, the loss is on a logarithmic axis.
pub(super) struct Axes {
    pub(super) iterations: f64,
    pub(super) error: f64,
    pub(super) loss: Range<f64>,
}

impl Axes {
    /// Room for all losses (above 0) and nine tenths of the errors, and above them for the legend: `legend` is its share of
    /// the height.
    pub(super) fn spanning(losses: &[Point], errors: &[Point], legend: f64) -> Self {
        let iterations = losses.iter().chain(errors).map(|point| point.0);
        let mut errors: Vec<_> = errors.iter().map(|point| point.1).collect();
        errors.sort_by(f64::total_cmp);
        let most = errors.get((errors.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(80.0);
        let least = losses.iter().map(|point| point.1).fold(1.0, f64::min).max(1e-6);
        let greatest = losses.iter().map(|point| point.1).fold(1.0, f64::max).min(1e4);
        Self {
            iterations: iterations.fold(10.0, f64::max),
            error: most.clamp(1.0, 100.0) / (1.0 - legend),
            loss: 0.8 * least..1.25 * greatest * libm::pow(greatest / least, legend / (1.0 - legend)),
        }
    }

    /// 1, 2 and 5 times the powers of ten; over more than two powers only these, for all would crowd the axis.
    pub(super) fn loss_ticks(&self) -> Vec<f64> {
        let digits: &[u32] = if self.loss.end > 100.0 * self.loss.start { &[1] } else { &[1, 2, 5] };
        let ticks = (-6..=6).flat_map(|power| digits.iter().map(move |digit| format!("{digit}e{power}")));
        let ticks = ticks.map(|tick| tick.parse().expect("a digit and an exponent are a number"));
        ticks.filter(|tick| self.loss.contains(tick)).collect()
    }

    /// The parts of a curve of errors that the axis reaches.
    pub(super) fn visible_errors(&self, errors: &[Point]) -> Vec<Vec<Point>> {
        let is_above = |point: &Point| point.1 > self.error;
        let crossings = errors
            .iter()
            .zip(errors.iter().skip(1))
            .filter(|(before, after)| is_above(before) != is_above(after))
            .map(|((x0, y0), (x1, y1))| (x0 + (x1 - x0) * (self.error - y0) / (y1 - y0), self.error));
        let mut points: Vec<_> = errors.iter().copied().chain(crossings).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points.split(is_above).map(<[_]>::to_vec).collect()
    }
}

/// What is written beside a tick.
pub(super) fn label(tick: f64) -> String {
    match tick {
        _ if tick >= 1e6 => format!("{}M", tick / 1e6),
        _ if tick >= 1e4 => format!("{}k", tick / 1e3),
        _ if tick < 1e-3 && tick > 0.0 => format!("{tick:e}"),
        // Sums of 0.1 and the like carry a rounding error that nobody wants to read.
        _ => ((tick * 1e6).round() / 1e6).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_the_loss_are_round_and_few() {
        for (least, greatest, expected) in [
            (0.3, 2.4, "0.5 1 2 5"),
            (0.0012, 2.3, "0.001 0.01 0.1 1 10"),
            (2.3, 2.3, "1 2"),
            (1e-9, 1e30, "1e-6 1e-5 1e-4 0.001 0.01 0.1 1 10 100 1000 10k 100k 1M"),
        ] {
            let axes = Axes::spanning(&[(1.0, least), (2.0, greatest)], &[], 0.2);
            let labels: Vec<_> = axes.loss_ticks().into_iter().map(label).collect();
            assert_eq!(labels.join(" "), expected);
        }
        let labels = [0.0, 0.1 + 0.2, 2000.0, 12_500.0, 1e6].map(label);
        assert_eq!(labels, ["0", "0.3", "2000", "12.5k", "1M"]);
    }

    #[test]
    fn a_few_bad_tests_at_the_start_do_not_flatten_the_rest() {
        let errors: Vec<_> = (0..20).map(|k| (f64::from(k), if k < 2 { 90.0 } else { 8.0 })).collect();
        assert_eq!(Axes::spanning(&[], &errors, 0.2).error, 10.0);
        assert_eq!(Axes::spanning(&[], &errors[..2], 0.2).error, 112.5);
        assert_eq!(Axes::spanning(&[], &errors, 0.5).error, 16.0);
    }

    #[test]
    fn curves_are_cut_off_where_they_leave_the_axis() {
        let axes = Axes { iterations: 10.0, error: 9.0, loss: 0.1..1.0 };
        let errors = [(0.0, 8.0), (2.0, 10.0), (3.0, 10.0), (4.0, 8.0), (5.0, 9.0)];
        let visible = [vec![(0.0, 8.0), (1.0, 9.0)], vec![], vec![(3.5, 9.0), (4.0, 8.0), (5.0, 9.0)]];
        assert_eq!(axes.visible_errors(&errors), visible);
    }
}
