//! One image of a feature map, copied to scratch memory with a border of zeros.

use std::ops::Range;

use crate::instructions::Work;
use crate::map::{Block, MapShape, block_at};
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

    /// Copies the `own` blocks of channels of image `image` of `source`, one behind the other.
    #[inline(always)]
    pub(crate) unsafe fn fill<V: Vector>(
        self,
        source: &AnySource,
        shape: MapShape,
        own: Range<usize>,
        image: usize,
        to: ViewMut,
    ) {
        // SAFETY: as the caller promises.
        unsafe { V::call(Fill { plane: self, source, shape, own, image, to }) }
    }

    /// [`fill`](Self::fill), in a function of its own.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn fill_here<V: Vector>(
        self,
        source: &AnySource,
        shape: MapShape,
        own: Range<usize>,
        image: usize,
        to: ViewMut,
    ) {
        let MapShape { height, width, channels, .. } = shape;
        // SAFETY: rows and columns are of the plane, with its border, and of the image; `to` has the plane's length.
        unsafe {
            let (top, left) = (self.border, self.border);
            let (bottom, right) = (top + height, left + width);
            for block in own.clone().map(|index| block_at(channels, index)) {
                let block = Block { index: block.index - own.start, ..block };
                self.clear::<V>(block, 0, top, 0, self.width, to);
                self.clear::<V>(block, top, bottom, 0, left, to);
                self.clear::<V>(block, top, bottom, right, self.width, to);
                self.clear::<V>(block, bottom, self.height, 0, self.width, to);
            }
            for row in 0..height {
                for block in own.clone().map(|index| block_at(channels, index)) {
                    let from = (image * height + row) * width * channels + block.channel;
                    let to = to.from(self.at(block.index - own.start, row + self.border, self.border));
                    source.copy::<V>(image, block, from, channels, width, to, self.pixel, self.pads);
                }
            }
        }
    }

    /// Zeros a rectangle. (No closure: code in one would not be compiled for the instruction set.)
    #[inline(always)]
    unsafe fn clear<V: Vector>(
        self,
        block: Block,
        top: usize,
        bottom: usize,
        left: usize,
        right: usize,
        to: ViewMut,
    ) {
        let count = if self.pads { LANES } else { block.count };
        for row in top..bottom {
            for column in left..right {
                // SAFETY: the rectangle is of the plane, as the caller promises.
                unsafe { to.store_first(self.at(block.index, row, column), count, V::zero()) };
            }
        }
    }
}

struct Fill<'a> {
    plane: Plane,
    source: &'a AnySource<'a>,
    shape: MapShape,
    own: Range<usize>,
    image: usize,
    to: ViewMut<'a>,
}

impl<V: Vector> Work<V> for Fill<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { plane, source, shape, own, image, to } = self;
        // SAFETY: as the caller promises.
        unsafe { plane.fill_here::<V>(source, shape, own, image, to) }
    }
}
