//! Residual networks: every ordering, shortcut, block and dimension change of the paper, for CIFAR and ImageNet.

mod config;
mod error;
mod inception;
mod initialise;
mod layers;
mod memory;
mod memory_choice;
mod pass;
mod plan;
mod resnet;
mod shapes;
mod summary;
mod unit;
mod variants;
mod weights;

pub use config::{NetworkOptions, ResNetConfig};
pub use error::NetworkError;
pub use inception::{InceptionCost, InceptionOutput, InceptionV3};
pub(crate) use layers::FeatureMap;
pub use layers::{BatchNorm, Classifier, Convolution, Gate, Projection};
pub use memory::{Memory, MemoryPlan};
pub use memory_choice::{MemoryChoice, MemoryChoiceError};
pub use pass::{Pass, UnitTrace};
pub use plan::{ConvolutionPlan, Entry, HeadPlan, Plan, StemPlan, UnitPlan};
pub use resnet::{ResNet, Stem};
pub use summary::{LayerSummary, Summary};
pub use unit::{Layer, ResidualUnit};
pub use variants::{
    Block, DimensionChange, Layout, Ordering, Shortcut, ShortcutError, StridePlacement, Trunk,
};
pub use weights::{NamedMapper, NamedTensors, NamedVisitor, TensorValues, is_trained};
