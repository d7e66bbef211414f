//! A map's worth of results, poured into a sink.

use std::ops::Range;

use crate::instructions::{Instructions, Task};
use crate::map::{Block, Chunks, MapShape};
use crate::sink::{AnySink, BackwardSink, Chosen, Sink, WithSink};
use crate::source::Source;
use crate::vector::{LANES, Vector};
use crate::view::{MapView, ViewMut};

/// Compiles `work` for every kind of source that an [`crate::Input`] of f32 can be.
macro_rules! for_source {
    ($source:ident = $input:expr, $shape:expr, $work:expr) => {
        match $input.source($shape) {
            $crate::source::AnySource::Raw($source) => {
                let $source = $source.as_f32().expect("an input of f32");
                $work
            }
            $crate::source::AnySource::Normalised($source) => {
                let $source = $source.as_f32().expect("an input of f32");
                $work
            }
            $crate::source::AnySource::ThroughNorm(_) => unreachable!("an input is no gradient"),
        }
    };
}
pub(crate) use for_source;

/// Computes the gradient of a map, the same as often as it is asked to.
pub(crate) trait Flow {
    /// Into any of the sinks for gradients.
    fn pour(&self, sink: BackwardSink);
}

/// The flow of what a source computes, in the order of memory.
#[derive(Clone, Copy)]
pub(crate) struct MapFlow<S> {
    pub(crate) shape: MapShape,
    pub(crate) source: S,
    pub(crate) instructions: Instructions,
}

impl<S: Source> MapFlow<S> {
    pub(crate) fn pour_into(&self, sink: impl AnySink) {
        let Self { shape, source, instructions } = *self;
        Chunks::new(shape.batch, 1).for_each(&|_, images| {
            instructions.run(PourInto { pour: Pour { shape, source, images }, sink });
        });
    }
}

impl<S: Source> Flow for MapFlow<S> {
    fn pour(&self, sink: BackwardSink) {
        self.pour_into(sink);
    }
}

/// A flow that is also stored.
#[derive(Clone, Copy)]
pub(crate) struct KeptFlow<'a, S> {
    pub(crate) flow: MapFlow<S>,
    pub(crate) output: ViewMut<'a>,
    pub(crate) is_streamed: bool,
}

impl<S: Source> Flow for KeptFlow<'_, S> {
    fn pour(&self, sink: BackwardSink) {
        let Self { flow, output, is_streamed } = *self;
        match sink {
            BackwardSink::Raw(sink) => flow.pour_into(Keeping { output, is_streamed, sink }),
            BackwardSink::Norm(sink) => flow.pour_into(Keeping { output, is_streamed, sink }),
            BackwardSink::Finished(_) => unreachable!("what is finished comes from what was kept"),
        }
    }
}

/// One sink and no other.
#[derive(Clone, Copy)]
pub(crate) struct Only<K>(pub(crate) K);

impl<K: Sink> AnySink for Only<K> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { V::call(Chosen { work, sink: self.0 }) }
    }

    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [None; 2]
    }
}

/// [`Kept`] in front of any of the sinks.
#[derive(Clone, Copy)]
struct Keeping<'a, K> {
    output: ViewMut<'a>,
    is_streamed: bool,
    sink: K,
}

impl<K: AnySink> AnySink for Keeping<'_, K> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, is_streamed, sink } = self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { sink.run(Keep { output: *output, is_streamed: *is_streamed, work }) }
    }

    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        self.sink.read_beside()
    }
}

struct Keep<'a, W> {
    output: ViewMut<'a>,
    is_streamed: bool,
    work: W,
}

impl<V: Vector, W: WithSink<V>> WithSink<V> for Keep<'_, W> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { output, is_streamed, work } = self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { work.run(Kept { output, is_streamed, sink }) }
    }
}

/// Stores results before it passes them on.
#[derive(Clone, Copy)]
struct Kept<'a, K> {
    output: ViewMut<'a>,
    is_streamed: bool,
    sink: K,
}

impl<K: Sink> Sink for Kept<'_, K> {
    type State<V: Vector> = K::State<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        at: usize,
        value: V,
    ) -> K::State<V> {
        // SAFETY: as the caller promises.
        unsafe { self.sink.begin(image, block, is_first, at, value) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut K::State<V>, chain: usize, at: usize, block: Block, value: V) {
        // SAFETY: `output` has the shape of the sink's map, so the position is one of its own, too.
        unsafe {
            if self.is_streamed {
                self.output.store_streaming(at, value);
            } else {
                self.output.store_first(at, block.count, value);
            }
            self.sink.put(state, chain, at, block, value);
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: K::State<V>, image: usize, block: Block) {
        // SAFETY: as the caller promises.
        unsafe { self.sink.end(state, image, block) }
    }
}

/// Numbers of a map that are worked on block by block while they are in the caches next to the core.
const PIECE: usize = 1 << 14;
/// Fewer pixels at a time would not be worth loading the constants for.
const FEWEST_PIXELS: usize = 8;
/// Blocks that are worked on together: memory is faster the longer the runs are that it is read in.
const TOGETHER: usize = 4;

struct Pour<S> {
    shape: MapShape,
    source: S,
    images: Range<usize>,
}

struct PourInto<S, K> {
    pour: Pour<S>,
    sink: K,
}

impl<S: Source, K: AnySink> Task for PourInto<S, K> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            self.sink.run::<V>(self.pour);
            V::fence();
        }
    }
}

/// Pixels of an image, one after the other.
#[derive(Clone, Copy)]
struct Run {
    image: usize,
    is_first: bool,
    /// Where the first pixel lies.
    start: usize,
    pixels: usize,
    channels: usize,
}

impl<V: Vector, S: Source> WithSink<V> for Pour<S> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { shape, source, images } = self;
        let (pixels, channels) = (shape.pixels(), shape.channels);
        let piece = (PIECE / channels).max(FEWEST_PIXELS);
        // Four times the code for what is faster with wide registers only.
        let wide = if V::IS_SPECIALISED { channels / (TOGETHER * LANES) * TOGETHER * LANES } else { 0 };
        for image in images {
            for first in (0..pixels).step_by(piece) {
                let start = (image * pixels + first) * channels;
                let run =
                    Run { image, is_first: first == 0, start, pixels: piece.min(pixels - first), channels };
                // SAFETY: `images` are of the batch, so pixels and channels of a run are of the map behind source and sink.
                unsafe {
                    if V::IS_SPECIALISED {
                        for channel in (0..wide).step_by(TOGETHER * LANES) {
                            pour_together::<V, S, K>(source, sink, run, channel);
                        }
                    }
                    for channel in (wide..channels).step_by(LANES) {
                        let count = LANES.min(channels - channel);
                        let block = Block { index: channel / LANES, channel, count };
                        if V::IS_SPECIALISED && count == LANES {
                            pour::<V, S, K>(source, sink, run, Block { count: LANES, ..block });
                        } else {
                            pour::<V, S, K>(source, sink, run, block);
                        }
                    }
                }
            }
        }
    }
}

/// A block of channels of every pixel.
#[inline(always)]
unsafe fn pour<V: Vector, S: Source, K: Sink>(source: S, sink: K, run: Run, block: Block) {
    // SAFETY: run and block are of the map, as the caller promises, and positions are theirs.
    unsafe {
        let constants = source.constants::<V>(run.image, block);
        let at = run.start + block.channel;
        let value = source.get::<V>(&constants, at, block);
        let mut state = sink.begin(run.image, block, run.is_first, at, value);
        for pixel in 0..run.pixels {
            let at = at + pixel * run.channels;
            let value = source.get::<V>(&constants, at, block);
            sink.put(&mut state, 0, at, block, value);
        }
        sink.end(state, run.image, block);
    }
}

/// For [`TOGETHER`] numbers.
macro_rules! each {
    ($number:ident => $value:expr) => {
        [each!(@ $number 0 $value), each!(@ $number 1 $value), each!(@ $number 2 $value), each!(@ $number 3 $value)]
    };
    (@ $number:ident $value:literal $work:expr) => {{
        const $number: usize = $value;
        $work
    }};
}

/// As [`pour`], whole blocks of channels from `channel` on.
#[inline(always)]
unsafe fn pour_together<V: Vector, S: Source, K: Sink>(source: S, sink: K, run: Run, channel: usize) {
    // SAFETY: run and whole blocks are of the map, as the caller promises, and positions are theirs.
    unsafe {
        let blocks: [Block; TOGETHER] = each!(B => Block {
            index: channel / LANES + B,
            channel: channel + B * LANES,
            count: LANES,
        });
        let constants = each!(B => source.constants::<V>(run.image, blocks[B]));
        let at = run.start + channel;
        let mut states = each!(B => {
            let at = at + B * LANES;
            let value = source.get::<V>(&constants[B], at, blocks[B]);
            sink.begin(run.image, blocks[B], run.is_first, at, value)
        });
        for pixel in 0..run.pixels {
            let at = at + pixel * run.channels;
            each!(B => {
                let at = at + B * LANES;
                let value = source.get::<V>(&constants[B], at, blocks[B]);
                sink.put(&mut states[B], 0, at, blocks[B], value);
            });
        }
        each!(B => sink.end(states[B], run.image, blocks[B]));
    }
}
