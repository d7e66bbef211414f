//! Convolutions of bfloat16 and of bytes by products of tiles.
//!
//! Under a row of the kernel an output pixel sees a run of `size * inputs` consecutive numbers of a row of the image. So the sixteen rows of a
//! tile are read where they lie, at the distance of the pixels, and nothing is gathered: out of the map itself, if the convolution is 1x1 and
//! takes the map as it is; else out of a copy with a border.

mod finish;
mod gradient;
mod packing;
mod quantised;
mod rows;

use std::ops::Range;

use crate::instructions::Task;
use crate::map::{MapShape, Part};
use crate::scratch::Scratch;
use crate::tiles::{AHEAD, Numbers, Operands, RESULTS, ROWS, SIDE, Tiles};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapView, View, ViewMut};
pub(crate) use finish::{Finishing, ToSink};
pub(crate) use quantised::{Quantised, ToBytes};
pub(crate) use rows::Feed;
use rows::{Walk, copy_pixels, copy_row, numbers_mut};

/// A convolution, padded by half its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiled {
    pub(crate) input: MapShape,
    pub(crate) output: MapShape,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    /// Positions from a pixel of the input to the next; zeros lie between them.
    pub(crate) spread: usize,
    pub(crate) numbers: Numbers,
    pub(crate) tiles: Tiles,
}

/// Slots of weights, 512 KB, up to which every tile of pixels is multiplied by all of them, as they stay in the cache next to a core. Of more,
/// two blocks are multiplied by all pixels before the next are read.
const NEAR_WEIGHTS: usize = 1 << 17;

/// Bytes of a tile's rows from which on they come without being asked for.
const FORESEEN: usize = 1 << 14;

/// Slots of weights of a cache line.
const LINE: usize = 16;

/// Slots of weights, half a megabyte, that a part of the work on a run of images has.
const PART_WEIGHTS: usize = 1 << 17;

/// Bytes of pixels that stay there while the weights pass.
const NEAR_PIXELS: usize = 1 << 20;

/// Bytes of pixels that are copied at a time where the weights stay there.
const NEAR_COPY: usize = 1 << 15;

impl Tiled {
    /// Numbers that a pixel sees under a row of the kernel.
    #[inline(always)]
    fn run(self) -> usize {
        self.size * self.input.channels
    }

    /// Steps of a run.
    #[inline(always)]
    fn steps(self) -> usize {
        self.numbers.steps(self.run())
    }

    /// Numbers of a step.
    #[inline(always)]
    fn depth(self) -> usize {
        self.numbers.slots(self.run().div_ceil(self.steps())) * self.numbers.of_slot()
    }

    /// Numbers of a run that are multiplied. What is behind the run has no weight.
    #[inline(always)]
    fn padded_run(self) -> usize {
        self.steps() * self.depth()
    }

    #[inline(always)]
    fn output_blocks(self) -> usize {
        self.output.channels.div_ceil(LANES)
    }

    /// Slots of a run.
    #[inline(always)]
    pub(crate) fn slots(self) -> usize {
        self.numbers.slots(self.padded_run())
    }

    /// Slots of weights of a block of outputs.
    #[inline(always)]
    pub(crate) fn block_len(self) -> usize {
        self.size * self.slots() * LANES
    }

    /// Bytes of so many numbers.
    #[inline(always)]
    fn bytes(self, count: usize) -> usize {
        self.numbers.slots(count) * size_of::<f32>()
    }

    /// Slots of all weights, each in the place of an f32.
    #[inline(always)]
    pub(crate) fn packed_len(self) -> usize {
        self.output_blocks() * self.block_len()
    }

    /// The convolution whose output is the gradient of this one's input.
    pub(crate) fn transposed(self) -> Self {
        Self { input: self.output, output: self.input, stride: self.spread, spread: self.stride, ..self }
    }

    /// Into how many parts the work on a run of images is divided, by outputs; its gradient by inputs.
    pub(crate) fn parts(self) -> usize {
        self.packed_len().max(self.transposed().packed_len()).div_ceil(PART_WEIGHTS)
    }

    #[inline(always)]
    fn weights_are_near(self) -> bool {
        self.packed_len() <= NEAR_WEIGHTS
    }

    /// Of so many rows and blocks of weights, one or two tiles of each.
    #[inline(always)]
    unsafe fn product(self, operands: Operands, rows: usize, blocks: usize, results: ViewMut) {
        let tiles = self.tiles;
        // SAFETY: as the caller promises.
        unsafe {
            match (rows > SIDE, blocks > 1) {
                (true, true) => tiles.multiply::<2, 2>(operands, results),
                (true, false) => tiles.multiply::<2, 1>(operands, results),
                (false, true) => tiles.multiply::<1, 2>(operands, results),
                (false, false) => tiles.multiply::<1, 1>(operands, results),
            }
        }
    }

    #[inline(always)]
    fn is_pointwise(self) -> bool {
        self.size == 1
    }
}

/// What becomes of results.
pub(crate) trait Finish: Copy {
    /// Whether it wants a tile's pixels to be of one image.
    const IS_BY_IMAGE: bool;

    /// Takes results `[row][2 * SIDE]` that wait for it.
    unsafe fn finish<V: Vector>(&self, tiled: Tiled, waiting: &Waiting, results: View);
}

/// A convolution of some images, as far as it is this part of it.
pub(crate) struct Forward<'a, S, F> {
    pub(crate) tiled: Tiled,
    pub(crate) source: S,
    pub(crate) weights: View<'a>,
    pub(crate) finish: F,
    pub(crate) images: Range<usize>,
    pub(crate) part: Part,
}

impl<S: Feed, F: Finish> Task for Forward<'_, S, F> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: whoever made this has checked all lengths, and that the machine has the tiles.
        unsafe { self.run_here::<V>() }
    }
}

type Blocks = Range<usize>;

impl<S: Feed, F: Finish> Forward<'_, S, F> {
    /// # Safety
    /// Source, weights and output have the lengths that the shapes say, and the machine has the tiles.
    #[inline(always)]
    pub(crate) unsafe fn run_here<V: Vector>(&self) {
        let tiled = self.tiled;
        // By pixels or, of many weights, by outputs.
        let [of_pixels, of_outputs] =
            if tiled.weights_are_near() { [self.part, Part::WHOLE] } else { [Part::WHOLE, self.part] };
        let own = of_outputs.share(tiled.output_blocks(), 2);
        if own.is_empty() {
            return;
        }
        // SAFETY: as the caller promises.
        unsafe {
            tiled.tiles.begin(tiled.numbers.slots(tiled.depth()));
            if tiled.is_pointwise() && tiled.spread == 1 {
                self.pointwise::<V>(of_pixels, own);
            } else {
                self.over_planes::<V>(of_pixels, own);
            }
            tiled.tiles.end();
        }
    }

    /// The pixels of an image, or of all, are one row.
    #[inline(always)]
    unsafe fn pointwise<V: Vector>(&self, part: Part, own: Blocks) {
        let Tiled { input, output, stride, .. } = self.tiled;
        let pixel = self.tiled.padded_run();
        // A map that is read as it is.
        let map = self.source.as_stored().filter(|_| stride == 1 && pixel == input.channels);
        let images = if F::IS_BY_IMAGE { 1 } else { self.images.len() };
        let pixels = part.share(images * output.pixels(), ROWS);
        let most = match (self.tiled.weights_are_near(), map) {
            (true, Some(_)) => pixels.len(),
            (true, None) => NEAR_COPY / self.tiled.bytes(pixel),
            (false, _) => NEAR_PIXELS / self.tiled.bytes(pixel),
        };
        let most = (most / ROWS * ROWS).max(ROWS);
        let copied = if map.is_some() { ROWS } else { most };
        let mut scratch = Scratch::take();
        let [results, copy] = scratch.pieces([2 * RESULTS, copied * self.tiled.slots()]);
        let (results, copy) = (ViewMut::new(results), numbers_mut(copy, self.tiled.numbers));
        for image in self.images.clone().step_by(images) {
            for own_first in pixels.clone().step_by(most) {
                let (first, count) = (image * output.pixels() + own_first, most.min(pixels.end - own_first));
                let whole = if map.is_some() { count / ROWS * ROWS } else { 0 };
                // SAFETY: pixels are of the batch, and the copy has places for `most` of them. What is copied or lies in the map
                // are rows for whole products.
                unsafe {
                    copy_pixels::<V>(&self.source, self.tiled, first + whole..first + count, copy);
                    let walk = Walk { line: count, wanted: count, first: 0, count, lines_apart: None };
                    let rest = Rows { values: copy.read(), start: 0, distance: pixel, pitch: 0 };
                    let rows = map.map_or(rest, |values| Rows {
                        values,
                        start: first * pixel,
                        distance: pixel,
                        pitch: 0,
                    });
                    let place = Place { image, first, is_first: own_first == 0 };
                    self.multiply::<V>(Field { rows, rest, whole, walk }, place, own.clone(), results);
                }
            }
        }
    }

    /// Image by image, out of a copy with its border.
    #[inline(always)]
    unsafe fn over_planes<V: Vector>(&self, part: Part, own: Blocks) {
        let Tiled { input, output, size, stride, spread, .. } = self.tiled;
        let (border, channels) = (size / 2, input.channels);
        let width = ((output.width - 1) * stride + size).max((input.width - 1) * spread + 1 + border);
        let height = (output.height - 1) * stride + size;
        let row_len = width * channels;
        // Products read whole tiles, past the last pixel, and runs up to their last step.
        let behind = ROWS * stride * channels + self.tiled.padded_run();
        let mut scratch = Scratch::take();
        let [results, plane] =
            scratch.pieces([2 * RESULTS, self.tiled.numbers.slots(height * row_len + behind)]);
        let (results, plane) = (ViewMut::new(results), numbers_mut(plane, self.tiled.numbers));
        // Of one pixel apart, rows with their borders are one row of pixels, some of which nobody wants.
        let (lines, walk) = if stride == 1 {
            let own = part.share((output.height - 1) * width + output.width, ROWS);
            let lines = own.start / width..own.end.div_ceil(width);
            let (first, count) = (own.start, own.len());
            (lines, Walk { line: width, wanted: output.width, first, count, lines_apart: None })
        } else {
            let lines = part.share(output.height, 1);
            let (line, first, count) = (output.width, lines.start * output.width, lines.len() * output.width);
            let lines_apart = Some(stride * row_len);
            (lines, Walk { line, wanted: line, first, count, lines_apart })
        };
        if walk.count == 0 {
            return;
        }
        let (first_row, end) = (lines.start * stride, (lines.end - 1) * stride + size);
        for image in self.images.clone() {
            // SAFETY: rows are of the plane, which has as many numbers behind it as products read.
            unsafe {
                for row in first_row..end {
                    let to = (plane, row * row_len);
                    copy_row::<V>(
                        &self.source,
                        self.tiled,
                        image,
                        row.checked_sub(border),
                        (border, width),
                        to,
                    );
                }
                // What the last run is multiplied by nothing of must be numbers.
                plane.zero(end * row_len, self.tiled.padded_run() - self.tiled.run());
                let rows =
                    Rows { values: plane.read(), start: 0, distance: stride * channels, pitch: row_len };
                let place = Place { image, first: image * output.pixels(), is_first: walk.first == 0 };
                let field = Field { rows, rest: rows, whole: usize::MAX, walk };
                self.multiply::<V>(field, place, own.clone(), results);
            }
        }
    }

    /// All tiles of a field with the own blocks of outputs.
    #[inline(always)]
    unsafe fn multiply<V: Vector>(&self, field: Field, place: Place, own: Blocks, results: ViewMut) {
        let (tiles, pairs) = (field.walk.tiles(), own.len().div_ceil(2));
        let is_near = self.tiled.weights_are_near();
        let (outers, inners) = if is_near { (tiles, pairs) } else { (pairs, tiles) };
        // SAFETY: tiles are of the field and blocks of the weights; results are for two products, which take turns.
        unsafe {
            let mut places = [results, results.from(RESULTS)];
            let mut waiting = Waiting { pixels: [None; ROWS], count: 0, place, block: own.start, blocks: 0 };
            let (mut pixels, mut count) = (waiting.pixels, 0);
            for outer in 0..outers {
                for inner in 0..inners {
                    let (tile, pair) = if is_near { (outer, inner) } else { (inner, outer) };
                    let block = own.start + 2 * pair;
                    let blocks = 2.min(own.end - block);
                    // Of the same tile they are the same.
                    if !is_near || inner == 0 {
                        (pixels, count) = field.walk.pixels(tile);
                    }
                    let mut operands = field.operands(self.tiled, tile, self.weights, block);
                    operands.ahead = self.ahead(&field, tile, pair, &operands);
                    self.tiled.product(operands, count, blocks, places[0]);
                    self.finish.finish::<V>(self.tiled, &waiting, places[1].read());
                    let place = Place { is_first: place.is_first && tile == 0, ..place };
                    waiting = Waiting { pixels, count, place, block, blocks };
                    places.swap(0, 1);
                }
            }
            self.finish.finish::<V>(self.tiled, &waiting, places[1].read());
        }
    }

    /// What a product asks for: where weights are near, a part of the next tile's rows, if they lie without gaps and are so short that the
    /// hardware does not foresee them; else a part of the next blocks of weights.
    #[inline(always)]
    fn ahead(&self, field: &Field, tile: usize, pair: usize, operands: &Operands) -> Lines {
        let lines = operands.runs * operands.steps * AHEAD;
        if !self.tiled.weights_are_near() {
            let len = 2 * operands.block_len();
            let next = MapView::<true>::from(operands.weights).lines(len).skip(tile * lines);
            return if tile * lines * LINE < len { next } else { Lines::NONE };
        }
        let len = ROWS * operands.distance;
        let bytes = self.tiled.bytes(len);
        let is_dense = self.tiled.is_pointwise() && operands.distance == self.tiled.padded_run();
        let is_there = (tile + 2) * ROWS <= field.whole.min(field.walk.count);
        let is_wanted =
            is_dense && is_there && bytes <= FORESEEN && pair * lines * LINE * size_of::<f32>() < bytes;
        if is_wanted { operands.rows.lines(operands.start + len).skip(pair * lines) } else { Lines::NONE }
    }
}

/// Rows of numbers, each at a distance from the one before, and other rows under the kernel's next row.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: MapView<'a>,
    start: usize,
    distance: usize,
    pitch: usize,
}

/// What is multiplied by all weights.
#[derive(Clone, Copy)]
struct Field<'a> {
    rows: Rows<'a>,
    /// Where those lie that are behind the first `whole`.
    rest: Rows<'a>,
    whole: usize,
    walk: Walk,
}

impl<'a> Field<'a> {
    #[inline(always)]
    fn operands(&self, tiled: Tiled, tile: usize, weights: View<'a>, block: usize) -> Operands<'a> {
        let begins_rest = tile * ROWS >= self.whole;
        let (rows, skipped) = if begins_rest { (self.rest, self.whole) } else { (self.rows, 0) };
        let Rows { values, start, distance, pitch } = rows;
        Operands {
            numbers: tiled.numbers,
            rows: values,
            start: start + self.walk.start(tile, distance) - skipped * distance,
            distance,
            pitch,
            // SAFETY: the block is of the weights, as whoever multiplies them promises.
            weights: unsafe { weights.from(block * tiled.block_len()) },
            runs: tiled.size,
            steps: tiled.steps(),
            depth: tiled.depth(),
            ahead: Lines::NONE,
        }
    }
}

/// Where the pixels of a field lie.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    image: usize,
    /// The number of the first one, of all images.
    first: usize,
    /// Whether it is the image's first.
    is_first: bool,
}

/// Results on their way to the output while the next product is computed.
pub(crate) struct Waiting {
    /// Which pixels its rows are, as far as anybody wants them, counted from the place's first.
    pixels: [Option<u32>; ROWS],
    count: usize,
    place: Place,
    block: usize,
    blocks: usize,
}
