//! The learning rate of every iteration.

use serde::{Deserialize, Serialize};

use residua_infer::words;

/// How long to train and how fast to learn: a warm-up, then a learning rate that falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Schedule {
    /// Iterations (optimiser steps) of the whole run.
    pub iterations: u64,
    /// Learning rate after the warm-up, before it falls.
    pub learning_rate: f64,
    /// How the learning rate falls.
    #[serde(default, skip_serializing_if = "ScheduleKind::is_step")]
    pub kind: ScheduleKind,
    /// Of [`ScheduleKind::Step`]: finished iterations after which the learning rate drops, in rising order.
    #[serde(default)]
    pub decay_at: Vec<u64>,
    /// Of [`ScheduleKind::Step`]: what a drop multiplies the learning rate by.
    #[serde(default = "tenth")]
    pub decay_factor: f64,
    /// Of the other kinds: the learning rate that the run ends with; if left out, 0, and `learning_rate / 250000` in
    /// [`ScheduleKind::OneCycle`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_learning_rate: Option<f64>,
    /// A slower start, needed by the original very deep networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// A start on small crops of the training images, each step of which takes less time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_crops: Option<SmallCrops>,
}

/// How the learning rate falls from `learning_rate` to `min_learning_rate`. Here `t` is the share of the iterations behind the warm-up
/// that are finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScheduleKind {
    /// In steps: `learning_rate * decay_factor ^ (number of decay_at <= iteration)` (the paper's appendix on implementation).
    #[default]
    Step,
    /// `min + (learning_rate - min) * (1 + cos(pi * t)) / 2` (Loshchilov and Hutter, 2017, equation 5, without restarts; PyTorch's
    /// `CosineAnnealingLR`).
    Cosine,
    /// `learning_rate + (min - learning_rate) * t`.
    Linear,
    /// Half a cosine from `learning_rate / 25` up to `learning_rate` over the first 30 % of the iterations, and half a cosine down to
    /// `min` (Smith and Topin, 2019; PyTorch's `OneCycleLR`). It has no other warm-up.
    OneCycle,
}

words!(ScheduleKind, "schedule", {
    Step => "step": "drops at certain iterations",
    Cosine => "cosine": "falls along half a cosine",
    Linear => "linear": "falls by the same amount in every iteration",
    OneCycle => "one-cycle": "rises from a 25th over 30 % of the run, then falls, both along half a cosine",
});

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

/// The first iterations of a run, on crops of `size` x `size` pixels of its images: a step takes about `size^2 / (height * width)` of the
/// time that it takes on whole ones, and a network that ends in a mean over all pixels takes both (Hoffer et al., *Mix & Match*, 2019,
/// train on images of several sizes, too).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallCrops {
    /// How many iterations.
    pub iterations: u64,
    /// Height and width of the crops.
    pub size: usize,
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

impl ScheduleKind {
    /// Whether it is [`Self::Step`], whose rates are the same for a run of any length.
    pub fn is_step(&self) -> bool {
        *self == Self::Step
    }
}

impl Schedule {
    /// The share of a run over which [`ScheduleKind::OneCycle`] rises.
    const RISING_SHARE: f64 = 0.3;

    /// So many iterations at one learning rate.
    pub fn new(iterations: u64, learning_rate: f64) -> Self {
        Self {
            iterations,
            learning_rate,
            kind: ScheduleKind::Step,
            decay_at: Vec::new(),
            decay_factor: tenth(),
            min_learning_rate: None,
            warmup: None,
            small_crops: None,
        }
    }

    /// The same, with a learning rate that is divided by ten after each of these numbers of iterations.
    pub fn with_decay_at(self, iterations: impl IntoIterator<Item = u64>) -> Self {
        Self { kind: ScheduleKind::Step, decay_at: iterations.into_iter().collect(), ..self }
    }

    /// The same, with a learning rate that falls to zero in this way, without steps.
    pub fn with_kind(self, kind: ScheduleKind) -> Self {
        Self { kind, decay_at: Vec::new(), ..self }
    }

    /// The same with a slower start.
    pub fn with_warmup(self, warmup: Warmup) -> Self {
        Self { warmup: Some(warmup), ..self }
    }

    /// The learning rate of the step that follows `iteration` finished ones, once the warm-up is over as [`ScheduleKind`] says; on the
    /// way there in a gradual warm-up `start + (that - start) * iteration / warmup.iterations`.
    pub fn learning_rate_at(&self, iteration: u64) -> f64 {
        let after = match self.kind {
            ScheduleKind::Step => self.after_steps(iteration),
            ScheduleKind::Cosine => half_cosine(self.learning_rate, self.least(), self.share(iteration)),
            ScheduleKind::Linear => {
                self.learning_rate + (self.least() - self.learning_rate) * self.share(iteration)
            }
            ScheduleKind::OneCycle => return self.in_one_cycle(iteration),
        };
        let Some(warmup) = self.warmup.filter(|warmup| iteration < warmup.iterations) else { return after };
        match warmup.kind {
            WarmupKind::Constant => warmup.learning_rate,
            WarmupKind::Gradual => {
                let share = iteration as f64 / warmup.iterations as f64;
                warmup.learning_rate + (after - warmup.learning_rate) * share
            }
        }
    }

    fn after_steps(&self, iteration: u64) -> f64 {
        let drops = self.decay_at.iter().filter(|&&at| at <= iteration);
        // 0.1 / 10 is 0.01, but 0.1 * 0.1 is not: the reciprocal of a usual factor is exact.
        self.learning_rate / drops.fold(1.0, |divisor, _| divisor * (1.0 / self.decay_factor))
    }

    /// As PyTorch counts, the peak is at iteration `0.3 * iterations - 1` and the least rate that of the last iteration.
    fn in_one_cycle(&self, iteration: u64) -> f64 {
        let (iteration, last) = (iteration as f64, self.iterations as f64 - 1.);
        let peak = Self::RISING_SHARE * self.iterations as f64 - 1.;
        if iteration <= peak {
            half_cosine(self.learning_rate / 25., self.learning_rate, iteration / peak)
        } else {
            half_cosine(self.learning_rate, self.least(), ((iteration - peak) / (last - peak)).min(1.))
        }
    }

    /// The learning rate that the run ends with, if it does not fall in steps.
    fn least(&self) -> f64 {
        let usual = match self.kind {
            ScheduleKind::OneCycle => self.learning_rate / 25. / 1e4,
            ScheduleKind::Step | ScheduleKind::Cosine | ScheduleKind::Linear => 0.,
        };
        self.min_learning_rate.unwrap_or(usual)
    }

    /// The finished share of the iterations behind the warm-up.
    fn share(&self, iteration: u64) -> f64 {
        let start = self.warmup.map_or(0, |warmup| warmup.iterations);
        let (done, all) = (iteration.saturating_sub(start), self.iterations.saturating_sub(start));
        if done >= all { 1. } else { done as f64 / all as f64 }
    }
}

/// From one value to another by half a cosine, `share` of the way; the same bits on every machine.
fn half_cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1. + libm::cos(std::f64::consts::PI * share)) / 2.
}

fn tenth() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_schedule_steps_where_it_says() {
        let paper = Schedule::new(64_000, 0.1)
            .with_decay_at([32_000, 48_000])
            .with_warmup(Warmup::constant(400, 0.01));
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
        let schedule = Schedule { decay_factor: 0.2, ..Schedule::new(10, 0.1).with_decay_at([1, 2, 5]) };
        let rates: Vec<_> = (0..6).map(|iteration| schedule.learning_rate_at(iteration)).collect();
        assert_eq!(rates, [0.1, 0.02, 0.004, 0.004, 0.004, 0.0008]);
        assert_eq!(Schedule { decay_at: vec![], ..schedule }.learning_rate_at(9), 0.1);
    }

    /// From 1 to a half once `at` iterations are over.
    fn halved(at: u64, warmup: Warmup) -> Schedule {
        Schedule { decay_factor: 0.5, ..Schedule::new(10, 1.0).with_decay_at([at]).with_warmup(warmup) }
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

    /// After `torch.optim.lr_scheduler`: `CosineAnnealingLR(T_max=10, eta_min=0.01)`, its warm-up a `LinearLR` in front of it;
    /// `OneCycleLR(max_lr=0.1, total_steps=10)`.
    #[test]
    fn rates_without_steps_are_pytorchs() {
        let rates = |schedule: &Schedule| -> Vec<f64> {
            (0..schedule.iterations).map(|iteration| schedule.learning_rate_at(iteration)).collect()
        };
        let assert_close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
        };
        let mut schedule = Schedule::new(10, 0.1).with_kind(ScheduleKind::Cosine);
        schedule.min_learning_rate = Some(0.01);
        assert_close(rates(&schedule), &COSINE);
        schedule.iterations = 14;
        schedule.warmup = Some(Warmup::gradual(4, 0.02));
        assert_close(rates(&schedule), &[[0.02, 0.04, 0.06, 0.08].as_slice(), &COSINE].concat());
        schedule.warmup = Some(Warmup::constant(4, 0.02));
        assert_close(rates(&schedule), &[[0.02; 4].as_slice(), &COSINE].concat());

        let schedule = Schedule::new(10, 0.1).with_kind(ScheduleKind::OneCycle);
        assert_close(rates(&schedule), &ONE_CYCLE);
        assert_eq!(rates(&Schedule { iterations: 1, ..schedule }), [0.1 / 25. / 1e4]);

        let schedule = Schedule::new(4, 0.5).with_kind(ScheduleKind::Linear);
        assert_eq!(rates(&schedule), [0.5, 0.375, 0.25, 0.125]);
        assert_eq!(schedule.learning_rate_at(9), 0.);
    }

    const COSINE: [f64; 10] = [
        0.1,
        0.09779754323328192,
        0.09140576474687263,
        0.08145033635316129,
        0.06890576474687264,
        0.05500000000000001,
        0.04109423525312737,
        0.028549663646838717,
        0.01859423525312737,
        0.012202456766718092,
    ];
    const ONE_CYCLE: [f64; 10] = [
        0.0040000000000000036,
        0.052000000000000005,
        0.1,
        0.09504846320134738,
        0.0811745653949763,
        0.06112620219362893,
        0.03887419780637107,
        0.0188258346050237,
        0.004951936798652629,
        4e-07,
    ];
}
