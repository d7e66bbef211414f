//! Slices as the kernels see them: pointers whose bounds are checked in debug builds.

use std::marker::PhantomData;

use crate::values::{Values, ValuesMut};
use crate::vector::{LANES, Vector};

/// Numbers to read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    start: *const f32,
    length: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// Numbers to write, perhaps from several threads: whoever copies a view sees to it that no two threads use the same
/// part of it.
#[derive(Clone, Copy)]
pub(crate) struct ViewMut<'a> {
    start: *mut f32,
    length: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a shared slice of f32, which may be sent and shared.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}
// SAFETY: threads use disjoint parts, as the type's contract says.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for ViewMut<'_> {}

impl<'a> View<'a> {
    pub(crate) fn new(values: &'a [f32]) -> Self {
        Self { start: values.as_ptr(), length: values.len(), lifetime: PhantomData }
    }

    /// What lies from `offset` on.
    #[inline(always)]
    pub(crate) unsafe fn from(self, offset: usize) -> Self {
        debug_assert!(offset <= self.length, "{offset} of {}", self.length);
        // SAFETY: the offset is within the view, as the caller promises.
        Self { start: unsafe { self.start.add(offset) }, length: self.length - offset, ..self }
    }

    #[inline(always)]
    pub(crate) unsafe fn get(self, at: usize) -> f32 {
        debug_assert!(at < self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { *self.start.add(at) }
    }

    #[inline(always)]
    pub(crate) unsafe fn load<V: Vector>(self, at: usize) -> V {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe { V::load(self.start.add(at)) }
    }

    /// Where it begins, for assembly, which checks nothing.
    #[allow(dead_code, reason = "not every processor has any")]
    #[inline(always)]
    pub(crate) fn pointer(self) -> *const f32 {
        self.start
    }

    /// The first `count` numbers of a vector.
    #[inline(always)]
    pub(crate) unsafe fn load_first<V: Vector>(self, at: usize, count: usize) -> V {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe {
            match count {
                LANES => V::load(self.start.add(at)),
                _ => V::load_first(self.start.add(at), count),
            }
        }
    }
}

impl<'a> ViewMut<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), lifetime: PhantomData }
    }

    pub(crate) fn read(self) -> View<'a> {
        View { start: self.start, length: self.length, lifetime: PhantomData }
    }

    /// What lies from `offset` on.
    #[inline(always)]
    pub(crate) unsafe fn from(self, offset: usize) -> Self {
        debug_assert!(offset <= self.length, "{offset} of {}", self.length);
        // SAFETY: the offset is within the view, as the caller promises.
        Self { start: unsafe { self.start.add(offset) }, length: self.length - offset, ..self }
    }

    /// As a slice of its own.
    pub(crate) unsafe fn slice(self, offset: usize, length: usize) -> &'a mut [f32] {
        assert!(offset + length <= self.length);
        // SAFETY: within the view, as just checked; that nothing else uses this part the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), length) }
    }

    #[inline(always)]
    pub(crate) unsafe fn set(self, at: usize, value: f32) {
        debug_assert!(at < self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { *self.start.add(at) = value }
    }

    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, at: usize, value: V) {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe { value.store(self.start.add(at)) }
    }

    /// Writes the first `count` numbers of a vector.
    #[inline(always)]
    pub(crate) unsafe fn store_first<V: Vector>(self, at: usize, count: usize, value: V) {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe {
            match count {
                LANES => value.store(self.start.add(at)),
                _ => value.store_first(self.start.add(at), count),
            }
        }
    }

    /// Writes a whole vector past the caches; the address is a multiple of 64 bytes.
    #[inline(always)]
    pub(crate) unsafe fn store_streaming<V: Vector>(self, at: usize, value: V) {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        // SAFETY: a vector from the position on is within the view, and aligned, as the caller promises.
        unsafe { value.store_streaming(self.start.add(at)) }
    }

    /// Whether every whole vector from the start on can be written past the caches.
    pub(crate) fn has_aligned_vectors(self) -> bool {
        self.start.addr().is_multiple_of(LINE)
    }

    pub(crate) fn len(self) -> usize {
        self.length
    }
}

/// A feature map to read. Its storage is asked for at every vector (a branch that is always foreseen, for which kernels need
/// not be compiled twice), but where `IS_F32` it is known to be f32.
#[derive(Clone, Copy)]
pub(crate) struct MapView<'a, const IS_F32: bool = false> {
    start: *const u8,
    length: usize,
    storage: Storage,
    lifetime: PhantomData<&'a [f32]>,
}

/// A feature map to write; as for [`MapView`] and [`ViewMut`].
#[derive(Clone, Copy)]
pub(crate) struct MapViewMut<'a, const IS_F32: bool = false> {
    start: *mut u8,
    length: usize,
    storage: Storage,
    lifetime: PhantomData<&'a mut [f32]>,
}

/// What a map's numbers are stored in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    F32,
    Bf16,
    /// Of scratch memory alone, for the rows of tiles: no vectors are loaded from it.
    U8,
}

impl Storage {
    #[inline(always)]
    fn bytes(self, count: usize) -> usize {
        match self {
            Self::F32 => count * size_of::<f32>(),
            Self::Bf16 => count * size_of::<u16>(),
            Self::U8 => count,
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

// SAFETY: a shared slice of numbers, which may be sent and shared.
unsafe impl<const IS_F32: bool> Send for MapView<'_, IS_F32> {}
// SAFETY: as above.
unsafe impl<const IS_F32: bool> Sync for MapView<'_, IS_F32> {}
// SAFETY: threads use disjoint parts, as the contract of `ViewMut` says.
unsafe impl<const IS_F32: bool> Send for MapViewMut<'_, IS_F32> {}
// SAFETY: as above.
unsafe impl<const IS_F32: bool> Sync for MapViewMut<'_, IS_F32> {}

impl<'a> MapView<'a> {
    pub(crate) fn new(values: impl Into<Values<'a>>) -> Self {
        let values = values.into();
        let (start, storage) = match values {
            Values::F32(values) => (values.as_ptr().cast(), Storage::F32),
            Values::Bf16(values) => (values.as_ptr().cast(), Storage::Bf16),
        };
        Self { start, length: values.len(), storage, lifetime: PhantomData }
    }

    /// Bytes.
    pub(crate) fn of_bytes(values: &'a [u8]) -> Self {
        Self { start: values.as_ptr(), length: values.len(), storage: Storage::U8, lifetime: PhantomData }
    }

    /// No map.
    pub(crate) fn none() -> Self {
        Self::new(Values::F32(&[]))
    }

    /// The same, known to be f32, if it is.
    #[inline(always)]
    pub(crate) fn as_f32(self) -> Option<MapView<'a, true>> {
        let Self { start, length, storage, lifetime } = self;
        (storage == Storage::F32).then_some(MapView { start, length, storage, lifetime })
    }

    /// The same, if it is of bfloat16.
    pub(crate) fn as_halves(self) -> Option<Self> {
        (self.storage == Storage::Bf16).then_some(self)
    }

    /// How many cache lines so many numbers take.
    #[inline(always)]
    pub(crate) fn line_count(self, numbers: usize) -> usize {
        self.storage.bytes(numbers).div_ceil(LINE)
    }
}

impl<'a, const IS_F32: bool> MapView<'a, IS_F32> {
    /// The same, its storage known at run time only.
    #[inline(always)]
    pub(crate) fn as_any(self) -> MapView<'a> {
        let Self { start, length, storage, lifetime } = self;
        MapView { start, length, storage, lifetime }
    }

    /// The cache lines from `offset` on, possibly behind the end.
    #[inline(always)]
    pub(crate) fn lines(self, offset: usize) -> Lines {
        Lines(self.start.wrapping_add(self.storage.bytes(offset)))
    }
}

/// Cache lines to be asked for before they are read: an address, which need not be one that may be read.
#[derive(Clone, Copy)]
pub(crate) struct Lines(*const u8);

impl Lines {
    pub(crate) const NONE: Self = Self(std::ptr::null());

    #[inline(always)]
    pub(crate) fn are_none(self) -> bool {
        self.0.is_null()
    }

    /// Asks for the line that lies so many behind the first.
    #[inline(always)]
    pub(crate) unsafe fn prefetch<V: Vector>(self, line: usize) {
        // SAFETY: a hint: the address need not be valid.
        unsafe { V::prefetch(self.0.wrapping_add(line * LINE).cast()) }
    }

    /// The first one's address, for assembly.
    #[allow(dead_code, reason = "not every processor has any")]
    pub(crate) fn pointer(self) -> *const u8 {
        self.0
    }

    /// Those that lie so many further on.
    #[inline(always)]
    pub(crate) fn skip(self, lines: usize) -> Self {
        if self.are_none() { self } else { Self(self.0.wrapping_add(lines * LINE)) }
    }
}

impl MapView<'_> {
    /// Where numbers of bfloat16 lie, of which there are `count` from `at` on.
    #[inline(always)]
    pub(crate) unsafe fn halves(self, at: usize, count: usize) -> *const u16 {
        debug_assert!(self.storage == Storage::Bf16 && at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { self.start.cast::<u16>().add(at) }
    }

    /// Where numbers of whatever storage lie, of which there are `count` from `at` on.
    #[inline(always)]
    pub(crate) unsafe fn pointer(self, at: usize, count: usize) -> *const u8 {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { self.start.add(self.storage.bytes(at)) }
    }

    /// How many bytes so many numbers take.
    #[allow(dead_code, reason = "not every processor asks")]
    #[inline(always)]
    pub(crate) fn bytes(self, count: usize) -> usize {
        self.storage.bytes(count)
    }

    /// One of numbers that are bytes.
    pub(crate) unsafe fn byte(self, at: usize) -> u8 {
        debug_assert!(self.storage == Storage::U8);
        // SAFETY: as the caller promises.
        unsafe { *self.pointer(at, 1) }
    }

    /// One of numbers of bfloat16.
    pub(crate) unsafe fn half(self, at: usize) -> f32 {
        // SAFETY: as the caller promises.
        f32::from_bits(u32::from(unsafe { *self.halves(at, 1) }) << 16)
    }
}

impl<const IS_F32: bool> MapView<'_, IS_F32> {
    /// The first `count` numbers of a vector.
    #[inline(always)]
    pub(crate) unsafe fn load_first<V: Vector>(self, at: usize, count: usize) -> V {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe {
            if IS_F32 || self.storage == Storage::F32 {
                let from = self.start.cast::<f32>().add(at);
                return match count {
                    LANES => V::load(from),
                    _ => V::load_first(from, count),
                };
            }
            let from = self.start.cast::<u16>().add(at);
            if count == LANES {
                return V::load_half(from);
            }
            let mut halves = [0u16; LANES];
            std::ptr::copy_nonoverlapping(from, halves.as_mut_ptr(), count);
            V::load_half(halves.as_ptr())
        }
    }
}

impl<'a, const IS_F32: bool> From<View<'a>> for MapView<'a, IS_F32> {
    fn from(View { start, length, lifetime }: View<'a>) -> Self {
        Self { start: start.cast(), length, storage: Storage::F32, lifetime }
    }
}

impl<'a> MapViewMut<'a> {
    pub(crate) fn new(values: impl Into<ValuesMut<'a>>) -> Self {
        let values = values.into();
        let length = values.len();
        let (start, storage) = match values {
            ValuesMut::F32(values) => (values.as_mut_ptr().cast(), Storage::F32),
            ValuesMut::Bf16(values) => (values.as_mut_ptr().cast(), Storage::Bf16),
        };
        Self { start, length, storage, lifetime: PhantomData }
    }

    /// Bytes.
    pub(crate) fn of_bytes(values: &'a mut [u8]) -> Self {
        let (start, length) = (values.as_mut_ptr(), values.len());
        Self { start, length, storage: Storage::U8, lifetime: PhantomData }
    }

    /// Where bytes lie, of which there are `count` from `at` on.
    #[inline(always)]
    pub(crate) unsafe fn bytes(self, at: usize, count: usize) -> *mut u8 {
        debug_assert!(self.storage == Storage::U8 && at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { self.start.add(at) }
    }

    /// The same, known to be f32, if it is.
    #[inline(always)]
    pub(crate) fn as_f32(self) -> Option<MapViewMut<'a, true>> {
        let Self { start, length, storage, lifetime } = self;
        (storage == Storage::F32).then_some(MapViewMut { start, length, storage, lifetime })
    }

    pub(crate) fn len(self) -> usize {
        self.length
    }

    pub(crate) fn is_of_halves(self) -> bool {
        self.storage == Storage::Bf16
    }

    /// Where numbers of bfloat16 lie, of which there are `count` from `at` on.
    #[inline(always)]
    pub(crate) unsafe fn halves(self, at: usize, count: usize) -> *mut u16 {
        debug_assert!(self.is_of_halves() && at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: the position is within the view, as the caller promises.
        unsafe { self.start.cast::<u16>().add(at) }
    }

    /// The same, to be read.
    pub(crate) fn read(self) -> MapView<'a> {
        let Self { start, length, storage, .. } = self;
        MapView { start, length, storage, lifetime: PhantomData }
    }

    /// Zeros `count` numbers from `at` on.
    #[inline(always)]
    pub(crate) unsafe fn zero(self, at: usize, count: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.fill(at, count, 0) }
    }

    /// Makes every byte of `count` numbers from `at` on this one.
    #[inline(always)]
    pub(crate) unsafe fn fill(self, at: usize, count: usize, byte: u8) {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: within the view, as the caller promises.
        unsafe { self.start.add(self.storage.bytes(at)).write_bytes(byte, self.storage.bytes(count)) }
    }

    /// Whether a vector is a cache line, and the first begins one.
    pub(crate) fn has_aligned_vectors(self) -> bool {
        self.storage == Storage::F32 && (self.start as usize).is_multiple_of(LINE)
    }
}

impl<const IS_F32: bool> MapViewMut<'_, IS_F32> {
    /// Writes the first `count` numbers of a vector and returns them as they are stored.
    #[inline(always)]
    pub(crate) unsafe fn store_first<V: Vector>(self, at: usize, count: usize, value: V) -> V {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        // SAFETY: so many numbers from the position on are within the view, as the caller promises.
        unsafe {
            if IS_F32 || self.storage == Storage::F32 {
                let to = self.start.cast::<f32>().add(at);
                match count {
                    LANES => value.store(to),
                    _ => value.store_first(to, count),
                }
                return value;
            }
            let (value, to) = (value.round_half(), self.start.cast::<u16>().add(at));
            if count == LANES {
                value.store_half(to);
            } else {
                let mut halves = [0u16; LANES];
                value.store_half(halves.as_mut_ptr());
                std::ptr::copy_nonoverlapping(halves.as_ptr(), to, count);
            }
            value
        }
    }

    /// Writes a whole vector of f32 past the caches; the address is a multiple of 64 bytes.
    #[inline(always)]
    pub(crate) unsafe fn store_streaming<V: Vector>(self, at: usize, value: V) {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        debug_assert!(self.storage == Storage::F32, "only whole cache lines are worth it");
        // SAFETY: a vector from the position on is within the view, and aligned, as the caller promises.
        unsafe { value.store_streaming(self.start.cast::<f32>().add(at)) }
    }
}

impl<'a, const IS_F32: bool> From<ViewMut<'a>> for MapViewMut<'a, IS_F32> {
    fn from(ViewMut { start, length, lifetime }: ViewMut<'a>) -> Self {
        Self { start: start.cast(), length, storage: Storage::F32, lifetime }
    }
}
