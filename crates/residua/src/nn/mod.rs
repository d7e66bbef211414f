//! Residual networks as Burn modules: every ordering, shortcut, block and dimension change of the paper, for CIFAR and ImageNet.

mod inception;
mod initialise;
mod layers;
mod memory;
mod memory_choice;
mod pass;
mod resnet;
mod unit;
mod weights;

pub use inception::{InceptionOutput, InceptionV3};
pub(crate) use layers::FeatureMap;
pub use layers::{BatchNorm, Convolution, Gate, Linear, Projection};
pub use memory::{Memory, MemoryPlan};
pub(crate) use memory::{Workload, lean_segment};
pub use memory_choice::{MemoryChoice, MemoryChoiceError, MemoryError};
pub use pass::{Pass, UnitTrace};
pub use residua_infer::Precision;
pub use residua_infer::network::{
    Architecture, Arrangement, Block, BranchNorms, ConvolutionPlan, DimensionChange, Entry, Exit, HeadPlan,
    InceptionConfig, InceptionCost, LayerSummary, Layout, NamedTensors, NetworkError, NetworkOptions,
    NormPlan, Ordering, Part, Parts, Plan, Preactivation, ResNetConfig, Shortcut, ShortcutError, StemPlan,
    StemPooling, StridePlacement, Summary, TensorValues, Trunk, UnitPlan, Weighting, is_trained,
};
pub use resnet::{ResNet, Stem};
pub use unit::ResidualUnit;
pub use weights::NamedVisitor;
pub(crate) use weights::{NamedMapper, flat_tensor, values_of};
