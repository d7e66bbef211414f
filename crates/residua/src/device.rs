//! Where a network runs: the CPU, or a GPU that the build and the machine have; and how much memory is free there.

mod limits;

use std::fmt;
use std::panic;
use std::str::FromStr;

use burn::tensor::Tensor;

pub use burn::tensor::Device;
use residua_kernels::{Algorithm, Instructions, UnknownAlgorithm, UnknownInstructions};
use sysinfo::{MemoryRefreshKind, System};
use thiserror::Error;

use residua_infer::choice::{Choice, Choices, UnknownChoice};
use residua_infer::serde_as_string;

/// A device by name: `cpu`, `cuda`, `cuda:1`, `vulkan`, `wgpu`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, by Burn's backend Flex.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its index, or the first (Cargo feature `cuda`).
    Cuda(Option<usize>),
    /// A device that Vulkan lists, by its index, or the first; shaders are compiled to SPIR-V (Cargo feature `vulkan`).
    Vulkan(Option<usize>),
    /// A device of the system's graphics interface (Metal, DirectX, Vulkan), by its index, or the first; shaders go through WGSL
    /// (Cargo feature `wgpu`).
    Wgpu(Option<usize>),
}

/// A device that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is unknown.
    #[error(transparent)]
    Unknown(#[from] UnknownChoice),
    /// What follows the colon is no index.
    #[error("device '{given}': '{index}' is no device index; write {kind} or {kind}:N, such as {kind}:0")]
    Index {
        /// The name that was given.
        given: String,
        /// The part before the colon.
        kind: &'static str,
        /// The part after the colon.
        index: String,
    },
    /// The Cargo feature is off.
    #[error("this build of residua has no {feature} support, which is the Cargo feature `{feature}`")]
    NotBuilt {
        /// The feature that is missing.
        feature: &'static str,
    },
    /// The environment asks the processor for instructions that it lacks.
    #[error(transparent)]
    Instructions(#[from] UnknownInstructions),
    /// The environment asks for a way of computing convolutions that there is not.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// The machine has no such device, or its driver does not work.
    #[error("no device {device} on this machine ({reason}); check the driver")]
    Unavailable {
        /// The device that was asked for.
        device: DeviceChoice,
        /// What the driver said.
        reason: String,
    },
}

impl DeviceChoice {
    /// The device, without autodiff, after a small computation has run on it.
    ///
    /// # Errors
    /// When the build or the machine lacks it.
    pub fn open(self) -> Result<Device, DeviceError> {
        let make = self.constructor()?;
        self.check_environment()?;
        if self == Self::Cpu {
            return Ok(make());
        }
        // The GPU backends panic where there is no device or no driver; here that is an ordinary answer.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let attempt = panic::catch_unwind(move || {
            let device = make();
            let sum = Tensor::<1>::ones([4], &device).sum().into_data().convert::<f32>();
            (device, sum.try_into_vec::<f32>().ok())
        });
        panic::set_hook(hook);
        match attempt {
            Ok((device, Some(sum))) if sum == [4.] => Ok(device),
            Ok(_) => {
                Err(DeviceError::Unavailable { device: self, reason: "it computes 1+1+1+1 wrongly".into() })
            }
            Err(payload) => {
                Err(DeviceError::Unavailable { device: self, reason: first_line(payload.as_ref()) })
            }
        }
    }

    /// The same for one of several processes on a host: where no index is given, the device of the process's own number there.
    pub fn of_process(self, number: usize) -> Self {
        let index = |given: Option<usize>| given.or(Some(number));
        match self {
            Self::Cpu => Self::Cpu,
            Self::Cuda(given) => Self::Cuda(index(given)),
            Self::Vulkan(given) => Self::Vulkan(index(given)),
            Self::Wgpu(given) => Self::Wgpu(index(given)),
        }
    }

    /// Checks what the environment says of computing on this device.
    ///
    /// # Errors
    /// When it asks the processor for what there is not.
    pub fn check_environment(self) -> Result<(), DeviceError> {
        if self == Self::Cpu {
            Instructions::choice()?;
            Algorithm::choice()?;
        }
        Ok(())
    }

    fn constructor(self) -> Result<Box<dyn FnOnce() -> Device + panic::UnwindSafe>, DeviceError> {
        match self {
            Self::Cpu => Ok(Box::new(Device::flex)),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Ok(Box::new(move || Device::cuda(index.unwrap_or(0)))),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { feature: "cuda" }),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(index) => Ok(Box::new(move || Device::vulkan(kind(index.unwrap_or(0))))),
            #[cfg(not(feature = "vulkan"))]
            Self::Vulkan(_) => Err(DeviceError::NotBuilt { feature: "vulkan" }),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => Ok(Box::new(move || Device::wgpu(kind(index.unwrap_or(0))))),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(_) => Err(DeviceError::NotBuilt { feature: "wgpu" }),
        }
    }
}

/// Bytes of memory that are free for this process now: what the machine has, and what the tightest of its limits leaves, those of its
/// control group and of all around it, and of its address space and data (`ulimit`). None where it is unknown: on a GPU.
pub fn free_memory(device: &Device) -> Option<u64> {
    if *device != Device::flex() {
        return None;
    }
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let of_machine = Some(system.available_memory()).filter(|&bytes| bytes > 0)?;
    Some(limits::free_under_limits().map_or(of_machine, |free| free.min(of_machine)))
}

/// The largest resident memory that this process has had.
pub fn peak_memory_bytes() -> Option<u64> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        // Apple counts bytes, everyone else KiB.
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        u64::try_from(usage.max_rss()).ok().map(|size| size * unit)
    }
    #[cfg(not(unix))]
    None
}

/// The first is whichever the system prefers (a software driver too); others are counted among the discrete GPUs.
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn kind(index: usize) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    if index == 0 { DeviceKind::DefaultDevice } else { DeviceKind::DiscreteGpu(index) }
}

fn first_line(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("the driver failed");
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("the driver failed").trim().to_owned()
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, index) = match self {
            Self::Cpu => ("cpu", &None),
            Self::Cuda(index) => ("cuda", index),
            Self::Vulkan(index) => ("vulkan", index),
            Self::Wgpu(index) => ("wgpu", index),
        };
        match index {
            None => formatter.write_str(kind),
            Some(index) => write!(formatter, "{kind}:{index}"),
        }
    }
}

impl Choices for DeviceChoice {
    const CHOICES: &'static [Choice] = &[
        Choice::new("cpu", "the processor"),
        Choice::new(
            "cuda[:N]",
            "the NVIDIA GPU of index N (default: the first; under MPI, of the process's number on its host), in a build with the Cargo feature `cuda`",
        ),
        Choice::new("vulkan[:N]", "a device that Vulkan lists, in a build with the feature `vulkan`"),
        Choice::new("wgpu[:N]", "a device of Metal, DirectX or Vulkan, in a build with the feature `wgpu`"),
    ];
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, index) = text.split_once(':').map_or((text, None), |(kind, index)| (kind, Some(index)));
        let parse = |kind: &'static str| match index {
            None => Ok(None),
            Some(index) => index.parse().map(Some).map_err(|_| DeviceError::Index {
                given: text.to_owned(),
                kind,
                index: index.to_owned(),
            }),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", _) => parse("cuda").map(Self::Cuda),
            ("vulkan", _) => parse("vulkan").map(Self::Vulkan),
            ("wgpu", _) => parse("wgpu").map(Self::Wgpu),
            _ => Err(UnknownChoice::new("device", text, &Self::words()).into()),
        }
    }
}

serde_as_string!(DeviceChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written() {
        for (text, written) in
            [("cpu", "cpu"), ("cuda", "cuda"), ("cuda:3", "cuda:3"), ("vulkan:0", "vulkan:0")]
        {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), written);
        }
        let of_process = |text: &str| text.parse::<DeviceChoice>().unwrap().of_process(2).to_string();
        assert_eq!(["cpu", "cuda", "wgpu:0"].map(of_process), ["cpu", "cuda:2", "wgpu:0"]);
        assert!("cdua".parse::<DeviceChoice>().unwrap_err().to_string().contains("did you mean 'cuda'?"));
        assert!("cuda:x".parse::<DeviceChoice>().unwrap_err().to_string().contains("write cuda or cuda:N"));
        assert!("cpu:1".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn free_memory_is_counted_in_bytes() {
        let free = free_memory(&Device::flex()).unwrap();
        assert!((1 << 24..1 << 50).contains(&free), "{free}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_the_build_lacks_is_an_error() {
        let error = DeviceChoice::Cuda(None).open().unwrap_err().to_string();
        assert!(error.contains("no cuda support, which is the Cargo feature `cuda`"), "{error}");
    }
}
