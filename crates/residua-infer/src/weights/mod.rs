//! Weight files: what is in them, and what they say of themselves.

mod info;
mod safetensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use info::WeightsInfo;
pub use safetensors::{TensorFileError, decode, encode, read_weights};

use crate::network::{NamedTensors, NetworkError};

/// A network's tensors, and the file that they come from.
#[derive(Debug)]
pub struct StoredWeights {
    /// The `.safetensors` file.
    pub path: PathBuf,
    /// What is in it.
    pub tensors: NamedTensors,
    /// What it says of itself.
    pub metadata: BTreeMap<String, String>,
}

impl StoredWeights {
    /// Reads a `.safetensors` file.
    ///
    /// # Errors
    /// When it cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self, TensorFileError> {
        let (tensors, metadata) = read_weights(path)?;
        Ok(Self { path: path.to_owned(), tensors, metadata })
    }

    /// What the file says of itself: enough to classify a picture.
    ///
    /// # Errors
    /// When it does not say it, as files that others have written do not.
    pub fn info(&self) -> Result<WeightsInfo, WeightsError> {
        WeightsInfo::from_metadata(&self.metadata)
            .map_err(|reason| WeightsError::Unknown { path: self.path.clone(), reason })
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
    #[error("{}: no weights that residua has written: {reason}; give a run folder, or a weights.safetensors of one", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
}
