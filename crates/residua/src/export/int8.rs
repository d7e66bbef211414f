//! Networks that compute in bytes.

use std::num::NonZeroUsize;
use std::path::Path;

use residua_infer::network::NamedTensors;
use residua_infer::weights::encode_rounded;
use residua_infer::{Classifier, InputRanges, WeightsInfo};

use super::ExportError;
use crate::data::{Images, evaluation_batch};

/// Images that a pass is given.
const TOGETHER: usize = 32;

/// What a network's weights say of themselves, with the ranges of what its convolutions read of `count` of some images, spread evenly over them.
/// `skipped` is told why files could not be read.
///
/// # Errors
/// When it is no residual network, the tensors are not its own, or the images are not for it.
pub fn calibrated(
    info: &WeightsInfo,
    tensors: &NamedTensors,
    images: Images,
    count: NonZeroUsize,
    threads: NonZeroUsize,
    mut skipped: impl FnMut(String),
) -> Result<WeightsInfo, ExportError> {
    let Ok(config) = info.network.residual() else {
        return Err(ExportError::NotResidual { given: info.network.name() });
    };
    let classifier = Classifier::new(config, tensors.clone(), [info.height, info.width], threads)?;
    let normalisation = &info.normalisation;
    normalisation.check(info.height, info.width)?;
    let images = images.seen_by(info.view())?;
    let count = count.get().min(images.len());
    let chosen: Vec<usize> = (0..count).map(|index| index * images.len() / count).collect();
    let mut ranges = InputRanges::default();
    for chosen in chosen.chunks(TOGETHER) {
        let batch = evaluation_batch(&images, normalisation, chosen)?.batch;
        ranges.merge(&classifier.input_ranges(&batch.images));
    }
    for reason in images.take_newly_unreadable() {
        skipped(reason);
    }
    Ok(WeightsInfo { ranges: Some(ranges), ..info.clone() })
}

/// The bytes of a weight file of a network that computes in bytes, whose `info` has the ranges that [`calibrated`] has found: the weights of its
/// convolutions are rounded to bytes, others are as they are. `path` is where errors say that the file stands.
///
/// # Errors
/// When the tensors are not the network's own.
pub fn int8_file(info: &WeightsInfo, tensors: &NamedTensors, path: &Path) -> Result<Vec<u8>, ExportError> {
    info.network.check_tensors(tensors)?;
    let names: Vec<&str> = info.ranges.iter().flat_map(|ranges| ranges.names()).collect();
    Ok(encode_rounded(path, tensors, &info.to_metadata(), |name| names.contains(&name))?)
}
