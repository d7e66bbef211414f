//! The end of a residual block whose two paths are weighted: by constants, by a gate, by a mask.

use crate::elementwise::Masked;
use crate::flag::{Always, Flag, Never, for_flags};
use crate::flow::{MapFlow, Only, for_source};
use crate::instructions::Instructions;
use crate::map::{Block, MapShape, padded};
use crate::operands::Input;
use crate::scratch;
use crate::sigmoid::sigmoid;
use crate::sink::{Output, Sink};
use crate::source::{Raw, Source, floor};
use crate::streaming::is_streamed;
use crate::vector::Vector;
use crate::view::{MapView, View, ViewMut};

/// What the two terms of a merge are multiplied by, number by number.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// `residual * input + shortcut * addend`
    Constant {
        /// Of the addend.
        shortcut: f32,
        /// Of the input.
        residual: f32,
    },
    /// With `g = sigmoid(logits + bias)`: `g * input + (1 - g) * addend` if it is exclusive, else
    /// `input + (1 - g) * addend`. Neither `g` nor `1 - g` is less than `exp(-87)`.
    Gate {
        /// Of the map's shape.
        logits: &'a [f32],
        /// `[channels]`
        bias: &'a [f32],
        /// Whether what opens one path closes the other.
        is_exclusive: bool,
    },
    /// `input + mask * addend`; the mask is of the map's shape.
    Mask(&'a [f32]),
}

/// The end of a residual block whose paths are weighted: `y = relu(residual * relu(norm(x)) + shortcut * addend)`, each
/// ReLU and the normalisation optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedMerge {
    /// Shape of all maps.
    pub shape: MapShape,
    /// Whether a ReLU follows the sum.
    pub is_activated: bool,
    /// What to compute it with.
    pub instructions: Instructions,
}

/// Where the gradient of a gate goes.
#[derive(Debug)]
pub struct GateGradient<'a> {
    /// Of the map's shape.
    pub logits: &'a mut [f32],
    /// `[channels]`
    pub bias: &'a mut [f32],
}

impl WeightedMerge {
    /// `output = relu(residual * input + shortcut * addend)`
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(&self, input: Input, addend: &[f32], weights: Weights, output: &mut [f32]) {
        assert_eq!(input.values.len(), self.shape.len(), "input");
        self.check(addend, "addend");
        self.check(output, "output");
        let (addend, output) = (View::new(addend), ViewMut::new(output));
        match weights {
            Weights::Constant { shortcut, residual } => {
                self.pour_sum(input, addend, Constant { shortcut, residual }, output);
            }
            Weights::Gate { logits, bias, is_exclusive } => {
                let (logits, bias) = (View::new(self.check(logits, "logits")), self.padded(bias));
                let bias = View::new(&bias);
                for_flags!([is_exclusive], {
                    self.pour_sum(input, addend, Gate { logits, bias, is_exclusive }, output);
                });
            }
            Weights::Mask(mask) => {
                let mask = View::new(self.check(mask, "mask"));
                self.pour_sum(input, addend, Mask { mask }, output);
            }
        }
    }

    fn pour_sum<W: Weighing>(&self, input: Input, addend: View, weighing: W, output: ViewMut) {
        let Self { shape, is_activated, instructions } = *self;
        let sink = Only(Output::stored(shape, output));
        let floor = floor(is_activated);
        for_source!(source = input, shape, {
            let source = WeightedSum { source, addend, weighing, floor };
            MapFlow { shape, source, instructions }.pour_into(sink);
        });
    }

    /// The gradients of [`WeightedMerge::forward`]: of `relu(norm(x))` as it enters the sum (what [`crate::Merge`] without
    /// a ReLU after the sum takes as the gradient of its output), of the addend, and where the weights are a gate, of
    /// its logits and its bias. With `G` the gradient where `y > 0`, if a ReLU follows the sum, else the gradient:
    ///
    /// ```text
    /// of_input = residual * G        of_addend = shortcut * G
    /// of_logits = (input - addend) * g * (1 - g) * G, without the input unless the gate is exclusive
    /// of_bias = sum(of_logits) over all pixels
    /// ```
    ///
    /// `output` is what `forward` computed; it is read where a ReLU follows the sum, and may else be empty. `of_gate` is
    /// there if and only if the weights are a gate.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or `of_gate` does not belong to the weights.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        input: Input,
        addend: &[f32],
        weights: Weights,
        output: &[f32],
        gradient: &[f32],
        of_input: &mut [f32],
        of_addend: &mut [f32],
        of_gate: Option<GateGradient>,
    ) {
        let shape = self.shape;
        assert_eq!(input.values.len(), self.shape.len(), "input");
        self.check(addend, "addend");
        self.check(gradient, "gradient");
        self.check(of_input, "gradient of the input");
        self.check(of_addend, "gradient of the addend");
        if self.is_activated {
            self.check(output, "output");
        }
        let is_gate = matches!(weights, Weights::Gate { .. });
        assert_eq!(of_gate.is_some(), is_gate, "the gradient of a gate belongs to a gate");
        let GateGradient { logits: of_logits, bias: of_bias } =
            of_gate.unwrap_or(GateGradient { logits: &mut [], bias: &mut [] });
        if is_gate {
            self.check(of_logits, "gradient of the logits");
            assert_eq!(of_bias.len(), shape.channels, "gradient of the bias");
        }
        let (addend, maps) = (View::new(addend), [output, gradient].map(View::new));
        let places = [of_input, of_addend, of_logits].map(|values| Place::new(shape, values));
        // Only an exclusive gate's gradient reads the input: the others are compiled for one kind of it.
        let unread = MapView::new(input.values).as_f32().expect("an input of f32");
        let unread = Raw { values: unread, floor: floor(false) };
        match weights {
            Weights::Constant { shortcut, residual } => {
                let weighing = Constant { shortcut, residual };
                self.pour_gradients(unread, addend, weighing, maps, places, of_bias);
            }
            Weights::Gate { logits, bias, is_exclusive } => {
                let (logits, bias) = (View::new(self.check(logits, "logits")), self.padded(bias));
                let bias = View::new(&bias);
                if is_exclusive {
                    let weighing = Gate { logits, bias, is_exclusive: Always };
                    for_source!(
                        source = input,
                        shape,
                        self.pour_gradients(source, addend, weighing, maps, places, of_bias)
                    );
                } else {
                    let weighing = Gate { logits, bias, is_exclusive: Never };
                    self.pour_gradients(unread, addend, weighing, maps, places, of_bias);
                }
            }
            Weights::Mask(mask) => {
                let weighing = Mask { mask: View::new(self.check(mask, "mask")) };
                self.pour_gradients(unread, addend, weighing, maps, places, of_bias);
            }
        }
    }

    fn pour_gradients<S: Source, W: Weighing>(
        &self,
        input: S,
        addend: View,
        weighing: W,
        [output, gradient]: [View; 2],
        [of_input, of_addend, of_logits]: [Place; 3],
        of_bias: &mut [f32],
    ) {
        let Self { shape, is_activated, instructions } = *self;
        let pitch = padded(shape.channels);
        scratch::with_shared(if W::IS_GATE { shape.batch * pitch } else { 0 }, |sums| {
            sums.fill(0.);
            let sink = Only(Gradients {
                input,
                addend,
                weighing,
                of_input,
                of_addend,
                of_logits,
                sums: ViewMut::new(sums),
                channels: shape.channels,
            });
            if is_activated {
                let source = Masked { gradient, guide: output };
                MapFlow { shape, source, instructions }.pour_into(sink);
            } else {
                let source = Raw::<true> { values: gradient.into(), floor: floor(false) };
                MapFlow { shape, source, instructions }.pour_into(sink);
            }
            for (channel, of_bias) in of_bias.iter_mut().enumerate() {
                let images = sums.iter().skip(channel).step_by(pitch);
                *of_bias = images.map(|sum| f64::from(*sum)).sum::<f64>() as f32;
            }
        });
    }

    fn check<'a>(&self, values: &'a [f32], what: &str) -> &'a [f32] {
        assert_eq!(values.len(), self.shape.len(), "{what}");
        values
    }

    /// A gate's bias, zeros behind it up to whole blocks.
    fn padded(&self, bias: &[f32]) -> Vec<f32> {
        assert_eq!(bias.len(), self.shape.channels, "bias");
        let mut padded = vec![0.; padded(bias.len())];
        padded[..bias.len()].copy_from_slice(bias);
        padded
    }
}

/// The weights at a position.
#[derive(Clone, Copy)]
struct Factors<V> {
    residual: V,
    shortcut: V,
    /// `g * (1 - g)`, the gate's derivative by its logit; zero where there is no gate.
    slope: V,
}

/// Weights by their position in memory.
///
/// # Safety
/// As for [`Source`].
trait Weighing: Copy + Sync {
    /// Whether there are logits, which have a gradient.
    const IS_GATE: bool;

    /// Whether the input is weighted by the gate.
    #[inline(always)]
    fn is_exclusive(self) -> bool {
        false
    }

    /// What `get` needs to know of a block of channels.
    type Constants<V: Vector>: Copy;

    unsafe fn constants<V: Vector>(self, block: Block) -> Self::Constants<V>;

    unsafe fn get<V: Vector>(self, constants: &Self::Constants<V>, at: usize, block: Block) -> Factors<V>;
}

/// [`Weights::Constant`]
#[derive(Clone, Copy)]
struct Constant {
    shortcut: f32,
    residual: f32,
}

impl Weighing for Constant {
    const IS_GATE: bool = false;

    type Constants<V: Vector> = Factors<V>;

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, _: Block) -> Factors<V> {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe {
            Factors { residual: V::splat(self.residual), shortcut: V::splat(self.shortcut), slope: V::zero() }
        }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, constants: &Factors<V>, _: usize, _: Block) -> Factors<V> {
        *constants
    }
}

/// [`Weights::Gate`]
#[derive(Clone, Copy)]
struct Gate<'a, Exclusive> {
    logits: View<'a>,
    /// `[padded channels]`
    bias: View<'a>,
    /// Whether the input is weighted too.
    is_exclusive: Exclusive,
}

impl<Exclusive: Flag> Weighing for Gate<'_, Exclusive> {
    const IS_GATE: bool = true;

    #[inline(always)]
    fn is_exclusive(self) -> bool {
        self.is_exclusive.holds()
    }

    /// The bias.
    type Constants<V: Vector> = V;

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, block: Block) -> V {
        // SAFETY: the bias is padded to whole blocks.
        unsafe { self.bias.load(block.channel) }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, bias: &V, at: usize, block: Block) -> Factors<V> {
        // SAFETY: logits have the map's shape.
        unsafe {
            let logit = self.logits.load_first::<V>(at, block.count).add(*bias);
            let (gate, rest) = sigmoid(logit);
            let residual = if self.is_exclusive() { gate } else { V::splat(1.) };
            Factors { residual, shortcut: rest, slope: gate.mul(rest) }
        }
    }
}

/// [`Weights::Mask`]
#[derive(Clone, Copy)]
struct Mask<'a> {
    mask: View<'a>,
}

impl Weighing for Mask<'_> {
    const IS_GATE: bool = false;

    type Constants<V: Vector> = ();

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, _: Block) {}

    #[inline(always)]
    unsafe fn get<V: Vector>(self, (): &(), at: usize, block: Block) -> Factors<V> {
        // SAFETY: the mask has the map's shape.
        unsafe {
            let shortcut = self.mask.load_first(at, block.count);
            Factors { residual: V::splat(1.), shortcut, slope: V::zero() }
        }
    }
}

/// `relu(residual * source + shortcut * addend)`
#[derive(Clone, Copy)]
struct WeightedSum<'a, S, W> {
    source: S,
    addend: View<'a>,
    weighing: W,
    /// [`floor`]
    floor: f32,
}

impl<S: Source, W: Weighing> Source for WeightedSum<'_, S, W> {
    /// And the floor.
    type Constants<V: Vector> = (S::Constants<V>, W::Constants<V>, V);

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> Self::Constants<V> {
        // SAFETY: as the caller promises.
        unsafe {
            let constants = (self.source.constants(image, block), self.weighing.constants(block));
            (constants.0, constants.1, V::splat(self.floor))
        }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(
        self,
        (source, weighing, floor): &Self::Constants<V>,
        at: usize,
        block: Block,
    ) -> V {
        // SAFETY: the addend has the map's shape.
        unsafe {
            let Factors { residual, shortcut, .. } = self.weighing.get::<V>(weighing, at, block);
            let addend = self.addend.load_first::<V>(at, block.count).mul(shortcut);
            self.source.get::<V>(source, at, block).mul_add(residual, addend).at_least(*floor)
        }
    }
}

/// A map that is written.
#[derive(Clone, Copy)]
struct Place<'a> {
    values: ViewMut<'a>,
    is_streamed: bool,
}

impl<'a> Place<'a> {
    fn new(shape: MapShape, values: &'a mut [f32]) -> Self {
        let values = ViewMut::new(values);
        Self { values, is_streamed: is_streamed(shape, values.into()) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, at: usize, block: Block, value: V) {
        // SAFETY: the position is of the map, and a multiple of a cache line where it is streamed.
        unsafe {
            if self.is_streamed {
                self.values.store_streaming(at, value);
            } else {
                self.values.store_first(at, block.count, value);
            }
        }
    }
}

/// Makes all gradients of a weighted sum of the sum's own.
#[derive(Clone, Copy)]
struct Gradients<'a, S, W> {
    input: S,
    addend: View<'a>,
    weighing: W,
    of_input: Place<'a>,
    of_addend: Place<'a>,
    /// This and the sums over it are written where there is a gate.
    of_logits: Place<'a>,
    /// `[batch][padded channels]`, zeros to begin with.
    sums: ViewMut<'a>,
    channels: usize,
}

/// Constants, and the sum over the logits' gradient.
#[derive(Clone, Copy)]
struct Weighed<I, W, V> {
    input: I,
    weighing: W,
    /// The sum of earlier pieces of the image, which small numbers are not added to one by one.
    before: V,
    /// A single chain: the weights take longer than an addition.
    sum: V,
}

impl<S: Source, W: Weighing> Gradients<'_, S, W> {
    #[inline(always)]
    fn sum_at(self, image: usize, block: Block) -> usize {
        image * padded(self.channels) + block.channel
    }
}

impl<S: Source, W: Weighing> Sink for Gradients<'_, S, W> {
    type State<V: Vector> = Weighed<S::Constants<V>, W::Constants<V>, V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, image: usize, block: Block, _: bool, _: usize, _: V) -> Self::State<V> {
        // SAFETY: where there is a gate there are sums for every image and block.
        unsafe {
            let sum = V::zero();
            Weighed {
                input: self.input.constants(image, block),
                weighing: self.weighing.constants(block),
                before: if W::IS_GATE { self.sums.read().load(self.sum_at(image, block)) } else { sum },
                sum,
            }
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut Self::State<V>, _: usize, at: usize, block: Block, value: V) {
        // SAFETY: all maps that are used have the shape of the sink's, whose position this is.
        unsafe {
            let Factors { residual, shortcut, slope } = self.weighing.get::<V>(&state.weighing, at, block);
            self.of_input.put(at, block, value.mul(residual));
            self.of_addend.put(at, block, value.mul(shortcut));
            if W::IS_GATE {
                let input = if self.weighing.is_exclusive() {
                    self.input.get(&state.input, at, block)
                } else {
                    V::zero()
                };
                let of_gate = input.sub(self.addend.load_first(at, block.count)).mul(value);
                let of_logit = of_gate.mul(slope);
                self.of_logits.put(at, block, of_logit);
                state.sum = state.sum.add(of_logit);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Self::State<V>, image: usize, block: Block) {
        if W::IS_GATE {
            // SAFETY: there are sums for every image and block.
            unsafe { self.sums.store(self.sum_at(image, block), state.before.add(state.sum)) }
        }
    }
}
