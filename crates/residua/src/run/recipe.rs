//! Everything that determines a training run's numbers, as a TOML file.

mod augmentation;
mod data;
mod fine_tuning;
mod loss;
mod named;
mod optimiser;
mod option;
mod regularisation;
mod validation;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::data::DataOptions;
pub use self::fine_tuning::{FineTuning, LearningRates};
pub use self::loss::{ClassWeights, LossKind, LossOptions};
pub use self::named::NamedRecipe;
pub use self::optimiser::{DecayScope, OptimiserKind, OptimiserOptions};
pub use self::option::RecipeOption;
pub use self::regularisation::Regularisation;
pub use self::validation::{InvalidOption, OptionProblem};
use super::checkpoint::Best;
use super::schedule::Schedule;
use crate::data::View;
use crate::files::{FileError, read_file};
use crate::nn::{Layout, NetworkOptions};
use residua_infer::choice::nearest;

/// A training run: two runs of one recipe give the same weights, bit by bit, whatever the number of threads.
///
/// ```
/// use residua::nn::NetworkOptions;
/// use residua::run::{Recipe, Schedule};
///
/// let schedule = Schedule::new(500, 0.1).with_decay_at([300, 400]);
/// let mut recipe = Recipe::new(NetworkOptions::named("preresnet20"), schedule);
/// recipe.optimiser.batch = 64;
/// recipe.intervals.evaluate = 100;
/// recipe.validate()?;
/// # Ok::<(), residua::run::InvalidOption>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// What all random choices follow from: initial weights, order and augmentation of images, dropout.
    pub seed: u64,
    /// The network.
    pub network: NetworkOptions,
    /// The images.
    pub data: DataOptions,
    /// How steps are made of gradients.
    #[serde(default)]
    pub optimiser: OptimiserOptions,
    /// Length and learning rate.
    pub schedule: Schedule,
    /// What training makes small.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loss: LossOptions,
    /// What is dropped at random.
    #[serde(default, skip_serializing_if = "is_default")]
    pub regularisation: Regularisation,
    /// How training differs from part to part of the network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fine_tuning: FineTuning,
    /// How often to look at the run and to save it.
    #[serde(default)]
    pub intervals: Intervals,
}

/// How often to look at the run and to save it. None of these changes the weights; `patience` says when there are enough steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Intervals {
    /// Iterations that a training line of the metrics is the mean of.
    pub log: u64,
    /// Iterations between tests, on the validation images if there are any.
    pub evaluate: u64,
    /// Iterations between checkpoints.
    pub checkpoint: u64,
    /// How many of the last checkpoints are kept; the best is kept besides.
    pub keep: usize,
    /// Tests on the validation images without a lower error, one behind the other, after which the run ends; if left out, it does
    /// all its iterations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Iterations between measurements of the norms of weights and gradients; if left out, they are not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norms: Option<u64>,
    /// Iterations between measurements of how gradients go through the network, by an observer of the run; if left out, they are not
    /// measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<u64>,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { log: 10, evaluate: 1000, checkpoint: 1000, keep: 3, patience: None, norms: None, watch: None }
    }
}

impl Recipe {
    /// Training of this network by this schedule, on the built-in images unless others are named in `data` or given to the
    /// trainer; with seed 1, the paper's optimiser and the usual intervals.
    pub fn new(network: NetworkOptions, schedule: Schedule) -> Self {
        Self {
            seed: 1,
            network,
            data: DataOptions::default(),
            optimiser: OptimiserOptions::default(),
            schedule,
            loss: LossOptions::default(),
            regularisation: Regularisation::default(),
            fine_tuning: FineTuning::default(),
            intervals: Intervals::default(),
        }
    }

    /// Reads and checks a recipe's file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a recipe, or has an option with an impossible value.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        Self::parse(&String::from_utf8_lossy(&read_file(path)?), path)
    }

    /// The recipe in `text`, checked; `path` is where errors say that it stands.
    ///
    /// # Errors
    /// When the text is not a recipe or has an option with an impossible value.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| RecipeError::Syntax {
            path: path.to_owned(),
            suggestion: suggestion(error.message()),
            message: error.to_string().trim_end().to_owned(),
        })?;
        match recipe.validate() {
            Ok(()) => Ok(recipe),
            Err(error) => Err(RecipeError::Invalid { path: path.to_owned(), error }),
        }
    }

    /// The recipe as the text of a file, every option of its sections written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables with text keys can be written as TOML")
    }

    /// What a network sees of a picture in a folder in tests.
    ///
    /// # Errors
    /// When the network is impossible.
    pub fn view(&self) -> Result<View, InvalidOption> {
        let usual = match self.layout()? {
            Layout::Cifar => 32,
            Layout::ImageNet => 224,
        };
        Ok(View::square(self.data.size.unwrap_or(usual)))
    }

    /// Whether a run has gone on for too long without a lower validation error.
    pub(crate) fn is_out_of_patience(&self, iteration: u64, best: Option<&Best>) -> bool {
        let Intervals { evaluate, patience: Some(patience), .. } = self.intervals else { return false };
        let tests = |iteration: u64| iteration / evaluate;
        best.is_some_and(|best| tests(iteration) >= tests(best.iteration) + patience)
    }

    fn layout(&self) -> Result<Layout, InvalidOption> {
        match self.network.resolve(1) {
            Ok(config) => Ok(config.layout),
            Err(error) => {
                let problem = OptionProblem::Network(error);
                Err(InvalidOption::new(RecipeOption::Model, &self.network.model, problem))
            }
        }
    }
}

/// A recipe's file that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a recipe: not TOML, a missing or unknown option, a value of the wrong kind.
    #[error("{}: {message}{suggestion}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it is wrong and how.
        message: String,
        /// The option that was probably meant, or nothing.
        suggestion: String,
    },
    /// An option has an impossible value.
    #[error("{}: {error}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The option.
        #[source]
        error: InvalidOption,
    },
}

/// Whether an option need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The nearest of the options that serde's "unknown field `a`, expected one of `b`, `c`" lists.
fn suggestion(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let given = words.next().filter(|_| message.starts_with("unknown field"));
    given
        .and_then(|given| nearest(given, &words.collect::<Vec<_>>()))
        .map(|option| format!(" (did you mean `{option}`?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Augmentation, AutoAugment, Mirror};
    use crate::nn::{Ordering, Part};
    use crate::run::schedule::{SmallCrops, Warmup};

    fn parse(text: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(text, Path::new("run/recipe.toml"))
    }

    const SMALLEST: &str = "seed = 7\n[network]\nmodel = 'resnet20'\n[data]\nsource = 'shapes'\n\
                            [schedule]\niterations = 5\nlearning_rate = 0.1\n";

    #[test]
    fn what_is_left_out_is_the_papers() {
        let recipe = parse(SMALLEST).unwrap();
        assert_eq!((recipe.seed, recipe.network.model.as_str()), (7, "resnet20"));
        assert_eq!(recipe.optimiser, Recipe::named(NamedRecipe::PaperCifar).optimiser);
        assert_eq!((recipe.optimiser.batch, recipe.optimiser.weight_decay), (128, 1e-4));
        assert_eq!((recipe.augmentation().unwrap(), recipe.data.is_shuffled), (Augmentation::Shift, true));
        assert_eq!((recipe.schedule.decay_factor, recipe.schedule.warmup), (0.1, None));
        assert_eq!((recipe.intervals.log, recipe.intervals.keep), (10, 3));
    }

    #[test]
    fn recipes_are_written_and_read_back_alike() {
        for &name in NamedRecipe::ALL {
            let mut recipe = Recipe::named(name);
            recipe.validate().unwrap();
            assert_eq!(parse(&recipe.to_toml()).unwrap(), recipe);
            let is_cut_out = recipe.data.cutout > 0;
            assert_eq!(recipe.to_toml().contains("cutout"), is_cut_out, "what is off is not written");

            recipe.seed = u64::MAX;
            recipe.network.ordering = Some(Ordering::BnAfterAddition);
            recipe.network.bn_group = Some(16);
            recipe.data.source = "cifar10:/data/c".parse().unwrap();
            recipe.data.augmentation = Some(Augmentation::ScaleAspect);
            recipe.schedule.small_crops = None;
            recipe.data.crop_scale = Some([0.25, 1.0]);
            recipe.data.crop_ratio = Some([0.5, 2.0]);
            recipe.data.flips_vertically = true;
            recipe.data.auto_augment = AutoAugment::Trivial;
            recipe.data.random_erasing = 0.25;
            recipe.data.cutout = 16;
            recipe.optimiser.decays = DecayScope::Weights;
            recipe.schedule.learning_rate = 0.1 + 0.2;
            recipe.schedule.warmup = Some(Warmup::gradual(5, 0.));
            recipe.fine_tuning.frozen = [Part::Stem, Part::Stage(1)].into_iter().collect();
            recipe.fine_tuning.layer_decay = Some(0.75);
            recipe.regularisation.stochastic_depth = Some(0.5);
            recipe.regularisation.dropout = Some(0.3);
            recipe.regularisation.unit_dropout = Some(0.2);
            recipe.data.mirror = Mirror::Alternate;
            let text = recipe.to_toml();
            assert!(
                text.contains("[fine_tuning]\nfrozen = [\"stem\", \"stage1\"]\nlayer_decay = 0.75\n"),
                "{text}"
            );
            assert_eq!(parse(&recipe.to_toml()).unwrap(), recipe);

            recipe.data.augmentation = Some(Augmentation::Shift);
            (recipe.data.crop_scale, recipe.data.crop_ratio) = (None, None);
            recipe.schedule.small_crops = Some(SmallCrops { iterations: 40, size: 32 });
            assert_eq!(parse(&recipe.to_toml()).unwrap(), recipe);
        }
    }

    #[test]
    fn the_papers_recipe_has_the_papers_numbers() {
        let text = Recipe::named("paper-cifar".parse().unwrap()).to_toml();
        for line in [
            "batch = 128",
            "momentum = 0.9",
            "weight_decay = 0.0001",
            "decays = \"all\"",
            "iterations = 64000",
            "learning_rate = 0.1",
            "decay_at = [32000, 48000]",
            "[schedule.warmup]\niterations = 400\nlearning_rate = 0.01",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_misspelt_option_is_answered_with_file_line_and_the_right_one() {
        let text = SMALLEST.replace("learning_rate", "lerning_rate");
        let message = parse(&text).unwrap_err().to_string();
        for part in
            ["run/recipe.toml: ", "line 8", "unknown field `lerning_rate`", "did you mean `learning_rate`?"]
        {
            assert!(message.contains(part), "{part} is not in\n{message}");
        }
        let message = parse("sed = 1").unwrap_err().to_string();
        assert!(message.contains("did you mean `seed`?"), "{message}");
        let message = parse(&format!("{SMALLEST}[schedule.warmup]\niteration = 3")).unwrap_err().to_string();
        assert!(message.contains("did you mean `iterations`?"), "{message}");
        let message = parse(&format!("zzz = 1\n{SMALLEST}")).unwrap_err().to_string();
        assert!(message.contains("unknown field `zzz`") && !message.contains("did you mean"), "{message}");
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_its_place() {
        for (from, to, part) in [
            ("seed = 7\n", "", "missing field `seed`"),
            ("seed = 7", "seed = -7", "invalid value"),
            ("seed = 7", "seed = 7.5", "invalid type"),
            ("seed = 7", "seed = ", "line 1"),
            ("'shapes'", "'shape'", "did you mean"),
            ("iterations = 5", "iterations = 0", "schedule.iterations = 0: must be at least 1"),
            ("resnet20", "renset20", "network.model = renset20: unknown model"),
            ("0.1", "nan", "schedule.learning_rate = NaN"),
        ] {
            let message = parse(&SMALLEST.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(part) && message.starts_with("run/recipe.toml: "), "{to}: {message}");
        }
        assert!(Recipe::read(Path::new("no/such.toml")).unwrap_err().to_string().contains("no/such.toml"));
    }
}
