//! Weights for PyTorch's programs, by the names that they know.

use std::path::Path;

use residua_infer::WeightsInfo;
use residua_infer::foreign::{Family, named_by};
use residua_infer::network::{Architecture, NamedTensors, ResNetConfig, StemPooling};
use residua_infer::weights::encode;

use super::{ExportError, ExportFormat};

/// The bytes of a safetensors file with a network's weights by the names of a format, none for a format that is no weight file.
/// `load_state_dict(strict=True)` of that format's network takes them. What is needed to classify is in the metadata. `path` is where
/// errors say that the file stands.
///
/// # Errors
/// When the network is none of that format's.
pub fn weight_file(
    format: ExportFormat,
    info: &WeightsInfo,
    tensors: &NamedTensors,
    path: &Path,
) -> Result<Option<Vec<u8>>, ExportError> {
    info.network.check_tensors(tensors)?;
    let family = match format {
        ExportFormat::Onnx | ExportFormat::Int8 => return Ok(None),
        ExportFormat::Safetensors => return Ok(Some(encode(path, tensors, &info.to_metadata())?)),
        ExportFormat::Torchvision => Family::Torchvision,
        ExportFormat::Timm => match info.network {
            Architecture::ResNet(ResNetConfig { stem_pooling: StemPooling::Last, .. }) => Family::Torchvision,
            _ => Family::TimmV2,
        },
        ExportFormat::PyTorchCifarModels => Family::PyTorchCifarModels,
        ExportFormat::Akamaster => Family::Akamaster,
    };
    let theirs =
        named_by(family, &info.network, tensors.clone()).map_err(|reason| ExportError::Family { reason })?;
    Ok(Some(encode(path, &theirs, &info.to_foreign_metadata())?))
}
