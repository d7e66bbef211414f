//! How pictures of any size are shown to a network in tests.

use std::{fmt, path::Path, str::FromStr};

use image::RgbImage;

use super::{
    dataset::Dataset,
    error::DataError,
    picture::read_picture,
    resize::{Part, resize_part, resize_window},
};

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
        self.height * self.width * Dataset::CHANNELS * self.crops.count()
    }

    /// Whether pictures can be seen like this.
    ///
    /// # Errors
    ///
    /// [`DataError::View`] for sides of 0 or more than 16,384 pixels, and crops larger than the scaled picture.
    pub fn check(&self) -> Result<(), DataError> {
        let Self { height, width, shorter_side, .. } = *self;
        let problem = if height == 0 || width == 0 || height.max(width).max(shorter_side) > LARGEST_SIDE {
            format!("sides must be 1 to {LARGEST_SIDE} pixels")
        } else if shorter_side < height.min(width) {
            format!("a picture scaled to {shorter_side} is smaller than a crop of {height}x{width}")
        } else {
            return Ok(());
        };
        Err(DataError::View { height, width, shorter_side, problem })
    }

    /// The crops of a picture, `[crop, height, width, channel]`: for ten the four corners and the middle, of the picture
    /// and of its mirror image.
    pub(super) fn of(&self, picture: &RgbImage) -> Vec<u8> {
        let (tall, wide) = self.scaled(picture);
        let (height, width) = (self.height as u32, self.width as u32);
        let (down, across) = (tall - height, wide - width);
        let middle = (half_to_even(across), half_to_even(down));
        if self.crops == Crops::Centre {
            let (left, top) = middle;
            return resize_window(picture, (tall, wide), Part { left, top, width, height });
        }
        let (full_width, full_height) = picture.dimensions();
        let whole = Part { left: 0, top: 0, width: full_width, height: full_height };
        let scaled = resize_part(picture, whole, tall as usize, wide as usize);
        let mut crops = Vec::with_capacity(self.size());
        for is_mirrored in [false, true] {
            for (left, top) in [(0, 0), (across, 0), (0, down), (across, down), middle] {
                let left = if is_mirrored { across - left } else { left };
                for row in top..top + height {
                    let start = (row * wide + left) as usize * Dataset::CHANNELS;
                    let line = &scaled[start..start + self.width * Dataset::CHANNELS];
                    if is_mirrored {
                        let (pixels, _) = line.as_chunks::<{ Dataset::CHANNELS }>();
                        crops.extend(pixels.iter().rev().flatten());
                    } else {
                        crops.extend_from_slice(line);
                    }
                }
            }
        }
        crops
    }

    /// Height and width of the scaled picture. The longer side is rounded down, as in torchvision.
    pub(super) fn scaled(&self, picture: &RgbImage) -> (u32, u32) {
        let (full_width, full_height) = picture.dimensions();
        let [height, width, full_height, full_width, shorter] =
            [self.height, self.width, full_height as usize, full_width as usize, self.shorter_side]
                .map(|side| side as u64);
        let smaller = height.min(width);
        // The side that just covers the crop decides, the other follows.
        let (tall, wide) = if height * full_width >= width * full_height {
            let tall = (height * shorter).div_ceil(smaller);
            (tall, (full_width * tall / full_height).max(width))
        } else {
            let wide = (width * shorter).div_ceil(smaller);
            ((full_height * wide / full_width).max(height), wide)
        };
        (tall as u32, wide as u32)
    }
}

/// Decodes a picture file and shows it to a network: all crops of the view, `[crop, height, width, channel]`.
///
/// Files are JPEG, PNG, WebP, BMP or GIF (its first frame), of any size. They are turned upright as their EXIF data
/// say; transparency is laid over white.
///
/// # Errors
///
/// A [`DataError`] that names the file, where it is missing, empty, truncated, too large or no image.
pub fn read_image(path: &Path, view: &View) -> Result<Vec<u8>, DataError> {
    view.check()?;
    Ok(view.of(&read_picture(path)?))
}

const LARGEST_SIDE: usize = 16_384;

/// Half of a number of pixels; of the two nearest the even one, as Python rounds.
fn half_to_even(pixels: u32) -> u32 {
    let half = pixels / 2;
    half + (pixels % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use serde::Deserialize;

    use super::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 90]))
    }

    #[test]
    fn the_middle_is_cut_out_and_resized() {
        // A white square in the middle of black sides: only the square is seen.
        for (width, height) in [(90, 30), (30, 90)] {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                let (x, y) = ((x + 15).wrapping_sub(width / 2), (y + 15).wrapping_sub(height / 2));
                Rgb([if x < 30 && y < 30 { 255 } else { 0 }; 3])
            });
            // One pixel of the resized picture's sides reaches over the square's edge.
            let found = View { shorter_side: 12, ..View::full(10, 10) }.of(&picture);
            assert_eq!(found, [255; 300], "{width}x{height}");
        }
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2), (257, 255)] {
            for view in
                [View::full(32, 24), View { shorter_side: 40, ..View::full(24, 32) }, View::square(224)]
            {
                assert_eq!(view.of(&gradient(width, height)).len(), view.size(), "{width}x{height} {view:?}");
            }
        }
    }

    #[test]
    fn scaled_pictures_cover_the_crop_with_the_margin_asked_for() {
        for (view, size, expected) in [
            (View::square(224), (500, 375), (256, 341)),
            (View::square(224), (375, 500), (341, 256)),
            (View::square(32), (32, 32), (32, 32)),
            (View { shorter_side: 320, ..View::full(320, 320) }, (500, 375), (320, 426)),
            (View::full(20, 30), (300, 300), (30, 30)),
        ] {
            assert_eq!(view.scaled(&gradient(size.0, size.1)), expected, "{view:?} {size:?}");
        }
        assert_eq!([0, 1, 2, 3, 4, 5, 33, 35].map(half_to_even), [0, 0, 1, 2, 2, 2, 16, 18]);
    }

    #[test]
    fn ten_crops_are_corners_and_middle_and_their_mirror_images() {
        let picture = gradient(40, 30);
        let view = View { crops: Crops::Ten, shorter_side: 30, ..View::full(20, 20) };
        let crops = view.of(&picture);
        assert_eq!(crops.len(), view.size());
        let crop = |k: usize| &crops[k * 1200..][..1200];
        let pixel =
            |k: usize, y: usize, x: usize| <[u8; 3]>::try_from(&crop(k)[(y * 20 + x) * 3..][..3]).unwrap();
        for (k, left, top) in [(0, 0, 0), (1, 20, 0), (2, 0, 10), (3, 20, 10), (4, 10, 5)] {
            for (x, y) in [(0, 0), (19, 0), (7, 13), (19, 19)] {
                assert_eq!(pixel(k, y, x), picture.get_pixel((left + x) as u32, (top + y) as u32).0);
                let mirrored = [6, 5, 8, 7, 9][k];
                assert_eq!(pixel(mirrored, y, 19 - x), pixel(k, y, x));
            }
        }
        assert_eq!(View { crops: Crops::Centre, ..view }.of(&picture), crop(4));
    }

    /// What torchvision made of a picture; see `tests/fixtures/augmentation/make.py`.
    #[derive(Deserialize)]
    struct Made {
        file: String,
        side: usize,
        /// Left, top, width and height of a part that was cut out and resized.
        part: Option<[u32; 4]>,
        /// Of the scaled picture, whose middle was cut out.
        shorter_side: Option<usize>,
        /// Which of ten crops.
        crop: Option<usize>,
    }

    #[test]
    fn crops_are_those_of_torchvision() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augmentation");
        let picture = read_picture(&Path::new(folder).join("picture.png")).unwrap();
        let made: Vec<Made> =
            serde_json::from_str(include_str!("../../tests/fixtures/augmentation/views.json")).unwrap();
        assert_eq!(made.len(), 18);
        for Made { file, side, part, shorter_side, crop } in made {
            let expected = read_picture(&Path::new(folder).join(&file)).unwrap().into_raw();
            let found = match (part, shorter_side, crop) {
                (Some([left, top, width, height]), ..) => {
                    resize_part(&picture, Part { left, top, width, height }, side, side)
                }
                (_, Some(shorter_side), None) => View { shorter_side, ..View::full(side, side) }.of(&picture),
                (_, shorter_side, crop) => {
                    let (shorter_side, crop) = (shorter_side.unwrap(), crop.unwrap());
                    let view = View { shorter_side, crops: Crops::Ten, ..View::full(side, side) };
                    view.of(&picture)[crop * side * side * 3..][..side * side * 3].to_vec()
                }
            };
            let worst = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(found.len() == expected.len() && worst <= Some(1), "{file}: {worst:?}");
        }
    }

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
