//! Convolutions of any size and stride, as a matrix product over patches.
//!
//! A row of the left matrix is the patch under one output pixel: for every row of the kernel a run of `size * inputs`
//! consecutive numbers (padded to whole vectors). A 1x1 convolution of stride 1 reads its patches, single pixels, through
//! the source; others from a plane with a border of zeros.

use std::ops::Range;

use rayon::prelude::*;

use crate::map::{MapShape, Part, blocks, padded};
use crate::multiply::{Multiply, are_near};
use crate::plane::Plane;
use crate::product::{Ahead, Nothing, ROWS, SQUARE, outer_pair, panel, product_pair};
use crate::scratch::Scratch;
use crate::sink::{AnySink, Places};
use crate::source::AnySource;
use crate::vector::{LANES, Vector};
use crate::view::{Lines, View, ViewMut};

/// Weights that are worth a task of their own.
const FEWEST_WEIGHTS: usize = 2048;

/// A convolution, padded by half its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    pub(crate) input: MapShape,
    pub(crate) output: MapShape,
    pub(crate) size: usize,
    pub(crate) stride: usize,
}

impl Direct {
    fn is_pointwise(self) -> bool {
        self.size == 1 && self.stride == 1
    }

    /// Numbers of a kernel row's run, as it is and padded.
    fn run(self) -> usize {
        self.size * self.input.channels
    }

    /// Blocks of a patch.
    pub(crate) fn depth(self) -> usize {
        self.size * self.run().div_ceil(LANES)
    }

    fn input_blocks(self) -> usize {
        self.input.channels.div_ceil(LANES)
    }

    fn output_blocks(self) -> usize {
        self.output.channels.div_ceil(LANES)
    }

    /// Whether the squares of the weights' gradient are `[outputs][inputs]`, not `[inputs][outputs]`: a product is fast by two
    /// blocks of lanes at a time.
    fn gradient_lanes_are_inputs(self) -> bool {
        self.output_blocks() == 1 && self.depth() > 1
    }

    /// Numbers of packed weights or of their gradient, `[depth block][output block][LANES][LANES]` in either order.
    pub(crate) fn weights_len(self) -> usize {
        self.depth() * self.output_blocks() * SQUARE
    }

    /// Output pixels that are processed together: patches of up to 32 KB or, where the weights do not stay next to the core, as many as
    /// do.
    fn pixels(self) -> usize {
        let (most, blocks) = if are_near(self.weights_len()) {
            (1 << 13, self.depth())
        } else {
            (1 << 16, self.depth().max(self.output_blocks()))
        };
        (most / (blocks * LANES) / ROWS * ROWS).clamp(ROWS, 4 * ROWS)
    }

    /// The image with its border, and as many rows and columns behind it as the last patch wants.
    fn plane(self) -> Plane {
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

    /// Where a patch's element is among an output's weights, `[inputs, size, size]`; padding has no weight.
    fn weight_of(self, element: usize) -> Option<usize> {
        let (row, element) = (element / padded(self.run()), element % padded(self.run()));
        let (column, input) = (element / self.input.channels, element % self.input.channels);
        (element < self.run()).then(|| (input * self.size + row) * self.size + column)
    }

    /// Weights `[outputs, inputs, size, size]` as `[output block][patch][LANES]`, or with lanes along the patch,
    /// `[depth block][output, padded][LANES]`.
    pub(crate) fn pack(self, weights: &[f32], lanes_are_outputs: bool, to: &mut [f32]) {
        let outputs = self.output.channels;
        let length = self.input.channels * self.size * self.size;
        let of_output_block = |(block, to): (usize, &mut [f32])| {
            to.fill(0.);
            let first = block * LANES;
            for (element, to) in to.chunks_exact_mut(LANES).enumerate() {
                let Some(at) = self.weight_of(element) else { continue };
                for (output, to) in (first..outputs).zip(to) {
                    *to = weights[output * length + at];
                }
            }
        };
        let of_depth_block = |(block, to): (usize, &mut [f32])| {
            to.fill(0.);
            for lane in 0..LANES {
                let Some(at) = self.weight_of(block * LANES + lane) else { continue };
                for output in 0..outputs {
                    to[output * LANES + lane] = weights[output * length + at];
                }
            }
        };
        if lanes_are_outputs {
            to.par_chunks_mut(self.depth() * SQUARE).enumerate().for_each(of_output_block);
        } else {
            let block = padded(outputs) * LANES;
            let chunks = to.par_chunks_mut(block).with_min_len(FEWEST_WEIGHTS.div_ceil(block));
            chunks.enumerate().for_each(of_depth_block);
        }
    }

    /// A block of outputs of a gradient `[depth block][output block][LANES][LANES]`, as `[outputs, inputs, size, size]`.
    pub(crate) fn unpack(self, gradient: &[f32], block: usize, to: &mut [f32]) {
        let length = self.input.channels * self.size * self.size;
        let squares = gradient.chunks_exact(SQUARE).skip(block).step_by(self.output_blocks());
        for (depth, square) in squares.enumerate() {
            for element in 0..LANES {
                let Some(at) = self.weight_of(depth * LANES + element) else { continue };
                for (output, to) in to.chunks_exact_mut(length).enumerate() {
                    let (row, lane) =
                        if self.gradient_lanes_are_inputs() { (output, element) } else { (element, output) };
                    to[at] = square[row * LANES + lane];
                }
            }
        }
    }

    /// `sink(weights * source)` for a run of images.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn forward<V: Vector>(
        self,
        source: &AnySource,
        weights: View,
        sink: &impl AnySink,
        images: Range<usize>,
        part: Part,
    ) {
        let (plane, pixels, depth) = (self.plane(), self.pixels(), self.depth());
        let plane_len = if self.is_pointwise() { 0 } else { plane.len(self.input.channels) };
        let mut scratch = Scratch::take();
        let [plane_memory, patches] = scratch.pieces([plane_len, pixels * depth * LANES]);
        let (plane_memory, patches) = (ViewMut::new(plane_memory), ViewMut::new(patches));
        unsafe {
            for image in images {
                if !self.is_pointwise() {
                    plane.fill::<V>(source, self.input, 0..self.input_blocks(), image, plane_memory);
                }
                let own = part.share(self.output.pixels(), ROWS);
                for first in own.clone().step_by(pixels) {
                    let count = pixels.min(own.end - first);
                    let ahead =
                        self.gather::<V>(source, plane, plane_memory.read(), image, first, count, patches);
                    sink.run::<V>(Multiply {
                        panels: patches.read(),
                        rows: pixels,
                        depth,
                        weights,
                        to: self.output,
                        ahead,
                        beside: sink.read_beside(),
                        distance: ROWS,
                        image,
                        first,
                        count,
                    });
                }
            }
        }
    }

    /// For a run of images: the weights' gradient, to `sum` if there is one, and if there are `weights` (with
    /// lanes along the patch) `sink(weights * gradient)`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn backward<V: Vector>(
        self,
        source: &AnySource,
        gradient: &AnySource,
        weights: Option<(View, &impl AnySink)>,
        sum: Option<ViewMut>,
        images: Range<usize>,
    ) {
        let (plane, pixels, depth) = (self.plane(), self.pixels(), self.depth());
        let plane_len = if self.is_pointwise() { 0 } else { plane.len(self.input.channels) };
        let patch_len = pixels * depth * LANES;
        let scattered_len = if self.is_pointwise() { 0 } else { patch_len };
        let lengths = [plane_len, plane_len, patch_len, scattered_len, pixels * padded(self.output.channels)];
        let mut scratch = Scratch::take();
        let [source_plane, input_plane, patches, scattered, gradients] = scratch.pieces(lengths);
        let (source_plane, input_plane) = (ViewMut::new(source_plane), ViewMut::new(input_plane));
        let (patches, scattered) = (ViewMut::new(patches), ViewMut::new(scattered));
        let gradients = ViewMut::new(gradients);
        unsafe {
            for image in images.clone() {
                if !self.is_pointwise() {
                    if sum.is_some() {
                        plane.fill::<V>(source, self.input, 0..self.input_blocks(), image, source_plane);
                    }
                    input_plane.slice(0, plane_len).fill(0.);
                }
                for first in (0..self.output.pixels()).step_by(pixels) {
                    let count = pixels.min(self.output.pixels() - first);
                    let ahead = fill_rows::<V>(gradient, self.output, image, first, count, gradients, pixels);
                    if let Some(sum) = sum {
                        self.gather::<V>(source, plane, source_plane.read(), image, first, count, patches);
                        let is_first = image == images.start && first == 0;
                        let (patches, gradients) = (patches.read(), gradients.read());
                        self.outers::<V>(patches, gradients, pixels, count, sum, is_first);
                    }
                    let Some((weights, sink)) = weights else { continue };
                    if self.is_pointwise() {
                        let (mut beside, mut distance) = (sink.read_beside(), ROWS);
                        if sum.is_some() {
                            // The patches have just brought x; those of the next pixels will want more of it.
                            (beside, distance) = ([Some(source.values()), beside[1]], pixels);
                        }
                        sink.run::<V>(Multiply {
                            panels: gradients.read(),
                            rows: pixels,
                            depth: self.output_blocks(),
                            weights,
                            to: self.input,
                            ahead,
                            beside,
                            distance,
                            image,
                            first,
                            count,
                        });
                    } else {
                        let rows = (gradients.read(), pixels, self.output_blocks());
                        multiply_to_panels::<V>(rows, weights, depth, count, scattered);
                        self.scatter::<V>(plane, scattered.read(), first, count, input_plane);
                    }
                }
                if let Some((_, sink)) = weights
                    && !self.is_pointwise()
                {
                    drain::<V>(plane, input_plane.read(), self.input, image, sink);
                }
            }
        }
    }

    /// Adds the outer products of `count` patches with as many gradients to `sum`, both panels of `rows` rows: what is
    /// broadcast has one block, if one of the two has.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn outers<V: Vector>(
        self,
        patches: View,
        gradients: View,
        rows: usize,
        count: usize,
        sum: ViewMut,
        is_first: bool,
    ) {
        let outputs = self.output_blocks();
        unsafe {
            let patch = |block: usize| patches.from(panel(block, 0, rows));
            let gradient = |output: usize| gradients.from(panel(output, 0, rows));
            if self.gradient_lanes_are_inputs() {
                outers::<V>(
                    gradient(0),
                    patch,
                    self.depth(),
                    count,
                    |block| sum.from(block * SQUARE),
                    is_first,
                );
                return;
            }
            for block in 0..self.depth() {
                let to = |output: usize| sum.from((block * outputs + output) * SQUARE);
                outers::<V>(patch(block), gradient, outputs, count, to, is_first);
            }
        }
    }

    /// The patches of `count` output pixels from `first` on, as panels. Returns what will be read next.
    #[allow(clippy::too_many_arguments)]
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn gather<V: Vector>(
        self,
        source: &AnySource,
        plane: Plane,
        plane_memory: View,
        image: usize,
        first: usize,
        count: usize,
        to: ViewMut,
    ) -> Lines {
        if self.is_pointwise() {
            return unsafe { fill_rows::<V>(source, self.input, image, first, count, to, self.pixels()) };
        }
        for row in 0..count {
            let (y, x) = ((first + row) / self.output.width, (first + row) % self.output.width);
            for kernel_row in 0..self.size {
                let from = plane.at(0, y * self.stride + kernel_row, x * self.stride);
                for block in blocks(self.run()) {
                    let index = kernel_row * self.run().div_ceil(LANES) + block.index;
                    unsafe {
                        let values = plane_memory.load_first::<V>(from + block.channel, block.count);
                        to.store(panel(index, row, self.pixels()), values);
                    }
                }
            }
        }
        Lines::NONE
    }

    /// Adds patches back to the pixels that they were taken from.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn scatter<V: Vector>(self, plane: Plane, patches: View, first: usize, count: usize, to: ViewMut) {
        for row in 0..count {
            let (y, x) = ((first + row) / self.output.width, (first + row) % self.output.width);
            for kernel_row in 0..self.size {
                let at = plane.at(0, y * self.stride + kernel_row, x * self.stride);
                for block in blocks(self.run()) {
                    let index = kernel_row * self.run().div_ceil(LANES) + block.index;
                    let at = at + block.channel;
                    unsafe {
                        let sum = to.read().load_first::<V>(at, block.count);
                        let sum = sum.add(patches.load(panel(index, row, self.pixels())));
                        to.store_first(at, block.count, sum);
                    }
                }
            }
        }
    }
}

/// Adds the outer products of the panel `a` with `blocks` panels `g` to as many squares.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn outers<'a, V: Vector>(
    a: View,
    g: impl Fn(usize) -> View<'a>,
    blocks: usize,
    rows: usize,
    sum: impl Fn(usize) -> ViewMut<'a>,
    is_first: bool,
) {
    let pairs = blocks / 2 * 2;
    unsafe {
        for block in (0..pairs).step_by(2) {
            outer_pair::<V>(a, [g(block), g(block + 1)], rows, [sum(block), sum(block + 1)], is_first);
        }
        if pairs < blocks {
            V::outer(a, g(pairs), rows, sum(pairs), is_first);
        }
    }
}

/// Pixels as panels, through the source. Returns where the next begin.
#[inline(always)]
unsafe fn fill_rows<V: Vector>(
    source: &AnySource,
    shape: MapShape,
    image: usize,
    first: usize,
    count: usize,
    to: ViewMut,
    rows: usize,
) -> Lines {
    let start = (image * shape.pixels() + first) * shape.channels;
    unsafe {
        for block in shape.blocks() {
            let to = to.from(panel(block.index, 0, rows));
            source.copy::<V>(image, block, start + block.channel, shape.channels, count, to, LANES, true);
        }
        let next = start + count * shape.channels;
        if next < shape.len() { source.values().lines(next) } else { Lines::NONE }
    }
}

/// Multiplies panels by weights to `blocks` blocks, as panels again.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn multiply_to_panels<V: Vector>(
    (panels, rows, depth): (View, usize, usize),
    weights: View,
    blocks: usize,
    count: usize,
    to: ViewMut,
) {
    let pairs = blocks / 2 * 2;
    for row in (0..count).step_by(ROWS) {
        let ahead = Ahead::NOTHING;
        unsafe {
            let a = (panels.from(row * LANES), rows * LANES);
            let weights = |block: usize| weights.from(block * depth * SQUARE);
            let to = |block: usize| to.from(panel(block, row, rows));
            for block in (0..pairs).step_by(2) {
                let (b, to) = ([weights(block), weights(block + 1)], [to(block), to(block + 1)]);
                product_pair::<V>(a, depth, b, ahead, to);
            }
            if pairs < blocks {
                V::product(a, ROWS, depth, weights(pairs), ahead, &mut Nothing, to(pairs));
            }
        }
    }
}

/// Gives an image's gradient, gathered in a plane, to the sink.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn drain<V: Vector>(plane: Plane, memory: View, shape: MapShape, image: usize, sink: &impl AnySink) {
    let MapShape { height, width, channels, .. } = shape;
    for y in 0..height {
        for x in (0..width).step_by(ROWS) {
            let count = ROWS.min(width - x);
            for block in blocks(channels) {
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
