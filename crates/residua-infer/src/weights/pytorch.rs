//! What `torch.save` writes: a pickle that describes the tensors, and their numbers beside it. The pickle is read, never run.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use pytorch_reader::{DType, FileFormat, PytorchReader};

use super::tensor_file::{Container, TensorFile, TensorFileError};
use crate::file::FileError;
use crate::network::TensorValues;

/// How many times as long as their file tensors may be together: several names may have the same numbers. A few bytes can
/// claim gigabytes.
const MAX_SHARED: u64 = 4;

/// Whether the file begins as those of PyTorch do.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_written_by_pytorch(path: &Path) -> Result<bool, FileError> {
    let mut begin = Vec::new();
    let file = File::open(path).map_err(FileError::cannot("read", path))?;
    file.take(512).read_to_end(&mut begin).map_err(FileError::cannot("read", path))?;
    let is_safetensors = begin.get(8) == Some(&b'{') && begin[4..8] == [0; 4];
    // A zip archive; the instruction that a pickle of protocol 2 or later begins with; a tar archive.
    let is_known =
        begin.starts_with(b"PK") || begin.starts_with(&[0x80]) || begin.get(257..262) == Some(b"ustar");
    Ok(is_known && !is_safetensors)
}

/// Reads the tensors of a file.
///
/// # Errors
/// When it is damaged, or asks for what is not a tensor's description.
pub(super) fn read(path: &Path) -> Result<TensorFile, TensorFileError> {
    let wrong = |reason: String| TensorFileError::PyTorch { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(FileError::cannot("read", path))?.len();
    let reader = PytorchReader::new(path).map_err(|error| wrong(error.to_string()))?;
    let container = match reader.metadata().format_type {
        FileFormat::Zip => Container::PyTorchZip,
        FileFormat::Legacy => Container::PyTorchStream,
        FileFormat::Tar => Container::PyTorchTar,
        FileFormat::Pickle => Container::Pickle,
    };
    let mut file = TensorFile { container, ..TensorFile::default() };
    let mut left = length.saturating_mul(MAX_SHARED);
    for (name, tensor) in reader.into_tensors() {
        let convert: fn(&[u8]) -> Vec<f32> = match tensor.dtype() {
            DType::F64 => |bytes| numbers(bytes, |bytes| f64::from_ne_bytes(bytes) as f32),
            DType::F32 => |bytes| numbers(bytes, f32::from_ne_bytes),
            DType::F16 => |bytes| numbers(bytes, |bytes| f16::from_ne_bytes(bytes).to_f32()),
            DType::BF16 => |bytes| numbers(bytes, |bytes| bf16::from_ne_bytes(bytes).to_f32()),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => {
                file.others.push(name);
                continue;
            }
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => {
                file.others.push(name);
                continue;
            }
        };
        left = left.checked_sub(tensor.byte_len() as u64).ok_or_else(|| {
            wrong(format!("its tensors claim more than {MAX_SHARED} times the {length} bytes that it has"))
        })?;
        let values = convert(&tensor.read().map_err(|error| wrong(error.to_string()))?);
        file.tensors.insert(name, TensorValues { shape: tensor.shape().to_vec(), values });
    }
    file.others.sort();
    Ok(file)
}

fn numbers<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}
