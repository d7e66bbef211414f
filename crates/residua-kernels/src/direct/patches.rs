//! Patches: what the output pixels of a convolution see, as rows of a matrix, and its weights in the same order.
//!
//! A patch is, for every row of the kernel, a run of `size * inputs` consecutive numbers, one run after the other; that is,
//! for every tap all inputs. Patches of a 1x1 convolution, single pixels, are read through the source; others from a plane
//! with a border of zeros.

use std::array;
use std::ops::Range;

use rayon::prelude::*;

use super::Direct;
use crate::instructions::Work;
use crate::map::{MapShape, block_at, blocks, padded};
use crate::plane::Plane;
use crate::product::{ROWS, SQUARE, panel};
use crate::sink::{AnySink, Places};
use crate::source::AnySource;
use crate::vector::{LANES, Vector};
use crate::view::{Lines, View, ViewMut};

/// Weights that are worth a task of their own.
const FEWEST_WEIGHTS: usize = 2048;

/// Some weights, `[outputs][elements of a patch]`, with zeros for those that there are not.
type Square = [[f32; LANES]; LANES];

impl Direct {
    /// Numbers of a patch.
    fn patch(self) -> usize {
        self.size * self.run()
    }

    /// Numbers of a kernel row's run.
    fn run(self) -> usize {
        self.size * self.input.channels
    }

    /// Blocks of a patch.
    pub(crate) fn depth(self) -> usize {
        self.patch().div_ceil(LANES)
    }

    /// The image with its border, and as many rows and columns behind it as the last patch wants.
    pub(super) fn plane(self) -> Plane {
        let side = |outputs: usize, pixels: usize| {
            ((outputs - 1) * self.stride + self.size).max(pixels + self.size / 2)
        };
        Plane::interleaved(
            side(self.output.height, self.input.height),
            side(self.output.width, self.input.width),
            self.size / 2,
            self.input.channels,
        )
    }

    /// Where the elements of a block of a patch are among an output's weights, `[inputs, size, size]`; padding has no weight.
    fn places(self, block: usize) -> [Option<usize>; LANES] {
        array::from_fn(|lane| {
            let element = block * LANES + lane;
            let (tap, input) = (element / self.input.channels, element % self.input.channels);
            (element < self.patch()).then_some(input * self.size * self.size + tap)
        })
    }

    /// Of weights `[outputs, inputs, size, size]`, outputs from `first` on.
    fn square(self, weights: &[f32], places: &[Option<usize>; LANES], first: usize) -> Square {
        let mut square = [[0.; LANES]; LANES];
        let of_outputs = weights.chunks_exact(self.patch()).skip(first);
        for (to, weights) in square.iter_mut().zip(of_outputs) {
            match *places {
                // A 1x1 convolution's lie together.
                [Some(from), .., Some(last)] if last == from + LANES - 1 => {
                    to.copy_from_slice(&weights[from..=last]);
                }
                _ => *to = places.map(|place| place.map_or(0., |at| weights[at])),
            }
        }
        square
    }

    /// Weights `[outputs, inputs, size, size]` as `[output block][patch][LANES]`, or with lanes along the patch,
    /// `[depth block][output, padded][LANES]`.
    pub(crate) fn pack(self, weights: &[f32], lanes_are_outputs: bool, to: &mut [f32]) {
        let of_output_block = |(block, to): (usize, &mut [f32])| {
            for (depth, to) in squares_mut(to).iter_mut().enumerate() {
                let square = self.square(weights, &self.places(depth), block * LANES);
                *to = array::from_fn(|element| array::from_fn(|output| square[output][element]));
            }
        };
        let of_depth_block = |(block, to): (usize, &mut [f32])| {
            let places = self.places(block);
            for (block, to) in squares_mut(to).iter_mut().enumerate() {
                *to = self.square(weights, &places, block * LANES);
            }
        };
        if lanes_are_outputs {
            to.par_chunks_mut(self.depth() * SQUARE).enumerate().for_each(of_output_block);
        } else {
            let block = padded(self.output.channels) * LANES;
            let chunks = to.par_chunks_mut(block).with_min_len(FEWEST_WEIGHTS.div_ceil(block));
            chunks.enumerate().for_each(of_depth_block);
        }
    }

    /// A block of outputs of a gradient `[depth block][output block][LANES][LANES]`, as `[outputs, inputs, size, size]`.
    pub(crate) fn unpack(self, gradient: &[f32], block: usize, to: &mut [f32]) {
        let squares = gradient.as_chunks::<LANES>().0.as_chunks::<LANES>().0;
        for (depth, square) in squares.iter().skip(block).step_by(self.output_blocks()).enumerate() {
            let places = self.places(depth);
            for (output, to) in to.chunks_exact_mut(self.patch()).enumerate() {
                for (element, place) in places.into_iter().enumerate() {
                    let Some(at) = place else { continue };
                    to[at] = match self.gradient_lanes_are_inputs() {
                        true => square[output][element],
                        false => square[element][output],
                    };
                }
            }
        }
    }

    /// The `own` blocks of the patches of `count` output pixels from `first` on, as panels; all of them but for a 1x1 convolution. Returns
    /// what will be read next.
    #[allow(clippy::too_many_arguments)]
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) unsafe fn gather<V: Vector>(
        self,
        source: &AnySource,
        plane: Plane,
        plane_memory: View,
        image: usize,
        first: usize,
        count: usize,
        own: Range<usize>,
        to: ViewMut,
    ) -> Lines {
        let pixels = self.pixels();
        if self.is_pointwise() {
            let from = (self.input, self.stride, own);
            // SAFETY: pixels are of the output, so those under them are of the input, and `to` has rows for them.
            return unsafe { fill_rows::<V>(source, from, image, first, count, to, pixels) };
        }
        for row in 0..count {
            let (y, x) = ((first + row) / self.output.width, (first + row) % self.output.width);
            for kernel_row in 0..self.size {
                let from = plane.at(0, y * self.stride + kernel_row, x * self.stride);
                let mut at = 0;
                while at < self.run() {
                    let piece = self.piece(kernel_row, at);
                    // SAFETY: the plane has a border, so that patches lie within it; piece and row are of the panels.
                    unsafe {
                        let values = plane_memory.load_first::<V>(from + at, piece.count);
                        // Behind a patch's last number come zeros.
                        let stored = if piece.is_last { LANES - piece.lane } else { piece.count };
                        to.store_first(panel(piece.block, row, pixels) + piece.lane, stored, values);
                    }
                    at += piece.count;
                }
            }
        }
        Lines::NONE
    }

    /// Adds patches back to the pixels that they were taken from.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) unsafe fn scatter<V: Vector>(
        self,
        plane: Plane,
        patches: View,
        first: usize,
        count: usize,
        to: ViewMut,
    ) {
        for row in 0..count {
            let (y, x) = ((first + row) / self.output.width, (first + row) % self.output.width);
            for kernel_row in 0..self.size {
                let start = plane.at(0, y * self.stride + kernel_row, x * self.stride);
                let mut at = 0;
                while at < self.run() {
                    let piece = self.piece(kernel_row, at);
                    // SAFETY: the plane has a border, so that patches lie within it; piece and row are of the panels.
                    unsafe {
                        let from = panel(piece.block, row, self.pixels()) + piece.lane;
                        let sum = to.read().load_first::<V>(start + at, piece.count);
                        let sum = sum.add(patches.load_first(from, piece.count));
                        to.store_first(start + at, piece.count, sum);
                    }
                    at += piece.count;
                }
            }
        }
    }

    /// What of a kernel row's run, from `at` on, lies in one block of a patch.
    #[inline(always)]
    fn piece(self, kernel_row: usize, at: usize) -> Piece {
        let element = kernel_row * self.run() + at;
        let (block, lane) = (element / LANES, element % LANES);
        let count = (LANES - lane).min(self.run() - at);
        Piece { block, lane, count, is_last: element + count == self.patch() }
    }

    /// Gives a sink the gradient of the pixels that a 1x1 convolution's outputs stand in for, `count` from `first` on, in `own`
    /// blocks of channels: those between the ones that are read have none.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) unsafe fn spread<V: Vector>(
        self,
        patches: View,
        image: usize,
        first: usize,
        count: usize,
        own: Range<usize>,
        sink: &impl AnySink,
    ) {
        let MapShape { height, width, channels, .. } = self.input;
        let stride = self.stride;
        let mut done = 0;
        while done < count {
            let (y, x) = ((first + done) / self.output.width, (first + done) % self.output.width);
            let outputs = (self.output.width - x).min(count - done);
            for row in y * stride..height.min((y + 1) * stride) {
                let end = width.min((x + outputs) * stride);
                for column in (x * stride..end).step_by(ROWS) {
                    let columns = ROWS.min(end - column);
                    for (place, index) in own.clone().enumerate() {
                        let block = block_at(channels, index);
                        // SAFETY: rows and columns are of the image, outputs of the panels; at least one column is there.
                        unsafe {
                            let mut values = [V::zero(); ROWS];
                            for (pixel, value) in values.iter_mut().enumerate().take(columns) {
                                if row == y * stride && (column + pixel).is_multiple_of(stride) {
                                    let output = done + (column + pixel) / stride - x;
                                    *value = patches.load(panel(place, output, self.pixels()));
                                }
                            }
                            let start = ((image * height + row) * width + column) * channels + block.channel;
                            let places =
                                Places { start, lines: 1, columns, line: 0, column: channels, vectors: ROWS };
                            sink.accept(image, block, row == 0 && column == 0, &values, places);
                        }
                    }
                }
            }
            done += outputs;
        }
    }
}

/// Packed weights, cut into squares.
fn squares_mut(packed: &mut [f32]) -> &mut [Square] {
    packed.as_chunks_mut::<LANES>().0.as_chunks_mut::<LANES>().0
}

/// Some numbers of a patch.
struct Piece {
    block: usize,
    /// The first.
    lane: usize,
    count: usize,
    /// Whether the patch ends with them.
    is_last: bool,
}

/// Pixels of a map, `stride` apart, as panels of `own` blocks of channels, through the source. Returns where the next begin.
#[inline(always)]
pub(super) unsafe fn fill_rows<V: Vector>(
    source: &AnySource,
    (shape, stride, own): (MapShape, usize, Range<usize>),
    image: usize,
    first: usize,
    count: usize,
    to: ViewMut,
    rows: usize,
) -> Lines {
    let has_all = own.len() == shape.channels.div_ceil(LANES);
    // SAFETY: as the caller promises.
    unsafe { V::call(FillRows { source, shape, stride, own, image, first, count, to, rows }) }
    let next = (image * shape.pixels() + first + count) * shape.channels;
    if stride == 1 && has_all && next < shape.len() { source.values().lines(next) } else { Lines::NONE }
}

struct FillRows<'a> {
    source: &'a AnySource<'a>,
    shape: MapShape,
    stride: usize,
    own: Range<usize>,
    image: usize,
    first: usize,
    count: usize,
    to: ViewMut<'a>,
    rows: usize,
}

impl<V: Vector> Work<V> for FillRows<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { source, shape, stride, own, image, first, count, to, rows } = self;
        let MapShape { height, width, channels, .. } = shape;
        let columns = width.div_ceil(stride);
        let mut done = 0;
        while done < count {
            let (y, x) = ((first + done) / columns, (first + done) % columns);
            // Without gaps rows need not be told apart.
            let pixels = if stride == 1 { count } else { (columns - x).min(count - done) };
            let start = ((image * height + y * stride) * width + x * stride) * channels;
            for (place, index) in own.clone().enumerate() {
                let block = block_at(channels, index);
                // SAFETY: pixels are of the image, and `to` has rows for them.
                unsafe {
                    let (to, from) = (to.from(panel(place, done, rows)), start + block.channel);
                    source.copy::<V>(image, block, from, stride * channels, pixels, to, LANES, true);
                }
            }
            done += pixels;
        }
    }
}

/// Gives an image's gradient, gathered in a plane, to the sink.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn drain<V: Vector>(
    plane: Plane,
    memory: View,
    shape: MapShape,
    image: usize,
    sink: &impl AnySink,
) {
    let MapShape { height, width, channels, .. } = shape;
    for y in 0..height {
        for x in (0..width).step_by(ROWS) {
            let count = ROWS.min(width - x);
            for block in blocks(channels) {
                // SAFETY: pixels are of the image, which lies within the plane by its border.
                unsafe {
                    let mut values = [V::zero(); ROWS];
                    let from = plane.at(block.index, y + plane.border, x + plane.border);
                    for (pixel, value) in values.iter_mut().enumerate().take(count) {
                        *value = memory.load_first(from + pixel * channels, block.count);
                    }
                    let start = ((image * height + y) * width + x) * channels + block.channel;
                    let places =
                        Places { start, lines: 1, columns: count, line: 0, column: channels, vectors: ROWS };
                    sink.accept(image, block, y == 0 && x == 0, &values, places);
                }
            }
        }
    }
}
