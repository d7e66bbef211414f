//! A product whose results go to a sink, sixteen at a time, while the next sixteen are computed.

use crate::map::{Block, MapShape};
use crate::product::{Ahead, Beside, Panel, ROWS, SQUARE};
use crate::sink::{Sink, WithSink};
use crate::vector::{LANES, Vector};
use crate::view::{View, ViewMut};

/// A product of panels of `count` pixels with weights to all channels of a map of shape `to`, for a sink. Meanwhile it asks
/// for what lies `ahead`, and for maps `beside` the results as many pixels further as `distance` says.
pub(crate) struct Multiply<'a> {
    pub(crate) panels: View<'a>,
    /// Rows of the panels, and blocks of a row.
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) weights: View<'a>,
    pub(crate) to: MapShape,
    pub(crate) ahead: Option<View<'a>>,
    pub(crate) beside: [Option<View<'a>>; 2],
    pub(crate) distance: usize,
    pub(crate) image: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl<V: Vector> WithSink<V> for Multiply<'_> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { panels, rows, depth, weights, to, ahead, beside, distance, image, first, count } = self;
        let channels = to.channels;
        let mut square = Square([0.; SQUARE]);
        let results = ViewMut::new(&mut square.0);
        unsafe {
            let tile = |row: usize, block: Block| Tile {
                image,
                block,
                start: (image * to.pixels() + first + row) * channels + block.channel,
                channels,
                is_first: first + row == 0,
                count: ROWS.min(count - row),
            };
            let mut waiting = Waiting::<V, K>::none(
                sink,
                tile(0, Block { index: 0, channel: 0, count: LANES.min(channels) }),
                results.read(),
            );
            for row in (0..count).step_by(ROWS) {
                for block in to.blocks() {
                    let tile = tile(row, block);
                    // Sixteen rows are as many lines as they have channels, here and in the maps beside.
                    let long = match ahead {
                        Some(map) if block.index == 0 => Some(map.beyond(row * depth * LANES)),
                        _ => None,
                    };
                    let at = tile.start - block.channel + distance * channels + block.index * SQUARE;
                    let [left, right] = beside;
                    let short = [left.map(|map| map.beyond(at)), right.map(|map| map.beyond(at))];
                    let ahead = Ahead { long, short };
                    let weights = weights.from(block.index * depth * SQUARE);
                    let panels = panels.from(row * LANES);
                    V::product(
                        panels,
                        rows * LANES,
                        depth,
                        weights,
                        ahead,
                        &mut waiting,
                        &mut Panel(results),
                    );
                    waiting.end();
                    waiting = Waiting::begin(sink, tile, results.read());
                }
            }
            for step in 0..ROWS {
                waiting.step(step);
            }
            waiting.end();
        }
    }
}

#[repr(align(64))]
struct Square([f32; SQUARE]);

/// Where the results of a product go: up to sixteen pixels of a block of channels.
#[derive(Clone, Copy)]
struct Tile {
    image: usize,
    block: Block,
    /// Position of the first pixel.
    start: usize,
    channels: usize,
    /// Whether it is the image's first.
    is_first: bool,
    count: usize,
}

/// The results of a product on their way to a sink while the next product is computed.
struct Waiting<'a, V: Vector, K: Sink> {
    sink: K,
    state: K::State<V>,
    tile: Tile,
    results: View<'a>,
}

impl<'a, V: Vector, K: Sink> Waiting<'a, V, K> {
    /// No results yet; `tile` is where the first will go.
    #[inline(always)]
    unsafe fn none(sink: K, tile: Tile, results: View<'a>) -> Self {
        unsafe { Self::begin(sink, Tile { count: 0, ..tile }, results) }
    }

    #[inline(always)]
    unsafe fn begin(sink: K, tile: Tile, results: View<'a>) -> Self {
        let Tile { image, block, start, is_first, .. } = tile;
        let state = unsafe { sink.begin(image, block, is_first, start, results.load(0)) };
        Self { sink, state, tile, results }
    }

    #[inline(always)]
    unsafe fn end(self) {
        if self.tile.count > 0 {
            unsafe { self.sink.end(self.state, self.tile.image, self.tile.block) }
        }
    }
}

impl<V: Vector, K: Sink> Beside for Waiting<'_, V, K> {
    #[inline(always)]
    unsafe fn step(&mut self, step: usize) {
        let Tile { block, start, channels, count, .. } = self.tile;
        if step < count {
            unsafe {
                let result = self.results.load(step * LANES);
                self.sink.put(&mut self.state, 0, start + step * channels, block, result);
            }
        }
    }
}
