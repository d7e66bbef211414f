//! Copies of pixels through a source.

use std::ops::Range;

use crate::map::block_at;
use crate::source::{AnySource, Source, for_known};
use crate::tiles::Tiles;
use crate::vector::{LANES, Vector};
use crate::view::{MapView, MapViewMut};

/// Some pixels of an image.
#[derive(Clone, Copy)]
pub(crate) struct Pixels {
    pub(crate) image: usize,
    /// Where the first one lies.
    pub(crate) at: usize,
    /// Numbers from one to the next.
    pub(crate) apart: usize,
    pub(crate) count: usize,
}

/// Stores what `source` computes of pixels from a place on, `pitch` numbers apart: all of their `channels`. Where there are `tiles`, their
/// processor rounds.
///
/// # Safety
/// The pixels are of the source, and `to` has places for them.
#[inline(always)]
pub(crate) unsafe fn copy<V: Vector>(
    source: &AnySource,
    tiles: Option<Tiles>,
    channels: usize,
    pixels: Pixels,
    to: (MapViewMut, usize, usize),
) {
    // SAFETY: as the caller promises.
    unsafe { copy_blocks::<V>(source, tiles, channels, 0..channels.div_ceil(LANES), pixels, to) }
}

/// As [`copy`], some blocks of channels.
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
pub(crate) unsafe fn copy_blocks<V: Vector>(
    source: &AnySource,
    tiles: Option<Tiles>,
    channels: usize,
    own: Range<usize>,
    pixels: Pixels,
    to: (MapViewMut, usize, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(map) = source.as_halves()
            && to.0.is_of_halves()
        {
            let first = own.start * LANES;
            let count = channels.min(own.end * LANES) - first;
            return copy_halves(map, count, Pixels { at: pixels.at + first, ..pixels }, to);
        }
        for_known!(V, source, source => copy_known::<V, _>(source, tiles, channels, own, pixels, to));
    }
}

/// What is stored as it is.
unsafe fn copy_halves(
    map: MapView,
    channels: usize,
    pixels: Pixels,
    (to, place, pitch): (MapViewMut, usize, usize),
) {
    let Pixels { at, apart, count, .. } = pixels;
    // Without gaps they are one long pixel.
    let (channels, count) =
        if apart == channels && pitch == channels { (count * channels, 1) } else { (channels, count) };
    for pixel in 0..count {
        // SAFETY: the pixel is of the map and has a place, as the caller promises; they are in different memory.
        unsafe {
            let from = map.halves(at + pixel * apart, channels);
            to.halves(place + pixel * pitch, channels).copy_from_nonoverlapping(from, channels);
        }
    }
}

#[inline(always)]
unsafe fn copy_known<V: Vector, S: Source>(
    source: S,
    tiles: Option<Tiles>,
    channels: usize,
    own: Range<usize>,
    pixels: Pixels,
    (to, place, pitch): (MapViewMut, usize, usize),
) {
    _ = tiles;
    let first = own.start * LANES;
    #[allow(unused_mut)]
    let mut own = own;
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
    if tiles == Some(Tiles::Amx) && to.is_of_halves() {
        // SAFETY: the machine has AMX, so it has AVX-512 with bfloat16; the rest as the caller promises.
        unsafe { avx512::copy_whole(source, channels, own.clone(), pixels, (to, place, pitch)) };
        own.start = own.end.min(channels / LANES);
    }
    for block in own.map(|index| block_at(channels, index)) {
        // SAFETY: image, block and pixels are of the source, and `to` has places for them, as the caller promises.
        unsafe {
            let constants = source.constants::<V>(pixels.image, block);
            for pixel in 0..pixels.count {
                let from = pixels.at + pixel * pixels.apart + block.channel;
                let value = source.get::<V>(&constants, from, block);
                to.store_first(place + pixel * pitch + block.channel - first, block.count, value);
            }
        }
    }
}

/// AVX-512 with its instructions for bfloat16, which every processor with AMX has.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
mod avx512 {
    use std::arch::x86_64::*;

    use super::*;
    use crate::map::Block;
    use crate::vector::avx512::Avx512;

    /// Pixels that are read side by side where they are long: what is asked for ahead of them are the next channels of as many pixels.
    const TOGETHER: usize = 8;
    /// Blocks of channels from which on they are.
    const LONG: usize = 8;

    /// Those of the blocks that are whole.
    #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
    pub(super) unsafe fn copy_whole<S: Source>(
        source: S,
        channels: usize,
        own: Range<usize>,
        pixels: Pixels,
        (to, place, pitch): (MapViewMut, usize, usize),
    ) {
        let end = own.end.min(channels / LANES);
        let together = if own.len() < LONG { pixels.count.max(1) } else { TOGETHER };
        for first_pixel in (0..pixels.count).step_by(together) {
            let some = first_pixel..pixels.count.min(first_pixel + together);
            for first in (own.start..end).step_by(2) {
                let is_pair = first + 1 < end;
                let pair = [first, first + usize::from(is_pair)];
                let pair = pair.map(|index| Block { count: LANES, ..block_at(channels, index) });
                // SAFETY: image, blocks and pixels are of the source, and `to` has places for them, as the caller promises.
                unsafe {
                    let constants = [
                        source.constants::<Avx512>(pixels.image, pair[0]),
                        source.constants::<Avx512>(pixels.image, pair[1]),
                    ];
                    for pixel in some.clone() {
                        let from = pixels.at + pixel * pixels.apart;
                        let place = place + pixel * pitch + (first - own.start) * LANES;
                        let value = source.get(&constants[0], from + pair[0].channel, pair[0]);
                        if is_pair {
                            let second = source.get(&constants[1], from + pair[1].channel, pair[1]);
                            let to = to.halves(place, 2 * LANES).cast::<__m512bh>();
                            to.write_unaligned(_mm512_cvtne2ps_pbh(second.0, value.0));
                        } else {
                            let to = to.halves(place, LANES).cast::<__m256bh>();
                            to.write_unaligned(_mm512_cvtneps_pbh(value.0));
                        }
                    }
                }
            }
        }
    }
}
