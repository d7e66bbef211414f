//! The layers of a network, counted before any tensor is made: what initialisation, the summary and the forward
//! pass agree on.

use std::num::NonZeroUsize;

use super::config::{ResNetConfig, imagenet_units};
use super::error::NetworkError;
use super::ordering::{Arrangement, Exit, Preactivation};
use super::shortcut::Weighting;
use super::variants::{Block, DimensionChange, Layout, StemPooling, StridePlacement, Trunk};
use crate::precision::Precision;

/// All layers of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// From the image to the first stage.
    pub stem: StemPlan,
    /// The residual units of every stage.
    pub stages: Vec<Vec<UnitPlan>>,
    /// What precedes the average pooling: the activation after the last unit of a pre-activation network.
    pub head: HeadPlan,
}

/// A convolution without bias; the padding is half its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionPlan {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub size: usize,
    /// Distance of neighbouring outputs in the input.
    pub stride: usize,
}

/// Stand-alone convolution, optional BN and ReLU, optional max pooling (3x3, stride 2, padded by 1), in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct StemPlan {
    /// The first convolution.
    pub convolution: ConvolutionPlan,
    /// Whether BN follows it.
    pub has_norm: bool,
    /// Whether ReLU follows.
    pub is_activated: bool,
    /// Whether max pooling follows.
    pub has_pooling: bool,
}

/// One residual unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitPlan {
    /// The convolutions of the branch, in order.
    pub convolutions: Vec<ConvolutionPlan>,
    /// The batch normalisations of the branch.
    pub norms: BranchNorms,
    /// What the unit does with its input before the paths split.
    pub entry: Entry,
    /// What follows the last convolution.
    pub exit: Exit,
    /// The 1x1 convolution on the shortcut, if there is one, and whether BN follows it.
    pub projection: Option<(ConvolutionPlan, bool)>,
    /// What the paths are multiplied by before they are added.
    pub weighting: Weighting,
}

/// The batch normalisations of a branch, by where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchNorms {
    /// In front of the first convolution.
    pub entrance: Option<NormPlan>,
    /// Between the convolutions, one less than there are of these.
    pub inner: Vec<NormPlan>,
    /// Behind the last convolution or the addition, as the exit says.
    pub exit: Option<NormPlan>,
}

/// A batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormPlan {
    /// Its number among those that such a branch has, from 1 on: it is named by it.
    pub number: usize,
    /// Channels of the map that it normalises.
    pub channels: usize,
}

/// What the two paths of a unit read of its input `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Both read `x`: units without pre-activation, and the first of an ImageNet pre-activation network whose stem activates
    /// its input.
    Raw,
    /// The branch reads `relu(norm(x))`, normalised where it has a norm at its entrance; the shortcut reads `x`.
    BranchActivated,
    /// Both read `relu(norm(x))`: the first unit of a CIFAR pre-activation network, and the units that project in any.
    BothActivated,
}

/// Activation, global average pooling, classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadPlan {
    /// Channels of the last stage: inputs of the classifier.
    pub features: usize,
    /// Whether BN precedes the pooling.
    pub has_norm: bool,
    /// Whether ReLU precedes the pooling.
    pub is_activated: bool,
    /// Outputs of the classifier.
    pub classes: usize,
}

impl BranchNorms {
    /// Those of a branch of these convolutions. A branch that is pre-activated with BN counts the one at its entrance even where
    /// `has_entrance` says that it is made already.
    fn of(
        convolutions: &[ConvolutionPlan],
        preactivation: Preactivation,
        exit: Exit,
        has_entrance: bool,
    ) -> Self {
        let maps = convolutions.iter().map(|convolution| convolution.inputs);
        let behind = convolutions.last().map(|convolution| convolution.outputs);
        let first = if preactivation.has_norm() { 1 } else { 0 };
        let mut norms =
            maps.chain(behind).enumerate().map(|(map, channels)| NormPlan { number: first + map, channels });
        Self {
            entrance: norms.next().filter(|_| preactivation.has_norm() && has_entrance),
            inner: norms.by_ref().take(convolutions.len() - 1).collect(),
            exit: norms.next().filter(|_| exit.has_norm()),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = NormPlan> {
        self.entrance.iter().chain(&self.inner).chain(&self.exit).copied()
    }
}

impl NormPlan {
    /// Its name in weight files, within its unit: `norm1` and so on.
    pub fn name(&self) -> String {
        format!("norm{}", self.number)
    }
}

impl UnitPlan {
    /// Channels of the unit's input.
    pub fn inputs(&self) -> usize {
        self.convolutions[0].inputs
    }

    /// Channels of the unit's output.
    pub fn outputs(&self) -> usize {
        self.convolutions[self.convolutions.len() - 1].outputs
    }

    /// Whether branch and shortcut are added as they are, neither scaled nor gated nor dropped: units that are one operation.
    pub fn adds_paths_unweighted(&self) -> bool {
        self.weighting == Weighting::None
    }

    /// The 1x1 convolution (with bias) that makes the gate, if the paths are gated.
    pub fn gate(&self) -> Option<ConvolutionPlan> {
        match self.weighting {
            Weighting::Gate { .. } => {
                let (inputs, outputs, stride) = (self.inputs(), self.outputs(), self.stride());
                Some(ConvolutionPlan { inputs, outputs, size: 1, stride })
            }
            Weighting::None | Weighting::Constant { .. } | Weighting::Mask { .. } => None,
        }
    }

    /// Weights of its convolutions, projection and gate included.
    fn weights(&self) -> u64 {
        let projection = self.projection.as_ref().map(|(convolution, _)| *convolution);
        let convolutions = self.convolutions.iter().copied().chain(projection).chain(self.gate());
        convolutions.map(|convolution| convolution.weights()).sum()
    }

    /// Stride of the whole unit.
    pub fn stride(&self) -> usize {
        self.convolutions.iter().map(|convolution| convolution.stride).product()
    }
}

impl ConvolutionPlan {
    fn weights(&self) -> u64 {
        (self.inputs * self.outputs * self.size * self.size) as u64
    }
}

/// Channels of a stage, and what comes into it.
#[derive(Debug, Clone, Copy)]
struct StagePlan {
    inputs: usize,
    /// What every unit puts out.
    outputs: usize,
    /// Between the convolutions of bottleneck units.
    inner: usize,
    units: usize,
    /// Whether it is the first of the network, which keeps the resolution.
    is_first: bool,
}

impl ResNetConfig {
    /// The most that the channels of stages can be multiplied by.
    pub const MOST_WIDTH: usize = 1024;

    /// The largest depth: names of networks have six digits.
    pub const MOST_DEPTH: usize = 999_999;

    /// The most weights that the convolutions of a wide network may have: counts of them, and of their multiply-adds for the largest
    /// images, stay far from overflowing.
    pub const MOST_WEIGHTS: u64 = 1 << 34;

    /// Checks that there is such a network. [`NetworkOptions::resolve`](super::NetworkOptions::resolve) has done so.
    ///
    /// # Errors
    /// Names what contradicts what.
    pub(super) fn check(&self) -> Result<(), NetworkError> {
        for (what, number) in
            [("the number of classes", self.classes), ("bn_group", self.bn_group.unwrap_or(1))]
        {
            if number == 0 {
                return Err(NetworkError::Zero { what });
            }
        }
        if self.depth > Self::MOST_DEPTH {
            return Err(NetworkError::TooDeep { depth: self.depth, most: Self::MOST_DEPTH });
        }
        if self.stride_placement == StridePlacement::Middle && self.block != Block::Bottleneck {
            return Err(NetworkError::NoMiddleConvolution { block: self.block });
        }
        let has_whole_preactivation = self.ordering.arrangement().preactivation.has_norm();
        if self.stem_pooling == StemPooling::First
            && (self.layout != Layout::ImageNet || !has_whole_preactivation)
        {
            return Err(NetworkError::PoolFirst { layout: self.layout, ordering: self.ordering });
        }
        if self.trunk == Trunk::Bf16 && self.shortcut.weighting() != Weighting::None {
            return Err(NetworkError::Trunk { shortcut: self.shortcut.to_string() });
        }
        if self.precision != Precision::F32 && self.shortcut.weighting() != Weighting::None {
            return Err(NetworkError::Precision { shortcut: self.shortcut.to_string() });
        }
        if self.width == 0 || self.width > Self::MOST_WIDTH {
            return Err(NetworkError::Width { given: self.width, most: Self::MOST_WIDTH });
        }
        self.check_weights()
    }

    /// Checks that a wide network has a number of weights that can be counted with. The others are bounded by their depth.
    fn check_weights(&self) -> Result<(), NetworkError> {
        let (depth, width, most) = (self.depth, self.width, Self::MOST_WEIGHTS);
        let of_stage = |stage: &StagePlan| {
            let later = if stage.units > 1 { self.unit(stage, 1).weights() } else { 0 };
            self.unit(stage, 0).weights() + (stage.units as u64 - 1) * later
        };
        let stages = self.stages()?;
        let weights = if width == 1 { 0 } else { stages.iter().map(of_stage).sum() };
        if weights > most { Err(NetworkError::TooLarge { width, depth, weights, most }) } else { Ok(()) }
    }

    /// The layers of this network.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn plan(&self) -> Result<Plan, NetworkError> {
        self.check()?;
        let stages = self.stages()?;
        let features = stages.last().map_or(0, |stage| stage.outputs);
        let units = |stage: &StagePlan| (0..stage.units).map(|index| self.unit(stage, index)).collect();
        let before_pooling = self.ordering.arrangement().preactivation;
        Ok(Plan {
            stem: self.stem(),
            stages: stages.iter().map(units).collect(),
            head: HeadPlan {
                features,
                has_norm: before_pooling.has_norm(),
                is_activated: before_pooling.is_activated(),
                classes: self.classes,
            },
        })
    }

    /// Checks that the strides divide an input of `height` x `width` pixels.
    ///
    /// # Errors
    /// When they do not; the error says which sizes work.
    pub fn check_input(&self, height: usize, width: usize) -> Result<(), NetworkError> {
        let multiple = self.total_stride();
        if [height, width].iter().any(|&side| side == 0 || !side.is_multiple_of(multiple)) {
            return Err(NetworkError::InputSize { height, width, layout: self.layout, multiple });
        }
        Ok(())
    }

    /// The least number of images, but not below `images`, that batch normalisation can cut into its groups.
    pub fn whole_groups(&self, images: NonZeroUsize) -> NonZeroUsize {
        let whole = images.get().next_multiple_of(self.group().get());
        NonZeroUsize::new(whole).unwrap_or(images)
    }

    /// What numbers of images batch normalisation can cut into its groups: the multiples of this.
    pub fn group(&self) -> NonZeroUsize {
        self.bn_group.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
    }

    /// Checks that batch statistics can be taken of a training batch.
    ///
    /// # Errors
    /// When groups do not divide the batch, or leave one value per channel.
    pub fn check_batch(&self, batch: usize, height: usize, width: usize) -> Result<(), NetworkError> {
        let group = self.bn_group.unwrap_or(batch);
        if batch == 0 || !batch.is_multiple_of(group) {
            return Err(NetworkError::BatchGroup { batch, group });
        }
        let stride = self.total_stride();
        if group * height * width == stride * stride {
            return Err(NetworkError::SingleValue { group, height, width });
        }
        Ok(())
    }

    /// Pixels of the input, along each side, to one of the last stage.
    fn total_stride(&self) -> usize {
        match self.layout {
            Layout::Cifar => 4,
            Layout::ImageNet => 32,
        }
    }

    /// Channels of the stem, and of the first stage's inner maps at width 1.
    fn first_channels(&self) -> usize {
        match self.layout {
            Layout::Cifar => 16,
            Layout::ImageNet => 64,
        }
    }

    fn stages(&self) -> Result<Vec<StagePlan>, NetworkError> {
        let first = self.first_channels();
        let mut inputs = first;
        let stages = self.units_of_stages()?.into_iter().enumerate().map(|(stage, units)| {
            // Every stage is twice as wide as the one before it.
            let base = first << stage;
            let inner = base * self.width;
            let outputs = if self.block == Block::Bottleneck { 4 * base } else { inner };
            let inputs = std::mem::replace(&mut inputs, outputs);
            StagePlan { inputs, outputs, inner, units, is_first: stage == 0 }
        });
        Ok(stages.collect())
    }

    fn units_of_stages(&self) -> Result<Vec<usize>, NetworkError> {
        match self.layout {
            Layout::Cifar => Ok(vec![self.cifar_units()?; 3]),
            Layout::ImageNet => Ok(self.imagenet_units()?.to_vec()),
        }
    }

    fn cifar_units(&self) -> Result<usize, NetworkError> {
        let per_unit = 3 * self.block.convolutions();
        let units = self.depth.saturating_sub(2) / per_unit;
        if units == 0 || self.depth != units * per_unit + 2 {
            return Err(NetworkError::CifarDepth {
                depth: self.depth,
                block: self.block,
                per_unit,
                below: units.max(1) * per_unit + 2,
                above: (units + 1) * per_unit + 2,
            });
        }
        Ok(units)
    }

    fn imagenet_units(&self) -> Result<[usize; 4], NetworkError> {
        let depth = self.depth;
        match imagenet_units(depth) {
            None => Err(NetworkError::ImageNetDepth { depth }),
            Some((expected, _)) if expected != self.block => {
                Err(NetworkError::ImageNetBlock { depth, expected, given: self.block })
            }
            Some((_, units)) => Ok(units),
        }
    }

    fn stem(&self) -> StemPlan {
        let outputs = self.first_channels();
        let of_units = self.ordering.arrangement().preactivation;
        match self.layout {
            Layout::Cifar => StemPlan {
                convolution: ConvolutionPlan { inputs: 3, outputs, size: 3, stride: 1 },
                has_norm: !of_units.has_norm(),
                is_activated: !of_units.is_activated(),
                has_pooling: false,
            },
            Layout::ImageNet => StemPlan {
                convolution: ConvolutionPlan { inputs: 3, outputs, size: 7, stride: 2 },
                has_norm: self.stem_pooling == StemPooling::Last,
                is_activated: self.stem_pooling == StemPooling::Last,
                has_pooling: true,
            },
        }
    }

    /// The unit of this number, from 0 on, in a stage.
    fn unit(&self, stage: &StagePlan, index: usize) -> UnitPlan {
        let StagePlan { outputs, inner, .. } = *stage;
        let inputs = if index == 0 { stage.inputs } else { outputs };
        let stride = if index == 0 && !stage.is_first { 2 } else { 1 };
        let is_first = index == 0 && stage.is_first;
        let convolution = |inputs, outputs, size, stride| ConvolutionPlan { inputs, outputs, size, stride };
        let convolutions = match self.block {
            Block::Single => vec![convolution(inputs, outputs, 3, stride)],
            Block::Basic => {
                vec![convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)]
            }
            Block::Bottleneck => {
                let (first, middle) = match self.stride_placement {
                    StridePlacement::First => (stride, 1),
                    StridePlacement::Middle => (1, stride),
                };
                vec![
                    convolution(inputs, inner, 1, first),
                    convolution(inner, inner, 3, middle),
                    convolution(inner, outputs, 1, 1),
                ]
            }
        };
        let Arrangement { preactivation, exit } = self.ordering.arrangement();
        let changes = stride != 1 || inputs != outputs;
        let projects = self.shortcut.projects() || (changes && self.dimensions == DimensionChange::B);
        let activates_both = projects || (is_first && self.layout == Layout::Cifar);
        let entry = match preactivation.is_activated() {
            false => Entry::Raw,
            true if is_first && self.stem().is_activated => Entry::Raw,
            true if activates_both => Entry::BothActivated,
            true => Entry::BranchActivated,
        };
        let across = convolution(inputs, outputs, 1, stride);
        UnitPlan {
            norms: BranchNorms::of(&convolutions, preactivation, exit, entry != Entry::Raw),
            convolutions,
            entry,
            exit,
            projection: projects.then_some((across, exit.normalises_branch())),
            weighting: self.shortcut.weighting(),
        }
    }
}
