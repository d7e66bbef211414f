//! Memory of feature maps, used again and again: the first touch of fresh pages costs as much as a convolution.
//!
//! A buffer comes back when the last tensor that reads it is dropped. It is zeroed when it is new and holds what it last
//! held afterwards, so its contents are always initialised. Large ones ask for huge pages.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use half::bf16;

/// Numbers for a feature map or its gradient, of any content.
#[derive(Debug)]
pub struct Buffer<T = f32> {
    memory: Lent,
    len: usize,
    numbers: PhantomData<T>,
}

/// What a buffer can hold.
///
/// # Safety
/// Any bits are such a number, and its alignment is at most 64.
pub unsafe trait Stored: Copy {}

// SAFETY: any 32 bits are an f32.
unsafe impl Stored for f32 {}
// SAFETY: any 16 bits are a bfloat16.
unsafe impl Stored for bf16 {}
// SAFETY: any 8 bits are a byte.
unsafe impl Stored for u8 {}

impl<T: Stored> Buffer<T> {
    /// What its first number's address is a multiple of, in bytes.
    pub const ALIGNMENT: usize = space::LINE;

    /// `len` numbers, aligned to 64 bytes.
    pub fn of(len: usize) -> Self {
        Self { memory: Lent(Some(arena().take(len * size_of::<T>()))), len, numbers: PhantomData }
    }

    /// The same memory as bytes: its numbers, and what it holds beyond them up to its [`Self::ALIGNMENT`].
    pub fn into_bytes(self) -> Buffer<u8> {
        let len = self.memory.get().capacity;
        Buffer { memory: self.memory, len, numbers: PhantomData }
    }
}

impl<T: Stored> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory is aligned, long enough, initialised, and borrowed with this buffer.
        unsafe { std::slice::from_raw_parts(self.memory.get().pointer().cast(), self.len) }
    }
}

impl<T: Stored> DerefMut for Buffer<T> {
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

/// Address space that memory is lent from: the first gap, from the lowest address on, that is large enough. A gap that a
/// large map leaves serves several small ones and the other way round, so that no more pages are ever touched than were
/// lent at once, but for what gaps waste. Touched pages stay: the next step wants them again.
#[derive(Debug, Default)]
pub struct Arena {
    /// Gaps by address, none of them neighbours.
    gaps: BTreeMap<usize, usize>,
    /// All that has been reserved: addresses and lengths.
    reserved: Vec<(usize, usize)>,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena { gaps: BTreeMap::new(), reserved: Vec::new() });

/// Whether numbers lie in memory that a [`Buffer`] is of.
pub fn holds<T>(numbers: &[T]) -> bool {
    let address = numbers.as_ptr().addr();
    arena().reserved.iter().any(|&(first, length)| (first..first + length).contains(&address))
}

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    /// The gaps, by address: their lengths.
    pub fn gaps(&self) -> &BTreeMap<usize, usize> {
        &self.gaps
    }

    /// A part of at least so many bytes; more address space is reserved where no gap is large enough.
    pub fn take(&mut self, bytes: usize) -> Memory {
        let capacity = bytes.max(1).next_multiple_of(space::LINE);
        let fitting = |gaps: &BTreeMap<usize, usize>| {
            gaps.iter().find(|&(_, &length)| length >= capacity).map(|(&at, &length)| (at, length))
        };
        let (address, length) = fitting(&self.gaps).unwrap_or_else(|| {
            let (address, length) = space::reserve(capacity);
            self.reserved.push((address, length));
            self.give_back(Memory { address, capacity: length });
            fitting(&self.gaps).expect("as much has just been reserved")
        });
        self.gaps.remove(&address);
        if length > capacity {
            self.gaps.insert(address + capacity, length - capacity);
        }
        Memory { address, capacity }
    }

    /// Makes a part a gap again.
    pub fn give_back(&mut self, Memory { mut address, mut capacity }: Memory) {
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
pub struct Memory {
    /// Its first byte.
    pub address: usize,
    /// Its bytes.
    pub capacity: usize,
}

impl Memory {
    fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }
}

mod space {
    use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

    /// A cache line: the alignment of whatever is lent.
    pub(super) const LINE: usize = 64;

    /// What is reserved at least, where pages are taken at once. Miri keeps account of every byte.
    const LEAST: usize = if cfg!(miri) { 1 << 20 } else { 64 << 20 };

    /// Address and length of zeroed memory of at least this many bytes that is never given back.
    ///
    /// # Panics
    /// Ends the process when there is not as much memory.
    pub(super) fn reserve(bytes: usize) -> (usize, usize) {
        #[cfg(all(unix, not(miri)))]
        if let Some(reserved) = mapped::reserve(bytes) {
            return reserved;
        }
        let layout =
            Layout::from_size_align(bytes.max(LEAST), LINE).expect("a size below half the address space");
        // SAFETY: the size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        (pointer.expose_provenance(), layout.size())
    }

    #[cfg(all(unix, not(miri)))]
    mod mapped {
        use std::ptr::null_mut;

        use super::LEAST;

        /// Pages are taken when they are touched, so one reservation larger than any memory leaves no seams; systems
        /// with less address space may grant the smaller ones.
        const SIZES: [usize; 3] = [1 << 40, 1 << 36, 1 << 32];

        pub(super) fn reserve(bytes: usize) -> Option<(usize, usize)> {
            let sizes = SIZES.into_iter().filter(|&size| size >= bytes && !is_limited());
            // Where address space is limited, all else needs its part of it, too.
            sizes.chain([bytes.max(LEAST), bytes]).find_map(map)
        }

        /// Whether the process was given a limit of its address space (`ulimit -v`).
        fn is_limited() -> bool {
            let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: the limit is written where it belongs.
            let is_known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
            is_known && limit.rlim_cur != libc::RLIM_INFINITY
        }

        fn map(bytes: usize) -> Option<(usize, usize)> {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
            #[cfg(target_os = "linux")]
            let flags = flags | libc::MAP_NORESERVE;
            // SAFETY: no address is asked for, so nothing is replaced.
            let pointer = unsafe { libc::mmap(null_mut(), bytes, protection, flags, -1, 0) };
            if pointer == libc::MAP_FAILED {
                return None;
            }
            #[cfg(target_os = "linux")]
            // SAFETY: an advice for our own mapping; a system without huge pages may refuse it.
            let _ = unsafe { libc::madvise(pointer, bytes, libc::MADV_HUGEPAGE) };
            Some((pointer.expose_provenance(), bytes))
        }
    }
}
