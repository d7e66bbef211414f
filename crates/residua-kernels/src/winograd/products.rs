//! Matrix products of transformed tiles, frequency by frequency.

use std::ops::Range;

use super::{BLOCK, FEW_TILES, FREQUENCY, TILES};
use crate::product::{Ahead, FEW_ROWS, Nothing, ROWS, SQUARE, few_rows, outer_pair, product_pair};
use crate::transform::FREQUENCIES;
use crate::vector::{LANES, Vector};
use crate::view::{Lines, View, ViewMut};

/// Two maps, cut into as many steps of some lines as there are products.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) maps: [Lines; 2],
    pub(super) steps: [usize; 2],
}

impl Spread {
    /// What the products from the `product`-th on ask for.
    #[inline(always)]
    pub(super) fn from(self, product: usize) -> Self {
        let ([left, right], [left_step, right_step]) = (self.maps, self.steps);
        Self { maps: [left.skip(product * left_step), right.skip(product * right_step)], ..self }
    }

    /// What the next product asks for: its own step and, lines being as many as there are, some of the next.
    #[inline(always)]
    fn now(self) -> Ahead {
        Ahead { long: Lines::NONE, short: self.maps }
    }
}

/// Tiles in sixteens, numbered.
#[inline(always)]
pub(super) fn in_groups(tiles: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let Range { start, end } = tiles;
    (0..(end - start).div_ceil(TILES)).map(move |group| {
        let first = start + group * TILES;
        (group, first..end.min(first + TILES))
    })
}

/// Transformed tiles: sixteens of them with so many blocks of channels.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) values: View<'a>,
    pub(super) depth: usize,
    /// How many there are.
    pub(super) count: usize,
}

/// Where products go: of as many sixteens of tiles so many blocks of outputs.
#[derive(Clone, Copy)]
pub(super) struct Results<'a> {
    pub(super) values: ViewMut<'a>,
    pub(super) blocks: usize,
}

/// For every frequency the products of tiles with the `own` blocks of transformed weights, of which there are `output_blocks`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn products<V: Vector>(
    tiles: Tiles,
    weights: View,
    output_blocks: usize,
    own: Range<usize>,
    results: Results,
    mut ahead: Spread,
) {
    for frequency in 0..FREQUENCIES {
        // SAFETY: frequencies and blocks are of weights and results, as the caller promises.
        unsafe {
            let weights = weights.from((frequency * output_blocks + own.start) * tiles.depth * SQUARE);
            of_frequency::<V>(frequency, tiles, weights, 0..own.len(), results, &mut ahead);
        }
    }
}

/// At one frequency the products of tiles with `blocks` of the results, whose weights follow each other. Of few tiles four rows at a time: the
/// same sums in the same order.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn of_frequency<V: Vector>(
    frequency: usize,
    tiles: Tiles,
    weights: View,
    blocks: Range<usize>,
    results: Results,
    ahead: &mut Spread,
) {
    // SAFETY: as the caller promises.
    unsafe {
        if tiles.count <= FEW_TILES {
            few::<V>(frequency, tiles, weights, blocks, results);
        } else {
            many::<V>(frequency, tiles, weights, blocks, results, ahead);
        }
    }
}

#[inline(always)]
unsafe fn many<V: Vector>(
    frequency: usize,
    Tiles { values, depth, count }: Tiles,
    weights: View,
    blocks: Range<usize>,
    results: Results,
    ahead: &mut Spread,
) {
    let groups = count.div_ceil(TILES);
    let mut block = blocks.start;
    // SAFETY: groups, blocks and frequencies are of tiles, weights and results, as the caller promises.
    unsafe {
        let a = |group: usize| (values.from(group * depth * BLOCK + frequency * FREQUENCY), BLOCK);
        let weights = |block: usize| weights.from((block - blocks.start) * depth * SQUARE);
        let to = |group: usize, block: usize| {
            results.values.from((group * results.blocks + block) * BLOCK + frequency * FREQUENCY)
        };
        while block + 2 <= blocks.end {
            let b = [weights(block), weights(block + 1)];
            for group in 0..groups {
                let to = [to(group, block), to(group, block + 1)];
                product_pair::<V>(a(group), depth, b, ahead.now(), to);
                *ahead = ahead.from(2);
            }
            block += 2;
        }
        if block < blocks.end {
            for group in 0..groups {
                let to = to(group, block);
                V::product(a(group), ROWS, depth, weights(block), ahead.now(), &mut Nothing, to);
                *ahead = ahead.from(1);
            }
        }
    }
}

#[inline(always)]
unsafe fn few<V: Vector>(
    frequency: usize,
    Tiles { values, depth, count }: Tiles,
    weights: View,
    blocks: Range<usize>,
    results: Results,
) {
    for row in (0..count).step_by(FEW_ROWS) {
        // SAFETY: blocks and frequencies are of tiles, weights and results, as the caller promises.
        unsafe {
            let at = frequency * FREQUENCY + row * LANES;
            let (a, to) = (values.from(at), results.values.from(blocks.start * BLOCK + at));
            let mut block = 0;
            let from = |block: usize| (weights.from(block * depth * SQUARE), to.from(block * BLOCK));
            if V::HAS_MANY_REGISTERS {
                while block + 4 <= blocks.len() {
                    let (weights, to) = from(block);
                    few_rows::<V, 4>((a, BLOCK), depth, weights, (to, BLOCK));
                    block += 4;
                }
                if block + 2 <= blocks.len() {
                    let (weights, to) = from(block);
                    few_rows::<V, 2>((a, BLOCK), depth, weights, (to, BLOCK));
                    block += 2;
                }
            }
            // A second block's accumulators would have no registers elsewhere.
            while block < blocks.len() {
                let (weights, to) = from(block);
                few_rows::<V, 1>((a, BLOCK), depth, weights, (to, BLOCK));
                block += 1;
            }
        }
    }
}

/// For every frequency the outer products of `count` tiles of the input and of the gradient, added to `sum`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn outers<V: Vector>(
    (tiles, input_blocks): (View, usize),
    (gradients, output_blocks): (View, usize),
    count: usize,
    (sum, is_first): (ViewMut, bool),
    mut ahead: Spread,
) {
    for frequency in 0..FREQUENCIES {
        for input in 0..input_blocks {
            let mut output = 0;
            // SAFETY: groups, blocks and frequencies are of tiles, weights and results, as the caller promises.
            unsafe {
                let a =
                    |group: usize| tiles.from((group * input_blocks + input) * BLOCK + frequency * FREQUENCY);
                let g = |group: usize, output: usize| {
                    gradients.from((group * output_blocks + output) * BLOCK + frequency * FREQUENCY)
                };
                let to = |output: usize| {
                    sum.from(((frequency * input_blocks + input) * output_blocks + output) * SQUARE)
                };
                while output < output_blocks {
                    let together = if output + 2 <= output_blocks { 2 } else { 1 };
                    for (group, tiles) in in_groups(0..count) {
                        for (map, step) in ahead.maps.into_iter().zip(ahead.steps) {
                            for line in 0..together * step {
                                map.prefetch::<V>(line);
                            }
                        }
                        ahead = ahead.from(together);
                        let (a, is_first) = (a(group), is_first && group == 0);
                        if together == 2 {
                            let g = [g(group, output), g(group, output + 1)];
                            outer_pair::<V>(a, g, tiles.len(), [to(output), to(output + 1)], is_first);
                        } else {
                            V::outer(a, g(group, output), tiles.len(), to(output), is_first);
                        }
                    }
                    output += together;
                }
            }
        }
    }
}
