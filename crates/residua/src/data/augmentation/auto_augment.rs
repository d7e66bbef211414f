//! Policies that choose how images are changed.

use residua_infer::words;

/// What chooses an operation for each training image, after Müller and Hutter (2021).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoAugment {
    /// Nothing: no operation.
    #[default]
    None,
    /// TrivialAugment Wide: one of fourteen operations of a random strength, all equally likely (torchvision's `TrivialAugmentWide`).
    Trivial,
}

words!(AutoAugment, "policy", {
    None => "none": "no operation",
    Trivial => "trivial": "TrivialAugment Wide: one of fourteen operations of a random strength",
});
