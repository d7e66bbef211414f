//! Memory that kernels need while they run: kept from call to call, so that the hot path allocates nothing, in the arena's
//! huge pages.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::arena::Buffer;
use crate::vector::LANES;

thread_local! {
    static KEPT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

static SHARED: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

/// This thread's scratch memory, borrowed until it is dropped. No closure is called with it: code in a closure of its own
/// would not be compiled for the instruction set.
pub(crate) struct Scratch(Option<Buffer>);

impl Scratch {
    pub(crate) fn take() -> Self {
        // Taken, not borrowed: whoever comes back here on the same thread finds nothing, not an error.
        Self(KEPT.take())
    }

    /// Pieces of these lengths, each aligned to 64 bytes, of any content.
    pub(crate) fn pieces<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let lengths = lengths.map(|length| length.next_multiple_of(LANES));
        let kept = grown(self.0.take(), lengths.iter().sum());
        let mut rest = &mut self.0.insert(kept)[..];
        lengths.map(|length| {
            let (piece, behind) = std::mem::take(&mut rest).split_at_mut(length);
            rest = behind;
            piece
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(self.0.take());
    }
}

/// Calls `work` with memory that all threads may use, aligned to 64 bytes, of any content.
pub(crate) fn with_shared<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut kept = grown(shared().pop(), length);
    let result = work(&mut kept[..length]);
    shared().push(kept);
    result
}

/// What is kept, or something larger of other content where it is too small.
fn grown(kept: Option<Buffer>, length: usize) -> Buffer {
    // What is too small is dropped first: its place may be part of the new one.
    kept.filter(|kept| kept.len() >= length).unwrap_or_else(|| Buffer::of(length))
}

fn shared() -> MutexGuard<'static, Vec<Buffer>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}
