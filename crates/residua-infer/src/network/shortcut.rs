//! What stands on the shortcut of a unit: the shortcuts by name, and what each of them means.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::choice::{Choice, Choices, UnknownChoice};
use crate::serde_as_string;

/// What stands on the shortcut of every unit (paper Fig. 2, Table 1). `s(x)` is the identity, or option A or B
/// where dimensions change; `F(x)` is the residual branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shortcut {
    /// `s(x) + F(x)`.
    Identity,
    /// `shortcut * s(x) + residual * F(x)`.
    ConstantScaling {
        /// The factor on the shortcut.
        shortcut: f64,
        /// The factor on the branch.
        residual: f64,
    },
    /// `(1 - g(x)) * s(x) + g(x) * F(x)` with `g(x) = sigmoid(W_g x + b_g)`, as in highway networks.
    ExclusiveGating {
        /// The initial value of the learned bias `b_g`.
        bias: f64,
    },
    /// `(1 - g(x)) * s(x) + F(x)`.
    ShortcutOnlyGating {
        /// The initial value of the learned bias `b_g`.
        bias: f64,
    },
    /// A 1x1 convolution on the shortcut of every unit, whatever the dimension change.
    Conv1x1,
    /// `m * s(x) + F(x)`: in training `m` is a fresh mask of zeros and ones, in testing the constant
    /// `1 - probability`. Masked values are not rescaled.
    Dropout {
        /// The probability that an element of the shortcut is dropped.
        probability: f64,
    },
}

/// What branch and shortcut are multiplied by before they are added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// Nothing: such a unit is one operation.
    None,
    /// Two constants.
    Constant {
        /// The factor on the shortcut.
        shortcut: f64,
        /// The factor on the branch.
        residual: f64,
    },
    /// The shortcut by `1 - g(x)`, for a gate `g(x) = sigmoid(W_g x + b_g)` of a 1x1 convolution with bias.
    Gate {
        /// The initial value of `b_g`.
        bias: f64,
        /// Whether what opens one path closes the other: the branch is multiplied by `g(x)`.
        is_exclusive: bool,
    },
    /// The shortcut by a mask of zeros and ones in training, and by their mean in evaluation.
    Mask {
        /// The probability of a one.
        keep: f64,
    },
}

impl Shortcut {
    /// What it multiplies the two paths by.
    pub const fn weighting(self) -> Weighting {
        match self {
            Self::Identity | Self::Conv1x1 => Weighting::None,
            Self::ConstantScaling { shortcut, residual } => Weighting::Constant { shortcut, residual },
            Self::ExclusiveGating { bias } => Weighting::Gate { bias, is_exclusive: true },
            Self::ShortcutOnlyGating { bias } => Weighting::Gate { bias, is_exclusive: false },
            Self::Dropout { probability } => Weighting::Mask { keep: 1. - probability },
        }
    }

    /// Whether it projects in every unit, not only where dimensions change.
    pub const fn projects(self) -> bool {
        matches!(self, Self::Conv1x1)
    }
}

/// A shortcut that could not be read.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ShortcutError {
    /// The kind is unknown.
    #[error(transparent)]
    Unknown(#[from] UnknownChoice),
    /// The kind is known, its parameters are not what it takes.
    #[error("shortcut '{given}': {reason}; write {usage}")]
    Parameters {
        /// The text that was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
        /// How the kind is written.
        usage: String,
    },
}

impl Choices for Shortcut {
    const CHOICES: &'static [Choice] = &[
        Choice::new("identity", "the signal as it is"),
        Choice::with_example("scale:S,F", "scale:0.5,0.5", "S times the signal, F times the branch"),
        Choice::with_example(
            "exclusive-gate:B",
            "exclusive-gate:-6",
            "a gate weighs signal against branch; B is its initial bias",
        ),
        Choice::with_example(
            "shortcut-gate:B",
            "shortcut-gate:-6",
            "a gate weighs the signal alone; B is its initial bias",
        ),
        Choice::new("conv1x1", "a 1x1 convolution"),
        Choice::with_example("dropout:P", "dropout:0.5", "each value is dropped with probability P"),
    ];
}

impl FromStr for Shortcut {
    type Err = ShortcutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, parameters) = text.split_once(':').unwrap_or((text, ""));
        let Some(choice) = Self::CHOICES.iter().find(|choice| choice.word() == kind) else {
            return Err(UnknownChoice::new("shortcut", kind, &Self::words()).into());
        };
        let wrong =
            |reason| ShortcutError::Parameters { given: text.to_owned(), reason, usage: choice.usage() };
        let numbers = parameters
            .split(',')
            .filter(|_| text.contains(':'))
            .map(|number| number.trim().parse::<f64>().ok().filter(|number| number.is_finite()))
            .collect::<Option<Vec<f64>>>()
            .ok_or_else(|| wrong("its parameters must be finite numbers"))?;
        match (kind, numbers.as_slice()) {
            ("identity", []) => Ok(Self::Identity),
            ("conv1x1", []) => Ok(Self::Conv1x1),
            ("scale", &[shortcut, residual]) => Ok(Self::ConstantScaling { shortcut, residual }),
            ("exclusive-gate", &[bias]) => Ok(Self::ExclusiveGating { bias }),
            ("shortcut-gate", &[bias]) => Ok(Self::ShortcutOnlyGating { bias }),
            ("dropout", &[probability]) if (0.0..1.0).contains(&probability) => {
                Ok(Self::Dropout { probability })
            }
            ("dropout", [_]) => Err(wrong("the probability must be at least 0 and below 1")),
            _ => Err(wrong("it has the wrong number of parameters")),
        }
    }
}

impl fmt::Display for Shortcut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => formatter.write_str("identity"),
            Self::ConstantScaling { shortcut, residual } => write!(formatter, "scale:{shortcut},{residual}"),
            Self::ExclusiveGating { bias } => write!(formatter, "exclusive-gate:{bias}"),
            Self::ShortcutOnlyGating { bias } => write!(formatter, "shortcut-gate:{bias}"),
            Self::Conv1x1 => formatter.write_str("conv1x1"),
            Self::Dropout { probability } => write!(formatter, "dropout:{probability}"),
        }
    }
}

serde_as_string!(Shortcut);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcuts_are_read_and_written() {
        for text in
            ["identity", "scale:0.5,0.5", "exclusive-gate:-6", "shortcut-gate:0", "conv1x1", "dropout:0.5"]
        {
            assert_eq!(text.parse::<Shortcut>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_shortcuts_say_how_they_are_written() {
        for (text, part) in [
            ("scale", "write scale:S,F"),
            ("scale:0.5", "wrong number"),
            ("scale:x,1", "finite numbers"),
            ("scale:inf,1", "finite numbers"),
            ("identity:", "finite numbers"),
            ("dropout:1", "below 1"),
            ("dropout:-0.1", "at least 0"),
            ("conv1x1:3", "wrong number"),
            ("exclusive-gat:0", "did you mean 'exclusive-gate'?"),
        ] {
            let message = text.parse::<Shortcut>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
