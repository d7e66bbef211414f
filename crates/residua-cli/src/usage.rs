//! Options that cannot be meant, beyond what the parser sees: answered by the options' flags, with exit code 2.

use std::fmt::Display;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use residua::nn::{MemoryError, NetworkError};
use residua::run::{InvalidOption, RecipeOption, ResumeError, RunError};
use thiserror::Error;

/// An error in what was asked for.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl From<InvalidOption> for UsageError {
    fn from(error: InvalidOption) -> Self {
        Self(error.with_names(flag))
    }
}

impl From<ResumeError> for UsageError {
    fn from(error: ResumeError) -> Self {
        Self(error.with_names(flag))
    }
}

/// What an option of a recipe is called on the command line: its flag, or where no flag takes its value, what it is called in a
/// recipe's file.
pub(crate) fn flag(option: RecipeOption) -> &'static str {
    match option {
        RecipeOption::Seed => "--seed",
        RecipeOption::Model => "--model",
        RecipeOption::Ordering => "--ordering",
        RecipeOption::Shortcut => "--shortcut",
        RecipeOption::Dimensions => "--dimensions",
        RecipeOption::Block => "--block",
        RecipeOption::Width => "--width",
        RecipeOption::Layout => "--layout",
        RecipeOption::StridePlacement => "--stride-placement",
        RecipeOption::StemPooling => "--stem",
        RecipeOption::BnGroup => "--bn-group",
        RecipeOption::Trunk => "--trunk",
        RecipeOption::Precision => "--precision",
        RecipeOption::Source => "--data",
        RecipeOption::Validation => "--validation",
        RecipeOption::Normalisation => "--normalisation",
        RecipeOption::Size => "--size",
        RecipeOption::Augmentation => "--augment",
        RecipeOption::Mirror => "--mirror",
        RecipeOption::CropScale => "--crop-scale",
        RecipeOption::CropRatio => "--crop-ratio",
        RecipeOption::AutoAugment => "--auto-augment",
        RecipeOption::RandomErasing => "--random-erasing",
        RecipeOption::Cutout => "--cutout",
        RecipeOption::Sampling => "--sampling",
        RecipeOption::Mixup => "--mixup",
        RecipeOption::Cutmix => "--cutmix",
        RecipeOption::UnreadableShare => "--max-unreadable",
        RecipeOption::OptimiserKind => "--optimiser",
        RecipeOption::Batch => "--batch",
        RecipeOption::Accumulate => "--accumulate",
        RecipeOption::Momentum => "--momentum",
        RecipeOption::Beta1 => "--betas (first)",
        RecipeOption::Beta2 => "--betas (second)",
        RecipeOption::WeightDecay => "--weight-decay",
        RecipeOption::Decays => "--decays",
        RecipeOption::ClipNorm => "--clip-norm",
        RecipeOption::AverageDecay => "--ema",
        RecipeOption::Iterations => "--iterations",
        RecipeOption::LearningRate => "--lr",
        RecipeOption::ScheduleKind => "--schedule",
        RecipeOption::DecayAt => "--decay-at",
        RecipeOption::DecayFactor => "--decay-factor",
        RecipeOption::MinLearningRate => "--min-lr",
        RecipeOption::Warmup => "--warmup",
        RecipeOption::WarmupIterations => "--warmup (iterations)",
        RecipeOption::WarmupLearningRate => "--warmup (learning rate)",
        RecipeOption::WarmupKind => "--warmup (kind)",
        RecipeOption::SmallCropsIterations => "--small-crops (iterations)",
        RecipeOption::SmallCropsSize => "--small-crops (size)",
        RecipeOption::LossKind => "--loss",
        RecipeOption::LabelSmoothing => "--label-smoothing",
        RecipeOption::ClassWeights => "--class-weights",
        RecipeOption::StochasticDepth => "--stochastic-depth",
        RecipeOption::Dropout => "--dropout",
        RecipeOption::UnitDropout => "--unit-dropout",
        RecipeOption::Frozen => "--freeze",
        RecipeOption::ClassifierLearningRate => "--head-lr",
        RecipeOption::LayerDecay => "--layer-decay",
        RecipeOption::LogInterval => "--log-every",
        RecipeOption::EvaluateInterval => "--evaluate-every",
        RecipeOption::CheckpointInterval => "--checkpoint-every",
        RecipeOption::Keep => "--keep",
        RecipeOption::Patience => "--patience",
        RecipeOption::NormsInterval => "--log-norms",
        RecipeOption::WatchInterval => "--watch",
        // Their flags only switch them on or off.
        RecipeOption::FlipsVertically
        | RecipeOption::VariesColour
        | RecipeOption::IsShuffled
        | RecipeOption::IsNesterov => option.as_str(),
    }
}

/// A network or batch that cannot be, or training that does not fit in the memory allowed.
pub(crate) fn impossible_training(error: &MemoryError) -> UsageError {
    match error {
        MemoryError::Exceeded { .. } => UsageError(format!("--memory: {error}")),
        MemoryError::Network(error) => impossible_images(error),
        error => UsageError::new(error),
    }
}

/// Images that a network does not take, or in batches that it does not take.
pub(crate) fn impossible_images(error: &NetworkError) -> UsageError {
    let flag = match error {
        NetworkError::InputSize { .. } | NetworkError::TooSmall { .. } => "--size: ",
        NetworkError::BatchGroup { .. } | NetworkError::SingleValue { .. } => "--batch: ",
        NetworkError::NotResidual { .. } => {
            return UsageError(format!(
                "--batch: {error}, and the memory of training is known of those alone"
            ));
        }
        NetworkError::NoSuchPart { .. } | NetworkError::AllFrozen => "--freeze: ",
        _ => "",
    };
    UsageError(format!("{flag}{error}"))
}

/// Why a run cannot begin: too little memory is an error of whoever allowed it, and so is a precision that there is not.
pub(crate) fn impossible_run(error: RunError) -> anyhow::Error {
    match error {
        RunError::Memory(error @ MemoryError::Exceeded { .. }) => impossible_training(&error).into(),
        error @ (RunError::Precision(_) | RunError::PrecisionElsewhere) => {
            UsageError(format!("--precision: {error}")).into()
        }
        error => error.into(),
    }
}

/// A number with the word for one of these things, or for several.
pub(crate) fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A number of things of which there must be one at least.
pub(crate) fn count<T: TryFrom<NonZeroU64>>(text: &str) -> Result<T, &'static str> {
    let number: NonZeroU64 = text.parse().map_err(|_| "write a whole number, 1 or more")?;
    // More of anything would only overflow what is counted with it.
    let is_countable = number.get() <= u64::from(u32::MAX);
    T::try_from(number).ok().filter(|_| is_countable).ok_or("write a smaller number")
}

/// A number of threads. Thousands, more than any machine has cores, would only wait for each other.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, &'static str> {
    let threads: NonZeroUsize = count(text)?;
    if threads.get() <= 1024 { Ok(threads) } else { Err("write a number up to 1024") }
}

/// A number that may be 0, or is looked at later.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| match text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "write a smaller number",
        false => "write a whole number that is not negative",
    })
}

/// A part of all.
pub(crate) fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("write a number from 0 to 1, such as 0.01")
}
