//! How fast networks train and classify here, how fast images are made, and in how much memory.

mod classifier;
mod inception;
mod loader;
mod training;

pub use classifier::{Latency, measure_classifier, measure_latency, random_ranges};
pub use inception::measure_inception;
pub use loader::measure_loader;
pub use training::{Benchmark, BenchmarkMode, Measurement};
