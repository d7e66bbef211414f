//! What follows a convolution's sums, and where it goes.

use super::{Finish, Place, Tiled, Waiting};
use crate::map::{Block, block_at};
use crate::sink::{AnySink, CHAINS, Sink, WithSink};
use crate::source::floor;
use crate::tiles::SIDE;
use crate::vector::{LANES, Vector};
use crate::view::{MapView, MapViewMut, View};

/// An epilogue (see [`Epilogue`](crate::Epilogue)) and its maps.
#[derive(Clone, Copy)]
pub(crate) struct Finishing<'a> {
    pub(crate) output: MapViewMut<'a>,
    pub(crate) addend: Option<MapView<'a>>,
    pub(crate) scale: View<'a>,
    pub(crate) shift: View<'a>,
    pub(crate) factor: f32,
    pub(crate) is_activated: bool,
    /// Whether what is added is added behind the ReLU.
    pub(crate) adds_behind: bool,
}

impl Finish for Finishing<'_> {
    const IS_BY_IMAGE: bool = false;

    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, tiled: Tiled, waiting: &Waiting, results: View) {
        let channels = tiled.output.channels;
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
        if tiled.tiles == crate::tiles::Tiles::Amx && (waiting.block + waiting.blocks) * LANES <= channels {
            // SAFETY: the machine has AMX, so it has AVX-512 with bfloat16; the rest as the caller promises.
            if unsafe { avx512::finish(self, None, channels, waiting, results) } {
                return;
            }
        }
        for half in 0..waiting.blocks {
            let block = block_at(channels, waiting.block + half);
            // SAFETY: results have rows of two blocks.
            unsafe {
                let results = results.from(half * LANES);
                match (self.addend, self.adds_behind) {
                    (None, _) => self.finish_block::<V, false, false>(channels, waiting, block, results),
                    (_, false) => self.finish_block::<V, true, false>(channels, waiting, block, results),
                    (_, true) => self.finish_block::<V, true, true>(channels, waiting, block, results),
                }
            }
        }
    }
}

/// Results go to a sink.
#[derive(Clone, Copy)]
pub(crate) struct ToSink<'a, K>(pub(crate) &'a K);

impl<K: AnySink> Finish for ToSink<'_, K> {
    const IS_BY_IMAGE: bool = true;

    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, tiled: Tiled, waiting: &Waiting, results: View) {
        if waiting.count > 0 {
            // SAFETY: as the caller promises.
            unsafe { self.0.run::<V>(Pour { channels: tiled.output.channels, waiting, results }) }
        }
    }
}

struct Pour<'a> {
    channels: usize,
    waiting: &'a Waiting,
    results: View<'a>,
}

impl<V: Vector> WithSink<V> for Pour<'_> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { channels, waiting, results } = self;
        let Place { image, first, is_first } = waiting.place;
        for half in 0..waiting.blocks {
            let block = block_at(channels, waiting.block + half);
            let pixels = waiting.pixels[..waiting.count].iter().enumerate();
            let mut places = pixels.filter_map(|(row, pixel)| {
                pixel.map(|pixel| {
                    (row * 2 * SIDE + half * LANES, (first + pixel as usize) * channels + block.channel)
                })
            });
            let Some((row, at)) = places.next() else { return };
            // SAFETY: results have a row for every pixel; pixels and block are of the sink's map.
            unsafe {
                let value = results.load(row);
                let mut state = sink.begin::<V>(image, block, is_first, at, value);
                sink.put(&mut state, 0, at, block, value);
                for (place, (row, at)) in places.enumerate() {
                    sink.put(&mut state, (place + 1) % CHAINS, at, block, results.load(row));
                }
                sink.end(state, image, block);
            }
        }
    }
}

impl Finishing<'_> {
    #[inline(always)]
    unsafe fn finish_block<V: Vector, const ADDS: bool, const ADDS_BEHIND: bool>(
        &self,
        channels: usize,
        waiting: &Waiting,
        block: Block,
        results: View,
    ) {
        let Self { output, addend, scale, shift, factor, is_activated, .. } = *self;
        // SAFETY: results have a row for every pixel; pixels and block are of the output, whose shape the addend has; scale and
        // shift are padded to whole blocks.
        unsafe {
            let (scale, shift) = (scale.load::<V>(block.channel), shift.load::<V>(block.channel));
            let (factor, floor) = (V::splat(factor), V::splat(floor(is_activated)));
            let addend = addend.unwrap_or_else(MapView::none);
            for (row, pixel) in waiting.pixels[..waiting.count].iter().enumerate() {
                let Some(pixel) = *pixel else { continue };
                let at = (waiting.place.first + pixel as usize) * channels + block.channel;
                let mut value = results.load::<V>(row * 2 * SIDE);
                if ADDS && !ADDS_BEHIND {
                    value = addend.load_first::<V>(at, block.count).mul_add(factor, value);
                }
                value = value.mul_add(scale, shift).at_least(floor);
                if ADDS && ADDS_BEHIND {
                    value = addend.load_first::<V>(at, block.count).mul_add(factor, value);
                }
                output.store_first(at, block.count, value);
            }
        }
    }
}

/// AVX-512 with its instructions for bfloat16, which every processor with AMX has: a fifth of the instructions for rounding, and whole cache
/// lines are stored.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(fuzzing), not(miri)))]
pub(super) mod avx512 {
    use std::arch::x86_64::*;

    use super::*;

    /// Of whole blocks, if all maps are of bfloat16. If results are integers, there are units and bases of each output.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(in crate::tiled) unsafe fn finish(
        finishing: &Finishing,
        integers: Option<[View; 2]>,
        channels: usize,
        waiting: &Waiting,
        results: View,
    ) -> bool {
        let addend = finishing.addend.and_then(MapView::as_halves);
        if addend.is_some() != finishing.addend.is_some() || !finishing.output.is_of_halves() {
            return false;
        }
        // SAFETY: as the caller promises.
        unsafe {
            let are_integers = integers.is_some();
            let units = integers.unwrap_or([View::new(&[]); 2]);
            match (waiting.blocks, are_integers) {
                (1, false) => finish_blocks::<1, false>(finishing, addend, units, channels, waiting, results),
                (2, false) => finish_blocks::<2, false>(finishing, addend, units, channels, waiting, results),
                (1, true) => finish_blocks::<1, true>(finishing, addend, units, channels, waiting, results),
                (2, true) => finish_blocks::<2, true>(finishing, addend, units, channels, waiting, results),
                _ => {}
            }
        }
        true
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn finish_blocks<const BLOCKS: usize, const INTEGERS: bool>(
        finishing: &Finishing,
        addend: Option<MapView>,
        units: [View; 2],
        channels: usize,
        waiting: &Waiting,
        results: View,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let none = MapView::none();
            match (addend, finishing.adds_behind) {
                (None, _) => each_row::<BLOCKS, INTEGERS, false, false>(
                    finishing, none, units, channels, waiting, results,
                ),
                (Some(addend), false) => each_row::<BLOCKS, INTEGERS, true, false>(
                    finishing, addend, units, channels, waiting, results,
                ),
                (Some(addend), true) => each_row::<BLOCKS, INTEGERS, true, true>(
                    finishing, addend, units, channels, waiting, results,
                ),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn each_row<
        const BLOCKS: usize,
        const INTEGERS: bool,
        const ADDS: bool,
        const ADDS_BEHIND: bool,
    >(
        finishing: &Finishing,
        addend: MapView,
        [unit, base]: [View; 2],
        channels: usize,
        waiting: &Waiting,
        results: View,
    ) {
        let Finishing { output, scale, shift, factor, is_activated, .. } = *finishing;
        let channel = waiting.block * LANES;
        // SAFETY: results have a row for every pixel; pixels and blocks are of the output, whose shape the addend has; what
        // is there for every output is padded to whole blocks.
        unsafe {
            let (mut scales, mut shifts) = ([_mm512_setzero_ps(); BLOCKS], [_mm512_setzero_ps(); BLOCKS]);
            let (mut units, mut bases) = (scales, shifts);
            for block in 0..BLOCKS {
                if INTEGERS {
                    units[block] = _mm512_loadu_ps(unit.from(channel + block * LANES).pointer());
                    bases[block] = _mm512_loadu_ps(base.from(channel + block * LANES).pointer());
                }
                scales[block] = _mm512_loadu_ps(scale.from(channel + block * LANES).pointer());
                shifts[block] = _mm512_loadu_ps(shift.from(channel + block * LANES).pointer());
            }
            if INTEGERS && !ADDS {
                // All that is multiplied and added is one of each, as elsewhere.
                for block in 0..BLOCKS {
                    bases[block] = _mm512_fmadd_ps(bases[block], scales[block], shifts[block]);
                    units[block] = _mm512_mul_ps(units[block], scales[block]);
                }
            }
            let (factor, floor) = (_mm512_set1_ps(factor), _mm512_set1_ps(floor(is_activated)));
            for (row, pixel) in waiting.pixels[..waiting.count].iter().enumerate() {
                let Some(pixel) = *pixel else { continue };
                let at = (waiting.place.first + pixel as usize) * channels + channel;
                let mut values = [_mm512_setzero_ps(); BLOCKS];
                for (block, value) in values.iter_mut().enumerate() {
                    *value = _mm512_loadu_ps(results.from(row * 2 * SIDE + block * LANES).pointer());
                    if INTEGERS {
                        let integers = _mm512_cvtepi32_ps(_mm512_castps_si512(*value));
                        *value = _mm512_fmadd_ps(integers, units[block], bases[block]);
                    }
                    let added = if ADDS {
                        let halves = _mm256_loadu_si256(addend.halves(at + block * LANES, LANES).cast());
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
                    } else {
                        _mm512_setzero_ps()
                    };
                    if ADDS && !ADDS_BEHIND {
                        *value = _mm512_fmadd_ps(added, factor, *value);
                    }
                    // NaN stays NaN: of two numbers that cannot be compared the second is taken.
                    if !INTEGERS || ADDS {
                        *value = _mm512_fmadd_ps(*value, scales[block], shifts[block]);
                    }
                    *value = _mm512_max_ps(floor, *value);
                    if ADDS && ADDS_BEHIND {
                        *value = _mm512_fmadd_ps(added, factor, *value);
                    }
                }
                let to = output.halves(at, BLOCKS * LANES);
                if BLOCKS == 2 {
                    to.cast::<__m512bh>().write_unaligned(_mm512_cvtne2ps_pbh(values[1], values[0]));
                } else {
                    to.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(values[0]));
                }
            }
        }
    }
}
