//! Convolutions for inference: weights packed once, an epilogue with everything that may follow.

use std::ops::Range;

use crate::algorithm::Algorithm;
use crate::awake;
use crate::convolution::{Convolution, Plan};
use crate::instructions::{Instructions, Task};
use crate::map::{Block, MapShape, Part, padded};
use crate::operands::Input;
use crate::sink::{AnySink, Sink, WithSink, for_flag};
use crate::source::AnySource;
use crate::vector::Vector;
use crate::view::{MapView, View, ViewMut};

/// A convolution without bias, padded by half its size, and the layout in which its kernel reads its weights.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    inputs: usize,
    outputs: usize,
    size: usize,
    stride: usize,
    algorithm: Algorithm,
    instructions: Instructions,
}

/// A convolution with packed weights, which lie where its caller put them.
#[derive(Debug, Clone, Copy)]
pub struct PackedConvolution<'a> {
    packing: Packing,
    weights: &'a [f32],
}

/// What follows a convolution's sum `v`, per channel; `relu` where [`Activation`] has it:
///
/// ```text
/// Before: relu(scale * v + shift) + factor * addend
/// After:  relu(scale * (v + factor * addend) + shift)
/// None:        scale * (v + factor * addend) + shift
/// ```
#[derive(Debug, Clone)]
pub struct Epilogue {
    channels: usize,
    /// Padded to whole vectors, as the next.
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// What a shortcut is multiplied by.
    factor: f32,
    activation: Activation,
}

/// Where ReLU stands behind a convolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nowhere.
    #[default]
    None,
    /// Between the convolution and the addition.
    Before,
    /// After the addition.
    After,
}

impl Epilogue {
    /// The epilogue of these values for each channel.
    ///
    /// # Panics
    /// When there are not as many of one as of the other.
    pub fn new(scale: &[f32], shift: &[f32], factor: f32, activation: Activation) -> Self {
        assert_eq!(scale.len(), shift.len(), "scale and shift");
        let pad = |values: &[f32]| {
            let mut padded_values = values.to_vec();
            padded_values.resize(padded(values.len()), 0.);
            padded_values
        };
        Self { channels: scale.len(), scale: pad(scale), shift: pad(shift), factor, activation }
    }
}

impl Packing {
    /// The packing of a convolution with weights `[outputs, inputs, size, size]`. `size` is odd.
    pub fn new(
        inputs: usize,
        outputs: usize,
        size: usize,
        stride: usize,
        algorithm: Algorithm,
        instructions: Instructions,
    ) -> Self {
        Self { inputs, outputs, size, stride, algorithm, instructions }
    }

    /// Numbers of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.any().plan().packed_len()
    }

    /// Packs weights `[outputs, inputs, size, size]` into memory of any content.
    ///
    /// # Panics
    /// When a slice has another length than the shape says.
    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let convolution = self.any();
        assert_eq!(weights.len(), convolution.weights_len(), "weights");
        let plan = convolution.plan();
        assert_eq!(packed.len(), plan.packed_len(), "packed weights");
        convolution.pack(plan, weights, packed);
    }

    /// The convolution with these packed weights, which are read fastest if they begin at a cache line.
    ///
    /// # Panics
    /// When there are not as many as of packed weights.
    pub fn with_weights(self, packed: &[f32]) -> PackedConvolution<'_> {
        assert_eq!(packed.len(), self.packed_len(), "packed weights");
        PackedConvolution { packing: self, weights: packed }
    }

    /// Shape of the output for an input `[batch, height, width, inputs]`.
    pub fn output(&self, input: MapShape) -> MapShape {
        self.convolution(input).output()
    }

    /// One for weights alone, which are packed the same for any map.
    fn any(&self) -> Convolution {
        self.convolution(MapShape { batch: 1, height: 1, width: 1, channels: self.inputs })
    }

    fn convolution(&self, input: MapShape) -> Convolution {
        let Self { outputs, size, stride, algorithm, instructions, .. } = *self;
        Convolution { input, outputs, size, stride, algorithm, instructions }
    }
}

impl PackedConvolution<'_> {
    /// `output = epilogue(weights * input, addend)` of the whole batch, in `parts` parts: one on the calling thread, others on those of its
    /// pool, which are best kept awake ([`with_threads_awake`](crate::with_threads_awake)). The results are the same to the bit.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(
        &self,
        shape: MapShape,
        input: Input,
        epilogue: &Epilogue,
        addend: Option<&[f32]>,
        output: &mut [f32],
        parts: usize,
    ) {
        let Self { packing, weights } = *self;
        let weights = View::new(weights);
        assert_eq!(shape.channels, packing.inputs, "channels of the input");
        assert_eq!(epilogue.channels, packing.outputs, "channels of the epilogue");
        let convolution = packing.convolution(shape);
        let of_output = convolution.output();
        assert_eq!(output.len(), of_output.len(), "output");
        if let Some(addend) = addend {
            assert_eq!(addend.len(), of_output.len(), "addend");
        }
        let sink = InferenceSink {
            finished: Finished {
                output: ViewMut::new(output),
                addend: View::new(addend.unwrap_or_default()),
                scale: View::new(&epilogue.scale),
                shift: View::new(&epilogue.shift),
                factor: epilogue.factor,
            },
            adds: addend.is_some(),
            activation: epilogue.activation,
        };
        let (plan, source) = (convolution.plan(), input.source(shape));
        let work = |part| {
            packing.instructions.run(Infer { plan, source, weights, sink, images: 0..shape.batch, part });
        };
        match parts {
            1 => work(Part::WHOLE),
            parts => awake::for_each(parts, |index| work(Part { index, of: parts })),
        }
    }
}

struct Infer<'a> {
    plan: Plan,
    source: AnySource<'a>,
    weights: View<'a>,
    sink: InferenceSink<'a>,
    images: Range<usize>,
    part: Part,
}

impl Task for Infer<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { plan, source, weights, sink, images, part } = self;
        unsafe {
            match plan {
                Plan::Winograd(winograd) => {
                    winograd.forward::<V>(&source, weights, &sink, images, winograd.divided(part))
                }
                Plan::Direct(direct) => direct.forward::<V>(&source, weights, &sink, images, part),
            }
        }
    }
}

/// [`Finished`] with its flags to be chosen.
#[derive(Clone, Copy)]
struct InferenceSink<'a> {
    finished: Finished<'a, false, false, false>,
    adds: bool,
    activation: Activation,
}

impl AnySink for InferenceSink<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { finished: Finished { output, addend, scale, shift, factor }, adds, activation } = *self;
        for_flag!(ADDS = adds, {
            unsafe {
                match activation {
                    Activation::None => {
                        work.run(Finished::<ADDS, false, false> { output, addend, scale, shift, factor })
                    }
                    Activation::Before => {
                        work.run(Finished::<ADDS, true, false> { output, addend, scale, shift, factor })
                    }
                    Activation::After => {
                        work.run(Finished::<ADDS, false, true> { output, addend, scale, shift, factor })
                    }
                }
            }
        });
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [None, if self.adds { Some(self.finished.addend.into()) } else { None }]
    }
}

/// Stores what the epilogue makes of results.
#[derive(Clone, Copy)]
struct Finished<'a, const ADDS: bool, const IS_BEFORE: bool, const IS_AFTER: bool> {
    output: ViewMut<'a>,
    addend: View<'a>,
    scale: View<'a>,
    shift: View<'a>,
    factor: f32,
}

impl<const ADDS: bool, const IS_BEFORE: bool, const IS_AFTER: bool> Sink
    for Finished<'_, ADDS, IS_BEFORE, IS_AFTER>
{
    /// Scale, shift and factor.
    type State<V: Vector> = [V; 3];

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, _: usize, block: Block, _: bool, _: usize, _: V) -> [V; 3] {
        unsafe { [self.scale.load(block.channel), self.shift.load(block.channel), V::splat(self.factor)] }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut [V; 3], _: usize, at: usize, block: Block, value: V) {
        let [scale, shift, factor] = *state;
        unsafe {
            let addend: V = if ADDS { self.addend.load_first(at, block.count) } else { V::zero() };
            let mut value = value;
            if ADDS && !IS_BEFORE {
                value = addend.mul_add(factor, value);
            }
            value = value.mul_add(scale, shift);
            if IS_BEFORE || IS_AFTER {
                value = value.relu();
            }
            if ADDS && IS_BEFORE {
                value = addend.mul_add(factor, value);
            }
            self.output.store_first(at, block.count, value);
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, _: [V; 3], _: usize, _: Block) {}
}
