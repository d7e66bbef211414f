//! No instruction set in particular: a block is an array. The path that Miri can run.
//!
//! Arithmetic is out of line: sixteen scalar operations for each vector operation of kernels that are written to be inlined
//! whole would take minutes to compile, for machines that hardly exist.

use super::{LANES, Vector};
use crate::instructions::Work;
use crate::product::{self, Ahead, Beside};
use crate::view::{View, ViewMut};

#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Vector for Portable {
    const HAS_MANY_REGISTERS: bool = false;
    const IS_SPECIALISED: bool = false;

    #[inline(never)]
    unsafe fn call(work: impl Work<Self>) {
        // SAFETY: as the caller promises.
        unsafe { work.run() }
    }

    #[inline(always)]
    unsafe fn product(
        a: (View, usize),
        wanted: usize,
        depth_blocks: usize,
        b: View,
        ahead: Ahead,
        beside: &mut impl Beside,
        results: ViewMut,
    ) {
        // SAFETY: as the caller promises.
        unsafe { product::product::<Self, 2, 2>(a, wanted, depth_blocks, b, ahead, beside, results) }
    }
    #[inline(always)]
    unsafe fn outer(a: View, g: View, rows: usize, sum: ViewMut, is_first: bool) {
        // SAFETY: as the caller promises.
        unsafe { product::outer::<Self, 2, 2, 1>(a, [g], rows, [sum], is_first) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.; LANES])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: `from` is valid for as many numbers, as the caller promises.
        unsafe { Self(from.cast::<[f32; LANES]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: `to` is valid for as many numbers, as the caller promises.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(never)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.; LANES];
        // SAFETY: `from` is valid for as many numbers, as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Self(lanes)
    }
    #[inline(never)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: `to` is valid for as many numbers, as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) }
    }
    #[inline(always)]
    unsafe fn store_streaming(self, to: *mut f32) {
        // SAFETY: `to` is valid and aligned, as the caller promises.
        unsafe { self.store(to) }
    }
    #[inline(always)]
    unsafe fn fence() {}
    #[inline(never)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(never)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(never)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(never)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(never)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Rounded twice: without hardware for it, a fused multiply-add is a function call.
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + addend.0[lane]))
    }
    #[inline(never)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        self.zip(shifted, |value, shifted| {
            f32::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 23))
        })
    }
    #[inline(never)]
    unsafe fn at_least(self, floor: Self) -> Self {
        self.zip(floor, |value, floor| if value < floor { floor } else { value })
    }
    #[inline(never)]
    unsafe fn where_active(self, guide: Self) -> Self {
        self.zip(guide, |value, guide| if guide <= 0. { 0. } else { value })
    }
    #[inline(always)]
    unsafe fn where_above(self, guide: Self, limit: Self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            let is_above = guide.0[lane] > limit.0[lane] || guide.0[lane].is_nan();
            if is_above { self.0[lane] } else { other.0[lane] }
        }))
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}
