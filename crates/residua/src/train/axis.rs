//! Axes: which values they span, where their ticks are, and where on them a value lies.

/// An axis of a figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From 0 to exactly `end`.
    pub(super) fn up_to(end: f64) -> Self {
        let step = round_step(end);
        let ticks = multiples(step).take_while(|&tick| tick <= end).collect();
        Self { low: 0.0, high: end, is_logarithmic: false, ticks }
    }

    /// From 0 to the first tick that is at least `value`.
    pub(super) fn reaching(value: f64) -> Self {
        let step = round_step(value);
        let high = multiples(step).find(|&tick| tick >= value).unwrap_or(value);
        Self { high, ..Self::up_to(high) }
    }

    /// Logarithmic, spanning `low` to `high`, both above 0 and finite.
    pub(super) fn logarithmic(low: f64, high: f64) -> Self {
        let mut first = (3.0 * libm::log10(low)) as i32 - 3;
        while rounded(first + 1) <= low {
            first += 1;
        }
        let mut last = first + 1;
        while rounded(last) < high {
            last += 1;
        }
        // Over more than two powers of ten, ticks at 2 and 5 times a power would crowd the axis.
        let powers = (last - first) / 3;
        let ticks = (first..=last)
            .filter(|index| powers <= 2 || index % (3 * (1 + powers / 7)) == 0)
            .map(rounded)
            .collect();
        Self { low: rounded(first), high: rounded(last), is_logarithmic: true, ticks }
    }

    /// Where `value` lies: 0 at the axis's beginning, 1 at its end.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        if self.is_logarithmic {
            libm::log10(value / self.low) / libm::log10(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The values that are marked, with what is written beside them.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        self.ticks.iter().map(|&tick| (tick, label(tick)))
    }
}

/// The most round step that cuts 0 to `end` into at least four parts.
fn round_step(end: f64) -> f64 {
    let mut index = (3.0 * libm::log10(end / 4.0)) as i32 - 3;
    while rounded(index + 1) <= end / 4.0 {
        index += 1;
    }
    rounded(index)
}

fn multiples(step: f64) -> impl Iterator<Item = f64> {
    (0..=20).map(move |count| f64::from(count) * step)
}

/// The round numbers ..., 0.1, 0.2, 0.5, 1 (index 0), 2, 5, 10, ...
fn rounded(index: i32) -> f64 {
    let digit = [1, 2, 5][index.rem_euclid(3) as usize];
    format!("{digit}e{}", index.div_euclid(3)).parse().expect("a digit and an exponent are a number")
}

fn label(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if !(1e-4..1e9).contains(&value) => format!("{value:e}"),
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e4 => format!("{}k", value / 1e3),
        // Multiples of 0.1 and the like carry a rounding error that nobody wants to read.
        _ => format!("{}", format!("{value:.6}").parse().unwrap_or(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn an_axis_up_to_a_value_ends_there() {
        let axis = Axis::up_to(64_000.0);
        assert_eq!(labels(&axis), ["0", "10k", "20k", "30k", "40k", "50k", "60k"]);
        assert_eq!((axis.fraction(0.0), axis.fraction(32_000.0), axis.fraction(64_000.0)), (0.0, 0.5, 1.0));
        assert_eq!(labels(&Axis::up_to(120.0)), ["0", "20", "40", "60", "80", "100", "120"]);
        assert_eq!(labels(&Axis::up_to(1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(&Axis::up_to(8e6)), ["0", "2M", "4M", "6M", "8M"]);
    }

    #[test]
    fn an_axis_reaching_a_value_ends_at_a_tick() {
        for (value, last) in [(91.3, "100"), (100.0, "100"), (8.75, "10"), (0.01, "0.01"), (21.0, "25")] {
            let axis = Axis::reaching(value);
            assert_eq!(labels(&axis).last().unwrap(), last, "{value}");
            assert!(axis.fraction(value) <= 1.0 && axis.fraction(value) > 0.7, "{value}");
        }
    }

    #[test]
    fn a_logarithmic_axis_spans_its_values_with_a_readable_number_of_ticks() {
        assert_eq!(labels(&Axis::logarithmic(0.3, 2.4)), ["0.2", "0.5", "1", "2", "5"]);
        assert_eq!(labels(&Axis::logarithmic(0.0012, 2.3)), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(&Axis::logarithmic(1.0, 1.0)), ["1", "2"]);
        for (low, high) in [(1e-9, 1e9), (1e-9, 2.3), (2e-5, 700.0), (0.99, 1.01), (5e30, 6e30), (2.0, 5.0)] {
            let axis = Axis::logarithmic(low, high);
            assert!(axis.fraction(low) >= 0.0 && axis.fraction(high) <= 1.0, "{low} {high} {axis:?}");
            assert!((2..=8).contains(&axis.ticks().count()), "{low} {high} {axis:?}");
        }
        let axis = Axis::logarithmic(0.01, 1.0);
        assert!((axis.fraction(0.1) - 0.5).abs() < 1e-12);
    }
}
