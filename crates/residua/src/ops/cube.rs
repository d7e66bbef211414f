//! GPUs run the operations as they are composed.

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
impl super::ResidualBackend for burn::backend::Cube {}
