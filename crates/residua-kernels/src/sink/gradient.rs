//! Gradients of what an operation has read: of a map as it is, of a normalised one, and of one whose sums are known.

use super::{AnySink, CHAINS, Chosen, Sink, WithSink, no_sums, partial, total};
use crate::flag::{Flag, for_flags};
use crate::map::Block;
use crate::norm::SUMS;
use crate::source::{Finish, FinishConstants, Norm, NormConstants};
use crate::vector::Vector;
use crate::view::{MapView, MapViewMut, ViewMut};

/// Where an operation's data gradient goes.
#[derive(Clone, Copy)]
pub(crate) enum BackwardSink<'a> {
    Raw(RawGradient<'a>),
    Norm(NormGradient<'a>),
    Finished(FinishedGradient<'a>),
}

impl AnySink for BackwardSink<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            match self {
                Self::Raw(sink) => sink.run(work),
                Self::Norm(sink) => sink.run(work),
                Self::Finished(sink) => sink.run(work),
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        match self {
            Self::Raw(sink) => sink.read_beside(),
            Self::Norm(sink) => sink.read_beside(),
            Self::Finished(sink) => sink.read_beside(),
        }
    }
}

/// The gradient of a convolution's input that was not normalised: masked where ReLU was off, stored.
#[derive(Clone, Copy)]
pub(crate) struct RawGradient<'a, const IS_F32: bool = false, Masks = bool, Adds = bool> {
    pub(crate) output: MapViewMut<'a, IS_F32>,
    /// Whether ReLU followed `x`.
    pub(crate) masks: Masks,
    pub(crate) x: MapView<'a, IS_F32>,
    /// Whether `addend` is added.
    pub(crate) adds: Adds,
    pub(crate) addend: MapView<'a, IS_F32>,
}

impl AnySink for RawGradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, masks, x, adds, addend } = *self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if V::IS_SPECIALISED
                && let (Some(output), Some(x), Some(addend)) = (output.as_f32(), x.as_f32(), addend.as_f32())
            {
                for_flags!([masks, adds], {
                    V::call(Chosen { work, sink: RawGradient { output, masks, x, adds, addend } });
                });
            } else {
                V::call(Chosen { work, sink: *self });
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [Some(self.x), self.adds.then_some(self.addend)]
    }
}

impl<const IS_F32: bool, Masks: Flag, Adds: Flag> Sink for RawGradient<'_, IS_F32, Masks, Adds> {
    type State<V: Vector> = ();

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, _: usize, _: Block, _: bool, _: usize, _: V) {}

    #[inline(always)]
    unsafe fn put<V: Vector>(self, (): &mut (), _: usize, at: usize, block: Block, mut value: V) {
        // SAFETY: all maps have the shape of the sink's, whose position this is.
        unsafe {
            if self.masks.holds() {
                value = value.where_active(self.x.load_first(at, block.count));
            }
            if self.adds.holds() {
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
pub(crate) struct NormGradient<'a, const IS_F32: bool = false, Masks = bool, Stores = bool> {
    /// Whether it is stored in `output`.
    pub(crate) stores: Stores,
    pub(crate) output: ViewMut<'a>,
    /// Whether ReLU followed the normalisation of `x`.
    pub(crate) masks: Masks,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) norm: Norm<'a>,
    /// `[batch][SUMS][padded channels]`
    pub(crate) sums: ViewMut<'a>,
    pub(crate) channels: usize,
}

impl<'a> NormGradient<'a> {
    /// The same of a map known to be of f32, with what else is known, if it is of f32.
    #[inline(always)]
    pub(crate) fn known<Masks: Flag, Stores: Flag>(
        self,
        masks: Masks,
        stores: Stores,
    ) -> Option<NormGradient<'a, true, Masks, Stores>> {
        let Self { output, x, norm, sums, channels, .. } = self;
        Some(NormGradient { stores, output, masks, x: x.as_f32()?, norm, sums, channels })
    }
}

impl AnySink for NormGradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { stores, output, masks, x, norm, sums, channels } = *self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if V::IS_SPECIALISED
                && let Some(x) = x.as_f32()
            {
                for_flags!([masks, stores], {
                    let sink = NormGradient { stores, output, masks, x, norm, sums, channels };
                    V::call(Chosen { work, sink });
                });
            } else {
                V::call(Chosen { work, sink: *self });
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [Some(self.x), None]
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Sums<V> {
    norm: NormConstants<V>,
    /// As in [`Statistics`](super::Statistics).
    before: [V; 2],
    sum: [V; CHAINS],
    product: [V; CHAINS],
}

impl<const IS_F32: bool, Masks: Flag, Stores: Flag> Sink for NormGradient<'_, IS_F32, Masks, Stores> {
    type State<V: Vector> = Sums<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, image: usize, block: Block, is_first: bool, _: usize, _: V) -> Sums<V> {
        // SAFETY: there are constants and sums for every image and block.
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
        // SAFETY: all maps have the shape of the sink's, whose position this is.
        unsafe {
            let centred = self.x.load_first::<V>(at, block.count).sub(state.norm.mean);
            if self.masks.holds() {
                value = value.where_active(state.norm.apply_centred(centred));
            }
            state.sum[chain] = state.sum[chain].add(value);
            state.product[chain] = value.mul_add(centred, state.product[chain]);
            if self.stores.holds() {
                self.output.store_first(at, block.count, value);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Sums<V>, image: usize, block: Block) {
        let (at, pitch) = partial(SUMS, self.channels, image, block);
        // SAFETY: there are sums for every image and block.
        unsafe {
            self.sums.store(at, state.before[0].add(total(state.sum)));
            self.sums.store(at + pitch, state.before[1].add(total(state.product)));
        }
    }
}

/// The gradient of a normalised input whose sums are known already: masked, finished, the shortcut's gradient added.
#[derive(Clone, Copy)]
pub(crate) struct FinishedGradient<'a, const IS_F32: bool = false, Masks = bool, Adds = bool> {
    pub(crate) output: MapViewMut<'a, IS_F32>,
    /// Whether ReLU followed the normalisation of `x`.
    pub(crate) masks: Masks,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) finish: Finish<'a>,
    /// Whether `addend` is added.
    pub(crate) adds: Adds,
    pub(crate) addend: MapView<'a, IS_F32>,
    pub(crate) is_streamed: bool,
}

impl<'a, M, A> FinishedGradient<'a, false, M, A> {
    /// The same of maps known to be of f32, with what else is known, if all maps are of f32.
    #[inline(always)]
    pub(crate) fn known<Masks: Flag, Adds: Flag>(
        self,
        masks: Masks,
        adds: Adds,
    ) -> Option<FinishedGradient<'a, true, Masks, Adds>> {
        let Self { output, x, finish, addend, is_streamed, .. } = self;
        let (output, x, addend) = (output.as_f32()?, x.as_f32()?, addend.as_f32()?);
        Some(FinishedGradient { output, masks, x, finish, adds, addend, is_streamed })
    }
}

impl AnySink for FinishedGradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, masks, x, finish, adds, addend, is_streamed } = *self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if V::IS_SPECIALISED
                && let (Some(output), Some(x), Some(addend)) = (output.as_f32(), x.as_f32(), addend.as_f32())
            {
                for_flags!([masks, adds], {
                    let sink = FinishedGradient { output, masks, x, finish, adds, addend, is_streamed };
                    V::call(Chosen { work, sink });
                });
            } else {
                V::call(Chosen { work, sink: *self });
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [Some(self.x), self.adds.then_some(self.addend)]
    }
}

impl<const IS_F32: bool, Masks: Flag, Adds: Flag> FinishedGradient<'_, IS_F32, Masks, Adds> {
    /// What becomes of the gradient of `relu(norm(x))`.
    #[inline(always)]
    pub(crate) unsafe fn value<V: Vector>(
        self,
        constants: &FinishConstants<V>,
        at: usize,
        block: Block,
        mut value: V,
    ) -> V {
        // SAFETY: all maps have the shape of the sink's, whose position this is.
        unsafe {
            let x = self.x.load_first::<V>(at, block.count);
            if self.masks.holds() {
                value = value.where_active(constants.norm.apply(x));
            }
            value = constants.apply(value, x);
            if self.adds.holds() { value.add(self.addend.load_first(at, block.count)) } else { value }
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, at: usize, block: Block, value: V) {
        // SAFETY: the position is of the map, and a multiple of a cache line where it is streamed.
        unsafe {
            if self.is_streamed {
                self.output.store_streaming(at, value);
            } else {
                self.output.store_first(at, block.count, value);
            }
        }
    }
}

impl<const IS_F32: bool, Masks: Flag, Adds: Flag> Sink for FinishedGradient<'_, IS_F32, Masks, Adds> {
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
        // SAFETY: there are constants for every image and block.
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
        // SAFETY: as the caller promises.
        unsafe { self.store(at, block, self.value(state, at, block, value)) }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, _: FinishConstants<V>, _: usize, _: Block) {}
}
