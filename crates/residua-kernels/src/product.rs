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
//! the multiply-add.

use crate::vector::{LANES, Vector};
use crate::view::{View, ViewMut};

/// Rows of a product.
pub(crate) const ROWS: usize = 16;

/// Numbers of a block of weights, `[LANES inputs][LANES outputs]`.
pub(crate) const SQUARE: usize = LANES * LANES;

/// Where a panel's element lies: `[block][row][lane]` with `rows` rows.
#[inline(always)]
pub(crate) fn panel(block: usize, row: usize, rows: usize) -> usize {
    (block * rows + row) * LANES
}

/// Takes the results of a product, `R` consecutive rows at a time.
pub(crate) trait Rows<V: Vector> {
    /// `rows[0]` is row `first` of the sixteen.
    unsafe fn take<const R: usize>(&mut self, first: usize, rows: &[V; R]);
}

/// Work beside a product: a piece for every step through its first block, done between the multiply-adds. A processor looks
/// a few hundred instructions ahead, less than a product has; what only follows it would have to wait for its end.
pub(crate) trait Beside {
    /// Called with 0 to [`ROWS`] - 1, in order.
    unsafe fn step(&mut self, step: usize);
}

/// No work.
pub(crate) struct Nothing;

impl Beside for Nothing {
    #[inline(always)]
    unsafe fn step(&mut self, _: usize) {}
}

/// Stores rows as a panel.
pub(crate) struct Panel<'a>(pub(crate) ViewMut<'a>);

impl<V: Vector> Rows<V> for Panel<'_> {
    #[inline(always)]
    unsafe fn take<const R: usize>(&mut self, first: usize, rows: &[V; R]) {
        for (row, value) in rows.iter().enumerate() {
            unsafe { self.0.store((first + row) * LANES, *value) };
        }
    }
}

/// What a product asks for while it computes, because it will be read soon: the hardware does not foresee it, and a load
/// that waits for memory stops everything.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead<'a> {
    /// A cache line of this for every step.
    pub(crate) long: Option<View<'a>>,
    /// [`LANES`] cache lines of each of these.
    pub(crate) short: [Option<View<'a>>; 2],
}

/// Multiplies sixteen rows of `a` (its panels `pitch` numbers apart, the view beginning at the first of the sixteen) by
/// `b: [depth_blocks * LANES][LANES]`.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn product<V: Vector, const R: usize>(
    a: View,
    pitch: usize,
    depth_blocks: usize,
    b: View,
    ahead: Ahead,
    beside: &mut impl Beside,
    results: &mut impl Rows<V>,
) {
    const { assert!(ROWS == LANES, "a step for every row") }
    unsafe {
        if R < ROWS {
            // Too few registers for both at once.
            for step in 0..ROWS {
                beside.step(step);
            }
        }
        for first in (0..ROWS).step_by(R) {
            let mut sums = [V::zero(); R];
            for block in 0..depth_blocks {
                let a = a.from(block * pitch + first * LANES);
                let b = b.from(block * SQUARE);
                for k in 0..LANES {
                    if first == 0 {
                        if let Some(map) = ahead.long {
                            map.prefetch::<V>((block * LANES + k) * LANES);
                        }
                        if block == 0 {
                            for map in ahead.short.into_iter().flatten() {
                                map.prefetch::<V>(k * LANES);
                            }
                        }
                    }
                    let b = b.load::<V>(k * LANES);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = V::splat(a.get(row * LANES + k)).mul_add(b, *sum);
                    }
                    if R == ROWS && block == 0 {
                        beside.step(k);
                    }
                }
            }
            // A copy: the sums themselves, never indexed by a variable, stay in registers.
            let mut rows = [V::zero(); R];
            for (row, sum) in rows.iter_mut().zip(sums) {
                *row = sum;
            }
            results.take(first, &rows);
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

/// Adds to `sum: [LANES][LANES]` the products of one panel of `a` with one panel of `g`, over `rows` rows; the first add to
/// nothing, whatever `sum` holds.
///
/// # Safety
/// As for [`Vector`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn outer<V: Vector, const R: usize>(
    a: View,
    g: View,
    rows: usize,
    sum: ViewMut,
    is_first: bool,
) {
    unsafe {
        for first in (0..LANES).step_by(R) {
            let mut sums = [V::zero(); R];
            if !is_first {
                for (k, sum_k) in sums.iter_mut().enumerate() {
                    *sum_k = sum.read().load::<V>((first + k) * LANES);
                }
            }
            for row in 0..rows {
                let g = g.load::<V>(row * LANES);
                for (k, sum_k) in sums.iter_mut().enumerate() {
                    *sum_k = V::splat(a.get(row * LANES + first + k)).mul_add(g, *sum_k);
                }
            }
            for (k, sum_k) in sums.into_iter().enumerate() {
                sum.store((first + k) * LANES, sum_k);
            }
        }
    }
}
