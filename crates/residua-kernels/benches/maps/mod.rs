//! What the kernels that are measured read.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
#[cfg(target_os = "linux")]
use std::ptr::NonNull;

use residua_kernels::Normalisation;

/// Numbers that begin at a cache line and lie in huge pages, as training's feature maps do: from where an allocator
/// happens to put them, every vector would lie across two lines.
pub(crate) struct Map {
    memory: Vec<f32>,
    place: Range<usize>,
}

impl Map {
    pub(crate) fn zeros(length: usize) -> Self {
        const LINE: usize = 64;
        let mut memory = Vec::with_capacity(length + LINE);
        ask_for_huge_pages(memory.spare_capacity_mut());
        memory.resize(length + LINE, 0.);
        let start = memory.as_ptr().align_offset(LINE);
        Self { memory, place: start..start + length }
    }
}

impl Deref for Map {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.place.clone()]
    }
}

impl DerefMut for Map {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.place.clone()]
    }
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: &mut [MaybeUninit<f32>]) {
    use nix::sys::mman::{MmapAdvise, madvise};

    const PAGE: usize = 1 << 12;
    let before = memory.as_ptr().cast::<u8>().align_offset(PAGE).div_ceil(size_of::<f32>());
    let Some(pages) = memory.get_mut(before..) else { return };
    let Some(start) = NonNull::new(pages.as_mut_ptr().cast()) else { return };
    // SAFETY: advice about memory that belongs to the caller. Without it all is only slower.
    let _ = unsafe { madvise(start, size_of_val(pages), MmapAdvise::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &mut [MaybeUninit<f32>]) {}

/// Numbers between -1 and 1, the same in every run.
pub(crate) fn numbers(length: usize) -> Map {
    let mut map = Map::zeros(length);
    for (at, number) in map.iter_mut().enumerate() {
        *number = (at * 7919 % 1999) as f32 / 999. - 1.;
    }
    map
}

pub(crate) fn normalisation(channels: usize) -> Normalisation {
    let moments = [vec![0.; channels], vec![1.; channels]].concat();
    Normalisation::new(&moments, &vec![1.; channels], &vec![0.1; channels], 1e-5)
}
