//! Which values of a recipe's options are possible.

use std::error::Error;
use std::fmt::{self, Display};

use residua_infer::network::{Block, NetworkError, Shortcut, Weighting};
use residua_infer::view::ViewError;

use super::{
    ClassWeights, FineTuning, Intervals, LossOptions, OptimiserKind, OptimiserOptions, Recipe, RecipeOption,
    Regularisation,
};
use crate::data::Sampling;
use crate::nn::Part;
use crate::run::schedule::{Schedule, ScheduleKind};

impl Recipe {
    /// Whether every option has a possible value.
    ///
    /// # Errors
    /// Names the first option that has not.
    pub fn validate(&self) -> Result<(), InvalidOption> {
        let Self {
            seed: _,
            network,
            data,
            optimiser,
            schedule,
            loss: _,
            regularisation: _,
            fine_tuning: _,
            intervals,
        } = self;
        self.layout()?;
        if let Some(size) = data.size {
            let rule = "only pictures in a folder are brought to a size; leave it out";
            require(data.source.is_folder(), RecipeOption::Size, size, rule)?;
            let impossible = |problem| InvalidOption::new(RecipeOption::Size, size, problem);
            self.view()?.check().map_err(|error| impossible(OptionProblem::View(error)))?;
            let fits = network.resolve(1).and_then(|config| config.check_input(size, size));
            fits.map_err(|error| impossible(OptionProblem::Network(error)))?;
        }
        self.validate_augmentation()?;
        let share = data.unreadable_share;
        require(
            (0.0..=1.0).contains(&share),
            RecipeOption::UnreadableShare,
            share,
            "must be at least 0 and at most 1",
        )?;

        let is_possible = data.is_shuffled || data.sampling == Sampling::Once;
        let rule = "draws an order for each epoch, so images cannot come in that of the data set; leave one of them out";
        require(is_possible, RecipeOption::Sampling, data.sampling, rule)?;
        for (option, alpha) in [(RecipeOption::Mixup, data.mixup), (RecipeOption::Cutmix, data.cutmix)] {
            let Some(alpha) = alpha else { continue };
            let rule = "must be at least 0.01 and at most 100, usually 0.2 or 1";
            require((0.01..=100.0).contains(&alpha), option, alpha, rule)?;
        }

        let OptimiserOptions {
            kind,
            batch,
            accumulate,
            momentum,
            is_nesterov,
            beta1,
            beta2,
            weight_decay,
            decays: _,
            clip_norm,
            average_decay,
        } = optimiser;
        let rule = "must be at least 1 and at most 16777216";
        require((1..=1 << 24).contains(batch), RecipeOption::Batch, batch, rule)?;
        let rule = "must be at least 1 and at most 65536";
        require((1..=1 << 16).contains(accumulate), RecipeOption::Accumulate, accumulate, rule)?;
        if let Some(norm) = *clip_norm {
            let rule = "must be a finite number above 0";
            require(norm.is_finite() && norm > 0.0, RecipeOption::ClipNorm, norm, rule)?;
        }
        if let Some(decay) = *average_decay {
            let rule = "must be above 0 and below 1, usually 0.999 or 0.9999";
            require(decay > 0.0 && decay < 1.0, RecipeOption::AverageDecay, decay, rule)?;
        }
        if let Some(group) = network.bn_group.filter(|group| batch % group != 0) {
            return Err(InvalidOption::new(RecipeOption::Batch, batch, OptionProblem::Groups { group }));
        }
        require(
            (0.0..1.0).contains(momentum),
            RecipeOption::Momentum,
            momentum,
            "must be at least 0 and below 1",
        )?;
        if *is_nesterov && *momentum == 0.0 {
            return Err(InvalidOption::new(RecipeOption::IsNesterov, true, OptionProblem::NeedsMomentum));
        }
        if *is_nesterov && *kind == OptimiserKind::AdamW {
            let rule = "is a momentum of SGD's, which AdamW has not; leave one of them out";
            return Err(InvalidOption::new(RecipeOption::IsNesterov, true, OptionProblem::Rule(rule)));
        }
        for (option, beta) in [(RecipeOption::Beta1, *beta1), (RecipeOption::Beta2, *beta2)] {
            require((0.0..1.0).contains(&beta), option, beta, "must be at least 0 and below 1")?;
        }
        require_magnitude(RecipeOption::WeightDecay, *weight_decay)?;

        require(
            schedule.iterations > 0,
            RecipeOption::Iterations,
            schedule.iterations,
            "must be at least 1",
        )?;
        require_magnitude(RecipeOption::LearningRate, schedule.learning_rate)?;
        self.check_kind_of_schedule()?;
        let decay_at = &schedule.decay_at;
        require(
            decay_at.is_sorted_by(|a, b| a < b) && !decay_at.contains(&0),
            RecipeOption::DecayAt,
            format_args!("{decay_at:?}"),
            "must be iterations above 0, each later than the one before it",
        )?;
        let factor = schedule.decay_factor;
        require(
            factor > 0.0 && factor <= 1.0,
            RecipeOption::DecayFactor,
            factor,
            "must be above 0 and at most 1, usually 0.1",
        )?;
        if let Some(warmup) = schedule.warmup {
            require_magnitude(RecipeOption::WarmupLearningRate, warmup.learning_rate)?;
        }

        self.validate_small_crops()?;
        self.check_loss()?;
        self.check_regularisation()?;
        self.check_fine_tuning()?;

        let Intervals { log, evaluate, checkpoint, keep, patience, norms, watch } = intervals;
        require(*log > 0, RecipeOption::LogInterval, log, "must be at least 1")?;
        require(*evaluate > 0, RecipeOption::EvaluateInterval, evaluate, "must be at least 1")?;
        require(*checkpoint > 0, RecipeOption::CheckpointInterval, checkpoint, "must be at least 1")?;
        require(*keep > 0, RecipeOption::Keep, keep, "must be at least 1")?;
        if let Some(patience) = *patience {
            require(patience > 0, RecipeOption::Patience, patience, "must be at least 1")?;
            if data.validation.is_none() {
                let problem = OptionProblem::NeedsValidation;
                return Err(InvalidOption::new(RecipeOption::Patience, patience, problem));
            }
        }
        let rule = "must be at least 1; leave it out to measure none";
        require(*norms != Some(0), RecipeOption::NormsInterval, 0, rule)?;
        require(*watch != Some(0), RecipeOption::WatchInterval, 0, rule)
    }

    /// Whether nothing is asked for that this kind of schedule has not.
    fn check_kind_of_schedule(&self) -> Result<(), InvalidOption> {
        let schedule = &self.schedule;
        let kind = schedule.kind;
        let foreign = |option, given: &dyn Display| {
            Err(InvalidOption::new(option, given, OptionProblem::OtherSchedule { kind }))
        };
        if let Some(least) = schedule.min_learning_rate {
            let option = RecipeOption::MinLearningRate;
            if kind.is_step() {
                return foreign(option, &least);
            }
            require_magnitude(option, least)?;
            let rule = "must be at most the learning rate that the run falls from";
            require(least <= schedule.learning_rate, option, least, rule)?;
        }
        let usual_factor = Schedule::new(1, 0.).decay_factor;
        match schedule.warmup {
            _ if kind.is_step() => Ok(()),
            _ if !schedule.decay_at.is_empty() => {
                foreign(RecipeOption::DecayAt, &format_args!("{:?}", schedule.decay_at))
            }
            _ if schedule.decay_factor != usual_factor => {
                foreign(RecipeOption::DecayFactor, &schedule.decay_factor)
            }
            Some(warmup) if kind == ScheduleKind::OneCycle => {
                foreign(RecipeOption::WarmupIterations, &warmup.iterations)
            }
            _ => Ok(()),
        }
    }

    fn check_loss(&self) -> Result<(), InvalidOption> {
        let LossOptions { kind: _, label_smoothing, class_weights } = &self.loss;
        require(
            (0.0..1.0).contains(label_smoothing),
            RecipeOption::LabelSmoothing,
            label_smoothing,
            "must be at least 0 and below 1, usually 0.1",
        )?;
        let Some(ClassWeights::Given(weights)) = class_weights else { return Ok(()) };
        for (class, weight) in weights {
            let given = format_args!("{class}: {weight}");
            let rule = "must be a finite number above 0";
            require(weight.is_finite() && *weight > 0.0, RecipeOption::ClassWeights, given, rule)?;
            let rule = "has several weights; leave one";
            let is_alone = weights.iter().filter(|(name, _)| name == class).count() == 1;
            require(is_alone, RecipeOption::ClassWeights, class, rule)?;
        }
        Ok(())
    }

    fn check_regularisation(&self) -> Result<(), InvalidOption> {
        let Regularisation { stochastic_depth, dropout, unit_dropout } = self.regularisation;
        let rule = "must be at least 0 and below 1, usually up to 0.5";
        for (option, probability) in
            [(RecipeOption::Dropout, dropout), (RecipeOption::UnitDropout, unit_dropout)]
        {
            let probability = probability.unwrap_or_default();
            require((0.0..1.0).contains(&probability), option, probability, rule)?;
        }
        if let Some(probability) = unit_dropout.filter(|probability| *probability > 0.)
            && self.network.resolve(1).is_ok_and(|network| network.block == Block::Single)
        {
            let problem = OptionProblem::Network(NetworkError::UnitDropout);
            return Err(InvalidOption::new(RecipeOption::UnitDropout, probability, problem));
        }
        let Some(probability) = stochastic_depth else { return Ok(()) };
        let option = RecipeOption::StochasticDepth;
        require((0.0..1.0).contains(&probability), option, probability, rule)?;
        let shortcut = self.network.shortcut.unwrap_or(Shortcut::Identity);
        if probability > 0. && shortcut.weighting() != Weighting::None {
            let problem = NetworkError::StochasticDepth { shortcut: shortcut.to_string() };
            return Err(InvalidOption::new(option, probability, OptionProblem::Network(problem)));
        }
        Ok(())
    }

    fn check_fine_tuning(&self) -> Result<(), InvalidOption> {
        let FineTuning { frozen, classifier_learning_rate, layer_decay } = &self.fine_tuning;
        let plan = self.network.resolve(1).and_then(|config| config.plan());
        plan.and_then(|plan| frozen.first_besides(&plan)).map_err(|error| {
            InvalidOption::new(RecipeOption::Frozen, frozen, OptionProblem::Network(error))
        })?;
        if let Some(rate) = *classifier_learning_rate {
            let option = RecipeOption::ClassifierLearningRate;
            require_magnitude(option, rate)?;
            require(!frozen.contains(Part::Classifier), option, rate, "the classifier is frozen")?;
            if self.schedule.learning_rate == 0.0 {
                return Err(InvalidOption::new(option, rate, OptionProblem::NeedsLearningRate));
            }
        }
        let Some(decay) = *layer_decay else { return Ok(()) };
        let rule = "must be above 0 and at most 1, usually between 0.5 and 1";
        require(decay > 0.0 && decay <= 1.0, RecipeOption::LayerDecay, decay, rule)
    }
}

/// An option of a recipe with an impossible value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidOption {
    /// The option.
    pub option: RecipeOption,
    /// Its value.
    pub given: String,
    /// What is wrong with it and what to write.
    pub problem: OptionProblem,
}

/// What is wrong with an option's value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionProblem {
    /// It breaks a rule that is about this option alone.
    Rule(&'static str),
    /// There is no such network, or it does not take such images.
    Network(NetworkError),
    /// Pictures cannot be seen like this.
    View(ViewError),
    /// The batch is not made of whole groups of [`RecipeOption::BnGroup`].
    Groups {
        /// Images of a group.
        group: usize,
    },
    /// Only random parts of pictures have areas and aspect ratios: `scale-aspect` of [`RecipeOption::Augmentation`].
    NeedsScaleAspect,
    /// The classifier's learning rate is in proportion to a [`RecipeOption::LearningRate`] above 0.
    NeedsLearningRate,
    /// A schedule of this [`RecipeOption::ScheduleKind`] has no such thing.
    OtherSchedule {
        /// The kind.
        kind: ScheduleKind,
    },
    /// It goes by the error on [`RecipeOption::Validation`] images.
    NeedsValidation,
    /// Nesterov's momentum wants a [`RecipeOption::Momentum`] above 0.
    NeedsMomentum,
}

impl InvalidOption {
    pub(super) fn new(option: RecipeOption, given: impl Display, problem: OptionProblem) -> Self {
        Self { option, given: given.to_string(), problem }
    }

    /// The message, where options are called what `name` calls them.
    pub fn with_names(&self, name: fn(RecipeOption) -> &'static str) -> String {
        let problem = match &self.problem {
            OptionProblem::Rule(rule) => (*rule).to_owned(),
            OptionProblem::Network(error) => error.to_string(),
            OptionProblem::View(error) => error.to_string(),
            OptionProblem::Groups { group } => {
                let option = name(RecipeOption::BnGroup);
                format!("cannot be cut into groups of {option} = {group}; use a multiple of it")
            }
            OptionProblem::NeedsScaleAspect => {
                let option = name(RecipeOption::Augmentation);
                format!(
                    "is for crops of random area and aspect ratio; set {option} to scale-aspect or leave it out"
                )
            }
            OptionProblem::NeedsLearningRate => {
                let option = name(RecipeOption::LearningRate);
                let frozen = name(RecipeOption::Frozen);
                format!(
                    "is in proportion to {option}, which must be above 0; what is not to learn goes into {frozen}"
                )
            }
            OptionProblem::OtherSchedule { kind } => {
                let option = name(RecipeOption::ScheduleKind);
                let why = match kind {
                    ScheduleKind::Step => "drops at certain iterations and ends with no rate of its own",
                    ScheduleKind::Cosine | ScheduleKind::Linear => "falls without steps",
                    ScheduleKind::OneCycle => "rises by itself and falls without steps",
                };
                format!("is not for {option} = {kind}, which {why}; leave one of them out")
            }
            OptionProblem::NeedsValidation => {
                let option = name(RecipeOption::Validation);
                format!(
                    "goes by the error on images that are held out; hold some out by {option}, such as 0.1"
                )
            }
            OptionProblem::NeedsMomentum => {
                let option = name(RecipeOption::Momentum);
                format!("needs momentum; set {option} above 0, usually to 0.9")
            }
        };
        format!("{} = {}: {problem}", name(self.option), self.given)
    }
}

impl Display for InvalidOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with_names(RecipeOption::as_str))
    }
}

impl Error for InvalidOption {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            OptionProblem::Network(error) => Some(error),
            OptionProblem::View(error) => Some(error),
            OptionProblem::Rule(_)
            | OptionProblem::Groups { .. }
            | OptionProblem::NeedsScaleAspect
            | OptionProblem::NeedsLearningRate
            | OptionProblem::OtherSchedule { .. }
            | OptionProblem::NeedsValidation
            | OptionProblem::NeedsMomentum => None,
        }
    }
}

pub(super) fn require(
    is_met: bool,
    option: RecipeOption,
    given: impl Display,
    rule: &'static str,
) -> Result<(), InvalidOption> {
    if is_met { Ok(()) } else { Err(InvalidOption::new(option, given, OptionProblem::Rule(rule))) }
}

fn require_magnitude(option: RecipeOption, value: f64) -> Result<(), InvalidOption> {
    require(value.is_finite() && value >= 0.0, option, value, "must be a finite number, at least 0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Augmentation;
    use crate::nn::Parts;
    use crate::run::{NamedRecipe, SmallCrops, Warmup};

    fn error(change: impl FnOnce(&mut Recipe)) -> String {
        let mut recipe = Recipe::named(NamedRecipe::Quick);
        change(&mut recipe);
        recipe.validate().unwrap_err().to_string()
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (message, beginning) in [
            (error(|recipe| recipe.optimiser.batch = 0), "optimiser.batch = 0"),
            (
                error(|recipe| recipe.data.random_erasing = -0.5),
                "data.random_erasing = -0.5: must be a probability",
            ),
            (error(|recipe| recipe.data.cutout = 20_000), "data.cutout = 20000: must be at most"),
            (
                error(|recipe| recipe.data.crop_scale = Some([0.25, 1.0])),
                "data.crop_scale = 0.25,1: is for crops of random area and aspect ratio; set data.augmentation to",
            ),
            (
                error(|recipe| {
                    recipe.data.augmentation = Some(Augmentation::ScaleAspect);
                    recipe.data.crop_ratio = Some([2.0, 1.0]);
                }),
                "data.crop_ratio = 2,1: must be two ratios",
            ),
            (
                error(|recipe| {
                    recipe.data.source = "folder:pets".parse().unwrap();
                    recipe.data.cutout = 33;
                }),
                "data.cutout = 33: must be at most the images' shorter side",
            ),
            (
                error(|recipe| recipe.network.bn_group = Some(96)),
                "optimiser.batch = 128: cannot be cut into groups of network.bn_group = 96",
            ),
            (error(|recipe| recipe.network.bn_group = Some(0)), "network.model = preresnet20"),
            (
                error(|recipe| recipe.optimiser.momentum = 1.0),
                "optimiser.momentum = 1: must be at least 0 and below 1",
            ),
            (error(|recipe| recipe.optimiser.momentum = -0.1), "optimiser.momentum = -0.1"),
            (error(|recipe| recipe.optimiser.momentum = f64::NAN), "optimiser.momentum = NaN"),
            (error(|recipe| recipe.optimiser.weight_decay = f64::INFINITY), "optimiser.weight_decay = inf"),
            (error(|recipe| recipe.schedule.learning_rate = -1.0), "schedule.learning_rate = -1"),
            (error(|recipe| recipe.schedule.decay_at = vec![5, 5]), "schedule.decay_at = [5, 5]"),
            (error(|recipe| recipe.schedule.decay_at = vec![0, 5]), "schedule.decay_at = [0, 5]"),
            (error(|recipe| recipe.schedule.decay_at = vec![6, 5]), "schedule.decay_at = [6, 5]"),
            (error(|recipe| recipe.schedule.decay_factor = 0.0), "schedule.decay_factor = 0"),
            (error(|recipe| recipe.schedule.decay_factor = f64::NAN), "schedule.decay_factor = NaN"),
            (
                error(|recipe| recipe.regularisation.stochastic_depth = Some(1.)),
                "regularisation.stochastic_depth = 1: must be at least 0 and below 1",
            ),
            (
                error(|recipe| recipe.regularisation.dropout = Some(-0.1)),
                "regularisation.dropout = -0.1: must be at least 0 and below 1",
            ),
            (
                error(|recipe| recipe.schedule.small_crops = Some(SmallCrops { iterations: 0, size: 24 })),
                "schedule.small_crops.iterations = 0: must be at least 1",
            ),
            (
                error(|recipe| recipe.schedule.small_crops = Some(SmallCrops { iterations: 9, size: 22 })),
                "schedule.small_crops.size = 22: ",
            ),
            (
                error(|recipe| recipe.schedule.small_crops = Some(SmallCrops { iterations: 9, size: 0 })),
                "schedule.small_crops.size = 0: ",
            ),
            (
                error(|recipe| {
                    recipe.schedule.small_crops = Some(SmallCrops { iterations: 9, size: 12 });
                    recipe.data.cutout = 16;
                }),
                "schedule.small_crops.size = 12: must be at least the side of what is cut out",
            ),
            (
                error(|recipe| {
                    recipe.schedule.small_crops = Some(SmallCrops { iterations: 9, size: 24 });
                    recipe.data.augmentation = Some(Augmentation::None);
                }),
                "schedule.small_crops.size = 24: wants images that are shifted",
            ),
            (
                error(|recipe| recipe.regularisation.unit_dropout = Some(1.)),
                "regularisation.unit_dropout = 1: must be at least 0 and below 1",
            ),
            (
                error(|recipe| {
                    recipe.regularisation.unit_dropout = Some(0.3);
                    recipe.network.block = Some(Block::Single);
                }),
                "regularisation.unit_dropout = 0.3: dropout between a unit's convolutions wants basic or bottleneck units",
            ),
            (
                error(|recipe| recipe.regularisation.stochastic_depth = Some(f64::NAN)),
                "regularisation.stochastic_depth = NaN",
            ),
            (
                error(|recipe| {
                    recipe.regularisation.stochastic_depth = Some(0.5);
                    recipe.network.shortcut = Some("scale:0.5,1".parse().unwrap());
                }),
                "regularisation.stochastic_depth = 0.5: stochastic depth wants units that add",
            ),
            (error(|recipe| recipe.intervals.log = 0), "intervals.log = 0"),
            (error(|recipe| recipe.intervals.evaluate = 0), "intervals.evaluate = 0"),
            (error(|recipe| recipe.intervals.checkpoint = 0), "intervals.checkpoint = 0"),
            (error(|recipe| recipe.intervals.keep = 0), "intervals.keep = 0"),
        ] {
            assert!(message.starts_with(beginning), "{beginning}: {message}");
        }
        let warm = |learning_rate| Some(Warmup::constant(1000, learning_rate));
        assert!(
            error(|recipe| recipe.schedule.warmup = warm(f64::NAN))
                .starts_with("schedule.warmup.learning_rate = NaN")
        );
        let still = error(|recipe| {
            recipe.optimiser.is_nesterov = true;
            recipe.optimiser.momentum = 0.0;
        });
        assert!(still.starts_with("optimiser.is_nesterov = true: needs momentum"), "{still}");

        let frozen =
            |parts: &str| parts.split(',').map(|part| part.parse::<Part>().unwrap()).collect::<Parts>();
        for (message, expected) in [
            (
                error(|recipe| recipe.fine_tuning.frozen = frozen("stem,stage4")),
                "fine_tuning.frozen = stem,stage4: the network has no stage4; its parts are stem, ",
            ),
            (
                error(|recipe| {
                    recipe.fine_tuning.frozen = frozen("stem,stage1,stage2,stage3,norm,classifier");
                }),
                "fine_tuning.frozen = stem,stage1,stage2,stage3,norm,classifier: nothing is left to train",
            ),
            (
                error(|recipe| {
                    recipe.fine_tuning.frozen = frozen("classifier");
                    recipe.fine_tuning.classifier_learning_rate = Some(0.1);
                }),
                "fine_tuning.classifier_learning_rate = 0.1: the classifier is frozen",
            ),
            (
                error(|recipe| {
                    recipe.schedule.learning_rate = 0.;
                    recipe.fine_tuning.classifier_learning_rate = Some(0.1);
                }),
                "fine_tuning.classifier_learning_rate = 0.1: is in proportion to schedule.learning_rate",
            ),
            (
                error(|recipe| recipe.fine_tuning.classifier_learning_rate = Some(f64::NAN)),
                "fine_tuning.classifier_learning_rate = NaN",
            ),
            (
                error(|recipe| recipe.fine_tuning.layer_decay = Some(0.)),
                "fine_tuning.layer_decay = 0: must be",
            ),
            (error(|recipe| recipe.fine_tuning.layer_decay = Some(1.5)), "fine_tuning.layer_decay = 1.5"),
            (
                error(|recipe| recipe.fine_tuning.layer_decay = Some(f64::NAN)),
                "fine_tuning.layer_decay = NaN",
            ),
        ] {
            assert!(message.starts_with(expected), "{expected}: {message}");
        }

        let mut longer_warm_up_than_run = Recipe::named(NamedRecipe::Quick);
        longer_warm_up_than_run.schedule.warmup = warm(0.01);
        longer_warm_up_than_run.validate().unwrap();
    }
}
