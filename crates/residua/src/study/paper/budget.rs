//! How much of the paper's protocol a reproduction carries out.

use std::path::Path;

use super::row::{DataSet, Trial};
use crate::data::Source;
use crate::nn::{Block, NetworkError, NetworkOptions};
use crate::report::{ReportError, RunSummary};
use crate::run::{Intervals, NamedRecipe, Recipe, RunError, Schedule, Warmup};
use residua_infer::words;

/// How long and how deep networks are trained.
///
/// | | CIFAR networks | iterations at batch 128 | ImageNet networks | runs of a row |
/// |---|---|---|---|---|
/// | `full` | the paper's | 64,000 | the paper's, 90 epochs | 5 |
/// | `deep` | the paper's | 3,000 | the paper's, 15,000 iterations | 2 |
/// | `short` | 110 -> 56, 1001 -> 290 layers | 3,000 | 152 -> 50, 200 -> 101 layers, 15,000 iterations | 2 |
/// | `smoke` | 110 -> 8, 164 -> 11, 1001 -> 20 layers | 20 | 18 layers, 2 iterations of 8 | 1 |
///
/// The learning rate drops where it does in the paper in proportion: at a half and three quarters (ImageNet: a third and two
/// thirds). The 400 iterations of warm-up are not shortened in `short` and `deep`, for the first steps of a deep network take as
/// many of them in a short run, but the learning rate rises gradually there: the paper's sudden step throws an original network
/// back to chance, from where it takes hundreds of iterations; and without a warm-up it is luck when one of 56 layers begins to
/// learn, so that two seeds end 8 points apart. Figure 1 in `short` is the first 300 iterations of the paper's own runs, at 1001 layers.
/// Smaller mini-batches take as many epochs, so more iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Minutes; shows that everything runs, and nothing else.
    Smoke,
    /// Hours for a table on two cores.
    Short,
    /// As short, but at the paper's depths: about a day for Table 1 on two cores, days where there are 1001 layers.
    Deep,
    /// The paper's protocol to the letter.
    Full,
}

words!(Budget, "budget", {
    Smoke => "smoke": "tiny networks, minutes for everything",
    Short => "short": "56 layers for 110, 290 for 1001, 3,000 iterations, hours for a table; Figure 1 is the first 300 iterations of 1001 layers",
    Deep => "deep": "3,000 iterations at the paper's depths",
    Full => "full": "the paper's protocol to the letter",
});

/// Where the data sets are.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    cifar10: Source,
    cifar100: Source,
    imagenet: Option<Source>,
}

/// A run that is part of a reproduction.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// What is trained.
    pub recipe: Recipe,
    /// The folder's name of the run.
    pub name: String,
}

/// Iterations at the beginning of the paper's runs that a short budget keeps where the beginning is the point.
const BEGINNING: u64 = 300;
/// Training images of ImageNet's 1000 classes over a mini-batch of 256.
const IMAGENET_EPOCH: u64 = 5005;

impl PlannedRun {
    /// What this run has come to in `folder`; none if it has not begun.
    ///
    /// # Errors
    /// When the run is damaged, or is another.
    pub fn read_run(&self, folder: &Path) -> Result<Option<RunSummary>, ReportError> {
        match RunSummary::read(folder) {
            Ok(run) => self.check(&run.recipe, folder).map(|()| Some(run)),
            // Also one that was killed before its first checkpoint.
            Err(ReportError::NoRun { .. } | ReportError::Run(RunError::NoRun { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The data may lie in another folder, and several processes may have normalised their shares of whole batches.
    fn check(&self, recipe: &Recipe, folder: &Path) -> Result<(), ReportError> {
        let foreign = |reason| ReportError::Foreign { folder: folder.to_owned(), reason };
        let (found, planned) = (recipe.schedule.iterations, self.recipe.schedule.iterations);
        if found != planned {
            return Err(foreign(format!("holds a run of {found} iterations where one of {planned} belongs")));
        }
        let mut planned = self.recipe.clone();
        planned.network.bn_group = planned.network.bn_group.or(recipe.network.bn_group);
        match recipe.changes_on_resume(&planned) {
            Ok(()) => Ok(()),
            Err(error) => {
                let changes: Vec<_> = error
                    .changes
                    .iter()
                    .map(|change| format!("{} is {}, not {}", change.option, change.old, change.new))
                    .collect();
                Err(foreign(format!("holds another run than belongs there: {}", changes.join(", "))))
            }
        }
    }
}

impl Sources {
    /// The data sets where they are downloaded to, unless `given` has others: CIFAR's in another folder, the built-in images in the place of
    /// both, a folder of pictures as ImageNet.
    pub fn from_list(given: Vec<Source>) -> Self {
        let mut sources =
            Self { cifar10: Source::Cifar10(None), cifar100: Source::Cifar100(None), imagenet: None };
        for source in given {
            match source {
                Source::Shapes => (sources.cifar10, sources.cifar100) = (Source::Shapes, Source::Shapes),
                Source::Cifar10(_) => sources.cifar10 = source,
                Source::Cifar100(_) => sources.cifar100 = source,
                Source::Folder(_) => sources.imagenet = Some(source),
                // Nobody's published numbers are of them.
                Source::Own(_) => {}
            }
        }
        sources
    }

    /// Where a data set is; ImageNet may be nowhere.
    pub fn of(&self, data: DataSet) -> Option<&Source> {
        match data {
            DataSet::Cifar10 => Some(&self.cifar10),
            DataSet::Cifar100 => Some(&self.cifar100),
            DataSet::ImageNet => self.imagenet.as_ref(),
        }
    }
}

impl Budget {
    /// Runs of a row, if nothing else is said.
    pub fn runs(self) -> usize {
        match self {
            Self::Smoke => 1,
            Self::Short | Self::Deep => 2,
            Self::Full => 5,
        }
    }

    /// What it comes to, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Smoke => {
                "tiny networks trained for some steps: shows that everything runs; the numbers say nothing about the paper"
            }
            Self::Short => {
                "scaled down: 3,000 iterations instead of 64,000, 56 layers instead of 110, 290 instead of 1001, and a gradual warm-up; not the paper's protocol"
            }
            Self::Deep => {
                "scaled down: the paper's depths, but 3,000 iterations instead of 64,000, and a gradual warm-up; not the paper's protocol"
            }
            Self::Full => "the paper's protocol: its depths, 64,000 iterations",
        }
    }

    /// Layers of the network that stands for one of the paper's.
    fn depth(self, trial: &Trial) -> usize {
        match (self, trial.data, trial.depth) {
            (Self::Full | Self::Deep, _, depth) => depth,
            (Self::Short, _, depth) if trial.is_about_the_beginning => depth,
            (Self::Short, DataSet::ImageNet, 200) => 101,
            (Self::Short, DataSet::ImageNet, _) => 50,
            (_, DataSet::ImageNet, _) => 18,
            (Self::Short, _, 110) => 56,
            (Self::Short, _, 1001) => 290,
            (Self::Short, _, depth) => depth,
            (_, _, 110) => 8,
            (_, _, 164) => 11,
            _ => 20,
        }
    }

    /// The run of a trial with a seed.
    ///
    /// # Errors
    /// When the trial's network is impossible.
    pub fn plan(self, trial: &Trial, sources: &Sources, seed: u64) -> Result<PlannedRun, NetworkError> {
        let mut network = trial.network(self.depth(trial));
        network.block = self.block(trial);
        let is_beginning = trial.is_about_the_beginning && self == Self::Short;
        let mut recipe = Recipe::named(NamedRecipe::PaperCifar);
        recipe.seed = seed;
        recipe.schedule = self.schedule(trial);
        recipe.optimiser.batch = trial.batch;
        recipe.data.augmentation = trial.augmentation;
        // The paper's groups: two GPUs with 64 images each, ImageNet's eight with 32.
        let group = if trial.data == DataSet::ImageNet { 32 } else { 64 };
        network.bn_group = (trial.batch > group).then_some(group);
        let missing = || Source::Folder("imagenet".into());
        recipe.data.source = sources.of(trial.data).cloned().unwrap_or_else(missing);
        if (self, trial.data) == (Self::Smoke, DataSet::ImageNet) {
            (recipe.optimiser.batch, network.bn_group) = (8, None);
        }
        let mut name = folder_name(&network)?;
        recipe.network = network.written_out()?;
        let iterations = recipe.schedule.iterations;
        let tests = if is_beginning { 1 } else { 10 };
        recipe.intervals = match self {
            Self::Full => Intervals::default(),
            Self::Short | Self::Deep => Intervals {
                evaluate: iterations / tests,
                checkpoint: iterations / 30,
                ..Intervals::default()
            },
            Self::Smoke => Intervals {
                log: 5,
                evaluate: (iterations / 2).max(1),
                checkpoint: iterations,
                ..Intervals::default()
            },
        };
        recipe.intervals.keep = 1;
        let data = recipe.data.source.short_name();
        if data != "cifar10" {
            name = format!("{name}-{data}");
        }
        if let Some(augmentation) = trial.augmentation {
            name = format!("{name}-{augmentation}");
        }
        if trial.data != DataSet::ImageNet && trial.batch != 128 {
            name = format!("{name}-batch-{}", trial.batch);
        }
        if is_beginning {
            name = format!("{name}-first-{BEGINNING}");
        }
        Ok(PlannedRun { recipe, name: format!("{name}-seed{seed}") })
    }

    /// A small bottleneck network may have the depth of a basic one.
    fn block(self, trial: &Trial) -> Option<Block> {
        (trial.data != DataSet::ImageNet).then_some(trial.block)
    }

    fn schedule(self, trial: &Trial) -> Schedule {
        let paper = Recipe::named(NamedRecipe::PaperCifar).schedule;
        // As many epochs with another mini-batch.
        let times = 128. / trial.batch as f64;
        let of = |iterations: u64| (iterations as f64 * times).round() as u64;
        let steps = |iterations: u64, warmup: Option<Warmup>| Schedule {
            iterations,
            decay_at: vec![iterations / 2, iterations * 3 / 4],
            warmup,
            ..paper.clone()
        };
        let thirds = |iterations: u64| Schedule {
            iterations,
            decay_at: vec![(iterations / 3).max(1), (iterations * 2 / 3).max(2)],
            warmup: None,
            ..paper.clone()
        };
        match (self, trial.data) {
            (Self::Full, DataSet::ImageNet) => thirds(90 * IMAGENET_EPOCH),
            (Self::Short | Self::Deep, DataSet::ImageNet) => thirds(15_000),
            (Self::Smoke, DataSet::ImageNet) => thirds(2),
            (Self::Short, _) if trial.is_about_the_beginning => {
                Schedule { iterations: BEGINNING, ..steps(of(64_000), paper.warmup) }
            }
            (Self::Full, _) => steps(of(64_000), paper.warmup),
            (Self::Short | Self::Deep, _) => steps(of(3_000), Some(Warmup::gradual(400, 0.01))),
            (Self::Smoke, _) => steps(of(20), Some(Warmup::constant(5, 0.01))),
        }
    }
}

/// The network in the letters of a folder's name: what differs from its model's usual form is said.
fn folder_name(network: &NetworkOptions) -> Result<String, NetworkError> {
    let usual = NetworkOptions::named(&network.model).resolve(1)?;
    let config = network.resolve(1)?;
    let mut parts = vec![network.model.clone()];
    if config.block != usual.block {
        parts.push(config.block.to_string());
    }
    if config.ordering != usual.ordering {
        parts.push(config.ordering.to_string());
    }
    if config.shortcut != usual.shortcut {
        parts.push(config.shortcut.to_string());
    }
    Ok(parts.join("-").replace([':', ','], "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Ordering, Shortcut};

    fn plan(budget: Budget, trial: &Trial) -> PlannedRun {
        budget.plan(trial, &Sources::from_list(vec!["cifar10:data".parse().unwrap()]), 3).unwrap()
    }

    #[test]
    fn full_is_the_papers_recipe() {
        let PlannedRun { recipe, name } = plan(Budget::Full, &Trial::original(110, Block::Basic));
        assert_eq!(name, "resnet110-seed3");
        let mut paper = Recipe::named(NamedRecipe::PaperCifar);
        paper.seed = 3;
        paper.network = NetworkOptions::named("resnet110").written_out().unwrap();
        paper.network.bn_group = Some(64);
        paper.data.source = "cifar10:data".parse().unwrap();
        paper.intervals.keep = 1;
        assert_eq!(recipe, paper);
    }

    #[test]
    fn short_scales_depth_and_schedule() {
        let gated = Trial {
            shortcut: Some(Shortcut::ExclusiveGating { bias: -6. }),
            ..Trial::original(110, Block::Basic)
        };
        let PlannedRun { recipe, name } = plan(Budget::Short, &gated);
        assert_eq!(name, "resnet56-exclusive-gate--6-seed3");
        assert_eq!((recipe.schedule.iterations, recipe.schedule.decay_at), (3000, vec![1500, 2250]));
        assert_eq!(recipe.schedule.warmup, Some(Warmup::gradual(400, 0.01)));

        let deepest = Trial { batch: 64, ..Trial::proposed(1001, Block::Bottleneck) };
        let PlannedRun { recipe, name } = plan(Budget::Short, &deepest);
        assert_eq!(name, "preresnet290-bottleneck-batch-64-seed3");
        assert_eq!((recipe.schedule.iterations, recipe.network.bn_group), (6000, None));
        assert_eq!(recipe.schedule.warmup, Some(Warmup::gradual(400, 0.01)));
        let first = Trial { is_about_the_beginning: true, ..Trial::proposed(1001, Block::Bottleneck) };
        let PlannedRun { recipe, name } = plan(Budget::Short, &first);
        assert_eq!(name, "preresnet1001-first-300-seed3");
        assert_eq!(recipe.schedule.warmup, Some(Warmup::constant(400, 0.01)));
        assert_eq!((recipe.schedule.iterations, recipe.schedule.decay_at), (300, vec![32_000, 48_000]));

        let PlannedRun { recipe, name } = plan(Budget::Deep, &gated);
        assert_eq!(name, "resnet110-exclusive-gate--6-seed3");
        assert_eq!((recipe.schedule.iterations, recipe.schedule.decay_at), (3000, vec![1500, 2250]));
        assert_eq!(recipe.schedule.warmup, Some(Warmup::gradual(400, 0.01)));
    }

    #[test]
    fn every_run_of_a_budget_has_a_name_of_its_own() {
        let other =
            Trial { ordering: Some(Ordering::BnAfterAddition), ..Trial::original(164, Block::Bottleneck) };
        let hundred = Trial { data: DataSet::Cifar100, ..Trial::proposed(164, Block::Bottleneck) };
        assert_eq!(plan(Budget::Smoke, &other).name, "resnet11-bn-after-add-seed3");
        assert_eq!(plan(Budget::Short, &hundred).name, "preresnet164-cifar100-seed3");
        assert_eq!(plan(Budget::Short, &Trial::original(110, Block::Single)).name, "resnet56-single-seed3");
    }
}
