//! Feature maps and how a batch of them is cut into work.

use std::ops::Range;

use crate::awake;
use crate::vector::LANES;

/// The shape of a batch of feature maps, stored contiguously as `[batch, height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapShape {
    /// Images.
    pub batch: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Numbers of a pixel.
    pub channels: usize,
}

impl MapShape {
    /// Numbers of the whole batch.
    pub fn len(self) -> usize {
        self.batch * self.pixels() * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Pixels of one image.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The same pixels with another number of channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    pub(crate) fn blocks(self) -> impl Iterator<Item = Block> {
        blocks(self.channels)
    }
}

/// Up to [`LANES`] consecutive channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) index: usize,
    /// The first channel.
    pub(crate) channel: usize,
    /// How many; less than [`LANES`] only in the last block.
    pub(crate) count: usize,
}

/// The blocks of `channels` channels.
#[inline(always)]
pub(crate) fn blocks(channels: usize) -> impl Iterator<Item = Block> {
    (0..channels.div_ceil(LANES)).map(move |index| block_at(channels, index))
}

/// The block of this index.
#[inline(always)]
pub(crate) fn block_at(channels: usize, index: usize) -> Block {
    Block { index, channel: index * LANES, count: LANES.min(channels - index * LANES) }
}

/// `channels`, rounded up to whole blocks.
pub(crate) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// A part of a convolution's work on a run of images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Part {
    pub(crate) const WHOLE: Self = Self { index: 0, of: 1 };

    /// Runs `work` for every one of so many parts, in parallel.
    pub(crate) fn for_each(parts: usize, work: &(dyn Fn(Self) + Sync)) {
        awake::for_each(parts, &|index| work(Self { index, of: parts }));
    }

    /// Its share of `count` things, in pieces of `piece`.
    #[inline(always)]
    pub(crate) fn share(self, count: usize, piece: usize) -> Range<usize> {
        let pieces = count.div_ceil(piece);
        let begin = |part: usize| (part * pieces / self.of * piece).min(count);
        begin(self.index)..begin(self.index + 1)
    }
}

/// A batch cut into runs of consecutive images. The cut depends on the shape alone: whatever is summed within runs and
/// then over them in order is the same for any number of threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunks {
    batch: usize,
    size: usize,
    is_reversed: bool,
}

/// More than the threads of most machines, few enough that partial sums cost little.
const MOST_CHUNKS: usize = 32;

impl Chunks {
    /// Runs of at least `least` images (as far as there are).
    pub(crate) fn new(batch: usize, least: usize) -> Self {
        let size = batch.div_ceil(MOST_CHUNKS).max(least).min(batch).max(1);
        Self { batch, size, is_reversed: false }
    }

    /// Runs that are worked on in so many parts each. Divided work has fewer runs: each reads all weights and has a gradient of them of its
    /// own.
    pub(crate) fn divided(batch: usize, parts: usize) -> Self {
        Self::new(batch, batch.div_ceil((batch.min(MOST_CHUNKS) / parts).max(1)))
    }

    /// The same, worked on from the last to the first if `is_reversed`. A pass that begins where the one before it ended
    /// finds the end of a large map in the shared cache.
    pub(crate) fn reversed(self, is_reversed: bool) -> Self {
        Self { is_reversed, ..self }
    }

    pub(crate) fn count(self) -> usize {
        self.batch.div_ceil(self.size)
    }

    /// Runs `work` for every run, in parallel, with its number and its images.
    pub(crate) fn for_each(self, work: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.for_each_part(1, &|chunk, images, _| work(chunk, images));
    }

    /// As [`for_each`](Self::for_each), each run in so many parts.
    ///
    /// What makes writing in parallel sound: every image is in one run, and every block of outputs (or tile) in one part of it. A
    /// call writes only what belongs to its images and its part: their numbers in maps, their places in sums per image,
    /// the run's place in sums per run. No two calls write, and none reads, what another one writes.
    pub(crate) fn for_each_part(self, parts: usize, work: &(dyn Fn(usize, Range<usize>, Part) + Sync)) {
        let count = self.count();
        awake::for_each(count * parts, &|turn| {
            let (turn, index) = (turn / parts, turn % parts);
            let chunk = if self.is_reversed { count - 1 - turn } else { turn };
            let first = chunk * self.size;
            work(chunk, first..(first + self.size).min(self.batch), Part { index, of: parts });
        });
    }
}
