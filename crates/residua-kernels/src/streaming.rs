//! Which maps are written past the caches.
//!
//! A line that is written the usual way is read first, and what it pushes out of the caches is written in its place: half of
//! a large map's way to memory is for nothing. A map that is still in a cache when it is read again is better left there.

use std::sync::OnceLock;

use crate::map::MapShape;
use crate::vector::LANES;
use crate::view::MapViewMut;

/// Whether `output` is better written past the caches, and can be.
pub(crate) fn is_streamed(shape: MapShape, output: MapViewMut) -> bool {
    let is_whole = shape.channels.is_multiple_of(LANES) && output.has_aligned_vectors();
    is_whole && shape.len() * size_of::<f32>() >= fewest_bytes()
}

/// The smallest map for which it pays.
fn fewest_bytes() -> usize {
    static FEWEST: OnceLock<usize> = OnceLock::new();
    // Found on one processor each, Emerald Rapids and Zen 4; others may differ.
    *FEWEST.get_or_init(|| if is_intel() { 4 << 20 } else { 12 << 20 })
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn is_intel() -> bool {
    false
}
