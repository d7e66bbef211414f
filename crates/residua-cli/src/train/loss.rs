//! What training makes small.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use residua::run::{ClassWeights, LossKind, Recipe};

use super::set;
use crate::usage::UsageError;
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Loss")]
pub(super) struct LossArguments {
    /// What training makes small; tests measure the cross-entropy in any case [default: cross-entropy].
    #[arg(long, value_name = "LOSS", value_parser = words::<LossKind>())]
    loss: Option<LossKind>,
    /// Share out so much of the target among all classes, such as 0.1 [default: 0].
    #[arg(long, value_name = "X")]
    label_smoothing: Option<f64>,
    /// What images count by their class: `balanced`, in inverse proportion to the number of images of the class, or as a file says, a
    /// line CLASS,WEIGHT for each class [default: all alike].
    #[arg(long, value_name = "balanced|FILE")]
    class_weights: Option<WeightsChoice>,
}

impl LossArguments {
    pub(super) fn refine(&self, recipe: &mut Recipe) -> Result<(), UsageError> {
        let options = &mut recipe.loss;
        set(&mut options.kind, &self.loss);
        set(&mut options.label_smoothing, &self.label_smoothing);
        if let Some(weights) = &self.class_weights {
            options.class_weights = Some(match weights {
                WeightsChoice::Balanced => ClassWeights::Balanced,
                WeightsChoice::File(path) => ClassWeights::Given(read(path)?),
            });
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum WeightsChoice {
    Balanced,
    File(PathBuf),
}

impl FromStr for WeightsChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == ClassWeights::BALANCED { Self::Balanced } else { Self::File(text.into()) })
    }
}

/// The classes and weights in a file. A class's name may hold commas.
fn read(path: &Path) -> Result<Vec<(String, f64)>, UsageError> {
    let wrong = |reason: &dyn std::fmt::Display| {
        UsageError::new(format_args!(
            "--class-weights {}: {reason}; write balanced, or give a text file with a line CLASS,WEIGHT for each class",
            path.display()
        ))
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let weight = |line: &str| {
        let (class, weight) = line.rsplit_once(',')?;
        Some((class.trim().to_owned(), weight.trim().parse().ok()?))
    };
    lines
        .map(|(number, line)| {
            weight(line).ok_or_else(|| wrong(&format_args!("line {} is none such", number + 1)))
        })
        .collect()
}
