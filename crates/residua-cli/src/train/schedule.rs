//! How long a run is, and how fast it learns.

use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::Args;
use residua::run::{
    DecayScope, OptimiserKind, Recipe, Schedule, ScheduleKind, SmallCrops, Warmup, WarmupKind,
};
use residua::train::RunImages;

use super::length::Length;
use super::set;
use crate::output::tell;
use crate::usage::{UsageError, count, counted, whole};
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Schedule")]
pub(super) struct ScheduleArguments {
    /// Optimiser steps of the whole run [default: 120 in quick, 64000 in paper-cifar].
    #[arg(long, value_name = "N", value_parser = whole::<u64>, conflicts_with = "epochs")]
    iterations: Option<u64>,
    /// Passes over the training set, instead of --iterations [default: 20 in finetune, 90 in paper-imagenet].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    epochs: Option<NonZeroUsize>,
    /// Images of a mini-batch [default: 128].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    batch: Option<usize>,
    /// Add the gradients of K mini-batches for each step, as if --batch were K times as large with --bn-group as it is, in the
    /// memory of one [default: 1].
    #[arg(long, value_name = "K", value_parser = whole::<usize>)]
    accumulate: Option<usize>,
    /// What makes steps of gradients [default: sgd].
    #[arg(long, value_name = "NAME", value_parser = words::<OptimiserKind>())]
    optimiser: Option<OptimiserKind>,
    /// Learning rate after the warm-up [default: 0.1; with --optimiser adamw 0.001].
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// How the learning rate falls behind the warm-up [default: step].
    #[arg(long, value_name = "KIND", value_parser = words::<ScheduleKind>())]
    schedule: Option<ScheduleKind>,
    /// Where a schedule of steps drops, in iterations, epochs or parts of the run, such as 4000,6000 or 30epochs,60epochs or
    /// 50%,75%; `none` for never [default: 80,105 of 120 in quick, 32000,48000 of 64000 in paper-cifar; in proportion for other
    /// lengths].
    #[arg(long, value_name = "N,N,...")]
    decay_at: Option<DecayAt>,
    /// What a drop multiplies the learning rate by [default: 0.1].
    #[arg(long, value_name = "X")]
    decay_factor: Option<f64>,
    /// The learning rate at the end of the run, where it does not fall in steps [default: 0; --lr / 250000 in one-cycle].
    #[arg(long, value_name = "X")]
    min_lr: Option<f64>,
    /// A start with a learning rate of its own, so long in iterations, epochs or parts of the run, such as 400:0.01, or one that
    /// rises from there to the run's, 5epochs:0.01:gradual; `none` for no warm-up [default: none in quick and in one-cycle, 400:0.01
    /// of 64000 in paper-cifar; in proportion for other lengths].
    #[arg(long, value_name = "N:LR[:gradual]", allow_hyphen_values = true)]
    warmup: Option<WarmupChoice>,
    /// Begin on crops of SIZE x SIZE pixels of the training images, so long in iterations, epochs or parts of the run, such as
    /// 24:60%: steps take less time there; images must be shifted, as they are by default; `none` for whole images [default: none].
    #[arg(long, value_name = "SIZE:N")]
    small_crops: Option<SmallCropsChoice>,
    /// Momentum [default: 0.9].
    #[arg(long, value_name = "X")]
    momentum: Option<f64>,
    /// Take Nesterov's momentum.
    #[arg(long)]
    nesterov: bool,
    /// What is left at a step of AdamW's means of gradients and of their squares [default: 0.9,0.999].
    #[arg(long, value_name = "X,X")]
    betas: Option<Betas>,
    /// Weight decay [default: 0.0001; with --optimiser adamw 0.01].
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// What decays [default: all].
    #[arg(long, value_name = "WHAT", value_parser = words::<DecayScope>())]
    decays: Option<DecayScope>,
    /// Shorten the gradient of all parameters together to this Euclidean norm where it is longer [default: never].
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,
    /// Keep an exponential average of the weights with this decay, such as 0.999: it is tested beside them, saved, and taken by
    /// eval, predict and export with --average [default: none].
    #[arg(long, value_name = "D")]
    ema: Option<f64>,
    /// What all random choices follow from [default: 1].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    seed: Option<u64>,
}

impl ScheduleArguments {
    /// The images, where lengths have to be counted in epochs of them. Intervals that are nobody's choice fit the run.
    pub(super) fn refine(
        &self,
        recipe: &mut Recipe,
        usual_epochs: Option<NonZeroUsize>,
        has_usual_intervals: bool,
        resumes: bool,
    ) -> anyhow::Result<Option<RunImages>> {
        let epochs = self.epochs.or(usual_epochs.filter(|_| self.iterations.is_none()));
        set(&mut recipe.seed, &self.seed);
        set(&mut recipe.optimiser.batch, &self.batch);
        set(&mut recipe.optimiser.accumulate, &self.accumulate);
        if let Some(kind) = self.optimiser {
            // Rates and decays of one optimiser mean little to another.
            if kind == OptimiserKind::AdamW && recipe.optimiser.kind != kind {
                (recipe.schedule.learning_rate, recipe.optimiser.weight_decay) = ADAMW_USUAL;
                let scale = ADAMW_USUAL.0 / SGD_RATE;
                let warmup = recipe.schedule.warmup;
                recipe.schedule.warmup =
                    warmup.map(|warmup| Warmup { learning_rate: warmup.learning_rate * scale, ..warmup });
            }
            recipe.optimiser.kind = kind;
        }
        if let Some(Betas(beta1, beta2)) = self.betas {
            (recipe.optimiser.beta1, recipe.optimiser.beta2) = (beta1, beta2);
        }
        set(&mut recipe.optimiser.momentum, &self.momentum);
        set(&mut recipe.optimiser.weight_decay, &self.weight_decay);
        set(&mut recipe.optimiser.decays, &self.decays);
        recipe.optimiser.is_nesterov |= self.nesterov;
        recipe.optimiser.clip_norm = self.clip_norm.or(recipe.optimiser.clip_norm);
        recipe.optimiser.average_decay = self.ema.or(recipe.optimiser.average_decay);
        self.refine_rates(&mut recipe.schedule);
        let fits_intervals = has_usual_intervals && recipe.data.source.is_folder();
        let images = match epochs.is_some() || self.has_lengths_in_epochs() || fits_intervals {
            false => None,
            true => {
                recipe.validate().map_err(UsageError::from)?;
                Some(RunImages::load(recipe)?)
            }
        };
        let images_of_epoch = images.as_ref().map_or(0, |images| images.training().len());
        let batch = recipe.optimiser.images().max(1);
        let of_epochs = |epochs: NonZeroUsize| {
            (epochs.get() as u64).saturating_mul(images_of_epoch as u64).div_ceil(batch as u64)
        };
        if let Some(iterations) = self.iterations.or(epochs.map(of_epochs)) {
            let before = std::mem::replace(&mut recipe.schedule.iterations, iterations);
            // A shorter run has its steps and its warm-up in proportion; a run that goes on keeps those that it has.
            if !resumes && before > 0 {
                scale(&mut recipe.schedule, before, iterations);
            }
        }
        // About twenty tests and checkpoints, at the ends of epochs.
        let twentieth = |epochs: usize| NonZeroUsize::new((epochs / 20).max(1)).map_or(1, of_epochs).max(1);
        match epochs {
            _ if resumes => {}
            Some(epochs) => {
                let interval = twentieth(epochs.get());
                (recipe.intervals.evaluate, recipe.intervals.checkpoint) = (interval, interval);
            }
            // A named recipe's intervals are those of large data sets.
            None if has_usual_intervals && images.is_some() => {
                let images = u128::from(recipe.schedule.iterations) * batch as u128;
                let epochs = usize::try_from(images / images_of_epoch.max(1) as u128).unwrap_or(usize::MAX);
                let interval = twentieth(epochs);
                for usual in [&mut recipe.intervals.evaluate, &mut recipe.intervals.checkpoint] {
                    *usual = interval.min(*usual);
                }
            }
            None => {}
        }
        if let (Some(epochs), false) = (epochs, resumes) {
            tell_of_large_batches(epochs, images_of_epoch, batch, recipe.schedule.iterations);
        }
        let iterations = recipe.schedule.iterations;
        let epoch = images_of_epoch as f64 / batch as f64;
        if let Some(DecayAt(decay_at)) = &self.decay_at {
            recipe.schedule.decay_at =
                decay_at.iter().map(|at| at.in_iterations(iterations, epoch)).collect();
        }
        if let Some(WarmupChoice(warmup)) = self.warmup {
            recipe.schedule.warmup = warmup.map(|WarmupOfLength { length, learning_rate, kind }| Warmup {
                iterations: length.in_iterations(iterations, epoch),
                learning_rate,
                kind,
            });
        }
        if let Some(SmallCropsChoice(small)) = self.small_crops {
            recipe.schedule.small_crops = small.map(|(size, length)| SmallCrops {
                iterations: length.in_iterations(iterations, epoch),
                size,
            });
        }
        Ok(images)
    }

    fn refine_rates(&self, schedule: &mut Schedule) {
        set(&mut schedule.learning_rate, &self.lr);
        if let Some(kind) = self.schedule {
            schedule.kind = kind;
            // What the recipe says of its own kind of schedule means nothing to another.
            match kind {
                ScheduleKind::Step => schedule.min_learning_rate = None,
                ScheduleKind::Cosine | ScheduleKind::Linear | ScheduleKind::OneCycle => {
                    let usual = Schedule::new(schedule.iterations, schedule.learning_rate);
                    (schedule.decay_at, schedule.decay_factor) = (usual.decay_at, usual.decay_factor);
                }
            }
            if kind == ScheduleKind::OneCycle {
                schedule.warmup = None;
            }
        }
        set(&mut schedule.decay_factor, &self.decay_factor);
        schedule.min_learning_rate = self.min_lr.or(schedule.min_learning_rate);
    }

    fn has_lengths_in_epochs(&self) -> bool {
        let decay_at = self.decay_at.iter().flat_map(|DecayAt(decay_at)| decay_at.iter().copied());
        let warmup = self.warmup.and_then(|WarmupChoice(warmup)| Some(warmup?.length));
        let small_crops = self.small_crops.and_then(|SmallCropsChoice(small)| Some(small?.1));
        decay_at.chain(warmup).chain(small_crops).any(Length::is_in_epochs)
    }
}

/// PyTorch's defaults of AdamW: learning rate and weight decay.
const ADAMW_USUAL: (f64, f64) = (0.001, 0.01);

/// The learning rate of the named recipes.
const SGD_RATE: f64 = 0.1;

/// Brings steps, warm-up and small crops of a run of `before` iterations to one of `now`; what is left of them without an iteration is dropped.
fn scale(schedule: &mut Schedule, before: u64, now: u64) {
    let scaled = |at: u64| (u128::from(at) * u128::from(now) / u128::from(before)) as u64;
    let mut decay_at: Vec<u64> = schedule.decay_at.iter().map(|&at| scaled(at)).collect();
    decay_at.retain(|&at| at > 0);
    decay_at.dedup();
    schedule.decay_at = decay_at;
    // To the nearest, so that a twentieth of twenty iterations is one.
    let nearest = |length: u64| {
        ((2 * u128::from(length) * u128::from(now) + u128::from(before)) / (2 * u128::from(before))) as u64
    };
    let warmup = schedule.warmup.map(|warmup| Warmup { iterations: nearest(warmup.iterations), ..warmup });
    schedule.warmup = warmup.filter(|warmup| warmup.iterations > 0);
    let small = schedule.small_crops;
    let small = small.map(|small| SmallCrops { iterations: nearest(small.iterations), ..small });
    schedule.small_crops = small.filter(|small| small.iterations > 0);
}

/// Says so where a step has more images than an epoch.
fn tell_of_large_batches(epochs: NonZeroUsize, images: usize, batch: usize, iterations: u64) {
    if batch > images {
        tell(format_args!(
            "warning: a step takes {batch} images and there are {images} to learn from, so {} {}; take fewer with --batch",
            counted(epochs.get() as u64, "epoch is", "epochs are"),
            counted(iterations, "step", "steps")
        ));
    }
}

/// Says so where the whole run is a warm-up.
pub(super) fn tell_of_endless_warmup(schedule: &Schedule) {
    let Schedule { iterations, learning_rate, warmup: Some(warmup), .. } = schedule else { return };
    if warmup.iterations >= *iterations && warmup.learning_rate != *learning_rate {
        tell(format_args!(
            "warning: the warm-up of {} does not end within the run's {iterations}, so the learning rate never is \
             {learning_rate}; shorten it with --warmup",
            counted(warmup.iterations, "iteration", "iterations")
        ));
    }
}

/// Two numbers with a comma between.
#[derive(Debug, Clone, Copy)]
struct Betas(f64, f64);

impl FromStr for Betas {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write two numbers, such as 0.9,0.999";
        let (first, second) = text.split_once(',').ok_or(wrong)?;
        let number = |text: &str| text.trim().parse().map_err(|_| wrong);
        Ok(Self(number(first)?, number(second)?))
    }
}

/// Places in a run, separated by commas.
#[derive(Debug, Clone)]
struct DecayAt(Vec<Length>);

impl FromStr for DecayAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let wrong = "write iterations separated by commas, such as 4000,6000, or 30epochs,60epochs, or 50%,75%, or none";
        let places: Result<_, _> = text.split(',').map(str::parse).collect();
        places.map(Self).map_err(|_| wrong.to_owned())
    }
}

/// Length, learning rate and kind of the warm-up.
#[derive(Debug, Clone, Copy)]
struct WarmupChoice(Option<WarmupOfLength>);

#[derive(Debug, Clone, Copy)]
struct WarmupOfLength {
    length: Length,
    learning_rate: f64,
    kind: WarmupKind,
}

impl FromStr for WarmupChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write LENGTH:LEARNING_RATE, such as 400:0.01 or 5epochs:0.01:gradual, or none";
        if text == "none" {
            return Ok(Self(None));
        }
        let (length, rest) = text.split_once(':').ok_or(wrong)?;
        let (learning_rate, kind) = rest.split_once(':').unwrap_or((rest, WarmupKind::Constant.as_str()));
        let length = length.parse().map_err(|_| wrong)?;
        let learning_rate = learning_rate.parse().map_err(|_| wrong)?;
        let kind = kind.parse().map_err(|_| wrong)?;
        Ok(Self(Some(WarmupOfLength { length, learning_rate, kind })))
    }
}

/// Size and length of a start on small crops.
#[derive(Debug, Clone, Copy)]
struct SmallCropsChoice(Option<(usize, Length)>);

impl FromStr for SmallCropsChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write SIZE:LENGTH, such as 24:60% or 24:12epochs, or none";
        if text == "none" {
            return Ok(Self(None));
        }
        let (size, length) = text.split_once(':').ok_or(wrong)?;
        let size = size.trim().parse().map_err(|_| wrong)?;
        Ok(Self(Some((size, length.parse().map_err(|_| wrong)?))))
    }
}
