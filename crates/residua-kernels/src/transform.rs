//! The transforms of Winograd's F(4x4, 3x3): a 4x4 tile of outputs costs 36 products instead of 144.
//!
//! With the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, 2016), `Y = A' [(G w G') . (B' d B)] A` for a 6x6 tile
//! `d` of the input and a 3x3 kernel `w`. The weights' gradient is `G' [sum over tiles (B' d B) . (A dY A')] G`.

// Rows and columns are those of the matrices.
#![allow(clippy::needless_range_loop)]

use crate::vector::Vector;

/// Numbers of a transformed tile.
pub(crate) const FREQUENCIES: usize = 36;
/// Side of a tile of outputs.
pub(crate) const TILE: usize = 4;
/// Side of a tile of inputs.
pub(crate) const INPUT: usize = 6;

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
        let (two, four, minus_five) = (V::splat(2.), V::splat(4.), V::splat(-5.));
        let (minus_two, minus_four) = (V::splat(-2.), V::splat(-4.));
        let even = d2.mul_add(minus_four, d4);
        let odd = d1.mul_add(minus_four, d3);
        let (even_difference, odd_difference) = (d4.sub(d2), d3.sub(d1));
        [
            d0.mul_add(four, d2.mul_add(minus_five, d4)),
            even.add(odd),
            even.sub(odd),
            odd_difference.mul_add(two, even_difference),
            odd_difference.mul_add(minus_two, even_difference),
            d1.mul_add(four, d3.mul_add(minus_five, d5)),
        ]
    }
}

#[inline(always)]
unsafe fn a_transposed<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (two, four, eight) = (V::splat(2.), V::splat(4.), V::splat(8.));
        let (sum, difference) = (m1.add(m2), m1.sub(m2));
        let (outer_sum, outer_difference) = (m3.add(m4), m3.sub(m4));
        [
            m0.add(sum).add(outer_sum),
            outer_difference.mul_add(two, difference),
            outer_sum.mul_add(four, sum),
            outer_difference.mul_add(eight, difference).add(m5),
        ]
    }
}

#[inline(always)]
unsafe fn a<V: Vector>([g0, g1, g2, g3]: [V; 4]) -> [V; 6] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (two, four, minus_two) = (V::splat(2.), V::splat(4.), V::splat(-2.));
        let (even, odd) = (g0.add(g2), g1.add(g3));
        let (outer_even, outer_odd) = (g2.mul_add(four, g0), g3.mul_add(four, g1));
        [
            g0,
            even.add(odd),
            even.sub(odd),
            outer_odd.mul_add(two, outer_even),
            outer_odd.mul_add(minus_two, outer_even),
            g3,
        ]
    }
}

#[inline(always)]
unsafe fn g<V: Vector>([w0, w1, w2]: [V; 3]) -> [V; 6] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (quarter, sixth) = (V::splat(0.25), V::splat(-1. / 6.));
        let (small, smaller) = (V::splat(1. / 12.), V::splat(1. / 24.));
        let outer = w0.add(w2).mul(sixth);
        let even = w0.mul(smaller).add(w2.mul(V::splat(1. / 6.)));
        let (middle, odd) = (w1.mul(sixth), w1.mul(small));
        [w0.mul(quarter), outer.add(middle), outer.sub(middle), even.add(odd), even.sub(odd), w2]
    }
}

#[inline(always)]
unsafe fn g_transposed<V: Vector>([u0, u1, u2, u3, u4, u5]: [V; 6]) -> [V; 3] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (quarter, sixth) = (V::splat(0.25), V::splat(1. / 6.));
        let (small, smaller) = (V::splat(1. / 12.), V::splat(1. / 24.));
        let inner = u1.add(u2).mul(sixth);
        let outer = u3.add(u4);
        [
            outer.mul(smaller).sub(inner).add(u0.mul(quarter)),
            u3.sub(u4).mul(small).sub(u1.sub(u2).mul(sixth)),
            outer.mul(sixth).sub(inner).add(u5),
        ]
    }
}
