//! TrivialAugment Wide (Müller and Hutter, *TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation*, 2021): each image is
//! changed by one of fourteen operations, of a random strength. Bytes come out as from torchvision's `TrivialAugmentWide` on Pillow's
//! images, with its nearest interpolation and black borders.

mod affine;
mod tone;

use rand::{Rng, RngExt};

use self::affine::Affine;
use self::tone::{Table, adjust_colour, sharpen};

/// What an operation is called in the paper and in torchvision, in the order in which they are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Colour,
    Contrast,
    Sharpness,
    Posterise,
    Solarise,
    AutoContrast,
    Equalise,
}

const KINDS: [Kind; 14] = [
    Kind::Identity,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Colour,
    Kind::Contrast,
    Kind::Sharpness,
    Kind::Posterise,
    Kind::Solarise,
    Kind::AutoContrast,
    Kind::Equalise,
];

/// Strengths of an operation.
const BINS: u32 = 31;

impl Kind {
    fn has_strength(self) -> bool {
        !matches!(self, Self::Identity | Self::AutoContrast | Self::Equalise)
    }

    /// Whether its strength goes both ways.
    fn is_signed(self) -> bool {
        self.has_strength() && !matches!(self, Self::Posterise | Self::Solarise)
    }
}

/// A change of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Identity,
    /// Columns that a row moves for each row above it.
    ShearX(f64),
    /// Rows that a column moves for each column left of it.
    ShearY(f64),
    /// Columns to the right.
    TranslateX(i32),
    /// Rows down.
    TranslateY(i32),
    /// Degrees, counterclockwise.
    Rotate(f64),
    /// 0 is black, 1 the image.
    Brightness(f32),
    /// 0 is grey, 1 the image.
    Colour(f32),
    /// 0 is the mean brightness everywhere, 1 the image.
    Contrast(f32),
    /// 0 is blurred, 1 the image.
    Sharpness(f32),
    /// Bits that are left of each channel.
    Posterise(u32),
    /// From which value on values are inverted.
    Solarise(f32),
    /// Each channel stretched from 0 to 255.
    AutoContrast,
    /// Each channel's values made equally frequent.
    Equalise,
}

impl Operation {
    /// Draws which operation; if it has one, its strength, of 31; if that goes both ways, its sign.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        let kind = KINDS[random.random_range(0..KINDS.len() as u32) as usize];
        let bin = if kind.has_strength() { random.random_range(0..BINS) } else { 0 };
        let is_negative = kind.is_signed() && random.random_bool(0.5);
        Self::new(kind, bin, is_negative)
    }

    fn new(kind: Kind, bin: u32, is_negative: bool) -> Self {
        let signed = |magnitude: f32| f64::from(if is_negative { -magnitude } else { magnitude });
        let factor = || (1.0 + signed(step(0.0, 0.99, bin))) as f32;
        match kind {
            Kind::Identity => Self::Identity,
            Kind::ShearX => Self::ShearX(signed(step(0.0, 0.99, bin))),
            Kind::ShearY => Self::ShearY(signed(step(0.0, 0.99, bin))),
            Kind::TranslateX => Self::TranslateX(signed(step(0.0, 32.0, bin)) as i32),
            Kind::TranslateY => Self::TranslateY(signed(step(0.0, 32.0, bin)) as i32),
            Kind::Rotate => Self::Rotate(signed(step(0.0, 135.0, bin))),
            Kind::Brightness => Self::Brightness(factor()),
            Kind::Colour => Self::Colour(factor()),
            Kind::Contrast => Self::Contrast(factor()),
            Kind::Sharpness => Self::Sharpness(factor()),
            // 8 - bin / 5, rounded: bins are no halves.
            Kind::Posterise => Self::Posterise(8 - (2 * bin + 5) / 10),
            Kind::Solarise => Self::Solarise(step(255.0, 0.0, bin)),
            Kind::AutoContrast => Self::AutoContrast,
            Kind::Equalise => Self::Equalise,
        }
    }

    /// Writes the changed image, `[height, width, channel]`, to `out`.
    pub(super) fn apply(self, image: &[u8], height: usize, width: usize, out: &mut [u8]) {
        let affine = match self {
            Self::Identity => return out.copy_from_slice(image),
            Self::ShearX(factor) => Affine::shear_x(factor),
            Self::ShearY(factor) => Affine::shear_y(factor),
            Self::TranslateX(columns) => Affine::translation(columns, 0),
            Self::TranslateY(rows) => Affine::translation(0, rows),
            Self::Rotate(degrees) => Affine::rotation(degrees, height, width),
            Self::Brightness(factor) => return Table::brightness(factor).apply(image, out),
            Self::Colour(factor) => return adjust_colour(image, factor, out),
            Self::Contrast(factor) => return Table::contrast(image, factor).apply(image, out),
            Self::Sharpness(factor) => return sharpen(image, width, factor, out),
            Self::Posterise(bits) => return Table::posterise(bits).apply(image, out),
            Self::Solarise(threshold) => return Table::solarise(threshold).apply(image, out),
            Self::AutoContrast => return Table::auto_contrast(image).apply(image, out),
            Self::Equalise => return Table::equalise(image).apply(image, out),
        };
        affine.apply(image, height, width, out);
    }
}

/// Number `bin` of 31 numbers spread evenly over a range, as torch's `linspace` gives them in f32: from the nearer end, by fused
/// multiplication. So half of 32 pixels are 15.999999, which are 15.
fn step(from: f32, to: f32, bin: u32) -> f32 {
    let last = BINS - 1;
    let step = f64::from((to - from) / last as f32);
    match bin < BINS / 2 {
        true => (f64::from(from) + step * f64::from(bin)) as f32,
        false => (f64::from(to) - step * f64::from(last - bin)) as f32,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde::Deserialize;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::data::random_stream::{Purpose, random_stream};

    /// What torchvision makes of pictures; see `residua-infer/tests/fixtures/augmentation/make_variations.py`.
    #[derive(Deserialize)]
    struct Torchvision {
        operations: Vec<String>,
        strengths: BTreeMap<String, Vec<f64>>,
        pictures: Vec<Picture>,
    }

    #[derive(Deserialize)]
    struct Picture {
        height: usize,
        width: usize,
        /// Its bytes in hexadecimal digits.
        pixels: String,
        /// By operation, for each strength and sign the beginning of what is made of it, hashed.
        results: BTreeMap<String, Vec<String>>,
    }

    fn torchvision() -> Torchvision {
        let made = include_str!("../../../../residua-infer/tests/fixtures/augmentation/trivial.json");
        serde_json::from_str(made).unwrap()
    }

    #[test]
    fn all_operations_are_those_of_torchvision_to_the_byte() {
        let Torchvision { operations, pictures, .. } = torchvision();
        let mut compared = 0;
        for Picture { height, width, pixels, results } in pictures {
            let pixels: Vec<u8> = (0..pixels.len() / 2)
                .map(|k| u8::from_str_radix(&pixels[2 * k..2 * k + 2], 16).unwrap())
                .collect();
            for (&kind, name) in KINDS.iter().zip(&operations) {
                let signs: &[bool] = if kind.is_signed() { &[false, true] } else { &[false] };
                let bins = if kind.has_strength() { BINS } else { 1 };
                let all = (0..bins).flat_map(|bin| signs.iter().map(move |&is_negative| (bin, is_negative)));
                assert_eq!(results[name].len(), bins as usize * signs.len());
                for ((bin, is_negative), expected) in all.zip(&results[name]) {
                    let mut out = vec![77; pixels.len()];
                    Operation::new(kind, bin, is_negative).apply(&pixels, height, width, &mut out);
                    let found: String =
                        Sha256::digest(&out)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(&found, expected, "{height}x{width} {name} {bin} {is_negative}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 5 * (9 * 62 + 2 * 31 + 3));
    }

    #[test]
    fn operations_and_strengths_are_those_of_torchvision() {
        let Torchvision { operations, strengths, .. } = torchvision();
        let names = "Identity ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize \
                     Solarize AutoContrast Equalize";
        assert_eq!(operations.join(" "), names);
        for (name, from, to) in [
            ("ShearX", 0.0, 0.99),
            ("TranslateY", 0.0, 32.0),
            ("Rotate", 0.0, 135.0),
            ("Sharpness", 0.0, 0.99),
            ("Solarize", 255.0, 0.0),
        ] {
            let steps: Vec<f64> = (0..BINS).map(|bin| f64::from(step(from, to, bin))).collect();
            assert_eq!(steps, strengths[name], "{name}");
        }
    }

    #[test]
    fn every_operation_strength_and_sign_is_drawn_equally_often() {
        let (mut kinds, mut all) = (BTreeMap::new(), BTreeSet::new());
        for sample in 0..14_000 {
            let operation = Operation::draw(&mut random_stream(0, Purpose::Augmentation, sample));
            let text = format!("{operation:?}");
            *kinds.entry(text.split('(').next().unwrap().to_owned()).or_insert(0) += 1;
            all.insert(text);
        }
        assert_eq!(kinds.len(), 14);
        assert!(kinds.values().all(|count| (850..1150).contains(count)), "{kinds:?}");
        // Of strength 0 there is one, where signs are those of factors or pixels; of posterising there are 7.
        assert!((520..600).contains(&all.len()), "{}", all.len());
    }

    proptest! {
        #[test]
        fn any_image_is_changed_and_strength_nothing_changes_nothing(
            height in 1..12usize, width in 1..12usize, kind in 0..14usize, bin in 0..BINS, is_negative: bool, seed: u8,
        ) {
            let image: Vec<u8> = (0..height * width * 3).map(|k| (k * 37 + usize::from(seed)) as u8).collect();
            let mut out = vec![0; image.len()];
            Operation::new(KINDS[kind], bin, is_negative).apply(&image, height, width, &mut out);
            if KINDS[kind].has_strength() {
                Operation::new(KINDS[kind], 0, is_negative).apply(&image, height, width, &mut out);
                let is_whole = |value: &u8| KINDS[kind] == Kind::Solarise && *value == 255;
                prop_assert!(out.iter().zip(&image).all(|(out, value)| out == value || is_whole(value)));
            }
        }
    }
}
