//! How 3x3 convolutions are computed.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;

/// How convolutions are computed. The first two differ for sizes of 3x3 and strides of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Winograd's F(4x4, 3x3): a quarter of the multiplications, two to five times the rounding errors.
    #[default]
    Winograd,
    /// The sum as it is written.
    Direct,
    /// The sum as it is written of numbers that are rounded to bfloat16, by a matrix unit, for convolutions of any size. The instructions must
    /// [have one](crate::Instructions::has_tiles). Sums are of f32. Training rounds where [that pays](crate::Convolution::is_in_bf16); elsewhere
    /// this is [`Self::Direct`].
    Bf16,
}

impl Algorithm {
    /// The environment variable that forces an algorithm: `winograd` or `direct`.
    pub const VARIABLE: &'static str = "RESIDUA_ALGORITHM";

    /// Those that compute in f32.
    pub const ALL: [Self; 2] = [Self::Winograd, Self::Direct];

    /// The algorithm in use: Winograd's, or the one that [`VARIABLE`](Self::VARIABLE) names.
    ///
    /// # Panics
    /// When [`choice`](Self::choice) is an error.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Algorithm> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::choice().unwrap_or_else(|error| panic!("{error}")))
    }

    /// As [`current`](Self::current), for programs that tell their user what is wrong with the variable.
    ///
    /// # Errors
    /// When the variable names none.
    pub fn choice() -> Result<Self, UnknownAlgorithm> {
        match std::env::var_os(Self::VARIABLE) {
            None => Ok(Self::default()),
            Some(name) => Self::ALL
                .into_iter()
                .find(|algorithm| name == algorithm.name())
                .ok_or_else(|| UnknownAlgorithm { given: name.to_string_lossy().into_owned() }),
        }
    }

    /// As [`VARIABLE`](Self::VARIABLE) spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Winograd => "winograd",
            Self::Direct => "direct",
            Self::Bf16 => "bf16",
        }
    }
}

/// [`Algorithm::VARIABLE`] names no algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAlgorithm {
    given: String,
}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        let (variable, given) = (Algorithm::VARIABLE, &self.given);
        write!(formatter, "{variable}: '{given}' is no algorithm; unset it, or set one of {names}")
    }
}

impl Error for UnknownAlgorithm {}
