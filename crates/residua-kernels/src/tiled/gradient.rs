//! The gradient of a convolution's weights, in bfloat16.
//!
//! It is, for every tap, a product over pixels: of channels by pixels with pixels by outputs. So the input is transposed; the gradient lies as
//! weights do, pairs of pixels together. Both have the pixels of a plane with its border, where the gradient is zero. Then the pixels under
//! another tap are as many positions further on, and a few images are one long row. Of a stride the gradient's pixels lie as far apart, zeros
//! between them; a 1x1 convolution has a plane of those pixels that it sees.

use std::ops::Range;

use super::Tiled;
use super::rows::numbers_mut;
use crate::map::{MapShape, Part, padded};
use crate::reading::{Pixels, copy_blocks};
use crate::scratch::Scratch;
use crate::source::AnySource;
use crate::tiles::{Numbers, Operands, RESULTS, SIDE, Tiles};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapViewMut, View, ViewMut};

/// Positions of a step.
const DEPTH: usize = Numbers::Bf16.depth();

/// Positions of a band of images, if one image has not more.
const BAND: usize = 1024;

/// Pixels of a strip, and blocks of channels: 17 KB, which stay in the nearest cache.
const STRIP: usize = 2 * LANES;
const STRIP_BLOCKS: usize = 16;

/// Numbers of a strip's pixel, and of a strip with a pixel of zeros on either side.
const STRIP_PITCH: usize = STRIP_BLOCKS * LANES;
const STRIP_LEN: usize = (STRIP + 2) * STRIP_PITCH;

/// An image, read strip by strip.
struct Strips<'a> {
    source: &'a AnySource<'a>,
    tiles: Tiles,
    channels: usize,
    /// The blocks of channels that are wanted.
    own: Range<usize>,
    image: usize,
    /// Where the first pixel lies, and how far apart pixels and rows are.
    first: usize,
    lines: [usize; 2],
    /// `[STRIP + 2][STRIP_BLOCKS][LANES]`, the first pixel zero.
    strip: MapViewMut<'a>,
}

impl Strips<'_> {
    /// Calls `take` with every strip of rows of so many pixels: with the row, the strip's first column, how many pixels it has, and its
    /// blocks. They lie from the strip's pixel 1 on, zeros behind them. The first strip of a row is shorter by what `lead` says.
    #[inline(always)]
    unsafe fn each<V: Vector>(
        self,
        [width, rows]: [usize; 2],
        lead: impl Fn(usize) -> usize,
        mut take: impl FnMut(usize, usize, usize, Range<usize>),
    ) {
        let Self { source, tiles, channels, own, image, first, lines: [apart, pitch], strip } = self;
        for row in 0..rows {
            let mut column = 0;
            while column < width {
                let most = if column == 0 { STRIP - lead(row) } else { STRIP };
                let count = most.min(width - column);
                let pixels = Pixels { image, at: first + row * pitch + column * apart, apart, count };
                for first in own.clone().step_by(STRIP_BLOCKS) {
                    let blocks = first..own.end.min(first + STRIP_BLOCKS);
                    // SAFETY: pixels and blocks are of the image, and the strip has places for them.
                    unsafe {
                        let place = (strip, STRIP_PITCH, STRIP_PITCH);
                        copy_blocks::<V>(source, Some(tiles), channels, blocks.clone(), pixels, place);
                        strip.zero((1 + count) * STRIP_PITCH, STRIP_LEN - (1 + count) * STRIP_PITCH);
                    }
                    take(row, column, count, blocks);
                }
                column += count;
            }
        }
    }
}

/// Of a strip, two pixels' numbers of a block.
#[inline(always)]
unsafe fn pair_of<V: Vector>(strip: MapViewMut, pixels: [usize; 2], block: usize) -> V {
    // SAFETY: pixels and block are of the strip, as the caller promises.
    unsafe {
        let [first, second] =
            pixels.map(|pixel| strip.read().halves(pixel * STRIP_PITCH + block * LANES, LANES));
        V::interleave(first, second)
    }
}

/// The planes of some images, one behind the other, without gaps but for an odd position.
#[derive(Clone, Copy)]
struct Band {
    /// Positions of a row, of an image, and of what is multiplied.
    width: usize,
    image: usize,
    depth: usize,
    /// Positions of a channel's row: an odd number of cache lines, so that rows do not meet in a cache.
    pitch: usize,
}

impl Tiled {
    fn input_blocks(self) -> usize {
        self.input.channels.div_ceil(LANES)
    }

    /// Numbers of the weights' gradient, `[inputs][taps][outputs, padded]`.
    pub(crate) fn gradient_len(self) -> usize {
        self.input.channels * self.size * self.size * padded(self.output.channels)
    }

    /// The input's pixels that a plane has: how far they lie apart, how many there are of a row, and how many rows.
    fn plane(self) -> [usize; 3] {
        let Self { input, output, size, stride, .. } = self;
        match (size, stride) {
            // Rows without gaps and borders are one.
            (1, 1) => [1, input.pixels(), 1],
            (1, _) => [stride, output.width, output.height],
            _ => [1, input.width, input.height],
        }
    }

    /// Positions from a pixel of the gradient to the next in its plane.
    fn gradient_spread(self) -> usize {
        if self.size == 1 { 1 } else { self.stride }
    }

    fn band(self, images: usize) -> Band {
        let border = self.size - 1;
        let [_, width, height] = self.plane();
        let (width, height) = (width + border, height + border);
        let image = (width * height).next_multiple_of(2);
        let spread = self.gradient_spread();
        let last = match self.size {
            1 => width * height,
            _ => (self.output.height - 1) * spread * width + (self.output.width - 1) * spread + 1,
        };
        let depth = ((images - 1) * image + last).next_multiple_of(DEPTH);
        // The last tap is the furthest; a row of pixels is stored in whole vectors.
        let pitch = (depth + border * (width + 1) + 2 * LANES).next_multiple_of(DEPTH);
        Band { width, image, depth, pitch: pitch + if (pitch / DEPTH).is_multiple_of(2) { DEPTH } else { 0 } }
    }

    /// The gradient of the weights for a run of images, as far as it is of this part of the inputs, to [`gradient_len`](Self::gradient_len)
    /// numbers of `sum`.
    ///
    /// # Safety
    /// Source, gradient and sum have the lengths that the shapes say, and the machine has the tiles.
    #[inline(always)]
    pub(crate) unsafe fn weights_gradient<V: Vector>(
        self,
        source: &AnySource,
        gradient: &AnySource,
        sum: ViewMut,
        images: Range<usize>,
        of_inputs: Part,
    ) {
        let own = of_inputs.share(self.input_blocks(), 2);
        if own.is_empty() {
            return;
        }
        let together = (BAND / self.band(1).image).clamp(1, images.len());
        let band = self.band(together);
        let blocks = self.output_blocks();
        let mut scratch = Scratch::take();
        let [inputs, gradients, strip, results] = scratch.pieces([
            own.len() * LANES * band.pitch / 2,
            blocks * band.depth / 2 * LANES,
            STRIP_LEN / 2,
            RESULTS,
        ]);
        let (inputs, strip) = (numbers_mut(inputs, self.numbers), numbers_mut(strip, self.numbers));
        let (gradients, results) = (ViewMut::new(gradients), ViewMut::new(results));
        // SAFETY: bands are of the images; scratch memory has places for them, and `sum` for all blocks and taps.
        unsafe {
            self.tiles.begin(self.numbers.slots(DEPTH));
            strip.zero(0, STRIP_PITCH);
            for first in images.clone().step_by(together) {
                let count = together.min(images.end - first);
                let is_first = first == images.start;
                // Borders stay zero, and what has no image is.
                if is_first || count < together {
                    inputs.zero(0, own.len() * LANES * band.pitch);
                    gradients.slice(0, blocks * band.depth / 2 * LANES).fill(0.);
                }
                for image in 0..count {
                    let (of_band, place) = (first + image, (band, image * band.image));
                    self.transpose_image::<V>(source, own.clone(), of_band, inputs, place, strip);
                    self.pair_image::<V>(gradient, of_band, gradients, place, strip);
                }
                self.multiply_bands::<V>(inputs, gradients.read(), results, sum, own.clone(), band, is_first);
            }
            self.tiles.end();
        }
    }

    /// Stores the own blocks of an image with a row for each channel, its plane from position `at` on.
    #[inline(always)]
    unsafe fn transpose_image<V: Vector>(
        self,
        source: &AnySource,
        own: Range<usize>,
        image: usize,
        to: MapViewMut,
        (band, at): (Band, usize),
        strip: MapViewMut,
    ) {
        let (border, channels) = (self.size / 2, self.input.channels);
        let place = |row: usize| at + (row + border) * band.width + border;
        let [apart, width, rows] = self.plane();
        let first = image * self.input.pixels() * channels;
        let lines = [apart * channels, apart * self.input.width * channels];
        let read =
            Strips { source, tiles: self.tiles, channels, own: own.clone(), image, first, lines, strip };
        // SAFETY: pixels are of the image, and there is a row for every channel, with places behind the last position.
        unsafe {
            read.each::<V>(
                [width, rows],
                |_| 0,
                |row, column, _, blocks| {
                    for (index, block) in blocks.enumerate() {
                        let mut pairs = [V::zero(); LANES];
                        for (pair, pixels) in pairs.iter_mut().enumerate() {
                            *pixels = pair_of::<V>(strip, [1 + 2 * pair, 2 + 2 * pair], index);
                        }
                        for (channel, pairs) in V::transpose(pairs).into_iter().enumerate() {
                            let of_channel = ((block - own.start) * LANES + channel) * band.pitch;
                            // What is behind the last pixel is zero, and the next row's pixels come later.
                            let to = to.halves(of_channel + place(row) + column, 2 * LANES);
                            pairs.store(to.cast());
                        }
                    }
                },
            );
        }
    }

    /// Stores an image's gradient, pairs of positions together, its plane from position `at` on.
    #[inline(always)]
    unsafe fn pair_image<V: Vector>(
        self,
        gradient: &AnySource,
        image: usize,
        to: ViewMut,
        (band, at): (Band, usize),
        strip: MapViewMut,
    ) {
        let MapShape { height, width, channels, .. } = self.output;
        let spread = self.gradient_spread();
        // Without a border rows have no gaps.
        let [width, rows] = if self.size == 1 { [height * width, 1] } else { [width, height] };
        let own = 0..self.output_blocks();
        let (first, lines) = (image * self.output.pixels() * channels, [channels, width * channels]);
        let read = Strips { source: gradient, tiles: self.tiles, channels, own, image, first, lines, strip };
        let place = |row: usize| at + row * spread * band.width;
        // The position in front of an odd one is of the border.
        let lead = |row: usize| if spread == 1 { place(row) % 2 } else { 0 };
        // SAFETY: pixels are of the image, and there is a place for every position.
        unsafe {
            read.each::<V>([width, rows], lead, |row, column, count, blocks| {
                let at = place(row) + column * spread;
                for (index, block) in blocks.enumerate() {
                    let to = to.from(block * band.depth / 2 * LANES);
                    if spread == 1 {
                        for pair in 0..(at % 2 + count).div_ceil(2) {
                            let first = 1 - at % 2 + 2 * pair;
                            let value = pair_of::<V>(strip, [first, first + 1], index);
                            to.store((at / 2 + pair) * LANES, value);
                        }
                        continue;
                    }
                    for pixel in 0..count {
                        let (at, pixel) = (at + pixel * spread, 1 + pixel);
                        let pixels = if at.is_multiple_of(2) { [pixel, 0] } else { [0, pixel] };
                        to.store(at / 2 * LANES, pair_of::<V>(strip, pixels, index));
                    }
                }
            });
        }
    }

    /// Adds what a band brings to the sum, or stores it.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    unsafe fn multiply_bands<V: Vector>(
        self,
        inputs: MapViewMut,
        gradients: View,
        results: ViewMut,
        sum: ViewMut,
        own: Range<usize>,
        band: Band,
        is_first: bool,
    ) {
        let (taps, outputs) = (self.size * self.size, self.output_blocks());
        for input in own.clone().step_by(2) {
            let rows = 2.min(own.end - input);
            for output in (0..outputs).step_by(2) {
                let columns = 2.min(outputs - output);
                for tap in 0..taps {
                    let shift = tap / self.size * band.width + tap % self.size;
                    // SAFETY: blocks are of inputs, gradients and sum; rows have as many positions behind the last as the furthest
                    // tap wants.
                    unsafe {
                        let operands = Operands {
                            numbers: self.numbers,
                            rows: inputs.read(),
                            start: (input - own.start) * LANES * band.pitch + shift,
                            distance: band.pitch,
                            pitch: 0,
                            weights: gradients.from(output * band.depth / 2 * LANES),
                            runs: 1,
                            steps: band.depth / DEPTH,
                            depth: DEPTH,
                            ahead: Lines::NONE,
                        };
                        self.product(operands, rows * SIDE, columns, results);
                        for row in 0..(rows * LANES).min(self.input.channels - input * LANES) {
                            let at = ((input * LANES + row) * taps + tap) * padded(self.output.channels)
                                + output * LANES;
                            for column in 0..columns {
                                let value = results.read().load::<V>(row * 2 * SIDE + column * LANES);
                                let at = at + column * LANES;
                                let value = if is_first { value } else { value.add(sum.read().load(at)) };
                                sum.store(at, value);
                            }
                        }
                    }
                }
            }
        }
    }
}
