//! Matrix units: products of tiles of bfloat16, with sums of f32.
//!
//! A product is of up to two tiles of rows with up to two tiles of columns, each sixteen: what is loaded is used twice.

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
mod amx;

use crate::instructions::Instructions;
use crate::view::{Lines, MapView, View, ViewMut};

/// Rows, and columns, of a tile.
pub(crate) const SIDE: usize = 16;
/// Numbers of a row that are multiplied in one step, at most.
pub(crate) const DEPTH: usize = 32;
/// Rows of a product.
pub(crate) const ROWS: usize = 2 * SIDE;
/// Numbers of the results of a product, `[ROWS][2 * SIDE]`.
pub(crate) const RESULTS: usize = ROWS * 2 * SIDE;

/// Lines that are asked for at a step of two tiles by two.
pub(crate) const AHEAD: usize = 8;

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tiles {
    /// Intel's AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
    Amx,
    /// Loops, which say what the others compute.
    Portable,
}

/// What is multiplied: for each of `runs` runs, rows of `steps * depth` numbers with as many rows of weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// bfloat16. Row r of run n begins at `start + n * pitch + r * distance`.
    pub(crate) rows: MapView<'a>,
    pub(crate) start: usize,
    pub(crate) distance: usize,
    pub(crate) pitch: usize,
    /// Pairs of bfloat16, each in the place of an f32: `[block][run][step][depth / 2][SIDE]`.
    pub(crate) weights: View<'a>,
    pub(crate) runs: usize,
    pub(crate) steps: usize,
    /// Even, and at most [`DEPTH`].
    pub(crate) depth: usize,
    /// Lines that will be read soon, of which [`AHEAD`] are asked for at every step.
    pub(crate) ahead: Lines,
}

impl Operands<'_> {
    /// Pairs of weights of a block of columns.
    #[inline(always)]
    pub(crate) fn block_len(self) -> usize {
        self.runs * self.steps * self.depth / 2 * SIDE
    }
}

impl Tiles {
    /// That goes with an instruction set, if this machine has it.
    pub(crate) fn of(instructions: Instructions) -> Option<Self> {
        match instructions {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            Instructions::Avx512 => amx::is_available().then_some(Self::Amx),
            Instructions::Portable => Some(Self::Portable),
            _ => None,
        }
    }

    /// Gets ready for products of this depth on this thread, until [`end`](Self::end).
    ///
    /// # Safety
    /// The machine has them.
    #[inline(always)]
    pub(crate) unsafe fn begin(self, depth: usize) {
        match self {
            // SAFETY: the machine has AMX, as the caller promises.
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            Self::Amx => unsafe { amx::begin(depth) },
            Self::Portable => _ = depth,
        }
    }

    /// # Safety
    /// As for [`begin`](Self::begin).
    #[inline(always)]
    pub(crate) unsafe fn end(self) {
        match self {
            // SAFETY: the machine has AMX, as the caller promises.
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            Self::Amx => unsafe { amx::end() },
            Self::Portable => {}
        }
    }

    /// The product of `R` tiles of rows with `C` blocks of columns, to `results: [ROWS][2 * SIDE]`. There are 16 * R rows, whatever they
    /// hold, of each run.
    ///
    /// # Safety
    /// Rows, weights and results have those lengths, and [`begin`](Self::begin) was called with this depth.
    #[inline(always)]
    pub(crate) unsafe fn multiply<const R: usize, const C: usize>(
        self,
        operands: Operands,
        results: ViewMut,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
                Self::Amx => amx::multiply::<R, C>(operands, results),
                Self::Portable => multiply::<R, C>(operands, results),
            }
        }
    }
}

/// [`Tiles::multiply`] as it is written.
unsafe fn multiply<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    let Operands { rows, start, distance, pitch, weights, runs, steps, depth, .. } = operands;
    let run_len = steps * depth / 2;
    for row in 0..R * SIDE {
        for column in 0..C * SIDE {
            let (block, lane) = (column / SIDE, column % SIDE);
            let mut sum = 0.;
            for pair in 0..runs * run_len {
                let (run, place) = (pair / run_len, pair % run_len);
                // SAFETY: row, run and pair are of the operands, the results' place is of the results.
                unsafe {
                    let weights = weights.get(block * operands.block_len() + pair * SIDE + lane).to_bits();
                    let at = start + run * pitch + row * distance + 2 * place;
                    let [low, high] = [rows.half(at), rows.half(at + 1)];
                    sum += low * f32::from_bits(weights << 16) + high * f32::from_bits(weights & 0xffff_0000);
                }
            }
            // SAFETY: as above.
            unsafe { results.set(row * 2 * SIDE + column, sum) };
        }
    }
}
