//! The crops of a picture that a network sees in tests.

use image::RgbImage;

use super::resize::{Part, resize_part, resize_window};
use crate::view::{CHANNELS, Crops, View};

/// The most pixels that a picture is scaled to for several crops; of more, each crop is made by itself.
const LARGEST_SCALED: u64 = 1 << 24;

impl View {
    /// The crops of a picture, `[crop, height, width, channel]`: for ten the four corners and the middle, of the picture
    /// and of its mirror image.
    pub fn crops_of(&self, picture: &RgbImage) -> Vec<u8> {
        let (tall, wide) = self.scaled(picture);
        let (height, width) = (self.height as u32, self.width as u32);
        let (down, across) = (tall - height, wide - width);
        let middle = (half_to_even(across), half_to_even(down));
        if self.crops == Crops::Centre {
            let (left, top) = middle;
            return resize_window(picture, (tall, wide), Part { left, top, width, height });
        }
        // Scaled once, unless that takes more memory than what is seen deserves: of a picture that is much longer than wide.
        let size = u64::from(tall) * u64::from(wide);
        let scaled = (size <= LARGEST_SCALED).then(|| {
            let (full_width, full_height) = picture.dimensions();
            let whole = Part { left: 0, top: 0, width: full_width, height: full_height };
            resize_part(picture, whole, tall as usize, wide as usize)
        });
        let window = |left: u32, top: u32| match &scaled {
            Some(scaled) => (top..top + height)
                .flat_map(|row| {
                    let start = (row * wide + left) as usize * CHANNELS;
                    &scaled[start..start + self.width * CHANNELS]
                })
                .copied()
                .collect(),
            None => resize_window(picture, (tall, wide), Part { left, top, width, height }),
        };
        let mut crops = Vec::with_capacity(self.size());
        for is_mirrored in [false, true] {
            for (left, top) in [(0, 0), (across, 0), (0, down), (across, down), middle] {
                let left = if is_mirrored { across - left } else { left };
                let seen: Vec<u8> = window(left, top);
                for line in seen.chunks_exact(self.width * CHANNELS) {
                    if is_mirrored {
                        let (pixels, _) = line.as_chunks::<CHANNELS>();
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
    pub fn scaled(&self, picture: &RgbImage) -> (u32, u32) {
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

/// Half of a number of pixels; of the two nearest the even one, as Python rounds.
fn half_to_even(pixels: u32) -> u32 {
    let half = pixels / 2;
    half + (pixels % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use serde::Deserialize;

    use std::path::Path;

    use super::super::read_picture;
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
            let found = View { shorter_side: 12, ..View::full(10, 10) }.crops_of(&picture);
            assert_eq!(found, [255; 300], "{width}x{height}");
        }
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2), (257, 255)] {
            for view in
                [View::full(32, 24), View { shorter_side: 40, ..View::full(24, 32) }, View::square(224)]
            {
                assert_eq!(
                    view.crops_of(&gradient(width, height)).len(),
                    view.size(),
                    "{width}x{height} {view:?}"
                );
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
        let crops = view.crops_of(&picture);
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
        assert_eq!(View { crops: Crops::Centre, ..view }.crops_of(&picture), crop(4));
    }

    #[test]
    fn ten_crops_of_a_line_are_those_of_a_shorter_one() {
        // Both are grey from left to right, but for the ends far from the middle.
        let line = |width: u32| {
            RgbImage::from_fn(width, 1, |x, _| {
                let from_middle = f64::from(x) - f64::from(width - 1) / 2.;
                Rgb([(128. + 10. * from_middle).clamp(0., 255.) as u8; 3])
            })
        };
        let view = View { crops: Crops::Ten, shorter_side: 256, ..View::full(224, 224) };
        let size = |picture: &RgbImage| {
            let (tall, wide) = view.scaled(picture);
            u64::from(tall) * u64::from(wide)
        };
        let (long, short) = (line(1001), line(101));
        assert!(size(&long) > LARGEST_SCALED && size(&short) < LARGEST_SCALED);
        let (long, short) = (view.crops_of(&long), view.crops_of(&short));
        let worst = long.iter().zip(&short).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(long.len() == short.len() && worst <= Some(1), "{worst:?}");
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
                (_, Some(shorter_side), None) => {
                    View { shorter_side, ..View::full(side, side) }.crops_of(&picture)
                }
                (_, shorter_side, crop) => {
                    let (shorter_side, crop) = (shorter_side.unwrap(), crop.unwrap());
                    let view = View { shorter_side, crops: Crops::Ten, ..View::full(side, side) };
                    view.crops_of(&picture)[crop * side * side * 3..][..side * side * 3].to_vec()
                }
            };
            let worst = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(found.len() == expected.len() && worst <= Some(1), "{file}: {worst:?}");
        }
    }
}
