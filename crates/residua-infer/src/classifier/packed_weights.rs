//! The weights of a program's convolutions.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::ThreadPool;
use rayon::prelude::*;
use residua_kernels::{Buffer, Int8Packing, MapShape, Packing};

/// How a convolution computes.
#[derive(Debug, Clone, Copy)]
pub(super) enum AnyPacking {
    /// With numbers.
    Numbers(Packing),
    /// With bytes that stand for them.
    Bytes(Int8Packing),
}

impl AnyPacking {
    /// Shape of the output.
    pub(super) fn output(&self, input: MapShape) -> MapShape {
        match self {
            Self::Numbers(packing) => packing.output(input),
            Self::Bytes(packing) => packing.output(input),
        }
    }

    fn packed_len(&self) -> usize {
        match self {
            Self::Numbers(packing) => packing.packed_len(),
            Self::Bytes(packing) => packing.packed_len(),
        }
    }

    fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        match self {
            Self::Numbers(packing) => packing.pack(weights, packed),
            Self::Bytes(packing) => packing.pack(weights, packed),
        }
    }
}

/// A convolution's weights before they are packed.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) packing: AnyPacking,
    /// `[outputs, inputs, size, size]`
    pub(super) values: Vec<f32>,
    /// What each output's are multiplied by; nothing if they stay as they are.
    pub(super) scale: Option<Vec<f64>>,
}

/// The weights of all convolutions: as they were read for the first pass, packed for all others.
///
/// The packed weights of 3x3 convolutions take four times the memory, and fresh memory takes longer than a pass. So a process
/// that looks at one picture does without: its pass packs each convolution's weights where those of the one before were.
#[derive(Debug)]
pub(super) struct Weights {
    /// Nothing once they are packed.
    unpacked: Mutex<Vec<Unpacked>>,
    packed: OnceLock<Packed>,
    /// Whether the first pass was asked for.
    is_begun: AtomicBool,
}

/// All weights, each beginning at a cache line of one piece of memory.
#[derive(Debug)]
pub(super) struct Packed {
    /// In huge pages where the system has them.
    memory: Buffer,
    places: Vec<Range<usize>>,
}

/// The right to the first pass, for which others wait.
pub(super) struct FirstPass<'a>(MutexGuard<'a, Vec<Unpacked>>);

/// Where a pass finds its weights.
pub(super) enum Source<'a> {
    Packed(&'a Packed),
    /// They are packed one after the other, into the same memory.
    Unpacked(&'a [Unpacked], Buffer),
}

/// Numbers of a cache line.
const LINE: usize = 16;

impl Weights {
    pub(super) fn new(unpacked: Vec<Unpacked>) -> Self {
        Self { unpacked: Mutex::new(unpacked), packed: OnceLock::new(), is_begun: AtomicBool::new(false) }
    }

    /// For whoever asks first, unless somebody has packed them before.
    pub(super) fn first_pass(&self) -> Option<FirstPass<'_>> {
        if self.is_begun.swap(true, Ordering::Relaxed) {
            return None;
        }
        let unpacked = self.unpacked();
        (!unpacked.is_empty()).then_some(FirstPass(unpacked))
    }

    /// Packs them with these threads, unless they are packed already.
    pub(super) fn packed(&self, pool: &ThreadPool) -> &Packed {
        self.packed.get_or_init(|| {
            // Waits for a first pass here, not on a thread of the pool that computes it.
            let unpacked = std::mem::take(&mut *self.unpacked());
            pool.install(|| Packed::of(unpacked))
        })
    }

    fn unpacked(&self) -> MutexGuard<'_, Vec<Unpacked>> {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FirstPass<'_> {
    pub(super) fn source(&self) -> Source<'_> {
        let longest = self.0.iter().map(|weights| weights.packing.packed_len()).max();
        Source::Unpacked(&self.0, Buffer::of(longest.unwrap_or(0)))
    }
}

impl Packed {
    /// Each one's weights are dropped as soon as they are packed: so both are never there at once.
    fn of(all: Vec<Unpacked>) -> Self {
        let mut end = 0;
        let places: Vec<Range<usize>> = all
            .iter()
            .map(|weights| {
                let place = end..end + weights.packing.packed_len();
                end = place.end.next_multiple_of(LINE);
                place
            })
            .collect();
        let mut memory = Buffer::of(end);
        let mut rest = &mut memory[..];
        let mut work = Vec::with_capacity(all.len());
        for (weights, place) in all.into_iter().zip(&places) {
            let (here, behind) = rest.split_at_mut(place.len().next_multiple_of(LINE));
            work.push((weights, &mut here[..place.len()]));
            rest = behind;
        }
        // One by one: the last stage's weights take most of the time.
        work.into_par_iter().with_max_len(1).for_each(|(weights, place)| weights.pack(place));
        Self { memory, places }
    }
}

impl Source<'_> {
    /// The packed weights of a convolution.
    pub(super) fn get(&mut self, index: usize) -> &[f32] {
        match self {
            Self::Packed(Packed { memory, places }) => &memory[places[index].clone()],
            Self::Unpacked(unpacked, memory) => {
                let weights = &unpacked[index];
                let place = &mut memory[..weights.packing.packed_len()];
                weights.pack(place);
                place
            }
        }
    }
}

impl Unpacked {
    fn pack(&self, place: &mut [f32]) {
        let values = match &self.scale {
            None => Cow::Borrowed(&self.values),
            Some(scale) => Cow::Owned(scaled(&self.values, scale)),
        };
        self.packing.pack(&values, place);
    }
}

/// Weights `[outputs, ...]`, multiplied by their output's scale.
fn scaled(weights: &[f32], scale: &[f64]) -> Vec<f32> {
    let mut scaled = weights.to_vec();
    let each = weights.len() / scale.len();
    for (weights, scale) in scaled.chunks_exact_mut(each).zip(scale) {
        for weight in weights {
            *weight = (f64::from(*weight) * scale) as f32;
        }
    }
    scaled
}
