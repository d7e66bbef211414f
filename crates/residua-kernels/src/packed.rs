//! Convolutions for inference: weights packed once, an epilogue with everything that may follow.

use std::ops::Range;

use crate::algorithm::Algorithm;
use crate::convolution::{Convolution, Plan};
use crate::flag::{Always, Flag, Never, for_flags};
use crate::instructions::{Instructions, Task};
use crate::map::{Block, MapShape, Part, padded};
use crate::operands::Input;
use crate::sink::{AnySink, Chosen, Sink, WithSink};
use crate::source::{AnySource, floor};
use crate::tiled::{self, Finishing};
use crate::values::{Values, ValuesMut};
use crate::vector::Vector;
use crate::view::{MapView, MapViewMut, View, ViewMut};

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
    pub(crate) channels: usize,
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

    /// With its maps.
    pub(crate) fn finishing<'a>(
        &'a self,
        output: MapViewMut<'a>,
        addend: Option<Values<'a>>,
    ) -> Finishing<'a> {
        Finishing {
            output,
            addend: addend.map(MapView::new),
            scale: View::new(&self.scale),
            shift: View::new(&self.shift),
            factor: self.factor,
            is_activated: self.activation != Activation::None,
            adds_behind: self.activation == Activation::Before,
        }
    }
}

impl Packing {
    /// The packing of a convolution with weights `[outputs, inputs, size, size]`. `size` is odd.
    ///
    /// With [`Algorithm::Bf16`] it reads and writes maps of either storage, and packed weights take half as many places; with the others all maps
    /// are of f32.
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
        packed_len(self.plan(self.any()))
    }

    /// Packs weights `[outputs, inputs, size, size]` into memory of any content.
    ///
    /// # Panics
    /// When a slice has another length than the shape says.
    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let convolution = self.any();
        assert_eq!(weights.len(), convolution.weights_len(), "weights");
        let plan = self.plan(convolution);
        assert_eq!(packed.len(), packed_len(plan), "packed weights");
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

    /// How the convolution is computed, with weights that are packed once for all.
    fn plan(&self, convolution: Convolution) -> Plan {
        if self.algorithm == Algorithm::Bf16 {
            // Of any stride.
            return Plan::Tiled(convolution.tiled());
        }
        match convolution.plan() {
            Plan::Winograd(winograd) => Plan::Winograd(winograd.with_packed_weights()),
            plan => plan,
        }
    }

    /// One for weights alone, which are packed the same for any map.
    pub(crate) fn any(&self) -> Convolution {
        self.convolution(MapShape { batch: 1, height: 1, width: 1, channels: self.inputs })
    }

    /// Of maps of this shape: the pixels of 1x1 convolutions need no images, as a few of each would not fill a product.
    ///
    /// # Panics
    /// When they have other channels than the input.
    pub(crate) fn of_maps(&self, shape: MapShape) -> Convolution {
        assert_eq!(shape.channels, self.inputs, "channels of the input");
        self.convolution(match self {
            Self { size: 1, stride: 1, .. } => {
                MapShape { batch: 1, height: shape.batch * shape.height, ..shape }
            }
            _ => shape,
        })
    }

    fn convolution(&self, input: MapShape) -> Convolution {
        let Self { outputs, size, stride, algorithm, instructions, .. } = *self;
        Convolution { input, outputs, size, stride, algorithm, instructions }
    }
}

/// Of weights for the forward pass alone.
fn packed_len(plan: Plan) -> usize {
    match plan {
        Plan::Tiled(tiled) => tiled.packed_len(),
        plan => plan.packed_len(),
    }
}

impl PackedConvolution<'_> {
    /// `output = epilogue(weights * input, addend)` of the whole batch, in `parts` parts: one on the calling thread, others on those of its
    /// pool, which are best kept awake ([`with_threads_awake`](crate::with_threads_awake)). The results are the same to the bit.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or addend and output of a convolution in f32 are not of f32.
    pub fn forward<'a>(
        &self,
        shape: MapShape,
        input: Input,
        epilogue: &Epilogue,
        addend: Option<Values>,
        output: impl Into<ValuesMut<'a>>,
        parts: usize,
    ) {
        let output = output.into();
        let Self { packing, weights } = *self;
        let weights = View::new(weights);
        assert_eq!(epilogue.channels, packing.outputs, "channels of the epilogue");
        let convolution = packing.of_maps(shape);
        let shape = convolution.input;
        let of_output = convolution.output();
        assert_eq!(output.len(), of_output.len(), "output");
        if let Some(addend) = addend {
            assert_eq!(addend.len(), of_output.len(), "addend");
        }
        let is_activated = epilogue.activation != Activation::None;
        let adds_behind = epilogue.activation == Activation::Before;
        let source = input.source(shape);
        let plan = packing.plan(convolution);
        if let Plan::Tiled(tiled) = plan {
            let finishing = epilogue.finishing(MapViewMut::new(output), addend);
            // Disjoint, as below.
            return Part::for_each(parts, &|part| {
                let (finish, images) = (finishing, 0..shape.batch);
                packing.instructions.run(tiled::Forward { tiled, source, weights, finish, images, part });
            });
        }
        let ValuesMut::F32(output) = output else { panic!("an output of f32") };
        let of_f32 = |values| match values {
            Values::F32(values) => View::new(values),
            Values::Bf16(_) => panic!("an addend of f32"),
        };
        let sink = Finished {
            output: ViewMut::new(output),
            adds: addend.is_some(),
            addend: addend.map_or_else(|| View::new(&[]), of_f32),
            scale: View::new(&epilogue.scale),
            shift: View::new(&epilogue.shift),
            factor: epilogue.factor,
            floor: floor(is_activated),
            adds_behind,
        };
        let work = |part| {
            packing.instructions.run(Infer { plan, source, weights, sink, images: 0..shape.batch, part });
        };
        // Disjoint: every tile, pixel or block of outputs is in one part, which alone writes it.
        Part::for_each(parts, &work);
    }
}

struct Infer<'a> {
    plan: Plan,
    source: AnySource<'a>,
    weights: View<'a>,
    sink: Finished<'a>,
    images: Range<usize>,
    part: Part,
}

impl Task for Infer<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { plan, source, weights, sink, images, part } = self;
        // SAFETY: `forward` has checked all lengths, and parts of a pass have outputs of their own.
        unsafe {
            match plan {
                Plan::Winograd(winograd) => {
                    winograd.forward::<V>(&source, weights, &sink, images, winograd.divided(part))
                }
                Plan::Direct(direct) => {
                    direct.forward::<V>(&source, weights, &sink, images, direct.divided(part))
                }
                Plan::Tiled(_) => unreachable!("tiles have an epilogue of their own"),
            }
        }
    }
}

/// Stores what the epilogue makes of results.
#[derive(Clone, Copy)]
struct Finished<'a, Adds = bool, AddsBehind = bool> {
    output: ViewMut<'a>,
    /// Whether `addend` is added.
    adds: Adds,
    addend: View<'a>,
    scale: View<'a>,
    shift: View<'a>,
    factor: f32,
    /// [`floor`]
    floor: f32,
    /// Whether what is added is added behind the ReLU.
    adds_behind: AddsBehind,
}

impl AnySink for Finished<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, work: impl WithSink<V>) {
        let Self { output, adds, addend, scale, shift, factor, floor, adds_behind } = *self;
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            if !V::IS_SPECIALISED {
                V::call(Chosen { work, sink: *self });
            } else if adds {
                for_flags!([adds_behind], {
                    let adds = Always;
                    let sink = Finished { output, adds, addend, scale, shift, factor, floor, adds_behind };
                    V::call(Chosen { work, sink });
                });
            } else {
                let (adds, adds_behind) = (Never, Never);
                let sink = Finished { output, adds, addend, scale, shift, factor, floor, adds_behind };
                V::call(Chosen { work, sink });
            }
        }
    }

    #[inline(always)]
    fn read_beside(&self) -> [Option<MapView<'_>>; 2] {
        [None, self.adds.then(|| self.addend.into())]
    }
}

impl<Adds: Flag, AddsBehind: Flag> Sink for Finished<'_, Adds, AddsBehind> {
    /// Scale, shift, factor and floor.
    type State<V: Vector> = [V; 4];

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, _: usize, block: Block, _: bool, _: usize, _: V) -> [V; 4] {
        let at = block.channel;
        // SAFETY: scale and shift are padded to whole blocks.
        unsafe { [self.scale.load(at), self.shift.load(at), V::splat(self.factor), V::splat(self.floor)] }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut [V; 4], _: usize, at: usize, block: Block, value: V) {
        let [scale, shift, factor, floor] = *state;
        // SAFETY: addend and output have the shape of the sink's map, whose position this is.
        unsafe {
            let mut value = value;
            if self.adds.holds() && !self.adds_behind.holds() {
                value = self.addend.load_first::<V>(at, block.count).mul_add(factor, value);
            }
            value = value.mul_add(scale, shift).at_least(floor);
            if self.adds.holds() && self.adds_behind.holds() {
                value = self.addend.load_first::<V>(at, block.count).mul_add(factor, value);
            }
            self.output.store_first(at, block.count, value);
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, _: [V; 4], _: usize, _: Block) {}
}
