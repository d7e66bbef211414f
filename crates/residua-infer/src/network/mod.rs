//! What a network is: the choices that the paper compares, the configuration that they make, its layers in numbers, and what
//! these cost. No tensor is made.

mod architecture;
mod config;
mod error;
pub mod inception;
mod name;
mod ordering;
mod part;
mod plan;
mod shortcut;
mod summary;
mod tensors;
mod variants;

pub use architecture::Architecture;
pub use config::{NetworkOptions, ResNetConfig};
pub use error::NetworkError;
pub use inception::{InceptionConfig, InceptionCost};
pub use ordering::{Arrangement, Exit, Ordering, Preactivation};
pub use part::{Part, Parts};
pub use plan::{BranchNorms, ConvolutionPlan, Entry, HeadPlan, NormPlan, Plan, StemPlan, UnitPlan};
pub use shortcut::{Shortcut, ShortcutError, Weighting};
pub use summary::{LayerSummary, Summary, VALUE_BYTES};
pub use tensors::{NamedTensors, TensorValues, check_tensors, is_trained};
pub(crate) use tensors::{first_of, misfits};
pub use variants::{Block, DimensionChange, Layout, StemPooling, StridePlacement, Trunk};

/// Added to a variance before its square root is taken, in every batch normalisation of a residual network.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
