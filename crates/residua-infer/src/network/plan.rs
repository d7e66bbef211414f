//! The layers of a network, counted before any tensor is made: what initialisation, the summary and the forward
//! pass agree on.

use std::num::NonZeroUsize;

use super::config::{ResNetConfig, imagenet_units};
use super::error::NetworkError;
use super::variants::{Block, DimensionChange, Layout, Ordering, Shortcut, StridePlacement, Trunk};

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

/// Stand-alone convolution, optional BN and ReLU, optional max pooling (3x3, stride 2).
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
    /// Channels of the BN that belongs to each convolution: in front of it (full pre-activation) or behind it. `None`
    /// where the activation in front of the unit has been made already.
    pub norms: Vec<Option<usize>>,
    /// What the unit does with its input before the paths split.
    pub entry: Entry,
    /// The 1x1 convolution on the shortcut, if there is one, and whether BN follows it.
    pub projection: Option<(ConvolutionPlan, bool)>,
    /// The 1x1 convolution (with bias) that makes the gate, if the shortcut is gated.
    pub gate: Option<ConvolutionPlan>,
    /// Placement of BN and ReLU.
    pub ordering: Ordering,
    /// What stands on the shortcut.
    pub shortcut: Shortcut,
}

/// What a unit does with its input before it splits into branch and shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Both paths take the input as it is; a pre-activated branch makes its own first activation.
    Raw,
    /// The input is activated once and feeds both paths: the first unit of a pre-activation network, and its units
    /// that project.
    Activated,
    /// The input is activated already: the first unit of an ImageNet pre-activation network.
    AlreadyActivated,
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
        self.shortcut.adds_unweighted()
    }

    /// Stride of the whole unit.
    pub fn stride(&self) -> usize {
        self.convolutions.iter().map(|convolution| convolution.stride).product()
    }
}

impl ResNetConfig {
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
        if self.stride_placement == StridePlacement::Middle && self.block != Block::Bottleneck {
            return Err(NetworkError::NoMiddleConvolution { block: self.block });
        }
        if self.trunk == Trunk::Bf16 && !self.shortcut.adds_unweighted() {
            return Err(NetworkError::Trunk { shortcut: self.shortcut.to_string() });
        }
        self.units_of_stages().map(drop)
    }

    /// The layers of this network.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn plan(&self) -> Result<Plan, NetworkError> {
        self.check()?;
        let expansion = if self.block == Block::Bottleneck { 4 } else { 1 };
        // Every stage is twice as wide as the one before it.
        let first = match self.layout {
            Layout::Cifar => 16,
            Layout::ImageNet => 64,
        };
        let mut inputs = first;
        let mut stages = Vec::new();
        for (stage, count) in self.units_of_stages()?.into_iter().enumerate() {
            let width = first << stage;
            let outputs = width * expansion;
            let mut stage_units = Vec::with_capacity(count);
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                stage_units.push(self.unit(inputs, outputs, stride, stage == 0 && index == 0));
                inputs = outputs;
            }
            stages.push(stage_units);
        }
        let is_full_preactivation = self.ordering == Ordering::FullPreActivation;
        Ok(Plan {
            stem: self.stem(first),
            stages,
            head: HeadPlan {
                features: inputs,
                has_norm: is_full_preactivation,
                is_activated: self.ordering.is_preactivated(),
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

    fn stem(&self, outputs: usize) -> StemPlan {
        match self.layout {
            Layout::Cifar => StemPlan {
                convolution: ConvolutionPlan { inputs: 3, outputs, size: 3, stride: 1 },
                has_norm: self.ordering != Ordering::FullPreActivation,
                is_activated: !self.ordering.is_preactivated(),
                has_pooling: false,
            },
            Layout::ImageNet => StemPlan {
                convolution: ConvolutionPlan { inputs: 3, outputs, size: 7, stride: 2 },
                has_norm: true,
                is_activated: true,
                has_pooling: true,
            },
        }
    }

    fn unit(&self, inputs: usize, outputs: usize, stride: usize, is_first: bool) -> UnitPlan {
        let convolution = |inputs, outputs, size, stride| ConvolutionPlan { inputs, outputs, size, stride };
        let convolutions = match self.block {
            Block::Single => vec![convolution(inputs, outputs, 3, stride)],
            Block::Basic => {
                vec![convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)]
            }
            Block::Bottleneck => {
                let inner = outputs / 4;
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
        let changes = stride != 1 || inputs != outputs;
        let projects =
            self.shortcut == Shortcut::Conv1x1 || (changes && self.dimensions == DimensionChange::B);
        let entry = match (self.ordering.is_preactivated(), is_first, self.layout) {
            (true, true, Layout::ImageNet) => Entry::AlreadyActivated,
            (true, true, Layout::Cifar) => Entry::Activated,
            (true, false, _) if projects => Entry::Activated,
            _ => Entry::Raw,
        };
        let is_full_preactivation = self.ordering == Ordering::FullPreActivation;
        let norms = convolutions
            .iter()
            .enumerate()
            .map(|(index, convolution)| match (is_full_preactivation, index, entry) {
                (true, 0, Entry::AlreadyActivated) => None,
                (true, ..) => Some(convolution.inputs),
                (false, ..) => Some(convolution.outputs),
            })
            .collect();
        let across = convolution(inputs, outputs, 1, stride);
        let is_gated =
            matches!(self.shortcut, Shortcut::ExclusiveGating { .. } | Shortcut::ShortcutOnlyGating { .. });
        UnitPlan {
            convolutions,
            norms,
            entry,
            projection: projects.then_some((across, self.ordering.normalises_branch_output())),
            gate: is_gated.then_some(across),
            ordering: self.ordering,
            shortcut: self.shortcut,
        }
    }
}
