//! How much memory training takes: what each mode keeps for the backward pass, and the plan that predicts the peak.

use serde::Serialize;

use crate::ops;
use residua_infer::network::{
    ConvolutionPlan, Entry, LayerSummary, NetworkError, Part, Parts, Plan, ResNetConfig, Summary, Trunk,
    UnitPlan, VALUE_BYTES, is_trained,
};
use residua_infer::words;

/// What a training step keeps for its backward pass. Results are the same to the bit; time and memory are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// All raw feature maps.
    #[default]
    Fast,
    /// All but the output of each unit's first convolution, which is computed again; units whose paths are weighted (scaled,
    /// gated, dropped) or that drop values between convolutions keep it.
    Balanced,
    /// The input of every k-th unit; the maps between are computed again, k units at a time.
    Lean,
}

// In the order of speed: a size means the first that fits.
words!(Memory, "memory mode", {
    Fast => "fast": "all raw feature maps",
    Balanced => "balanced": "all but the first convolution of each pre-activation unit, which is computed again",
    Lean => "lean": "the input of every k-th unit, the rest computed again: a forward pass more, a small part of the memory",
});

/// The memory that a training process takes at its peak, in bytes, as predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryPlan {
    /// What is kept.
    pub memory: Memory,
    /// Units of a segment, the k of [`Memory::Lean`].
    pub segment: Option<usize>,
    /// Feature maps alive at the peak.
    pub feature_map_bytes: u64,
    /// Gradients of feature maps alive at the peak.
    pub gradient_map_bytes: u64,
    /// Weights, their gradients and momentum.
    pub parameter_bytes: u64,
    /// The batch, as it is read and as a tensor.
    pub image_bytes: u64,
    /// What the largest convolution works in: packed weights, and a gradient of the weights for each run of images.
    pub workspace_bytes: u64,
    /// The process itself: program, threads, allocator.
    pub process_bytes: u64,
    /// The sum.
    pub peak_bytes: u64,
}

/// Copies of each trained parameter in every training, besides itself: gradient, momentum.
const PARAMETER_COPIES: u64 = 2;

/// Copies of a batch's images: the loader's and the tensor.
const IMAGE_COPIES: u64 = 2;

/// Resident memory of a process that trains next to nothing.
const PROCESS_BYTES: u64 = 40_000_000;

/// What is trained with, as far as it takes memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workload {
    /// Parts that are not trained.
    pub(crate) frozen: Parts,
    /// Images of a mini-batch.
    pub(crate) batch: usize,
    /// Height and width of images, in pixels.
    pub(crate) size: [usize; 2],
    /// Copies of each trained parameter besides itself, its gradient and its momentum: what else an optimiser keeps, an average,
    /// gradients that are added up.
    pub(crate) more_copies: u64,
    /// Whether values are dropped between the convolutions of units.
    pub(crate) drops_in_units: bool,
}

impl Workload {
    /// The training of all parts on such batches, and nothing besides.
    pub(crate) fn new(batch: usize, height: usize, width: usize) -> Self {
        Self { batch, size: [height, width], ..Self::default() }
    }
}

impl MemoryPlan {
    /// Predicts the peak memory of training a network on batches of `batch` images of `height` x `width` pixels, on the CPU.
    ///
    /// # Errors
    /// When there is no such network or it does not take such inputs.
    pub fn of(
        network: &ResNetConfig,
        batch: usize,
        height: usize,
        width: usize,
        memory: Memory,
    ) -> Result<Self, NetworkError> {
        Self::of_frozen(network, &Parts::default(), batch, height, width, memory)
    }

    /// As [`of`](Self::of), where these parts are frozen ([`ResNet::freeze`](super::ResNet::freeze)).
    ///
    /// # Errors
    /// As there, and when the network does not have one of these parts, or has no other.
    pub fn of_frozen(
        network: &ResNetConfig,
        frozen: &Parts,
        batch: usize,
        height: usize,
        width: usize,
        memory: Memory,
    ) -> Result<Self, NetworkError> {
        let workload = Workload { frozen: frozen.clone(), ..Workload::new(batch, height, width) };
        Self::of_plan(network, &network.plan()?, &workload, memory)
    }

    /// As [`of_frozen`](Self::of_frozen), of layers that are planned already.
    pub(crate) fn of_plan(
        network: &ResNetConfig,
        plan: &Plan,
        workload: &Workload,
        memory: Memory,
    ) -> Result<Self, NetworkError> {
        let [height, width] = workload.size;
        let summary = network.summary_of(plan, height, width)?;
        let workload = &countable(workload, &summary);
        let Workload { batch, more_copies, .. } = *workload;
        let maps = Maps::of(network, plan, workload, &summary)?;
        let segment = (memory == Memory::Lean).then(|| maps.leanest_segment());
        let Peak { kept, in_flight } = match memory {
            Memory::Fast => maps.peak(maps.units.len()),
            Memory::Balanced => maps.without_first_convolutions().peak(maps.units.len()),
            Memory::Lean => maps.peak(maps.leanest_segment()),
        };
        let trained = summary.parameters - parameters_of(network, &workload.frozen)?;
        let parameter_bytes = VALUE_BYTES * (summary.parameters + (PARAMETER_COPIES + more_copies) * trained);
        let image_bytes = IMAGE_COPIES * VALUE_BYTES * (batch * height * width * 3) as u64;
        let workspace_bytes = workspace_bytes(network, plan, batch, [height, width]);
        Ok(Self {
            memory,
            segment,
            feature_map_bytes: kept,
            gradient_map_bytes: in_flight,
            parameter_bytes,
            image_bytes,
            workspace_bytes,
            process_bytes: PROCESS_BYTES,
            peak_bytes: kept + in_flight + parameter_bytes + image_bytes + workspace_bytes + PROCESS_BYTES,
        })
    }
}

/// The units of a segment with which [`Memory::Lean`] takes the least memory to train a network of these layers on such batches.
pub(crate) fn lean_segment(
    network: &ResNetConfig,
    plan: &Plan,
    workload: &Workload,
) -> Result<usize, NetworkError> {
    let [height, width] = workload.size;
    let summary = network.summary_of(plan, height, width)?;
    Ok(Maps::of(network, plan, &countable(workload, &summary), &summary)?.leanest_segment())
}

/// The same with as many images of a batch as can be counted with: more than that fits in no memory, and would only overflow its bytes.
fn countable(workload: &Workload, summary: &Summary) -> Workload {
    const COUNTABLE: u64 = 1 << 58;
    let of_layers = summary.layers.iter().map(|layer| layer.activation_bytes).fold(0, u64::saturating_add);
    let pixels = workload.size.iter().fold(1, |pixels: u64, &side| pixels.saturating_mul(side as u64));
    let of_image = of_layers.saturating_add(pixels.saturating_mul(1 << 12));
    let batch = workload.batch.min((COUNTABLE / of_image.max(1)).max(1) as usize);
    Workload { batch, ..workload.clone() }
}

/// What the convolution that needs most works in, on the CPU; frozen ones are counted as well.
fn workspace_bytes(network: &ResNetConfig, plan: &Plan, batch: usize, size: [usize; 2]) -> u64 {
    let mut largest = 0;
    let mut see = |convolution: &ConvolutionPlan, [height, width]: [usize; 2]| {
        let ConvolutionPlan { inputs, outputs, size, stride } = *convolution;
        let map = [batch, height, width, inputs];
        largest = largest.max(ops::workspace_bytes(map, outputs, size, stride, network.precision));
        [height.div_ceil(stride), width.div_ceil(stride)]
    };
    let mut size = see(&plan.stem.convolution, size);
    if plan.stem.has_pooling {
        size = size.map(|side| side.div_ceil(2));
    }
    for unit in plan.stages.iter().flatten() {
        if let Some((projection, _)) = &unit.projection {
            see(projection, size);
        }
        size = unit.convolutions.iter().fold(size, |size, convolution| see(convolution, size));
    }
    largest
}

/// The values of these parts that would be trained.
fn parameters_of(network: &ResNetConfig, parts: &Parts) -> Result<u64, NetworkError> {
    if parts.is_empty() {
        return Ok(0);
    }
    let shapes = network.tensor_shapes()?.into_iter();
    let lies_there = |name: &str| Part::of_tensor(name).is_some_and(|part| parts.contains(part));
    let shapes = shapes.filter(|(name, _)| is_trained(name) && lies_there(name));
    Ok(shapes.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum())
}

/// The feature maps of a batch, in bytes.
struct Maps {
    /// What the stem keeps: the images, its maps, the first unit's input. Where it is frozen, the first trained layer's input.
    stem: u64,
    /// The units behind the first part that is trained.
    units: Vec<UnitMaps>,
    /// What the head keeps.
    head: u64,
    /// Alive at once in the frozen layers in front, of which nothing is kept.
    in_front: u64,
}

struct UnitMaps {
    /// `x_l`.
    input: u64,
    /// `x_{l+1}`.
    output: u64,
    /// What is kept for the unit's backward pass besides its input, `x_{l+1}` included.
    kept: u64,
    /// The first convolution's output, if it can be computed again.
    first: u64,
    /// Gradients alive at once in the unit's backward pass.
    in_flight: u64,
}

/// Feature maps and gradients alive at the moment when they are most.
#[derive(Clone, Copy, Default)]
struct Peak {
    kept: u64,
    in_flight: u64,
}

impl Peak {
    fn total(self) -> u64 {
        self.kept + self.in_flight
    }

    fn or(self, other: Self) -> Self {
        if other.total() > self.total() { other } else { self }
    }
}

impl Maps {
    fn of(
        config: &ResNetConfig,
        plan: &Plan,
        workload: &Workload,
        summary: &Summary,
    ) -> Result<Self, NetworkError> {
        let layers = &summary.layers;
        let per_batch = |bytes: u64| bytes * workload.batch as u64;
        let units = layers.windows(2).zip(plan.stages.iter().flatten()).map(|(layers, plan)| {
            let [input, unit] = layers else { unreachable!("windows of two") };
            UnitMaps::of(plan, input, unit, config.trunk, workload.drops_in_units)
                .times(workload.batch as u64)
        });
        let whole = Self {
            stem: per_batch(layers[0].activation_bytes),
            units: units.collect(),
            head: per_batch(layers[layers.len() - 1].activation_bytes),
            in_front: 0,
        };
        let first = workload.frozen.first_besides(plan)?;
        Ok(whole.behind(first, plan.units_before(first)))
    }

    /// These maps where `first` is the first part that is trained, with so many units in front of it.
    fn behind(self, first: Part, units: usize) -> Self {
        if first == Part::Stem {
            return self;
        }
        let Self { stem, units: mut in_front, head, .. } = self;
        let behind = in_front.split_off(units);
        let output = in_front.last().map_or(0, |last| last.output);
        let input = behind.first().map_or(output, |unit| unit.input);
        let passed = in_front.iter().map(|unit| unit.input + unit.kept).max().unwrap_or_default();
        // Of what is in front of the classifier the mean alone is kept.
        let (stem_kept, head) = if first == Part::Classifier { (0, 0) } else { (input, head) };
        Self { stem: stem_kept, units: behind, head, in_front: passed.max(stem) }
    }

    /// These maps where each unit's first convolution is computed again.
    fn without_first_convolutions(&self) -> Self {
        let units =
            self.units.iter().map(|unit| UnitMaps { kept: unit.kept - unit.first, first: 0, ..*unit });
        Self { units: units.collect(), ..*self }
    }

    /// The peak of a backward pass by segments of `length` units, each after its units have been passed (again).
    /// Going back through unit u of a segment there are: the inputs of this segment and those before it, the maps
    /// of the segment's units up to u, and u's gradients.
    fn peak(&self, length: usize) -> Peak {
        let in_front = Peak { kept: self.in_front, in_flight: 0 };
        let Some(first) = self.units.first() else {
            let at_head = Peak { kept: self.stem + self.head, in_flight: 2 * self.head };
            return at_head.or(in_front);
        };
        let is_whole = length >= self.units.len();
        // By segments the stem is computed again at the end; its output is the first segment's input.
        let mut before = if is_whole { self.stem - first.input } else { 0 };
        let mut peak = Peak { kept: self.stem, in_flight: 2 * first.input }.or(in_front);
        for segment in self.units.chunks(length) {
            before += segment[0].input;
            let mut kept = before;
            for unit in segment {
                kept += unit.kept;
                peak = peak.or(Peak { kept, in_flight: unit.in_flight });
            }
        }
        let last = &self.units[(self.units.len() - 1) / length * length..];
        let kept = before + last.iter().map(|unit| unit.kept).sum::<u64>() + self.head;
        // In the head: the gradients of its own map and of its input.
        peak.or(Peak { kept, in_flight: 2 * self.head })
    }

    /// The length of the segments that take least; the longest of equals, as there is less to keep track of.
    fn leanest_segment(&self) -> usize {
        (1..=self.units.len()).rev().min_by_key(|&length| self.peak(length).total()).unwrap_or(1)
    }
}

impl UnitMaps {
    /// For one image.
    fn of(
        plan: &UnitPlan,
        input: &LayerSummary,
        unit: &LayerSummary,
        trunk: Trunk,
        drops_inside: bool,
    ) -> Self {
        let bytes = |[channels, height, width]: [usize; 3]| VALUE_BYTES * (channels * height * width) as u64;
        let on_trunk = |shape: [usize; 3]| bytes(shape) / VALUE_BYTES * trunk.bytes();
        let shape = |layer: &LayerSummary| [layer.output[0], layer.output[1], layer.output[2]];
        let [_, height, width] = shape(input);
        let mut stride = 1;
        let inner = plan.convolutions.iter().map(|convolution| {
            stride *= convolution.stride;
            bytes([convolution.outputs, height.div_ceil(stride), width.div_ceil(stride)])
        });
        let inner: Vec<u64> = inner.collect();
        // The gradients of two neighbouring maps between the branch's convolutions are alive at once.
        let between = &inner[..inner.len() - 1];
        let branch = between.windows(2).map(|pair| pair[0] + pair[1]).max().or(between.first().copied());
        let activation = if plan.entry == Entry::BothActivated { bytes(shape(input)) } else { 0 };
        // What is dropped, the map it is dropped from and what is left; on the way back their gradients.
        let last_between = between.last().copied().unwrap_or_default();
        let (dropped, dropping) = if drops_inside { (3 * last_between, 2 * last_between) } else { (0, 0) };
        let is_one_operation = plan.adds_paths_unweighted() && !drops_inside;
        // A weighted sum's gradient becomes those of its terms and of a gate.
        let weighted = if plan.adds_paths_unweighted() { 0 } else { 3 * bytes(shape(unit)) };
        // The gradient of a normalised input is finished in f32 before it is rounded, but by 1x1 convolutions.
        let is_finished_apart = trunk != Trunk::F32 && plan.convolutions[0].size > 1;
        let unrounded = if is_finished_apart { bytes(shape(input)) } else { 0 };
        let gradients = on_trunk(shape(unit)) + on_trunk(shape(input)) + unrounded;
        Self {
            input: on_trunk(shape(input)),
            output: on_trunk(shape(unit)),
            kept: unit.activation_bytes + dropped,
            first: if is_one_operation && inner.len() > 1 { inner[0] } else { 0 },
            in_flight: gradients + branch.unwrap_or(0) + activation + weighted + dropping,
        }
    }

    fn times(self, batch: u64) -> Self {
        Self {
            input: batch * self.input,
            output: batch * self.output,
            kept: batch * self.kept,
            first: batch * self.first,
            in_flight: batch * self.in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    fn network(model: &str) -> ResNetConfig {
        NetworkOptions::named(model).resolve(10).unwrap()
    }

    #[test]
    fn each_mode_takes_less_than_the_one_before() {
        for model in ["preresnet20", "preresnet164", "preresnet1001", "preresnet50"] {
            let size = if model == "preresnet50" { 224 } else { 32 };
            let peaks: Vec<_> = Memory::ALL
                .iter()
                .map(|&memory| MemoryPlan::of(&network(model), 32, size, size, memory).unwrap().peak_bytes)
                .collect();
            assert!(peaks.is_sorted_by(|faster, slower| faster > slower), "{model}: {peaks:?}");
        }
    }

    /// Where all units keep the same, lean's memory grows with the root of the depth: four times the units take
    /// twice the maps.
    #[test]
    fn lean_grows_with_the_root_of_the_depth() {
        let maps = |units| Maps {
            stem: 4,
            units: (0..units)
                .map(|_| UnitMaps { input: 4, output: 4, kept: 4, first: 0, in_flight: 0 })
                .collect(),
            head: 0,
            in_front: 0,
        };
        for (units, root) in [(16, 4), (64, 8), (256, 16)] {
            let length = maps(units).leanest_segment();
            assert_eq!(maps(units).peak(length).total(), 4 * 2 * root, "{units}");
        }
    }

    #[test]
    fn the_whole_network_as_one_segment_keeps_everything() {
        let network = network("preresnet164");
        let plan = network.plan().unwrap();
        let summary = network.summary_of(&plan, 32, 32).unwrap();
        let maps = Maps::of(&network, &plan, &Workload::new(3, 32, 32), &summary).unwrap();
        let kept = network.summary(32, 32).unwrap().activation_bytes_per_image * 3;
        assert_eq!(maps.peak(maps.units.len()).kept, kept);
    }
}
