//! Which instruction set runs: the best that the machine has, unless an environment variable says otherwise.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;

use crate::tiles::{Numbers, Tiles};
use crate::vector::Vector;
use crate::vector::portable::Portable;

#[cfg(target_arch = "aarch64")]
use crate::vector::neon::Neon;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
use crate::vector::{avx2::Avx2, avx512::Avx512};

/// The environment variable that forces an instruction set: `avx512`, `avx2`, `neon` or `portable`.
pub const VARIABLE: &str = "RESIDUA_INSTRUCTIONS";

/// [`VARIABLE`] names no instruction set that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownInstructions {
    given: String,
}

impl fmt::Display for UnknownInstructions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Instructions::available().map(Instructions::name).collect::<Vec<_>>().join(", ");
        let given = &self.given;
        write!(
            formatter,
            "{VARIABLE}: '{given}' is no instruction set of this machine; unset it, or set one of {names}"
        )
    }
}

impl Error for UnknownInstructions {}

/// An instruction set that the kernels are instantiated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instructions {
    /// AVX-512 F (x86-64).
    Avx512,
    /// AVX2 and FMA (x86-64).
    Avx2,
    /// NEON (aarch64).
    Neon,
    /// What every machine has.
    Portable,
}

impl Instructions {
    /// All, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The instruction set in use: the fastest available, or the one that [`VARIABLE`] names.
    ///
    /// # Panics
    /// When [`choice`](Self::choice) is an error.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Instructions> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::choice().unwrap_or_else(|error| panic!("{error}")))
    }

    /// As [`current`](Self::current), for programs that tell their user what is wrong with the variable.
    ///
    /// # Errors
    /// When the variable names one that does not exist or that this machine lacks.
    pub fn choice() -> Result<Self, UnknownInstructions> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Self::available().next().unwrap_or(Self::Portable)),
            Some(name) => Self::available()
                .find(|set| name == set.name())
                .ok_or_else(|| UnknownInstructions { given: name.to_string_lossy().into_owned() }),
        }
    }

    /// Those that this machine has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.is_available())
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Whether there are [convolutions in bfloat16](crate::Algorithm::Bf16) with it: with AVX-512, on a processor that has Intel's AMX
    /// and under Linux; and, slow, with what every machine has.
    pub fn has_tiles(self) -> bool {
        self.is_available() && Tiles::of(self, Numbers::Bf16).is_some()
    }

    /// Whether [convolutions of bytes](crate::Int8Packing) are faster with it than those of numbers: on x86 processors with VNNI or AMX.
    pub fn has_fast_bytes(self) -> bool {
        self.is_available() && Tiles::of(self, Numbers::Int8).is_some_and(Tiles::are_fast_with_bytes)
    }

    /// As [`VARIABLE`] spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Runs a task compiled for this instruction set.
    ///
    /// # Panics
    /// When the machine lacks it.
    pub(crate) fn run<T: Task>(self, task: T) {
        // Always: on a machine without the instructions they would be undefined behaviour.
        assert!(self.is_available(), "this machine has no {}", self.name());
        match self {
            // SAFETY: a machine with the instructions, as `is_available` has found.
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Self::Avx512 => unsafe { Avx512::call(Whole(task)) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Self::Avx2 => unsafe { Avx2::call(Whole(task)) },
            // SAFETY: every aarch64 machine that the standard library supports has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { Neon::call(Whole(task)) },
            // SAFETY: no instructions in particular.
            Self::Portable => unsafe { Portable::call(Whole(task)) },
            #[allow(unreachable_patterns)]
            _ => unreachable!("no such machine"),
        }
    }
}

/// Work that is compiled once for every instruction set.
pub(crate) trait Task {
    /// Implementations are `#[inline(always)]`, as is everything below them: code that is not inlined into the
    /// instruction set's own function is not compiled for it. What is large is so only without debug assertions: where nothing
    /// is optimised all that is inlined has a place of its own on the stack, which then overflows.
    ///
    /// # Safety
    /// The machine has the instructions of `V`.
    unsafe fn run<V: Vector>(self);
}

/// A part of a task that has a function of its own: [`Vector::call`].
pub(crate) trait Work<V> {
    /// As [`Task::run`].
    ///
    /// # Safety
    /// The machine has the instructions of `V`.
    unsafe fn run(self);
}

/// All of a task.
struct Whole<T>(T);

impl<V: Vector, T: Task> Work<V> for Whole<T> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { self.0.run::<V>() }
    }
}
