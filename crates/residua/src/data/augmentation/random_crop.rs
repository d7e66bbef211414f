//! Random parts of pictures, resized to what a network takes.

use image::RgbImage;
use rand::{Rng, RngExt};

use residua_infer::pictures::{Part, resize_part, resize_window};
use residua_infer::view::View;

use super::draw::{Draw, drawing};
use crate::data::dataset::Dataset;

/// How a part is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum RandomCrop {
    /// The picture is scaled at random, the crop has a random place in it.
    Scale,
    /// The part has a random area, aspect ratio and place.
    ScaleAspect(Shape),
}

/// From which to which the area of a part is, as a share of the picture's, and its aspect ratio (width over height).
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) areas: [f64; 2],
    pub(super) ratios: [f64; 2],
}

/// Shorter sides of a scaled picture, where a crop has 224 pixels.
const SHORTER_SIDES: [usize; 2] = [256, 480];
const OF_CROP: usize = 224;

/// How often an area and a ratio are drawn until the part fits into the picture.
const TRIES: usize = 10;

impl RandomCrop {
    /// A crop of `height` x `width`, `[height, width, channel]`, mirrored with probability 1/2 unless that is decided.
    pub(super) fn draw(
        self,
        picture: &RgbImage,
        height: usize,
        width: usize,
        is_mirrored: Option<bool>,
        random: &mut impl Rng,
    ) -> Vec<u8> {
        let mut pixels = match self {
            Self::Scale => {
                let smaller = height.min(width);
                let [shortest, longest] = SHORTER_SIDES.map(|side| (side * smaller).div_ceil(OF_CROP));
                let shorter_side = random.random_range(shortest..=longest);
                let (tall, wide) = View { shorter_side, ..View::full(height, width) }.scaled(picture);
                let (height, width) = (height as u32, width as u32);
                let top = random.random_range(0..=tall - height);
                let left = random.random_range(0..=wide - width);
                resize_window(picture, (tall, wide), Part { left, top, width, height })
            }
            Self::ScaleAspect(shape) => {
                let part = draw_part(picture.width(), picture.height(), shape, &mut drawing(random));
                resize_part(picture, part, height, width)
            }
        };
        // What is decided uses up its number, too.
        let drawn = random.random_bool(0.5);
        if is_mirrored.unwrap_or(drawn) {
            mirror(&mut pixels, width);
        }
        pixels
    }
}

/// A part of a picture of `width` x `height`, as torchvision's `RandomResizedCrop` chooses it: area and logarithm of the
/// ratio until both sides fit, then top and left; after ten misfits the middle, as large as the ratios allow.
fn draw_part(width: u32, height: u32, shape: Shape, draw: &mut impl FnMut(Draw) -> f64) -> Part {
    let Shape { areas, ratios } = shape;
    let area = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let target = area * draw(Draw::Real(areas[0], areas[1]));
        let ratio = libm::exp(draw(Draw::Real(libm::log(ratios[0]), libm::log(ratios[1]))));
        let [wide, tall] =
            [target * ratio, target / ratio].map(|square| square.sqrt().round_ties_even() as u32);
        if (1..=width).contains(&wide) && (1..=height).contains(&tall) {
            let top = draw(Draw::UpTo(height - tall)) as u32;
            let left = draw(Draw::UpTo(width - wide)) as u32;
            return Part { left, top, width: wide, height: tall };
        }
    }
    let ratio = f64::from(width) / f64::from(height);
    let side = |length: f64| length.round_ties_even().max(1.0) as u32;
    let (wide, tall) = if ratio < ratios[0] {
        (width, side(f64::from(width) / ratios[0]))
    } else if ratio > ratios[1] {
        (side(f64::from(height) * ratios[1]), height)
    } else {
        (width, height)
    };
    Part { left: (width - wide) / 2, top: (height - tall) / 2, width: wide, height: tall }
}

/// Turns each row of an image around.
fn mirror(pixels: &mut [u8], width: usize) {
    let (pixels, _) = pixels.as_chunks_mut::<{ Dataset::CHANNELS }>();
    pixels.chunks_exact_mut(width).for_each(<[_]>::reverse);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image::Rgb;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::data::augmentation::AugmentationOptions;
    use crate::data::random_stream::{Purpose, random_stream};

    const USUAL: Shape =
        Shape { areas: AugmentationOptions::CROP_SCALE, ratios: AugmentationOptions::CROP_RATIO };
    const CROPS: [RandomCrop; 2] = [RandomCrop::Scale, RandomCrop::ScaleAspect(USUAL)];

    /// What torchvision chose, and the numbers it had drawn; see `residua-infer/tests/fixtures/augmentation/make.py`.
    #[derive(Deserialize)]
    struct Chosen {
        width: u32,
        height: u32,
        reals: Vec<f64>,
        top: u32,
        left: u32,
        part_height: u32,
        part_width: u32,
    }

    #[test]
    fn parts_are_those_of_torchvision_on_the_same_numbers() {
        let chosen = include_str!("../../../../residua-infer/tests/fixtures/augmentation/parts.json");
        let chosen: Vec<Chosen> = serde_json::from_str(chosen).unwrap();
        assert!(chosen.len() > 50 && chosen.iter().any(|chosen| chosen.reals.len() == 2 * TRIES));
        for chosen in chosen {
            let mut reals = chosen.reals.iter();
            let mut places = [chosen.top, chosen.left].into_iter();
            let mut draw = |asked| match asked {
                Draw::Real(..) => *reals.next().unwrap(),
                Draw::UpTo(last) => f64::from(places.next().filter(|place| *place <= last).unwrap()),
            };
            let part = draw_part(chosen.width, chosen.height, USUAL, &mut draw);
            let expected = Part {
                left: chosen.left,
                top: chosen.top,
                width: chosen.part_width,
                height: chosen.part_height,
            };
            assert_eq!((part, reals.len()), (expected, 0));
        }
    }

    proptest! {
        #[test]
        fn any_picture_has_a_crop(
            full_width in 1..90u32, full_height in 1..90u32, height in 1..40usize, width in 1..40usize, seed: u64,
        ) {
            let picture = RgbImage::from_fn(full_width, full_height, |x, y| Rgb([x as u8, y as u8, 7]));
            for crop in CROPS {
                let pixels = crop.draw(&picture, height, width, None, &mut random_stream(seed, Purpose::Augmentation, 0));
                prop_assert_eq!(pixels.len(), height * width * 3);
                let is_from = |pixel: &[u8]| {
                    u32::from(pixel[0]) < full_width && u32::from(pixel[1]) < full_height && pixel[2] == 7
                };
                prop_assert!(pixels.chunks_exact(3).all(is_from));
            }
        }
    }

    #[test]
    fn crops_differ_in_place_size_and_direction() {
        let picture = RgbImage::from_fn(100, 80, |x, y| Rgb([2 * x as u8, 3 * y as u8, 0]));
        for crop in CROPS {
            let mut corners = BTreeSet::new();
            let mut mirrored = 0;
            for sample in 0..400 {
                let mut random = random_stream(3, Purpose::Augmentation, sample);
                let pixels = crop.draw(&picture, 32, 32, None, &mut random);
                corners.insert((pixels[0], pixels[1], pixels[31 * 32 * 3 + 1]));
                mirrored += i32::from(pixels[0] > pixels[31 * 3]);
            }
            assert!(
                corners.len() > 200 && (150..250).contains(&mirrored),
                "{crop:?} {} {mirrored}",
                corners.len()
            );
        }
    }

    proptest! {
        #[test]
        fn parts_have_the_shape_that_is_asked_for(
            width in 1..400u32, height in 1..400u32, area in 0.01..1.0f64, ratio in 0.02..50.0f64, seed: u64,
        ) {
            let shape = Shape { areas: [area, (2.0 * area).min(1.0)], ratios: [ratio, 1.5 * ratio] };
            let mut random = random_stream(seed, Purpose::Augmentation, 0);
            let part = draw_part(width, height, shape, &mut drawing(&mut random));
            prop_assert!(part.width > 0 && part.left + part.width <= width);
            prop_assert!(part.height > 0 && part.top + part.height <= height);
            // A part that did not fit has all of one side.
            if part.width < width && part.height < height {
                // Both sides are rounded.
                let (wide, tall) = (f64::from(part.width), f64::from(part.height));
                prop_assert!((wide - 0.5) / (tall + 0.5) <= 1.5 * ratio, "{:?}", part);
                prop_assert!((wide + 0.5) / (tall - 0.5) >= ratio, "{:?}", part);
            }
        }
    }

    #[test]
    fn mirrored_rows_are_turned_around() {
        let mut pixels: Vec<u8> = (0..12).collect();
        mirror(&mut pixels, 2);
        assert_eq!(pixels, [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]);
    }
}
