//! AVX-512: one register is a block.

use std::arch::x86_64::*;

use super::{LANES, Vector, align_frame};
use crate::instructions::Work;
use crate::product::{self, Ahead, Beside};
use crate::view::{View, ViewMut};

#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(crate) __m512);

fn mask(count: usize) -> __mmask16 {
    ((1u32 << count) - 1) as __mmask16
}

#[target_feature(enable = "avx512f,avx2,fma")]
#[inline(never)]
unsafe fn call(work: impl Work<Avx512>) {
    align_frame();
    // SAFETY: as the caller promises.
    unsafe { work.run() }
}

impl Vector for Avx512 {
    const HAS_MANY_REGISTERS: bool = true;
    const IS_SPECIALISED: bool = true;

    #[inline(always)]
    unsafe fn call(work: impl Work<Self>) {
        // SAFETY: as the caller promises.
        unsafe { call(work) }
    }

    // Sixteen accumulators, the weights, and broadcasts straight from memory leave registers to spare; more rows gain
    // nothing once the latency of a multiply-add is hidden.
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
        unsafe { product::product::<Self, 16, 1>(a, wanted, depth_blocks, b, ahead, beside, results) }
    }
    #[inline(always)]
    unsafe fn outer(a: View, g: View, rows: usize, sum: ViewMut, is_first: bool) {
        // SAFETY: as the caller promises.
        unsafe { product::outer::<Self, 16, 1, 1>(a, [g], rows, [sum], is_first) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_setzero_ps()) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the processor has AVX-512, and `from` is valid for as many numbers, as the caller promises.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the processor has AVX-512, and `to` is valid for as many numbers, as the caller promises.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the processor has AVX-512, and `from` is valid for as many numbers, as the caller promises.
        unsafe { Self(_mm512_maskz_loadu_ps(mask(count), from)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the processor has AVX-512, and `to` is valid for as many numbers, as the caller promises.
        unsafe { _mm512_mask_storeu_ps(to, mask(count), self.0) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: the processor has AVX-512, and `from` is valid for as many numbers, as the caller promises.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
        }
    }
    #[inline(always)]
    unsafe fn round_half(self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x0040_0000));
            let rounded = _mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            Self(_mm512_castsi512_ps(rounded))
        }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        // SAFETY: the processor has AVX-512, and `to` is valid for as many numbers, as the caller promises.
        unsafe {
            let halves = _mm512_srli_epi32::<16>(_mm512_castps_si512(self.0));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(halves));
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the processor has AVX-512, and `to` is valid for as many bytes, as the caller promises.
        unsafe {
            // The second operand is the result where either is NaN.
            let positive = _mm512_max_ps(self.0, _mm512_setzero_ps());
            let integers = _mm512_cvtps_epi32(_mm512_min_ps(positive, _mm512_set1_ps(255.)));
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(integers));
        }
    }
    #[inline(always)]
    unsafe fn of_integers(self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0))) }
    }
    #[inline(always)]
    unsafe fn transpose(blocks: [Self; LANES]) -> [Self; LANES] {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let mut rows = blocks.map(|block| block.0);
            // Two, then four neighbouring rows in each quarter of a register.
            let mut pairs = rows;
            for at in (0..LANES).step_by(2) {
                pairs[at] = _mm512_unpacklo_ps(rows[at], rows[at + 1]);
                pairs[at + 1] = _mm512_unpackhi_ps(rows[at], rows[at + 1]);
            }
            for at in (0..LANES).step_by(4) {
                let double = |row: usize| _mm512_castps_pd(pairs[at + row]);
                rows[at] = _mm512_castpd_ps(_mm512_unpacklo_pd(double(0), double(2)));
                rows[at + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(double(0), double(2)));
                rows[at + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(double(1), double(3)));
                rows[at + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(double(1), double(3)));
            }
            // Quarters of four registers, then of all sixteen.
            let mut halves = rows;
            for at in 0..4 {
                for eight in [0, 8] {
                    let (low, high) = (rows[eight + at], rows[eight + 4 + at]);
                    halves[eight + at] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
                    halves[eight + 4 + at] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
                }
            }
            for at in 0..8 {
                let (low, high) = (halves[at], halves[at + 8]);
                rows[at] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
                rows[at + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
            }
            rows.map(Self)
        }
    }
    #[inline(always)]
    unsafe fn pair(first: Self, second: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let (first, second) = (first.round_half().0, second.round_half().0);
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            Self(_mm512_castsi512_ps(_mm512_or_si512(first, _mm512_castps_si512(second))))
        }
    }
    #[inline(always)]
    unsafe fn interleave(first: *const u16, second: *const u16) -> Self {
        // SAFETY: the processor has AVX-512, and both are valid for sixteen halves, as the caller promises.
        unsafe {
            let first = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()));
            let second = _mm512_cvtepu16_epi32(_mm256_loadu_si256(second.cast()));
            Self(_mm512_castsi512_ps(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second))))
        }
    }
    #[inline(always)]
    unsafe fn store_streaming(self, to: *mut f32) {
        // SAFETY: the processor has AVX-512, and `to` is valid and aligned, as the caller promises.
        unsafe { _mm512_stream_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), exponent)))
        }
    }
    #[inline(always)]
    unsafe fn at_least(self, floor: Self) -> Self {
        // The second operand is the result where either is NaN.
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe { Self(_mm512_max_ps(floor.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn where_active(self, guide: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let is_active = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(guide.0, _mm512_setzero_ps());
            Self(_mm512_maskz_mov_ps(is_active, self.0))
        }
    }
    #[inline(always)]
    unsafe fn where_above(self, guide: Self, limit: Self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512, as the caller promises.
        unsafe {
            let is_above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(guide.0, limit.0);
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(guide.0, guide.0);
            Self(_mm512_mask_mov_ps(other.0, is_above | is_nan, self.0))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        // SAFETY: a hint: the address need not be valid.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
}
