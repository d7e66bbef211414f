//! Between the host's memory and a device's.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::data::Batch;

/// Numbers that are worth a thread's while.
const SHARE: usize = 1 << 16;

/// The crops of a batch as a network takes them, `[batch * crops, 3, height, width]`.
pub fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.len() * batch.crops, batch.height, batch.width, 3];
    // By all threads: what is copied is large, and its memory new.
    let images: Vec<f32> = batch.images.par_iter().with_min_len(SHARE).copied().collect();
    Tensor::from_data(TensorData::new(images, shape), device).permute([0, 3, 1, 2])
}

/// The values of a tensor, in row-major order.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data has just been converted to f32")
}
