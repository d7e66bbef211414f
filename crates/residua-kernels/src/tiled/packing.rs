//! Weights of a convolution as tiles of them are read: pairs of bfloat16, of sixteen outputs side by side.

use rayon::prelude::*;

use super::Tiled;
use crate::instructions::{Instructions, Task};
use crate::scratch::Scratch;
use crate::vector::{LANES, Vector};
use crate::view::{View, ViewMut};

impl Tiled {
    /// Weights `[outputs, inputs, size, size]` as `[output block][kernel row][pair of a run][LANES][2]`.
    pub(crate) fn pack(self, weights: &[f32], instructions: Instructions, to: &mut [f32]) {
        self.pack_blocks(weights, false, instructions, to);
    }

    /// Of the convolution that this is [`transposed`](Self::transposed) of: its weights `[inputs, outputs, size, size]` from the other
    /// side.
    pub(crate) fn pack_flipped(self, weights: &[f32], instructions: Instructions, to: &mut [f32]) {
        self.pack_blocks(weights, true, instructions, to);
    }

    fn pack_blocks(self, weights: &[f32], is_flipped: bool, instructions: Instructions, to: &mut [f32]) {
        assert_eq!(
            weights.len(),
            self.input.channels * self.size * self.size * self.output.channels,
            "weights"
        );
        let weights = View::new(weights);
        to.par_chunks_mut(self.block_len()).enumerate().for_each(|(block, to)| {
            instructions.run(Pack { tiled: self, weights, is_flipped, block, to: ViewMut::new(to) });
        });
    }
}

/// A block of outputs.
struct Pack<'a> {
    tiled: Tiled,
    weights: View<'a>,
    /// Whether weights are `[inputs, outputs, size, size]`, each kernel from its end.
    is_flipped: bool,
    block: usize,
    to: ViewMut<'a>,
}

impl Task for Pack<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { tiled, to, is_flipped, .. } = self;
        let (inputs, taps) = (tiled.input.channels, tiled.size * tiled.size);
        let mut scratch = Scratch::take();
        let [block] = scratch.pieces([inputs * taps * LANES]);
        let block = ViewMut::new(block);
        // SAFETY: weights have the length that was checked; the block's memory has a place for each of its elements, and `to` for
        // each pair.
        unsafe {
            self.transpose::<V>(block);
            // The vector of an element of a run, or zeros behind it.
            let of = |row: usize, element: usize| {
                if element >= tiled.run() {
                    return V::zero();
                }
                let (column, input) = (element / inputs, element % inputs);
                let tap = row * tiled.size + column;
                let tap = if is_flipped { taps - 1 - tap } else { tap };
                block.read().load::<V>((input * taps + tap) * LANES)
            };
            for row in 0..tiled.size {
                for pair in 0..tiled.slots() {
                    let at = (row * tiled.slots() + pair) * LANES;
                    to.store(at, V::pair(of(row, 2 * pair), of(row, 2 * pair + 1)));
                }
            }
        }
    }
}

impl Pack<'_> {
    /// The block's weights as `[input][tap][LANES]`, zero for outputs that there are none of.
    #[inline(always)]
    unsafe fn transpose<V: Vector>(&self, to: ViewMut) {
        let Self { tiled, weights, is_flipped, block, .. } = *self;
        let (inputs, outputs, taps) = (tiled.input.channels, tiled.output.channels, tiled.size * tiled.size);
        let first = block * LANES;
        let own = LANES.min(outputs - first);
        // Lines of consecutive weights, each of all outputs of the block, and how far apart those are.
        let (lines, line, apart) =
            if is_flipped { (inputs, taps, taps) } else { (1, inputs * taps, inputs * taps) };
        for index in 0..lines {
            let from = if is_flipped { (index * outputs + first) * taps } else { first * line };
            // SAFETY: outputs are of the block, and what is loaded of a line is.
            unsafe {
                if apart == 1 {
                    to.store(index * LANES, weights.load_first::<V>(from, own));
                    continue;
                }
                for at in (0..line).step_by(LANES) {
                    let count = LANES.min(line - at);
                    let mut rows = [V::zero(); LANES];
                    for (output, row) in rows.iter_mut().enumerate().take(own) {
                        *row = weights.load_first(from + output * apart + at, count);
                    }
                    for (element, vector) in V::transpose(rows).into_iter().enumerate().take(count) {
                        to.store((index * line + at + element) * LANES, vector);
                    }
                }
            }
        }
    }
}
