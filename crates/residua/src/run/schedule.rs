//! The learning rate of every iteration.

use serde::{Deserialize, Serialize};

use residua_infer::words;

/// How long to train and how fast to learn: a warm-up, then a learning rate that drops in steps (the paper's
/// appendix on implementation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Schedule {
    /// Iterations (optimiser steps) of the whole run.
    pub iterations: u64,
    /// Learning rate after the warm-up, before the first drop.
    pub learning_rate: f64,
    /// Finished iterations after which the learning rate drops, in rising order.
    #[serde(default)]
    pub decay_at: Vec<u64>,
    /// What a drop multiplies the learning rate by.
    #[serde(default = "tenth")]
    pub decay_factor: f64,
    /// A slower start, needed by the original very deep networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
}

/// The first iterations of a run, at a learning rate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// How many iterations.
    pub iterations: u64,
    /// Their learning rate, or the first one of a gradual warm-up.
    pub learning_rate: f64,
    /// How the learning rate goes on from there.
    #[serde(default)]
    pub kind: WarmupKind,
}

/// How the learning rate of a warm-up passes into that of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WarmupKind {
    /// It stays where it is until the warm-up is over (the paper).
    #[default]
    Constant,
    /// It rises by the same amount in every iteration (Goyal et al., 2017, section 2.2), so that no step is suddenly ten times
    /// as long as the one before.
    Gradual,
}

words!(WarmupKind, "kind of warm-up", {
    Constant => "constant": "stays where it is",
    Gradual => "gradual": "rises by the same amount in every iteration",
});

impl Warmup {
    /// A warm-up as the paper's.
    pub fn constant(iterations: u64, learning_rate: f64) -> Self {
        Self { iterations, learning_rate, kind: WarmupKind::Constant }
    }

    /// One that rises to the run's learning rate.
    pub fn gradual(iterations: u64, learning_rate: f64) -> Self {
        Self { iterations, learning_rate, kind: WarmupKind::Gradual }
    }
}

impl Schedule {
    /// So many iterations at one learning rate.
    pub fn new(iterations: u64, learning_rate: f64) -> Self {
        Self { iterations, learning_rate, decay_at: Vec::new(), decay_factor: tenth(), warmup: None }
    }

    /// The same, with a learning rate that is divided by ten after each of these numbers of iterations.
    pub fn with_decay_at(self, iterations: impl IntoIterator<Item = u64>) -> Self {
        Self { decay_at: iterations.into_iter().collect(), ..self }
    }

    /// The same with a slower start.
    pub fn with_warmup(self, warmup: Warmup) -> Self {
        Self { warmup: Some(warmup), ..self }
    }

    /// The learning rate of the step that follows `iteration` finished ones:
    /// `learning_rate * decay_factor ^ (number of decay_at <= iteration)` once the warm-up is over; on the way there in a gradual
    /// warm-up `start + (that - start) * iteration / warmup.iterations`.
    pub fn learning_rate_at(&self, iteration: u64) -> f64 {
        let drops = self.decay_at.iter().filter(|&&at| at <= iteration);
        // 0.1 / 10 is 0.01, but 0.1 * 0.1 is not: the reciprocal of a usual factor is exact.
        let after = self.learning_rate / drops.fold(1.0, |divisor, _| divisor * (1.0 / self.decay_factor));
        let Some(warmup) = self.warmup.filter(|warmup| iteration < warmup.iterations) else { return after };
        match warmup.kind {
            WarmupKind::Constant => warmup.learning_rate,
            WarmupKind::Gradual => {
                let share = iteration as f64 / warmup.iterations as f64;
                warmup.learning_rate + (after - warmup.learning_rate) * share
            }
        }
    }
}

fn tenth() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_schedule_steps_where_it_says() {
        let paper = Schedule {
            iterations: 64_000,
            learning_rate: 0.1,
            decay_at: vec![32_000, 48_000],
            decay_factor: 0.1,
            warmup: Some(Warmup::constant(400, 0.01)),
        };
        for (iteration, expected) in [
            (0, 0.01),
            (399, 0.01),
            (400, 0.1),
            (31_999, 0.1),
            (32_000, 0.01),
            (47_999, 0.01),
            (48_000, 0.001),
            (63_999, 0.001),
            (1_000_000, 0.001),
        ] {
            assert_eq!(paper.learning_rate_at(iteration), expected, "after {iteration}");
        }
    }

    #[test]
    fn other_factors_and_no_warm_up() {
        let schedule = Schedule {
            iterations: 10,
            learning_rate: 0.1,
            decay_at: vec![1, 2, 5],
            decay_factor: 0.2,
            warmup: None,
        };
        let rates: Vec<_> = (0..6).map(|iteration| schedule.learning_rate_at(iteration)).collect();
        assert_eq!(rates, [0.1, 0.02, 0.004, 0.004, 0.004, 0.0008]);
        assert_eq!(Schedule { decay_at: vec![], ..schedule }.learning_rate_at(9), 0.1);
    }

    /// From 1 to a half once `at` iterations are over.
    fn halved(at: u64, warmup: Warmup) -> Schedule {
        Schedule {
            iterations: 10,
            learning_rate: 1.0,
            decay_at: vec![at],
            decay_factor: 0.5,
            warmup: Some(warmup),
        }
    }

    #[test]
    fn a_warm_up_hides_the_drops_within_it() {
        let schedule = halved(2, Warmup::constant(4, 0.25));
        assert_eq!(schedule.learning_rate_at(3), 0.25);
        assert_eq!(schedule.learning_rate_at(4), 0.5);
    }

    #[test]
    fn a_gradual_warm_up_rises_to_the_learning_rate() {
        let schedule = halved(8, Warmup::gradual(4, 0.5));
        let rates: Vec<_> = (0..6).map(|iteration| schedule.learning_rate_at(iteration)).collect();
        assert_eq!(rates, [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]);
        assert_eq!(halved(8, Warmup::gradual(4, 2.0)).learning_rate_at(2), 1.5);
    }
}
