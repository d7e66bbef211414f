//! Random numbers as they are asked for, so that tests can answer with those that another program has drawn.

use rand::{Rng, RngExt};

/// A random number that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    /// A real number between two.
    Real(f64, f64),
    /// A whole number from 0 to this one.
    UpTo(u32),
}

/// Answers by a stream of random numbers.
pub(super) fn drawing(random: &mut impl Rng) -> impl FnMut(Draw) -> f64 {
    move |asked| match asked {
        Draw::Real(from, to) => random.random_range(from..=to),
        Draw::UpTo(last) => f64::from(random.random_range(0..=last)),
    }
}
