//! What an operation reads, as a map of its own.

mod copy;

use crate::awake;
use crate::instructions::{Instructions, Task};
use crate::map::{MapShape, Part};
use crate::operands::Input;
use crate::source::AnySource;
use crate::tiles::{Numbers, Tiles};
use crate::values::ValuesMut;
use crate::vector::Vector;
use crate::view::MapViewMut;
pub(crate) use copy::{Pixels, copy, copy_blocks};

/// `relu(norm(x))`, both optional, in either storage: for what reads it more than once, or in another storage than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Shape of both maps.
    pub shape: MapShape,
    /// What to compute it with.
    pub instructions: Instructions,
}

/// Numbers of a part of the work, at least.
const FEWEST: usize = 1 << 14;

impl Reading {
    /// Stores it, in `parts` parts, one on the calling thread, as a [`PackedConvolution`](crate::PackedConvolution) is computed.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward<'a>(&self, input: Input, output: impl Into<ValuesMut<'a>>, parts: usize) {
        let Self { shape, instructions } = *self;
        let output = output.into();
        assert_eq!(output.len(), shape.len(), "output");
        let (source, to) = (input.source(shape), MapViewMut::new(output));
        let tiles = Tiles::of(instructions, Numbers::Bf16);
        let parts = parts.min(shape.len().div_ceil(FEWEST)).max(1);
        awake::for_each(parts, &|index| {
            instructions.run(Read { shape, source, to, part: Part { index, of: parts }, tiles });
        });
    }
}

struct Read<'a> {
    shape: MapShape,
    source: AnySource<'a>,
    to: MapViewMut<'a>,
    part: Part,
    tiles: Option<Tiles>,
}

impl Task for Read<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { shape, source, to, part, tiles } = self;
        let channels = shape.channels;
        for image in 0..shape.batch {
            let own = part.share(shape.pixels(), 1);
            let at = (image * shape.pixels() + own.start) * channels;
            let pixels = Pixels { image, at, apart: channels, count: own.len() };
            // SAFETY: pixels are of the batch, whose shape the output has, and no other part's.
            unsafe { copy::<V>(&source, tiles, channels, pixels, (to, at, channels)) }
        }
    }
}
