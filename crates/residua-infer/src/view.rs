//! How pictures of any size are shown to a network in tests.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::choice::{Choice, Choices};

/// Red, green and blue.
pub const CHANNELS: usize = 3;

/// What of a picture a network sees in tests: the picture is scaled until its shorter side has `shorter_side` pixels,
/// and crops of `height` x `width` are cut out of it.
///
/// The paper tests on crops of 224 of pictures scaled to 256, and on crops of 320 of pictures scaled to 320. Where height
/// and width differ, the picture is scaled until it covers `shorter_side / min(height, width)` times the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Height of a crop in pixels.
    pub height: usize,
    /// Width of a crop in pixels.
    pub width: usize,
    /// Shorter side of the scaled picture; at least the shorter side of a crop.
    pub shorter_side: usize,
    /// Which crops.
    pub crops: Crops,
}

/// How many crops of a picture are classified in tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crops {
    /// The middle: `1`.
    #[default]
    Centre,
    /// The middle and the four corners, each also mirrored; the mean of their probabilities counts: `10`.
    Ten,
}

impl Crops {
    /// The number of crops.
    pub fn count(self) -> usize {
        match self {
            Self::Centre => 1,
            Self::Ten => 10,
        }
    }
}

impl fmt::Display for Crops {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count().fmt(formatter)
    }
}

impl Choices for Crops {
    const CHOICES: &'static [Choice] = &[
        Choice::new("1", "the middle"),
        Choice::new(
            "10",
            "the middle and four corners, each also mirrored; the mean of their probabilities counts",
        ),
    ];
}

impl FromStr for Crops {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" => Ok(Self::Centre),
            "10" => Ok(Self::Ten),
            _ => Err("write 1 (the middle) or 10 (the middle and four corners, each also mirrored)"),
        }
    }
}

impl View {
    /// The longest side that pictures may have, scaled or as they are, in pixels.
    pub const LARGEST_SIDE: usize = 16_384;

    /// The largest part of a picture that has the shape of `height` x `width`: its middle, nothing lost on two sides.
    pub fn full(height: usize, width: usize) -> Self {
        Self { height, width, shorter_side: height.min(width), crops: Crops::Centre }
    }

    /// The usual view of a square crop: of pictures scaled to 8/7 of its side (256 for 224), or to the side itself up to
    /// 64 pixels, where there is nothing to spare.
    pub fn square(side: usize) -> Self {
        let shorter_side = if side <= 64 { side } else { (side * 8 + 3) / 7 };
        Self { shorter_side, ..Self::full(side, side) }
    }

    /// Bytes of all crops of a picture.
    pub fn size(&self) -> usize {
        self.height * self.width * CHANNELS * self.crops.count()
    }

    /// Whether pictures can be seen like this.
    ///
    /// # Errors
    ///
    /// A [`ViewError`] for sides of 0 or more than 16,384 pixels, and crops larger than the scaled picture.
    pub fn check(&self) -> Result<(), ViewError> {
        let Self { height, width, shorter_side, .. } = *self;
        let problem = if height == 0 || width == 0 || height.max(width).max(shorter_side) > Self::LARGEST_SIDE
        {
            format!("sides must be 1 to {} pixels", Self::LARGEST_SIDE)
        } else if shorter_side < height.min(width) {
            format!("a picture scaled to {shorter_side} is smaller than a crop of {height}x{width}")
        } else {
            return Ok(());
        };
        Err(ViewError { height, width, shorter_side, problem })
    }
}

/// A view that no picture can be seen by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pictures cannot be scaled to {shorter_side} and cropped to {height}x{width}: {problem}")]
#[non_exhaustive]
pub struct ViewError {
    /// Height of the crop.
    pub height: usize,
    /// Width of the crop.
    pub width: usize,
    /// Shorter side of the scaled picture.
    pub shorter_side: usize,
    /// What is wrong.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_views_are_refused() {
        for (view, part) in [
            (View::full(0, 5), "sides must be 1 to 16384"),
            (View::full(20_000, 5), "sides must be 1 to 16384"),
            (
                View { shorter_side: 200, ..View::square(224) },
                "scaled to 200 is smaller than a crop of 224x224",
            ),
        ] {
            let message = view.check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(("10".parse(), "1".parse()), (Ok(Crops::Ten), Ok(Crops::Centre)));
        assert!("5".parse::<Crops>().is_err());
    }
}
