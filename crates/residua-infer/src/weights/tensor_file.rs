//! Files of tensors, whoever has written them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::safetensors::decode;
use crate::file::{FileError, read_file};
use crate::network::NamedTensors;

/// What is in a file of tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorFile {
    /// How the file is built.
    pub container: Container,
    /// Its tensors of floating-point numbers, as `f32`. Those of nested dictionaries have the keys in front of their names:
    /// `state_dict.conv1.weight`.
    pub tensors: NamedTensors,
    /// Names of its tensors of other numbers, in order; their values are not read.
    pub others: Vec<String>,
    /// What a safetensors file says of itself.
    pub metadata: BTreeMap<String, String>,
}

/// How a file of tensors is built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Container {
    /// A header of JSON, then numbers.
    #[default]
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6.
    PyTorchZip,
    /// What `torch.save` wrote before.
    PyTorchStream,
    /// What `torch.save` wrote before 0.1.10.
    PyTorchTar,
    /// A pickle on its own.
    Pickle,
}

impl fmt::Display for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Safetensors => "safetensors file",
            Self::PyTorchZip => "PyTorch file (zip)",
            Self::PyTorchStream => "PyTorch file (stream, before 1.6)",
            Self::PyTorchTar => "PyTorch file (tar, before 0.1.10)",
            Self::Pickle => "pickle",
        })
    }
}

impl TensorFile {
    /// Reads a safetensors file; with the feature `pytorch` also what `torch.save` writes. What a file is, is told by its first
    /// bytes.
    ///
    /// # Errors
    /// When it cannot be read, is truncated or is neither.
    pub fn read(path: &Path) -> Result<Self, TensorFileError> {
        #[cfg(feature = "pytorch")]
        if super::pytorch::is_written_by_pytorch(path)? {
            return super::pytorch::read(path);
        }
        check_header(path)?;
        decode(path, &read_file(path)?)
    }
}

/// Checks that a file begins as a safetensors file of its length does, before all of it is read.
fn check_header(path: &Path) -> Result<(), TensorFileError> {
    let damaged =
        |reason: &str| TensorFileError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let cannot = || FileError::cannot("read", path);
    let found = std::fs::metadata(path).map_err(cannot())?;
    if found.is_dir() {
        return Err(cannot()(io::ErrorKind::IsADirectory.into()).into());
    }
    if !found.is_file() {
        return Err(damaged("it is no ordinary file"));
    }
    let mut begin = Vec::new();
    let file = File::open(path).map_err(cannot())?;
    file.take(9).read_to_end(&mut begin).map_err(cannot())?;
    let Some((length, rest)) = begin.split_first_chunk() else {
        return Err(damaged("it is shorter than a header"));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER || length.saturating_add(8) > found.len() {
        return Err(damaged("its first eight bytes are no length of a header that it has"));
    }
    if rest != b"{" {
        return Err(damaged("its header is no JSON"));
    }
    Ok(())
}

/// What the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// A file of tensors that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a whole safetensors file.
    #[error("{} is not a whole safetensors file: {reason}; fetch or save it again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file begins as PyTorch's files do, and cannot be read as one.
    #[error(
        "{} cannot be read as a PyTorch file: {reason}; save the network's state_dict() again, best as safetensors",
        .path.display()
    )]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor cannot be written.
    #[error("{}, tensor '{name}': {problem}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}
