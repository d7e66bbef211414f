//! Flex's tensors as the kernels' slices.

use burn_flex::FlexTensor;
use burn_std::{DType, Shape, TensorData, bf16};
use residua_kernels::{MapShape, Values, ValuesMut, arena};

use crate::ops::memory::{Buffer, IntoTensor};

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

/// Of a contiguous tensor of f32 or bfloat16.
pub(super) fn map(tensor: &FlexTensor) -> Values<'_> {
    match tensor.dtype() {
        DType::BF16 => tensor.as_slice::<bf16>().expect("a contiguous tensor").into(),
        _ => values(tensor).into(),
    }
}

/// A buffer for a map of either kind.
pub(super) enum MapBuffer {
    F32(Buffer),
    Bf16(Buffer<bf16>),
}

impl MapBuffer {
    pub(super) fn of(len: usize, is_bf16: bool) -> Self {
        if is_bf16 { Self::Bf16(Buffer::of(len)) } else { Self::F32(Buffer::of(len)) }
    }

    pub(super) fn values(&mut self) -> ValuesMut<'_> {
        match self {
            Self::F32(buffer) => ValuesMut::F32(buffer),
            Self::Bf16(buffer) => ValuesMut::Bf16(buffer),
        }
    }

    /// # Panics
    /// As for [`Buffer::into_tensor`].
    pub(super) fn into_tensor(self, shape: Shape) -> FlexTensor {
        match self {
            Self::F32(buffer) => buffer.into_tensor(shape),
            Self::Bf16(buffer) => buffer.into_tensor(shape),
        }
    }
}

/// Numbers of a parameter, its gradient or its momentum from which on they lie in the arena: its huge pages are read two to four
/// times as fast. Fewer would only break up the room of feature maps.
const MANY: usize = 1 << 16;

/// What belongs to a parameter, its gradient or its momentum, of any content at first.
pub(super) enum ParameterBuffer {
    Few(Vec<f32>),
    Many(Buffer),
}

impl ParameterBuffer {
    pub(super) fn of(len: usize) -> Self {
        if len < MANY { Self::Few(vec![0.; len]) } else { Self::Many(Buffer::of(len)) }
    }

    pub(super) fn values(&mut self) -> &mut [f32] {
        match self {
            Self::Few(values) => values,
            Self::Many(buffer) => buffer,
        }
    }

    /// # Panics
    /// As for [`Buffer::into_tensor`].
    pub(super) fn into_tensor(self, shape: &[usize]) -> FlexTensor {
        match self {
            Self::Few(values) => small(values, shape),
            Self::Many(buffer) => buffer.into_tensor(Shape::from(shape.to_vec())),
        }
    }
}

/// A contiguous parameter or its momentum, where it is read fast from now on.
pub(super) fn settled(tensor: FlexTensor) -> FlexTensor {
    let from = values(&tensor);
    if from.len() < MANY || arena::holds(from) {
        return tensor;
    }
    let mut buffer = Buffer::of(from.len());
    buffer.copy_from_slice(from);
    buffer.into_tensor(tensor.layout().shape().clone())
}

pub(super) fn is_bf16(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::BF16
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_parameters_keep_their_numbers_and_lie_in_the_arena_if_they_are_many() {
        for len in [1, MANY - 1, MANY, MANY + 5] {
            let numbers: Vec<f32> = (0..len).map(|at| at as f32).collect();
            let tensor = settled(small(numbers.clone(), &[len]));
            assert!(values(&tensor) == numbers, "{len} numbers");
            assert_eq!(arena::holds(values(&tensor)), len >= MANY, "{len} numbers");
            let place = values(&tensor).as_ptr();
            assert_eq!(values(&settled(tensor)).as_ptr(), place, "{len} numbers are copied once at most");
        }
    }
}
