//! NEON: a block is four registers.

use std::arch::aarch64::*;

use super::Vector;
use crate::instructions::Work;
use crate::product::{self, Ahead, Beside};
use crate::view::{View, ViewMut};

#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

impl Neon {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(std::array::from_fn(|quarter| operation(self.0[quarter], other.0[quarter])))
    }
}

impl Vector for Neon {
    const HAS_MANY_REGISTERS: bool = false;
    const IS_SPECIALISED: bool = true;

    #[inline(never)]
    unsafe fn call(work: impl Work<Self>) {
        // SAFETY: as the caller promises.
        unsafe { work.run() }
    }

    // Five rows of four registers, the weights' four and one broadcast fit in thirty-two; four divides the tiles.
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
        unsafe { product::product::<Self, 4, 4>(a, wanted, depth_blocks, b, ahead, beside, results) }
    }
    #[inline(always)]
    unsafe fn outer(a: View, g: View, rows: usize, sum: ViewMut, is_first: bool) {
        // SAFETY: as the caller promises.
        unsafe { product::outer::<Self, 4, 4, 1>(a, [g], rows, [sum], is_first) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        unsafe { Self::splat(0.) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        unsafe { Self([vdupq_n_f32(value); 4]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the processor has NEON, and `from` is valid for as many numbers, as the caller promises.
        unsafe { Self(std::array::from_fn(|quarter| vld1q_f32(from.add(4 * quarter)))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (quarter, values) in self.0.into_iter().enumerate() {
            // SAFETY: the processor has NEON, and `to` is valid for as many numbers, as the caller promises.
            unsafe { vst1q_f32(to.add(4 * quarter), values) }
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0f32; super::LANES];
        // SAFETY: the processor has NEON, and `from` is valid for as many numbers, as the caller promises.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mut lanes = [0f32; super::LANES];
        // SAFETY: the processor has NEON, and `to` is valid for as many numbers, as the caller promises.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
    #[inline(always)]
    unsafe fn store_streaming(self, to: *mut f32) {
        // SAFETY: the processor has NEON, and `to` is valid and aligned, as the caller promises.
        unsafe { self.store(to) }
    }
    #[inline(always)]
    unsafe fn fence() {}
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        Self(std::array::from_fn(|quarter| unsafe {
            vfmaq_f32(addend.0[quarter], self.0[quarter], factor.0[quarter])
        }))
    }
    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(shifted, |value, shifted| unsafe {
            let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
            vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(value), exponent))
        })
    }
    #[inline(always)]
    unsafe fn at_least(self, floor: Self) -> Self {
        // The maximum with a NaN is NaN.
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(floor, |a, floor| unsafe { vmaxq_f32(a, floor) })
    }
    #[inline(always)]
    unsafe fn where_active(self, guide: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        self.zip(guide, |value, guide| unsafe {
            let is_off = vcleq_f32(guide, vdupq_n_f32(0.));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), is_off))
        })
    }
    #[inline(always)]
    unsafe fn where_above(self, guide: Self, limit: Self, other: Self) -> Self {
        // SAFETY: the processor has NEON, as the caller promises.
        Self(std::array::from_fn(|quarter| unsafe {
            let guide = guide.0[quarter];
            let is_above = vcgtq_f32(guide, limit.0[quarter]);
            let is_above_or_nan = vornq_u32(is_above, vceqq_f32(guide, guide));
            vbslq_f32(is_above_or_nan, self.0[quarter], other.0[quarter])
        }))
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}
