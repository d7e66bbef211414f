#![doc = include_str!("../README.md")]

mod awake;
mod backward;
mod convolution;
mod direct;
mod elementwise;
mod flow;
mod instructions;
mod loss;
mod map;
mod multiply;
mod norm;
mod operands;
mod plane;
mod pooling;
mod product;
mod scratch;
mod sgd;
mod sigmoid;
mod sink;
mod source;
mod transform;
mod vector;
mod view;
mod weighted;
mod winograd;

pub use awake::with_threads_awake;
pub use convolution::{Algorithm, Convolution};
pub use elementwise::{Merge, SumGradient, finish_gradient, finish_gradient_in_place, moments};
pub use instructions::{Instructions, UnknownInstructions, VARIABLE};
pub use loss::cross_entropy;
pub use map::MapShape;
pub use norm::{Normalisation, NormalisationGradient};
pub use operands::{Input, InputGradient, OutputGradient};
pub use pooling::{AveragePool, MaxPool};
pub use sgd::{Sgd, TrainedTensor};
pub use weighted::{GateGradient, WeightedMerge, Weights};
