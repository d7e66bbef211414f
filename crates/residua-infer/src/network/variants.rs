//! A network's frame: blocks, dimension changes, strides, layouts and the trunk, each named by one word.

use crate::words;

/// The convolutions of a residual branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// One 3x3 convolution (the single-layer units of the paper's Table 3).
    Single,
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1; the two inner feature maps have a quarter of the unit's channels, times the network's width.
    Bottleneck,
}

words!(Block, "block", {
    Single => "single": "one 3x3 convolution",
    Basic => "basic": "two 3x3 convolutions",
    Bottleneck => "bottleneck": "convolutions of 1x1, 3x3 and 1x1",
});

impl Block {
    /// Convolutions in the branch.
    pub const fn convolutions(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Basic => 2,
            Self::Bottleneck => 3,
        }
    }
}

/// What the shortcut does where a unit changes resolution or channels (options A and B of *Deep Residual
/// Learning*; its option C, projections everywhere, is [`Shortcut::Conv1x1`](super::Shortcut::Conv1x1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DimensionChange {
    /// Option A: every stride-th pixel, zero channels appended.
    A,
    /// Option B: a 1x1 projection.
    B,
}

words!(DimensionChange, "dimension change", {
    A => "a": "the identity, with channels of zeros",
    B => "b": "a 1x1 projection",
});

/// Which convolution of a bottleneck unit that halves the resolution has stride 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StridePlacement {
    /// The first 1x1 convolution, as in the papers.
    First,
    /// The 3x3 convolution, as in torchvision.
    Middle,
}

words!(StridePlacement, "stride placement", {
    First => "first": "the first 1x1, as in the papers",
    Middle => "middle": "the 3x3, as in torchvision",
});

/// The frame of stem and stages around the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 3x3 stem, three stages (paper section 3): inputs whose sides are multiples of 4.
    Cifar,
    /// 7x7/2 stem, 3x3/2 max pooling, four stages: inputs whose sides are multiples of 32.
    ImageNet,
}

words!(Layout, "layout", {
    Cifar => "cifar": "a 3x3 convolution, three stages",
    ImageNet => "imagenet": "a 7x7 convolution, pooling, four stages",
});

/// Where an ImageNet network's stem has its max pooling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum StemPooling {
    /// Behind the stem's BN and ReLU; the first pre-activation unit has none of its own.
    #[default]
    Last,
    /// Right behind the stem's convolution; BN and ReLU are the first unit's, as in timm's `resnetv2` networks.
    First,
}

words!(StemPooling, "stem", {
    Last => "pool-last": "convolution, BN, ReLU, max pooling",
    First => "pool-first": "convolution, max pooling; the first unit has BN and ReLU of its own, as in timm's resnetv2",
});

/// What training stores the feature maps between units in, and their gradients. Arithmetic is in f32, as are the maps inside
/// a unit, and all of evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Trunk {
    /// 24 significant bits.
    #[default]
    F32,
    /// bfloat16: 8 significant bits in half the memory, rounded after every addition.
    Bf16,
}

words!(Trunk, "trunk", {
    F32 => "f32": "24 significant bits",
    Bf16 => "bf16": "8 significant bits: less memory and time, rounded after every addition; with identity and conv1x1 shortcuts",
});

impl Trunk {
    /// Bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
