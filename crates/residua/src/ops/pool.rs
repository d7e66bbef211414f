//! Memory of feature maps, used again and again: the first touch of fresh pages costs as much as a convolution.
//!
//! A buffer comes back when the last tensor that reads it is dropped. It is zeroed when it is new and holds what it last
//! held afterwards, so its contents are always initialised. Large ones ask for huge pages.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Element;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes, Shape, bf16};

use burn_flex::{FlexTensor, Layout};

/// Numbers for a feature map or its gradient, of any content.
#[derive(Debug)]
pub(crate) struct Buffer<T = f32> {
    memory: Lent,
    len: usize,
    numbers: PhantomData<T>,
}

/// What a buffer can hold.
///
/// # Safety
/// Any bits are such a number, and its alignment is at most 64.
#[allow(unsafe_code)]
pub(crate) unsafe trait Stored: Element {}

// SAFETY: any 32 bits are an f32.
#[allow(unsafe_code)]
unsafe impl Stored for f32 {}
// SAFETY: any 16 bits are a bfloat16.
#[allow(unsafe_code)]
unsafe impl Stored for bf16 {}

impl<T: Stored> Buffer<T> {
    /// `len` numbers, aligned to 64 bytes.
    pub(crate) fn of(len: usize) -> Self {
        Self { memory: Lent(Some(arena().take(len * size_of::<T>()))), len, numbers: PhantomData }
    }

    /// A tensor of these numbers.
    ///
    /// # Panics
    /// When the shape has another number of elements.
    #[allow(unsafe_code)]
    pub(super) fn into_tensor(self, shape: Shape) -> FlexTensor {
        assert_eq!(shape.num_elements(), self.len, "a buffer of {shape:?}");
        // SAFETY: the memory has at least this many bytes, and all are initialised.
        let bytes = unsafe { Bytes::from_controller(Box::new(self.memory), self.len * size_of::<T>()) };
        FlexTensor::new(bytes, Layout::contiguous(shape), T::dtype())
    }
}

impl<T: Stored> Deref for Buffer<T> {
    type Target = [T];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[T] {
        // SAFETY: the memory is aligned, long enough, initialised, and borrowed with this buffer.
        unsafe { std::slice::from_raw_parts(self.memory.get().pointer().cast(), self.len) }
    }
}

impl<T: Stored> DerefMut for Buffer<T> {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; this buffer is the memory's only owner.
        unsafe { std::slice::from_raw_parts_mut(self.memory.get().pointer().cast(), self.len) }
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
            arena().give_back(memory);
        }
    }
}

#[allow(unsafe_code)]
impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        space::LINE
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [std::mem::MaybeUninit<u8>], AccessError> {
        let memory = self.get();
        // SAFETY: the pointer is valid for the whole capacity, and borrowed with the only owner.
        Ok(unsafe { std::slice::from_raw_parts_mut(memory.pointer().cast(), memory.capacity) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[std::mem::MaybeUninit<u8>], AccessError> {
        let memory = self.get();
        // SAFETY: the pointer is valid for the whole capacity.
        Ok(unsafe { std::slice::from_raw_parts(memory.pointer().cast(), memory.capacity) })
    }
}

/// Address space that memory is lent from: the first gap, from the lowest address on, that is large enough. A gap that a
/// large map leaves serves several small ones and the other way round, so that no more pages are ever touched than were
/// lent at once, but for what gaps waste. Touched pages stay: the next step wants them again.
#[derive(Debug)]
struct Arena {
    /// Gaps by address, none of them neighbours.
    gaps: BTreeMap<usize, usize>,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena { gaps: BTreeMap::new() });

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn take(&mut self, bytes: usize) -> Memory {
        let capacity = bytes.max(1).next_multiple_of(space::LINE);
        let fitting = |gaps: &BTreeMap<usize, usize>| {
            gaps.iter().find(|&(_, &length)| length >= capacity).map(|(&at, &length)| (at, length))
        };
        let (address, length) = fitting(&self.gaps).unwrap_or_else(|| {
            let (address, length) = space::reserve(capacity);
            self.give_back(Memory { address, capacity: length });
            fitting(&self.gaps).expect("as much has just been reserved")
        });
        self.gaps.remove(&address);
        if length > capacity {
            self.gaps.insert(address + capacity, length - capacity);
        }
        Memory { address, capacity }
    }

    fn give_back(&mut self, Memory { mut address, mut capacity }: Memory) {
        if let Some((&before, &length)) = self.gaps.range(..address).next_back()
            && before + length == address
        {
            self.gaps.remove(&before);
            (address, capacity) = (before, capacity + length);
        }
        if let Some(length) = self.gaps.remove(&(address + capacity)) {
            capacity += length;
        }
        self.gaps.insert(address, capacity);
    }
}

/// A part of the arena with one owner.
#[derive(Debug)]
struct Memory {
    address: usize,
    capacity: usize,
}

impl Memory {
    fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }
}

#[allow(unsafe_code)]
mod space {
    use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

    /// A cache line: the alignment of whatever is lent.
    pub(super) const LINE: usize = 64;

    /// Address and length of zeroed memory of at least this many bytes that is never given back.
    ///
    /// # Panics
    /// Ends the process when there is not as much memory.
    pub(super) fn reserve(bytes: usize) -> (usize, usize) {
        #[cfg(unix)]
        if let Some(reserved) = mapped::reserve(bytes) {
            return reserved;
        }
        let layout =
            Layout::from_size_align(bytes.max(64 << 20), LINE).expect("a size below half the address space");
        // SAFETY: the size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        (pointer.expose_provenance(), layout.size())
    }

    #[cfg(unix)]
    mod mapped {
        use std::num::NonZeroUsize;

        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

        /// Pages are taken when they are touched, so one reservation larger than any memory leaves no seams; systems
        /// that limit address space may grant the smaller ones.
        const SIZES: [usize; 3] = [1 << 40, 1 << 36, 1 << 32];

        pub(super) fn reserve(bytes: usize) -> Option<(usize, usize)> {
            let sizes = SIZES.into_iter().filter(|&size| size >= bytes).chain([bytes]);
            sizes.into_iter().find_map(map)
        }

        fn map(bytes: usize) -> Option<(usize, usize)> {
            let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
            #[cfg(target_os = "linux")]
            let flags = flags | MapFlags::MAP_NORESERVE;
            // SAFETY: no address is asked for, so nothing is replaced.
            let pointer =
                unsafe { mmap_anonymous(None, NonZeroUsize::new(bytes)?, protection, flags) }.ok()?;
            #[cfg(target_os = "linux")]
            {
                use nix::sys::mman::{MmapAdvise, madvise};
                // SAFETY: an advice for our own mapping; a system without huge pages may refuse it.
                let _ = unsafe { madvise(pointer, bytes, MmapAdvise::MADV_HUGEPAGE) };
            }
            Some((pointer.as_ptr().expose_provenance(), bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_lent_again() {
        let mut arena = Arena { gaps: BTreeMap::from([(4096, 1 << 20)]) };
        let [first, second, third] = [100, 200, 300].map(|bytes| arena.take(bytes));
        assert_eq!((first.address, second.address, third.address), (4096, 4096 + 128, 4096 + 384));
        let at = second.address;
        arena.give_back(second);
        assert_eq!(arena.take(256).address, at);
        // Neighbours become one gap, in whatever order they come back.
        arena.give_back(third);
        arena.give_back(first);
        arena.give_back(Memory { address: at, capacity: 256 });
        assert_eq!(arena.gaps, BTreeMap::from([(4096, 1 << 20)]));
    }

    #[test]
    fn lent_memory_never_overlaps() {
        let mut arena = Arena { gaps: BTreeMap::from([(1 << 20, 1 << 30)]) };
        let mut lent: Vec<Memory> = Vec::new();
        for round in 0..2000usize {
            let random = round.wrapping_mul(2_654_435_761) % 1013;
            if random % 3 == 0 && !lent.is_empty() {
                arena.give_back(lent.swap_remove(random % lent.len()));
            } else {
                lent.push(arena.take(random * 37));
            }
            let mut parts: Vec<_> = lent.iter().map(|part| (part.address, part.capacity)).collect();
            parts.extend(arena.gaps.iter().map(|(&address, &length)| (address, length)));
            parts.sort_unstable();
            // Parts and gaps fill the space, each once.
            assert!(parts.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
            assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), 1 << 30);
        }
    }

    #[test]
    fn a_buffer_is_aligned_and_becomes_a_tensor() {
        for len in [1, 1025, (5 << 20) + 3] {
            let mut buffer = Buffer::<f32>::of(len);
            assert_eq!(buffer.as_ptr().align_offset(space::LINE), 0);
            buffer.fill(1.);
            let tensor = buffer.into_tensor(Shape::new([len]));
            assert!(tensor.as_slice::<f32>().unwrap().iter().all(|&number| number == 1.));
        }
    }
}
