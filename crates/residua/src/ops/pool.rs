//! Memory of feature maps, used again and again: the first touch of fresh pages costs as much as a convolution.
//!
//! A buffer comes back when the last tensor that reads it is dropped. It is zeroed when it is new and holds what it last
//! held afterwards, so its contents are always initialised. Large ones ask for huge pages.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes, DType, Shape};

use burn_flex::{FlexTensor, Layout};

/// Numbers for a feature map or its gradient, of any content.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Lent,
    len: usize,
}

impl Buffer {
    /// `len` numbers, aligned to 64 bytes.
    pub(super) fn of(len: usize) -> Self {
        Self { memory: Lent(Some(pool().take(len * size_of::<f32>()))), len }
    }

    /// A tensor of these numbers.
    ///
    /// # Panics
    /// When the shape has another number of elements.
    #[allow(unsafe_code)]
    pub(super) fn into_tensor(self, shape: Shape) -> FlexTensor {
        assert_eq!(shape.num_elements(), self.len, "a buffer of {shape:?}");
        // SAFETY: the memory has at least this many bytes, and all are initialised.
        let bytes = unsafe { Bytes::from_controller(Box::new(self.memory), self.len * size_of::<f32>()) };
        FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
    }
}

impl Deref for Buffer {
    type Target = [f32];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[f32] {
        // SAFETY: the memory is aligned, long enough, initialised, and borrowed with this buffer.
        unsafe { std::slice::from_raw_parts(self.memory.get().pointer.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; this buffer is the memory's only owner.
        unsafe { std::slice::from_raw_parts_mut(self.memory.get().pointer.as_ptr().cast(), self.len) }
    }
}

/// Memory that goes back to the pool when it is dropped.
#[derive(Debug)]
struct Lent(Option<Memory>);

impl Lent {
    fn get(&self) -> &Memory {
        self.0.as_ref().expect("memory is there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            pool().give_back(memory);
        }
    }
}

#[allow(unsafe_code)]
impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        memory::LINE
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [std::mem::MaybeUninit<u8>], AccessError> {
        let Memory { pointer, capacity, .. } = self.get();
        // SAFETY: the pointer is valid for the whole capacity, and borrowed with the only owner.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr().cast(), *capacity) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[std::mem::MaybeUninit<u8>], AccessError> {
        let Memory { pointer, capacity, .. } = self.get();
        // SAFETY: the pointer is valid for the whole capacity.
        Ok(unsafe { std::slice::from_raw_parts(pointer.as_ptr().cast(), *capacity) })
    }
}

/// Idle memory by its capacity, and how much there is.
#[derive(Debug)]
struct Pool {
    /// For each capacity, the memory and when it came back, oldest first.
    idle: BTreeMap<usize, Vec<(u64, Memory)>>,
    idle_bytes: usize,
    lent_bytes: usize,
    most_lent_bytes: usize,
    clock: u64,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { idle: BTreeMap::new(), idle_bytes: 0, lent_bytes: 0, most_lent_bytes: 0, clock: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Idle memory of this many bytes or up to an eighth more, or new.
    fn take(&mut self, bytes: usize) -> Memory {
        let bytes = memory::rounded(bytes);
        let fitting = self.idle.range(bytes..=bytes + bytes / 8).next().map(|(&capacity, _)| capacity);
        let memory = match fitting.and_then(|capacity| self.remove(capacity, true)) {
            Some(memory) => memory,
            None => {
                self.make_room(bytes);
                if std::env::var_os("POOL_TRACE").is_some() {
                    eprintln!(
                        "new {bytes}: lent {} idle {} most {} kinds {:?}",
                        self.lent_bytes,
                        self.idle_bytes,
                        self.most_lent_bytes,
                        self.idle.iter().map(|(c, v)| (*c, v.len())).collect::<Vec<_>>()
                    );
                }
                Memory::new(bytes)
            }
        };
        self.lent_bytes += memory.capacity;
        self.most_lent_bytes = self.most_lent_bytes.max(self.lent_bytes);
        memory
    }

    fn give_back(&mut self, memory: Memory) {
        self.clock += 1;
        self.lent_bytes -= memory.capacity;
        self.idle_bytes += memory.capacity;
        self.idle.entry(memory.capacity).or_default().push((self.clock, memory));
    }

    /// Frees what has been idle for longest, until lent, idle and new memory together are within an eighth of the most
    /// that has been lent at once.
    fn make_room(&mut self, bytes: usize) {
        let lent = self.lent_bytes + bytes;
        let most = self.most_lent_bytes.max(lent);
        while self.idle_bytes > 0 && lent + self.idle_bytes > most + most / 8 {
            let oldest = self.idle.iter().min_by_key(|(_, kept)| kept[0].0).map(|(&capacity, _)| capacity);
            let Some(memory) = oldest.and_then(|capacity| self.remove(capacity, false)) else { return };
            drop(memory);
        }
    }

    /// The newest or the oldest idle memory of this capacity.
    fn remove(&mut self, capacity: usize, is_newest: bool) -> Option<Memory> {
        let kept = self.idle.get_mut(&capacity)?;
        let memory = if is_newest { kept.pop()?.1 } else { kept.remove(0).1 };
        if kept.is_empty() {
            self.idle.remove(&capacity);
        }
        self.idle_bytes -= capacity;
        Some(memory)
    }
}

use memory::Memory;

#[allow(unsafe_code)]
mod memory {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    /// A cache line, the least alignment.
    pub(super) const LINE: usize = 64;
    const PAGE: usize = 4 << 10;
    /// From this size on memory is mapped by itself and asks for huge pages.
    const LARGE: usize = 4 << 20;

    /// Zeroed memory.
    #[derive(Debug)]
    pub(super) struct Memory {
        pub(super) pointer: NonNull<u8>,
        pub(super) capacity: usize,
        is_mapped: bool,
    }

    // SAFETY: plain memory with one owner.
    unsafe impl Send for Memory {}

    /// What is allocated for this many bytes.
    pub(super) fn rounded(bytes: usize) -> usize {
        bytes.max(1).next_multiple_of(PAGE)
    }

    impl Memory {
        /// # Panics
        /// Ends the process when there is not as much memory.
        pub(super) fn new(capacity: usize) -> Self {
            #[cfg(unix)]
            if capacity >= LARGE
                && let Some(pointer) = mapped::map(capacity)
            {
                return Self { pointer, capacity, is_mapped: true };
            }
            let layout = layout(capacity);
            // SAFETY: capacities are not zero.
            let pointer = unsafe { alloc_zeroed(layout) };
            let pointer = NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout));
            Self { pointer, capacity, is_mapped: false }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            #[cfg(unix)]
            if self.is_mapped {
                mapped::unmap(self.pointer, self.capacity);
                return;
            }
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.pointer.as_ptr(), layout(self.capacity)) }
        }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, LINE).expect("a capacity below half the address space")
    }

    #[cfg(unix)]
    mod mapped {
        use std::num::NonZeroUsize;
        use std::ptr::NonNull;

        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

        const HUGE: usize = 2 << 20;

        /// Zeroed memory that begins at a huge page's boundary.
        pub(super) fn map(capacity: usize) -> Option<NonNull<u8>> {
            let length = NonZeroUsize::new(capacity + HUGE)?;
            let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
            // SAFETY: no address is asked for, so nothing is replaced.
            let whole = unsafe { mmap_anonymous(None, length, protection, flags) }.ok()?.cast::<u8>();
            let before = whole.as_ptr().align_offset(HUGE);
            // SAFETY: less than a huge page ahead, inside the mapping.
            let pointer = unsafe { whole.add(before) };
            if before > 0 {
                unmap(whole, before);
            }
            // SAFETY: what follows the capacity is inside the mapping too.
            unmap(unsafe { pointer.add(capacity) }, HUGE - before);
            #[cfg(target_os = "linux")]
            {
                use nix::sys::mman::{MmapAdvise, madvise};
                // SAFETY: an advice for our own mapping; a system without huge pages may refuse it.
                let _ = unsafe { madvise(pointer.cast(), capacity, MmapAdvise::MADV_HUGEPAGE) };
            }
            Some(pointer)
        }

        /// Gives back a part of a mapping that nobody reads any more.
        pub(super) fn unmap(pointer: NonNull<u8>, length: usize) {
            // SAFETY: only this module's own mappings come here, each part once.
            let result = unsafe { munmap(pointer.cast(), length) };
            debug_assert!(result.is_ok(), "{result:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_of_nothing() -> Pool {
        Pool { idle: BTreeMap::new(), idle_bytes: 0, lent_bytes: 0, most_lent_bytes: 0, clock: 0 }
    }

    #[test]
    fn what_comes_back_is_lent_again() {
        let mut pool = pool_of_nothing();
        let first = pool.take(100_000);
        let at = first.pointer;
        pool.give_back(first);
        let second = pool.take(95_000);
        assert_eq!(second.pointer, at);
        let other = pool.take(100_000);
        assert_ne!(other.pointer, at);
        pool.give_back(other);
        pool.give_back(second);
        assert_eq!((pool.lent_bytes, pool.idle_bytes), (0, 2 * memory::rounded(100_000)));
    }

    #[test]
    fn idle_memory_is_bounded_by_what_has_been_lent_at_once() {
        let mut pool = pool_of_nothing();
        let mut most = 0;
        for round in 1..60 {
            let sizes = [1, 2, 3].map(|part| part * round * 50_000);
            let lent = sizes.map(|size| pool.take(size));
            most = most.max(lent.iter().map(|memory| memory.capacity).sum::<usize>());
            lent.into_iter().for_each(|memory| pool.give_back(memory));
            assert!(pool.idle_bytes <= most + most / 8, "{} {most}", pool.idle_bytes);
        }
    }

    #[test]
    fn large_and_small_memory_is_zeroed_aligned_and_whole() {
        for bytes in [1, 4097, 4 << 20, (5 << 20) + 3] {
            let mut buffer =
                Buffer { memory: Lent(Some(Memory::new(memory::rounded(bytes)))), len: bytes / 4 };
            pool().lent_bytes += memory::rounded(bytes);
            assert!(buffer.iter().all(|&number| number == 0.));
            assert_eq!(buffer.as_ptr().align_offset(memory::LINE), 0);
            buffer.fill(1.);
            let tensor = buffer.into_tensor(Shape::new([bytes / 4]));
            assert_eq!(tensor.as_slice::<f32>().unwrap().iter().sum::<f32>(), (bytes / 4) as f32);
        }
    }

    #[test]
    fn a_tensor_gives_its_memory_back_when_its_last_reader_is_dropped() {
        // A size that no other test uses, so that nobody else takes it in between.
        let len = 1_234_567;
        let tensor = Buffer::of(len).into_tensor(Shape::new([len]));
        let at = tensor.as_slice::<f32>().unwrap().as_ptr();
        let reader = tensor.clone();
        drop(tensor);
        assert_ne!(Buffer::of(len).as_ptr(), at);
        drop(reader);
        let capacity = memory::rounded(len * 4);
        assert!(
            pool().idle[&capacity]
                .iter()
                .any(|(_, memory)| memory.pointer.as_ptr().cast_const() == at.cast())
        );
    }
}
