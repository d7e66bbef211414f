//! What kernels read: a feature map, or something computed from one while it is loaded.

use crate::map::{Block, MapShape, padded};
use crate::norm::{Normalisation, NormalisationGradient};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, View, ViewMut};

/// Numbers of a feature map, by their position in memory.
///
/// # Safety
/// `constants` is for an image of the batch and a block of its channels, `get` for a position within that image and
/// block; otherwise as for [`Vector`].
pub(crate) trait Source: Copy + Sync {
    /// What `get` needs to know of an image's block of channels.
    type Constants<V: Vector>: Copy;

    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> Self::Constants<V>;

    unsafe fn get<V: Vector>(self, constants: &Self::Constants<V>, at: usize, block: Block) -> V;
}

/// Any of the sources.
#[derive(Clone, Copy)]
pub(crate) enum AnySource<'a> {
    Raw(Raw<'a>),
    Normalised(Normalised<'a>),
    ThroughNorm(ThroughNorm<'a>),
}

/// Compiles `$work` for what is stored in f32 and for whatever is, of every kind of source.
macro_rules! for_known {
    ($vector:ident, $any:expr, $source:ident => $work:expr) => {
        match *$any {
            $crate::source::AnySource::Raw($source) => for_known!(@ $vector, $source, $work),
            $crate::source::AnySource::Normalised($source) => for_known!(@ $vector, $source, $work),
            $crate::source::AnySource::ThroughNorm($source) => for_known!(@ $vector, $source, $work),
        }
    };
    (@ $vector:ident, $source:ident, $work:expr) => {
        if $vector::IS_SPECIALISED
            && let Some($source) = $source.as_f32()
        {
            $work
        } else {
            $work
        }
    };
}
pub(crate) use for_known;

impl AnySource<'_> {
    /// Loads `count` vectors of a block of channels, `stride` numbers apart from `at` on, and stores them `pitch`
    /// numbers apart. A block with fewer channels than lanes is padded with zeros if `pads`, else cut.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(crate) unsafe fn copy<V: Vector>(
        &self,
        image: usize,
        block: Block,
        at: usize,
        stride: usize,
        count: usize,
        to: ViewMut,
        pitch: usize,
        pads: bool,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            for_known!(V, self, source => {
                copy::<V, _>(source, image, block, at, stride, count, to, pitch, pads);
            });
        }
    }

    /// The map itself, if it is read as it is and stored in bfloat16.
    pub(crate) fn as_halves(&self) -> Option<MapView<'_>> {
        match self {
            Self::Raw(Raw { values, floor }) if *floor == f32::NEG_INFINITY => values.as_halves(),
            _ => None,
        }
    }

    /// The map itself: what is worth asking for before it is read.
    pub(crate) fn values(&self) -> MapView<'_> {
        match self {
            Self::Raw(source) => source.values,
            Self::Normalised(source) => source.values,
            Self::ThroughNorm(source) => source.gradient,
        }
    }
}

/// As [`AnySource::copy`], of a source that is known.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
pub(crate) unsafe fn copy<V: Vector, S: Source>(
    source: S,
    image: usize,
    block: Block,
    at: usize,
    stride: usize,
    count: usize,
    to: ViewMut,
    pitch: usize,
    pads: bool,
) {
    // SAFETY: vectors from `at` on are of image and block, and `to` has places for them, as the caller promises.
    unsafe {
        let constants = source.constants::<V>(image, block);
        if block.count == LANES {
            let block = Block { count: LANES, ..block };
            for item in 0..count {
                to.store(item * pitch, source.get::<V>(&constants, at + item * stride, block));
            }
            return;
        }
        for item in 0..count {
            let value = source.get::<V>(&constants, at + item * stride, block);
            // The padding of a normalised block is relu(beta - ...) of zeros: constants are zero there, so is it.
            to.store_first(item * pitch, if pads { LANES } else { block.count }, value);
        }
    }
}

/// What numbers are at least behind a ReLU, or where there is none.
pub(crate) fn floor(is_activated: bool) -> f32 {
    if is_activated { 0. } else { f32::NEG_INFINITY }
}

/// A feature map as it is, or rectified.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a, const IS_F32: bool = false> {
    pub(crate) values: MapView<'a, IS_F32>,
    /// [`floor`]
    pub(crate) floor: f32,
}

impl<'a> Raw<'a> {
    #[inline(always)]
    pub(crate) fn as_f32(self) -> Option<Raw<'a, true>> {
        Some(Raw { values: self.values.as_f32()?, floor: self.floor })
    }
}

impl<const IS_F32: bool> Source for Raw<'_, IS_F32> {
    /// The floor.
    type Constants<V: Vector> = V;

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, _: usize, _: Block) -> V {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { V::splat(self.floor) }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, floor: &V, at: usize, block: Block) -> V {
        // SAFETY: the position is of the map, as the caller promises.
        unsafe { self.values.load_first::<V>(at, block.count).at_least(*floor) }
    }
}

/// A normalisation, ready for use in a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    mean: View<'a>,
    scale: View<'a>,
    shift: View<'a>,
    group_size: usize,
    pitch: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct NormConstants<V> {
    pub(crate) mean: V,
    pub(crate) scale: V,
    shift: V,
}

impl<'a> Norm<'a> {
    pub(crate) fn new(norm: &'a Normalisation, shape: MapShape) -> Self {
        Self {
            mean: View::new(&norm.mean),
            scale: View::new(&norm.scale),
            shift: View::new(&norm.shift),
            group_size: norm.group_size(shape),
            pitch: padded(shape.channels),
        }
    }

    #[inline(always)]
    fn at(self, image: usize, block: Block) -> usize {
        image / self.group_size * self.pitch + block.channel
    }

    #[inline(always)]
    pub(crate) unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> NormConstants<V> {
        // SAFETY: there are constants for every group and block.
        unsafe {
            let at = self.at(image, block);
            NormConstants { mean: self.mean.load(at), scale: self.scale.load(at), shift: self.shift.load(at) }
        }
    }
}

impl<V: Vector> NormConstants<V> {
    #[inline(always)]
    pub(crate) unsafe fn apply(&self, x: V) -> V {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { self.apply_centred(x.sub(self.mean)) }
    }

    /// Of `x - mean`.
    #[inline(always)]
    pub(crate) unsafe fn apply_centred(&self, centred: V) -> V {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { centred.mul_add(self.scale, self.shift) }
    }
}

/// A feature map, normalised and perhaps rectified.
#[derive(Clone, Copy)]
pub(crate) struct Normalised<'a, const IS_F32: bool = false> {
    pub(crate) values: MapView<'a, IS_F32>,
    pub(crate) norm: Norm<'a>,
    /// [`floor`]
    pub(crate) floor: f32,
}

impl<'a> Normalised<'a> {
    #[inline(always)]
    pub(crate) fn as_f32(self) -> Option<Normalised<'a, true>> {
        Some(Normalised { values: self.values.as_f32()?, norm: self.norm, floor: self.floor })
    }
}

impl<const IS_F32: bool> Source for Normalised<'_, IS_F32> {
    /// And the floor.
    type Constants<V: Vector> = (NormConstants<V>, V);

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> (NormConstants<V>, V) {
        // SAFETY: position, image and block are of the map, as the caller promises.
        unsafe { (self.norm.constants(image, block), V::splat(self.floor)) }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, (norm, floor): &(NormConstants<V>, V), at: usize, block: Block) -> V {
        // SAFETY: position, image and block are of the map, as the caller promises.
        unsafe { norm.apply(self.values.load_first::<V>(at, block.count)).at_least(*floor) }
    }
}

/// The gradient of a map `x` that was normalised, finished from the gradient of `norm(x)` while it is loaded:
/// `scale * g + slope * (x - mean) + offset`.
#[derive(Clone, Copy)]
pub(crate) struct ThroughNorm<'a, const IS_F32: bool = false> {
    pub(crate) gradient: MapView<'a, IS_F32>,
    pub(crate) x: MapView<'a, IS_F32>,
    pub(crate) finish: Finish<'a>,
}

impl<'a> ThroughNorm<'a> {
    #[inline(always)]
    pub(crate) fn as_f32(self) -> Option<ThroughNorm<'a, true>> {
        Some(ThroughNorm { gradient: self.gradient.as_f32()?, x: self.x.as_f32()?, finish: self.finish })
    }
}

/// The constants with which the gradient of a normalised map is finished.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    norm: Norm<'a>,
    slope: View<'a>,
    offset: View<'a>,
}

#[derive(Clone, Copy)]
pub(crate) struct FinishConstants<V> {
    pub(crate) norm: NormConstants<V>,
    slope: V,
    offset: V,
}

impl<'a> Finish<'a> {
    /// # Panics
    /// When the map, its normalisation and the sums do not belong together.
    pub(crate) fn new(norm: &'a Normalisation, gradient: &'a NormalisationGradient, shape: MapShape) -> Self {
        assert_eq!(gradient.slope.len(), norm.scale.len(), "sums of another normalisation");
        Self {
            norm: Norm::new(norm, shape),
            slope: View::new(&gradient.slope),
            offset: View::new(&gradient.offset),
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> FinishConstants<V> {
        // SAFETY: there are constants for every group and block.
        unsafe {
            let at = self.norm.at(image, block);
            FinishConstants {
                norm: self.norm.constants(image, block),
                slope: self.slope.load(at),
                offset: self.offset.load(at),
            }
        }
    }
}

impl<V: Vector> FinishConstants<V> {
    #[inline(always)]
    pub(crate) unsafe fn apply(&self, gradient: V, x: V) -> V {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            let rest = x.sub(self.norm.mean).mul_add(self.slope, self.offset);
            gradient.mul_add(self.norm.scale, rest)
        }
    }
}

impl<const IS_F32: bool> Source for ThroughNorm<'_, IS_F32> {
    type Constants<V: Vector> = FinishConstants<V>;

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> FinishConstants<V> {
        // SAFETY: image and block are of the map, as the caller promises.
        unsafe { self.finish.constants(image, block) }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, constants: &FinishConstants<V>, at: usize, block: Block) -> V {
        // SAFETY: gradient and `x` have one shape, and the position is of it.
        unsafe {
            let gradient = self.gradient.load_first::<V>(at, block.count);
            constants.apply(gradient, self.x.load_first::<V>(at, block.count))
        }
    }
}
