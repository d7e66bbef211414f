//! Products with kernels that are transformed while they are multiplied with.
//!
//! ```text
//! for two blocks of outputs:
//!     for each of six rows of frequencies:
//!         transform the kernels of these outputs: a share that stays in the cache next to a core
//!         for each of the row's frequencies: a matrix product over channels
//! ```

use std::ops::Range;

use super::products::{Results, Spread, Tiles, of_frequency};
use super::{BLOCK, FEW_TILES, FREQUENCY};
use crate::product::{FEW_ROWS, SQUARE};
use crate::transform::{self, INPUT};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapView, View, ViewMut};

/// Numbers of a kernel.
const TAPS: usize = 9;
/// Lines of the next block's kernels, of nine each, that are asked for with each row of frequencies: a core waits for few at a time, so it asks
/// for them evenly.
const AHEAD: [usize; INPUT] = [1, 2, 1, 2, 1, 2];
/// Blocks of outputs that are transformed together.
const TOGETHER: usize = 2;

/// Numbers of the kernels of a block of outputs.
pub(crate) fn len(inputs: usize) -> usize {
    inputs.next_multiple_of(LANES) * TAPS * LANES
}

fn of_block(depth: usize) -> usize {
    len(depth * LANES)
}

/// Numbers of what is transformed at a time, with `depth` blocks of inputs.
pub(super) fn transformed_len(depth: usize) -> usize {
    INPUT * pitch(depth)
}

/// Numbers from a frequency to the next: a line more than there are, since powers of two would fall into the same few cache sets.
fn pitch(depth: usize) -> usize {
    TOGETHER * depth * SQUARE + LANES
}

/// A block of outputs of weights `[outputs, inputs, 3, 3]`, with zeros for inputs and outputs that there are not.
pub(crate) fn pack(weights: &[f32], inputs: usize, block: usize, to: &mut [f32]) {
    to.fill(0.);
    let of_outputs = weights.chunks_exact(inputs * TAPS).skip(block * LANES).take(LANES);
    for (output, weights) in of_outputs.enumerate() {
        for (to, &weight) in to.chunks_exact_mut(LANES).zip(weights) {
            to[output] = weight;
        }
    }
}

/// The same of the flipped weights, whose outputs are the inputs: those of the data gradient.
pub(crate) fn pack_flipped(weights: &[f32], inputs: usize, block: usize, to: &mut [f32]) {
    to.fill(0.);
    let own = block * LANES..inputs.min((block + 1) * LANES);
    for (weights, to) in weights.chunks_exact(inputs * TAPS).zip(to.chunks_exact_mut(TAPS * LANES)) {
        let kernels = weights[own.start * TAPS..own.end * TAPS].chunks_exact(TAPS);
        for (lane, kernel) in kernels.enumerate() {
            for (to, &weight) in to.chunks_exact_mut(LANES).rev().zip(kernel) {
                to[lane] = weight;
            }
        }
    }
}

/// For every frequency the products of tiles with the `own` blocks of kernels.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn products<V: Vector>(
    tiles: Tiles,
    kernels: View,
    transformed: ViewMut,
    own: Range<usize>,
    results: Results,
    ahead: Spread,
) {
    // SAFETY: as the caller promises.
    unsafe {
        if V::HAS_MANY_REGISTERS && tiles.count <= FEW_TILES {
            of_few_tiles::<V>(tiles, kernels, own, results.values);
        } else {
            of_many_tiles::<V>(tiles, kernels, transformed, own, results, ahead);
        }
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn of_many_tiles<V: Vector>(
    tiles: Tiles,
    kernels: View,
    transformed: ViewMut,
    own: Range<usize>,
    results: Results,
    mut ahead: Spread,
) {
    let depth = tiles.depth;
    for block in own.clone().step_by(TOGETHER) {
        let blocks = block..own.end.min(block + TOGETHER);
        let place = block - own.start..blocks.end - own.start;
        for row in 0..INPUT {
            // SAFETY: blocks are of kernels and results, `transformed` has places for a row of frequencies, as the caller promises.
            unsafe {
                for (at, block) in blocks.clone().enumerate() {
                    let from = kernels.from(block * of_block(depth));
                    let to = transformed.from(at * depth * SQUARE);
                    match row {
                        0 => transform_row::<V, 0>(from, depth, to),
                        1 => transform_row::<V, 1>(from, depth, to),
                        2 => transform_row::<V, 2>(from, depth, to),
                        3 => transform_row::<V, 3>(from, depth, to),
                        4 => transform_row::<V, 4>(from, depth, to),
                        _ => transform_row::<V, 5>(from, depth, to),
                    }
                }
                for column in 0..INPUT {
                    let (frequency, weights) =
                        (row * INPUT + column, transformed.from(column * pitch(depth)));
                    of_frequency::<V>(frequency, tiles, weights.read(), place.clone(), results, &mut ahead);
                }
            }
        }
    }
}

/// A row of frequencies of a block of kernels.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn transform_row<V: Vector, const ROW: usize>(kernels: View, depth: usize, to: ViewMut) {
    for input in 0..depth * LANES {
        // SAFETY: the block has so many inputs, and `to` places for six frequencies of them, as the caller promises.
        unsafe {
            let values = transform::row_of_weights::<V, ROW>(kernel(kernels, input));
            for (column, value) in values.into_iter().enumerate() {
                to.store(column * pitch(depth) + input * LANES, value);
            }
        }
    }
}

/// The kernels of a block of outputs, `[input][3][3][LANES]`: those of an input.
#[inline(always)]
pub(super) unsafe fn kernel<V: Vector>(kernels: View, input: usize) -> [[V; 3]; 3] {
    // SAFETY: the block has the input, as the caller promises.
    unsafe {
        let tap = |row: usize, column: usize| kernels.load::<V>(((input * 3 + row) * 3 + column) * LANES);
        [
            [tap(0, 0), tap(0, 1), tap(0, 2)],
            [tap(1, 0), tap(1, 1), tap(1, 2)],
            [tap(2, 0), tap(2, 1), tap(2, 2)],
        ]
    }
}

/// By four tiles at a time, kernels are transformed in registers and nothing of that is stored. The sums are the same, in the same order.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn of_few_tiles<V: Vector>(
    Tiles { values, depth, count }: Tiles,
    kernels: View,
    own: Range<usize>,
    results: ViewMut,
) {
    for block in own.clone() {
        for tile in (0..count).step_by(FEW_ROWS) {
            // SAFETY: blocks and tiles are of kernels, tiles and results, as the caller promises.
            unsafe {
                let from = (values.from(tile * LANES), depth);
                let to = results.from((block - own.start) * BLOCK + tile * LANES);
                let next = MapView::<true>::from(kernels).lines((block + 1) * of_block(depth));
                let next = |row: usize| next.skip(AHEAD[..row].iter().sum::<usize>() * depth * LANES);
                let kernels = kernels.from(block * of_block(depth));
                row_of_few_tiles::<V, 0>(from, kernels, next(0), to);
                row_of_few_tiles::<V, 1>(from, kernels, next(1), to);
                row_of_few_tiles::<V, 2>(from, kernels, next(2), to);
                row_of_few_tiles::<V, 3>(from, kernels, next(3), to);
                row_of_few_tiles::<V, 4>(from, kernels, next(4), to);
                row_of_few_tiles::<V, 5>(from, kernels, next(5), to);
            }
        }
    }
}

/// A row of frequencies of four tiles. Meanwhile it asks for kernels that come next.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn row_of_few_tiles<V: Vector, const ROW: usize>(
    (tiles, depth): (View, usize),
    kernels: View,
    next: Lines,
    to: ViewMut,
) {
    // SAFETY: tiles and kernels have so many blocks, and results places for four tiles, as the caller promises.
    unsafe {
        let mut sums = [[V::zero(); FEW_ROWS]; INPUT];
        for block in 0..depth {
            let tiles = tiles.from(block * BLOCK);
            for lane in 0..LANES {
                let input = block * LANES + lane;
                for line in 0..AHEAD[ROW] {
                    next.prefetch::<V>(input * AHEAD[ROW] + line);
                }
                let values = transform::row_of_weights::<V, ROW>(kernel(kernels, input));
                for (column, (value, sums)) in values.into_iter().zip(&mut sums).enumerate() {
                    let at = (ROW * INPUT + column) * FREQUENCY + lane;
                    for (tile, sum) in sums.iter_mut().enumerate() {
                        *sum = V::splat(tiles.get(at + tile * LANES)).mul_add(value, *sum);
                    }
                }
            }
        }
        for (column, sums) in sums.into_iter().enumerate() {
            for (tile, sum) in sums.into_iter().enumerate() {
                to.store((ROW * INPUT + column) * FREQUENCY + tile * LANES, sum);
            }
        }
    }
}
