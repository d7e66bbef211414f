//! A product whose results go to a sink, sixteen at a time, while the next sixteen are computed.

use std::ops::Range;

use crate::map::{Block, MapShape, block_at};
use crate::product::{Ahead, Beside, HALF, ROWS, SQUARE, half_product_pair};
use crate::sink::{Sink, WithSink};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapView, View, ViewMut};

/// A product of panels of `count` pixels with weights to the `own` blocks of channels of a map of shape `to`, for a sink. Meanwhile it asks
/// for what lies `ahead`, and for maps `beside` the results as many pixels further as `distance` says.
pub(crate) struct Multiply<'a> {
    pub(crate) panels: View<'a>,
    /// Rows of the panels, and blocks of a row.
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) weights: View<'a>,
    pub(crate) to: MapShape,
    pub(crate) own: Range<usize>,
    pub(crate) ahead: Lines,
    pub(crate) beside: [Option<MapView<'a>>; 2],
    pub(crate) distance: usize,
    pub(crate) image: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// Numbers of weights, 256 KB, up to which every sixteen pixels are multiplied by all of them, as they stay in the cache next to a core. Of more,
/// each block is multiplied by all pixels before the next is read.
const NEAR_WEIGHTS: usize = 1 << 16;

/// Whether so many numbers of weights are at hand for every sixteen pixels.
pub(crate) fn are_near(weights: usize) -> bool {
    weights <= NEAR_WEIGHTS
}

impl Multiply<'_> {
    fn blocks(&self) -> usize {
        self.own.len()
    }

    /// Whether the results are pixels without gaps.
    fn has_all_blocks(&self) -> bool {
        self.own.len() == self.to.channels.div_ceil(LANES)
    }

    fn weights_are_near(&self) -> bool {
        are_near(self.depth * self.blocks() * SQUARE)
    }

    /// Rows and own blocks of `together` in the order of the products: row and block of the `inner`-th within the `outer`-th.
    #[inline(always)]
    fn turns(&self, together: usize) -> (usize, usize) {
        let (rows, blocks) = (self.count.div_ceil(ROWS), self.blocks().div_ceil(together));
        if self.weights_are_near() { (rows, blocks) } else { (blocks, rows) }
    }

    #[inline(always)]
    fn turn(&self, outer: usize, inner: usize, together: usize) -> (usize, usize) {
        let (row, block) = if self.weights_are_near() { (outer, inner) } else { (inner, outer) };
        (row * ROWS, block * together)
    }

    /// Results from pixel `row` on, of an own block of channels.
    #[inline(always)]
    fn tile(&self, row: usize, block: usize, count: usize) -> Tile {
        let Self { image, first, to, .. } = *self;
        let block = block_at(to.channels, self.own.start + block);
        let start = (image * to.pixels() + first + row) * to.channels + block.channel;
        Tile { image, block, start, channels: to.channels, is_first: first + row == 0, count }
    }

    /// What the product with `together` blocks of weights asks for.
    #[inline(always)]
    fn ahead(&self, row: usize, block: usize, together: usize) -> Ahead {
        let Self { image, first, to, ahead, distance, .. } = *self;
        let weights = self.weights_ahead(row, block, together);
        if !self.has_all_blocks() {
            return Ahead { long: weights, ..Ahead::NOTHING };
        }
        let long = if block == 0 { ahead.skip(row * self.depth) } else { weights };
        // Sixteen pixels are as many lines as they have channels, here and in the maps beside.
        let (pixels, squares) = if self.weights_are_near() {
            (row + distance, block)
        } else {
            (self.count, block * self.count.div_ceil(ROWS) + row / ROWS)
        };
        let at = (image * to.pixels() + first + pixels) * to.channels + squares * SQUARE;
        let lines = |map: Option<MapView>| map.map_or(Lines::NONE, |map| map.lines(at));
        Ahead { long, short: [lines(self.beside[0]), lines(self.beside[1])] }
    }

    /// Of weights that are far the next blocks, cut into as many steps as there are blocks: the first rows ask for one each.
    #[inline(always)]
    fn weights_ahead(&self, row: usize, block: usize, together: usize) -> Lines {
        let step = row / ROWS;
        if self.weights_are_near() || step >= together {
            return Lines::NONE;
        }
        let next = self.own.start + block + together + step;
        MapView::<true>::from(self.weights).lines(next * self.depth * SQUARE)
    }

    #[inline(always)]
    unsafe fn panels(&self, row: usize) -> (View<'_>, usize) {
        // SAFETY: `row` is one of the panels' rows, as the caller promises.
        (unsafe { self.panels.from(row * LANES) }, self.rows * LANES)
    }

    #[inline(always)]
    unsafe fn weights(&self, block: usize) -> View<'_> {
        // SAFETY: `block` is one of the own blocks of the weights, as the caller promises.
        unsafe { self.weights.from((self.own.start + block) * self.depth * SQUARE) }
    }

    /// By one block of weights at a time.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn singly<V: Vector, K: Sink>(&self, sink: K) {
        let mut square = Square([0.; SQUARE]);
        let results = ViewMut::new(&mut square.0);
        // SAFETY: `turns` are over rows of the panels and blocks of the weights; results are a square; tiles are of the sink's
        // map.
        unsafe {
            let mut waiting = Waiting::<V, K>::begin(sink, self.tile(0, 0, 0), results.read());
            let (outers, inners) = self.turns(1);
            for outer in 0..outers {
                for inner in 0..inners {
                    let (row, block) = self.turn(outer, inner, 1);
                    let (ahead, rows) = (self.ahead(row, block, 1), ROWS.min(self.count - row));
                    let weights = self.weights(block);
                    V::product(self.panels(row), rows, self.depth, weights, ahead, &mut waiting, results);
                    waiting.end();
                    let tile = self.tile(row, block, rows);
                    waiting = Waiting::begin(sink, tile, results.read());
                }
            }
            waiting.step_all();
            waiting.end();
        }
    }

    /// By two blocks of weights at a time, of which there are an even number. Where the results wait is said by three numbers:
    /// tiles that are stored and loaded again as a whole cost a twentieth of the time.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn by_pairs<V: Vector, K: Sink>(&self, sink: K) {
        // Results are read while the next are written.
        let mut squares = [const { [Square([0.; SQUARE]), Square([0.; SQUARE])] }; 2];
        let squares =
            squares.each_mut().map(|pair| pair.each_mut().map(|square| ViewMut::new(&mut square.0)));
        let [mut results, mut others] = squares;
        let (mut last_row, mut last_block, mut last_count) = (0, 0, 0);
        // SAFETY: `turns` are over rows of the panels and pairs of blocks, which are even in number; results are squares, and
        // no two views of one are in use at a time; tiles are of the sink's map.
        unsafe {
            let (outers, inners) = self.turns(2);
            for outer in 0..outers {
                for inner in 0..inners {
                    let (row, block) = self.turn(outer, inner, 2);
                    let rows = ROWS.min(self.count - row);
                    let (panels, ahead) = (self.panels(row), self.ahead(row, block, 2));
                    let weights = [self.weights(block), self.weights(block + 1)];
                    let tile = self.tile(last_row, last_block, last_count);
                    let mut waiting = Waiting::<V, K>::begin(sink, tile, others[0].read());
                    half_product_pair::<V>(panels, self.depth, weights, 0, ahead, &mut waiting, results);
                    waiting.end();
                    let tile = self.tile(last_row, last_block + 1, last_count);
                    let mut waiting = Waiting::<V, K>::begin(sink, tile, others[1].read());
                    let ahead = ahead.next();
                    if rows > HALF {
                        half_product_pair::<V>(
                            panels,
                            self.depth,
                            weights,
                            HALF,
                            ahead,
                            &mut waiting,
                            results,
                        );
                    } else {
                        waiting.step_all();
                    }
                    waiting.end();
                    (last_row, last_block, last_count) = (row, block, rows);
                    std::mem::swap(&mut results, &mut others);
                }
            }
            for (half, results) in others.into_iter().enumerate() {
                let tile = self.tile(last_row, last_block + half, last_count);
                let mut waiting = Waiting::<V, K>::begin(sink, tile, results.read());
                waiting.step_all();
                waiting.end();
            }
        }
    }
}

impl Multiply<'_> {
    /// All of it, to this sink.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn pour<V: Vector, K: Sink>(self, sink: K) {
        // SAFETY: panels, weights and map have the lengths that the fields say, as the caller promises.
        unsafe {
            if V::HAS_MANY_REGISTERS && self.blocks().is_multiple_of(2) {
                self.by_pairs::<V, K>(sink);
            } else {
                self.singly::<V, K>(sink);
            }
        }
    }
}

impl<V: Vector> WithSink<V> for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        // SAFETY: as the caller promises.
        unsafe { self.pour::<V, K>(sink) }
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
        // SAFETY: results are a square; the tile is of the sink's map, as the caller promises.
        let state = unsafe { sink.begin(image, block, is_first, start, results.load(0)) };
        Self { sink, state, tile, results }
    }

    #[inline(always)]
    unsafe fn step_all(&mut self) {
        for step in 0..ROWS {
            // SAFETY: as the caller promises.
            unsafe { self.step(step) }
        }
    }

    #[inline(always)]
    unsafe fn end(self) {
        if self.tile.count > 0 {
            // SAFETY: `state` is what `begin` gave for this tile.
            unsafe { self.sink.end(self.state, self.tile.image, self.tile.block) }
        }
    }
}

impl<V: Vector, K: Sink> Beside for Waiting<'_, V, K> {
    #[inline(always)]
    unsafe fn step(&mut self, step: usize) {
        let Tile { block, start, channels, count, .. } = self.tile;
        if step < count {
            // SAFETY: the step is below `count`, so its row is of the square and its pixel of the map.
            unsafe {
                let result = self.results.load(step * LANES);
                self.sink.put(&mut self.state, 0, start + step * channels, block, result);
            }
        }
    }
}
