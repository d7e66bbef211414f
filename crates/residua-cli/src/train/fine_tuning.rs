//! Beginning a run from weights, and training some of the network's parts less than others, or not at all.

use std::path::PathBuf;

use clap::Args;
use residua::infer::StoredWeights;
use residua::nn::{NetworkError, Part};
use residua::run::{Recipe, RunError, RunFolder};
use residua::train::{InitialWeights, LoadedClassifier, LoadedWeights, Run, Trainer};

use super::ELSEWHERE;
use crate::output::tell;
use crate::usage::impossible_run;
use crate::weights::{FileArguments, check_residual};
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Fine-tuning")]
pub(super) struct FineTuningArguments {
    /// Start from these weights instead of random ones: another run's folder (its last checkpoint), a checkpoint's folder, or
    /// a weight file: Residua's, or one of others. The network is theirs, unless --recipe or --model names it. For another
    /// number of classes than theirs the classifier is a new one.
    #[arg(long, value_name = "RUN|FILE", conflicts_with = "resume")]
    init: Option<PathBuf>,
    #[command(flatten)]
    file: FileArguments,
    /// Take a new classifier, though that of --init is for as many classes.
    #[arg(long, requires = "init")]
    new_head: bool,
    /// Parts of the network to leave as they are, such as stem,stage1; their batch normalisation keeps its statistics. Those in front
    /// of the first part that is trained take neither a backward pass nor memory.
    #[arg(long, value_name = "PART,PART,...", value_delimiter = ',', value_parser = words::<Part>())]
    freeze: Vec<Part>,
    /// The classifier's learning rate while that of the run is --lr; it rises and falls with it [default: as --lr].
    #[arg(long, value_name = "X")]
    head_lr: Option<f64>,
    /// Lower the learning rate towards the stem: each stage's is X times that of the next one, the last stage's X times the
    /// classifier's, that is --lr * X^(N+1-n) in stage n of N and --lr * X^(N+1) in the stem [default: the same everywhere].
    #[arg(long, value_name = "X")]
    layer_decay: Option<f64>,
}

impl FineTuningArguments {
    pub(super) fn refine(&self, recipe: &mut Recipe) {
        let fine_tuning = &mut recipe.fine_tuning;
        if !self.freeze.is_empty() {
            fine_tuning.frozen = self.freeze.iter().copied().collect();
        }
        fine_tuning.classifier_learning_rate = self.head_lr.or(fine_tuning.classifier_learning_rate);
        fine_tuning.layer_decay = self.layer_decay.or(fine_tuning.layer_decay);
    }

    /// The weights to begin from, if any are.
    pub(super) fn open(&self) -> anyhow::Result<Option<StoredWeights>> {
        let Some(path) = &self.init else { return Ok(None) };
        let weights = self.file.open(path)?;
        check_residual(&weights, "train")?;
        Ok(Some(weights))
    }

    /// Begins a run, from weights if there are any; without a folder, one that another process has the folder of.
    pub(super) fn begin(
        &self,
        trainer: Trainer,
        weights: Option<StoredWeights>,
        folder: Option<RunFolder>,
    ) -> anyhow::Result<Run> {
        let frozen = trainer.recipe().fine_tuning.frozen.clone();
        let start = |weights| match (folder, weights) {
            (Some(folder), weights) => trainer.start_in(folder, weights),
            (None, Some(weights)) => trainer.start_from(weights, ELSEWHERE),
            (None, None) => trainer.start(ELSEWHERE),
        };
        let (Some(path), Some(weights)) = (&self.init, weights) else {
            if !frozen.is_empty() {
                tell("warning: what is frozen stays at random weights; --init begins from trained ones");
            }
            return start(None).map_err(impossible_run);
        };
        let weights = InitialWeights::from(weights);
        let weights = if self.new_head { weights.with_new_classifier() } else { weights };
        let run = start(Some(weights)).map_err(|error| match error {
            // Weights of another network are an error of the file that they came from.
            RunError::Network(error @ (NetworkError::Weights(_) | NetworkError::Value { .. })) => {
                StoredWeights::refused(path, error).into()
            }
            error => impossible_run(error),
        })?;
        if let Some(loaded) = run.loaded_weights() {
            tell(format_args!("{}: {}", path.display(), in_words(loaded, run.classes())));
        }
        Ok(run)
    }
}

/// What became of weights, in a network for these classes.
fn in_words(weights: &LoadedWeights, classes: &[String]) -> String {
    let LoadedWeights { loaded, replaced, skipped, classifier, .. } = weights;
    let count = loaded.len();
    let names = |names: &[String]| match names {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    match classifier {
        LoadedClassifier::New { classes: before } => {
            let skipped = match (before, skipped.is_empty()) {
                (Some(before), false) => {
                    format!("; theirs, for {before} classes, is skipped{}", names(skipped))
                }
                (None, false) => format!("; theirs is skipped{}", names(skipped)),
                (_, true) => "; they have none".to_owned(),
            };
            let new = classes.len();
            format!(
                "{count} tensors loaded, the classifier for {new} classes is new{}{skipped}",
                names(replaced)
            )
        }
        LoadedClassifier::ByName { before, new } => {
            let new = match new.as_slice() {
                [] => String::new(),
                new => format!("; new are {}", few(new)),
            };
            format!(
                "all {count} tensors loaded, of the classifier those of each class by its name (theirs were {}){new}",
                few(before)
            )
        }
        LoadedClassifier::Renamed { before } => {
            let (before, now) = (few(before), few(classes));
            format!(
                "all {count} tensors loaded, the classifier too, though its classes were {before} and are {now} now; \
                 --new-head takes a new one"
            )
        }
        LoadedClassifier::Same => format!("all {count} tensors loaded"),
    }
}

/// The first few of some names.
fn few(names: &[String]) -> String {
    const FEW: usize = 3;
    let shown = names[..names.len().min(FEW)].join(", ");
    if names.len() > FEW { format!("{shown}, ...") } else { shown }
}
