//! What goes into an exported network and comes out of it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::message::{self, Length};
use super::{AxisOrder, OnnxOptions, Pixels, Scores};

/// A tensor that goes into an exported network or comes out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// What its numbers are.
    #[serde(rename = "type")]
    pub numbers: Numbers,
    /// Lengths of its axes.
    pub shape: Vec<Axis>,
}

/// Types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// `f32`
    Float32,
    /// `u8`
    Uint8,
}

/// The length of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// As many images as are given.
    Batch,
    /// Always the same.
    Fixed(usize),
}

impl Port {
    /// The images, of height and width.
    pub(super) fn images(options: OnnxOptions, [height, width]: [usize; 2]) -> Self {
        let lengths = match options.axes {
            AxisOrder::Nchw => [3, height, width],
            AxisOrder::Nhwc => [height, width, 3],
        };
        let numbers = match options.pixels {
            Pixels::Normalised => Numbers::Float32,
            Pixels::Raw => Numbers::Uint8,
        };
        Self::of("images", numbers, &lengths)
    }

    /// What comes out, of each class.
    pub(super) fn scores(options: OnnxOptions, classes: usize) -> Self {
        let name = match options.scores {
            Scores::Logits => "logits",
            Scores::Probabilities => "probabilities",
        };
        Self::of(name, Numbers::Float32, &[classes])
    }

    fn of(name: &'static str, numbers: Numbers, lengths: &[usize]) -> Self {
        let shape = [Axis::Batch].into_iter().chain(lengths.iter().copied().map(Axis::Fixed)).collect();
        Self { name, numbers, shape }
    }

    pub(super) fn message(&self) -> message::ValueInfo {
        let axis = |axis: &Axis| message::Dimension {
            length: Some(match axis {
                Axis::Batch => Length::Named(axis.to_string()),
                Axis::Fixed(length) => Length::Known(*length as i64),
            }),
        };
        let numbers = match self.numbers {
            Numbers::Float32 => message::FLOAT,
            Numbers::Uint8 => message::UINT8,
        };
        let shape = Some(message::Shape { axes: self.shape.iter().map(axis).collect() });
        let kind = Some(message::Type { tensor: Some(message::TensorType { numbers, shape }) });
        message::ValueInfo { name: self.name.to_owned(), kind }
    }
}

impl fmt::Display for Port {
    /// Such as `images float32 [batch, 3, 32, 32]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = match self.numbers {
            Numbers::Float32 => "float32",
            Numbers::Uint8 => "uint8",
        };
        let shape: Vec<_> = self.shape.iter().map(Axis::to_string).collect();
        write!(formatter, "{} {numbers} [{}]", self.name, shape.join(", "))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => formatter.write_str("batch"),
            Self::Fixed(length) => length.fmt(formatter),
        }
    }
}

impl Serialize for Axis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Batch => serializer.collect_str(self),
            Self::Fixed(length) => length.serialize(serializer),
        }
    }
}
