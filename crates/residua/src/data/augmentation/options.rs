//! How training images are varied: all of it, and which of it is possible.

use std::fmt;

use residua_infer::view::View;
use thiserror::Error;

use super::{Augmentation, AutoAugment, Mirror};

/// How training images are varied: cropped and mirrored, flipped, changed by an operation and in colour, normalised, erased in part. By
/// [`Augmentation::Shift`] images are shifted, mirrored and flipped after they are normalised, and padded with zeros.
///
/// Everything follows from the seed and the number of a sample. What is off draws no random number.
///
/// ```
/// use residua::data::{Augmentation, AugmentationOptions, LoaderConfig};
///
/// let mut augmentation = AugmentationOptions::from(Augmentation::Shift);
/// augmentation.cutout = 16;
/// let config = LoaderConfig::new(64, 1).with_augmentation(augmentation);
/// assert_eq!(config.augmentation.cutout, 16);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AugmentationOptions {
    /// How images are cropped and mirrored.
    pub crop: Augmentation,
    /// How an epoch's images are mirrored, if they are.
    pub mirror: Mirror,
    /// Smallest and largest area of a crop by [`Augmentation::ScaleAspect`], as shares of the picture's.
    pub crop_scale: [f64; 2],
    /// Smallest and largest aspect ratio, width over height, of a crop by [`Augmentation::ScaleAspect`].
    pub crop_ratio: [f64; 2],
    /// Whether images are turned upside down with probability 1/2.
    pub flips_vertically: bool,
    /// What chooses an operation for each image.
    pub auto_augment: AutoAugment,
    /// Whether brightness, contrast, saturation and lighting are varied.
    pub varies_colour: bool,
    /// How probably a random part of an image is erased, from 0 to 1: an area of 2 to 33 % and of an aspect ratio of 0.3 to 3.3 is
    /// set to the training images' mean (Zhong et al., 2017; torchvision's `RandomErasing`).
    pub random_erasing: f64,
    /// Side of a square around a random pixel that is set to the training images' mean, in pixels (DeVries and Taylor, 2017); 0
    /// for none.
    pub cutout: usize,
}

impl AugmentationOptions {
    /// Areas of crops, unless others are asked for.
    pub const CROP_SCALE: [f64; 2] = [0.08, 1.0];
    /// Aspect ratios of crops, unless others are asked for.
    pub const CROP_RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

    /// Whether images of `height` x `width` can be varied like this.
    ///
    /// # Errors
    /// Names the first option that has an impossible value.
    pub fn check(&self, height: usize, width: usize) -> Result<(), InvalidAugmentation> {
        let Self { crop_scale, crop_ratio, random_erasing, cutout, .. } = *self;
        let is_span = |[from, to]: [f64; 2]| 0.0 < from && from <= to && to.is_finite();
        let (option, given, rule) = if !is_span(crop_scale) || crop_scale[1] > 1.0 {
            let rule = "must be two shares of a picture's area, above 0 and at most 1, the smaller first; usually 0.08,1";
            (AugmentationOption::CropScale, Given::Span(crop_scale), rule)
        } else if !is_span(crop_ratio) || crop_ratio[0] < LEAST_RATIO || crop_ratio[1] > GREATEST_RATIO {
            let rule = "must be two ratios of width to height, from 0.01 to 100, the smaller first; usually 0.75,1.3333";
            (AugmentationOption::CropRatio, Given::Span(crop_ratio), rule)
        } else if !(0.0..=1.0).contains(&random_erasing) {
            let rule = "must be a probability, at least 0 and at most 1; usually 0.25";
            (AugmentationOption::RandomErasing, Given::Number(random_erasing), rule)
        } else if cutout > height.min(width) {
            let rule = "must be at most the images' shorter side, usually half of it";
            (AugmentationOption::Cutout, Given::Pixels(cutout), rule)
        } else {
            return Ok(());
        };
        Err(InvalidAugmentation { option, given: given.to_string(), rule })
    }

    /// Whether small crops of `size` x `size` pixels can be made of images of `height` x `width`.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn check_small_crops(
        &self,
        size: usize,
        height: usize,
        width: usize,
    ) -> Result<(), InvalidAugmentation> {
        let rule = if self.crop != Augmentation::Shift {
            "wants images that are shifted (augmentation `shift`); leave one of the two out"
        } else if size > height.min(width) {
            "must be at most the images' shorter side"
        } else if size < self.cutout.max(1) {
            "must be at least the side of what is cut out of each image"
        } else {
            return Ok(());
        };
        Err(InvalidAugmentation { option: AugmentationOption::SmallCrops, given: size.to_string(), rule })
    }

    /// As [`check`](Self::check), for images of a size that is not known yet.
    ///
    /// # Errors
    /// As there.
    pub fn check_for_any_size(&self) -> Result<(), InvalidAugmentation> {
        self.check(View::LARGEST_SIDE, View::LARGEST_SIDE)
    }
}

/// Aspect ratios beyond which a crop is a line.
const LEAST_RATIO: f64 = 0.01;
const GREATEST_RATIO: f64 = 100.0;

/// Cropped and mirrored, and nothing else.
impl From<Augmentation> for AugmentationOptions {
    fn from(crop: Augmentation) -> Self {
        Self {
            crop,
            mirror: Mirror::Random,
            crop_scale: Self::CROP_SCALE,
            crop_ratio: Self::CROP_RATIO,
            flips_vertically: false,
            auto_augment: AutoAugment::None,
            varies_colour: false,
            random_erasing: 0.0,
            cutout: 0,
        }
    }
}

/// What is varied, in a word or two each: `shift, random erasing 0.25, cutout 16`.
impl fmt::Display for AugmentationOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crop, crop_scale, crop_ratio, flips_vertically, varies_colour, random_erasing, .. } =
            *self;
        let Self { auto_augment, cutout, .. } = *self;
        crop.fmt(formatter)?;
        if crop == Augmentation::ScaleAspect {
            if crop_scale != Self::CROP_SCALE {
                write!(formatter, " of areas {}", Given::Span(crop_scale))?;
            }
            if crop_ratio != Self::CROP_RATIO {
                write!(formatter, " of ratios {}", Given::Span(crop_ratio))?;
            }
        }
        if self.mirror != Mirror::Random && crop != Augmentation::None {
            write!(formatter, ", mirrored in every other epoch")?;
        }
        if flips_vertically {
            write!(formatter, ", vertical flip")?;
        }
        if auto_augment != AutoAugment::None {
            write!(formatter, ", {auto_augment}")?;
        }
        if varies_colour {
            write!(formatter, ", colour")?;
        }
        if random_erasing > 0.0 {
            write!(formatter, ", random erasing {random_erasing}")?;
        }
        if cutout > 0 {
            write!(formatter, ", cutout {cutout}")?;
        }
        Ok(())
    }
}

/// A value as it is written.
enum Given {
    Span([f64; 2]),
    Number(f64),
    Pixels(usize),
}

impl fmt::Display for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span([from, to]) => write!(formatter, "{from},{to}"),
            Self::Number(number) => number.fmt(formatter),
            Self::Pixels(pixels) => pixels.fmt(formatter),
        }
    }
}

/// An option of [`AugmentationOptions`] of which not every value is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AugmentationOption {
    /// Areas of crops.
    CropScale,
    /// Aspect ratios of crops.
    CropRatio,
    /// How probably a part is erased.
    RandomErasing,
    /// Side of the square that is cut out.
    Cutout,
    /// Height and width of the crops that a stream begins with.
    SmallCrops,
}

impl fmt::Display for AugmentationOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CropScale => "crop_scale",
            Self::CropRatio => "crop_ratio",
            Self::RandomErasing => "random_erasing",
            Self::Cutout => "cutout",
            Self::SmallCrops => "small_crops",
        })
    }
}

/// An impossible way to vary images.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{option} = {given}: {rule}")]
#[non_exhaustive]
pub struct InvalidAugmentation {
    /// The option.
    pub option: AugmentationOption,
    /// Its value.
    pub given: String,
    /// What it must be.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_crops_are_of_shifted_images_and_larger_than_what_is_cut_out() {
        let mut options = AugmentationOptions::from(Augmentation::Shift);
        options.cutout = 8;
        let message = |options: AugmentationOptions, size| {
            options.check_small_crops(size, 32, 24).map_err(|error| error.to_string())
        };
        assert_eq!((message(options, 8), message(options, 24)), (Ok(()), Ok(())));
        for (size, expected) in [
            (7, "small_crops = 7: must be at least the side of what is cut out"),
            (25, "small_crops = 25: must be at most the images' shorter side"),
        ] {
            assert!(message(options, size).unwrap_err().starts_with(expected));
        }
        options.cutout = 0;
        assert!(message(options, 0).is_err() && message(options, 1).is_ok());
        options.crop = Augmentation::Scale;
        assert!(
            message(options, 24).unwrap_err().starts_with("small_crops = 24: wants images that are shifted")
        );
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        type Edit = fn(&mut AugmentationOptions);
        let edits: [(Edit, &str); 9] = [
            (|options| options.crop_scale = [0.0, 1.0], "crop_scale = 0,1: must be two shares"),
            (|options| options.crop_scale = [0.5, 0.4], "crop_scale = 0.5,0.4"),
            (|options| options.crop_scale = [0.5, 1.5], "crop_scale = 0.5,1.5"),
            (|options| options.crop_ratio = [f64::NAN, 1.0], "crop_ratio = NaN,1"),
            (|options| options.crop_ratio = [1.0, f64::INFINITY], "crop_ratio = 1,inf"),
            (|options| options.crop_ratio = [1e-9, 1.0], "crop_ratio = 0.000000001,1"),
            (|options| options.random_erasing = 1.1, "random_erasing = 1.1: must be a probability"),
            (|options| options.random_erasing = f64::NAN, "random_erasing = NaN"),
            (|options| options.cutout = 33, "cutout = 33: must be at most the images' shorter side"),
        ];
        for (edit, beginning) in edits {
            let mut options = AugmentationOptions::from(Augmentation::ScaleAspect);
            options.check(32, 40).unwrap();
            edit(&mut options);
            let message = options.check(32, 40).unwrap_err().to_string();
            assert!(message.starts_with(beginning), "{beginning}: {message}");
        }
    }

    #[test]
    fn what_is_varied_is_said_in_words() {
        let mut options = AugmentationOptions::from(Augmentation::ScaleAspect);
        assert_eq!(options.to_string(), "scale-aspect");
        options.crop_scale = [0.25, 1.0];
        options.flips_vertically = true;
        options.auto_augment = AutoAugment::Trivial;
        options.varies_colour = true;
        options.random_erasing = 0.25;
        options.cutout = 16;
        assert_eq!(
            options.to_string(),
            "scale-aspect of areas 0.25,1, vertical flip, trivial, colour, random erasing 0.25, cutout 16"
        );
    }
}
