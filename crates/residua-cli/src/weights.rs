//! Weight files on the command line: whose they are, and what is said of them beside.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use residua::infer::StoredWeights;
use residua::infer::foreign::{Description, Family, ForeignError, Misfit, Recognition};
use residua::infer::normalisation::KnownNormalisation;
use residua::run::{RunError, stored_average, stored_weights};

use crate::output::tell;
use crate::usage::{UsageError, whole};
use crate::words::words;

/// What a weight file of others leaves unsaid.
#[derive(Debug, Args)]
#[command(next_help_heading = "Weights of others")]
pub(crate) struct WeightsArguments {
    #[command(flatten)]
    file: FileArguments,
    /// What pixels are shifted and scaled by [default: what the file says, else the family's custom].
    #[arg(long, value_name = "NORMALISATION", value_parser = words::<KnownNormalisation>())]
    normalisation: Option<KnownNormalisation>,
    /// A file with the names of the classes, a line each, in the order of the outputs [default: what the file says, else
    /// CIFAR's or numbers].
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
}

/// What the network sees of a picture.
#[derive(Debug, Default, Args)]
pub(crate) struct ViewArguments {
    /// Height and width of what the network sees of a picture [default: as in training; of others' weights, the family's
    /// custom].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    size: Option<usize>,
    /// Pixels to which the shorter side of a picture is scaled before it is cropped [default: as in training, or 8/7 of
    /// --size].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    scale: Option<usize>,
}

/// Which weights a path means, and whose they are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Weights of others")]
pub(crate) struct FileArguments {
    /// Of a run that keeps an average of its weights (`train --ema`), take that.
    #[arg(long, help_heading = "Weights")]
    average: bool,
    /// Whose network the file is, if it is not Residua's [default: recognised by names and shapes].
    #[arg(long, value_name = "FAMILY", value_parser = words::<Family>())]
    family: Option<Family>,
}

impl WeightsArguments {
    /// The weights that are meant by a path, with all that is needed to classify said, and what became of them. It is told too.
    pub(crate) fn open(
        &self,
        path: &Path,
        view: &ViewArguments,
    ) -> anyhow::Result<(StoredWeights, Recognition)> {
        let Self { file, normalisation, classes } = self;
        let classes = classes.as_deref().map(class_names).transpose()?;
        let &ViewArguments { size, scale: shorter_side } = view;
        let description =
            Description { family: file.family, normalisation: *normalisation, classes, size, shorter_side };
        let weights = file.stored(path)?;
        let (weights, recognition) = recognised(weights, &description)?;
        let assumed: Vec<String> = recognition.assumed.iter().map(ToString::to_string).collect();
        let assumed = match assumed.is_empty() {
            true => String::new(),
            false => format!("; taken: {} (other: --normalisation, --classes, --size)", assumed.join(", ")),
        };
        if recognition.family.is_some() || !recognition.skipped.is_empty() {
            tell(format_args!("{}: {}{assumed}", path.display(), what(&weights, &recognition)?));
        }
        Ok((weights, recognition))
    }
}

impl FileArguments {
    /// The weights that are meant by a path, for what counts tensors alone.
    pub(crate) fn open(&self, path: &Path) -> anyhow::Result<StoredWeights> {
        let weights = self.stored(path)?;
        if weights.says_its_network() && self.family.is_none() {
            return Ok(weights);
        }
        let (weights, recognition) =
            recognised(weights, &Description { family: self.family, ..Description::default() })?;
        tell(format_args!("{}: {}", path.display(), what(&weights, &recognition)?));
        Ok(weights)
    }

    fn stored(&self, path: &Path) -> Result<StoredWeights, RunError> {
        Ok(if self.average { stored_average(path)? } else { stored_weights(path)? })
    }
}

/// What weights are, in a line: `torchvision resnet50, 1000 classes, from a PyTorch file (zip); skipped: 53 num_batches_tracked`.
pub(crate) fn what(weights: &StoredWeights, recognition: &Recognition) -> anyhow::Result<String> {
    let info = weights.info()?;
    let family = recognition.family.map_or(String::new(), |family| format!("{family} "));
    let (name, classes) = (info.network.name(), info.classes.len());
    let skipped: Vec<String> = recognition.skipped.iter().map(ToString::to_string).collect();
    let skipped = match skipped.is_empty() {
        true => String::new(),
        false => format!("; skipped: {}", skipped.join(", ")),
    };
    Ok(format!("{family}{name}, {classes} classes, from a {}{skipped}", weights.container))
}

/// Refuses weights of other networks than residual ones for a command that is for those alone.
pub(crate) fn check_residual(weights: &StoredWeights, command: &str) -> Result<(), UsageError> {
    match weights.info().map(|info| info.network.residual().map(drop)) {
        Ok(Err(error)) => Err(UsageError::new(format_args!(
            "{}: {error}, and {command} is for those; predict, eval, features, export and summary take it",
            weights.path.display()
        ))),
        // What they do not say is asked for where it is needed.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Whether two paths lead to one file.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// What was said wrongly of weights is a usage error, as far as an option says it.
fn recognised(
    weights: StoredWeights,
    description: &Description,
) -> anyhow::Result<(StoredWeights, Recognition)> {
    weights.recognised(description).map_err(|error| match error {
        ForeignError::Misfit { misfit: misfit @ Misfit::Classes { .. }, .. } => {
            UsageError::new(format_args!("--classes: {misfit}")).into()
        }
        ForeignError::Misfit { misfit: misfit @ Misfit::Own { .. }, .. } => {
            UsageError::new(format_args!("--family: {misfit}")).into()
        }
        ForeignError::Misfit { misfit: misfit @ (Misfit::View(_) | Misfit::Network(_)), .. } => {
            UsageError::new(format_args!("--size, --scale: {misfit}")).into()
        }
        error => error.into(),
    })
}

/// The names in a file, a line each. Empty lines at its end count for nothing.
fn class_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let wrong = |reason: &dyn std::fmt::Display| {
        UsageError::new(format_args!(
            "--classes {}: {reason}; give a text file with a name a line",
            path.display()
        ))
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let names: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if let Some(line) = names.iter().position(String::is_empty) {
        return Err(wrong(&format_args!("line {} is empty", line + 1)).into());
    }
    Ok(names)
}
