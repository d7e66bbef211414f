//! Where batch normalisation and ReLU stand in a unit: the orderings by name, and what each of them means.

use crate::words;

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
    /// What this ordering means. Everything else that is said of orderings follows from it.
    pub const fn arrangement(self) -> Arrangement {
        let (preactivation, exit) = match self {
            Self::Original => (Preactivation::None, Exit::NormSumRelu),
            Self::BnAfterAddition => (Preactivation::None, Exit::SumNormRelu),
            Self::ReluBeforeAddition => (Preactivation::None, Exit::NormReluSum),
            Self::ReluOnlyPreActivation => (Preactivation::Relu, Exit::NormSum),
            Self::FullPreActivation => (Preactivation::NormRelu, Exit::Sum),
        };
        Arrangement { preactivation, exit }
    }
}

/// What stands around the convolutions of a unit. Between two of them every ordering has BN and ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrangement {
    /// In front of the first convolution.
    pub preactivation: Preactivation,
    /// Behind the last.
    pub exit: Exit,
}

/// What stands in front of a unit's first convolution. Behind the last unit the head does the same before it pools; the stem
/// of a CIFAR network does what is missing of BN and ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preactivation {
    /// Nothing.
    None,
    /// ReLU.
    Relu,
    /// BN, then ReLU.
    NormRelu,
}

impl Preactivation {
    /// Whether there is a ReLU.
    pub const fn is_activated(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether there is a BN.
    pub const fn has_norm(self) -> bool {
        matches!(self, Self::NormRelu)
    }
}

/// What follows a unit's last convolution, whose output is `z`; the shortcut's signal is `s`. A variant's name says what is
/// done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `y = z + s`
    Sum,
    /// `y = norm(z) + s`
    NormSum,
    /// `y = relu(norm(z)) + s`
    NormReluSum,
    /// `y = relu(norm(z) + s)`
    NormSumRelu,
    /// `y = relu(norm(z + s))`
    SumNormRelu,
}

impl Exit {
    /// Whether there is a BN, before the addition or behind it.
    pub const fn has_norm(self) -> bool {
        !matches!(self, Self::Sum)
    }

    /// Whether BN stands between the last convolution and the addition; a projection on the shortcut has one then, too.
    /// Otherwise the shortcut's signal is added to what leaves the convolution.
    pub const fn normalises_branch(self) -> bool {
        matches!(self, Self::NormSum | Self::NormReluSum | Self::NormSumRelu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Choices;

    #[test]
    fn orderings_are_read_and_written() {
        for ordering in Ordering::ALL {
            assert_eq!(ordering.as_str().parse::<Ordering>().unwrap(), *ordering);
        }
        assert!("pre-act".parse::<Ordering>().unwrap_err().to_string().contains("did you mean 'preact'?"));
    }

    #[test]
    fn documentation_and_help_say_what_the_orderings_mean() {
        let documentation = include_str!("ordering.rs");
        for ordering in Ordering::ALL {
            let Arrangement { preactivation, exit } = ordering.arrangement();
            let before = match preactivation {
                Preactivation::None => "",
                Preactivation::Relu => "ReLU ",
                Preactivation::NormRelu => "BN ReLU ",
            };
            let (behind, after) = match exit {
                Exit::Sum => ("", ""),
                Exit::NormSum => (" BN", ""),
                Exit::NormReluSum => (" BN ReLU", ""),
                Exit::NormSumRelu => (" BN", "ReLU "),
                Exit::SumNormRelu => ("", "BN ReLU "),
            };
            let begin = format!("/// | `{ordering:?}` (");
            let end = format!(") | {before}W BN ReLU W{behind} | {after}|");
            let is_row = |line: &str| line.starts_with(&begin) && line.ends_with(&end);
            assert!(documentation.lines().any(is_row), "{ordering}: {begin}{end}");
            let after = after.trim_end();
            let in_help = format!(
                "{before}W BN ReLU W{behind}, addition{}{after}",
                if after.is_empty() { "" } else { ", " }
            );
            let choice = Ordering::CHOICES.iter().find(|choice| choice.word() == ordering.as_str()).unwrap();
            assert_eq!(choice.meaning.split(':').next(), Some(in_help.as_str()), "{ordering}");
        }
    }
}
