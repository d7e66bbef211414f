//! Families of networks that others publish weights of: what they call their tensors, and what their weights go with.

use crate::cifar_classes::{CIFAR_10, CIFAR_100};
use crate::network::{
    Architecture, Block, DimensionChange, Layout, Ordering, ResNetConfig, Shortcut, StemPooling,
    StridePlacement,
};
use crate::normalisation::KnownNormalisation;
use crate::view::View;
use crate::words;

/// Whose names a network's tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// torchvision's and timm's `resnet18` to `resnet152`, `wide_resnet50_2` and `wide_resnet101_2`, and `inception_v3`.
    Torchvision,
    /// timm's `resnetv2` networks with BN.
    TimmV2,
    /// `cifar10_resnet*` and `cifar100_resnet*` of chenyaofo/pytorch-cifar-models.
    PyTorchCifarModels,
    /// `resnet20` to `resnet1202` of akamaster/pytorch_resnet_cifar10.
    Akamaster,
}

words!(Family, "family", {
    Torchvision => "torchvision": "torchvision's and timm's resnet18, 34, 50, 101, 152, wide_resnet50_2 and 101_2, inception_v3",
    TimmV2 => "timm-v2": "timm's resnetv2_18, 34, 50, 101 with batch normalisation",
    PyTorchCifarModels => "pytorch-cifar-models": "chenyaofo's cifar10_resnet20 to 56 and cifar100_resnet20 to 56",
    Akamaster => "akamaster": "akamaster's resnet20 to resnet1202 for CIFAR-10",
});

/// Where a family's residual networks differ from what their names mean here.
pub(super) struct Frame {
    pub(super) layout: Layout,
    pub(super) ordering: Ordering,
    pub(super) dimensions: DimensionChange,
    pub(super) stem_pooling: StemPooling,
}

impl Family {
    pub(super) const fn frame(self) -> Frame {
        let (layout, ordering, dimensions, stem_pooling) = match self {
            Self::Torchvision => {
                (Layout::ImageNet, Ordering::Original, DimensionChange::B, StemPooling::Last)
            }
            Self::TimmV2 => {
                (Layout::ImageNet, Ordering::FullPreActivation, DimensionChange::B, StemPooling::First)
            }
            Self::PyTorchCifarModels => {
                (Layout::Cifar, Ordering::Original, DimensionChange::B, StemPooling::Last)
            }
            Self::Akamaster => (Layout::Cifar, Ordering::Original, DimensionChange::A, StemPooling::Last),
        };
        Frame { layout, ordering, dimensions, stem_pooling }
    }

    /// Where the bottleneck units of this family have their stride.
    pub(super) const fn stride_placement(block: Block) -> StridePlacement {
        match block {
            Block::Bottleneck => StridePlacement::Middle,
            Block::Single | Block::Basic => StridePlacement::First,
        }
    }

    /// Whether this family has networks of such units that are wider than usual.
    pub(super) fn has_widths(self, block: Block) -> bool {
        self == Self::Torchvision && block == Block::Bottleneck
    }

    /// Whether a network is one of this family, so that its weights can be given this family's names.
    ///
    /// # Errors
    /// Says what is another in the family.
    pub fn check(self, network: &Architecture) -> Result<(), String> {
        match network {
            Architecture::ResNet(config) => self.check_residual(config),
            Architecture::InceptionV3(_) if self == Self::Torchvision => Ok(()),
            Architecture::InceptionV3(_) => Err(format!(
                "{} is none of the networks of {self}; it goes by the names of {}",
                network.name(),
                Self::Torchvision
            )),
        }
    }

    fn check_residual(self, network: &ResNetConfig) -> Result<(), String> {
        let Frame { layout, ordering, dimensions, stem_pooling } = self.frame();
        let of_block = Self::stride_placement(network.block);
        let other = |what: &str, given: &dyn ToString, expected: &dyn ToString| {
            Err(format!("networks of {self} have {what} {}, not {}", expected.to_string(), given.to_string()))
        };
        if network.layout != layout {
            other("layout", &network.layout, &layout)
        } else if network.ordering != ordering {
            other("ordering", &network.ordering, &ordering)
        } else if network.shortcut != Shortcut::Identity {
            other("shortcut", &network.shortcut, &Shortcut::Identity)
        } else if network.dimensions != dimensions {
            other("dimension change", &network.dimensions, &dimensions)
        } else if network.stem_pooling != stem_pooling {
            other("stem", &network.stem_pooling, &stem_pooling)
        } else if network.stride_placement != of_block {
            other("stride placement", &network.stride_placement, &of_block)
        } else if network.width != 1 && !self.has_widths(network.block) {
            Err(format!("{} units of {self} have width 1, not {}", network.block, network.width))
        } else if network.layout == Layout::Cifar && network.block != Block::Basic {
            other("units", &network.block, &Block::Basic)
        } else {
            Ok(())
        }
    }

    /// What this family calls a tensor of ours, such as `stages.0.1.conv2.weight`.
    pub(super) fn name_of(self, ours: &str) -> String {
        let parts: Vec<&str> = ours.split('.').collect();
        match (self, parts.as_slice()) {
            (Self::TimmV2, ["stages", stage, unit, "shortcut", "conv", rest]) => {
                format!("stages.{stage}.blocks.{unit}.downsample.conv.{rest}")
            }
            (Self::TimmV2, ["stages", stage, unit, rest @ ..]) => {
                format!("stages.{stage}.blocks.{unit}.{}", rest.join("."))
            }
            (Self::TimmV2, ["classifier", rest]) => format!("head.fc.{rest}"),
            (Self::TimmV2, _) => ours.to_owned(),
            (Self::Akamaster, ["classifier", rest]) => format!("linear.{rest}"),
            (_, ["classifier", rest]) => format!("fc.{rest}"),
            (_, ["stem", "conv", rest]) => format!("conv1.{rest}"),
            (_, ["stem", "norm", rest]) => format!("bn1.{rest}"),
            (_, ["stages", stage, unit, layer @ .., rest]) => {
                let stage = stage.parse().map_or(0, |stage: usize| stage + 1);
                let layer = match layer {
                    ["shortcut", "conv"] => "downsample.0".to_owned(),
                    ["shortcut", "norm"] => "downsample.1".to_owned(),
                    layer => layer.join(".").replace("norm", "bn"),
                };
                format!("layer{stage}.{unit}.{layer}.{rest}")
            }
            (_, _) => ours.to_owned(),
        }
    }

    /// The shape that this family gives a tensor of ours: timm's second kind has a convolution of 1x1 for a classifier.
    pub(super) fn shape_of(self, ours: &str, mut shape: Vec<usize>) -> Vec<usize> {
        if self == Self::TimmV2 && ours == "classifier.weight" {
            shape.extend([1, 1]);
        }
        shape
    }

    /// The stage and unit, from 0 on, that a tensor of this family's name belongs to, and its name within that.
    pub(super) fn unit_of(self, name: &str) -> Option<(usize, usize, &str)> {
        let (stage, rest) = match self {
            Self::TimmV2 => {
                let (stage, rest) = name.strip_prefix("stages.")?.split_once(".blocks.")?;
                (stage.parse().ok()?, rest)
            }
            Self::Torchvision | Self::PyTorchCifarModels | Self::Akamaster => {
                let (stage, rest) = name.strip_prefix("layer")?.split_once('.')?;
                (stage.parse::<usize>().ok()?.checked_sub(1)?, rest)
            }
        };
        let (unit, rest) = rest.split_once('.')?;
        Some((stage, unit.parse().ok()?, rest))
    }

    /// What the weights of this family's networks were trained with, unless someone says otherwise.
    pub(super) fn normalisation(self, network: &Architecture) -> KnownNormalisation {
        match (self, network) {
            (Self::TimmV2, _) | (_, Architecture::InceptionV3(_)) => KnownNormalisation::Half,
            // akamaster's networks saw CIFAR's images by ImageNet's numbers.
            (Self::Torchvision | Self::Akamaster, _) => KnownNormalisation::ImageNet,
            (Self::PyTorchCifarModels, _) if network.classes() == CIFAR_100.len() => {
                KnownNormalisation::Cifar100
            }
            (Self::PyTorchCifarModels, _) => KnownNormalisation::Cifar10,
        }
    }

    /// How its networks are shown pictures, unless someone says otherwise.
    pub(super) fn view(self, network: &Architecture) -> View {
        match (network, self.frame().layout) {
            (Architecture::InceptionV3(_), _) => View::square(299),
            (Architecture::ResNet(_), Layout::ImageNet) => View::square(224),
            (Architecture::ResNet(_), Layout::Cifar) => View::square(32),
        }
    }

    /// Names of the classes, where they are known.
    pub(super) fn class_names(self, classes: usize) -> Option<&'static [&'static str]> {
        let known = [CIFAR_10, CIFAR_100].into_iter().find(|names| names.len() == classes);
        known.filter(|_| self.frame().layout == Layout::Cifar)
    }
}
