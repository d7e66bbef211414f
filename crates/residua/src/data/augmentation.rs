//! How training images are varied.

mod colour;
mod random_crop;
mod shift;

use std::borrow::Cow;

use rand::Rng;

use self::{colour::ColourVariation, random_crop::RandomCrop, shift::Shift};
use residua_infer::normalisation::Normalisation;

use super::{error::DataError, images::Images};
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

/// Makes training images of pictures.
#[derive(Clone, Debug)]
pub(super) struct Variation {
    augmentation: Augmentation,
    varies_colour: bool,
    /// Of the image in hand: as it was cropped, and normalised.
    values: Vec<f32>,
}

impl Variation {
    pub(super) fn new(augmentation: Augmentation, varies_colour: bool) -> Self {
        Self { augmentation, varies_colour, values: Vec::new() }
    }

    /// Writes image `index`, varied as `random` says and normalised, `[height, width, channel]`, to `out`.
    pub(super) fn draw(
        &mut self,
        images: &Images,
        index: usize,
        normalisation: &Normalisation,
        random: &mut impl Rng,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let (height, width) = (images.height(), images.width());
        let pixels = match self.augmentation {
            Augmentation::None | Augmentation::Shift => images.image(index)?,
            Augmentation::Scale => {
                Cow::Owned(RandomCrop::Scale.draw(&images.picture(index)?, height, width, random))
            }
            Augmentation::ScaleAspect => {
                Cow::Owned(RandomCrop::ScaleAspect.draw(&images.picture(index)?, height, width, random))
            }
        };
        if self.augmentation != Augmentation::Shift {
            self.normalise(&pixels, normalisation, random, out);
            return Ok(());
        }
        let mut values = std::mem::take(&mut self.values);
        values.resize(pixels.len(), 0.0);
        self.normalise(&pixels, normalisation, random, &mut values);
        Shift::default().apply(&values, height, width, random, out);
        self.values = values;
        Ok(())
    }

    fn normalise(
        &self,
        pixels: &[u8],
        normalisation: &Normalisation,
        random: &mut impl Rng,
        out: &mut [f32],
    ) {
        if !self.varies_colour {
            return normalisation.apply(pixels, out);
        }
        for (out, &pixel) in out.iter_mut().zip(pixels) {
            *out = f32::from(pixel) / 255.0;
        }
        ColourVariation::draw(random).apply(out);
        normalisation.apply_to_units(out);
    }
}
