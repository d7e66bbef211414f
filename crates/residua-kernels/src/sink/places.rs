//! Tiles of results that lie in memory, for a sink.

use super::{CHAINS, Sink, WithSink};
use crate::map::Block;
use crate::vector::{LANES, Vector};

/// Where the vectors of a tile go: `lines` lines of `columns` pixels.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    /// Position of the first.
    pub(crate) start: usize,
    pub(crate) lines: usize,
    pub(crate) columns: usize,
    /// Positions from a line to the next.
    pub(crate) line: usize,
    /// Positions from a pixel to the next.
    pub(crate) column: usize,
    /// Vectors from a line to the next.
    pub(crate) vectors: usize,
}

impl Places {
    /// Puts as many of the values as there are places.
    ///
    /// # Safety
    /// As for [`Sink`].
    #[inline(always)]
    pub(crate) unsafe fn fill<V: Vector, K: Sink>(
        self,
        sink: K,
        image: usize,
        block: Block,
        is_first: bool,
        values: &[V],
    ) {
        let Places { start, lines, columns, line: line_step, column: step, vectors } = self;
        debug_assert!(lines > 0 && columns > 0 && (lines - 1) * vectors + columns <= values.len());
        // SAFETY: there is a value for every place, at least one, and places are of the sink's map, as the caller promises.
        unsafe {
            let mut state = sink.begin(image, block, is_first, start, *values.as_ptr());
            for line in 0..lines {
                let (values, start) = (values.as_ptr().add(line * vectors), start + line * line_step);
                let mut column = 0;
                if block.count == LANES {
                    let block = Block { count: LANES, ..block };
                    while column + CHAINS <= columns {
                        let (values, at) = (values.add(column), start + column * step);
                        sink.put(&mut state, 0, at, block, *values);
                        sink.put(&mut state, 1, at + step, block, *values.add(1));
                        sink.put(&mut state, 2, at + 2 * step, block, *values.add(2));
                        sink.put(&mut state, 3, at + 3 * step, block, *values.add(3));
                        column += CHAINS;
                    }
                }
                while column < columns {
                    sink.put(&mut state, 0, start + column * step, block, *values.add(column));
                    column += 1;
                }
            }
            sink.end(state, image, block);
        }
    }
}

/// A tile for a sink.
pub(super) struct Accept<'a, V> {
    pub(super) image: usize,
    pub(super) block: Block,
    pub(super) is_first: bool,
    pub(super) values: &'a [V],
    pub(super) places: Places,
}

impl<V: Vector> WithSink<V> for Accept<'_, V> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { image, block, is_first, values, places } = self;
        // SAFETY: as the caller promises.
        unsafe { places.fill(sink, image, block, is_first, values) }
    }
}
