//! Which values of a recipe's options are possible.

use std::fmt::Display;

use thiserror::Error;

use super::{Intervals, OptimiserOptions, Recipe};

impl Recipe {
    /// Whether every option has a possible value.
    ///
    /// # Errors
    /// Names the first option that has not.
    pub fn validate(&self) -> Result<(), InvalidOption> {
        let Self { seed: _, network, data, optimiser, schedule, intervals } = self;
        self.layout()?;
        if let Some(size) = data.size {
            let rule = "only pictures in a folder are brought to a size; leave it out";
            require(data.source.is_folder(), "data.size", size, rule)?;
            let fits = || network.resolve(1).and_then(|config| config.check_input(size, size));
            let problem = self.view()?.check().err().map(|error| error.to_string());
            if let Some(problem) = problem.or_else(|| fits().err().map(|error| error.to_string())) {
                return Err(InvalidOption::new("data.size", size, problem));
            }
        }
        let share = data.unreadable_share;
        require(
            (0.0..=1.0).contains(&share),
            "data.unreadable_share",
            share,
            "must be at least 0 and at most 1",
        )?;

        let OptimiserOptions { batch, momentum, is_nesterov, weight_decay, decays: _ } = optimiser;
        require(*batch > 0, "optimiser.batch", batch, "must be at least 1")?;
        if let Some(group) = network.bn_group.filter(|group| batch % group != 0) {
            let reason =
                format!("cannot be cut into groups of network.bn_group = {group}; use a multiple of it");
            return Err(InvalidOption::new("optimiser.batch", batch, reason));
        }
        require(
            (0.0..1.0).contains(momentum),
            "optimiser.momentum",
            momentum,
            "must be at least 0 and below 1",
        )?;
        require(
            !is_nesterov || *momentum > 0.0,
            "optimiser.is_nesterov",
            is_nesterov,
            "needs momentum; set optimiser.momentum above 0, usually to 0.9",
        )?;
        require_magnitude("optimiser.weight_decay", *weight_decay)?;

        require(schedule.iterations > 0, "schedule.iterations", schedule.iterations, "must be at least 1")?;
        require_magnitude("schedule.learning_rate", schedule.learning_rate)?;
        let decay_at = &schedule.decay_at;
        require(
            decay_at.is_sorted_by(|a, b| a < b) && !decay_at.contains(&0),
            "schedule.decay_at",
            format_args!("{decay_at:?}"),
            "must be iterations above 0, each later than the one before it",
        )?;
        let factor = schedule.decay_factor;
        require(
            factor > 0.0 && factor <= 1.0,
            "schedule.decay_factor",
            factor,
            "must be above 0 and at most 1, usually 0.1",
        )?;
        if let Some(warmup) = schedule.warmup {
            require_magnitude("schedule.warmup.learning_rate", warmup.learning_rate)?;
        }

        let Intervals { log, evaluate, checkpoint, keep, norms } = intervals;
        require(*log > 0, "intervals.log", log, "must be at least 1")?;
        require(*evaluate > 0, "intervals.evaluate", evaluate, "must be at least 1")?;
        require(*checkpoint > 0, "intervals.checkpoint", checkpoint, "must be at least 1")?;
        require(*keep > 0, "intervals.keep", keep, "must be at least 1")?;
        require(*norms != Some(0), "intervals.norms", 0, "must be at least 1; leave it out to measure none")
    }
}

/// An option of a recipe with an impossible value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{option} = {given}: {reason}")]
pub struct InvalidOption {
    /// The option, as `section.name`.
    pub option: &'static str,
    /// Its value.
    pub given: String,
    /// What is wrong with it and what to write.
    pub reason: String,
}

impl InvalidOption {
    pub(super) fn new(option: &'static str, given: impl Display, reason: impl Into<String>) -> Self {
        Self { option, given: given.to_string(), reason: reason.into() }
    }
}

fn require(is_met: bool, option: &'static str, given: impl Display, rule: &str) -> Result<(), InvalidOption> {
    if is_met { Ok(()) } else { Err(InvalidOption::new(option, given, rule)) }
}

fn require_magnitude(option: &'static str, value: f64) -> Result<(), InvalidOption> {
    require(value.is_finite() && value >= 0.0, option, value, "must be a finite number, at least 0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{NamedRecipe, Warmup};

    fn error(change: impl FnOnce(&mut Recipe)) -> String {
        let mut recipe = Recipe::named(NamedRecipe::Quick);
        change(&mut recipe);
        recipe.validate().unwrap_err().to_string()
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (message, part) in [
            (error(|recipe| recipe.optimiser.batch = 0), "optimiser.batch = 0"),
            (error(|recipe| recipe.network.bn_group = Some(96)), "groups of network.bn_group = 96"),
            (error(|recipe| recipe.network.bn_group = Some(0)), "network = preresnet20"),
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
            (error(|recipe| recipe.intervals.log = 0), "intervals.log = 0"),
            (error(|recipe| recipe.intervals.evaluate = 0), "intervals.evaluate = 0"),
            (error(|recipe| recipe.intervals.checkpoint = 0), "intervals.checkpoint = 0"),
            (error(|recipe| recipe.intervals.keep = 0), "intervals.keep = 0"),
        ] {
            assert!(message.starts_with(part) || message.contains(part), "{part}: {message}");
        }
        let warm = |learning_rate| Some(Warmup::constant(1000, learning_rate));
        assert!(
            error(|recipe| recipe.schedule.warmup = warm(f64::NAN)).contains("schedule.warmup.learning_rate")
        );
        let still = error(|recipe| {
            recipe.optimiser.is_nesterov = true;
            recipe.optimiser.momentum = 0.0;
        });
        assert!(still.contains("optimiser.is_nesterov = true: needs momentum"), "{still}");

        let mut longer_warm_up_than_run = Recipe::named(NamedRecipe::Quick);
        longer_warm_up_than_run.schedule.warmup = warm(0.01);
        longer_warm_up_than_run.validate().unwrap();
    }
}
