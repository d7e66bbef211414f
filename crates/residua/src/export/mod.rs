//! A trained network for other programs, written from its plan and its tensors.

mod int8;
#[cfg(feature = "onnx")]
pub mod onnx;
mod weight_file;

use residua_infer::ClassifierError;
use residua_infer::network::NetworkError;
use residua_infer::normalisation::NormalisationError;
use residua_infer::weights::TensorFileError;
use residua_infer::words;
use thiserror::Error;

use crate::data::DataError;

/// What a network can be exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// An ONNX file, for ONNX Runtime and whatever else reads one.
    Onnx,
    /// A weight file of Residua's own of a network that computes in bytes: a quarter of the size.
    Int8,
    /// A safetensors file by torchvision's names.
    Torchvision,
    /// A safetensors file by timm's names: those of its `resnet` or its `resnetv2` networks.
    Timm,
    /// A safetensors file by the names of chenyaofo/pytorch-cifar-models.
    PyTorchCifarModels,
    /// A safetensors file by the names of akamaster/pytorch_resnet_cifar10.
    Akamaster,
    /// A safetensors file by Residua's own names, which says all that is needed to classify.
    Safetensors,
}

words!(ExportFormat, "format", {
    Onnx => "onnx": "a file for ONNX Runtime and other programs that run ONNX networks",
    Int8 => "int8": "Residua's weight file of a residual network that computes in bytes, a quarter of the size",
    Torchvision => "torchvision": "safetensors for torchvision's resnet18, 34, 50, 101, 152, wide_resnet50_2 and 101_2, inception_v3",
    Timm => "timm": "safetensors for timm's resnet and resnetv2 networks",
    PyTorchCifarModels => "pytorch-cifar-models": "safetensors for chenyaofo's networks",
    Akamaster => "akamaster": "safetensors for akamaster's networks",
    Safetensors => "safetensors": "Residua's own weight file",
});

pub use int8::{calibrated, int8_file};
pub use weight_file::weight_file;

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
    /// The classifier that is to tell what its convolutions read.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The images that are to tell it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It is no residual network.
    #[error("only residual networks compute in bytes, not {given}; an ONNX file takes any network")]
    NotResidual {
        /// The network.
        given: String,
    },
    /// The network is none of that family.
    #[error("{reason}; an ONNX file takes any network")]
    Family {
        /// What is another in the family.
        reason: String,
    },
    /// The tensors cannot be written.
    #[error(transparent)]
    File(#[from] TensorFileError),
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
