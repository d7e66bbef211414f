//! Lengths of a part of a run, in iterations, epochs or parts of the whole.

use std::str::FromStr;

/// So much of a run: `400` iterations, `5epochs` (or `5epoch`), `10%` of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Length {
    Iterations(u64),
    Epochs(f64),
    Percent(f64),
}

impl Length {
    pub(super) fn is_in_epochs(self) -> bool {
        matches!(self, Self::Epochs(_))
    }

    /// In iterations, rounded, where the run has so many and an epoch so many, which need not be whole.
    pub(super) fn in_iterations(self, run: u64, epoch: f64) -> u64 {
        match self {
            Self::Iterations(iterations) => iterations,
            Self::Epochs(epochs) => (epochs * epoch).round() as u64,
            Self::Percent(percent) => (run as f64 * percent / 100.).round() as u64,
        }
    }
}

impl FromStr for Length {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write a number of iterations, such as 400, epochs, such as 5epochs, or a part of the run, such as 5%";
        let text = text.trim();
        let number = |text: &str| {
            let number =
                text.trim_end().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.);
            number.ok_or(WRONG)
        };
        if let Some(epochs) = text.strip_suffix("epochs").or_else(|| text.strip_suffix("epoch")) {
            return number(epochs).map(Self::Epochs);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return number(percent).map(Self::Percent);
        }
        text.parse().map(Self::Iterations).map_err(|_| WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_iterations_epochs_or_parts_of_the_run() {
        let in_iterations = |text: &str| text.parse().map(|length: Length| length.in_iterations(1000, 62.5));
        for (text, expected) in [
            ("400", 400),
            ("0", 0),
            ("4epochs", 250),
            ("1epoch", 63),
            ("0.5 epochs", 31),
            ("10%", 100),
            ("2.55%", 26),
        ] {
            assert_eq!(in_iterations(text), Ok(expected), "{text}");
        }
        for text in ["", "-3", "4.5", "epochs", "%", "nanepochs", "-1epochs", "inf%", "5 apples"] {
            assert!(in_iterations(text).is_err(), "{text}");
        }
    }
}
