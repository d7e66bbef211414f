//! Sixteen numbers at a time, on whatever instruction set there is.
//!
//! Every kernel is written once, over [`Vector`]: a block of [`LANES`] channels of one pixel. An instruction set says
//! how to load, store and combine such blocks: AVX-512 has one register for it, AVX2 takes two, NEON four, and
//! [`Portable`] is an array that the compiler makes of it what it can. Because a block is sixteen wide everywhere,
//! the layout of packed weights and scratch memory does not depend on the machine.
//!
//! The methods are unsafe for two reasons: they take pointers, and they may only run on a machine that has the
//! instructions, inside a function compiled for them (see [`crate::instructions`]), into which they are inlined.

// Fuzzers try what reads files: for them the portable path alone is compiled, much sooner.
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
pub(crate) mod avx2;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

use crate::instructions::Work;
#[allow(unused_imports)]
use crate::product::{self, Ahead, Beside};
use crate::view::{View, ViewMut};

/// Numbers in a [`Vector`]: channels are processed in blocks of this many.
pub(crate) const LANES: usize = 16;

/// Makes the frame of the function that this is inlined into begin at a cache line. LLVM does that only for values that want
/// it from the start, not for registers that it comes to store there later: they would lie across two lines, or two pages.
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
#[inline(always)]
fn align_frame() {
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "only its address is taken")] std::mem::MaybeUninit<[u8; 64]>);
    let line = Line(std::mem::MaybeUninit::uninit());
    std::hint::black_box(&line);
}

/// A block of [`LANES`] f32.
///
/// # Safety
/// All methods: the machine has the instructions; pointers are valid for [`LANES`] (or the given count of) f32, of
/// any alignment.
pub(crate) trait Vector: Copy {
    /// Whether sixteen accumulators and what is multiplied fit in registers.
    const HAS_MANY_REGISTERS: bool;
    /// Whether kernels are compiled for every kind of sink and source; else once for all of them, and what tells them apart
    /// is looked up at every vector.
    const IS_SPECIALISED: bool;

    /// Does `work` in a function of its own, compiled for the instructions. Without such seams a kernel would be one function
    /// with a copy of everything below it for every caller.
    unsafe fn call(work: impl Work<Self>);

    /// [`product::product`] with as many rows of accumulators as there are registers for.
    unsafe fn product(
        a: (View, usize),
        wanted: usize,
        depth_blocks: usize,
        b: View,
        ahead: Ahead,
        beside: &mut impl Beside,
        results: ViewMut,
    );
    /// [`product::outer`], likewise.
    unsafe fn outer(a: View, g: View, rows: usize, sum: ViewMut, is_first: bool);

    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `count` (at most [`LANES`]) numbers, zeros behind them.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// Writes the first `count` (at most [`LANES`]) numbers.
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// Sixteen bfloat16.
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: `from` is valid for sixteen halves, as the caller promises.
        unsafe {
            let halves = from.cast::<[u16; LANES]>().read_unaligned();
            let lanes = halves.map(|half| f32::from_bits(u32::from(half) << 16));
            Self::load(lanes.as_ptr())
        }
    }
    /// The nearest bfloat16 of each number, of two equally near the even one; NaN stays NaN.
    #[inline(always)]
    unsafe fn round_half(self) -> Self {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array has sixteen numbers.
        unsafe {
            self.store(lanes.as_mut_ptr());
            let lanes = lanes.map(|value| {
                let bits = value.to_bits();
                let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
                // Rounding could carry a NaN's bits away; a quiet one keeps a bit that stays.
                f32::from_bits(if value.is_nan() { bits | 0x0040_0000 } else { rounded } & 0xffff_0000)
            });
            Self::load(lanes.as_ptr())
        }
    }
    /// Writes numbers that are bfloat16 already.
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array has sixteen numbers, and `to` is valid for as many halves.
        unsafe {
            self.store(lanes.as_mut_ptr());
            let halves = lanes.map(|value| (value.to_bits() >> 16) as u16);
            to.cast::<[u16; LANES]>().write_unaligned(halves);
        }
    }
    /// The nearest of the bytes 0 to 255 to each number, of two equally near the even one; zero for NaN.
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array has sixteen numbers, and `to` is valid for as many bytes.
        unsafe {
            self.store(lanes.as_mut_ptr());
            let bytes = lanes.map(|value| value.round_ties_even() as u8);
            to.cast::<[u8; LANES]>().write_unaligned(bytes);
        }
    }
    /// The numbers that the bits are as integers.
    #[inline(always)]
    unsafe fn of_integers(self) -> Self {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array has sixteen numbers.
        unsafe {
            self.store(lanes.as_mut_ptr());
            let lanes = lanes.map(|value| (value.to_bits() as i32) as f32);
            Self::load(lanes.as_ptr())
        }
    }
    /// Numbers that lie first in each of sixteen blocks, then those that lie second, and so on.
    #[inline(always)]
    unsafe fn transpose(blocks: [Self; LANES]) -> [Self; LANES] {
        let mut numbers = [[0f32; LANES]; LANES];
        let mut transposed = [[0f32; LANES]; LANES];
        // SAFETY: arrays have sixteen numbers.
        unsafe {
            for (block, to) in blocks.into_iter().zip(&mut numbers) {
                block.store(to.as_mut_ptr());
            }
            for (row, to) in transposed.iter_mut().enumerate() {
                for (column, to) in to.iter_mut().enumerate() {
                    *to = numbers[column][row];
                }
            }
            let mut rows = [Self::zero(); LANES];
            for (row, from) in rows.iter_mut().zip(&transposed) {
                *row = Self::load(from.as_ptr());
            }
            rows
        }
    }
    /// The nearest bfloat16 of each two numbers in the place of one f32, the first in its lower half.
    #[inline(always)]
    unsafe fn pair(first: Self, second: Self) -> Self {
        let mut halves = [[0u16; LANES]; 2];
        // SAFETY: arrays have sixteen halves.
        unsafe {
            first.round_half().store_half(halves[0].as_mut_ptr());
            second.round_half().store_half(halves[1].as_mut_ptr());
            Self::interleave(halves[0].as_ptr(), halves[1].as_ptr())
        }
    }
    /// Each two bfloat16 in the place of one f32, the first in its lower half.
    #[inline(always)]
    unsafe fn interleave(first: *const u16, second: *const u16) -> Self {
        // SAFETY: pointers are valid for sixteen halves, as the caller promises.
        unsafe {
            let [first, second] = [first, second].map(|from| from.cast::<[u16; LANES]>().read_unaligned());
            let mut pairs = [0f32; LANES];
            for ((pair, first), second) in pairs.iter_mut().zip(first).zip(second) {
                *pair = f32::from_bits(u32::from(first) | u32::from(second) << 16);
            }
            Self::load(pairs.as_ptr())
        }
    }
    /// Writes past the caches; `to` is aligned to 64 bytes. Visible to other threads after [`Vector::fence`].
    unsafe fn store_streaming(self, to: *mut f32);
    unsafe fn fence();
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self * 2^n` where `shifted` is `n + 1.5 * 2^23`, whose lowest bits are those of the integer `n`; it is added to the
    /// exponent, so `self` and the result are normal numbers.
    unsafe fn times_power_of_two(self, shifted: Self) -> Self;
    /// `max(self, floor)`; NaN stays NaN. With a floor of zero it is ReLU, with one of minus infinity nothing happens.
    unsafe fn at_least(self, floor: Self) -> Self;
    /// `self` where `guide` is not at or below zero (so also where it is NaN), zero elsewhere: ReLU's gradient.
    unsafe fn where_active(self, guide: Self) -> Self;
    /// `self` where `guide` is above `limit` or NaN, `other` elsewhere.
    unsafe fn where_above(self, guide: Self, limit: Self, other: Self) -> Self;
    /// Asks for the cache line at `address`, which need not be valid, to be brought near.
    unsafe fn prefetch(address: *const f32);
}
