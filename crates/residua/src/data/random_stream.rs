//! Independent streams of random numbers, each found by its key.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; streams of different purposes never share numbers.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// The augmentation of a sample.
    Augmentation = 2,
    /// A training image of `shapes`.
    TrainingShape = 3,
    /// A test image of `shapes`.
    TestShape = 4,
    /// How a pair of samples is mixed.
    Mixing = 5,
    /// Which images are held out.
    Validation = 6,
    /// Which of some images are looked at.
    Choice = 7,
    /// The order of an epoch in which all classes come equally often.
    BalancedOrder = 8,
    /// In which epochs an image is mirrored.
    Mirror = 9,
}

/// The stream for the `index`-th thing of a `purpose` under `seed`: the same on every machine.
pub(super) fn random_stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A uniform permutation of the numbers below `count`, by the `index`-th stream of a `purpose`.
pub(super) fn permutation(seed: u64, purpose: Purpose, index: u64, count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    shuffle(&mut order, &mut random_stream(seed, purpose, index));
    order
}

/// Brings numbers, fewer than 2^32, into any order, each as likely as any other (Fisher and Yates).
pub(super) fn shuffle(numbers: &mut [u32], random: &mut impl Rng) {
    for last in (1..numbers.len() as u32).rev() {
        numbers.swap(last as usize, random.random_range(0..=last) as usize);
    }
}

/// So many of the numbers of some images, all if there are not as many: drawn at random without repetition, and put in their order.
pub fn drawn(images: usize, count: usize, seed: u64) -> Vec<usize> {
    let order = permutation(seed, Purpose::Choice, 0, images);
    let mut drawn: Vec<usize> = order.into_iter().take(count).map(|number| number as usize).collect();
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_key_changes_the_stream() {
        let first = |seed, purpose, index| random_stream(seed, purpose, index).next_u64();
        let base = first(1, Purpose::Order, 2);
        assert_eq!(first(1, Purpose::Order, 2), base);
        assert_ne!(first(2, Purpose::Order, 2), base);
        assert_ne!(first(1, Purpose::Augmentation, 2), base);
        assert_ne!(first(1, Purpose::Order, 1), base);
        assert_ne!(first(1, Purpose::Order, 2 | 1 << 63), base);
    }

    #[test]
    fn images_are_drawn_once_each_and_follow_from_the_seed() {
        let few = drawn(100, 10, 1);
        assert!(few.len() == 10 && few.is_sorted_by(|a, b| a < b) && few[9] < 100);
        assert!(drawn(100, 10, 1) == few && drawn(100, 10, 2) != few);
        assert_eq!(drawn(7, 9, 1), (0..7).collect::<Vec<_>>());
    }
}
