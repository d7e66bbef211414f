//! The options of a recipe by name: what errors and changes are about.

use residua_infer::words;

/// An option of a [`Recipe`](super::Recipe), called by its key in a recipe's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecipeOption {
    /// What all random choices follow from.
    Seed,
    /// The network's name.
    Model,
    /// Placement of BN and ReLU.
    Ordering,
    /// What stands on the shortcuts.
    Shortcut,
    /// What the shortcuts do where dimensions change.
    Dimensions,
    /// Convolutions of a unit.
    Block,
    /// What the channels of stages are multiplied by.
    Width,
    /// Stem and stages.
    Layout,
    /// Where a bottleneck unit has its stride.
    StridePlacement,
    /// Where an ImageNet network's stem has its max pooling.
    StemPooling,
    /// Images over which batch statistics are taken.
    BnGroup,
    /// What the feature maps between units are stored in.
    Trunk,
    /// What training multiplies in.
    Precision,
    /// The data set.
    Source,
    /// The images to choose by.
    Validation,
    /// How pixels become inputs.
    Normalisation,
    /// Height and width of what a network sees of pictures in a folder.
    Size,
    /// How training images are cropped and mirrored.
    Augmentation,
    /// How an epoch's training images are mirrored.
    Mirror,
    /// Areas of random crops.
    CropScale,
    /// Aspect ratios of random crops.
    CropRatio,
    /// Whether training images are turned upside down.
    FlipsVertically,
    /// What chooses an operation for each training image.
    AutoAugment,
    /// Whether colours of training images are varied.
    VariesColour,
    /// How probably a part of a training image is erased.
    RandomErasing,
    /// Side of the square that is cut out of training images.
    Cutout,
    /// How much images are mixed as a whole.
    Mixup,
    /// How much they are mixed by boxes.
    Cutmix,
    /// Which images an epoch has.
    Sampling,
    /// Whether every epoch has an order of its own.
    IsShuffled,
    /// The share of a folder's pictures that may be unreadable.
    UnreadableShare,
    /// Which optimiser.
    OptimiserKind,
    /// Images of a mini-batch.
    Batch,
    /// Mini-batches whose gradients are added for one step.
    Accumulate,
    /// How much of the last step goes into the next.
    Momentum,
    /// Whether the gradient is taken where the momentum leads.
    IsNesterov,
    /// What is left of the mean of gradients at a step.
    Beta1,
    /// What is left of the mean of their squares.
    Beta2,
    /// Times each weight, what is added to its gradient.
    WeightDecay,
    /// Which parameters decay.
    Decays,
    /// The largest norm of all gradients together.
    ClipNorm,
    /// The decay of the average of weights.
    AverageDecay,
    /// Iterations of the whole run.
    Iterations,
    /// Learning rate after the warm-up.
    LearningRate,
    /// How the learning rate falls.
    ScheduleKind,
    /// Finished iterations after which the learning rate drops.
    DecayAt,
    /// What a drop multiplies the learning rate by.
    DecayFactor,
    /// The learning rate that the run ends with.
    MinLearningRate,
    /// The warm-up as a whole.
    Warmup,
    /// How many iterations the warm-up has.
    WarmupIterations,
    /// The warm-up's learning rate.
    WarmupLearningRate,
    /// How the learning rate goes on from there.
    WarmupKind,
    /// How many iterations begin the run on small crops.
    SmallCropsIterations,
    /// Height and width of small crops.
    SmallCropsSize,
    /// Which loss training makes small.
    LossKind,
    /// The part of the target that is shared out among all classes.
    LabelSmoothing,
    /// What images count by their class.
    ClassWeights,
    /// The probability that the last unit's branch is dropped.
    StochasticDepth,
    /// The probability that a feature is dropped in front of the classifier.
    Dropout,
    /// The probability that a value between the convolutions of a unit is dropped.
    UnitDropout,
    /// The parts of the network that are left as they are.
    Frozen,
    /// The classifier's learning rate.
    ClassifierLearningRate,
    /// What the learning rate of each stage is, as a part of the next one's.
    LayerDecay,
    /// Iterations that a training line of the metrics is the mean of.
    LogInterval,
    /// Iterations between tests.
    EvaluateInterval,
    /// Iterations between checkpoints.
    CheckpointInterval,
    /// How many of the last checkpoints are kept.
    Keep,
    /// Tests without a lower error after which a run ends.
    Patience,
    /// Iterations between looks at how gradients go.
    WatchInterval,
    /// Iterations between measurements of norms.
    NormsInterval,
}

words!(RecipeOption, "option", {
    Seed => "seed",
    Model => "network.model",
    Ordering => "network.ordering",
    Shortcut => "network.shortcut",
    Dimensions => "network.dimensions",
    Block => "network.block",
    Width => "network.width",
    Layout => "network.layout",
    StridePlacement => "network.stride_placement",
    StemPooling => "network.stem_pooling",
    BnGroup => "network.bn_group",
    Trunk => "network.trunk",
    Precision => "network.precision",
    Source => "data.source",
    Validation => "data.validation",
    Normalisation => "data.normalisation",
    Size => "data.size",
    Augmentation => "data.augmentation",
    Mirror => "data.mirror",
    CropScale => "data.crop_scale",
    CropRatio => "data.crop_ratio",
    FlipsVertically => "data.flips_vertically",
    AutoAugment => "data.auto_augment",
    VariesColour => "data.varies_colour",
    RandomErasing => "data.random_erasing",
    Cutout => "data.cutout",
    Mixup => "data.mixup",
    Cutmix => "data.cutmix",
    Sampling => "data.sampling",
    IsShuffled => "data.is_shuffled",
    UnreadableShare => "data.unreadable_share",
    OptimiserKind => "optimiser.kind",
    Batch => "optimiser.batch",
    Accumulate => "optimiser.accumulate",
    Momentum => "optimiser.momentum",
    IsNesterov => "optimiser.is_nesterov",
    Beta1 => "optimiser.beta1",
    Beta2 => "optimiser.beta2",
    WeightDecay => "optimiser.weight_decay",
    Decays => "optimiser.decays",
    ClipNorm => "optimiser.clip_norm",
    AverageDecay => "optimiser.average_decay",
    Iterations => "schedule.iterations",
    LearningRate => "schedule.learning_rate",
    ScheduleKind => "schedule.kind",
    DecayAt => "schedule.decay_at",
    DecayFactor => "schedule.decay_factor",
    MinLearningRate => "schedule.min_learning_rate",
    Warmup => "schedule.warmup",
    WarmupIterations => "schedule.warmup.iterations",
    WarmupLearningRate => "schedule.warmup.learning_rate",
    WarmupKind => "schedule.warmup.kind",
    SmallCropsIterations => "schedule.small_crops.iterations",
    SmallCropsSize => "schedule.small_crops.size",
    LossKind => "loss.kind",
    LabelSmoothing => "loss.label_smoothing",
    ClassWeights => "loss.class_weights",
    StochasticDepth => "regularisation.stochastic_depth",
    Dropout => "regularisation.dropout",
    UnitDropout => "regularisation.unit_dropout",
    Frozen => "fine_tuning.frozen",
    ClassifierLearningRate => "fine_tuning.classifier_learning_rate",
    LayerDecay => "fine_tuning.layer_decay",
    LogInterval => "intervals.log",
    EvaluateInterval => "intervals.evaluate",
    CheckpointInterval => "intervals.checkpoint",
    Keep => "intervals.keep",
    Patience => "intervals.patience",
    WatchInterval => "intervals.watch",
    NormsInterval => "intervals.norms",
});

impl RecipeOption {
    /// Whether a run may be resumed with another value: it changes none of the steps that were made. Of iterations this is so where
    /// the learning rate falls in steps.
    pub const fn may_change_on_resume(self) -> bool {
        match self {
            Self::Iterations
            | Self::UnreadableShare
            | Self::LogInterval
            | Self::EvaluateInterval
            | Self::CheckpointInterval
            | Self::Keep
            | Self::Patience
            | Self::WatchInterval
            | Self::NormsInterval => true,
            Self::Seed
            | Self::Model
            | Self::Ordering
            | Self::Shortcut
            | Self::Dimensions
            | Self::Block
            | Self::Width
            | Self::Layout
            | Self::StridePlacement
            | Self::StemPooling
            | Self::BnGroup
            | Self::Trunk
            | Self::Precision
            | Self::Source
            | Self::Validation
            | Self::Normalisation
            | Self::Size
            | Self::Augmentation
            | Self::Mirror
            | Self::CropScale
            | Self::CropRatio
            | Self::FlipsVertically
            | Self::AutoAugment
            | Self::VariesColour
            | Self::RandomErasing
            | Self::Cutout
            | Self::Mixup
            | Self::Cutmix
            | Self::Sampling
            | Self::IsShuffled
            | Self::OptimiserKind
            | Self::Batch
            | Self::Accumulate
            | Self::Momentum
            | Self::IsNesterov
            | Self::Beta1
            | Self::Beta2
            | Self::WeightDecay
            | Self::Decays
            | Self::ClipNorm
            | Self::AverageDecay
            | Self::LearningRate
            | Self::ScheduleKind
            | Self::DecayAt
            | Self::DecayFactor
            | Self::MinLearningRate
            | Self::Warmup
            | Self::WarmupIterations
            | Self::WarmupLearningRate
            | Self::WarmupKind
            | Self::SmallCropsIterations
            | Self::SmallCropsSize
            | Self::LossKind
            | Self::LabelSmoothing
            | Self::ClassWeights
            | Self::StochasticDepth
            | Self::Dropout
            | Self::UnitDropout
            | Self::Frozen
            | Self::ClassifierLearningRate
            | Self::LayerDecay => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::data::{Augmentation, AutoAugment, Sampling, Validation};
    use crate::nn::{
        Block, DimensionChange, Layout, Ordering, Part, Precision, Shortcut, StemPooling, StridePlacement,
        Trunk,
    };
    use crate::run::{ClassWeights, NamedRecipe, OptimiserKind, Recipe, ScheduleKind, Warmup};

    #[test]
    fn every_key_of_a_recipe_is_an_option_and_every_option_a_key() {
        let mut recipe = Recipe::named(NamedRecipe::PaperCifar);
        recipe.network.ordering = Some(Ordering::Original);
        recipe.network.shortcut = Some(Shortcut::Identity);
        recipe.network.dimensions = Some(DimensionChange::A);
        recipe.network.block = Some(Block::Basic);
        recipe.network.width = Some(2);
        recipe.network.layout = Some(Layout::Cifar);
        recipe.network.stride_placement = Some(StridePlacement::First);
        recipe.network.stem_pooling = Some(StemPooling::Last);
        recipe.network.bn_group = Some(64);
        recipe.network.trunk = Some(Trunk::F32);
        recipe.network.precision = Some(Precision::F32);
        recipe.data.size = Some(32);
        recipe.data.augmentation = Some(Augmentation::ScaleAspect);
        recipe.data.crop_scale = Some([0.25, 1.0]);
        recipe.data.crop_ratio = Some([0.5, 2.0]);
        recipe.data.flips_vertically = true;
        recipe.data.auto_augment = AutoAugment::Trivial;
        recipe.data.random_erasing = 0.25;
        recipe.data.cutout = 8;
        recipe.data.sampling = Sampling::Balanced;
        recipe.data.mixup = Some(1.);
        recipe.data.cutmix = Some(1.);
        recipe.optimiser.kind = OptimiserKind::AdamW;
        recipe.optimiser.beta1 = 0.8;
        recipe.optimiser.beta2 = 0.99;
        recipe.optimiser.accumulate = 2;
        recipe.optimiser.clip_norm = Some(1.);
        recipe.optimiser.average_decay = Some(0.999);
        recipe.schedule.kind = ScheduleKind::Cosine;
        recipe.schedule.min_learning_rate = Some(0.);
        recipe.schedule.warmup = Some(Warmup::constant(1, 0.1));
        recipe.loss.label_smoothing = 0.1;
        recipe.loss.class_weights = Some(ClassWeights::Balanced);
        recipe.regularisation.stochastic_depth = Some(0.5);
        recipe.regularisation.dropout = Some(0.3);
        recipe.regularisation.unit_dropout = Some(0.3);
        recipe.data.mirror = crate::data::Mirror::Alternate;
        recipe.schedule.small_crops = Some(crate::run::schedule::SmallCrops { iterations: 40, size: 24 });
        recipe.fine_tuning.frozen = [Part::Stem].into_iter().collect();
        recipe.fine_tuning.classifier_learning_rate = Some(0.1);
        recipe.fine_tuning.layer_decay = Some(0.75);
        recipe.data.validation = Some(Validation::Images(1));
        recipe.intervals.patience = Some(1);
        recipe.intervals.norms = Some(1);
        recipe.intervals.watch = Some(1);
        let keys: BTreeSet<String> = recipe.options().into_keys().collect();
        let sections = [RecipeOption::Warmup];
        let options = RecipeOption::ALL.iter().filter(|option| !sections.contains(option));
        assert_eq!(keys, options.map(ToString::to_string).collect());
    }
}
