//! Convolutions with what stands around them: normalisation and ReLU in front, addition and statistics behind.

use rayon::prelude::*;

use crate::algorithm::Algorithm;
use crate::backward::{addend_view, finished, sums};
use crate::direct::Direct;
use crate::instructions::{Instructions, Task};
use crate::map::{Block, Chunks, MapShape, Part, blocks, padded};
use crate::norm::{self, NormalisationGradient, STATISTICS};
use crate::operands::{Input, InputGradient, OutputGradient};
use crate::scratch;
use crate::sink::{BackwardSink, Output, RawGradient};
use crate::source::AnySource;
use crate::streaming::is_streamed;
use crate::tiled::{self, Tiled, ToSink};
use crate::tiles::{Numbers, Tiles};
use crate::values::{Values, ValuesMut};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, MapViewMut, View, ViewMut};
use crate::winograd::{Layout, Winograd, kernels_len, pack_flipped_kernels, pack_kernels, transform_weights};

/// `y = weights * relu(norm(x)) + addend`, a convolution without bias, padded by half its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Shape of the input.
    pub input: MapShape,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the kernel; odd.
    pub size: usize,
    /// Distance of neighbouring outputs in the input.
    pub stride: usize,
    /// How to compute it, where there is a choice.
    pub algorithm: Algorithm,
    /// What to compute it with.
    pub instructions: Instructions,
}

impl Convolution {
    /// Shape of the output: `ceil(height / stride)` by `ceil(width / stride)`.
    pub fn output(&self) -> MapShape {
        MapShape {
            batch: self.input.batch,
            height: self.input.height.div_ceil(self.stride),
            width: self.input.width.div_ceil(self.stride),
            channels: self.outputs,
        }
    }

    /// Numbers of the weights, `[outputs, inputs, size, size]`.
    pub fn weights_len(&self) -> usize {
        self.outputs * self.input.channels * self.size * self.size
    }

    /// Numbers that a backward pass works in besides what it is given: packed weights, and a gradient of the weights for each run of
    /// images.
    pub fn workspace_len(&self) -> usize {
        let plan = self.plan();
        plan.packed_len() + plan.gradient_len() * plan.chunks(self.input.batch).count()
    }

    /// `output = weights * input + addend`; with `moments` (`[groups, 2, outputs]`) also mean and biased variance of the
    /// output for each group of consecutive images.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(
        &self,
        input: Input,
        weights: &[f32],
        addend: Option<Values>,
        output: ValuesMut,
        moments: Option<(usize, &mut [f32])>,
    ) {
        let shape = self.output();
        assert_eq!(weights.len(), self.weights_len(), "weights");
        assert_eq!(output.len(), shape.len(), "output");
        if let Some(addend) = addend {
            assert_eq!(addend.len(), shape.len(), "addend");
        }
        let counts = moments.is_some();
        let statistics_len = if counts { shape.batch * STATISTICS * padded(self.outputs) } else { 0 };
        scratch::with_shared(statistics_len, |statistics| {
            let output = MapViewMut::new(output);
            let sink = Output {
                output,
                adds: addend.is_some(),
                addend: addend.map_or_else(MapView::none, MapView::new),
                counts,
                statistics: ViewMut::new(statistics),
                channels: self.outputs,
                is_streamed: is_streamed(shape, output),
            };
            let plan = self.plan();
            let source = input.source(self.input);
            self.with_packed(plan, weights, Direction::Forward, |weights| {
                let chunks = plan.chunks(self.input.batch).reversed(addend.is_some());
                chunks.for_each_part(plan.parts(), &|_, images, part| {
                    self.instructions.run(Forward { plan, source, weights, sink, images, part });
                });
            });
            if let Some((groups, moments)) = moments {
                norm::moments(shape, statistics, groups, moments, self.instructions);
            }
        });
    }

    /// The gradients of [`Convolution::forward`] for the gradient of its output: of the weights, to `weights_gradient`, and
    /// of the input, as far as wanted. Returns the sums that belong to a normalised input's gradient; where its statistics
    /// are constants (running ones), say so.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or the kind of input gradient does not fit the input.
    pub fn backward(
        &self,
        input: Input,
        weights: &[f32],
        gradient: OutputGradient,
        weights_gradient: &mut [f32],
        input_gradient: InputGradient,
        statistics_are_constant: bool,
    ) -> Option<NormalisationGradient> {
        assert_eq!(weights.len(), self.weights_len(), "weights");
        assert_eq!(weights_gradient.len(), self.weights_len(), "gradient of the weights");
        let has_length = |length: usize| assert_eq!(length, self.input.len(), "gradient of the input");
        let stored = match input_gradient {
            InputGradient::Unneeded => {
                self.run_backward(input, weights, gradient, Some(weights_gradient), None);
                return None;
            }
            InputGradient::Complete { output, addend } => {
                assert!(input.norm.is_none(), "the gradient of a normalised input takes two passes");
                has_length(output.len());
                let (output, x) = (MapViewMut::new(output), MapView::new(input.values));
                let (masks, adds) = (input.is_activated, addend.is_some());
                let addend = addend_view(self.input, addend);
                let sink = BackwardSink::Raw(RawGradient { output, masks, x, adds, addend });
                self.run_backward(input, weights, gradient, Some(weights_gradient), Some(sink));
                return None;
            }
            InputGradient::OfNorm(output) => {
                has_length(output.len());
                Some(output)
            }
            InputGradient::SumsOnly => None,
        };
        let norm = input.norm.expect("only a normalised input has sums");
        let pour = |sink: BackwardSink| {
            self.run_backward(input, weights, gradient, Some(weights_gradient), Some(sink))
        };
        Some(sums(pour, self.input, input, norm, stored, statistics_are_constant))
    }

    /// The gradient of a normalised input, finished with the sums that [`Convolution::backward`] has found, plus an addend:
    /// the data gradient is computed once more, which costs less than storing it where channels are few.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or the input is not normalised.
    pub fn finish_input_gradient(
        &self,
        input: Input,
        weights: &[f32],
        gradient: OutputGradient,
        sums: &NormalisationGradient,
        addend: Option<Values>,
        output: ValuesMut,
    ) {
        let sink = finished(self.input, input, sums, addend, output);
        self.run_backward(input, weights, gradient, None, Some(BackwardSink::Finished(sink)));
    }

    fn run_backward(
        &self,
        input: Input,
        weights: &[f32],
        gradient: OutputGradient,
        weights_gradient: Option<&mut [f32]>,
        sink: Option<BackwardSink>,
    ) {
        let plan = self.plan();
        let finishes = matches!(sink, Some(BackwardSink::Finished(..)));
        let source = input.source(self.input);
        let gradient = gradient.source(self.output());
        self.with_packed(plan, weights, Direction::Backward, |weights| {
            self.in_chunks(plan, weights_gradient, finishes, &|partial, images, part| {
                let weights = sink.map(|sink| (weights, sink));
                self.instructions.run(Backward { plan, source, gradient, weights, partial, images, part });
            });
        });
    }

    /// Runs `work` for every part of every run of images of the batch, each run with a place of its own for the gradient of the weights if that
    /// is wanted, and adds those up.
    pub(crate) fn in_chunks(
        &self,
        plan: Plan,
        weights_gradient: Option<&mut [f32]>,
        is_reversed: bool,
        work: &BackwardWork,
    ) {
        let chunks = plan.chunks(self.input.batch).reversed(is_reversed);
        let partial_len = if weights_gradient.is_some() { plan.gradient_len() } else { 0 };
        scratch::with_shared(partial_len * chunks.count(), |partial| {
            let partials = ViewMut::new(partial);
            chunks.for_each_part(plan.parts(), &|chunk, images, part| {
                // SAFETY: within the memory, a place for each run.
                let partial = unsafe { partials.from(chunk * partial_len) };
                work((partial_len > 0).then_some(partial), images, part);
            });
            if let Some(weights_gradient) = weights_gradient {
                add_up(partial, partial_len, self.instructions);
                plan.unpack_gradient(&partial[..partial_len], self, weights_gradient);
            }
        });
    }

    /// As a product over patches.
    pub(crate) fn direct(&self) -> Direct {
        let Self { input, size, stride, .. } = *self;
        assert!(size % 2 == 1, "kernels have an odd size");
        Direct { input, output: self.output(), size, stride }
    }

    /// Whether training multiplies numbers that are rounded to bfloat16: with [`Algorithm::Bf16`], of 1x1 convolutions those with 16,384
    /// weights or more, and with a stride those of sixteen channels or more. With fewer, what is around the products takes longer than they
    /// do in f32.
    pub fn is_in_bf16(&self) -> bool {
        const FEW_WEIGHTS: usize = 1 << 14;
        self.algorithm == Algorithm::Bf16
            && (self.stride == 1 || self.input.channels >= LANES)
            && (self.size > 1 || self.input.channels * self.outputs >= FEW_WEIGHTS)
    }

    /// By a matrix unit, in bfloat16.
    pub(crate) fn tiled(&self) -> Tiled {
        let (numbers, instructions) = (Numbers::Bf16, self.instructions);
        let tiles = Tiles::of(instructions, numbers);
        let tiles = tiles.unwrap_or_else(|| panic!("no products of bfloat16 with {}", instructions.name()));
        self.tiled_by(numbers, tiles)
    }

    /// By products of tiles.
    pub(crate) fn tiled_by(&self, numbers: Numbers, tiles: Tiles) -> Tiled {
        let Self { input, size, stride, .. } = *self;
        assert!(size % 2 == 1, "kernels have an odd size");
        Tiled { input, output: self.output(), size, stride, spread: 1, numbers, tiles }
    }

    pub(crate) fn plan(&self) -> Plan {
        if self.size == 3
            && self.stride == 1
            && self.algorithm == Algorithm::Winograd
            && self.input.channels >= 8
        {
            Plan::Winograd(Winograd::new(self.input, self.outputs))
        } else if self.is_in_bf16() {
            Plan::Tiled(self.tiled())
        } else {
            Plan::Direct(self.direct())
        }
    }

    /// Calls `work` with the weights in the layout that the plan wants.
    pub(crate) fn with_packed(
        &self,
        plan: Plan,
        weights: &[f32],
        direction: Direction,
        work: impl FnOnce(View) + Send,
    ) {
        scratch::with_shared(plan.packed_len(), |packed| {
            self.pack_for(plan, weights, direction, packed);
            work(View::new(packed));
        });
    }

    /// The weights in the layout that the plan wants for the forward pass.
    pub(crate) fn pack(&self, plan: Plan, weights: &[f32], packed: &mut [f32]) {
        self.pack_for(plan, weights, Direction::Forward, packed);
    }

    fn pack_for(&self, plan: Plan, weights: &[f32], direction: Direction, packed: &mut [f32]) {
        match plan {
            Plan::Direct(direct) => direct.pack(weights, direction == Direction::Forward, packed),
            Plan::Tiled(tiled) => match direction {
                Direction::Forward => {
                    tiled.pack(weights, self.instructions, &mut packed[..tiled.packed_len()])
                }
                Direction::Backward => {
                    let tiled = tiled.transposed();
                    tiled.pack_flipped(weights, self.instructions, &mut packed[..tiled.packed_len()]);
                }
            },
            Plan::Winograd(Winograd { input, layout: Layout::Kernels, .. }) => {
                let inputs = input.channels;
                let from_channels = if direction == Direction::Forward { inputs } else { self.outputs };
                let of_blocks = packed.par_chunks_mut(kernels_len(from_channels));
                of_blocks.enumerate().for_each(|(block, to)| match direction {
                    Direction::Forward => pack_kernels(weights, inputs, block, to),
                    Direction::Backward => pack_flipped_kernels(weights, inputs, block, to),
                });
            }
            Plan::Winograd(winograd) => {
                let (inputs, outputs) = (winograd.input.channels, winograd.outputs);
                // Disjoint: a task writes its block of outputs, and each block has one task.
                let to = ViewMut::new(packed);
                let is_flipped = direction == Direction::Backward;
                let to_channels = if is_flipped { inputs } else { outputs };
                blocks(to_channels).collect::<Vec<_>>().into_par_iter().for_each(|block| {
                    let task = Transform { weights, inputs, outputs, is_flipped, block, to };
                    self.instructions.run(task);
                });
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

#[derive(Clone, Copy)]
pub(crate) enum Plan {
    Winograd(Winograd),
    Direct(Direct),
    Tiled(Tiled),
}

impl Plan {
    fn chunks(self, batch: usize) -> Chunks {
        match self {
            Self::Winograd(winograd) => Chunks::new(batch, winograd.run()),
            Self::Direct(_) | Self::Tiled(_) => Chunks::divided(batch, self.parts()),
        }
    }

    /// Into how many parts the work on a run of images is divided.
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::Winograd(winograd) => winograd.parts(),
            Self::Direct(direct) => direct.parts(),
            Self::Tiled(tiled) => tiled.parts(),
        }
    }

    pub(crate) fn packed_len(self) -> usize {
        match self {
            Self::Winograd(winograd) => winograd.weights_len(),
            Self::Direct(direct) => direct.weights_len(),
            Self::Tiled(tiled) => tiled.packed_len().max(tiled.transposed().packed_len()),
        }
    }

    fn gradient_len(self) -> usize {
        match self {
            Self::Winograd(Winograd { input, outputs, .. }) => input.channels * 9 * padded(outputs),
            Self::Direct(direct) => direct.weights_len(),
            Self::Tiled(tiled) => tiled.gradient_len(),
        }
    }

    /// To `[outputs, inputs, size, size]`, a block of outputs at a time.
    fn unpack_gradient(self, from: &[f32], convolution: &Convolution, to: &mut [f32]) {
        let length = convolution.input.channels * convolution.size * convolution.size;
        let outputs = convolution.outputs;
        let of_block = |(block, to): (usize, &mut [f32])| match self {
            Self::Winograd(_) | Self::Tiled(_) => {
                let to = ViewMut::new(to);
                let from = View::new(from);
                convolution.instructions.run(Unpack { from, outputs, length, block, to });
            }
            Self::Direct(direct) => direct.unpack(from, block, to),
        };
        to.par_chunks_mut(LANES * length).enumerate().for_each(of_block);
    }
}

/// A block of outputs out of `[length][outputs, padded]`, each output's numbers together.
struct Unpack<'a> {
    from: View<'a>,
    outputs: usize,
    length: usize,
    block: usize,
    to: ViewMut<'a>,
}

impl Task for Unpack<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { from, outputs, length, block, to } = self;
        let own = LANES.min(outputs - block * LANES);
        for first in (0..length).step_by(LANES) {
            let count = LANES.min(length - first);
            // SAFETY: numbers and block are of the gradient, and `to` has a place for each of the block's own.
            unsafe {
                let mut rows = [V::zero(); LANES];
                for (row, values) in rows.iter_mut().enumerate().take(count) {
                    *values = from.load((first + row) * padded(outputs) + block * LANES);
                }
                for (output, values) in V::transpose(rows).into_iter().enumerate().take(own) {
                    to.store_first(output * length + first, count, values);
                }
            }
        }
    }
}

/// Adds all parts of `length` numbers, a multiple of [`LANES`], to the first, in order.
fn add_up(parts: &mut [f32], length: usize, instructions: Instructions) {
    const PIECE: usize = 4096;
    // Disjoint: a task reads and writes its piece of every part, and pieces do not overlap.
    let parts = ViewMut::new(parts);
    (0..length.div_ceil(PIECE)).into_par_iter().for_each(|piece| {
        instructions.run(AddUp { parts, length, places: piece * PIECE..length.min((piece + 1) * PIECE) });
    });
}

struct AddUp<'a> {
    parts: ViewMut<'a>,
    length: usize,
    /// Within a part.
    places: std::ops::Range<usize>,
}

impl Task for AddUp<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        /// Vectors that are summed side by side.
        const TOGETHER: usize = 8;
        let Self { parts, length, places } = self;
        let mut at = places.start;
        // SAFETY: places are of a part, in whole vectors, and this task's alone.
        unsafe {
            while at + TOGETHER * LANES <= places.end {
                sum::<V, TOGETHER>(parts, length, at);
                at += TOGETHER * LANES;
            }
            while at < places.end {
                sum::<V, 1>(parts, length, at);
                at += LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn sum<V: Vector, const R: usize>(parts: ViewMut, length: usize, at: usize) {
    // SAFETY: `R` vectors from `at` on are of every part, as the caller promises.
    unsafe {
        let mut sums = [V::zero(); R];
        for (vector, sum) in sums.iter_mut().enumerate() {
            *sum = parts.read().load(at + vector * LANES);
        }
        for part in 1..parts.len() / length {
            for (vector, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(parts.read().load(part * length + at + vector * LANES));
            }
        }
        for (vector, sum) in sums.into_iter().enumerate() {
            parts.store(at + vector * LANES, sum);
        }
    }
}

/// What is done with a part of a run of images, and the place for the run's part of the weights' gradient.
type BackwardWork<'a> = dyn Fn(Option<ViewMut>, std::ops::Range<usize>, Part) + Sync + 'a;

struct Forward<'a> {
    plan: Plan,
    source: AnySource<'a>,
    weights: View<'a>,
    sink: Output<'a>,
    images: std::ops::Range<usize>,
    part: Part,
}

impl Task for Forward<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { plan, source, weights, sink, images, part } = self;
        // SAFETY: `forward` has checked all lengths; images and part are this task's alone.
        unsafe {
            match plan {
                Plan::Winograd(winograd) => {
                    winograd.forward::<V>(&source, weights, &sink, images, [Part::WHOLE, part])
                }
                Plan::Direct(direct) => {
                    direct.forward::<V>(&source, weights, &sink, images, [Part::WHOLE, part])
                }
                Plan::Tiled(tiled) => {
                    let finish = ToSink(&sink);
                    tiled::Forward { tiled, source, weights, finish, images, part }.run_here::<V>();
                }
            }
            V::fence();
        }
    }
}

struct Backward<'a> {
    plan: Plan,
    source: AnySource<'a>,
    gradient: AnySource<'a>,
    weights: Option<(View<'a>, BackwardSink<'a>)>,
    partial: Option<ViewMut<'a>>,
    images: std::ops::Range<usize>,
    part: Part,
}

impl Task for Backward<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { plan, source, gradient, weights, partial, images, part } = self;
        let weights = weights.as_ref().map(|(weights, sink)| (*weights, sink));
        // SAFETY: `backward` has checked all lengths; images and part are this task's alone, and `partial` is the images'
        // place.
        unsafe {
            match plan {
                Plan::Winograd(winograd) => {
                    if let Some(partial) = partial {
                        let images = images.clone();
                        winograd.weights_gradient::<V>(&source, &gradient, partial, images, part);
                    }
                    if let Some((weights, sink)) = weights {
                        let parts = [Part::WHOLE, part];
                        winograd.transposed().forward::<V>(&gradient, weights, sink, images, parts);
                    }
                }
                Plan::Direct(direct) => {
                    direct.backward::<V>(&source, &gradient, weights, partial, images, part)
                }
                Plan::Tiled(tiled) => {
                    if let Some(partial) = partial {
                        let images = images.clone();
                        tiled.weights_gradient::<V>(&source, &gradient, partial, images, part);
                    }
                    if let Some((weights, sink)) = weights {
                        let (tiled, source, finish) = (tiled.transposed(), gradient, ToSink(sink));
                        tiled::Forward { tiled, source, weights, finish, images, part }.run_here::<V>();
                    }
                }
            }
            V::fence();
        }
    }
}

struct Transform<'a> {
    weights: &'a [f32],
    inputs: usize,
    outputs: usize,
    is_flipped: bool,
    block: Block,
    to: ViewMut<'a>,
}

impl Task for Transform<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { weights, inputs, outputs, is_flipped, block, to } = self;
        // SAFETY: `to` has the length of the plan's weights, and the block of it is this task's alone.
        unsafe {
            transform_weights::<V>(weights, inputs, outputs, is_flipped, block, to);
            V::fence();
        }
    }
}
