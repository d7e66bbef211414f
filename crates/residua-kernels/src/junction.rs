//! Where two residual units meet: the end of one backward pass and the beginning of the next, in one.
//!
//! ```text
//! x = before(relu(norm(m))) + shortcut          the unit before
//! u = behind(relu(norm(x)))                     the unit behind
//! ```
//!
//! Backward, the last pass of the unit behind finishes the gradient of `x`, and the first of the unit before reads it. A
//! bottleneck's `x` is its largest map: it has left the caches in between. Here the gradient of a few pixels at a time is
//! finished, stored past the caches, and used where it also lies: in the panels of the next product.

use std::ops::Range;

use crate::backward;
use crate::convolution::{Convolution, Direction};
use crate::direct::Direct;
use crate::flag::Always;
use crate::instructions::Task;
use crate::map::{Block, MapShape};
use crate::multiply::Multiply;
use crate::norm::NormalisationGradient;
use crate::operands::{Input, InputGradient, OutputGradient};
use crate::product::{ROWS, panel};
use crate::scratch::Scratch;
use crate::sink::{BackwardSink, Chosen, FinishedGradient, NormGradient, Sink};
use crate::source::{AnySource, FinishConstants, Normalised, Source, ThroughNorm, copy};
use crate::values::{Values, ValuesMut};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, View, ViewMut};

/// Pixels whose gradient is finished and used at a time.
const PIXELS: usize = 2 * ROWS;

/// Two convolutions on either side of an addition: the output of `before` plus a shortcut is what `behind` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Junction {
    /// The last of its unit.
    pub before: Convolution,
    /// The first of its unit.
    pub behind: Convolution,
}

/// What is left to do of the unit behind: [`Convolution::finish_input_gradient`] with these.
#[derive(Debug)]
pub struct Finishing<'a> {
    /// What the convolution has read; normalised.
    pub input: Input<'a>,
    /// Its weights.
    pub weights: &'a [f32],
    /// The gradient of its output.
    pub gradient: OutputGradient<'a>,
    /// What [`Convolution::backward`] has found.
    pub sums: &'a NormalisationGradient,
    /// The gradient on the shortcut.
    pub addend: Values<'a>,
    /// Where the finished gradient goes.
    pub output: ValuesMut<'a>,
}

/// What comes first in the unit before: [`Convolution::backward`] with these, for the gradient that has just been
/// finished.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// What the convolution has read; normalised.
    pub input: Input<'a>,
    /// Its weights.
    pub weights: &'a [f32],
    /// Where the gradient of the weights goes.
    pub weights_gradient: &'a mut [f32],
    /// Where the gradient of `norm(m)` goes.
    pub of_norm: &'a mut [f32],
    /// Whether the statistics of the input are constants.
    pub statistics_are_constant: bool,
}

impl Junction {
    /// Finishes the gradient of the sum and passes it through `before`: in one pass over memory where it can
    /// ([`Self::takes_one_pass`]), else in two. The results are the same to the bit.
    ///
    /// # Panics
    /// When the convolutions do not meet, a slice has another length than its shape says, or an input is not normalised.
    pub fn backward(&self, finishing: Finishing, beginning: Beginning) -> NormalisationGradient {
        let Self { before, behind } = *self;
        assert_eq!(before.output(), behind.input, "the convolutions do not meet");
        if let Some(passage) = self.passage(&finishing, &beginning) {
            return self.in_one(passage, finishing, beginning);
        }
        let Finishing { input, weights, gradient, sums, addend, mut output } = finishing;
        behind.finish_input_gradient(input, weights, gradient, sums, Some(addend), output.borrowed_mut());
        let Beginning { input, weights, weights_gradient, of_norm, statistics_are_constant } = beginning;
        let (gradient, wanted) = (OutputGradient::Plain(output.borrowed()), InputGradient::OfNorm(of_norm));
        before
            .backward(input, weights, gradient, weights_gradient, wanted, statistics_are_constant)
            .expect("what is normalised has sums")
    }

    /// Whether [`Self::backward`] takes one pass over memory: where both convolutions are 1x1 of stride 1 and have few
    /// weights, what they read is normalised and rectified, the sum's channels are whole blocks of 16, and all is f32.
    pub fn takes_one_pass(&self, finishing: &Finishing, beginning: &Beginning) -> bool {
        self.passage(finishing, beginning).is_some()
    }

    /// What is read, with its type, if one pass does it.
    fn passage<'a>(&self, finishing: &Finishing<'a>, beginning: &Beginning<'a>) -> Option<Passage<'a>> {
        let Self { before, behind } = *self;
        let is_pointwise = |convolution: Convolution| convolution.size == 1 && convolution.stride == 1;
        let are_whole = behind.input.channels.is_multiple_of(LANES);
        let are_activated = finishing.input.is_activated && beginning.input.is_activated;
        let are_undivided = before.plan().parts() == 1 && behind.plan().parts() == 1;
        if !(is_pointwise(before) && is_pointwise(behind) && are_whole && are_activated && are_undivided) {
            return None;
        }
        let AnySource::ThroughNorm(gradient) = finishing.gradient.source(behind.output()) else {
            return None;
        };
        let AnySource::Normalised(source) = beginning.input.source(before.input) else { return None };
        let maps = [finishing.input.values, finishing.addend, finishing.output.borrowed()];
        let are_f32 = maps.iter().all(|map| matches!(map, Values::F32(_)));
        are_f32.then_some(Passage { gradient: gradient.as_f32()?, source: source.as_f32()? })
    }

    fn in_one(
        &self,
        Passage { gradient, source }: Passage,
        finishing: Finishing,
        beginning: Beginning,
    ) -> NormalisationGradient {
        let Self { before, behind } = *self;
        let Beginning { input, weights, weights_gradient, of_norm, statistics_are_constant } = beginning;
        let Finishing { input: x, weights: behind_weights, sums, addend, output, .. } = finishing;
        let finished = backward::finished(behind.input, x, sums, Some(addend), output);
        let finished = finished.known(Always, Always).expect("maps of f32");
        let backward = Direction::Backward;
        let pour = |sink: BackwardSink| {
            let BackwardSink::Norm(sink) = sink else { unreachable!("sums of a normalised input") };
            let sink = sink.known(Always, Always).expect("a map of f32");
            before.with_packed(before.plan(), weights, backward, |weights| {
                behind.with_packed(behind.plan(), behind_weights, backward, |behind_weights| {
                    before.in_chunks(before.plan(), Some(weights_gradient), true, &|partial, images, _| {
                        before.instructions.run(Pass {
                            before: before.direct(),
                            behind: behind.direct(),
                            gradient,
                            behind_weights,
                            finished,
                            source,
                            weights,
                            sink,
                            partial: partial.expect("a place for the gradient of the weights"),
                            images,
                        });
                    });
                });
            });
        };
        let norm = input.norm.expect("a normalised input");
        backward::sums(pour, before.input, input, norm, Some(of_norm), statistics_are_constant)
    }
}

/// What one pass reads.
struct Passage<'a> {
    gradient: ThroughNorm<'a, true>,
    source: Normalised<'a, true>,
}

struct Pass<'a> {
    before: Direct,
    behind: Direct,
    gradient: ThroughNorm<'a, true>,
    behind_weights: View<'a>,
    finished: FinishedGradient<'a, true, Always, Always>,
    source: Normalised<'a, true>,
    weights: View<'a>,
    sink: NormGradient<'a, true, Always, Always>,
    partial: ViewMut<'a>,
    images: Range<usize>,
}

impl Task for Pass<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { before, behind, gradient, behind_weights, finished, source, weights, sink, .. } = self;
        let shape = behind.input;
        let blocks = |shape: MapShape| shape.channels.div_ceil(LANES);
        let lengths = [behind.output, shape, before.input].map(|shape| PIXELS * blocks(shape) * LANES);
        let mut scratch = Scratch::take();
        let [gradients, sums, patches] = scratch.pieces(lengths).map(ViewMut::new);
        for image in self.images.clone() {
            for first in (0..shape.pixels()).step_by(PIXELS) {
                let count = PIXELS.min(shape.pixels() - first);
                let at = image * shape.pixels() + first;
                let ahead =
                    |map: MapView<'_, true>, shape: MapShape| map.lines((at + count) * shape.channels);
                // SAFETY: `backward` has checked lengths; images are this task's alone, pixels of the image, and scratch memory
                // has places for `PIXELS` of them.
                unsafe {
                    fill::<V, _>(gradient, behind.output, image, first, count, gradients);
                    let product = Multiply {
                        panels: gradients.read(),
                        rows: PIXELS,
                        depth: blocks(behind.output),
                        weights: behind_weights,
                        to: shape,
                        own: 0..blocks(shape),
                        ahead: ahead(gradient.gradient, behind.output),
                        beside: [None, Some(finished.addend.as_any())],
                        distance: PIXELS,
                        image,
                        first,
                        count,
                    };
                    let handing = Handing {
                        finished,
                        panels: sums,
                        first: at * shape.channels,
                        channels: shape.channels,
                    };
                    V::call(Chosen { work: product, sink: handing });

                    fill::<V, _>(source, before.input, image, first, count, patches);
                    let is_first = image == self.images.start && first == 0;
                    let all = 0..blocks(before.input);
                    before.outers::<V>(
                        patches.read(),
                        all,
                        sums.read(),
                        PIXELS,
                        count,
                        self.partial,
                        is_first,
                    );
                    let product = Multiply {
                        panels: sums.read(),
                        rows: PIXELS,
                        depth: blocks(shape),
                        weights,
                        to: before.input,
                        own: 0..blocks(before.input),
                        ahead: ahead(finished.x, shape),
                        beside: [Some(source.values.as_any()), Some(gradient.x.as_any())],
                        distance: PIXELS,
                        image,
                        first,
                        count,
                    };
                    V::call(Chosen { work: product, sink });
                }
            }
        }
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { V::fence() }
    }
}

/// Pixels as panels, through the source.
#[inline(always)]
unsafe fn fill<V: Vector, S: Source>(
    source: S,
    shape: MapShape,
    image: usize,
    first: usize,
    count: usize,
    to: ViewMut,
) {
    let start = (image * shape.pixels() + first) * shape.channels;
    for block in shape.blocks() {
        // SAFETY: pixels are of the image, as the caller promises, and `to` has `PIXELS` rows.
        unsafe {
            let to = to.from(panel(block.index, 0, PIXELS));
            copy::<V, S>(source, image, block, start + block.channel, shape.channels, count, to, LANES, true);
        }
    }
}

/// Finishes a gradient, stores it and hands it on in panels too.
#[derive(Clone, Copy)]
struct Handing<'a> {
    finished: FinishedGradient<'a, true, Always, Always>,
    panels: ViewMut<'a>,
    /// Position of the panels' first pixel.
    first: usize,
    channels: usize,
}

impl Sink for Handing<'_> {
    /// And where in the panels the next goes.
    type State<V: Vector> = (FinishConstants<V>, usize);

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        at: usize,
        value: V,
    ) -> Self::State<V> {
        let row = (at - block.channel - self.first) / self.channels;
        // SAFETY: as the caller promises.
        unsafe { (self.finished.begin(image, block, is_first, at, value), panel(block.index, row, PIXELS)) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(
        self,
        (state, to): &mut Self::State<V>,
        _: usize,
        at: usize,
        block: Block,
        value: V,
    ) {
        // SAFETY: `to` is the row of this pixel in panels that hold all of them.
        unsafe {
            let value = self.finished.value(state, at, block, value);
            self.finished.store(at, block, value);
            self.panels.store(*to, value);
        }
        *to += LANES;
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, _: Self::State<V>, _: usize, _: Block) {}
}
