//! AVX2 with FMA: a block is two registers.

use std::arch::x86_64::*;

use super::{Vector, align_frame};
use crate::instructions::Work;
use crate::product::{self, Ahead, Beside};
use crate::view::{View, ViewMut};

#[derive(Clone, Copy)]
pub(crate) struct Avx2([__m256; 2]);

#[inline(always)]
unsafe fn masks(count: usize) -> [__m256i; 2] {
    // SAFETY: the processor has AVX2 and FMA, as the caller promises.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let count = _mm256_set1_epi32(count as i32);
        let upper = _mm256_add_epi32(lanes, _mm256_set1_epi32(8));
        [_mm256_cmpgt_epi32(count, lanes), _mm256_cmpgt_epi32(count, upper)]
    }
}

/// Eight bfloat16.
#[inline(always)]
unsafe fn wide(from: *const u16) -> __m256 {
    // SAFETY: the processor has AVX2, and `from` is valid for as many numbers, as the caller promises.
    unsafe {
        let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
    }
}

/// [`Vector::round_half`]
#[inline(always)]
unsafe fn rounded(values: __m256) -> __m256 {
    // SAFETY: the processor has AVX2, as the caller promises.
    unsafe {
        let bits = _mm256_castps_si256(values);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
        let nearest = _mm256_blendv_epi8(nearest, quiet, is_nan);
        _mm256_castsi256_ps(_mm256_and_si256(nearest, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
    }
}

/// The nearest integers from 0 to 255; zero for NaN.
#[inline(always)]
unsafe fn of_byte(values: __m256) -> __m256i {
    // SAFETY: the processor has AVX2, as the caller promises.
    unsafe {
        // The second operand is the result where either is NaN.
        let positive = _mm256_max_ps(values, _mm256_setzero_ps());
        _mm256_cvtps_epi32(_mm256_min_ps(positive, _mm256_set1_ps(255.)))
    }
}

macro_rules! each {
    ($operation:ident, $($operand:expr),+) => {
        each!(@ $operation, 0, 1; $($operand),+)
    };
    (@ $operation:ident, $first:tt, $second:tt; $($operand:expr),+) => {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe { Avx2([$operation($($operand.0[$first]),+), $operation($($operand.0[$second]),+)]) }
    };
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn call(work: impl Work<Avx2>) {
    align_frame();
    // SAFETY: as the caller promises.
    unsafe { work.run() }
}

impl Vector for Avx2 {
    const HAS_MANY_REGISTERS: bool = false;
    const IS_SPECIALISED: bool = true;

    #[inline(always)]
    unsafe fn call(work: impl Work<Self>) {
        // SAFETY: as the caller promises.
        unsafe { call(work) }
    }

    // Six rows of two registers, the weights' two, and one broadcast: fifteen of sixteen. Two multiply-adds begin in a cycle and
    // take four: eight accumulators would have to follow each other without a gap.
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
        unsafe { product::product::<Self, 6, 5>(a, wanted, depth_blocks, b, ahead, beside, results) }
    }
    #[inline(always)]
    unsafe fn outer(a: View, g: View, rows: usize, sum: ViewMut, is_first: bool) {
        // SAFETY: as the caller promises.
        unsafe { product::outer::<Self, 6, 5, 1>(a, [g], rows, [sum], is_first) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe { Self([_mm256_setzero_ps(); 2]) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe { Self([_mm256_set1_ps(value); 2]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the processor has AVX2 and FMA, and `from` is valid for as many numbers, as the caller promises.
        unsafe { Self([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the processor has AVX2 and FMA, and `to` is valid for as many numbers, as the caller promises.
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the processor has AVX2 and FMA, and `from` is valid for as many numbers, as the caller promises.
        unsafe {
            let masks = masks(count);
            // Masked-off lanes are not accessed, and the address arithmetic wraps where the upper half is all off.
            let upper = from.wrapping_add(8);
            Self([_mm256_maskload_ps(from, masks[0]), _mm256_maskload_ps(upper, masks[1])])
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the processor has AVX2 and FMA, and `to` is valid for as many numbers, as the caller promises.
        unsafe {
            let masks = masks(count);
            _mm256_maskstore_ps(to, masks[0], self.0[0]);
            _mm256_maskstore_ps(to.wrapping_add(8), masks[1], self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_streaming(self, to: *mut f32) {
        // SAFETY: the processor has AVX2 and FMA, and `to` is valid and aligned, as the caller promises.
        unsafe {
            _mm256_stream_ps(to, self.0[0]);
            _mm256_stream_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(_mm256_add_ps, self, other)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(_mm256_sub_ps, self, other)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(_mm256_mul_ps, self, other)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(_mm256_div_ps, self, other)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        each!(_mm256_fmadd_ps, self, factor, addend)
    }
    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe {
            let half = |half: usize| {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted.0[half]));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0[half]), exponent))
            };
            Self([half(0), half(1)])
        }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: the processor has AVX2 and FMA, and `from` is valid for as many numbers, as the caller promises.
        unsafe { Self([wide(from), wide(from.add(8))]) }
    }
    #[inline(always)]
    unsafe fn round_half(self) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe { Self([rounded(self.0[0]), rounded(self.0[1])]) }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        // SAFETY: the processor has AVX2 and FMA, and `to` is valid for as many numbers, as the caller promises.
        unsafe {
            let low = _mm256_srli_epi32::<16>(_mm256_castps_si256(self.0[0]));
            let high = _mm256_srli_epi32::<16>(_mm256_castps_si256(self.0[1]));
            // Quarters of both in turn, then in order.
            let words = _mm256_packus_epi32(low, high);
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(words));
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the processor has AVX2 and FMA, and `to` is valid for as many bytes, as the caller promises.
        unsafe {
            // Quarters of both in turn, then in order.
            let words = _mm256_packs_epi32(of_byte(self.0[0]), of_byte(self.0[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), _mm_packus_epi16(low, high));
        }
    }
    #[inline(always)]
    unsafe fn of_integers(self) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe {
            let (low, high) = (_mm256_castps_si256(self.0[0]), _mm256_castps_si256(self.0[1]));
            Self([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)])
        }
    }
    #[inline(always)]
    unsafe fn at_least(self, floor: Self) -> Self {
        // The second operand is the result where either is NaN.
        each!(_mm256_max_ps, floor, self)
    }
    #[inline(always)]
    unsafe fn where_active(self, guide: Self) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe {
            let half = |half: usize| {
                let is_active = _mm256_cmp_ps::<_CMP_NLE_UQ>(guide.0[half], _mm256_setzero_ps());
                _mm256_and_ps(is_active, self.0[half])
            };
            Self([half(0), half(1)])
        }
    }
    #[inline(always)]
    unsafe fn where_above(self, guide: Self, limit: Self, other: Self) -> Self {
        // SAFETY: the processor has AVX2 and FMA, as the caller promises.
        unsafe {
            let half = |half: usize| {
                let is_above = _mm256_cmp_ps::<_CMP_GT_OQ>(guide.0[half], limit.0[half]);
                let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(guide.0[half], guide.0[half]);
                _mm256_blendv_ps(other.0[half], self.0[half], _mm256_or_ps(is_above, is_nan))
            };
            Self([half(0), half(1)])
        }
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        // SAFETY: a hint: the address need not be valid.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
}
