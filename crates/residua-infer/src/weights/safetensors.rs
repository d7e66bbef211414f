//! Tensors in safetensors files, read and written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use residua_kernels::rounded_weights;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use super::tensor_file::{Container, TensorFile, TensorFileError};
use crate::network::{NamedTensors, TensorValues};

/// The bytes of a safetensors file of `f32` tensors and metadata; equal ones give equal bytes. `path` is where errors say that it stands.
///
/// The `safetensors` crate's own writer takes metadata in a `HashMap`, whose order differs from run to run.
///
/// # Errors
/// When a tensor's values do not fill its shape.
pub fn encode(
    path: &Path,
    tensors: &NamedTensors,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    encode_rounded(path, tensors, metadata, |_| false)
}

/// As [`encode`], with the tensors whose names are `rounded` as bytes: each output's numbers, of which the first dimension says how many there are,
/// divided by a scale of its own and rounded to -127 to 127. The scales are a tensor of the same name with `_scale` behind it. Who reads the file
/// finds the rounded numbers.
///
/// # Errors
/// When a tensor's values do not fill its shape.
pub fn encode_rounded(
    path: &Path,
    tensors: &NamedTensors,
    metadata: &BTreeMap<String, String>,
    rounded: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, TensorFileError> {
    let mut stored: BTreeMap<String, (Vec<usize>, Stored)> = BTreeMap::new();
    for (name, TensorValues { shape, values }) in tensors {
        let count = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
        if count != Some(values.len()) {
            let problem = format!("{} values do not fill a tensor of shape {shape:?}", values.len());
            return Err(TensorFileError::Tensor { path: path.to_owned(), name: name.clone(), problem });
        }
        match shape.first() {
            Some(&outputs) if outputs > 0 && rounded(name) => {
                let (bytes, scales) = rounded_weights(values, outputs);
                stored.insert(scale_of(name), (vec![outputs], Stored::F32(scales.into())));
                stored.insert(name.clone(), (shape.clone(), Stored::I8(bytes)));
            }
            _ => _ = stored.insert(name.clone(), (shape.clone(), Stored::F32(values.into()))),
        }
    }
    let mut header = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut end = 0;
    // Numbers of four bytes first, so that all lie at multiples of their size.
    let mut in_order: Vec<_> = stored.iter().collect();
    in_order.sort_by_key(|(_, (_, stored))| matches!(stored, Stored::I8(_)));
    for &(name, (shape, stored)) in &in_order {
        let begin = end;
        let kind = match stored {
            Stored::F32(values) => {
                end += size_of_val(&**values);
                "F32"
            }
            Stored::I8(bytes) => {
                end += bytes.len();
                "I8"
            }
        };
        header.insert(name, json!({ "dtype": kind, "shape": shape, "data_offsets": [begin, end] }));
    }
    let mut header = serde_json::to_vec(&header).expect("text and numbers can be written as JSON");
    // Values begin at a multiple of 8 bytes, as the format recommends.
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    for (_, (_, stored)) in in_order {
        match stored {
            Stored::F32(values) => {
                values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()))
            }
            Stored::I8(bytes) => file.extend(bytes.iter().map(|&byte| byte as u8)),
        }
    }
    Ok(file)
}

/// A tensor's numbers as a file has them.
enum Stored<'a> {
    F32(Cow<'a, [f32]>),
    I8(Vec<i8>),
}

/// The name of the scales of a rounded tensor.
fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

/// What is in the bytes of the safetensors file that `path` names. Numbers of 16 and 64 bits are converted to `f32`, and so are bytes that have
/// scales, as [`encode_rounded`] writes them.
///
/// # Errors
/// When they are truncated or otherwise no safetensors file.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<TensorFile, TensorFileError> {
    let damaged = |error: safetensors::SafeTensorError| TensorFileError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let (header_len, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let data = &bytes[size_of::<u64>() + header_len..];
    let metadata =
        header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect();
    let mut file = TensorFile { container: Container::Safetensors, metadata, ..TensorFile::default() };
    let mut rounded = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        match values(info.dtype, &data[begin..end]) {
            Some(values) => {
                file.tensors.insert(name, TensorValues { shape: info.shape.clone(), values });
            }
            None if info.dtype == Dtype::I8 => _ = rounded.insert(name, (&info.shape, &data[begin..end])),
            None => file.others.push(name),
        }
    }
    for (name, (shape, bytes)) in rounded {
        let Some(scales) = file.tensors.remove(&scale_of(&name)) else {
            file.others.push(name);
            continue;
        };
        let outputs = shape.first().copied().unwrap_or(0);
        if scales.values.len() != outputs || outputs == 0 {
            let reason = format!("tensor '{name}' has {outputs} outputs and {} scales", scales.values.len());
            return Err(TensorFileError::Damaged { path: path.to_owned(), reason });
        }
        let each = (bytes.len() / outputs).max(1);
        let of_output = bytes.chunks(each).zip(&scales.values);
        let values =
            of_output.flat_map(|(bytes, scale)| bytes.iter().map(move |&byte| f32::from(byte as i8) * scale));
        file.tensors.insert(name, TensorValues { shape: shape.clone(), values: values.collect() });
    }
    file.others.sort();
    Ok(file)
}

/// A tensor's values as `f32`; none if they are not floating-point numbers that we know.
fn values(kind: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    match kind {
        Dtype::F32 => Some(convert(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(convert(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F16 => Some(convert(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Some(convert(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        _ => None,
    }
}

fn convert<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use safetensors::tensor::TensorView;

    use super::*;

    fn tensors() -> NamedTensors {
        let tensor =
            |shape: &[usize], values: &[f32]| TensorValues { shape: shape.to_vec(), values: values.to_vec() };
        BTreeMap::from([
            (
                "stages.0.0.conv1.weight".to_owned(),
                tensor(&[2, 1, 3], &[0.1, -0.0, f32::MIN_POSITIVE, 1e30, -2.5, 3.0]),
            ),
            ("bn.running_var".to_owned(), tensor(&[1], &[f32::INFINITY])),
            ("ünïcode \"quoted\"".to_owned(), tensor(&[], &[7.0])),
            ("empty".to_owned(), tensor(&[0, 4], &[])),
        ])
    }

    fn metadata() -> BTreeMap<String, String> {
        ["format", "model", "normalisation", "classes"]
            .map(|key| (key.to_owned(), format!("{key}\n\"x\"")))
            .into()
    }

    #[test]
    fn tensors_and_metadata_come_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        fs::write(&path, encode(&path, &tensors(), &metadata()).unwrap()).unwrap();
        let file = TensorFile::read(&path).unwrap();
        assert_eq!((file.tensors, file.metadata, file.others), (tensors(), metadata(), vec![]));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, encode(&path, &tensors(), &metadata()).unwrap());
        assert_eq!(u64::from_le_bytes(*bytes.first_chunk().unwrap()) % 8, 0);
    }

    #[test]
    fn other_floating_point_numbers_are_converted() {
        let views = [
            ("f16", Dtype::F16, f16::from_f32(1.5).to_le_bytes().to_vec()),
            ("bf16", Dtype::BF16, bf16::from_f32(-2.0).to_le_bytes().to_vec()),
            ("f64", Dtype::F64, 0.1f64.to_le_bytes().to_vec()),
            ("f32", Dtype::F32, 0.1f32.to_le_bytes().to_vec()),
        ];
        let views: Vec<_> = views
            .iter()
            .map(|(name, dtype, bytes)| (*name, TensorView::new(*dtype, vec![1], bytes).unwrap()))
            .collect();
        let bytes = safetensors::serialize(views, None).unwrap();
        let TensorFile { tensors, metadata, .. } = decode(Path::new("x"), &bytes).unwrap();
        let values: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.values[0])).collect();
        assert_eq!(values, [("bf16", -2.0), ("f16", 1.5), ("f32", 0.1), ("f64", 0.1)]);
        assert!(metadata.is_empty());
    }

    #[test]
    fn rounded_tensors_come_back_as_the_numbers_they_were_rounded_to() {
        let tensor =
            |shape: &[usize], values: &[f32]| TensorValues { shape: shape.to_vec(), values: values.to_vec() };
        let tensors = BTreeMap::from([
            ("a.weight".to_owned(), tensor(&[2, 3], &[1.27, -0.5, 0.004, 0., 0., 0.])),
            ("b".to_owned(), tensor(&[2], &[0.1, 0.2])),
        ]);
        let path = Path::new("x");
        let bytes = encode_rounded(path, &tensors, &metadata(), |name| name == "a.weight").unwrap();
        assert!(bytes.len() < encode(path, &tensors, &metadata()).unwrap().len() + 100);
        let file = decode(path, &bytes).unwrap();
        assert_eq!(file.tensors["b"], tensors["b"]);
        let scale = 1.27f32 / 127.;
        assert_eq!(file.tensors["a.weight"].values, [127. * scale, -50. * scale, 0., 0., 0., 0.]);
        assert_eq!((file.tensors.len(), file.others.len()), (2, 0));
        // Rounded again, nothing changes.
        assert_eq!(
            encode_rounded(path, &file.tensors, &file.metadata, |name| name == "a.weight").unwrap(),
            bytes
        );
    }

    #[test]
    fn bytes_with_other_scales_than_outputs_are_damaged() {
        let views = [
            ("a", TensorView::new(Dtype::I8, vec![2, 1], &[1, 2]).unwrap()),
            ("a_scale", TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap()),
            ("b", TensorView::new(Dtype::I8, vec![1], &[1]).unwrap()),
        ];
        let message =
            decode(Path::new("x"), &safetensors::serialize(views, None).unwrap()).unwrap_err().to_string();
        assert!(message.contains("tensor 'a' has 2 outputs and 1 scales"), "{message}");
    }

    #[test]
    fn integers_are_told_of_and_left_out() {
        let views = ["a", "bn.num_batches_tracked"]
            .map(|name| (name, TensorView::new(Dtype::I64, vec![], &[0; 8]).unwrap()));
        let file = decode(Path::new("x"), &safetensors::serialize(views, None).unwrap()).unwrap();
        assert_eq!(file.others, ["a", "bn.num_batches_tracked"]);
        assert!(file.tensors.is_empty());
    }

    #[test]
    fn what_is_no_safetensors_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        assert!(TensorFile::read(&path).unwrap_err().to_string().contains("w.safetensors"));
        let whole = encode(&path, &tensors(), &metadata()).unwrap();
        let (mut longer, mut huge) = (whole.clone(), whole.clone());
        longer.push(0);
        huge[..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
        let overlapping = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
        let overlapping = [&(overlapping.len() as u64).to_le_bytes()[..], overlapping, &[0; 6]].concat();
        for bytes in [&b""[..], &whole[..whole.len() - 1], &whole[..9], &longer, &huge, &overlapping] {
            fs::write(&path, bytes).unwrap();
            let message = TensorFile::read(&path).unwrap_err().to_string();
            assert!(message.contains("w.safetensors is not a whole safetensors file: "), "{message}");
        }
        // A file of which nothing is read but its beginning: it is as long as no memory.
        for begin in [&b"\0\0\0\x20ftypisom"[..], b"\xff\xff\xff\x0f\0\0\0\0{", b"\x10\0\0\0\0\0\0\0x"] {
            fs::write(&path, begin).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
            let message = TensorFile::read(&path).unwrap_err().to_string();
            assert!(message.contains("w.safetensors is not a whole safetensors file: its "), "{message}");
        }
        let odd = BTreeMap::from([("a".to_owned(), TensorValues { shape: vec![2, 2], values: vec![1.0] })]);
        let message = encode(&path, &odd, &metadata()).unwrap_err().to_string();
        assert!(message.contains("tensor 'a': 1 values do not fill a tensor of shape [2, 2]"), "{message}");
    }

    proptest! {
        #[test]
        fn no_truncation_and_no_flip_makes_it_panic(position: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = encode(Path::new("x"), &tensors(), &metadata()).unwrap();
            let position = position.index(bytes.len());
            prop_assert!(decode(Path::new("x"), &bytes[..position]).is_err());
            bytes[position] ^= 1 << bit;
            let _ = decode(Path::new("x"), &bytes);
        }
    }
}
