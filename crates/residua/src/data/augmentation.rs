//! How training images are varied.

mod auto_augment;
mod colour;
mod draw;
mod erasing;
mod flip;
mod mirror;
mod options;
mod random_crop;
mod shift;
mod trivial;

use std::borrow::Cow;

use rand::{Rng, RngExt};

use self::colour::ColourVariation;
use self::erasing::{cut_out, erase_at_random};
use self::flip::flip_vertically;
use self::random_crop::{RandomCrop, Shape};
use self::shift::Shift;
use self::trivial::Operation;
use residua_infer::normalisation::Normalisation;

pub use self::auto_augment::AutoAugment;
pub use self::mirror::Mirror;
pub use self::options::{AugmentationOption, AugmentationOptions, InvalidAugmentation};
use super::{dataset::Dataset, error::DataError, images::Images};
use residua_infer::words;

/// How training images are cropped and mirrored: `none`, `shift`, `scale` or `scale-aspect`. All but the first mirror
/// an image with probability 1/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augmentation {
    /// Not at all: the image as in tests.
    None,
    /// Padded by 4 pixels on all sides and cropped to the old size at a random position: the paper's for CIFAR
    /// (section 5).
    Shift,
    /// Scaled until the shorter side has 256 to 480 pixels, in proportion for other crops than 224, and cropped at a
    /// random position: the paper's for ImageNet, but for its last networks (section 5).
    Scale,
    /// A random part of 8 to 100 % of the area and of an aspect ratio of 3/4 to 4/3, resized: the paper's for its last
    /// ImageNet networks (Szegedy et al., 2015; torchvision's `RandomResizedCrop`).
    ScaleAspect,
}

words!(Augmentation, "augmentation", {
    None => "none": "as in tests",
    Shift => "shift": "padded by 4, cropped at random, mirrored",
    Scale => "scale": "shorter side 256 to 480, in proportion for other sizes than 224, cropped at random, mirrored",
    ScaleAspect => "scale-aspect": "a random part of 8 to 100 % of the area and of an aspect ratio of 3/4 to 4/3, mirrored",
});

/// What of a training image's crop is not left to chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    /// Side of a crop that is smaller than the images, which then have to be shifted; else it is as large.
    pub(super) crop: Option<usize>,
    /// Whether the image is mirrored, if that is decided.
    pub(super) is_mirrored: Option<bool>,
}

impl Framing {
    /// Height and width of what is made of these images.
    pub(super) fn size(self, images: &Images) -> [usize; 2] {
        self.crop.map_or([images.height(), images.width()], |side| [side; 2])
    }
}

/// Makes training images of pictures.
#[derive(Clone, Debug)]
pub(super) struct Variation {
    options: AugmentationOptions,
    /// Of the image in hand: changed by an operation.
    changed: Vec<u8>,
    /// Of the image in hand: normalised, before it is shifted.
    values: Vec<f32>,
}

impl Variation {
    pub(super) fn new(options: AugmentationOptions) -> Self {
        Self { options, changed: Vec::new(), values: Vec::new() }
    }

    /// Writes image `index`, varied as `random` says and normalised, `[height, width, channel]`, to `out`, which is as large as `framing`
    /// says.
    ///
    /// The order of what is drawn is fixed, as runs go on from it: where images are shifted operation, colour, shift and flip; else crop,
    /// flip, operation and colour; then erasing and cutout. So shifted images are padded with their mean, whatever has become of their
    /// bytes. The authors of TrivialAugment have that order for CIFAR, too.
    pub(super) fn draw(
        &mut self,
        images: &Images,
        index: usize,
        normalisation: &Normalisation,
        framing: Framing,
        random: &mut impl Rng,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let width = images.width();
        let [of_height, of_width] = framing.size(images);
        if self.options.crop == Augmentation::Shift {
            let pixels = images.image(index)?;
            let mut values = std::mem::take(&mut self.values);
            values.resize(pixels.len(), 0.0);
            self.change(&pixels, width, normalisation, random, &mut values);
            let shift = if framing.crop.is_some() { Shift::INSIDE } else { Shift::default() };
            shift.apply(&values, width, [of_height, of_width], framing.is_mirrored, random, out);
            self.values = values;
            if self.is_flipped(random) {
                flip_vertically(out, of_width);
            }
        } else {
            let mut pixels = self.crop(images, index, framing.is_mirrored, random)?;
            if self.is_flipped(random) {
                flip_vertically(pixels.to_mut(), width);
            }
            self.change(&pixels, width, normalisation, random, out);
        }
        let AugmentationOptions { random_erasing, cutout, .. } = self.options;
        if random_erasing > 0.0 && random.random_bool(random_erasing) {
            erase_at_random(out, of_height, of_width, random);
        }
        if cutout > 0 {
            cut_out(out, of_height, of_width, cutout, random);
        }
        Ok(())
    }

    /// The pixels of an image that is not shifted, cropped and mirrored.
    fn crop<'a>(
        &self,
        images: &'a Images,
        index: usize,
        is_mirrored: Option<bool>,
        random: &mut impl Rng,
    ) -> Result<Cow<'a, [u8]>, DataError> {
        let AugmentationOptions { crop, crop_scale, crop_ratio, .. } = self.options;
        let crop = match crop {
            Augmentation::None | Augmentation::Shift => return images.image(index),
            Augmentation::Scale => RandomCrop::Scale,
            Augmentation::ScaleAspect => {
                RandomCrop::ScaleAspect(Shape { areas: crop_scale, ratios: crop_ratio })
            }
        };
        Ok(Cow::Owned(crop.draw(
            &images.picture(index)?,
            images.height(),
            images.width(),
            is_mirrored,
            random,
        )))
    }

    fn is_flipped(&self, random: &mut impl Rng) -> bool {
        self.options.flips_vertically && random.random_bool(0.5)
    }

    /// Changes the pixels of an image by an operation and in colour, and normalises it.
    fn change(
        &mut self,
        pixels: &[u8],
        width: usize,
        normalisation: &Normalisation,
        random: &mut impl Rng,
        out: &mut [f32],
    ) {
        let pixels = match self.options.auto_augment {
            AutoAugment::None => pixels,
            AutoAugment::Trivial => {
                self.changed.resize(pixels.len(), 0);
                let height = pixels.len() / (width * Dataset::CHANNELS);
                Operation::draw(random).apply(pixels, height, width, &mut self.changed);
                &self.changed
            }
        };
        if !self.options.varies_colour {
            return normalisation.apply(pixels, out);
        }
        for (out, &pixel) in out.iter_mut().zip(pixels) {
            *out = f32::from(pixel) / 255.0;
        }
        ColourVariation::draw(random).apply(out);
        normalisation.apply_to_units(out);
    }
}
