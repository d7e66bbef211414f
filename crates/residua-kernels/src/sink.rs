//! What becomes of a kernel's results while they are still in registers.

mod gradient;
mod output;
mod places;

pub(crate) use gradient::{BackwardSink, FinishedGradient, NormGradient, RawGradient};
pub(crate) use output::{Output, Statistics};
pub(crate) use places::Places;

use places::Accept;

use crate::instructions::Work;
use crate::map::{Block, padded};
use crate::vector::Vector;
use crate::view::MapView;

/// Takes results block by block. Between `begin` and `end` all of them belong to one block of one image; an image's first
/// `begin` says so, and an image's results come from one thread in an order that its shape fixes.
///
/// # Safety
/// Positions are those of the map behind the sink; otherwise as for [`Vector`].
pub(crate) trait Sink: Copy + Sync {
    /// Constants and running sums.
    type State<V: Vector>: Copy;

    /// `value` is the first that will be put, at `at`.
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        at: usize,
        value: V,
    ) -> Self::State<V>;

    /// `chain`, less than [`CHAINS`], is the sum that it goes into.
    unsafe fn put<V: Vector>(
        self,
        state: &mut Self::State<V>,
        chain: usize,
        at: usize,
        block: Block,
        value: V,
    );

    unsafe fn end<V: Vector>(self, state: Self::State<V>, image: usize, block: Block);
}

/// Sinks among which is chosen at run time.
pub(crate) trait AnySink: Copy + Sync {
    /// Does `work` with the sink that this is, in a function for it.
    ///
    /// # Safety
    /// As for [`Vector`].
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>);

    /// Takes as many vectors as there are places.
    ///
    /// # Safety
    /// As for [`Sink`].
    #[inline(always)]
    unsafe fn accept<V: Vector>(
        &self,
        image: usize,
        block: Block,
        is_first: bool,
        values: &[V],
        places: Places,
    ) {
        // SAFETY: as the caller promises.
        unsafe { self.run(Accept { image, block, is_first, values, places }) }
    }

    /// Maps that are read beside the results, worth asking for beforehand.
    fn read_beside(&self) -> [Option<MapView<'_>>; 2];
}

/// Work that is compiled for every sink.
pub(crate) trait WithSink<V: Vector> {
    /// # Safety
    /// As for [`Sink`].
    unsafe fn run<K: Sink>(self, sink: K);
}

/// Work with a sink that has been chosen.
pub(crate) struct Chosen<W, K> {
    pub(crate) work: W,
    pub(crate) sink: K,
}

impl<V: Vector, W: WithSink<V>, K: Sink> Work<V> for Chosen<W, K> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: as the caller promises.
        unsafe { self.work.run(self.sink) }
    }
}

/// Sums are taken in as many chains, or they would wait for each other.
pub(crate) const CHAINS: usize = 4;

#[inline(always)]
unsafe fn total<V: Vector>([a, b, c, d]: [V; CHAINS]) -> V {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe { a.add(b).add(c.add(d)) }
}

#[inline(always)]
unsafe fn no_sums<V: Vector>() -> [V; CHAINS] {
    // SAFETY: the processor has `V`'s instructions, as the caller promises.
    unsafe { [V::zero(); CHAINS] }
}

/// Where an image's block lies in `[batch][rows][padded channels]`, and how far its rows are apart.
#[inline(always)]
fn partial(rows: usize, channels: usize, image: usize, block: Block) -> (usize, usize) {
    let pitch = padded(channels);
    (image * rows * pitch + block.channel, pitch)
}
