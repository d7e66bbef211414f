//! Weight files: what is in them, and what they say of themselves.

mod info;
#[cfg(feature = "pytorch")]
mod pytorch;
mod safetensors;
mod tensor_file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use info::WeightsInfo;
pub use safetensors::{decode, encode, encode_rounded};
pub use tensor_file::{Container, TensorFile, TensorFileError};

use crate::network::{NamedTensors, NetworkError};

/// A network's tensors, and the file that they come from.
#[derive(Debug)]
pub struct StoredWeights {
    /// The file.
    pub path: PathBuf,
    /// How it is built.
    pub container: Container,
    /// Its tensors of floating-point numbers.
    pub tensors: NamedTensors,
    /// Names of its other tensors.
    pub others: Vec<String>,
    /// What it says of itself.
    pub metadata: BTreeMap<String, String>,
}

impl StoredWeights {
    /// Reads a safetensors file; with the feature `pytorch` also what `torch.save` writes. Whose network it is, says
    /// [`recognised`](Self::recognised).
    ///
    /// # Errors
    /// When it cannot be read or is neither.
    pub fn read(path: &Path) -> Result<Self, TensorFileError> {
        Ok(Self::of(path.to_owned(), TensorFile::read(path)?))
    }

    /// The weights that a file has been found to hold.
    pub fn of(path: PathBuf, file: TensorFile) -> Self {
        let TensorFile { container, tensors, others, metadata } = file;
        Self { path, container, tensors, others, metadata }
    }

    /// Whether they say which network they belong to, as Residua's own do.
    pub fn says_its_network(&self) -> bool {
        self.metadata.contains_key(info::NETWORK)
    }

    /// What the file says of itself: enough to classify a picture.
    ///
    /// # Errors
    /// When it does not say it, as files that others have written do not.
    pub fn info(&self) -> Result<WeightsInfo, WeightsError> {
        let info = WeightsInfo::from_metadata(&self.metadata)
            .map_err(|reason| WeightsError::Unknown { path: self.path.clone(), reason })?;
        let fits = info.network.check_size(self.tensors.len());
        fits.map(|()| info).map_err(|error| Self::refused(&self.path, error))
    }

    /// Turns what a network has against these tensors into an error that names their file.
    pub fn refused(path: &Path, error: NetworkError) -> WeightsError {
        WeightsError::Unfit { path: path.to_owned(), error }
    }
}

/// Weights that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// They do not fit the network.
    #[error("{}: {error}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        error: NetworkError,
    },
    /// The file does not say which network its weights belong to.
    #[error("{}: {reason}; save the weights again, or import those that they were made of", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
}
