//! What becomes of a kernel's results while they are still in registers.

use crate::map::{Block, padded};
use crate::norm::{STATISTICS, SUMS};
use crate::source::{Finish, FinishConstants, Norm, NormConstants};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, MapViewMut, View, ViewMut};

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

/// Sums are taken in as many chains, or they would wait for each other.
pub(crate) const CHAINS: usize = 4;

#[inline(always)]
unsafe fn total<V: Vector>([a, b, c, d]: [V; CHAINS]) -> V {
    unsafe { a.add(b).add(c.add(d)) }
}

#[inline(always)]
unsafe fn no_sums<V: Vector>() -> [V; CHAINS] {
    unsafe { [V::zero(); CHAINS] }
}

/// Work that is compiled for every sink.
pub(crate) trait WithSink<V: Vector> {
    unsafe fn run<K: Sink>(self, sink: K);
}

/// Sinks among which is chosen at run time.
pub(crate) trait AnySink: Copy + Sync {
    /// Runs `work` with the sink that this is.
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>);

    /// Takes as many of `R` vectors as there are places.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn accept<V: Vector, const R: usize>(
        &self,
        image: usize,
        block: Block,
        is_first: bool,
        values: &[V; R],
        places: Places,
    ) {
        unsafe { self.run(Accept { image, block, is_first, values, places }) }
    }

    /// Maps that are read beside the results, worth asking for beforehand.
    fn read_beside(&self) -> [Option<MapView<'_>>; 2];
}

/// Where a convolution's results go; the flags are those of the sink.
#[derive(Clone, Copy)]
pub(crate) struct ForwardSink<'a> {
    pub(crate) output: Output<'a, false, false, false>,
    pub(crate) adds: bool,
    pub(crate) counts: bool,
}

/// Where a convolution's data gradient goes; the flags are those of the sinks.
#[derive(Clone, Copy)]
pub(crate) enum BackwardSink<'a> {
    /// Whether there is a ReLU, whether it adds.
    Raw(RawGradient<'a, false, false, false>, bool, bool),
    /// Whether there is a ReLU, whether it stores.
    Norm(NormGradient<'a, false, false, false>, bool, bool),
    /// Whether there is a ReLU, whether it adds.
    Finished(FinishedGradient<'a, false, false, false>, bool, bool),
}

/// Compiles `work` for both values of a flag.
macro_rules! for_flag {
    ($flag:ident = $value:expr, $work:expr) => {
        if $value {
            const $flag: bool = true;
            $work
        } else {
            const $flag: bool = false;
            $work
        }
    };
}
pub(crate) use for_flag;

/// Compiles `work` for every sink for gradients: for maps of f32 by each of its flags, for others once.
macro_rules! for_gradient {
    (@ $sink:ident, $kind:ident, $first:expr, $second:expr, $work:expr) => {
        match $sink.as_f32() {
            Some($sink) => $crate::sink::for_flag!(FIRST = $first, $crate::sink::for_flag!(SECOND = $second, {
                let $sink: $crate::sink::$kind<'_, true, FIRST, SECOND> = $sink.flagged(FIRST, SECOND);
                $work
            })),
            None => {
                let $sink: $crate::sink::$kind<'_, false, true, true> = $sink.flagged($first, $second);
                $work
            }
        }
    };
    ($sink:ident, $work:expr) => {
        match $sink {
            $crate::sink::BackwardSink::Raw($sink, first, second) => {
                $crate::sink::for_gradient!(@ $sink, RawGradient, first, second, $work)
            }
            $crate::sink::BackwardSink::Norm($sink, first, second) => {
                $crate::sink::for_gradient!(@ $sink, NormGradient, first, second, $work)
            }
            $crate::sink::BackwardSink::Finished($sink, first, second) => {
                $crate::sink::for_gradient!(@ $sink, FinishedGradient, first, second, $work)
            }
        }
    };
}
pub(crate) use for_gradient;

impl AnySink for ForwardSink<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, adds, counts } = *self;
        match output.as_f32() {
            Some(output) => for_flag!(
                ADDS = adds,
                for_flag!(COUNTS = counts, unsafe {
                    work.run::<Output<'_, true, ADDS, COUNTS>>(output.flagged(ADDS, COUNTS))
                })
            ),
            None => unsafe { work.run::<Output<'_, false, true, true>>(output.flagged(adds, counts)) },
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [None, if self.adds { Some(self.output.addend) } else { None }]
    }
}

impl AnySink for BackwardSink<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let sink = *self;
        for_gradient!(sink, unsafe { work.run(sink) });
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        match *self {
            Self::Raw(sink, _, adds) => [Some(sink.x), if adds { Some(sink.addend) } else { None }],
            Self::Norm(sink, ..) => [Some(sink.x), None],
            Self::Finished(sink, _, adds) => [Some(sink.x), if adds { Some(sink.addend) } else { None }],
        }
    }
}

/// What a sink does, beyond what its type says: where maps are not known to be of f32, all that a type's flags allow may be
/// switched off while it runs, so that the sink is compiled once.
#[derive(Clone, Copy)]
pub(crate) struct Flags {
    first: bool,
    second: bool,
}

impl Flags {
    /// Whatever the type says.
    pub(crate) const ALL: Self = Self { first: true, second: true };
}

/// Gives a sink of maps its type by what is known of it.
macro_rules! flagged {
    ($kind:ident { $($map:ident),+ }, { $($rest:ident),* }) => {
        impl<'a, const FIRST: bool, const SECOND: bool> $kind<'a, false, FIRST, SECOND> {
            /// The same of maps that are known to be of f32, if they are.
            #[inline(always)]
            pub(crate) fn as_f32(self) -> Option<$kind<'a, true, FIRST, SECOND>> {
                let Self { flags, $($map,)+ $($rest),* } = self;
                $(let $map = $map.as_f32()?;)+
                Some($kind { flags, $($map,)+ $($rest),* })
            }
        }

        impl<'a, const IS_F32: bool, const FIRST: bool, const SECOND: bool> $kind<'a, IS_F32, FIRST, SECOND> {
            /// The same by another type, with these flags.
            #[inline(always)]
            pub(crate) fn flagged<const OTHER_FIRST: bool, const OTHER_SECOND: bool>(
                self,
                first: bool,
                second: bool,
            ) -> $kind<'a, IS_F32, OTHER_FIRST, OTHER_SECOND> {
                let Self { $($map,)+ $($rest,)* .. } = self;
                $kind { flags: Flags { first, second }, $($map,)+ $($rest),* }
            }

            #[inline(always)]
            fn does_first(self) -> bool {
                FIRST && (IS_F32 || self.flags.first)
            }

            #[inline(always)]
            fn does_second(self) -> bool {
                SECOND && (IS_F32 || self.flags.second)
            }
        }
    };
}

flagged!(Output { output, addend }, { statistics, channels, is_streamed });
flagged!(RawGradient { output, x, addend }, {});
flagged!(NormGradient { x }, { output, norm, sums, channels });
flagged!(FinishedGradient { output, x, addend }, { finish, is_streamed });

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

/// A tile for a sink.
struct Accept<'a, V, const R: usize> {
    image: usize,
    block: Block,
    is_first: bool,
    values: &'a [V; R],
    places: Places,
}

impl<V: Vector, const R: usize> WithSink<V> for Accept<'_, V, R> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { image, block, is_first, values, places } = self;
        let Places { start, lines, columns, line: line_step, column: step, vectors } = places;
        debug_assert!(lines > 0 && columns > 0 && (lines - 1) * vectors + columns <= R);
        unsafe {
            let mut state = sink.begin(image, block, is_first, start, values[0]);
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

/// A convolution's output: the shortcut added, the statistics for the next normalisation taken.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a, const IS_F32: bool, const ADDS: bool, const COUNTS: bool> {
    pub(crate) flags: Flags,
    pub(crate) output: MapViewMut<'a, IS_F32>,
    pub(crate) addend: MapView<'a, IS_F32>,
    /// `[batch][STATISTICS][padded channels]`
    pub(crate) statistics: ViewMut<'a>,
    pub(crate) channels: usize,
    pub(crate) is_streamed: bool,
}

/// Running statistics of an image's block of channels, kept in `[batch][STATISTICS][padded channels]` between tiles.
#[derive(Clone, Copy)]
pub(crate) struct Statistics<V> {
    first: V,
    /// The sums of earlier tiles, which small numbers are not added to one by one: that would cost digits.
    before: [V; 2],
    sum: [V; CHAINS],
    square: [V; CHAINS],
}

/// Where an image's block lies in `[batch][rows][padded channels]`, and how far its rows are apart.
#[inline(always)]
fn partial(rows: usize, channels: usize, image: usize, block: Block) -> (usize, usize) {
    let pitch = padded(channels);
    (image * rows * pitch + block.channel, pitch)
}

impl<V: Vector> Statistics<V> {
    /// Before any value; `first` is what others are compared with.
    #[inline(always)]
    pub(crate) unsafe fn new(first: V) -> Self {
        unsafe { Self { first, before: [V::zero(); 2], sum: no_sums(), square: no_sums() } }
    }

    #[inline(always)]
    pub(crate) unsafe fn load(from: View, channels: usize, image: usize, block: Block) -> Self {
        let (at, pitch) = partial(STATISTICS, channels, image, block);
        unsafe {
            let before = [from.load(at + pitch), from.load(at + 2 * pitch)];
            Self { before, ..Self::new(from.load(at)) }
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn count(&mut self, chain: usize, value: V) {
        unsafe {
            let difference = value.sub(self.first);
            self.sum[chain] = self.sum[chain].add(difference);
            self.square[chain] = difference.mul_add(difference, self.square[chain]);
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn store(self, to: ViewMut, channels: usize, image: usize, block: Block) {
        let (at, pitch) = partial(STATISTICS, channels, image, block);
        unsafe {
            to.store(at, self.first);
            to.store(at + pitch, self.before[0].add(total(self.sum)));
            to.store(at + 2 * pitch, self.before[1].add(total(self.square)));
        }
    }
}

impl<const IS_F32: bool, const ADDS: bool, const COUNTS: bool> Output<'_, IS_F32, ADDS, COUNTS> {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, at: usize, block: Block, value: V) -> V {
        unsafe { if self.does_first() { value.add(self.addend.load_first(at, block.count)) } else { value } }
    }
}

impl<const IS_F32: bool, const ADDS: bool, const COUNTS: bool> Sink for Output<'_, IS_F32, ADDS, COUNTS> {
    type State<V: Vector> = Statistics<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        at: usize,
        value: V,
    ) -> Statistics<V> {
        unsafe {
            if self.does_second() && !is_first {
                return Statistics::load(self.statistics.read(), self.channels, image, block);
            }
            Statistics::new(if self.does_second() { self.value(at, block, value) } else { value })
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(
        self,
        state: &mut Statistics<V>,
        chain: usize,
        at: usize,
        block: Block,
        value: V,
    ) {
        unsafe {
            let mut value = self.value(at, block, value);
            if self.is_streamed {
                self.output.store_streaming(at, value);
            } else {
                value = self.output.store_first(at, block.count, value);
            }
            if self.does_second() {
                state.count(chain, value);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Statistics<V>, image: usize, block: Block) {
        if self.does_second() {
            unsafe { state.store(self.statistics, self.channels, image, block) }
        }
    }
}

/// The gradient of a convolution's input that was not normalised: masked where ReLU was off, stored.
#[derive(Clone, Copy)]
pub(crate) struct RawGradient<'a, const IS_F32: bool, const IS_ACTIVATED: bool, const ADDS: bool> {
    pub(crate) flags: Flags,
    pub(crate) output: MapViewMut<'a, IS_F32>,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) addend: MapView<'a, IS_F32>,
}

impl<const IS_F32: bool, const IS_ACTIVATED: bool, const ADDS: bool> Sink
    for RawGradient<'_, IS_F32, IS_ACTIVATED, ADDS>
{
    type State<V: Vector> = ();

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, _: usize, _: Block, _: bool, _: usize, _: V) {}

    #[inline(always)]
    unsafe fn put<V: Vector>(self, (): &mut (), _: usize, at: usize, block: Block, mut value: V) {
        unsafe {
            if self.does_first() {
                value = value.where_active(self.x.load_first(at, block.count));
            }
            if self.does_second() {
                value = value.add(self.addend.load_first(at, block.count));
            }
            self.output.store_first(at, block.count, value);
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, (): (), _: usize, _: Block) {}
}

/// The gradient `g` of a normalised (and perhaps rectified) input: masked, its two sums taken, and stored unless it will
/// be computed again.
#[derive(Clone, Copy)]
pub(crate) struct NormGradient<'a, const IS_F32: bool, const IS_ACTIVATED: bool, const STORES: bool> {
    pub(crate) flags: Flags,
    pub(crate) output: ViewMut<'a>,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) norm: Norm<'a>,
    /// `[batch][SUMS][padded channels]`
    pub(crate) sums: ViewMut<'a>,
    pub(crate) channels: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Sums<V> {
    norm: NormConstants<V>,
    /// As in [`Statistics`].
    before: [V; 2],
    sum: [V; CHAINS],
    product: [V; CHAINS],
}

impl<const IS_F32: bool, const IS_ACTIVATED: bool, const STORES: bool> Sink
    for NormGradient<'_, IS_F32, IS_ACTIVATED, STORES>
{
    type State<V: Vector> = Sums<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, image: usize, block: Block, is_first: bool, _: usize, _: V) -> Sums<V> {
        unsafe {
            let norm = self.norm.constants(image, block);
            if is_first {
                return Sums { norm, before: [V::zero(); 2], sum: no_sums(), product: no_sums() };
            }
            let (at, pitch) = partial(SUMS, self.channels, image, block);
            let sums = self.sums.read();
            let before = [sums.load(at), sums.load(at + pitch)];
            Sums { norm, before, sum: no_sums(), product: no_sums() }
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut Sums<V>, chain: usize, at: usize, block: Block, mut value: V) {
        unsafe {
            let centred = self.x.load_first::<V>(at, block.count).sub(state.norm.mean);
            if self.does_first() {
                value = value.where_active(state.norm.apply_centred(centred));
            }
            state.sum[chain] = state.sum[chain].add(value);
            state.product[chain] = value.mul_add(centred, state.product[chain]);
            if self.does_second() {
                self.output.store_first(at, block.count, value);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Sums<V>, image: usize, block: Block) {
        let (at, pitch) = partial(SUMS, self.channels, image, block);
        unsafe {
            self.sums.store(at, state.before[0].add(total(state.sum)));
            self.sums.store(at + pitch, state.before[1].add(total(state.product)));
        }
    }
}

/// The gradient of a normalised input whose sums are known already: masked, finished, the shortcut's gradient added.
#[derive(Clone, Copy)]
pub(crate) struct FinishedGradient<'a, const IS_F32: bool, const IS_ACTIVATED: bool, const ADDS: bool> {
    pub(crate) flags: Flags,
    pub(crate) output: MapViewMut<'a, IS_F32>,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) finish: Finish<'a>,
    pub(crate) addend: MapView<'a, IS_F32>,
    pub(crate) is_streamed: bool,
}

impl<const IS_F32: bool, const IS_ACTIVATED: bool, const ADDS: bool>
    FinishedGradient<'_, IS_F32, IS_ACTIVATED, ADDS>
{
    /// What becomes of the gradient of `relu(norm(x))`.
    #[inline(always)]
    pub(crate) unsafe fn value<V: Vector>(
        self,
        constants: &FinishConstants<V>,
        at: usize,
        block: Block,
        mut value: V,
    ) -> V {
        unsafe {
            let x = self.x.load_first::<V>(at, block.count);
            if self.does_first() {
                value = value.where_active(constants.norm.apply(x));
            }
            value = constants.apply(value, x);
            if self.does_second() { value.add(self.addend.load_first(at, block.count)) } else { value }
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, at: usize, block: Block, value: V) {
        unsafe {
            if self.is_streamed {
                self.output.store_streaming(at, value);
            } else {
                self.output.store_first(at, block.count, value);
            }
        }
    }
}

impl<const IS_F32: bool, const IS_ACTIVATED: bool, const ADDS: bool> Sink
    for FinishedGradient<'_, IS_F32, IS_ACTIVATED, ADDS>
{
    type State<V: Vector> = FinishConstants<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        _: bool,
        _: usize,
        _: V,
    ) -> FinishConstants<V> {
        unsafe { self.finish.constants(image, block) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(
        self,
        state: &mut FinishConstants<V>,
        _: usize,
        at: usize,
        block: Block,
        value: V,
    ) {
        unsafe { self.store(at, block, self.value(state, at, block, value)) }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, _: FinishConstants<V>, _: usize, _: Block) {}
}
