//! Rectangles of normalised images that are taken out: set to zero, which is the training images' mean.

use rand::Rng;

use residua_infer::pictures::Part;

use super::draw::{Draw, drawing};
use crate::data::dataset::Dataset;

/// Areas of an erased part, as shares of the image, and aspect ratios (height over width).
const AREAS: [f64; 2] = [0.02, 0.33];
const RATIOS: [f64; 2] = [0.3, 3.3];

/// How often an area and a ratio are drawn until the part fits into the image.
const TRIES: usize = 10;

/// Erases a random part of an image (Zhong et al., *Random Erasing Data Augmentation*, 2017): its area is uniform in 2 to 33 % of the
/// image's, the logarithm of its aspect ratio uniform in those of 0.3 to 3.3.
pub(super) fn erase_at_random(image: &mut [f32], height: usize, width: usize, random: &mut impl Rng) {
    if let Some(part) = draw_part(height as u32, width as u32, &mut drawing(random)) {
        erase(image, width, part);
    }
}

/// Erases a square of `side` pixels around a random pixel, as far as it lies in the image (DeVries and Taylor, *Improved
/// Regularization of Convolutional Neural Networks with Cutout*, 2017). It begins `side / 2` rows above and columns left of the pixel.
pub(super) fn cut_out(image: &mut [f32], height: usize, width: usize, side: usize, random: &mut impl Rng) {
    let mut draw = drawing(random);
    let [(top, tall), (left, wide)] = [height, width].map(|length| {
        let centre = draw(Draw::UpTo(length as u32 - 1)) as usize;
        let start = centre.saturating_sub(side / 2);
        let end = (centre + side - side / 2).min(length);
        (start as u32, (end - start) as u32)
    });
    erase(image, width, Part { left, top, width: wide, height: tall });
}

/// A part of an image of `height` x `width`, as torchvision's `RandomErasing` chooses it: area and logarithm of the ratio until both
/// sides are shorter than the image's, then top and left; none after ten misfits.
fn draw_part(height: u32, width: u32, draw: &mut impl FnMut(Draw) -> f64) -> Option<Part> {
    let area = f64::from(height) * f64::from(width);
    let [least, greatest] = RATIOS.map(libm::log);
    for _ in 0..TRIES {
        let target = area * draw(Draw::Real(AREAS[0], AREAS[1]));
        let ratio = libm::exp(draw(Draw::Real(least, greatest)));
        let [tall, wide] =
            [target * ratio, target / ratio].map(|square| square.sqrt().round_ties_even() as u32);
        if tall < height && wide < width {
            let top = draw(Draw::UpTo(height - tall)) as u32;
            let left = draw(Draw::UpTo(width - wide)) as u32;
            return Some(Part { left, top, width: wide, height: tall });
        }
    }
    None
}

/// Sets a part of an image, `[height, width, channel]`, to zero.
fn erase(image: &mut [f32], width: usize, part: Part) {
    let (pixels, _) = image.as_chunks_mut::<{ Dataset::CHANNELS }>();
    let (left, wide) = (part.left as usize, part.width as usize);
    for row in pixels.chunks_exact_mut(width).skip(part.top as usize).take(part.height as usize) {
        row[left..left + wide].fill([0.0; Dataset::CHANNELS]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::data::random_stream::{Purpose, random_stream};

    /// What torchvision erased, and the numbers it had drawn; see `residua-infer/tests/fixtures/augmentation/make_variations.py`.
    #[derive(Deserialize)]
    struct Erased {
        height: u32,
        width: u32,
        reals: Vec<f64>,
        /// Top, left, height, width; none where nothing fitted.
        part: Option<[u32; 4]>,
    }

    #[test]
    fn parts_are_those_of_torchvision_on_the_same_numbers() {
        let erased = include_str!("../../../../residua-infer/tests/fixtures/augmentation/erased.json");
        let erased: Vec<Erased> = serde_json::from_str(erased).unwrap();
        assert!(erased.len() > 50 && erased.iter().any(|erased| erased.part.is_none()));
        for Erased { height, width, reals, part } in erased {
            let mut reals = reals.into_iter();
            let mut places = part.iter().flat_map(|part| [part[0], part[1]]);
            let mut draw = |asked| match asked {
                Draw::Real(from, to) => {
                    let real = reals.next().unwrap();
                    assert!((from - 1e-6..=to + 1e-6).contains(&real), "{real}");
                    real
                }
                Draw::UpTo(last) => f64::from(places.next().filter(|place| *place <= last).unwrap()),
            };
            let found = draw_part(height, width, &mut draw);
            assert_eq!(found.map(|found| [found.top, found.left, found.height, found.width]), part);
            assert_eq!(reals.len(), 0);
        }
    }

    /// Top, left, height and width of what is zero in an image that was one, which must be a rectangle.
    fn erased(image: &[f32], width: usize) -> Option<[usize; 4]> {
        let zeros: Vec<_> = (0..image.len() / 3).filter(|k| image[3 * k] == 0.0).collect();
        let (first, last) = (zeros.first()?, zeros.last()?);
        let [top, left, bottom, right] = [first / width, first % width, last / width, last % width];
        assert_eq!(zeros.len(), (bottom - top + 1) * (right - left + 1));
        assert!(zeros.iter().all(|k| (left..=right).contains(&(k % width))));
        assert!(zeros.iter().all(|k| image[3 * k..3 * k + 3] == [0.0; 3]));
        Some([top, left, bottom - top + 1, right - left + 1])
    }

    proptest! {
        #[test]
        fn erased_parts_lie_in_the_image(height in 1..40usize, width in 1..40usize, side in 1..50usize, seed: u64) {
            let mut image = vec![1.0; height * width * 3];
            let mut random = random_stream(seed, Purpose::Augmentation, 0);
            cut_out(&mut image, height, width, side, &mut random);
            let [_, _, tall, wide] = erased(&image, width).unwrap();
            // At least the quarter towards the image's middle is there.
            prop_assert!((side / 2 .. side + 1).contains(&tall) || tall == height, "{tall}");
            prop_assert!((side / 2 .. side + 1).contains(&wide) || wide == width, "{wide}");
            let mut image = vec![1.0; height * width * 3];
            erase_at_random(&mut image, height, width, &mut random);
            if let Some([_, _, tall, wide]) = erased(&image, width) {
                prop_assert!(tall < height && wide < width);
            }
        }
    }

    #[test]
    fn cutouts_have_every_centre() {
        let mut found = BTreeSet::new();
        for sample in 0..2000 {
            let mut image = vec![1.0; 6 * 5 * 3];
            cut_out(&mut image, 6, 5, 4, &mut random_stream(0, Purpose::Augmentation, sample));
            found.insert(erased(&image, 5).unwrap());
        }
        // Centres c cover c - 2 to c + 1, clipped.
        let span = |length: usize, centre: usize| {
            let start = centre.saturating_sub(2);
            (start, (centre + 2).min(length) - start)
        };
        let expected = (0..6).flat_map(|row| (0..5).map(move |column| (span(6, row), span(5, column))));
        let expected = expected.map(|((top, tall), (left, wide))| [top, left, tall, wide]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn areas_and_ratios_are_drawn_over_their_range() {
        let (mut smallest, mut largest) = (f64::MAX, 0f64);
        for sample in 0..2000 {
            let mut random = random_stream(0, Purpose::Augmentation, sample);
            let part = draw_part(200, 200, &mut drawing(&mut random)).unwrap();
            let area = f64::from(part.width * part.height) / 4e4;
            let ratio = f64::from(part.height) / f64::from(part.width);
            assert!((0.019..0.34).contains(&area) && (0.28..3.5).contains(&ratio), "{part:?}");
            (smallest, largest) = (smallest.min(area), largest.max(area));
        }
        assert!(smallest < 0.025 && largest > 0.32, "{smallest} {largest}");
    }
}
