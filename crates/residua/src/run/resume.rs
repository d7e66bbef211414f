//! What of a recipe may be another when a run is resumed.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::recipe::{Recipe, RecipeOption};
use super::schedule::ScheduleKind;
use crate::data::Augmentation;

impl Recipe {
    /// Whether a run of this recipe may be resumed with `new`: the run's length (where its learning rate falls in steps) and the
    /// intervals may be others, and the data set may lie in another folder. All else would make it another run. Threads, device and
    /// memory are no part of a recipe and are free anyway.
    ///
    /// # Errors
    /// Names every option that differs and may not.
    pub fn changes_on_resume(&self, new: &Self) -> Result<(), ResumeError> {
        self.changes_after(new, u64::MAX)
    }

    /// As [`changes_on_resume`](Self::changes_on_resume), of a run that has done so many iterations: drops of its learning rate that
    /// lie ahead may change, too.
    ///
    /// # Errors
    /// As there.
    pub fn changes_after(&self, new: &Self, iteration: u64) -> Result<(), ResumeError> {
        let past = |recipe: &Self| {
            let drops = recipe.schedule.decay_at.iter().copied();
            drops.filter(|&at| at < iteration).collect::<Vec<_>>()
        };
        let has_same_past = self.schedule.kind.is_step() && past(self) == past(new);
        let (old, new) = (options(self), options(new));
        let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let value = |options: &BTreeMap<String, String>, name| {
            options.get(name).cloned().unwrap_or_else(|| "not set".to_owned())
        };
        let changes: Vec<_> = names
            .into_iter()
            .filter(|name| old.get(*name) != new.get(*name))
            .map(|name| Change { option: option(name), old: value(&old, name), new: value(&new, name) })
            .filter(|change| !self.may_change_on_resume(change.option))
            .filter(|change| !(has_same_past && change.option == RecipeOption::DecayAt))
            .collect();
        if changes.is_empty() { Ok(()) } else { Err(ResumeError { kind: self.schedule.kind, changes }) }
    }
}

impl Recipe {
    /// The rates of a run that does not fall in steps follow from its length, also those that it has had.
    fn may_change_on_resume(&self, option: RecipeOption) -> bool {
        match option {
            RecipeOption::Iterations => self.schedule.kind.is_step(),
            option => option.may_change_on_resume(),
        }
    }

    /// Every option by its name, as `section.name`, and its value as text.
    pub fn options(&self) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let sections = serde_json::to_value(self).expect("tables with text keys can be written as JSON");
        flatten("", &sections, &mut options);
        options.into_iter().map(|(name, value)| (name, value.trim_matches('"').to_owned())).collect()
    }
}

/// A run that cannot go on as it is asked to, because it would be another run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeError {
    /// How the run's learning rate falls.
    pub kind: ScheduleKind,
    /// The options that may not change.
    pub changes: Vec<Change>,
}

/// An option that has another value than before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The option.
    pub option: RecipeOption,
    /// Its value in the run's recipe.
    pub old: String,
    /// Its value now.
    pub new: String,
}

impl ResumeError {
    /// The message, where options are called what `name` calls them.
    pub fn with_names(&self, name: fn(RecipeOption) -> &'static str) -> String {
        let change = |Change { option, old, new }: &Change| format!("{} was {old}, now {new}", name(*option));
        let changes = self.changes.iter().map(change).collect::<Vec<_>>().join(", ");
        let length = match self.kind {
            ScheduleKind::Step => format!("{}, ", name(RecipeOption::Iterations)),
            ScheduleKind::Cosine | ScheduleKind::Linear | ScheduleKind::OneCycle => String::new(),
        };
        format!(
            "the run cannot be resumed with other options than it began with: {changes}; only {length}the intervals and the \
             folder of {} may change; leave the others as they were or begin a new run",
            name(RecipeOption::Source)
        )
    }
}

impl fmt::Display for ResumeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with_names(RecipeOption::as_str))
    }
}

impl std::error::Error for ResumeError {}

fn option(name: &str) -> RecipeOption {
    name.parse().expect("every key of a recipe is an option")
}

/// Every option by its name, where two ways of writing one thing are made the same, and the data set's folder is left out.
fn options(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut recipe = recipe.clone();
    if let Ok(network) = recipe.network.written_out() {
        recipe.network = network;
    }
    if let (Ok(augmentation), Ok(view)) = (recipe.augmentation_options(), recipe.view()) {
        recipe.data.augmentation = Some(augmentation.crop);
        let has_shape = augmentation.crop == Augmentation::ScaleAspect;
        recipe.data.crop_scale = has_shape.then_some(augmentation.crop_scale);
        recipe.data.crop_ratio = has_shape.then_some(augmentation.crop_ratio);
        recipe.data.size = recipe.data.source.is_folder().then_some(view.height);
    }
    let mut options = BTreeMap::new();
    let sections = serde_json::to_value(&recipe).expect("tables with text keys can be written as JSON");
    flatten("", &sections, &mut options);
    let data_set = recipe.data.source.to_string();
    let name = data_set.split(':').next().unwrap_or_default();
    options.insert("data.source".to_owned(), name.to_owned());
    options
}

fn flatten(name: &str, value: &Value, options: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, options);
            }
        }
        value => drop(options.insert(name.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{AutoAugment, Mirror};
    use crate::nn::{Block, NetworkOptions, Part};
    use crate::run::recipe::{DecayScope, NamedRecipe};
    use crate::run::schedule::{Schedule, SmallCrops, Warmup};

    fn resume(change: impl FnOnce(&mut Recipe)) -> Result<(), ResumeError> {
        let mut old = Recipe::named(NamedRecipe::PaperCifar);
        old.data.source = "cifar10:old/folder".parse().unwrap();
        let mut new = old.clone();
        change(&mut new);
        old.changes_on_resume(&new)
    }

    #[test]
    fn what_does_not_change_the_steps_may_change() {
        resume(|_| {}).unwrap();
        resume(|recipe| recipe.schedule.iterations = 100_000).unwrap();
        resume(|recipe| {
            recipe.intervals.log = 1;
            recipe.intervals.evaluate = 7;
            recipe.intervals.checkpoint = 9;
            recipe.intervals.keep = 1;
        })
        .unwrap();
        resume(|recipe| recipe.data.source = "cifar10:new/folder".parse().unwrap()).unwrap();
        resume(|recipe| recipe.network.block = Some(Block::Basic)).unwrap();
    }

    #[test]
    fn what_changes_the_steps_is_refused_with_both_values() {
        type Edit = fn(&mut Recipe);
        let edits: [(Edit, &str); 29] = [
            (|recipe| recipe.seed = u64::MAX, "seed was 1, now 18446744073709551615"),
            (
                |recipe| recipe.network = NetworkOptions::named("preresnet32"),
                "network.model was \"preresnet20\", now ",
            ),
            (|recipe| recipe.network.bn_group = Some(64), "network.bn_group was not set, now 64"),
            (
                |recipe| recipe.data.source = "cifar100:d".parse().unwrap(),
                "data.source was cifar10, now cifar100",
            ),
            (
                |recipe| recipe.data.normalisation = "pixel-mean".parse().unwrap(),
                "data.normalisation was \"channel\"",
            ),
            (
                |recipe| recipe.data.augmentation = Some(Augmentation::None),
                "data.augmentation was \"shift\", now \"none\"",
            ),
            (|recipe| recipe.data.mirror = Mirror::Alternate, "data.mirror was not set, now \"alternate\""),
            (
                |recipe| recipe.schedule.small_crops = Some(SmallCrops { iterations: 9, size: 24 }),
                "schedule.small_crops.iterations was not set, now 9, schedule.small_crops.size was not set, now 24",
            ),
            (|recipe| recipe.data.flips_vertically = true, "data.flips_vertically was not set, now true"),
            (
                |recipe| recipe.data.auto_augment = AutoAugment::Trivial,
                "data.auto_augment was not set, now \"trivial\"",
            ),
            (|recipe| recipe.data.random_erasing = 0.5, "data.random_erasing was not set, now 0.5"),
            (|recipe| recipe.data.cutout = 8, "data.cutout was not set, now 8"),
            (
                |recipe| {
                    recipe.data.augmentation = Some(Augmentation::ScaleAspect);
                    recipe.data.crop_scale = Some([0.25, 1.0]);
                },
                "data.crop_scale was not set, now [0.25,1.0]",
            ),
            (|recipe| recipe.data.is_shuffled = false, "data.is_shuffled"),
            (|recipe| recipe.optimiser.batch = 64, "optimiser.batch was 128, now 64"),
            (|recipe| recipe.optimiser.momentum = 0.8, "optimiser.momentum was 0.9, now 0.8"),
            (|recipe| recipe.optimiser.is_nesterov = true, "optimiser.is_nesterov"),
            (|recipe| recipe.optimiser.weight_decay = 0.0, "optimiser.weight_decay was 0.0001, now 0.0"),
            (
                |recipe| recipe.optimiser.decays = DecayScope::Weights,
                "optimiser.decays was \"all\", now \"weights\"",
            ),
            (|recipe| recipe.schedule.learning_rate = 0.2, "schedule.learning_rate"),
            (|recipe| recipe.schedule.decay_at = vec![1], "schedule.decay_at was [32000,48000], now [1]"),
            (|recipe| recipe.schedule.decay_factor = 0.5, "schedule.decay_factor"),
            (
                |recipe| recipe.schedule.kind = ScheduleKind::Linear,
                "schedule.kind was not set, now \"linear\"",
            ),
            (
                |recipe| recipe.schedule.min_learning_rate = Some(0.01),
                "schedule.min_learning_rate was not set, now 0.01",
            ),
            (|recipe| recipe.schedule.warmup = None, "schedule.warmup.iterations was 400, now not set"),
            (
                |recipe| recipe.schedule.warmup = Some(Warmup::constant(400, 0.02)),
                "schedule.warmup.learning_rate was 0.01, now 0.02",
            ),
            (
                |recipe| recipe.schedule.warmup = Some(Warmup::gradual(400, 0.01)),
                "schedule.warmup.kind was \"constant\", now \"gradual\"",
            ),
            (
                |recipe| recipe.fine_tuning.frozen = [Part::Stem].into_iter().collect(),
                "fine_tuning.frozen was not set, now [\"stem\"]",
            ),
            (
                |recipe| recipe.fine_tuning.layer_decay = Some(0.5),
                "fine_tuning.layer_decay was not set, now 0.5",
            ),
        ];
        for (edit, part) in edits {
            let message = resume(edit).unwrap_err().to_string();
            assert!(message.contains(part), "{part}: {message}");
            assert!(message.contains("only schedule.iterations, the intervals and the folder"), "{message}");
        }
    }

    #[test]
    fn a_run_that_falls_without_steps_keeps_its_length() {
        let mut old = Recipe::named(NamedRecipe::PaperCifar);
        old.schedule = Schedule::new(100, 0.1).with_kind(ScheduleKind::Cosine);
        old.changes_on_resume(&old).unwrap();
        let mut new = old.clone();
        new.schedule.iterations = 200;
        let message = old.changes_on_resume(&new).unwrap_err().to_string();
        for part in ["schedule.iterations was 100, now 200", "only the intervals and the folder"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn drops_that_lie_ahead_may_change() {
        let mut old = Recipe::named(NamedRecipe::PaperCifar);
        old.schedule = Schedule::new(100, 0.1).with_decay_at([40, 80]);
        let changed = |decay_at: &[u64], iteration| {
            let mut new = old.clone();
            new.schedule.decay_at = decay_at.to_vec();
            old.changes_after(&new, iteration)
        };
        for (decay_at, iteration, is_allowed) in [
            (&[40, 90][..], 50, true),
            (&[40][..], 50, true),
            (&[40, 50, 60][..], 50, true),
            (&[40, 49][..], 50, false),
            (&[30, 80][..], 50, false),
            (&[60, 80][..], 40, true),
            (&[60, 80][..], 41, false),
            (&[40, 90][..], u64::MAX, false),
        ] {
            assert_eq!(changed(decay_at, iteration).is_ok(), is_allowed, "{decay_at:?} after {iteration}");
        }
    }

    #[test]
    fn all_differences_are_named_at_once() {
        let error = resume(|recipe| {
            recipe.seed = 2;
            recipe.schedule.iterations = 5;
            recipe.optimiser.batch = 64;
        })
        .unwrap_err();
        let options: Vec<_> = error.changes.iter().map(|change| change.option.as_str()).collect();
        assert_eq!(options, ["optimiser.batch", "seed"]);
    }
}
