//! One image of a feature map, copied to scratch memory with a border of zeros.

use crate::map::{MapShape, blocks};
use crate::source::AnySource;
use crate::vector::{LANES, Vector};
use crate::view::ViewMut;

/// Where an image's pixels lie in scratch memory: rows of `width` pixels, the first `top` rows and `left` pixels and
/// whatever is behind the image zero.
#[derive(Clone, Copy)]
pub(crate) struct Plane {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) border: usize,
    /// Numbers from a pixel to the next.
    pub(crate) pixel: usize,
    /// Numbers from a block of channels to the next.
    pub(crate) block: usize,
    /// Whether blocks are filled up to [`LANES`] with zeros.
    pub(crate) pads: bool,
}

impl Plane {
    /// Blocks of channels one after the other, each `[height, width, LANES]`.
    pub(crate) fn blocked(height: usize, width: usize, border: usize) -> Self {
        Self { height, width, border, pixel: LANES, block: height * width * LANES, pads: true }
    }

    /// `[height, width, channels]`
    pub(crate) fn interleaved(height: usize, width: usize, border: usize, channels: usize) -> Self {
        Self { height, width, border, pixel: channels, block: LANES, pads: false }
    }

    /// Numbers of a plane of `channels` channels.
    pub(crate) fn len(self, channels: usize) -> usize {
        if self.pads { self.block * channels.div_ceil(LANES) } else { self.height * self.width * self.pixel }
    }

    #[inline(always)]
    pub(crate) fn at(self, block: usize, row: usize, column: usize) -> usize {
        block * self.block + (row * self.width + column) * self.pixel
    }

    /// Copies image `image` of `source`.
    #[inline(always)]
    pub(crate) unsafe fn fill<V: Vector>(
        self,
        source: &AnySource,
        shape: MapShape,
        image: usize,
        to: ViewMut,
    ) {
        let MapShape { height, width, channels, .. } = shape;
        unsafe {
            for block in blocks(channels) {
                let count = if self.pads { LANES } else { block.count };
                let zero = |row: usize, columns: std::ops::Range<usize>| {
                    for column in columns {
                        to.store_first(self.at(block.index, row, column), count, V::zero());
                    }
                };
                for row in (0..self.border).chain(self.border + height..self.height) {
                    zero(row, 0..self.width);
                }
                for row in self.border..self.border + height {
                    zero(row, 0..self.border);
                    zero(row, self.border + width..self.width);
                }
            }
            for row in 0..height {
                for block in blocks(channels) {
                    let from = (image * height + row) * width * channels + block.channel;
                    let to = to.from(self.at(block.index, row + self.border, self.border));
                    source.copy::<V>(image, block, from, channels, width, to, self.pixel, self.pads);
                }
            }
        }
    }
}
