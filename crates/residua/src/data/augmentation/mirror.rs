//! Which images of an epoch are mirrored.

use rand::RngExt;

use residua_infer::words;

use crate::data::random_stream::{Purpose, random_stream};

/// How training images are mirrored, left for right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirror {
    /// Each with probability 1/2, in every epoch anew: the paper's.
    #[default]
    Random,
    /// In every other epoch, half of the images in the first, the others in the second: two epochs show each image both ways
    /// (Jordan, *94% on CIFAR-10 in 3.29 seconds on a single GPU*, 2024, section 3.6).
    Alternate,
}

words!(Mirror, "way to mirror", {
    Random => "random": "with probability 1/2",
    Alternate => "alternate": "in every other epoch, half of the images in the first, the others in the second",
});

impl Mirror {
    /// Whether image `index` is mirrored in an epoch, if that is not left to chance.
    pub(in crate::data) fn decides(self, seed: u64, epoch: u64, index: usize) -> Option<bool> {
        match self {
            Self::Random => None,
            Self::Alternate => {
                let is_first = random_stream(seed, Purpose::Mirror, index as u64).random_bool(0.5);
                Some(is_first == epoch.is_multiple_of(2))
            }
        }
    }
}
