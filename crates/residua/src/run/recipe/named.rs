//! The recipes that come with Residua.

use super::{Intervals, Recipe};
use crate::data::{Augmentation, Mirror, Source};
use crate::nn::NetworkOptions;
use crate::run::schedule::{Schedule, ScheduleKind, SmallCrops, Warmup};
use residua_infer::words;

/// The recipes that come with Residua.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedRecipe {
    /// The paper's CIFAR training (appendix on implementation), of `preresnet20` on the built-in images unless
    /// another network and CIFAR's folder are given.
    PaperCifar,
    /// A few minutes' training on the built-in images.
    Quick,
    /// CIFAR-10 in less than an hour of two cores: a wide network of 16 layers, 24 epochs, the first three fifths of them on small
    /// crops.
    FastCifar10,
    /// Some epochs on a folder of some hundred or thousand pictures, usually from trained weights.
    Finetune,
    /// The paper's ImageNet training, of `preresnet200`: 90 epochs in batches of 256, with batch statistics of 32 images as on its
    /// eight GPUs (the batches of 32 are taken one behind the other), the scale, aspect ratio and colour of images varied.
    PaperImagenet,
}

words!(NamedRecipe, "recipe", {
    PaperCifar => "paper-cifar": "the paper's training on CIFAR",
    Quick => "quick": "a few minutes on the built-in images",
    FastCifar10 => "fast-cifar10": "a wide network on CIFAR-10, 24 epochs",
    Finetune => "finetune": "20 epochs on a folder of pictures, usually with --init",
    PaperImagenet => "paper-imagenet": "the paper's training on ImageNet",
});

impl NamedRecipe {
    /// How many passes over the training set it is meant to make; none where it counts iterations.
    pub const fn epochs(self) -> Option<u32> {
        match self {
            Self::PaperCifar | Self::FastCifar10 | Self::Quick => None,
            Self::Finetune => Some(20),
            Self::PaperImagenet => Some(90),
        }
    }
}

impl Recipe {
    /// The recipe of this name. Where its length is in [`epochs`](NamedRecipe::epochs), it is written for ImageNet's 1,281,167 images, or
    /// for 1,000.
    pub fn named(name: NamedRecipe) -> Self {
        let (schedule, intervals) = match name {
            NamedRecipe::Finetune => return Self::finetune(),
            NamedRecipe::PaperImagenet => return Self::paper_imagenet(),
            NamedRecipe::FastCifar10 => return Self::fast_cifar10(),
            NamedRecipe::PaperCifar => {
                let schedule = Schedule::new(64_000, 0.1).with_decay_at([32_000, 48_000]);
                (schedule.with_warmup(Warmup::constant(400, 0.01)), Intervals::default())
            }
            NamedRecipe::Quick => {
                let intervals = Intervals { evaluate: 40, checkpoint: 40, ..Intervals::default() };
                (Schedule::new(120, 0.1).with_decay_at([80, 105]), intervals)
            }
        };
        Self { intervals, ..Self::new(NetworkOptions::named("preresnet20"), schedule) }
    }

    fn fast_cifar10() -> Self {
        const STEPS: u64 = (24u64 * 50_000).div_ceil(128);
        let schedule = Schedule::new(STEPS, 0.2).with_kind(ScheduleKind::Linear);
        let mut recipe = Self::new(
            NetworkOptions::named("wrn-16-4"),
            schedule.with_warmup(Warmup::gradual(STEPS * 15 / 100, 0.02)),
        );
        recipe.schedule.small_crops = Some(SmallCrops { iterations: STEPS * 60 / 100, size: 24 });
        recipe.data.source = Source::Cifar10(None);
        (recipe.data.mirror, recipe.data.cutout) = (Mirror::Alternate, 8);
        (recipe.optimiser.is_nesterov, recipe.optimiser.weight_decay) = (true, 5e-4);
        recipe.loss.label_smoothing = 0.1;
        // A test takes as long as seventy steps.
        (recipe.intervals.evaluate, recipe.intervals.checkpoint) = (STEPS / 3, STEPS / 12);
        recipe
    }

    fn finetune() -> Self {
        const STEPS: u64 = 20 * 1000 / 32;
        let schedule = Schedule::new(STEPS, 0.01).with_kind(ScheduleKind::Cosine);
        let warmup = Warmup::gradual(STEPS / 20, 0.001);
        let mut recipe = Self::new(NetworkOptions::named("preresnet18"), schedule.with_warmup(warmup));
        recipe.optimiser.batch = 32;
        recipe.optimiser.is_nesterov = true;
        recipe.loss.label_smoothing = 0.1;
        recipe
    }

    fn paper_imagenet() -> Self {
        const STEPS: u64 = (90u64 * 1_281_167).div_ceil(256);
        let schedule = Schedule::new(STEPS, 0.1).with_decay_at([STEPS / 3, STEPS * 2 / 3]);
        let mut recipe = Self::new(NetworkOptions::named("preresnet200"), schedule);
        (recipe.optimiser.batch, recipe.optimiser.accumulate) = (32, 8);
        recipe.data.augmentation = Some(Augmentation::ScaleAspect);
        recipe.data.varies_colour = true;
        recipe
    }
}
