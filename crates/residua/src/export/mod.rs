//! A trained network for other programs, written from its plan and its tensors.

#[cfg(feature = "onnx")]
pub mod onnx;

use residua_infer::network::NetworkError;
use residua_infer::normalisation::NormalisationError;
use residua_infer::words;
use thiserror::Error;

/// What a network can be exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// An ONNX file, for ONNX Runtime and whatever else reads one.
    Onnx,
}

words!(ExportFormat, "format", {
    Onnx => "onnx": "a file for ONNX Runtime and other programs that run ONNX networks",
});

/// A network that cannot be exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is no such network, it does not take such images, or the tensors are not its own.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its normalisation is not one for its images.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// The format has no room for it.
    #[error(
        "the network takes {bytes} bytes, and a file of this format holds {most} at most; export one of fewer parameters"
    )]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What there is room for.
        most: usize,
    },
}
