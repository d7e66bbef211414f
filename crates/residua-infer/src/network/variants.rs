//! The choices that the paper compares, each named on the command line and in files by one word.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::choice::{Choice, Choices, UnknownChoice};
use crate::{serde_as_string, words};

/// Where batch normalisation (BN) and ReLU stand in a residual unit (paper Fig. 4, Table 2).
///
/// `W` is a convolution without bias; a basic unit is shown, a bottleneck has one more `W BN ReLU`.
///
/// | | residual branch | after the addition |
/// |---|---|---|
/// | `Original` (a) | W BN ReLU W BN | ReLU |
/// | `BnAfterAddition` (b) | W BN ReLU W | BN ReLU |
/// | `ReluBeforeAddition` (c) | W BN ReLU W BN ReLU | |
/// | `ReluOnlyPreActivation` (d) | ReLU W BN ReLU W BN | |
/// | `FullPreActivation` (e) | BN ReLU W BN ReLU W | |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// (a), the unit of *Deep Residual Learning*.
    Original,
    /// (b), BN after addition.
    BnAfterAddition,
    /// (c), ReLU before addition.
    ReluBeforeAddition,
    /// (d), ReLU-only pre-activation.
    ReluOnlyPreActivation,
    /// (e), full pre-activation: the unit that the paper proposes.
    FullPreActivation,
}

words!(Ordering, "ordering", {
    Original => "original": "W BN ReLU W BN, addition, ReLU",
    BnAfterAddition => "bn-after-add": "W BN ReLU W, addition, BN ReLU",
    ReluBeforeAddition => "relu-before-add": "W BN ReLU W BN ReLU, addition",
    ReluOnlyPreActivation => "relu-preact": "ReLU W BN ReLU W BN, addition",
    FullPreActivation => "preact": "BN ReLU W BN ReLU W, addition: full pre-activation",
});

impl Ordering {
    /// Whether the activation stands in front of the convolutions, (d) and (e).
    pub const fn is_preactivated(self) -> bool {
        matches!(self, Self::ReluOnlyPreActivation | Self::FullPreActivation)
    }

    /// Whether nothing follows the addition, so that the signal passes unchanged from unit to unit.
    pub const fn has_identity_after_addition(self) -> bool {
        !matches!(self, Self::Original | Self::BnAfterAddition)
    }

    /// Whether the branch's last convolution is directly followed by BN; a projection then is, too.
    pub const fn normalises_branch_output(self) -> bool {
        matches!(self, Self::Original | Self::ReluBeforeAddition | Self::ReluOnlyPreActivation)
    }
}

/// The convolutions of a residual branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// One 3x3 convolution (the single-layer units of the paper's Table 3).
    Single,
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1; the two inner feature maps have a quarter of the unit's channels.
    Bottleneck,
}

words!(Block, "block", {
    Single => "single": "one 3x3 convolution",
    Basic => "basic": "two 3x3 convolutions",
    Bottleneck => "bottleneck": "convolutions of 1x1, 3x3 and 1x1",
});

impl Block {
    /// Convolutions in the branch.
    pub const fn convolutions(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Basic => 2,
            Self::Bottleneck => 3,
        }
    }
}

/// What the shortcut does where a unit changes resolution or channels (options A and B of *Deep Residual
/// Learning*; its option C, projections everywhere, is [`Shortcut::Conv1x1`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DimensionChange {
    /// Option A: every stride-th pixel, zero channels appended.
    A,
    /// Option B: a 1x1 projection.
    B,
}

words!(DimensionChange, "dimension change", {
    A => "a": "the identity, with channels of zeros",
    B => "b": "a 1x1 projection",
});

/// Which convolution of a bottleneck unit that halves the resolution has stride 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StridePlacement {
    /// The first 1x1 convolution, as in the papers.
    First,
    /// The 3x3 convolution, as in torchvision.
    Middle,
}

words!(StridePlacement, "stride placement", {
    First => "first": "the first 1x1, as in the papers",
    Middle => "middle": "the 3x3, as in torchvision",
});

/// The frame of stem and stages around the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 3x3 stem, three stages (paper section 3): inputs whose sides are multiples of 4.
    Cifar,
    /// 7x7/2 stem, 3x3/2 max pooling, four stages: inputs whose sides are multiples of 32.
    ImageNet,
}

words!(Layout, "layout", {
    Cifar => "cifar": "a 3x3 convolution, three stages",
    ImageNet => "imagenet": "a 7x7 convolution, pooling, four stages",
});

/// What training stores the feature maps between units in, and their gradients. Arithmetic is in f32, as are the maps inside
/// a unit, and all of evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Trunk {
    /// 24 significant bits.
    #[default]
    F32,
    /// bfloat16: 8 significant bits in half the memory, rounded after every addition.
    Bf16,
}

words!(Trunk, "trunk", {
    F32 => "f32": "24 significant bits",
    Bf16 => "bf16": "8 significant bits: less memory and time, rounded after every addition; with identity and conv1x1 shortcuts",
});

impl Trunk {
    /// Bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

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

impl Shortcut {
    /// Whether it adds its signal to the branch as it is, neither scaled nor gated nor dropped.
    pub const fn adds_unweighted(self) -> bool {
        matches!(self, Self::Identity | Self::Conv1x1)
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

    #[test]
    fn orderings_are_read_and_written() {
        for ordering in Ordering::ALL {
            assert_eq!(ordering.as_str().parse::<Ordering>().unwrap(), *ordering);
        }
        assert!("pre-act".parse::<Ordering>().unwrap_err().to_string().contains("did you mean 'preact'?"));
    }
}
