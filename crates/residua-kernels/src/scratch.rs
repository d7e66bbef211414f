//! Memory that kernels need while they run: kept from call to call, so that the hot path allocates nothing.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::vector::LANES;

/// A cache line: what makes the memory aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

thread_local! {
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

static SHARED: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// This thread's scratch memory, borrowed until it is dropped. No closure is called with it: code in a closure of its own
/// would not be compiled for the instruction set.
pub(crate) struct Scratch(Vec<Line>);

impl Scratch {
    pub(crate) fn take() -> Self {
        // Taken, not borrowed: whoever comes back here on the same thread finds an empty vector, not an error.
        Self(KEPT.take())
    }

    /// Pieces of these lengths, each aligned to 64 bytes, of any content.
    pub(crate) fn pieces<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let lines = lengths.map(|length| length.div_ceil(LANES));
        let total = lines.iter().sum();
        if self.0.len() < total {
            self.0.resize(total, Line([0.; LANES]));
        }
        let mut rest = self.0.as_mut_slice();
        lines.map(|lines| {
            let (piece, behind) = std::mem::take(&mut rest).split_at_mut(lines);
            rest = behind;
            numbers(piece)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(std::mem::take(&mut self.0));
    }
}

/// Calls `work` with memory that all threads may use, aligned to 64 bytes, of any content.
pub(crate) fn with_shared<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let lines = length.div_ceil(LANES);
    let mut kept = take_shared(lines);
    let result = work(&mut numbers(&mut kept[..lines])[..length]);
    shared().push(kept);
    result
}

fn take_shared(lines: usize) -> Vec<Line> {
    let mut kept = shared().pop().unwrap_or_default();
    if kept.len() < lines {
        kept.resize(lines, Line([0.; LANES]));
    }
    kept
}

fn shared() -> MutexGuard<'static, Vec<Vec<Line>>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn numbers(lines: &mut [Line]) -> &mut [f32] {
    let length = lines.len() * LANES;
    // SAFETY: a line is exactly `LANES` f32, and any bits are an f32.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), length) }
}
