//! The memory of feature maps: of numbers in either precision, or of bytes that stand for numbers.

use std::ops::Range;

use half::bf16;
use residua_kernels::{Buffer, Input, Instructions, MapShape, Reading, Values, ValuesMut};

use crate::precision::Precision;

/// Numbers of feature maps, in huge pages where the system has them: photographs' maps do not stay in the caches.
#[derive(Debug)]
pub(super) enum Map {
    F32(Buffer),
    Bf16(Buffer<bf16>),
    Bytes(Buffer<u8>),
}

impl Map {
    /// `length` numbers of any content.
    pub(super) fn of(precision: Precision, length: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(Buffer::of(length)),
            Precision::Bf16 => Self::Bf16(Buffer::of(length)),
        }
    }

    /// `length` bytes of any content.
    pub(super) fn of_bytes(length: usize) -> Self {
        Self::Bytes(Buffer::of(length))
    }

    /// The first `length` bytes.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        match self {
            Self::Bytes(buffer) => &buffer[..length],
            _ => unreachable!("{OF_BYTES}"),
        }
    }

    /// The first `length` bytes, to be written.
    pub(super) fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        match self {
            Self::Bytes(buffer) => &mut buffer[..length],
            _ => unreachable!("{OF_BYTES}"),
        }
    }

    /// The first `length` numbers.
    pub(super) fn values(&self, length: usize) -> Values<'_> {
        match self {
            Self::F32(buffer) => Values::F32(&buffer[..length]),
            Self::Bf16(buffer) => Values::Bf16(&buffer[..length]),
            Self::Bytes(_) => unreachable!("{OF_BYTES}"),
        }
    }

    /// The first `length` numbers, to be written.
    pub(super) fn values_mut(&mut self, length: usize) -> ValuesMut<'_> {
        match self {
            Self::F32(buffer) => ValuesMut::F32(&mut buffer[..length]),
            Self::Bf16(buffer) => ValuesMut::Bf16(&mut buffer[..length]),
            Self::Bytes(_) => unreachable!("{OF_BYTES}"),
        }
    }

    /// Makes these its first numbers.
    pub(super) fn fill(&mut self, numbers: &[f32]) {
        match self {
            Self::F32(buffer) => buffer[..numbers.len()].copy_from_slice(numbers),
            Self::Bf16(buffer) => {
                let shape = MapShape { batch: 1, height: 1, width: 1, channels: numbers.len() };
                let input = Input { values: numbers.into(), norm: None, is_activated: false };
                let reading = Reading { shape, instructions: Instructions::current() };
                reading.forward(input, &mut buffer[..numbers.len()], 1);
            }
            Self::Bytes(_) => unreachable!("{OF_BYTES}"),
        }
    }

    /// Copies the first numbers of another map of the same precision to this place.
    pub(super) fn copy(&mut self, place: Range<usize>, from: &Self) {
        let length = place.len();
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => to[place].copy_from_slice(&from[..length]),
            (Self::Bf16(to), Self::Bf16(from)) => to[place].copy_from_slice(&from[..length]),
            _ => unreachable!("{ONE_PRECISION}"),
        }
    }
}

/// What holds of maps of bytes.
const OF_BYTES: &str = "bytes lie between two convolutions of a branch and nowhere else";

/// What holds of the maps of a workspace.
pub(super) const ONE_PRECISION: &str = "all maps of a workspace that are of numbers have one precision";
