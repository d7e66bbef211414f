//! The steps of a network, and the memory that they work in.

use residua_kernels::{Epilogue, Input, MapShape, Normalisation, Packing};

use super::affine::Affine;
use super::elementwise::{Combination, activate, combine, mean, pool, subsample};
use super::packed_weights::{Source, Weights};

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
}

impl Slot {
    const COUNT: usize = 7;

    fn index(self) -> usize {
        match self {
            Self::Trunk(second) => usize::from(second),
            Self::Activated => 2,
            Self::Shortcut => 3,
            Self::Branch(second) => 4 + usize::from(second),
            Self::Gate => 6,
        }
    }
}

/// A part of a network's computation. Shapes are those of one image.
#[derive(Debug)]
pub(super) enum Step {
    /// Behind an optional normalisation and ReLU: a convolution, its epilogue.
    Convolve {
        from: Slot,
        input: MapShape,
        norm: Option<Normalisation>,
        is_activated: bool,
        packing: Packing,
        /// The number of its weights among those of all convolutions.
        weights: usize,
        epilogue: Epilogue,
        addend: Option<Slot>,
        to: Slot,
    },
    /// `relu(norm(x))`
    Activate { from: Slot, shape: MapShape, norm: Affine, to: Slot },
    /// Every stride-th pixel, zero channels appended.
    Subsample { from: Slot, input: MapShape, output: MapShape, to: Slot },
    /// 3x3 maxima, stride 2.
    Pool { from: Slot, input: MapShape, to: Slot },
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
    pub(super) steps: Vec<Step>,
    /// The weights of all convolutions.
    pub(super) convolutions: Weights,
    /// `[1, height, width, 3]`
    pub(super) image: MapShape,
    /// What leaves the last unit, and where it lies.
    pub(super) features: (Slot, MapShape),
    pub(super) head: Affine,
    pub(super) is_head_activated: bool,
    /// `[classes, channels]`
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The memory of one thread's pass: a buffer for each slot, and the means of the features.
#[derive(Debug)]
pub(super) struct Workspace {
    slots: [Vec<f32>; Slot::COUNT],
    means: Vec<f32>,
}

impl Program {
    /// Memory for passes of up to `batch` images.
    pub(super) fn workspace(&self, batch: usize) -> Workspace {
        let mut lengths = [0; Slot::COUNT];
        let mut needs = |slot: Slot, shape: MapShape| {
            let length = &mut lengths[slot.index()];
            *length = shape.len().max(*length);
        };
        needs(Slot::Trunk(false), self.image);
        for step in &self.steps {
            match step {
                Step::Convolve { input, packing, to, .. } => needs(*to, packing.output(*input)),
                Step::Activate { shape, to, .. } | Step::Combine { shape, to, .. } => needs(*to, *shape),
                Step::Subsample { output, to, .. } => needs(*to, *output),
                Step::Pool { input, to, .. } => needs(*to, pool::output(*input)),
            }
        }
        Workspace {
            slots: lengths.map(|length| vec![0.; batch * length]),
            means: vec![0.; batch * self.features.1.channels],
        }
    }

    /// Numbers of an output of one image.
    pub(super) fn len_of(&self, output: Output) -> usize {
        match output {
            Output::Features => self.features.1.channels,
            Output::Logits => self.bias.len(),
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
        workspace.slots[Slot::Trunk(false).index()][..images.len()].copy_from_slice(images);
        for step in &self.steps {
            step.run(&mut weights, batch, workspace, parts);
        }
        let (slot, shape) = self.features;
        let channels = shape.channels;
        let map = &workspace.slots[slot.index()][..batch * shape.len()];
        let features = match output {
            Output::Features => &mut *results,
            Output::Logits => &mut workspace.means[..batch * channels],
        };
        mean(map, &self.head, self.is_head_activated, shape, features);
        if let Output::Logits = output {
            self.classify(&workspace.means[..batch * channels], results);
        }
    }

    /// Logits `[batch, classes]` of features `[batch, channels]`.
    fn classify(&self, features: &[f32], logits: &mut [f32]) {
        let channels = self.len_of(Output::Features);
        for (features, logits) in
            features.chunks_exact(channels).zip(logits.chunks_exact_mut(self.bias.len()))
        {
            for ((weights, bias), logit) in self.weights.chunks_exact(channels).zip(&self.bias).zip(logits) {
                *logit =
                    weights.iter().zip(features).fold(*bias, |sum, (weight, feature)| sum + weight * feature);
            }
        }
    }
}

impl Step {
    fn run(&self, convolutions: &mut Source, batch: usize, workspace: &mut Workspace, parts: usize) {
        let of = |shape: MapShape| MapShape { batch, ..shape };
        let slots = &mut workspace.slots;
        // Taken out while it is written, put back behind: nothing is allocated.
        let to = self.to().index();
        let mut output = std::mem::take(&mut slots[to]);
        let read = |slot: Slot, shape: MapShape| &slots[slot.index()][..of(shape).len()];
        match self {
            Self::Convolve {
                from, input, norm, is_activated, packing, weights, epilogue, addend, ..
            } => {
                let shape = packing.output(*input);
                let values = Input {
                    values: read(*from, *input).into(),
                    norm: norm.as_ref(),
                    is_activated: *is_activated,
                };
                let addend = addend.map(|slot| read(slot, shape));
                packing.with_weights(convolutions.get(*weights)).forward(
                    of(*input),
                    values,
                    epilogue,
                    addend,
                    &mut output[..of(shape).len()],
                    parts,
                );
            }
            Self::Activate { from, shape, norm, .. } => {
                activate(read(*from, *shape), norm, &mut output[..of(*shape).len()]);
            }
            Self::Subsample { from, input, output: shape, .. } => {
                subsample(of(*input), read(*from, *input), of(*shape), &mut output[..of(*shape).len()]);
            }
            Self::Pool { from, input, .. } => {
                let length = of(pool::output(*input)).len();
                pool::forward(of(*input), read(*from, *input), &mut output[..length]);
            }
            Self::Combine { residual, signal, gate, shape, combination, .. } => {
                let gate = gate.map(|slot| read(slot, *shape));
                let paths = (read(*residual, *shape), read(*signal, *shape));
                combine(paths, gate, combination, &mut output[..of(*shape).len()]);
            }
        }
        slots[to] = output;
    }

    fn to(&self) -> Slot {
        match self {
            Self::Convolve { to, .. }
            | Self::Activate { to, .. }
            | Self::Subsample { to, .. }
            | Self::Pool { to, .. }
            | Self::Combine { to, .. } => *to,
        }
    }
}
