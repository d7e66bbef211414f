//! The two matrix products that everything comes down to, with sixteen rows of accumulators in registers.
//!
//! Both take *panels*: a matrix `[rows, depth]` stored as `[depth / LANES][rows][LANES]`, so that sixteen rows of one
//! panel are a kilobyte without gaps, whatever the depth.
//!
//! ```text
//! product: out[row][lane] = sum over k of  a[row][k] * b[k][lane]       rows: pixels, k: inputs, lanes: outputs
//! outer:   sum[k][lane]  += sum over row of a[row][k] * g[row][lane]    the weights' gradient
//! ```
//!
//! Each step is one vector load and sixteen multiply-adds by a broadcast number, which AVX-512 takes from memory within
//! the multiply-add; or, by two blocks of lanes, two loads and eight broadcasts that are used twice.

use std::ops::Range;

use crate::vector::{LANES, Vector};
use crate::view::{Lines, View, ViewMut};

/// Rows of a product.
pub(crate) const ROWS: usize = 16;

/// Rows of half a product.
pub(crate) const HALF: usize = ROWS / 2;

/// Numbers of a block of weights, `[LANES inputs][LANES outputs]`.
pub(crate) const SQUARE: usize = LANES * LANES;

/// Where a panel's element lies: `[block][row][lane]` with `rows` rows.
#[inline(always)]
pub(crate) fn panel(block: usize, row: usize, rows: usize) -> usize {
    (block * rows + row) * LANES
}

/// Work beside a product: a piece for every step through its first block, done between the multiply-adds. A processor looks
/// a few hundred instructions ahead, less than a product has; what only follows it would have to wait for its end.
pub(crate) trait Beside {
    /// Whether there is no work.
    const IS_NOTHING: bool = false;

    /// Called with 0 to [`ROWS`] - 1, in order.
    unsafe fn step(&mut self, step: usize);
}

/// No work.
pub(crate) struct Nothing;

impl Beside for Nothing {
    const IS_NOTHING: bool = true;

    #[inline(always)]
    unsafe fn step(&mut self, _: usize) {}
}

/// What a product asks for while it computes, because it will be read soon: the hardware does not foresee it, and a load
/// that waits for memory stops everything.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// A cache line of this for every step.
    pub(crate) long: Lines,
    /// [`LANES`] cache lines of each of these.
    pub(crate) short: [Lines; 2],
}

impl Ahead {
    pub(crate) const NOTHING: Self = Self { long: Lines::NONE, short: [Lines::NONE; 2] };

    /// What the next product, or the second half of one, asks for.
    #[inline(always)]
    pub(crate) fn next(self) -> Self {
        let [left, right] = self.short;
        Self { long: Lines::NONE, short: [left.skip(LANES), right.skip(LANES)] }
    }

    /// Asks for what is due at `steps` of a block.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn ask<V: Vector>(self, block: usize, steps: Range<usize>) {
        // SAFETY: hints; the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if !self.long.are_none() {
                for step in steps.clone() {
                    self.long.prefetch::<V>(block * LANES + step);
                }
            }
            if block == 0 {
                for lines in self.short {
                    if !lines.are_none() {
                        for step in steps.clone() {
                            lines.prefetch::<V>(step);
                        }
                    }
                }
            }
        }
    }
}

/// Multiplies sixteen rows of `a` (its panels `pitch` numbers apart, the view beginning at the first of the sixteen) by
/// `b: [depth_blocks * LANES][LANES]`, and stores the results as a panel; or only the first `wanted` of them, or some more. First `R` rows have
/// accumulators, then `S` of the others at a time.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn product<V: Vector, const R: usize, const S: usize>(
    a: (View, usize),
    wanted: usize,
    depth_blocks: usize,
    b: View,
    ahead: Ahead,
    beside: &mut impl Beside,
    results: ViewMut,
) {
    const { assert!((ROWS - R).is_multiple_of(S), "all rows have their turn") }
    // SAFETY: as the caller promises.
    unsafe {
        if R == ROWS {
            return rows::<V, _, R, 1>(a, depth_blocks, [b], 0, ahead, beside, [results]);
        }
        // Too few registers for both at once.
        for step in 0..ROWS {
            beside.step(step);
        }
        rows::<V, _, R, 1>(a, depth_blocks, [b], 0, ahead, &mut Nothing, [results]);
        for first in (R..wanted).step_by(S) {
            rows::<V, _, S, 1>(a, depth_blocks, [b], first, Ahead::NOTHING, &mut Nothing, [results]);
        }
    }
}

/// Half the rows of a product, from row `first` on, by two blocks of weights: what is broadcast is used twice, as some
/// processors do two multiply-adds in a cycle but do not load two vectors for them. The sums are [`product`]'s, in its order.
///
/// Wants [`Vector::HAS_MANY_REGISTERS`].
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn half_product_pair<V: Vector>(
    a: (View, usize),
    depth_blocks: usize,
    b: [View; 2],
    first: usize,
    ahead: Ahead,
    beside: &mut impl Beside,
    results: [ViewMut; 2],
) {
    // SAFETY: as the caller promises.
    unsafe { rows::<V, _, HALF, 2>(a, depth_blocks, b, first, ahead, beside, results) }
}

/// [`product`] by two blocks of weights.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn product_pair<V: Vector>(
    a: (View, usize),
    depth_blocks: usize,
    b: [View; 2],
    ahead: Ahead,
    results: [ViewMut; 2],
) {
    // SAFETY: as the caller promises.
    unsafe {
        if V::HAS_MANY_REGISTERS {
            half_product_pair::<V>(a, depth_blocks, b, 0, ahead, &mut Nothing, results);
            half_product_pair::<V>(a, depth_blocks, b, HALF, ahead.next(), &mut Nothing, results);
        } else {
            V::product(a, ROWS, depth_blocks, b[0], ahead, &mut Nothing, results[0]);
            V::product(a, ROWS, depth_blocks, b[1], ahead.next(), &mut Nothing, results[1]);
        }
    }
}

/// `R` rows of a product from row `first` on, by `N` blocks of weights.
#[allow(clippy::too_many_arguments)]
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn rows<V: Vector, B: Beside, const R: usize, const N: usize>(
    (a, pitch): (View, usize),
    depth_blocks: usize,
    b: [View; N],
    first: usize,
    ahead: Ahead,
    beside: &mut B,
    results: [ViewMut; N],
) {
    const { assert!(ROWS == LANES, "a step for every row") }
    // SAFETY: panels have `depth_blocks` blocks and rows from `first` on, weights as many squares, and results as many rows, as
    // the caller promises.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        for block in 0..depth_blocks {
            let a = a.from(block * pitch + first * LANES);
            let b = b.map(|b| b.from(block * SQUARE));
            if block == 0 && !B::IS_NOTHING {
                for k in 0..LANES {
                    ahead.ask::<V>(block, k..k + 1);
                    multiply_add::<V, R, N, LANES>(&mut sums, a.from(k), b.map(|b| b.from(k * LANES)));
                    beside.step(k);
                }
                continue;
            }
            for four in (0..LANES).step_by(4) {
                ahead.ask::<V>(block, four..four + 4);
                for k in 0..4 {
                    let k = four + k;
                    multiply_add::<V, R, N, LANES>(&mut sums, a.from(k), b.map(|b| b.from(k * LANES)));
                }
            }
        }
        // A copy: the sums themselves, never indexed by a variable, stay in registers.
        let mut rows = [[V::zero(); N]; R];
        for (row, sums) in rows.iter_mut().zip(sums) {
            *row = sums;
        }
        for (row, sums) in rows.iter().enumerate() {
            for (sum, to) in sums.iter().zip(results) {
                to.store((first + row) * LANES, *sum);
            }
        }
    }
}

/// `sums[row] += a[row] * b` for the `R` numbers of `a` that lie `STEP` apart, and some vectors: a step of either product.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn multiply_add<V: Vector, const R: usize, const N: usize, const STEP: usize>(
    sums: &mut [[V; N]; R],
    a: View,
    b: [View; N],
) {
    // SAFETY: `a` has so many numbers and each of `b` a vector, as the caller promises.
    unsafe {
        let b = b.map(|b| b.load::<V>(0));
        for (row, sums) in sums.iter_mut().enumerate() {
            let a = V::splat(a.get(row * STEP));
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = a.mul_add(b, *sum);
            }
        }
    }
}

/// Rows of a product of few rows.
pub(crate) const FEW_ROWS: usize = 4;

/// Multiplies four rows of `a` (its panels `pitch` numbers apart) by `B` blocks of weights side by side, which keeps as many accumulators
/// busy as sixteen rows by one: `out[block][row][lane]`, blocks `pitch` numbers apart. The sums are [`product`]'s, in its order.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn few_rows<V: Vector, const B: usize>(
    (a, pitch): (View, usize),
    depth_blocks: usize,
    weights: View,
    (to, to_pitch): (ViewMut, usize),
) {
    // SAFETY: panels, weights and results have so many blocks of four rows, as the caller promises.
    unsafe {
        let mut sums = [[V::zero(); FEW_ROWS]; B];
        for block in 0..depth_blocks {
            let a = a.from(block * pitch);
            let b = weights.from(block * SQUARE);
            for k in 0..LANES {
                for (output, sums) in sums.iter_mut().enumerate() {
                    let b = b.load::<V>(output * depth_blocks * SQUARE + k * LANES);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = V::splat(a.get(row * LANES + k)).mul_add(b, *sum);
                    }
                }
            }
        }
        for (output, sums) in sums.into_iter().enumerate() {
            for (row, sum) in sums.into_iter().enumerate() {
                to.store(output * to_pitch + row * LANES, sum);
            }
        }
    }
}

/// Adds to each `sum: [LANES][LANES]` the products of one panel of `a` with a panel of `g`, over `rows` rows; the first add to
/// nothing, whatever `sum` holds. First `R` channels of `a` have accumulators, then `S` of the others at a time.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn outer<V: Vector, const R: usize, const S: usize, const N: usize>(
    a: View,
    g: [View; N],
    rows: usize,
    sum: [ViewMut; N],
    is_first: bool,
) {
    const { assert!((LANES - R).is_multiple_of(S), "all channels have their turn") }
    // SAFETY: as the caller promises.
    unsafe {
        channels::<V, R, N>(a, g, rows, sum, is_first, 0);
        for first in (R..LANES).step_by(S) {
            channels::<V, S, N>(a, g, rows, sum, is_first, first);
        }
    }
}

/// [`outer`] of `R` channels from `first` on.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn channels<V: Vector, const R: usize, const N: usize>(
    a: View,
    g: [View; N],
    rows: usize,
    sum: [ViewMut; N],
    is_first: bool,
    first: usize,
) {
    // SAFETY: panels have so many rows, and sums are squares, as the caller promises.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        if !is_first {
            for (k, sums) in sums.iter_mut().enumerate() {
                for (to, from) in sums.iter_mut().zip(sum) {
                    *to = from.read().load::<V>((first + k) * LANES);
                }
            }
        }
        let fours = rows / 4 * 4;
        for four in (0..fours).step_by(4) {
            for row in 0..4 {
                let at = (four + row) * LANES;
                multiply_add::<V, R, N, 1>(&mut sums, a.from(at + first), g.map(|g| g.from(at)));
            }
        }
        for row in fours..rows {
            let at = row * LANES;
            multiply_add::<V, R, N, 1>(&mut sums, a.from(at + first), g.map(|g| g.from(at)));
        }
        for (k, sums) in sums.into_iter().enumerate() {
            for (value, to) in sums.into_iter().zip(sum) {
                to.store((first + k) * LANES, value);
            }
        }
    }
}

/// [`outer`] of one panel with two.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn outer_pair<V: Vector>(
    a: View,
    g: [View; 2],
    rows: usize,
    sum: [ViewMut; 2],
    is_first: bool,
) {
    // SAFETY: as the caller promises.
    unsafe {
        if V::HAS_MANY_REGISTERS {
            outer::<V, HALF, HALF, 2>(a, g, rows, sum, is_first);
        } else {
            V::outer(a, g[0], rows, sum[0], is_first);
            V::outer(a, g[1], rows, sum[1], is_first);
        }
    }
}
