//! Inference without tensors: a trained network as a list of steps on plain memory, a few images at a time.
//!
//! [`Classifier`] is made of a network and its weights once: BN is folded into the convolutions it stands behind, or applied while the one
//! it stands before is read; what follows a convolution happens while its results are in registers; weights lie as the kernels
//! read them. A few images go through the whole network before the next ones begin (depth first), so that their feature maps stay in the caches.

mod benchmark;
mod classifier;
mod compile;
mod elementwise;
mod folded;
mod permits;
mod program;
mod weights;

pub use benchmark::{Latency, measure_classifier, measure_latency};
pub use classifier::Classifier;
