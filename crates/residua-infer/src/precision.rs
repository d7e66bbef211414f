//! What networks compute in.

use std::error::Error;
use std::fmt;

use residua_kernels::Instructions;

use crate::words;

/// What numbers are multiplied in. Sums are of f32, and so are weights in training. A [`Classifier`](crate::Classifier) in bfloat16 also stores
/// feature maps so; training rounds them while it reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are trained.
    #[default]
    F32,
    /// With the eight most significant of their 24 bits, on processors with a matrix unit for it (Intel's AMX).
    Bf16,
}

words!(Precision, "precision", {
    F32 => "f32",
    Bf16 => "bf16": "bfloat16 with sums of f32; wants a processor with AMX",
});

impl Precision {
    /// # Errors
    /// When this processor does not compute in it.
    pub fn check(self) -> Result<(), UnavailablePrecision> {
        let instructions = Instructions::current();
        match self {
            Self::Bf16 if !instructions.has_tiles() => {
                Err(UnavailablePrecision { instructions: instructions.name() })
            }
            _ => Ok(()),
        }
    }
}

/// This processor does not compute in bfloat16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnavailablePrecision {
    instructions: &'static str,
}

impl fmt::Display for UnavailablePrecision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "bf16 wants a processor with AMX under Linux, and the instruction set avx512 (here it is {}); use f32",
            self.instructions
        )
    }
}

impl Error for UnavailablePrecision {}
