//! What memory is asked for: a mode by name, a size that training must fit in, or what is free.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::memory::{Memory, MemoryPlan, Workload};
use residua_infer::choice::{Choice, Choices, nearest, suggestion};
use residua_infer::network::{NetworkError, Parts, Plan, ResNetConfig};
use serde::{Deserialize, Serialize};

/// A mode, or the fastest mode that fits in a size or in what is free.
///
/// ```
/// use residua::nn::{Memory, MemoryChoice};
///
/// assert_eq!("lean".parse(), Ok(MemoryChoice::Mode(Memory::Lean)));
/// assert_eq!("1.5GiB".parse(), Ok(MemoryChoice::Within(1_610_612_736)));
/// assert!("much".parse::<MemoryChoice>().is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryChoice {
    /// The fastest that fits in the memory that is free.
    #[default]
    Auto,
    /// This one.
    Mode(Memory),
    /// The fastest that needs at most so many bytes.
    Within(u64),
}

/// A word that is neither a mode nor a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "'{given}' is neither a mode nor a size{}; write auto, fast, balanced, lean, or a size such as 4GiB, 2.5GB or 800MB",
    suggestion(nearest(.given, &MemoryChoice::words()))
)]
#[non_exhaustive]
pub struct MemoryChoiceError {
    /// The word as it was given.
    pub given: String,
}

/// Training that no mode, or not the one asked for, has memory for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// There is no such network, or it does not take such batches.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Training does not fit in the memory that is allowed or free.
    #[error(
        "training on batches of {batch} does not fit in {}{}: {}; make the batch smaller, {} more memory, or insist on \
         a mode by its name",
        in_words(*available),
        if *is_free { " of free memory" } else { "" },
        list(needed),
        if *is_free { "free" } else { "allow" }
    )]
    Exceeded {
        /// Images in the batch.
        batch: usize,
        /// Bytes that it must fit in.
        available: u64,
        /// Whether these are all that are free, and not those that were allowed.
        is_free: bool,
        /// Bytes that each mode needs.
        needed: Vec<(Memory, u64)>,
    },
}

fn list(needed: &[(Memory, u64)]) -> String {
    let needed = needed.iter().map(|(memory, bytes)| format!("{memory} {}", in_words(*bytes)));
    format!("it takes {}", needed.collect::<Vec<_>>().join(", "))
}

const AUTO: &str = "auto";

impl Choices for MemoryChoice {
    const CHOICES: &'static [Choice] = &[
        Choice::new(AUTO, "the fastest of the following that fits in the memory that is free"),
        Memory::CHOICES[Memory::Fast as usize],
        Memory::CHOICES[Memory::Balanced as usize],
        Memory::CHOICES[Memory::Lean as usize],
    ];
}

const UNITS: [(&str, f64); 6] = [
    ("KiB", 1024.),
    ("MiB", 1024. * 1024.),
    ("GiB", 1024. * 1024. * 1024.),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
];

impl MemoryChoice {
    /// The mode meant, for training `network` on batches of `batch` images of `height` x `width` pixels,
    /// where `free` bytes are free ([`free_memory`](crate::device::free_memory)); where that is unknown everything fits.
    ///
    /// # Errors
    /// When no mode fits in the size or in what is free, or the network does not take such batches.
    pub fn resolve(
        self,
        network: &ResNetConfig,
        batch: usize,
        height: usize,
        width: usize,
        free: Option<u64>,
    ) -> Result<Memory, MemoryError> {
        match self {
            Self::Mode(memory) => Ok(memory),
            _ => self.resolve_frozen(network, &Parts::default(), batch, height, width, free),
        }
    }

    /// As [`resolve`](Self::resolve), where these parts are frozen ([`ResNet::freeze`](super::ResNet::freeze)).
    ///
    /// # Errors
    /// As there, and when the network does not have one of these parts, or has no other.
    pub fn resolve_frozen(
        self,
        network: &ResNetConfig,
        frozen: &Parts,
        batch: usize,
        height: usize,
        width: usize,
        free: Option<u64>,
    ) -> Result<Memory, MemoryError> {
        let workload = Workload { frozen: frozen.clone(), ..Workload::new(batch, height, width) };
        self.resolve_plan(network, &network.plan()?, &workload, free)
    }

    /// As [`resolve_frozen`](Self::resolve_frozen), of layers that are planned already.
    pub(crate) fn resolve_plan(
        self,
        network: &ResNetConfig,
        plan: &Plan,
        workload: &Workload,
        free: Option<u64>,
    ) -> Result<Memory, MemoryError> {
        let available = match self {
            Self::Auto => free.unwrap_or(u64::MAX),
            Self::Mode(memory) => return Ok(memory),
            Self::Within(bytes) => bytes,
        };
        let mut needed = Vec::with_capacity(Memory::ALL.len());
        for &memory in Memory::ALL {
            let peak = MemoryPlan::of_plan(network, plan, workload, memory)?.peak_bytes;
            if peak <= available {
                return Ok(memory);
            }
            needed.push((memory, peak));
        }
        Err(MemoryError::Exceeded { batch: workload.batch, available, is_free: self == Self::Auto, needed })
    }
}

impl FromStr for MemoryChoice {
    type Err = MemoryChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        if let Ok(memory) = text.parse() {
            return Ok(Self::Mode(memory));
        }
        size(text).map(Self::Within).ok_or_else(|| MemoryChoiceError { given: text.to_owned() })
    }
}

impl fmt::Display for MemoryChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str(AUTO),
            Self::Mode(memory) => memory.fmt(formatter),
            Self::Within(bytes) => formatter.write_str(&in_words(*bytes)),
        }
    }
}

/// A size in bytes: a decimal number and its unit, in capitals or not.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_lowercase();
    let (_, scale) = UNITS.iter().find(|(name, _)| name.to_lowercase() == unit)?;
    let number = digits.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let bytes = number.parse::<f64>().ok()? * scale;
    (bytes >= 1. && bytes < 2f64.powi(63)).then_some(bytes as u64)
}

/// A size as people write it: `9.87GB`, `41.2MB`.
fn in_words(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2}GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1}MB", bytes as f64 / 1e6),
        _ => format!("{:.1}KB", bytes as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("2.5GB", 2_500_000_000),
            ("800MB", 800_000_000),
            ("800 mb", 800_000_000),
            (".5gib", 1 << 29),
            ("64KiB", 65_536),
        ] {
            assert_eq!(text.parse(), Ok(MemoryChoice::Within(bytes)), "{text}");
        }
        for text in
            ["", "4", "GB", "-4GB", "4GBB", "infGB", "1e3GB", "nanMB", "0GB", "4 TiB", "9999999999999GB", "."]
        {
            assert!(text.parse::<MemoryChoice>().is_err(), "{text}");
        }
        let error = "leen".parse::<MemoryChoice>().unwrap_err().to_string();
        assert!(error.contains("did you mean 'lean'?") && error.contains("such as 4GiB"), "{error}");
    }

    #[test]
    fn a_size_means_the_fastest_mode_that_fits() {
        let network = NetworkOptions::named("preresnet164").resolve(10).unwrap();
        let peak = |memory| MemoryPlan::of(&network, 128, 32, 32, memory).unwrap().peak_bytes;
        for &memory in Memory::ALL {
            let within = MemoryChoice::Within(peak(memory));
            assert_eq!(within.resolve(&network, 128, 32, 32, Some(1)), Ok(memory));
        }
        let within = MemoryChoice::Within(peak(Memory::Lean) - 1);
        let error = within.resolve(&network, 128, 32, 32, None).unwrap_err();
        let MemoryError::Exceeded { needed, .. } = &error else { panic!("{error}") };
        assert_eq!(needed.len(), Memory::ALL.len());
        assert!(error.to_string().contains(&format!("lean {}", in_words(peak(Memory::Lean)))), "{error}");
    }

    #[test]
    fn auto_means_the_fastest_mode_that_fits_in_what_is_free() {
        assert_eq!("auto".parse(), Ok(MemoryChoice::default()));
        let network = NetworkOptions::named("preresnet164").resolve(10).unwrap();
        let auto = |free| MemoryChoice::Auto.resolve(&network, 128, 32, 32, free);
        for &memory in Memory::ALL {
            let peak = MemoryPlan::of(&network, 128, 32, 32, memory).unwrap().peak_bytes;
            assert_eq!(auto(Some(peak)), Ok(memory));
        }
        assert_eq!(auto(None), Ok(Memory::Fast));
        let error = auto(Some(1_000_000)).unwrap_err().to_string();
        assert!(
            error.contains("does not fit in 1.0MB of free memory: it takes fast ")
                && error.contains("by its name"),
            "{error}"
        );
        let insisted = MemoryChoice::Mode(Memory::Fast).resolve(&network, 128, 32, 32, Some(1_000_000));
        assert_eq!(insisted, Ok(Memory::Fast));
    }
}
