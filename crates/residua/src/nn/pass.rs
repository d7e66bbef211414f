//! One run of a network over a batch: training or evaluation, said explicitly.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::memory::Memory;
use crate::cluster::Cluster;
use crate::ops::Engine;
use residua_infer::Precision;

/// One run of a [`ResNet`](super::ResNet) over a batch.
///
/// A training pass normalises with the batch's own statistics, draws dropout masks, and gathers the new running
/// statistics, which take effect when the network [absorbs](super::ResNet::absorb) the pass. An evaluation pass
/// uses the running statistics and changes nothing.
#[derive(Debug, Clone)]
pub struct Pass {
    is_training: bool,
    engine: Engine,
    memory: Memory,
    /// Whether products are of f32, whatever the network's precision is.
    is_in_f32: bool,
    /// What the network that runs multiplies in.
    pub(super) precision: Precision,
    seed: u64,
    iteration: u64,
    /// Dropout masks that are given, not drawn.
    masks: Option<Vec<Tensor<4>>>,
    /// Images of the same step that other passes take, in front of these.
    images_before: usize,
    /// The probability that the last unit's branch is dropped.
    stochastic_depth: Option<f64>,
    /// The probability that a feature is dropped.
    dropout: Option<f64>,
    /// The probability that a value between the convolutions of a unit is dropped.
    unit_dropout: Option<f64>,
    statistics: Statistics,
    units_passed: u64,
    /// Units of the network that runs.
    pub(super) units: u64,
    traces: Option<Vec<UnitTrace>>,
    pub(super) running_statistics: HashMap<ParamId, Tensor<1>>,
}

/// What one unit computed, each `[batch, height, width, channels]`.
#[derive(Debug, Clone)]
pub struct UnitTrace {
    /// `x_l`, the unit's input.
    pub input: Tensor<4>,
    /// What the shortcut carries, before it is scaled, gated or dropped: `x_l`, or what dimensions change it to.
    pub signal: Tensor<4>,
    /// What that is multiplied by, element by element; none where it is carried as it is.
    pub attenuation: Option<Tensor<4>>,
    /// What the shortcut contributes to the addition: `signal * attenuation`.
    pub shortcut: Tensor<4>,
    /// `F(x_l)`, the branch's own output as it enters the addition.
    pub residual: Tensor<4>,
    /// `x_{l+1}`, the unit's output.
    pub output: Tensor<4>,
}

/// Whose images a training pass normalises with.
#[derive(Debug, Clone)]
pub(super) enum Statistics {
    /// Its own.
    Own,
    /// Those of all ranks together.
    Shared(Cluster),
}

/// What becomes of a unit's branch in a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Branch {
    /// It is computed and added as it is.
    Whole,
    /// It is computed, and multiplied by this before it is added.
    Scaled(f64),
    /// It is not computed: zero is added.
    Dropped,
}

impl Pass {
    /// A training pass. Dropout masks are a function of `seed`, `iteration`, the unit and the element alone, so a
    /// pass can be repeated exactly.
    pub fn train(seed: u64, iteration: u64) -> Self {
        Self {
            is_training: true,
            engine: Engine::default(),
            memory: Memory::default(),
            is_in_f32: false,
            precision: Precision::default(),
            seed,
            iteration,
            masks: None,
            images_before: 0,
            stochastic_depth: None,
            dropout: None,
            unit_dropout: None,
            statistics: Statistics::Own,
            units_passed: 0,
            units: 0,
            traces: None,
            running_statistics: HashMap::new(),
        }
    }

    /// An evaluation pass.
    pub fn evaluate() -> Self {
        Self { is_training: false, ..Self::train(0, 0) }
    }

    /// Runs the operations by `engine`.
    pub fn with_engine(self, engine: Engine) -> Self {
        Self { engine, ..self }
    }

    /// What a training step keeps of this pass for its backward pass; the results are the same to the bit.
    pub fn with_memory(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// Multiplies in f32, whatever the network's [`Precision`] is: it is measured, not trained.
    pub fn in_f32(self) -> Self {
        Self { is_in_f32: true, ..self }
    }

    /// What a network of this precision multiplies in.
    pub(super) fn precision_of(&self, precision: Precision) -> Precision {
        if self.is_training && !self.is_in_f32 { precision } else { Precision::F32 }
    }

    /// What the units of the network that runs multiply in: a precision is one of training.
    pub(super) fn precision_of_units(&self) -> Precision {
        if self.is_training { self.precision } else { Precision::F32 }
    }

    /// Uses these dropout masks of zeros and ones, one for each unit in order, `[batch, height, width, channels]`.
    pub fn with_masks(self, masks: Vec<Tensor<4>>) -> Self {
        Self { masks: Some(masks), ..self }
    }

    /// For images of a step behind these many that other passes take: what is dropped is as in one pass over all.
    pub fn behind(self, images: usize) -> Self {
        Self { images_before: images, ..self }
    }

    /// Drops units' branches in training, by Huang et al., *Deep Networks with Stochastic Depth* (2016): that of unit l of L is there
    /// with probability `p_l = 1 - l / L * probability`, and is divided by `p_l` then, so that evaluation is the same with and
    /// without. One draw for each unit and pass, a function of seed, iteration and unit alone. A branch that is dropped is not computed,
    /// its parameters have no gradient, and its running statistics stay. `probability` is at least 0 and below 1.
    ///
    /// Networks whose shortcuts are scaled, gated or dropped refuse it.
    pub fn with_stochastic_depth(self, probability: f64) -> Self {
        Self { stochastic_depth: Some(probability).filter(|probability| *probability > 0.), ..self }
    }

    /// Drops what the classifier reads in training (Srivastava et al., *Dropout*, 2014): each feature of each image is zero with this
    /// probability, and else divided by the probability that it is not, so that evaluation is the same with and without. What is
    /// dropped is a function of seed, iteration and element alone. `probability` is at least 0 and below 1.
    pub fn with_dropout(self, probability: f64) -> Self {
        Self { dropout: Some(probability).filter(|probability| *probability > 0.), ..self }
    }

    /// Drops values between the convolutions of units in training (Zagoruyko and Komodakis, *Wide Residual Networks*, 2016, section
    /// 2.4): each value that a unit's last convolution reads, behind BN and ReLU, is zero with this probability, and else divided by
    /// the probability that it is not. What is dropped is a function of seed, iteration, unit and element alone. `probability` is at
    /// least 0 and below 1.
    ///
    /// Networks of units of a single convolution refuse it.
    pub fn with_unit_dropout(self, probability: f64) -> Self {
        Self { unit_dropout: Some(probability).filter(|probability| *probability > 0.), ..self }
    }

    /// Normalises with the statistics of all ranks' images, of which each rank has as many, instead of its own; all ranks pass at once.
    /// The engine is [`Engine::Composed`] then, and the network's statistics are not of groups.
    pub fn with_shared_statistics(self, cluster: Cluster) -> Self {
        Self { engine: Engine::Composed, statistics: Statistics::Shared(cluster), ..self }
    }

    /// Keeps a [`UnitTrace`] of every unit, those without a branch left out; the branch and the addition then run apart.
    pub fn with_traces(self) -> Self {
        Self { traces: Some(Vec::new()), ..self }
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        self.is_training
    }

    /// The engine that runs the operations.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// What a training step keeps of this pass.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The traces of the units passed, if they are kept.
    pub fn traces(&self) -> &[UnitTrace] {
        self.traces.as_deref().unwrap_or_default()
    }

    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub(super) fn keeps_traces(&self) -> bool {
        self.traces.is_some()
    }

    pub(super) fn trace(&mut self, trace: UnitTrace) {
        if let Some(traces) = &mut self.traces {
            traces.push(trace);
        }
    }

    /// Does something as an evaluation pass would do it.
    pub(super) fn evaluating<T>(&mut self, forward: impl FnOnce(&mut Self) -> T) -> T {
        let is_training = std::mem::replace(&mut self.is_training, false);
        let result = forward(self);
        self.is_training = is_training;
        result
    }

    /// The next unit is the one after the first `units` of the network.
    pub(super) fn pass_over(&mut self, units: usize) {
        self.units_passed = units as u64;
    }

    pub(super) fn begin_unit(&mut self) {
        self.units_passed += 1;
    }

    /// Masks that were given, or `None` if they are drawn.
    pub(super) fn given_masks(&self) -> Option<usize> {
        self.masks.as_ref().map(Vec::len)
    }

    /// Whether branches may be dropped.
    pub(super) fn drops_branches(&self) -> bool {
        self.is_training && self.stochastic_depth.is_some()
    }

    /// Whether values between the convolutions of units are dropped.
    pub(crate) fn drops_in_units(&self) -> bool {
        self.is_training && self.unit_dropout.is_some()
    }

    /// What becomes of the present unit's branch.
    pub(super) fn branch(&self) -> Branch {
        let Some(probability) = self.stochastic_depth.filter(|_| self.is_training) else {
            return Branch::Whole;
        };
        let survival = 1. - self.units_passed as f64 / self.units as f64 * probability;
        match is_kept(&mut self.random(self.units_passed), survival) {
            true => Branch::Scaled(1. / survival),
            false => Branch::Dropped,
        }
    }

    /// What features are multiplied by, if some are dropped.
    pub(super) fn of_features(&self, shape: [usize; 2], device: &Device) -> Option<Tensor<2>> {
        let keep = 1. - self.dropout.filter(|_| self.is_training)?;
        Some(self.dropped(BEHIND_UNITS, shape, keep, (1. / keep) as f32, device))
    }

    /// What the values in front of the present unit's last convolution are multiplied by, if some are dropped.
    pub(super) fn of_unit(&self, shape: [usize; 4], device: &Device) -> Option<Tensor<4>> {
        let keep = 1. - self.unit_dropout.filter(|_| self.is_training)?;
        Some(self.dropped(self.units_passed + INSIDE_UNITS, shape, keep, (1. / keep) as f32, device))
    }

    /// What is drawn for a unit, counted from 1.
    fn random(&self, unit: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // Units are far fewer than 2^19, iterations than 2^43; the top bit keeps clear of other streams.
        random.set_stream(1 << 63 | self.iteration << 20 | unit);
        random
    }

    /// The mask of the present unit's shortcut: one with probability `keep`, else zero.
    pub(super) fn mask(&self, shape: [usize; 4], keep: f64, device: &Device) -> Tensor<4> {
        if let Some(masks) = &self.masks {
            let mask = masks[self.units_passed as usize - 1].clone();
            return mask.narrow(0, self.images_before, shape[0]);
        }
        self.dropped(self.units_passed, shape, keep, 1., device)
    }

    /// Elements of a batch, the first axis its images: `kept` with probability `keep`, else zero, as drawn for a unit.
    fn dropped<const D: usize>(
        &self,
        unit: u64,
        shape: [usize; D],
        keep: f64,
        kept: f32,
        device: &Device,
    ) -> Tensor<D> {
        let random = self.random(unit);
        let before = self.images_before * shape[1..].iter().product::<usize>();
        let mut elements = vec![0f32; shape.iter().product()];
        // Every element has a word of the stream, so pieces can begin anywhere.
        elements.par_chunks_mut(PIECE).enumerate().for_each(|(piece, elements)| {
            let mut random = random.clone();
            random.set_word_pos((before + piece * PIECE) as u128);
            elements
                .iter_mut()
                .for_each(|element| *element = if is_kept(&mut random, keep) { kept } else { 0. });
        });
        Tensor::from_data(TensorData::new(elements, shape), device)
    }
}

/// The number, as one of a unit, of what is behind the units.
const BEHIND_UNITS: u64 = 0;

/// What is added to a unit's number for what is inside it; that number itself is for the unit's paths.
const INSIDE_UNITS: u64 = 1 << 19;

/// Elements of a mask that a thread draws at a time.
const PIECE: usize = 1 << 14;

/// One draw, true with this probability.
fn is_kept(random: &mut ChaCha8Rng, probability: f64) -> bool {
    u64::from(random.next_u32()) < (probability * 2f64.powi(32)) as u64
}
