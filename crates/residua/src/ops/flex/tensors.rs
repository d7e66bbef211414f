//! Flex's tensors as the kernels' slices.

use burn_flex::FlexTensor;
use burn_std::{Shape, TensorData};
use residua_kernels::MapShape;

/// The tensor itself, or its values written out in row-major order.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.is_contiguous() {
        true => tensor,
        false => tensor.to_contiguous(),
    }
}

/// Of a contiguous tensor of f32.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// As [`values`], of a tensor of its own: copied if another shares it.
pub(super) fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let (first, last) = tensor.layout().contiguous_offsets().expect("a contiguous tensor");
    &mut tensor.storage_mut::<f32>()[first..last]
}

pub(super) fn small(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

pub(super) fn map_shape(x: &FlexTensor) -> MapShape {
    let [batch, height, width, channels] = x.layout().shape().dims();
    MapShape { batch, height, width, channels }
}

pub(super) fn shape(map: MapShape) -> Shape {
    Shape::new([map.batch, map.height, map.width, map.channels])
}
