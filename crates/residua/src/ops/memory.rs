//! The kernels' memory as tensors: what is lent by [`Buffer`] comes back when the last tensor that reads it is dropped.

use std::mem::MaybeUninit;

use burn::tensor::Element;
use burn_flex::{FlexTensor, Layout};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes, Shape};
pub(crate) use residua_kernels::Buffer;
use residua_kernels::Stored;

/// What becomes a tensor without being copied.
pub(super) trait IntoTensor {
    /// A tensor of these numbers.
    ///
    /// # Panics
    /// When the shape has another number of elements.
    fn into_tensor(self, shape: Shape) -> FlexTensor;
}

impl<T: Stored + Element> IntoTensor for Buffer<T> {
    #[allow(unsafe_code)]
    fn into_tensor(self, shape: Shape) -> FlexTensor {
        assert_eq!(shape.num_elements(), self.len(), "a buffer of {shape:?}");
        let len = self.len() * size_of::<T>();
        // SAFETY: the memory has at least this many bytes, and all are initialised.
        let bytes = unsafe { Bytes::from_controller(Box::new(Held(self.into_bytes())), len) };
        FlexTensor::new(bytes, Layout::contiguous(shape), T::dtype())
    }
}

/// Memory while a tensor has it.
#[derive(Debug)]
struct Held(Buffer<u8>);

#[allow(unsafe_code)]
impl AllocationController for Held {
    fn alloc_align(&self) -> usize {
        Buffer::<u8>::ALIGNMENT
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let (pointer, len) = (self.0.as_mut_ptr(), self.0.len());
        // SAFETY: the pointer is valid for this length, and borrowed with the only owner.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: the pointer is valid for this length.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_becomes_a_tensor() {
        for len in [1, 1025] {
            let mut buffer = Buffer::<f32>::of(len);
            buffer.fill(1.);
            let tensor = buffer.into_tensor(Shape::new([len]));
            assert!(tensor.as_slice::<f32>().unwrap().iter().all(|&number| number == 1.));
        }
    }
}
