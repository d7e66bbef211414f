//! Convolutions of bytes: how they are read, and what becomes of their sums.

use std::ops::Range;

use super::{Feed, Finish, Finishing, Tiled, Waiting};
use crate::int8::Quantisation;
use crate::map::{Block, block_at, blocks};
use crate::reading::Pixels;
use crate::source::{AnySource, Source, floor};
use crate::tiles::{SIDE, Tiles};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, MapViewMut, View};

/// Bytes that stand for numbers.
#[derive(Clone, Copy)]
pub(crate) enum Quantised<'a> {
    /// They are stored.
    Stored { bytes: MapView<'a>, zero_point: u8 },
    /// They are made of numbers when these are read.
    Computed { source: AnySource<'a>, quantisation: Quantisation },
}

impl Feed for Quantised<'_> {
    fn as_stored(&self) -> Option<MapView<'_>> {
        match self {
            Self::Stored { bytes, .. } => Some(*bytes),
            Self::Computed { .. } => None,
        }
    }

    fn is_uniform(&self) -> bool {
        !matches!(self, Self::Computed { source: AnySource::Normalised(_), .. })
    }

    fn border(&self) -> u8 {
        match self {
            Self::Stored { zero_point, .. } => *zero_point,
            Self::Computed { quantisation, .. } => quantisation.zero_point,
        }
    }

    #[inline(always)]
    unsafe fn copy<V: Vector>(
        &self,
        _: Tiles,
        channels: usize,
        pixels: Pixels,
        to: (MapViewMut, usize, usize),
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Stored { bytes, .. } => copy_bytes(*bytes, channels, pixels, to),
                Self::Computed { source: AnySource::Raw(source), quantisation } => {
                    quantise::<V, _>(*source, *quantisation, channels, pixels, to);
                }
                Self::Computed { source: AnySource::Normalised(source), quantisation } => {
                    quantise::<V, _>(*source, *quantisation, channels, pixels, to);
                }
                Self::Computed { source: AnySource::ThroughNorm(_), .. } => {
                    unreachable!("gradients are not quantised")
                }
            }
        }
    }
}

unsafe fn copy_bytes(
    bytes: MapView,
    channels: usize,
    Pixels { at, apart, count, .. }: Pixels,
    (to, place, pitch): (MapViewMut, usize, usize),
) {
    // Without gaps they are one long pixel.
    let (channels, count) =
        if apart == channels && pitch == channels { (count * channels, 1) } else { (channels, count) };
    for pixel in 0..count {
        // SAFETY: the pixel is of the map and has a place, as the caller promises; they are in different memory.
        unsafe {
            let from = bytes.pointer(at + pixel * apart, channels);
            to.bytes(place + pixel * pitch, channels).copy_from_nonoverlapping(from, channels);
        }
    }
}

/// Pixels that are read side by side, all channels of each.
const TOGETHER: usize = 8;

#[inline(always)]
unsafe fn quantise<V: Vector, S: Source>(
    source: S,
    quantisation: Quantisation,
    channels: usize,
    pixels: Pixels,
    (to, place, pitch): (MapViewMut, usize, usize),
) {
    // SAFETY: image, blocks and pixels are of the source, and `to` has places for them, as the caller promises.
    unsafe {
        let to_bytes = ToByte::<V>::new(quantisation);
        for first in (0..pixels.count).step_by(TOGETHER) {
            for block in blocks(channels) {
                let constants = source.constants::<V>(pixels.image, block);
                let some = first..pixels.count.min(first + TOGETHER);
                let to = (to, place, pitch);
                if block.count == LANES {
                    // Known when this is compiled.
                    let block = Block { count: LANES, ..block };
                    quantise_block(source, &constants, to_bytes, block, pixels, some, to);
                } else {
                    quantise_block(source, &constants, to_bytes, block, pixels, some, to);
                }
            }
        }
    }
}

/// A block of channels of some of the pixels.
#[inline(always)]
unsafe fn quantise_block<V: Vector, S: Source>(
    source: S,
    constants: &S::Constants<V>,
    to_bytes: ToByte<V>,
    block: Block,
    pixels: Pixels,
    some: Range<usize>,
    (to, place, pitch): (MapViewMut, usize, usize),
) {
    for pixel in some {
        let from = pixels.at + pixel * pixels.apart + block.channel;
        // SAFETY: as the caller promises.
        unsafe {
            let value = source.get::<V>(constants, from, block);
            to_bytes.store(value, (to, place + pixel * pitch + block.channel), block.count);
        }
    }
}

/// From numbers to bytes.
#[derive(Clone, Copy)]
struct ToByte<V> {
    steps: V,
    zero_point: V,
}

impl<V: Vector> ToByte<V> {
    #[inline(always)]
    unsafe fn new(Quantisation { scale, zero_point }: Quantisation) -> Self {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { Self { steps: V::splat(1. / scale), zero_point: V::splat(f32::from(zero_point)) } }
    }

    #[inline(always)]
    unsafe fn store(self, value: V, to: (MapViewMut, usize), count: usize) {
        // SAFETY: as the caller promises.
        unsafe { store_bytes(value.mul_add(self.steps, self.zero_point), to, count) }
    }
}

/// The first `count` numbers of a vector, as bytes.
#[inline(always)]
unsafe fn store_bytes<V: Vector>(value: V, (to, at): (MapViewMut, usize), count: usize) {
    // SAFETY: `to` has places for as many bytes, as the caller promises.
    unsafe {
        let to = to.bytes(at, count);
        if count == LANES {
            return value.store_bytes(to);
        }
        let mut bytes = [0; LANES];
        value.store_bytes(bytes.as_mut_ptr());
        to.copy_from_nonoverlapping(bytes.as_ptr(), count);
    }
}

/// Sums of bytes as numbers again, their epilogue, and bytes, if those are wanted.
#[derive(Clone, Copy)]
pub(crate) struct ToBytes<'a> {
    /// What a sum's unit stands for, and what all sums of an output have too little, for every output, padded.
    pub(crate) units: View<'a>,
    pub(crate) bases: View<'a>,
    /// Its output is of numbers, or has the bytes.
    pub(crate) finishing: Finishing<'a>,
    pub(crate) quantisation: Option<Quantisation>,
}

impl Finish for ToBytes<'_> {
    const IS_BY_IMAGE: bool = false;

    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, tiled: Tiled, waiting: &Waiting, results: View) {
        let channels = tiled.output.channels;
        let Finishing { addend, adds_behind, .. } = self.finishing;
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
        if tiled.tiles == Tiles::Amx
            && self.quantisation.is_none()
            && (waiting.block + waiting.blocks) * LANES <= channels
        {
            let integers = Some([self.units, self.bases]);
            // SAFETY: the machine has AMX, so it has AVX-512 with bfloat16; the rest as the caller promises.
            if unsafe { super::finish::avx512::finish(&self.finishing, integers, channels, waiting, results) }
            {
                return;
            }
        }
        for half in 0..waiting.blocks {
            let block = block_at(channels, waiting.block + half);
            // SAFETY: results have rows of two blocks.
            unsafe {
                let results = results.from(half * LANES);
                match (addend, adds_behind) {
                    (None, _) => self.finish_block::<V, false, false>(channels, waiting, block, results),
                    (_, false) => self.finish_block::<V, true, false>(channels, waiting, block, results),
                    (_, true) => self.finish_block::<V, true, true>(channels, waiting, block, results),
                }
            }
        }
    }
}

impl ToBytes<'_> {
    #[inline(always)]
    unsafe fn finish_block<V: Vector, const ADDS: bool, const ADDS_BEHIND: bool>(
        &self,
        channels: usize,
        waiting: &Waiting,
        block: Block,
        results: View,
    ) {
        let Finishing { output, addend, scale, shift, factor, is_activated, .. } = self.finishing;
        // SAFETY: results have a row for every pixel; pixels and block are of the output, whose shape the addend has; what is there
        // for every output is padded to whole blocks.
        unsafe {
            let mut unit = self.units.load::<V>(block.channel);
            let mut base = self.bases.load::<V>(block.channel);
            let (scale, shift) = (scale.load::<V>(block.channel), shift.load::<V>(block.channel));
            // A closure would not be compiled for the instruction set.
            #[expect(clippy::manual_map)]
            let to_byte = match self.quantisation {
                Some(quantisation) => Some(ToByte::<V>::new(quantisation)),
                None => None,
            };
            let (factor, mut floor) = (V::splat(factor), V::splat(floor(is_activated)));
            let addend = addend.unwrap_or_else(MapView::none);
            if !ADDS {
                // All that is multiplied and added is one of each.
                (unit, base) = (unit.mul(scale), base.mul_add(scale, shift));
                if let Some(ToByte { steps, zero_point }) = to_byte {
                    (unit, base) = (unit.mul(steps), base.mul_add(steps, zero_point));
                    floor = if is_activated { zero_point } else { floor };
                }
            }
            for (row, pixel) in waiting.pixels[..waiting.count].iter().enumerate() {
                let Some(pixel) = *pixel else { continue };
                let at = (waiting.place.first + pixel as usize) * channels + block.channel;
                let mut value = results.load::<V>(row * 2 * SIDE).of_integers().mul_add(unit, base);
                if !ADDS {
                    value = value.at_least(floor);
                    match to_byte {
                        Some(_) => store_bytes(value, (output, at), block.count),
                        None => _ = output.store_first(at, block.count, value),
                    }
                    continue;
                }
                if !ADDS_BEHIND {
                    value = addend.load_first::<V>(at, block.count).mul_add(factor, value);
                }
                value = value.mul_add(scale, shift).at_least(floor);
                if ADDS_BEHIND {
                    value = addend.load_first::<V>(at, block.count).mul_add(factor, value);
                }
                match to_byte {
                    Some(to_byte) => to_byte.store(value, (output, at), block.count),
                    None => _ = output.store_first(at, block.count, value),
                }
            }
        }
    }
}
