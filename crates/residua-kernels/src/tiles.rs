//! Products of tiles: of bfloat16 with sums of f32, by a matrix unit; of bytes with sums of 32 bits, by that or by vectors.
//!
//! A product is of up to two tiles of rows with up to two tiles of columns, each sixteen: what is loaded is used twice.

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
mod amx;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
mod dot;

use crate::instructions::Instructions;
use crate::view::{Lines, MapView, View, ViewMut};

/// Rows, and columns, of a tile.
pub(crate) const SIDE: usize = 16;
/// Rows of a product.
pub(crate) const ROWS: usize = 2 * SIDE;
/// Numbers of the results of a product, `[ROWS][2 * SIDE]`.
pub(crate) const RESULTS: usize = ROWS * 2 * SIDE;

/// Lines that are asked for at a step of two tiles by two.
pub(crate) const AHEAD: usize = 8;

/// What is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// bfloat16 with bfloat16: sums are of f32.
    Bf16,
    /// Bytes of 0 to 255 with bytes of -127 to 127: sums are integers, exact.
    Int8,
}

impl Numbers {
    /// The logarithm of [`of_slot`](Self::of_slot): products are too short for divisions by what is known only when they run.
    const fn shift(self) -> u32 {
        match self {
            Self::Bf16 => 1,
            Self::Int8 => 2,
        }
    }

    /// How many weights lie in the place of an f32, one behind the other: a slot.
    pub(crate) const fn of_slot(self) -> usize {
        1 << self.shift()
    }

    /// How many slots so many numbers take.
    #[inline(always)]
    pub(crate) const fn slots(self, count: usize) -> usize {
        (count + self.of_slot() - 1) >> self.shift()
    }

    /// Numbers of a row that are multiplied in one step, at most.
    pub(crate) const fn depth(self) -> usize {
        SIDE << self.shift()
    }

    /// How many steps so many numbers take.
    #[inline(always)]
    pub(crate) const fn steps(self, count: usize) -> usize {
        self.slots(count).div_ceil(SIDE)
    }
}

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tiles {
    /// Intel's AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
    Amx,
    /// Bytes by vectors.
    #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
    Dot(dot::Dot),
    /// Loops, which say what the others compute.
    Portable,
}

/// What is multiplied: for each of `runs` runs, rows of `steps * depth` numbers with as many rows of weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) numbers: Numbers,
    /// Row r of run n begins at `start + n * pitch + r * distance`.
    pub(crate) rows: MapView<'a>,
    pub(crate) start: usize,
    pub(crate) distance: usize,
    pub(crate) pitch: usize,
    /// Slots of weights, each in the place of an f32: `[block][run][step][depth / of_slot][SIDE]`.
    pub(crate) weights: View<'a>,
    pub(crate) runs: usize,
    pub(crate) steps: usize,
    /// Whole slots, and at most [`Numbers::depth`].
    pub(crate) depth: usize,
    /// Lines that will be read soon, of which [`AHEAD`] are asked for at every step.
    pub(crate) ahead: Lines,
}

impl Operands<'_> {
    /// Slots of a step.
    #[inline(always)]
    pub(crate) fn slots(self) -> usize {
        self.numbers.slots(self.depth)
    }

    /// Slots of weights of a block of columns.
    #[inline(always)]
    pub(crate) fn block_len(self) -> usize {
        self.runs * self.steps * self.slots() * SIDE
    }
}

impl Tiles {
    /// That goes with an instruction set, if this machine has it.
    pub(crate) fn of(instructions: Instructions, numbers: Numbers) -> Option<Self> {
        match (instructions, numbers) {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            (Instructions::Avx512, _) if amx::is_available(numbers) => Some(Self::Amx),
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            (Instructions::Avx512 | Instructions::Avx2, Numbers::Int8) => {
                Some(Self::Dot(dot::Dot::of(instructions)))
            }
            (Instructions::Portable, _) | (_, Numbers::Int8) => Some(Self::Portable),
            _ => None,
        }
    }

    /// Whether they have an instruction for four products of bytes.
    pub(crate) fn are_fast_with_bytes(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            Self::Amx => true,
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Self::Dot(dot) => dot != dot::Dot::Avx2,
            Self::Portable => false,
        }
    }

    /// Gets ready for products of so many slots a step on this thread, until [`end`](Self::end).
    ///
    /// # Safety
    /// The machine has them.
    #[inline(always)]
    pub(crate) unsafe fn begin(self, slots: usize) {
        match self {
            // SAFETY: the machine has AMX, as the caller promises.
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
            Self::Amx => unsafe { amx::begin(slots) },
            _ => _ = slots,
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
            _ => {}
        }
    }

    /// The product of `R` tiles of rows with `C` blocks of columns, to `results: [ROWS][2 * SIDE]`; of bytes to the bits of integers. There
    /// are 16 * R rows, whatever they hold, of each run.
    ///
    /// # Safety
    /// Rows, weights and results have those lengths, and [`begin`](Self::begin) was called with as many slots.
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
                #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
                Self::Dot(dot) => dot.multiply::<R, C>(operands, results),
                Self::Portable => multiply::<R, C>(operands, results),
            }
        }
    }
}

/// [`Tiles::multiply`] as it is written.
unsafe fn multiply<const R: usize, const C: usize>(operands: Operands, results: ViewMut) {
    let Operands { numbers, rows, start, distance, pitch, weights, runs, steps, .. } = operands;
    let run_len = steps * operands.slots();
    for row in 0..R * SIDE {
        for column in 0..C * SIDE {
            let (block, lane) = (column / SIDE, column % SIDE);
            let (mut sum, mut whole) = (0., 0i32);
            for slot in 0..runs * run_len {
                let (run, place) = (slot / run_len, slot % run_len);
                let at = start + run * pitch + row * distance + numbers.of_slot() * place;
                // SAFETY: row, run and slot are of the operands.
                unsafe {
                    let weights = weights.get(block * operands.block_len() + slot * SIDE + lane).to_bits();
                    match numbers {
                        Numbers::Bf16 => {
                            let [low, high] = [rows.half(at), rows.half(at + 1)];
                            sum += low * f32::from_bits(weights << 16)
                                + high * f32::from_bits(weights & 0xffff_0000);
                        }
                        Numbers::Int8 => {
                            for (index, weight) in weights.to_le_bytes().into_iter().enumerate() {
                                whole += i32::from(rows.byte(at + index)) * i32::from(weight as i8);
                            }
                        }
                    }
                }
            }
            let result = match numbers {
                Numbers::Bf16 => sum,
                Numbers::Int8 => f32::from_bits(whole as u32),
            };
            // SAFETY: the place is of the results.
            unsafe { results.set(row * 2 * SIDE + column, result) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What multiplies bytes on this machine.
    fn all() -> Vec<Tiles> {
        let mut all: Vec<Tiles> = Instructions::available()
            .filter_map(|instructions| Tiles::of(instructions, Numbers::Int8))
            .collect();
        #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
        all.extend(dot::Dot::available().map(Tiles::Dot));
        all
    }

    fn product<const R: usize, const C: usize>(tiles: Tiles, operands: Operands) -> Vec<u32> {
        let mut results = vec![f32::NAN; RESULTS];
        // SAFETY: the machine has the tiles, and operands and results have the lengths that they say.
        unsafe {
            tiles.begin(operands.slots());
            tiles.multiply::<R, C>(operands, ViewMut::new(&mut results));
            tiles.end();
        }
        let rows = results.chunks_exact(2 * SIDE).take(R * SIDE);
        rows.flat_map(|row| row[..C * SIDE].iter().map(|value| value.to_bits())).collect()
    }

    #[test]
    fn sums_of_bytes_are_exact() {
        for (runs, steps, depth) in [(1, 1, 4), (1, 1, 64), (3, 2, 48), (5, 1, 12), (1, 9, 64)] {
            let numbers = Numbers::Int8;
            let run = steps * depth;
            let (distance, pitch) = (run + 4, ROWS * (run + 4));
            let byte = |index: usize| (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
            // The largest of both, too.
            let bytes: Vec<u8> = (0..runs * pitch).map(|at| if at < run { 255 } else { byte(at) }).collect();
            let weight = |index: usize| if index < 64 { 127 } else { (byte(index + 1) as i8).max(-127) };
            let slots = 2 * runs * run / 4 * SIDE;
            let slot = |slot: usize| [0, 1, 2, 3].map(|index| weight(4 * slot + index) as u8);
            let weights: Vec<f32> =
                (0..slots).map(|at| f32::from_bits(u32::from_le_bytes(slot(at)))).collect();
            let operands = Operands {
                numbers,
                rows: MapView::of_bytes(&bytes),
                start: 0,
                distance,
                pitch,
                weights: View::new(&weights),
                runs,
                steps,
                depth,
                ahead: Lines::NONE,
            };
            for tiles in all() {
                let name = format!("{tiles:?}, {runs} runs of {steps} steps of {depth}");
                let of = |tiles| {
                    [
                        product::<2, 2>(tiles, operands),
                        product::<2, 1>(tiles, operands),
                        product::<1, 2>(tiles, operands),
                        product::<1, 1>(tiles, operands),
                    ]
                };
                assert!(of(tiles) == of(Tiles::Portable), "{name}");
            }
        }
    }
}
