//! The logistic function of numbers in registers.

use crate::vector::Vector;

/// Beyond plus and minus this the exponential is as it is here: it stays a normal number.
const LIMIT: f32 = 87.;
/// Added to a number that is small beside it, it leaves the nearest integer in the lowest bits: `1.5 * 2^23`.
const SHIFT: f32 = 12_582_912.;
/// What `exp(r) = 1 + r + r^2 * p(r)` has for `p` where `|r| <= ln(2) / 2`, from the highest power down; from the Cephes
/// library. The relative error is below one rounding's.
const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];

/// `g = 1 / (1 + exp(-x))` and `1 - g`, both to within a few roundings: the latter is `exp(-x) * g`, as a difference from
/// one it would have no digits where `x` is large. Neither is less than `exp(-87)`; NaN stays NaN.
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Vector>(x: V) -> (V, V) {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let (one, least) = (V::splat(1.), V::splat(-LIMIT));
        let negated = V::zero().sub(x.where_above(x, least, least));
        let exponential = exponential(negated.where_above(negated, least, least));
        let gate = one.div(one.add(exponential));
        (gate, exponential.mul(gate))
    }
}

/// `exp(x) = 2^n * exp(x - n * ln(2))`, where `|x|` is at most [`LIMIT`]; NaN stays NaN.
#[inline(always)]
unsafe fn exponential<V: Vector>(x: V) -> V {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe {
        let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(SHIFT));
        let n = shifted.sub(V::splat(SHIFT));
        // The logarithm in two parts: products with the first are exact.
        let rest = n.mul_add(V::splat(-355. / 512.), x);
        let rest = n.mul_add(V::splat(2.121_944_4e-4), rest);
        let [highest, lower @ ..] = POLYNOMIAL;
        let mut value = V::splat(highest);
        for coefficient in lower {
            value = value.mul_add(rest, V::splat(coefficient));
        }
        let value = value.mul_add(rest.mul(rest), rest.add(V::splat(1.)));
        // The integer arithmetic makes just any number of a NaN: nothing but that is above infinity or NaN.
        x.where_above(x, V::splat(f32::INFINITY), value.times_power_of_two(shifted))
    }
}
