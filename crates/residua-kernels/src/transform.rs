//! The transforms of Winograd's F(4x4, 3x3): a 4x4 tile of outputs costs 36 products instead of 144.
//!
//! With the points `0, p, -p, q, -q` and infinity, `Y = A' [(G w G') . (B' d B)] A` for a 6x6 tile `d` of the input and a 3x3 kernel
//! `w`. The weights' gradient is `G' [sum over tiles (B' d B) . (A dY A')] G`. Here `p = 2/3` and `q = 3/2`:
//!
//! ```text
//!      [1    0    -97/36    0     1   0]       [ 1     0    0    0 ]             [ 1     0    0 ]
//!      [0  -9/4    -27/8    1    3/2  0]       [ 3/2   1   2/3  4/9]             [9/4   3/2   1 ]
//! B' = [0  -9/4     27/8    1   -3/2  0]   A = [-3/2   1  -2/3  4/9]   G = scale [9/4  -3/2   1 ]   scale = -8/65, but
//!      [0   3/2      1    -27/8 -9/4  0]       [ 4/9  2/3   1   3/2]             [ 1    3/2  9/4]   1 for the outer rows
//!      [0  -3/2      1     27/8 -9/4  0]       [ 4/9 -2/3   1  -3/2]             [ 1   -3/2  9/4]
//!      [0    1       0   -97/36   0   1]       [ 0     0    0    1 ]             [ 0     0    1 ]
//! ```
//!
//! - Rounding errors depend on the points. They are least near 0.651 and 1.535. With 2/3 and 3/2 they are as good as that, with 1 and 2 (Lavin and
//!   Gray, 2016) 2.2 times as large.
//! - A coefficient that is no f32 does worse than rounding, as its error is the same at every pixel and in every layer, so that no mean lessens
//!   it. Of these, only 2/3 is off by more than 1e-8 of itself.
//! - A row of one matrix may have a factor that another matrix's row is divided by. These spare as many multiplications as there are with 1 and
//!   2, and leave one inexact number to `G`. In `B'` and `A` the rows of `-p` are negated, so that they differ from those of `p` by a sign.
//! - As `p q = 1`, what belongs to `q` is that of `p` in reverse. Below, `near` is of `p` and `far` is of `q`.

// Rows and columns are those of the matrices.
#![allow(clippy::needless_range_loop)]

use crate::vector::Vector;

/// Numbers of a transformed tile.
pub(crate) const FREQUENCIES: usize = 36;
/// Side of a tile of outputs.
pub(crate) const TILE: usize = 4;
/// Side of a tile of inputs.
pub(crate) const INPUT: usize = 6;

// Of each constant the nearest f32.
const P: f32 = 2. / 3.;
const P2: f32 = 4. / 9.;
const Q: f32 = 3. / 2.;
const Q2: f32 = 9. / 4.;
const MINUS_SQUARES: f32 = -97. / 36.;
const SCALE: f32 = -8. / 65.;

/// An array of the values of an expression. A closure that computes would be a function of its own, not compiled for the
/// instructions.
macro_rules! array {
    ([$($at:literal)*] |$index:ident| $value:expr) => { [$({ let $index = $at; $value }),*] };
}

// Of two registers a number, a half-transformed tile does not fit in registers. It is made as an array expression and read
// in place: one that begins with zeros and is taken apart by value would be set, and copied twice.

/// `B' d B` of a 6x6 tile.
#[inline(always)]
pub(crate) unsafe fn of_input<V: Vector>(load: impl Fn(usize, usize) -> V, mut store: impl FnMut(usize, V)) {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let columns = array!([0 1 2 3 4 5] |column| b(array!([0 1 2 3 4 5] |row| load(row, column))));
        for row in 0..INPUT {
            let line = b(array!([0 1 2 3 4 5] |column| columns[column][row]));
            for column in 0..INPUT {
                store(row * INPUT + column, line[column]);
            }
        }
    }
}

/// `A' m A` of a transformed tile: 4x4 outputs.
#[inline(always)]
pub(crate) unsafe fn to_output<V: Vector>(load: impl Fn(usize) -> V) -> [[V; TILE]; TILE] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let columns = array!(
            [0 1 2 3 4 5] |column| a_transposed(array!([0 1 2 3 4 5] |row| load(row * INPUT + column)))
        );
        array!([0 1 2 3] |row| a_transposed(array!([0 1 2 3 4 5] |column| columns[column][row])))
    }
}

/// `A g A'` of a 4x4 tile of the outputs' gradient.
#[inline(always)]
pub(crate) unsafe fn of_gradient<V: Vector>(
    load: impl Fn(usize, usize) -> V,
    mut store: impl FnMut(usize, V),
) {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let columns = array!([0 1 2 3] |column| a(array!([0 1 2 3] |row| load(row, column))));
        for row in 0..INPUT {
            let line = a(array!([0 1 2 3] |column| columns[column][row]));
            for column in 0..INPUT {
                store(row * INPUT + column, line[column]);
            }
        }
    }
}

/// `G w G'` of a 3x3 kernel.
#[inline(always)]
pub(crate) unsafe fn of_weights<V: Vector>(weights: [[V; 3]; 3], mut store: impl FnMut(usize, V)) {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let columns = array!([0 1 2] |column| g(array!([0 1 2] |row| weights[row][column])));
        for row in 0..INPUT {
            let line = g(array!([0 1 2] |column| columns[column][row]));
            for column in 0..INPUT {
                store(row * INPUT + column, line[column]);
            }
        }
    }
}

/// A row of `G w G'`, to the same bits.
#[inline(always)]
pub(crate) unsafe fn row_of_weights<V: Vector, const ROW: usize>(weights: [[V; 3]; 3]) -> [V; INPUT] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe { g(array!([0 1 2] |column| g(array!([0 1 2] |row| weights[row][column]))[ROW])) }
}

/// `G' u G`: the gradient of a 3x3 kernel from that of its transform.
#[inline(always)]
pub(crate) unsafe fn to_weights<V: Vector>(load: impl Fn(usize) -> V) -> [[V; 3]; 3] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let columns = array!(
            [0 1 2 3 4 5] |column| g_transposed(array!([0 1 2 3 4 5] |row| load(row * INPUT + column)))
        );
        array!([0 1 2] |row| g_transposed(array!([0 1 2 3 4 5] |column| columns[column][row])))
    }
}

#[inline(always)]
unsafe fn b<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; 6]) -> [V; 6] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (q, minus_q) = (V::splat(Q), V::splat(-Q));
        let (minus_q2, minus_squares) = (V::splat(-Q2), V::splat(MINUS_SQUARES));
        let (near_even, near_odd) = (d2.mul_add(minus_q2, d4), d1.mul_add(minus_q2, d3));
        let (far_even, far_odd) = (d4.mul_add(minus_q2, d2), d3.mul_add(minus_q2, d1));
        [
            d2.mul_add(minus_squares, d0.add(d4)),
            near_even.mul_add(q, near_odd),
            near_even.mul_add(minus_q, near_odd),
            far_odd.mul_add(q, far_even),
            far_odd.mul_add(minus_q, far_even),
            d3.mul_add(minus_squares, d1.add(d5)),
        ]
    }
}

#[inline(always)]
unsafe fn a_transposed<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (p, q, p2) = (V::splat(P), V::splat(Q), V::splat(P2));
        let (near_even, near_odd) = (m1.sub(m2), m1.add(m2));
        let (far_even, far_odd) = (m3.add(m4), m3.sub(m4));
        [
            far_even.mul_add(p2, near_even.mul_add(q, m0)),
            far_odd.mul_add(p, near_odd),
            near_even.mul_add(p, far_even),
            near_odd.mul_add(p2, far_odd.mul_add(q, m5)),
        ]
    }
}

#[inline(always)]
unsafe fn a<V: Vector>([g0, g1, g2, g3]: [V; 4]) -> [V; 6] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (q, minus_q, p2) = (V::splat(Q), V::splat(-Q), V::splat(P2));
        let (near_even, near_odd) = (g2.mul_add(p2, g0), g3.mul_add(p2, g1));
        let (far_even, far_odd) = (g0.mul_add(p2, g2), g1.mul_add(p2, g3));
        [
            g0,
            near_even.mul_add(q, near_odd),
            near_even.mul_add(minus_q, near_odd),
            far_odd.mul_add(q, far_even),
            far_odd.mul_add(minus_q, far_even),
            g3,
        ]
    }
}

#[inline(always)]
unsafe fn g<V: Vector>([w0, w1, w2]: [V; 3]) -> [V; 6] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (q, minus_q) = (V::splat(Q), V::splat(-Q));
        let (q2, scale) = (V::splat(Q2), V::splat(SCALE));
        let (near_even, far_even) = (w0.mul_add(q2, w2), w2.mul_add(q2, w0));
        [
            w0,
            w1.mul_add(q, near_even).mul(scale),
            w1.mul_add(minus_q, near_even).mul(scale),
            w1.mul_add(q, far_even).mul(scale),
            w1.mul_add(minus_q, far_even).mul(scale),
            w2,
        ]
    }
}

#[inline(always)]
unsafe fn g_transposed<V: Vector>([u0, u1, u2, u3, u4, u5]: [V; 6]) -> [V; 3] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (q, q2, scale) = (V::splat(Q), V::splat(Q2), V::splat(SCALE));
        let (near_even, near_odd) = (u1.add(u2), u1.sub(u2));
        let (far_even, far_odd) = (u3.add(u4), u3.sub(u4));
        [
            near_even.mul_add(q2, far_even).mul_add(scale, u0),
            near_odd.add(far_odd).mul(q).mul(scale),
            far_even.mul_add(q2, near_even).mul_add(scale, u5),
        ]
    }
}
