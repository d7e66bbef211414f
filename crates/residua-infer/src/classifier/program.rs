//! The steps of a network, and the memory that they work in.

use half::bf16;
use residua_kernels::{
    Epilogue, Input, Instructions, Int8Input, Int8Output, MapShape, MaxPool, Normalisation, Packing,
    Quantisation, Reading, Values, ValuesMut,
};

use super::affine::Affine;
use super::elementwise::{Combination, combine, mean, subsample};
use super::map::{Map, ONE_PRECISION};
use super::packed_weights::{AnyPacking, Source, Weights};
use crate::precision::Precision;
use crate::ranges::InputRanges;

/// A feature map's place in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// What enters a unit, and what leaves it: they take turns.
    Trunk(bool),
    /// A unit's input, activated for both paths.
    Activated,
    Shortcut,
    /// Between the branch's convolutions, which take turns.
    Branch(bool),
    Gate,
    /// Between the branch's convolutions, if they compute with bytes.
    Bytes(bool),
    /// What all images of a pass have left of the steps that each passes by itself.
    Gathered,
}

impl Slot {
    const COUNT: usize = 10;

    fn index(self) -> usize {
        match self {
            Self::Trunk(second) => usize::from(second),
            Self::Activated => 2,
            Self::Shortcut => 3,
            Self::Branch(second) => 4 + usize::from(second),
            Self::Gate => 6,
            Self::Gathered => 7,
            Self::Bytes(second) => 8 + usize::from(second),
        }
    }
}

/// A part of a network's computation. Shapes are those of one image.
#[derive(Debug)]
pub(super) enum Step {
    Convolve(Convolve),
    /// `relu(norm(x))`, the normalisation optional.
    Activate {
        from: Slot,
        reading: Reading,
        norm: Option<Normalisation>,
        to: Slot,
    },
    /// Every stride-th pixel, zero channels appended.
    Subsample {
        from: Slot,
        input: MapShape,
        output: MapShape,
        to: Slot,
    },
    Pool {
        from: Slot,
        pool: MaxPool,
        to: Slot,
    },
    /// Weighted paths added.
    Combine {
        residual: Slot,
        signal: Slot,
        gate: Option<Slot>,
        shape: MapShape,
        combination: Combination,
        to: Slot,
    },
}

/// Behind an optional normalisation and ReLU: a convolution, its epilogue.
#[derive(Debug)]
pub(super) struct Convolve {
    pub(super) from: Slot,
    pub(super) input: MapShape,
    pub(super) norm: Option<Normalisation>,
    pub(super) is_activated: bool,
    pub(super) packing: AnyPacking,
    /// The number of its weights among those of all convolutions.
    pub(super) weights: usize,
    pub(super) epilogue: Epilogue,
    pub(super) addend: Option<Slot>,
    /// What the bytes that it writes stand for, if it writes bytes.
    pub(super) quantisation: Option<Quantisation>,
    pub(super) to: Slot,
}

/// What a pass writes of each image.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    /// The means of the last map, `[channels]`.
    Features,
    /// `[classes]`
    Logits,
}

/// From images to features and logits.
#[derive(Debug)]
pub(super) struct Program {
    /// What each image passes by itself, since its maps are large: a second one's would only drive them out of the caches.
    pub(super) alone: Vec<Step>,
    /// What all images of a pass go through together, so that weights are read once for all: in the last stages they are more than the maps.
    pub(super) together: Vec<Step>,
    /// What passes from the former to the latter, and where it lies.
    pub(super) between: (Slot, MapShape),
    /// The weights of all convolutions.
    pub(super) convolutions: Weights,
    /// `[1, height, width, 3]`
    pub(super) image: MapShape,
    /// What leaves the last unit, and where it lies.
    pub(super) features: (Slot, MapShape),
    pub(super) head: Head,
    /// The names of the convolutions' weights.
    pub(super) names: Vec<String>,
    /// What the numbers of maps are stored in.
    pub(super) numbers: Precision,
}

/// Behind the last unit: normalisation and ReLU, both optional, the mean over the pixels, and the classifier.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) norm: Affine,
    pub(super) is_activated: bool,
    /// The classifier as a 1x1 convolution, the number of its weights, and its bias as an epilogue.
    pub(super) packing: Packing,
    pub(super) weights: usize,
    pub(super) epilogue: Epilogue,
    pub(super) classes: usize,
}

/// The memory of one thread's pass: a buffer for each slot, and the means of the features.
#[derive(Debug)]
pub(super) struct Workspace {
    /// One is taken out while it is written.
    slots: Slots,
    means: Vec<f32>,
}

type Slots = [Option<Map>; Slot::COUNT];

impl Program {
    /// Memory for passes of up to `batch` images.
    pub(super) fn workspace(&self, batch: usize) -> Workspace {
        let mut lengths = [0; Slot::COUNT];
        let mut needs = |slot: Slot, shape: MapShape, images: usize| {
            let length = &mut lengths[slot.index()];
            *length = (images * shape.len()).max(*length);
        };
        let (between, shape) = self.between;
        let is_divided = !self.alone.is_empty();
        needs(Slot::Trunk(false), self.image, if is_divided { 1 } else { batch });
        for step in &self.alone {
            needs(step.to(), step.output(), 1);
        }
        for step in &self.together {
            needs(step.to(), step.output(), batch);
        }
        needs(between, shape, batch);
        if is_divided {
            // They change places.
            lengths[Slot::Gathered.index()] = lengths[between.index()];
        }
        let of_bytes = [false, true].map(|second| Slot::Bytes(second).index());
        let mut index = 0..;
        let slots = lengths.map(|length| {
            let is_of_bytes = index.next().is_some_and(|index| of_bytes.contains(&index));
            Some(if is_of_bytes { Map::of_bytes(length) } else { Map::of(self.numbers, length) })
        });
        Workspace { slots, means: vec![0.; batch * self.features.1.channels] }
    }

    /// Numbers of an output of one image.
    pub(super) fn len_of(&self, output: Output) -> usize {
        match output {
            Output::Features => self.features.1.channels,
            Output::Logits => self.head.classes,
        }
    }

    /// An output of each of the images `[batch, height, width, 3]`, of which there are no more than the workspace is for. With several
    /// parts, convolutions are divided between the threads of the pool that this runs in.
    pub(super) fn run(
        &self,
        mut weights: Source,
        images: &[f32],
        workspace: &mut Workspace,
        output: Output,
        results: &mut [f32],
        parts: usize,
    ) {
        let batch = images.len() / self.image.len();
        self.run_steps(&mut weights, images, workspace, parts, &mut |_, _, _| {});
        let Workspace { slots, means } = workspace;
        let (slot, shape) = self.features;
        let map = of_slot(&slots[slot.index()]).values(batch * shape.len());
        let Head { norm, is_activated, packing, weights: number, epilogue, .. } = &self.head;
        let mean = |to: &mut [f32]| match map {
            Values::F32(map) => mean(map, norm, *is_activated, shape, to),
            Values::Bf16(map) => mean(map, norm, *is_activated, shape, to),
        };
        match output {
            Output::Features => mean(results),
            Output::Logits => {
                let means = &mut means[..batch * shape.channels];
                mean(means);
                // The images are the pixels of one map: all weights are read once for all of them.
                let pixels = MapShape { batch: 1, height: batch, width: 1, channels: shape.channels };
                let features = Input { values: (&*means).into(), norm: None, is_activated: false };
                let classifier = packing.with_weights(weights.get(*number));
                classifier.forward(pixels, features, epilogue, None, results, parts);
            }
        }
    }

    /// What every convolution but the classifier reads of some images, in a program of numbers.
    pub(super) fn input_ranges(
        &self,
        mut weights: Source,
        images: &[f32],
        workspace: &mut Workspace,
    ) -> InputRanges {
        let mut ranges = InputRanges::default();
        let mut read = Vec::new();
        self.run_steps(&mut weights, images, workspace, 1, &mut |step, batch, workspace| {
            let Step::Convolve(convolution) = step else { return };
            let shape = MapShape { batch, ..convolution.input };
            let input = convolution.read(&workspace.slots, batch);
            read.resize(shape.len(), 0.);
            Reading { shape, instructions: Instructions::current() }.forward(input, &mut read, 1);
            ranges.widen(&self.names[convolution.weights], &read);
        });
        ranges
    }

    /// All that is in front of the head, each step after `before` has seen it, how many images it is of, and what it will read.
    fn run_steps(
        &self,
        weights: &mut Source,
        images: &[f32],
        workspace: &mut Workspace,
        parts: usize,
        before: &mut dyn FnMut(&Step, usize, &Workspace),
    ) {
        if self.alone.is_empty() {
            workspace.slot_mut(Slot::Trunk(false)).fill(images);
        } else {
            self.run_alone(weights, images, workspace, parts, before);
        }
        let batch = images.len() / self.image.len();
        for step in &self.together {
            before(step, batch, workspace);
            step.run(weights, batch, workspace, parts);
        }
    }

    fn run_alone(
        &self,
        weights: &mut Source,
        images: &[f32],
        workspace: &mut Workspace,
        parts: usize,
        before: &mut dyn FnMut(&Step, usize, &Workspace),
    ) {
        let (between, shape) = self.between;
        let image_len = self.image.len();
        for (index, image) in images.chunks_exact(image_len).enumerate() {
            workspace.slot_mut(Slot::Trunk(false)).fill(image);
            for step in &self.alone {
                before(step, 1, workspace);
                step.run(weights, 1, workspace, parts);
            }
            if images.len() > image_len {
                let [from, to] = [between, Slot::Gathered].map(Slot::index);
                let [from, to] = workspace.slots.get_disjoint_mut([from, to]).expect("two slots");
                let place = index * shape.len()..(index + 1) * shape.len();
                to.as_mut().expect(IN_PLACE).copy(place, of_slot(from));
            }
        }
        if images.len() > image_len {
            workspace.slots.swap(between.index(), Slot::Gathered.index());
        }
    }
}

impl Workspace {
    fn slot_mut(&mut self, slot: Slot) -> &mut Map {
        self.slots[slot.index()].as_mut().expect(IN_PLACE)
    }
}

/// A slot's memory, which is not the one that is written.
fn of_slot(slot: &Option<Map>) -> &Map {
    slot.as_ref().expect(IN_PLACE)
}

const IN_PLACE: &str = "only what a step writes is taken out, until it has run";

/// Calls `$work` with two maps of one precision.
macro_rules! for_known {
    (($from:expr, $to:expr) => |$x:ident, $y:ident| $work:expr) => {
        match ($from, $to) {
            (Values::F32($x), ValuesMut::F32($y)) => $work,
            (Values::Bf16($x), ValuesMut::Bf16($y)) => $work,
            _ => unreachable!("{ONE_PRECISION}"),
        }
    };
}

impl Step {
    fn run(&self, convolutions: &mut Source, batch: usize, workspace: &mut Workspace, parts: usize) {
        let of = |shape: MapShape| MapShape { batch, ..shape };
        let slots = &mut workspace.slots;
        let to = self.to().index();
        let mut output = slots[to].take().expect(IN_PLACE);
        let read = |slot: Slot, shape: MapShape| of_slot(&slots[slot.index()]).values(of(shape).len());
        let length = of(self.output()).len();
        match self {
            Self::Convolve(convolution) => {
                let weights = convolutions.get(convolution.weights);
                convolution.run(weights, batch, slots, &mut output, parts);
            }
            Self::Activate { from, reading, norm, .. } => {
                let values = read(*from, reading.shape);
                let input = Input { values, norm: norm.as_ref(), is_activated: true };
                let write = output.values_mut(length);
                Reading { shape: of(reading.shape), ..*reading }.forward(input, write, parts);
            }
            Self::Subsample { from, input, output: shape, .. } => {
                let (from, input, shape) = (read(*from, *input), of(*input), of(*shape));
                for_known!((from, output.values_mut(length)) => |x, to| subsample(input, x, shape, to));
            }
            Self::Pool { from, pool, .. } => {
                let input = Input { values: read(*from, pool.input), norm: None, is_activated: false };
                let write = output.values_mut(length);
                MaxPool { input: of(pool.input), ..*pool }.forward_in_parts(input, write, parts);
            }
            Self::Combine { residual, signal, gate, shape, combination, .. } => {
                let gate = gate.map(|slot| read(slot, *shape));
                let paths = (read(*residual, *shape), read(*signal, *shape));
                match (paths, output.values_mut(length)) {
                    ((Values::F32(residual), Values::F32(signal)), ValuesMut::F32(to)) => {
                        combine((residual, signal), gate.map(of_f32), combination, to);
                    }
                    ((Values::Bf16(residual), Values::Bf16(signal)), ValuesMut::Bf16(to)) => {
                        combine((residual, signal), gate.map(of_bf16), combination, to);
                    }
                    _ => unreachable!("{ONE_PRECISION}"),
                }
            }
        }
        slots[to] = Some(output);
    }

    fn to(&self) -> Slot {
        match self {
            Self::Convolve(Convolve { to, .. })
            | Self::Activate { to, .. }
            | Self::Subsample { to, .. }
            | Self::Pool { to, .. }
            | Self::Combine { to, .. } => *to,
        }
    }

    /// The shape of what it writes of an image.
    fn output(&self) -> MapShape {
        match self {
            Self::Convolve(Convolve { input, packing, .. }) => packing.output(*input),
            Self::Activate { reading, .. } => reading.shape,
            Self::Combine { shape, .. } => *shape,
            Self::Subsample { output, .. } => *output,
            Self::Pool { pool, .. } => pool.output(),
        }
    }
}

impl Convolve {
    /// What it reads of so many images, as numbers.
    fn read<'a>(&'a self, slots: &'a Slots, batch: usize) -> Input<'a> {
        let length = MapShape { batch, ..self.input }.len();
        let values = of_slot(&slots[self.from.index()]).values(length);
        Input { values, norm: self.norm.as_ref(), is_activated: self.is_activated }
    }

    fn run(&self, weights: &[f32], batch: usize, slots: &Slots, output: &mut Map, parts: usize) {
        let Self { from, packing, epilogue, .. } = self;
        let input = MapShape { batch, ..self.input };
        let length = packing.output(input).len();
        let addend = self.addend.map(|slot| of_slot(&slots[slot.index()]).values(length));
        match packing {
            AnyPacking::Numbers(packing) => {
                let (read, write) = (self.read(slots, batch), output.values_mut(length));
                packing.with_weights(weights).forward(input, read, epilogue, addend, write, parts);
            }
            AnyPacking::Bytes(packing) => {
                let read = match from {
                    Slot::Bytes(_) => Int8Input::Bytes(of_slot(&slots[from.index()]).bytes(input.len())),
                    _ => Int8Input::Numbers(self.read(slots, batch)),
                };
                let write = match self.quantisation {
                    Some(quantisation) => Int8Output::Bytes(output.bytes_mut(length), quantisation),
                    None => Int8Output::Numbers(output.values_mut(length)),
                };
                packing.forward(weights, input, read, epilogue, addend, write, parts);
            }
        }
    }
}

fn of_f32(values: Values<'_>) -> &[f32] {
    match values {
        Values::F32(values) => values,
        Values::Bf16(_) => unreachable!("{ONE_PRECISION}"),
    }
}

fn of_bf16(values: Values<'_>) -> &[bf16] {
    match values {
        Values::Bf16(values) => values,
        Values::F32(_) => unreachable!("{ONE_PRECISION}"),
    }
}
