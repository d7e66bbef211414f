//! The gradient of a convolution's weights, in bfloat16.
//!
//! It is, for every tap, a product over pixels: of channels by pixels with pixels by outputs. So the input is transposed; the gradient lies as
//! weights do, pairs of pixels together. Both have the pixels of a plane with its border, where the gradient is zero. Then the pixels under
//! another tap are as many positions further on, and a few images are one long row.

use std::ops::Range;

use super::Tiled;
use super::rows::halves_mut;
use crate::map::{MapShape, Part, block_at, padded};
use crate::scratch::Scratch;
use crate::source::{AnySource, Source, for_known};
use crate::tiles::{DEPTH, Operands, RESULTS, SIDE};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapViewMut, View, ViewMut};

/// Positions of a band of images, if one image has not more.
const BAND: usize = 1024;

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

    fn band(self, images: usize) -> Band {
        let border = self.size - 1;
        let (width, height) = (self.input.width + border, self.input.height + border);
        let image = (width * height).next_multiple_of(2);
        let last = (self.output.height - 1) * width + self.output.width;
        let depth = ((images - 1) * image + last).next_multiple_of(DEPTH);
        // The last tap is the furthest; a row of pixels is stored in whole vectors.
        let pitch = (depth + border * (width + 1) + 2 * LANES).next_multiple_of(DEPTH);
        Band { width, image, depth, pitch: pitch + if (pitch / DEPTH).is_multiple_of(2) { DEPTH } else { 0 } }
    }

    /// The gradient of the weights for a run of images, as far as it is of this part of the inputs, to [`gradient_len`](Self::gradient_len)
    /// numbers of `sum`.
    ///
    /// # Safety
    /// Source, gradient and sum have the lengths that the shapes say, the stride is one, and the machine has the tiles.
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
        let [inputs, gradients, results] =
            scratch.pieces([own.len() * LANES * band.pitch / 2, blocks * band.depth / 2 * LANES, RESULTS]);
        let inputs = halves_mut(inputs);
        let (gradients, results) = (ViewMut::new(gradients), ViewMut::new(results));
        // SAFETY: bands are of the images; scratch memory has places for them, and `sum` for all blocks and taps.
        unsafe {
            self.tiles.begin(DEPTH);
            for first in images.clone().step_by(together) {
                let count = together.min(images.end - first);
                inputs.zero(0, own.len() * LANES * band.pitch);
                gradients.slice(0, blocks * band.depth / 2 * LANES).fill(0.);
                for image in 0..count {
                    let of_band = first + image;
                    self.transpose_image::<V>(source, own.clone(), of_band, inputs, band, image * band.image);
                    self.pair_image::<V>(gradient, of_band, gradients, band, image * band.image);
                }
                let is_first = first == images.start;
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
        band: Band,
        at: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            for_known!(V, source, source => self.transpose_known::<V, _>(source, own, image, to, band, at));
        }
    }

    #[inline(always)]
    unsafe fn transpose_known<V: Vector, S: Source>(
        self,
        source: S,
        own: Range<usize>,
        image: usize,
        to: MapViewMut,
        band: Band,
        at: usize,
    ) {
        let MapShape { height, width, channels, .. } = self.input;
        let border = self.size / 2;
        for index in own.clone() {
            let block = block_at(channels, index);
            // SAFETY: pixels are of the image, and there is a row for every channel, with places behind the last position.
            unsafe {
                let constants = source.constants::<V>(image, block);
                for row in 0..height {
                    let from = (image * height + row) * width * channels + block.channel;
                    let place = at + (row + border) * band.width + border;
                    for column in (0..width).step_by(2 * LANES) {
                        let mut pairs = [V::zero(); LANES];
                        for (pair, pixels) in pairs.iter_mut().enumerate().take((width - column).div_ceil(2))
                        {
                            let pixel = column + 2 * pair;
                            let first = source.get(&constants, from + pixel * channels, block);
                            let second = match pixel + 1 < width {
                                true => source.get(&constants, from + (pixel + 1) * channels, block),
                                false => V::zero(),
                            };
                            *pixels = V::pair(first, second);
                        }
                        for (channel, pairs) in V::transpose(pairs).into_iter().enumerate() {
                            let row = (index - own.start) * LANES + channel;
                            // What is behind the last pixel is zero, and the next row's pixels come later.
                            let to = to.halves(row * band.pitch + place + column, 2 * LANES);
                            pairs.store(to.cast());
                        }
                    }
                }
            }
        }
    }

    /// Stores an image's gradient, pairs of positions together, its plane from position `at` on.
    #[inline(always)]
    unsafe fn pair_image<V: Vector>(
        self,
        gradient: &AnySource,
        image: usize,
        to: ViewMut,
        band: Band,
        at: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            for_known!(V, gradient, source => self.pair_known::<V, _>(source, image, to, band, at));
        }
    }

    #[inline(always)]
    unsafe fn pair_known<V: Vector, S: Source>(
        self,
        source: S,
        image: usize,
        to: ViewMut,
        band: Band,
        at: usize,
    ) {
        let MapShape { height, width, channels, .. } = self.output;
        // Without a border rows have no gaps.
        let (height, width) = if self.size == 1 { (1, height * width) } else { (height, width) };
        for index in 0..self.output_blocks() {
            let block = block_at(channels, index);
            // SAFETY: pixels are of the image, and there is a place for every position.
            unsafe {
                let constants = source.constants::<V>(image, block);
                for row in 0..height {
                    let from = (image * height + row) * width * channels + block.channel;
                    let place = at + row * band.width;
                    // The position in front of an odd one is of the border.
                    let mut column = 0;
                    let mut first = V::zero();
                    if place.is_multiple_of(2) {
                        first = source.get(&constants, from, block);
                        column = 1;
                    }
                    let mut pair = place / 2;
                    loop {
                        let has_second = column < width;
                        let second = if has_second {
                            source.get(&constants, from + column * channels, block)
                        } else {
                            V::zero()
                        };
                        to.store((index * band.depth / 2 + pair) * LANES, V::pair(first, second));
                        if column + 1 >= width {
                            break;
                        }
                        first = source.get(&constants, from + (column + 1) * channels, block);
                        column += 2;
                        pair += 1;
                    }
                }
            }
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
