//! Products of bytes by vectors: four neighbouring bytes of a row with those of sixteen columns at a time.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

use super::{Operands, SIDE};
use crate::instructions::Instructions;
use crate::view::ViewMut;

/// Instructions that multiply them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dot {
    /// AVX-512 VNNI: one instruction for sixteen columns.
    Vnni,
    /// AVX-VNNI: one for eight.
    AvxVnni,
    /// AVX2, which multiplies numbers of 16 bits: eight instructions for sixteen columns.
    Avx2,
}

impl Dot {
    /// The best one that goes with an instruction set, which this machine has.
    pub(super) fn of(instructions: Instructions) -> Self {
        match instructions {
            Instructions::Avx512 if Self::Vnni.is_available() => Self::Vnni,
            _ if Self::AvxVnni.is_available() => Self::AvxVnni,
            _ => Self::Avx2,
        }
    }

    #[cfg(test)]
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [Self::Vnni, Self::AvxVnni, Self::Avx2].into_iter().filter(|dot| dot.is_available())
    }

    fn is_available(self) -> bool {
        match self {
            Self::Vnni => is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f"),
            Self::AvxVnni => is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2"),
            Self::Avx2 => is_x86_feature_detected!("avx2"),
        }
    }

    /// As [`Tiles::multiply`](super::Tiles::multiply).
    #[inline(always)]
    pub(super) unsafe fn multiply<const R: usize, const C: usize>(
        self,
        operands: Operands,
        results: ViewMut,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Vnni => vnni::<R, C>(operands, results),
                Self::AvxVnni => avx_vnni::<R, C>(operands, results),
                Self::Avx2 => avx2::<R, C>(operands, results),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vnni<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    // Of 32 registers 24 or 16 for sums.
    // SAFETY: as the caller promises.
    unsafe {
        match C {
            1 => rows::<__m512i, R, 16, 1>(operands, results),
            _ => rows::<__m512i, R, 8, 2>(operands, results),
        }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    // Of sixteen registers eight for sums.
    // SAFETY: as the caller promises.
    unsafe { blocks::<Vnni256, R, C, 4>(operands, results) }
}

#[target_feature(enable = "avx2")]
unsafe fn avx2<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    // Eight, too.
    // SAFETY: as the caller promises.
    unsafe { blocks::<Wide, R, C, 2>(operands, results) }
}

/// One block of columns after the other.
#[inline(always)]
unsafe fn blocks<S: Sums, const R: usize, const C: usize, const ROWS: usize>(
    operands: Operands,
    results: ViewMut,
) {
    for block in 0..C {
        // SAFETY: the block is of weights and results, as the caller promises.
        unsafe {
            let weights = operands.weights.from(block * operands.block_len());
            rows::<S, R, ROWS, 1>(Operands { weights, ..operands }, results.from(block * SIDE));
        }
    }
}

/// Sixteen sums.
///
/// # Safety
/// All methods: the machine has the instructions.
trait Sums: Copy {
    /// Weights of a slot, ready to be multiplied.
    type Weights: Copy;

    unsafe fn zero() -> Self;
    unsafe fn weights(from: *const f32) -> Self::Weights;
    /// Adds the products of four bytes.
    unsafe fn add(self, bytes: i32, weights: Self::Weights) -> Self;
    unsafe fn store(self, to: *mut f32);
}

/// `ROWS` rows at a time with `C` blocks of columns.
#[inline(always)]
unsafe fn rows<S: Sums, const R: usize, const ROWS: usize, const C: usize>(
    operands: Operands,
    results: ViewMut,
) {
    let Operands { rows, start, distance, pitch, weights, runs, steps, .. } = operands;
    let run_len = steps * operands.slots();
    // SAFETY: results have that length, as the caller promises.
    let to = unsafe { results.slice(0, (R * SIDE - 1) * 2 * SIDE + C * SIDE) }.as_mut_ptr();
    for first in (0..R * SIDE).step_by(ROWS) {
        // SAFETY: rows, weights and results have the lengths that the loops go through, as the caller promises.
        unsafe {
            let mut sums = [[S::zero(); C]; ROWS];
            for run in 0..runs {
                let row_len = (ROWS - 1) * distance + 4 * run_len;
                let row = rows.pointer(start + run * pitch + first * distance, row_len);
                let weights = weights.from(run * run_len * SIDE).pointer();
                for slot in 0..run_len {
                    let mut of_slot = [S::weights(weights.add(slot * SIDE)); C];
                    for (block, of_slot) in of_slot.iter_mut().enumerate().skip(1) {
                        *of_slot = S::weights(weights.add(block * operands.block_len() + slot * SIDE));
                    }
                    for (index, sums) in sums.iter_mut().enumerate() {
                        let bytes = row.add(index * distance + 4 * slot).cast::<i32>().read_unaligned();
                        for (sum, weights) in sums.iter_mut().zip(of_slot) {
                            *sum = sum.add(bytes, weights);
                        }
                    }
                }
            }
            for (index, sums) in sums.into_iter().enumerate() {
                for (block, sum) in sums.into_iter().enumerate() {
                    sum.store(to.add((first + index) * 2 * SIDE + block * SIDE));
                }
            }
        }
    }
}

impl Sums for __m512i {
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX-512 VNNI, as the caller promises.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> Self {
        // SAFETY: as above; `from` is valid for sixteen slots.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add(self, bytes: i32, weights: Self) -> Self {
        // SAFETY: the processor has AVX-512 VNNI, as the caller promises.
        unsafe { _mm512_dpbusd_epi32(self, _mm512_set1_epi32(bytes), weights) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; `to` is valid for sixteen numbers.
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }
}

/// Eight and eight.
#[derive(Clone, Copy)]
struct Vnni256([__m256i; 2]);

impl Sums for Vnni256 {
    type Weights = [__m256i; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX-VNNI, as the caller promises.
        unsafe { Self([_mm256_setzero_si256(); 2]) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [__m256i; 2] {
        // SAFETY: as above; `from` is valid for sixteen slots.
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())] }
    }
    #[inline(always)]
    unsafe fn add(self, bytes: i32, [low, high]: [__m256i; 2]) -> Self {
        // SAFETY: the processor has AVX-VNNI, as the caller promises.
        unsafe {
            let bytes = _mm256_set1_epi32(bytes);
            Self([
                _mm256_dpbusd_avx_epi32(self.0[0], bytes, low),
                _mm256_dpbusd_avx_epi32(self.0[1], bytes, high),
            ])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; `to` is valid for sixteen numbers.
        unsafe {
            _mm256_storeu_si256(to.cast(), self.0[0]);
            _mm256_storeu_si256(to.add(8).cast(), self.0[1]);
        }
    }
}

/// Of each of sixteen columns two sums of two products each. Bytes are widened, as products of bytes that are added in 16 bits overflow.
#[derive(Clone, Copy)]
struct Wide([__m256i; 4]);

impl Sums for Wide {
    type Weights = [__m256i; 4];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX2, as the caller promises.
        unsafe { Self([_mm256_setzero_si256(); 4]) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [__m256i; 4] {
        // SAFETY: as above; `from` is valid for sixteen slots.
        unsafe {
            let mut weights = [_mm256_setzero_si256(); 4];
            for (quarter, weights) in weights.iter_mut().enumerate() {
                *weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(4 * quarter).cast()));
            }
            weights
        }
    }
    #[inline(always)]
    unsafe fn add(self, bytes: i32, weights: [__m256i; 4]) -> Self {
        // SAFETY: the processor has AVX2, as the caller promises.
        unsafe {
            let bytes = _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
            let mut sums = self.0;
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(bytes, weights));
            }
            Self(sums)
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; `to` is valid for sixteen numbers.
        unsafe {
            for (half, pair) in self.0.chunks_exact(2).enumerate() {
                // Sums of neighbours: columns 0, 1, 4, 5, 2, 3, 6, 7.
                let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(pair[0], pair[1]));
                _mm256_storeu_si256(to.add(8 * half).cast(), sums);
            }
        }
    }
}
