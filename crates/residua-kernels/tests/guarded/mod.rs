//! Memory between two pages that nobody may access.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// A multiple of every page size in use, up to 64 KB.
const PAGE: usize = 64 << 10;

/// Where a slice touches an inaccessible page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Start,
    End,
}

/// Numbers that begin or end at an inaccessible page.
pub(crate) struct Guarded<T = f32> {
    memory: NonNull<c_void>,
    mapped: NonZeroUsize,
    start: NonNull<T>,
    length: usize,
}

impl<T: Copy> Guarded<T> {
    /// A copy of `values`.
    pub(crate) fn new(values: &[T], side: Side) -> Self {
        let bytes = size_of_val(values);
        let usable = bytes.next_multiple_of(PAGE);
        let mapped = NonZeroUsize::new(usable + 2 * PAGE).expect("two pages at least");
        // SAFETY: fresh memory at an address of the system's choice; protected are its own first and last pages, and
        // the numbers lie between them.
        let (memory, start) = unsafe {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let memory = mmap_anonymous(None, mapped, protection, MapFlags::MAP_PRIVATE).expect("memory");
            mprotect(memory, PAGE, ProtFlags::PROT_NONE).expect("a guard in front");
            mprotect(memory.byte_add(PAGE + usable), PAGE, ProtFlags::PROT_NONE).expect("a guard behind");
            let offset = match side {
                Side::Start => 0,
                Side::End => usable - bytes,
            };
            let start = memory.byte_add(PAGE + offset).cast::<T>();
            start.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
            (memory, start)
        };
        Self { memory, mapped, start, length: values.len() }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: mapped and initialised by `new`.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.length).as_ref() }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.length).as_mut() }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; no slice of it outlives its owner.
        unsafe { munmap(self.memory, self.mapped.get()).expect("unmapped") };
    }
}
