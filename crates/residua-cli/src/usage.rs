//! Options that cannot be meant, beyond what the parser sees: answered by the options' names, with exit code 2.

use std::fmt::Display;
use std::num::NonZeroUsize;

use residua::nn::MemoryError;
use residua::run::RunError;
use thiserror::Error;

/// An error in what was asked for.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

impl UsageError {
    /// The library's error with the options of a recipe called as they are on the command line.
    pub(crate) fn new(error: impl Display) -> Self {
        let text = error.to_string();
        Self(FLAGS.iter().fold(text, |text, (option, flag)| text.replace(option, flag)))
    }
}

/// Options of a recipe, and what sets them.
const FLAGS: [(&str, &str); 30] = [
    ("network.model", "--model"),
    ("network.ordering", "--ordering"),
    ("network.shortcut", "--shortcut"),
    ("network.dimensions", "--dimensions"),
    ("network.block", "--block"),
    ("network.layout", "--layout"),
    ("network.stride_placement", "--stride-placement"),
    ("network.bn_group", "--bn-group"),
    ("network.trunk", "--trunk"),
    ("data.source", "--data"),
    ("data.normalisation", "--normalisation"),
    ("data.size", "--size"),
    ("data.augmentation", "--augment"),
    ("data.unreadable_share", "--max-unreadable"),
    ("optimiser.batch", "--batch"),
    ("optimiser.momentum", "--momentum"),
    ("optimiser.weight_decay", "--weight-decay"),
    ("optimiser.decays", "--decays"),
    ("schedule.iterations", "--iterations"),
    ("schedule.learning_rate", "--lr"),
    ("schedule.decay_at", "--decay-at"),
    ("schedule.warmup.iterations", "--warmup (iterations)"),
    ("schedule.warmup.learning_rate", "--warmup (learning rate)"),
    ("schedule.warmup.kind", "--warmup (kind)"),
    ("schedule.warmup", "--warmup"),
    ("intervals.log", "--log-every"),
    ("intervals.evaluate", "--evaluate-every"),
    ("intervals.checkpoint", "--checkpoint-every"),
    ("intervals.keep", "--keep"),
    ("intervals.norms", "--log-norms"),
];

/// A network or batch that cannot be, or training that does not fit in the memory allowed.
pub(crate) fn impossible_training(error: &MemoryError) -> UsageError {
    match error {
        MemoryError::Exceeded { .. } => UsageError(format!("--memory: {error}")),
        error => UsageError::new(error),
    }
}

/// Why a run cannot begin: too little memory is an error of whoever allowed it.
pub(crate) fn impossible_run(error: RunError) -> anyhow::Error {
    match error {
        RunError::Memory(error @ MemoryError::Exceeded { .. }) => impossible_training(&error).into(),
        error => error.into(),
    }
}

/// A number of things of which there must be one at least.
pub(crate) fn count(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "write a whole number, 1 or more")
}
