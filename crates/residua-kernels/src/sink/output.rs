//! Outputs: stored, the shortcut added, the statistics for the next normalisation taken.

use super::{AnySink, CHAINS, Chosen, Sink, WithSink, no_sums, partial, total};
use crate::flag::{Flag, Never, for_flags};
use crate::map::{Block, MapShape};
use crate::norm::STATISTICS;
use crate::streaming::is_streamed;
use crate::vector::Vector;
use crate::view::{MapView, MapViewMut, View, ViewMut};

/// An operation's output.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a, const IS_F32: bool = false, Adds = bool, Counts = bool> {
    pub(crate) output: MapViewMut<'a, IS_F32>,
    /// Whether `addend` is added.
    pub(crate) adds: Adds,
    pub(crate) addend: MapView<'a, IS_F32>,
    /// Whether `statistics` are taken.
    pub(crate) counts: Counts,
    /// `[batch][STATISTICS][padded channels]`
    pub(crate) statistics: ViewMut<'a>,
    pub(crate) channels: usize,
    pub(crate) is_streamed: bool,
}

impl<'a> Output<'a, true, Never, Never> {
    /// A map that is stored, and nothing else.
    pub(crate) fn stored(shape: MapShape, output: ViewMut<'a>) -> Self {
        Self {
            output: output.into(),
            adds: Never,
            addend: View::new(&[]).into(),
            counts: Never,
            statistics: ViewMut::new(&mut []),
            channels: shape.channels,
            is_streamed: is_streamed(shape, output.into()),
        }
    }

    /// The same, whose statistics are taken if `counts` says so.
    pub(crate) fn counted<Counts: Flag>(
        self,
        counts: Counts,
        statistics: ViewMut<'a>,
    ) -> Output<'a, true, Never, Counts> {
        let Self { output, adds, addend, channels, is_streamed, .. } = self;
        Output { output, adds, addend, counts, statistics, channels, is_streamed }
    }
}

impl AnySink for Output<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, adds, addend, counts, statistics, channels, is_streamed } = *self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if V::IS_SPECIALISED
                && let (Some(output), Some(addend)) = (output.as_f32(), addend.as_f32())
            {
                for_flags!([adds, counts], {
                    let sink = Output { output, adds, addend, counts, statistics, channels, is_streamed };
                    V::call(Chosen { work, sink });
                });
            } else {
                V::call(Chosen { work, sink: *self });
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [None, self.adds.then_some(self.addend)]
    }
}

impl<const IS_F32: bool, Adds: Flag, Counts: Flag> Output<'_, IS_F32, Adds, Counts> {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, at: usize, block: Block, value: V) -> V {
        // SAFETY: the addend, if there is one, has the shape of the sink's map.
        unsafe { if self.adds.holds() { value.add(self.addend.load_first(at, block.count)) } else { value } }
    }
}

impl<const IS_F32: bool, Adds: Flag, Counts: Flag> Sink for Output<'_, IS_F32, Adds, Counts> {
    type State<V: Vector> = Statistics<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        at: usize,
        value: V,
    ) -> Statistics<V> {
        // SAFETY: statistics, if they are taken, have a place for every image and block.
        unsafe {
            if self.counts.holds() && !is_first {
                return Statistics::load(self.statistics.read(), self.channels, image, block);
            }
            Statistics::new(if self.counts.holds() { self.value(at, block, value) } else { value })
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(
        self,
        state: &mut Statistics<V>,
        chain: usize,
        at: usize,
        block: Block,
        value: V,
    ) {
        // SAFETY: the position is of the map, and a multiple of a cache line where it is streamed.
        unsafe {
            let mut value = self.value(at, block, value);
            if self.is_streamed {
                self.output.store_streaming(at, value);
            } else {
                value = self.output.store_first(at, block.count, value);
            }
            if self.counts.holds() {
                state.count(chain, value);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Statistics<V>, image: usize, block: Block) {
        if self.counts.holds() {
            // SAFETY: statistics have a place for every image and block.
            unsafe { state.store(self.statistics, self.channels, image, block) }
        }
    }
}

/// Running statistics of an image's block of channels, kept in `[batch][STATISTICS][padded channels]` between tiles.
#[derive(Clone, Copy)]
pub(crate) struct Statistics<V> {
    first: V,
    /// The sums of earlier tiles, which small numbers are not added to one by one: that would cost digits.
    before: [V; 2],
    sum: [V; CHAINS],
    square: [V; CHAINS],
}

impl<V: Vector> Statistics<V> {
    /// Before any value; `first` is what others are compared with.
    #[inline(always)]
    pub(crate) unsafe fn new(first: V) -> Self {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { Self { first, before: [V::zero(); 2], sum: no_sums(), square: no_sums() } }
    }

    #[inline(always)]
    pub(crate) unsafe fn load(from: View, channels: usize, image: usize, block: Block) -> Self {
        let (at, pitch) = partial(STATISTICS, channels, image, block);
        // SAFETY: image and block have a place, as the caller promises.
        unsafe {
            let before = [from.load(at + pitch), from.load(at + 2 * pitch)];
            Self { before, ..Self::new(from.load(at)) }
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn count(&mut self, chain: usize, value: V) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            let difference = value.sub(self.first);
            self.sum[chain] = self.sum[chain].add(difference);
            self.square[chain] = difference.mul_add(difference, self.square[chain]);
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn store(self, to: ViewMut, channels: usize, image: usize, block: Block) {
        let (at, pitch) = partial(STATISTICS, channels, image, block);
        // SAFETY: image and block have a place, as the caller promises.
        unsafe {
            to.store(at, self.first);
            to.store(at + pitch, self.before[0].add(total(self.sum)));
            to.store(at + 2 * pitch, self.before[1].add(total(self.square)));
        }
    }
}
