//! Slices as the kernels see them: pointers whose bounds are checked in debug builds.

use std::marker::PhantomData;

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
        Self { start: unsafe { self.start.add(offset) }, length: self.length - offset, ..self }
    }

    /// As [`View::from`], but possibly behind the end: to be prefetched only.
    #[inline(always)]
    pub(crate) fn beyond(self, offset: usize) -> Self {
        Self { start: self.start.wrapping_add(offset), length: self.length.saturating_sub(offset), ..self }
    }

    #[inline(always)]
    pub(crate) unsafe fn get(self, at: usize) -> f32 {
        debug_assert!(at < self.length, "{at} of {}", self.length);
        unsafe { *self.start.add(at) }
    }

    #[inline(always)]
    pub(crate) unsafe fn load<V: Vector>(self, at: usize) -> V {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        unsafe { V::load(self.start.add(at)) }
    }

    /// The first `count` numbers of a vector.
    #[inline(always)]
    pub(crate) unsafe fn load_first<V: Vector>(self, at: usize, count: usize) -> V {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
        unsafe {
            match count {
                LANES => V::load(self.start.add(at)),
                _ => V::load_first(self.start.add(at), count),
            }
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn prefetch<V: Vector>(self, at: usize) {
        unsafe { V::prefetch(self.start.wrapping_add(at)) }
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
        Self { start: unsafe { self.start.add(offset) }, length: self.length - offset, ..self }
    }

    /// As a slice of its own.
    pub(crate) unsafe fn slice(self, offset: usize, length: usize) -> &'a mut [f32] {
        assert!(offset + length <= self.length);
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), length) }
    }

    #[inline(always)]
    pub(crate) unsafe fn store<V: Vector>(self, at: usize, value: V) {
        debug_assert!(at + LANES <= self.length, "{at} of {}", self.length);
        unsafe { value.store(self.start.add(at)) }
    }

    /// Writes the first `count` numbers of a vector.
    #[inline(always)]
    pub(crate) unsafe fn store_first<V: Vector>(self, at: usize, count: usize, value: V) {
        debug_assert!(at + count <= self.length, "{at} of {}", self.length);
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
        unsafe { value.store_streaming(self.start.add(at)) }
    }

    pub(crate) fn len(self) -> usize {
        self.length
    }

    pub(crate) fn is_aligned(self) -> bool {
        (self.start as usize).is_multiple_of(64)
    }
}
