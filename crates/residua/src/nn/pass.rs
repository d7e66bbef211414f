//! One run of a network over a batch: training or evaluation, said explicitly.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::memory::Memory;
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
    masks: Masks,
    /// Images of the same step that other passes take, in front of these.
    images_before: usize,
    units_passed: u64,
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

#[derive(Debug, Clone)]
enum Masks {
    Counted { seed: u64, iteration: u64 },
    Given(Vec<Tensor<4>>),
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
            masks: Masks::Counted { seed, iteration },
            images_before: 0,
            units_passed: 0,
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

    /// Uses these dropout masks of zeros and ones, one for each unit in order, `[batch, height, width, channels]`.
    pub fn with_masks(self, masks: Vec<Tensor<4>>) -> Self {
        Self { masks: Masks::Given(masks), ..self }
    }

    /// For images of a step behind these many that other passes take: dropout masks are as in one pass over all.
    pub fn behind(self, images: usize) -> Self {
        Self { images_before: images, ..self }
    }

    /// Keeps a [`UnitTrace`] of every unit; the branch and the addition then run apart.
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
        match &self.masks {
            Masks::Counted { .. } => None,
            Masks::Given(masks) => Some(masks.len()),
        }
    }

    /// The mask of the present unit's shortcut: one with probability `keep`, else zero.
    pub(super) fn mask(&self, shape: [usize; 4], keep: f64, device: &Device) -> Tensor<4> {
        match &self.masks {
            Masks::Given(masks) => {
                let mask = masks[self.units_passed as usize - 1].clone();
                mask.narrow(0, self.images_before, shape[0])
            }
            Masks::Counted { seed, iteration } => {
                let mut random = ChaCha8Rng::seed_from_u64(*seed);
                // Units are far fewer than 2^20, iterations than 2^43; the top bit keeps clear of other streams.
                random.set_stream(1 << 63 | *iteration << 20 | self.units_passed);
                let before = self.images_before * shape[1..].iter().product::<usize>();
                random.set_word_pos(before as u128);
                let bound = (keep * 2f64.powi(32)) as u64;
                let mask = (0..shape.iter().product::<usize>())
                    .map(|_| if u64::from(random.next_u32()) < bound { 1f32 } else { 0. })
                    .collect::<Vec<_>>();
                Tensor::from_data(TensorData::new(mask, shape), device)
            }
        }
    }
}
