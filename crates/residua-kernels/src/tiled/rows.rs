//! The rows that tiles are read from: where they lie, which pixels they are, and copies of them.

use std::ops::Range;

use super::Tiled;
use crate::map::MapShape;
use crate::reading::{Pixels, copy};
use crate::source::AnySource;
use crate::tiles::{Numbers, ROWS, Tiles};
use crate::values::ValuesMut;
use crate::vector::Vector;
use crate::view::{MapView, MapViewMut};

/// Positions, one after the other, of which tiles have [`ROWS`] each: lines of `line` positions, the first `wanted` of which are pixels.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) line: usize,
    pub(super) wanted: usize,
    /// The first position, and how many there are.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Numbers from a line to the next, where no tile goes from one to the next. Then positions are whole lines.
    pub(super) lines_apart: Option<usize>,
}

impl Walk {
    fn tiles_of_line(self) -> usize {
        self.line.div_ceil(ROWS)
    }

    pub(super) fn tiles(self) -> usize {
        match self.lines_apart {
            None => self.count.div_ceil(ROWS),
            Some(_) => self.count / self.line * self.tiles_of_line(),
        }
    }

    /// The line of a tile and its first position in there, if lines are apart.
    #[inline(always)]
    fn in_line(self, tile: usize) -> (usize, usize) {
        (self.first / self.line + tile / self.tiles_of_line(), tile % self.tiles_of_line() * ROWS)
    }

    /// Where a tile's first row begins, if rows are so many numbers apart.
    #[inline(always)]
    pub(super) fn start(self, tile: usize, distance: usize) -> usize {
        match self.lines_apart {
            None => (self.first + tile * ROWS) * distance,
            Some(apart) => {
                let (line, position) = self.in_line(tile);
                line * apart + position * distance
            }
        }
    }

    /// Which pixels the rows of a tile are, if any, and how many rows are looked at.
    #[inline(always)]
    pub(super) fn pixels(self, tile: usize) -> ([Option<u32>; ROWS], usize) {
        let mut pixels = [None; ROWS];
        let (mut line, mut position, count) = match self.lines_apart {
            None => {
                let position = self.first + tile * ROWS;
                let count = ROWS.min(self.first + self.count - position);
                (position / self.line, position % self.line, count)
            }
            Some(_) => {
                let (line, position) = self.in_line(tile);
                (line, position, ROWS.min(self.line - position))
            }
        };
        for pixel in &mut pixels[..count] {
            if position < self.wanted {
                *pixel = Some((line * self.wanted + position) as u32);
            }
            position += 1;
            if position == self.line {
                (line, position) = (line + 1, 0);
            }
        }
        (pixels, count)
    }
}

/// Scratch memory for numbers.
pub(super) fn numbers_mut(memory: &mut [f32], numbers: Numbers) -> MapViewMut<'_> {
    let (start, length) = (memory.as_mut_ptr(), numbers.of_slot() * memory.len());
    // SAFETY: the same memory, in which any bits are numbers of either kind.
    unsafe {
        match numbers {
            Numbers::Bf16 => {
                MapViewMut::new(ValuesMut::Bf16(std::slice::from_raw_parts_mut(start.cast(), length)))
            }
            Numbers::Int8 => MapViewMut::of_bytes(std::slice::from_raw_parts_mut(start.cast(), length)),
        }
    }
}

/// What the rows of tiles are of.
///
/// # Safety
/// Pixels are of the map, and where they are copied to has places for them; otherwise as for [`Vector`].
pub(crate) trait Feed: Copy + Sync {
    /// The map itself, if rows can be read where they lie in it.
    fn as_stored(&self) -> Option<MapView<'_>>;

    /// Whether all channels are read the same, so that a row is one long pixel.
    fn is_uniform(&self) -> bool;

    /// The byte of which numbers beyond the map's borders consist.
    fn border(&self) -> u8;

    /// Copies pixels of so many channels to a place, and from there on so far apart.
    unsafe fn copy<V: Vector>(
        &self,
        tiles: Tiles,
        channels: usize,
        pixels: Pixels,
        to: (MapViewMut, usize, usize),
    );
}

impl Feed for AnySource<'_> {
    fn as_stored(&self) -> Option<MapView<'_>> {
        self.as_halves()
    }

    fn is_uniform(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    fn border(&self) -> u8 {
        0
    }

    #[inline(always)]
    unsafe fn copy<V: Vector>(
        &self,
        tiles: Tiles,
        channels: usize,
        pixels: Pixels,
        to: (MapViewMut, usize, usize),
    ) {
        // SAFETY: as the caller promises.
        unsafe { copy::<V>(self, Some(tiles), channels, pixels, to) }
    }
}

/// Copies what the output's pixels `pixels` (of all images, one after the other) see of a 1x1 convolution's input, each padded with zeros.
///
/// # Safety
/// The pixels are of the output, and `to` has places for them.
#[inline(always)]
pub(super) unsafe fn copy_pixels<V: Vector>(
    source: &impl Feed,
    tiled: Tiled,
    pixels: Range<usize>,
    to: MapViewMut,
) {
    let Tiled { input, output, stride, .. } = tiled;
    let pitch = tiled.padded_run();
    let line = if stride == 1 { input.pixels() } else { output.width };
    let mut first = pixels.start;
    while first < pixels.end {
        // As many as lie as far apart as the first two, and in one image.
        let count = (line - first % line).min(pixels.end - first);
        let (image, pixel) = (first / output.pixels(), first % output.pixels());
        let from = match stride {
            1 => pixel,
            _ => pixel / output.width * stride * input.width + pixel % output.width * stride,
        };
        let at = (image * input.pixels() + from) * input.channels;
        let place = (first - pixels.start) * pitch;
        // SAFETY: as the caller promises.
        unsafe {
            let pixels = Pixels { image, at, apart: stride * input.channels, count };
            source.copy::<V>(tiled.tiles, input.channels, pixels, (to, place, pitch));
            if pitch > input.channels {
                for pixel in 0..count {
                    to.zero(place + pixel * pitch + input.channels, pitch - input.channels);
                }
            }
        }
        first += count;
    }
}

/// Fills a row of a plane of `width` pixels with the image's row at position `row`, behind `border` pixels; with what lies beyond its borders, if there is none.
///
/// # Safety
/// The image is of the batch, and the plane has the row.
#[inline(always)]
pub(super) unsafe fn copy_row<V: Vector>(
    source: &impl Feed,
    Tiled { input: shape, spread, tiles, .. }: Tiled,
    image: usize,
    row: Option<usize>,
    (border, width): (usize, usize),
    (to, place): (MapViewMut, usize),
) {
    let MapShape { height, width: pixels, channels, .. } = shape;
    // SAFETY: as the caller promises.
    unsafe {
        let row = row.filter(|row| row.is_multiple_of(spread)).map(|row| row / spread);
        let Some(row) = row.filter(|row| *row < height) else {
            return to.fill(place, width * channels, source.border());
        };
        let at = (image * height + row) * pixels * channels;
        let begin = place + border * channels;
        if spread > 1 {
            to.fill(place, width * channels, source.border());
            let pixels = Pixels { image, at, apart: channels, count: pixels };
            return source.copy::<V>(tiles, channels, pixels, (to, begin, spread * channels));
        }
        to.fill(place, border * channels, source.border());
        to.fill(begin + pixels * channels, (width - border - pixels) * channels, source.border());
        let (channels, count) = if source.is_uniform() { (pixels * channels, 1) } else { (channels, pixels) };
        let pixels = Pixels { image, at, apart: channels, count };
        source.copy::<V>(tiles, channels, pixels, (to, begin, channels));
    }
}
