//! A product whose results go to a sink, sixteen at a time, while the next sixteen are computed.

use crate::map::{Block, MapShape, block_at};
use crate::product::{Ahead, Beside, HALF, ROWS, SQUARE, half_product_pair};
use crate::sink::{Sink, WithSink};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, View, ViewMut};

/// A product of panels of `count` pixels with weights to all channels of a map of shape `to`, for a sink. Meanwhile it asks
/// for what lies `ahead`, and for maps `beside` the results as many pixels further as `distance` says.
pub(crate) struct Multiply<'a> {
    pub(crate) panels: View<'a>,
    /// Rows of the panels, and blocks of a row.
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) weights: View<'a>,
    pub(crate) to: MapShape,
    pub(crate) ahead: Option<MapView<'a>>,
    pub(crate) beside: [Option<MapView<'a>>; 2],
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
        unsafe {
            let tile = |row: usize, block: Block| Tile {
                image,
                block,
                start: (image * to.pixels() + first + row) * channels + block.channel,
                channels,
                is_first: first + row == 0,
                count: ROWS.min(count - row),
            };
            let ahead = |row: usize, tile: Tile| {
                // Sixteen rows are as many lines as they have channels, here and in the maps beside.
                let long = match ahead {
                    Some(map) if tile.block.index == 0 => Some(map.beyond(row * depth * LANES)),
                    _ => None,
                };
                let at = tile.start - tile.block.channel + distance * channels + tile.block.index * SQUARE;
                Ahead { long, short: beside.map(|map| map.map(|map| map.beyond(at))) }
            };
            let weights = |block: usize| weights.from(block * depth * SQUARE);
            let panels = |row: usize| (panels.from(row * LANES), rows * LANES);
            let blocks = channels.div_ceil(LANES);
            let nothing = Tile { count: 0, ..tile(0, block_at(channels, 0)) };
            if !V::HAS_MANY_REGISTERS || blocks % 2 == 1 {
                let mut square = Square([0.; SQUARE]);
                let results = ViewMut::new(&mut square.0);
                let mut waiting = Waiting::<V, K>::begin(sink, nothing, results.read());
                for row in (0..count).step_by(ROWS) {
                    for block in 0..blocks {
                        let tile = tile(row, block_at(channels, block));
                        let ahead = ahead(row, tile);
                        V::product(panels(row), depth, weights(block), ahead, &mut waiting, results);
                        waiting.end();
                        waiting = Waiting::begin(sink, tile, results.read());
                    }
                }
                waiting.step_all();
                waiting.end();
                return;
            }
            // Results are read while the next are written.
            let mut squares = [const { [Square([0.; SQUARE]), Square([0.; SQUARE])] }; 2];
            let squares =
                squares.each_mut().map(|pair| pair.each_mut().map(|square| ViewMut::new(&mut square.0)));
            let [mut results, mut others] = squares;
            let mut tiles = [nothing; 2];
            for row in (0..count).step_by(ROWS) {
                for block in (0..blocks).step_by(2) {
                    let next = [block, block + 1].map(|block| tile(row, block_at(channels, block)));
                    let b = [weights(block), weights(block + 1)];
                    let ahead = ahead(row, next[0]);
                    let mut waiting = Waiting::<V, K>::begin(sink, tiles[0], others[0].read());
                    half_product_pair::<V>(panels(row), depth, b, 0, ahead, &mut waiting, results);
                    waiting.end();
                    let mut waiting = Waiting::<V, K>::begin(sink, tiles[1], others[1].read());
                    half_product_pair::<V>(
                        panels(row),
                        depth,
                        b,
                        HALF,
                        ahead.second(),
                        &mut waiting,
                        results,
                    );
                    waiting.end();
                    tiles = next;
                    std::mem::swap(&mut results, &mut others);
                }
            }
            for (tile, results) in tiles.into_iter().zip(others) {
                let mut waiting = Waiting::<V, K>::begin(sink, tile, results.read());
                waiting.step_all();
                waiting.end();
            }
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
    #[inline(always)]
    unsafe fn begin(sink: K, tile: Tile, results: View<'a>) -> Self {
        let Tile { image, block, start, is_first, .. } = tile;
        let state = unsafe { sink.begin(image, block, is_first, start, results.load(0)) };
        Self { sink, state, tile, results }
    }

    #[inline(always)]
    unsafe fn step_all(&mut self) {
        for step in 0..ROWS {
            unsafe { self.step(step) }
        }
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
