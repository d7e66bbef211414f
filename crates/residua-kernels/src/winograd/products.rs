//! Matrix products of transformed tiles, frequency by frequency.

use std::ops::Range;

use super::{BLOCK, FREQUENCY, TILES};
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

/// For every frequency the product of `groups` sixteens of tiles with the weights.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn products<V: Vector>(
    (tiles, depth): (View, usize),
    groups: usize,
    weights: View,
    (results, output_blocks, own): (ViewMut, usize, Range<usize>),
    mut ahead: Spread,
) {
    for frequency in 0..FREQUENCIES {
        let mut block = own.start;
        // SAFETY: groups, blocks and frequencies are of tiles, weights and results, as the caller promises.
        unsafe {
            let a = |group: usize| (tiles.from(group * depth * BLOCK + frequency * FREQUENCY), BLOCK);
            let weights = |block: usize| weights.from((frequency * output_blocks + block) * depth * SQUARE);
            let to = |group: usize, block: usize| {
                results.from((group * own.len() + block - own.start) * BLOCK + frequency * FREQUENCY)
            };
            while block + 2 <= own.end {
                let b = [weights(block), weights(block + 1)];
                for group in 0..groups {
                    let to = [to(group, block), to(group, block + 1)];
                    product_pair::<V>(a(group), depth, b, ahead.now(), to);
                    ahead = ahead.from(2);
                }
                block += 2;
            }
            if block < own.end {
                for group in 0..groups {
                    let to = to(group, block);
                    V::product(a(group), ROWS, depth, weights(block), ahead.now(), &mut Nothing, to);
                    ahead = ahead.from(1);
                }
            }
        }
    }
}

/// As [`products`] for `count` tiles, four rows at a time: the same sums in the same order.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn few_products<V: Vector>(
    (tiles, depth): (View, usize),
    count: usize,
    weights: View,
    (results, output_blocks, own): (ViewMut, usize, Range<usize>),
) {
    for frequency in 0..FREQUENCIES {
        // SAFETY: groups, blocks and frequencies are of tiles, weights and results, as the caller promises.
        unsafe {
            let weights = weights.from((frequency * output_blocks + own.start) * depth * SQUARE);
            for row in (0..count).step_by(FEW_ROWS) {
                let a = tiles.from(frequency * FREQUENCY + row * LANES);
                let to = results.from(frequency * FREQUENCY + row * LANES);
                let mut block = 0;
                let from = |block: usize| (weights.from(block * depth * SQUARE), to.from(block * BLOCK));
                if V::HAS_MANY_REGISTERS {
                    while block + 4 <= own.len() {
                        let (weights, to) = from(block);
                        few_rows::<V, 4>((a, BLOCK), depth, weights, (to, BLOCK));
                        block += 4;
                    }
                    if block + 2 <= own.len() {
                        let (weights, to) = from(block);
                        few_rows::<V, 2>((a, BLOCK), depth, weights, (to, BLOCK));
                        block += 2;
                    }
                }
                // A second block's accumulators would have no registers elsewhere.
                while block < own.len() {
                    let (weights, to) = from(block);
                    few_rows::<V, 1>((a, BLOCK), depth, weights, (to, BLOCK));
                    block += 1;
                }
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
