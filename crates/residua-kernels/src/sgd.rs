//! Stochastic gradient descent with momentum, in PyTorch's order of operations.

use rayon::prelude::*;

use crate::instructions::{Instructions, Task};
use crate::vector::{LANES, Vector};
use crate::view::{View, ViewMut};

/// A step's constants: `d = g + weight_decay * w`, `v = momentum * v + d`, `w = w - learning_rate * v` (with Nesterov's
/// momentum: `w - learning_rate * (d + momentum * v)`), every operation rounded to f32. At a tensor's first step `v = d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Factor of the step.
    pub learning_rate: f64,
    /// Factor of the momentum; where it is zero there is no momentum buffer.
    pub momentum: f64,
    /// Factor of the weights' own gradient.
    pub weight_decay: f64,
    /// Whether the momentum is Nesterov's.
    pub is_nesterov: bool,
}

/// A tensor and what belongs to it, all of one length.
#[derive(Debug)]
pub struct TrainedTensor<'a> {
    /// `w`
    pub weight: &'a mut [f32],
    /// `g`
    pub gradient: &'a [f32],
    /// `v`; not used, and perhaps empty, where there is no momentum.
    pub momentum: &'a mut [f32],
    /// Whether this is its first step: then what `momentum` holds does not matter.
    pub is_first: bool,
    /// Whether its weights decay.
    pub decays: bool,
}

/// Numbers that a thread updates at a time: the arrays of it fit in the caches next to the core.
const PIECE: usize = 1 << 14;

impl Sgd {
    /// A step of all tensors, in parallel.
    ///
    /// # Panics
    /// When the lengths of a tensor's slices are not the same.
    pub fn step(&self, tensors: &mut [TrainedTensor], instructions: Instructions) {
        let has_momentum = self.momentum != 0.;
        tensors.par_iter_mut().for_each(|tensor| {
            let length = tensor.weight.len();
            assert_eq!(tensor.gradient.len(), length, "gradient");
            assert!(!has_momentum || tensor.momentum.len() == length, "momentum buffer");
            // Disjoint: a task reads and writes its piece of the tensor, and pieces do not overlap.
            let (weight, momentum) = (ViewMut::new(tensor.weight), ViewMut::new(tensor.momentum));
            let gradient = View::new(tensor.gradient);
            (0..length.div_ceil(PIECE)).into_par_iter().for_each(|piece| {
                let first = piece * PIECE;
                instructions.run(Update {
                    weight,
                    gradient,
                    momentum,
                    piece: first..(first + PIECE).min(length),
                    sgd: *self,
                    decays: tensor.decays && self.weight_decay != 0.,
                    has_momentum,
                    is_first: tensor.is_first,
                });
            });
        });
    }
}

struct Update<'a> {
    weight: ViewMut<'a>,
    gradient: View<'a>,
    momentum: ViewMut<'a>,
    piece: std::ops::Range<usize>,
    sgd: Sgd,
    decays: bool,
    has_momentum: bool,
    is_first: bool,
}

impl Task for Update<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let std::ops::Range { start, end } = self.piece;
        let whole = start + (end - start) / LANES * LANES;
        // SAFETY: `step` has checked lengths, and the piece is of the tensor and this task's alone.
        unsafe {
            let mut at = start;
            while at < whole {
                self.update::<V>(at, LANES);
                at += LANES;
            }
            if whole < end {
                self.update::<V>(whole, end - whole);
            }
        }
    }
}

impl Update<'_> {
    // No fused multiply-adds: they would round once where the formula, operation by operation, rounds twice.
    #[inline(always)]
    unsafe fn update<V: Vector>(&self, at: usize, count: usize) {
        // SAFETY: `step` has checked lengths, and the piece is of the tensor and this task's alone.
        unsafe {
            let factor = |value: f64| V::splat(value as f32);
            let weight = self.weight.read().load_first::<V>(at, count);
            let mut direction = self.gradient.load_first::<V>(at, count);
            if self.decays {
                direction = direction.add(weight.mul(factor(self.sgd.weight_decay)));
            }
            if self.has_momentum {
                let velocity = if self.is_first {
                    direction
                } else {
                    let before = self.momentum.read().load_first::<V>(at, count);
                    before.mul(factor(self.sgd.momentum)).add(direction)
                };
                self.momentum.store_first(at, count, velocity);
                direction = if self.sgd.is_nesterov {
                    direction.add(velocity.mul(factor(self.sgd.momentum)))
                } else {
                    velocity
                };
            }
            let weight = weight.sub(direction.mul(factor(self.sgd.learning_rate)));
            self.weight.store_first(at, count, weight);
        }
    }
}
