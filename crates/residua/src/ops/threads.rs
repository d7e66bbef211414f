//! The threads that operations run on.

use burn::tensor::Device;

/// Runs `work`, many operations on `device`, where they take least time: on the CPU on a thread of the pool, whose other
/// threads stay awake meanwhile. From outside, every operation would put this thread to sleep and wake another.
pub(crate) fn with_threads_awake<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if is_cpu(device) { residua_kernels::with_threads_awake(work) } else { work() }
}

/// Whether the kernels run on this device, perhaps under autodiff.
pub(crate) fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}
