//! How a recipe varies its training images.

use super::validation::require;
use super::{InvalidOption, OptionProblem, Recipe, RecipeOption};
use crate::data::{Augmentation, AugmentationOption, AugmentationOptions, InvalidAugmentation};
use crate::nn::Layout;
use crate::run::schedule::SmallCrops;
use residua_infer::view::View;

impl Recipe {
    /// How training images are cropped and mirrored.
    ///
    /// # Errors
    /// When the network is impossible.
    pub fn augmentation(&self) -> Result<Augmentation, InvalidOption> {
        let usual = match self.layout()? {
            Layout::ImageNet if self.data.source.is_folder() => Augmentation::ScaleAspect,
            _ => Augmentation::Shift,
        };
        Ok(self.data.augmentation.unwrap_or(usual))
    }

    /// All of how training images are varied.
    ///
    /// # Errors
    /// When the network is impossible.
    pub fn augmentation_options(&self) -> Result<AugmentationOptions, InvalidOption> {
        let data = &self.data;
        let usual = AugmentationOptions::from(self.augmentation()?);
        Ok(AugmentationOptions {
            mirror: data.mirror,
            crop_scale: data.crop_scale.unwrap_or(usual.crop_scale),
            crop_ratio: data.crop_ratio.unwrap_or(usual.crop_ratio),
            flips_vertically: data.flips_vertically,
            auto_augment: data.auto_augment,
            varies_colour: data.varies_colour,
            random_erasing: data.random_erasing,
            cutout: data.cutout,
            ..usual
        })
    }

    /// Whether images of `height` x `width` can be varied as it says.
    ///
    /// # Errors
    /// Names the first option that has an impossible value.
    pub fn check_augmentation(&self, height: usize, width: usize) -> Result<(), InvalidOption> {
        self.augmentation_options()?.check(height, width).map_err(invalid)?;
        let Some(SmallCrops { size, .. }) = self.schedule.small_crops else { return Ok(()) };
        self.augmentation_options()?.check_small_crops(size, height, width).map_err(invalid)
    }

    /// Whether a network can be trained on small crops, as far as that can be said before the images are known.
    pub(super) fn validate_small_crops(&self) -> Result<(), InvalidOption> {
        let Some(SmallCrops { iterations, size }) = self.schedule.small_crops else { return Ok(()) };
        require(iterations > 0, RecipeOption::SmallCropsIterations, iterations, "must be at least 1")?;
        let option = RecipeOption::SmallCropsSize;
        let config = self.network.resolve(1);
        let fits = config.and_then(|config| {
            config.check_input(size, size)?;
            config.check_batch(self.optimiser.batch, size, size)
        });
        fits.map_err(|error| InvalidOption::new(option, size, OptionProblem::Network(error)))?;
        let side = View::LARGEST_SIDE;
        self.augmentation_options()?.check_small_crops(size, side, side).map_err(invalid)
    }

    /// What can be checked before the images are known.
    pub(super) fn validate_augmentation(&self) -> Result<(), InvalidOption> {
        let spans = [
            (RecipeOption::CropScale, self.data.crop_scale),
            (RecipeOption::CropRatio, self.data.crop_ratio),
        ];
        for (option, span) in spans {
            let Some([from, to]) = span else { continue };
            if self.augmentation()? != Augmentation::ScaleAspect {
                let given = format_args!("{from},{to}");
                return Err(InvalidOption::new(option, given, OptionProblem::NeedsScaleAspect));
            }
        }
        if self.data.source.is_folder() {
            let view = self.view()?;
            return self.check_augmentation(view.height, view.width);
        }
        self.augmentation_options()?.check_for_any_size().map_err(invalid)
    }
}

fn invalid(error: InvalidAugmentation) -> InvalidOption {
    let option = match error.option {
        AugmentationOption::CropScale => RecipeOption::CropScale,
        AugmentationOption::CropRatio => RecipeOption::CropRatio,
        AugmentationOption::RandomErasing => RecipeOption::RandomErasing,
        AugmentationOption::Cutout => RecipeOption::Cutout,
        AugmentationOption::SmallCrops => RecipeOption::SmallCropsSize,
    };
    InvalidOption::new(option, error.given, OptionProblem::Rule(error.rule))
}
