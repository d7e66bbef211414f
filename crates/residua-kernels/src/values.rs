//! The numbers of a feature map, in either of the two types that they are stored in.

use half::bf16;

/// Numbers to read. Whatever they are stored in, kernels compute in f32.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// As they are computed.
    F32(&'a [f32]),
    /// With the eight most significant of their 24 bits.
    Bf16(&'a [bf16]),
}

/// Numbers to write. A bfloat16 is the nearest to what was computed, of two equally near the even one; NaN stays NaN.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// As they are computed.
    F32(&'a mut [f32]),
    /// With the eight most significant of their 24 bits.
    Bf16(&'a mut [bf16]),
}

impl Values<'_> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl ValuesMut<'_> {
    /// The same, to be read.
    pub(crate) fn borrowed(&self) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(values),
            Self::Bf16(values) => Values::Bf16(values),
        }
    }

    /// The same for a while.
    pub(crate) fn borrowed_mut(&mut self) -> ValuesMut<'_> {
        match self {
            Self::F32(values) => ValuesMut::F32(values),
            Self::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Values<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [bf16]> for Values<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Self::Bf16(values)
    }
}

impl<'a> From<&'a mut [f32]> for ValuesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a mut Vec<f32>> for ValuesMut<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a mut [bf16]> for ValuesMut<'a> {
    fn from(values: &'a mut [bf16]) -> Self {
        Self::Bf16(values)
    }
}
