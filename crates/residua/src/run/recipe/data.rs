//! Which images a run learns from, and how they come to the network.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::data::{
    Augmentation, AutoAugment, ImageFolder, Mirror, NormalisationKind, Sampling, Source, Validation,
};

/// The images to train and test on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataOptions {
    /// The data set: `shapes`, `cifar10:DIR`, `cifar100:DIR` or `folder:DIR`; `own:NAME` are images that the program which began
    /// the run holds or makes itself.
    pub source: Source,
    /// The images to choose by, usually held out of the training images; if left out, the run is tested on the test images as it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// How pixels become inputs.
    #[serde(default)]
    pub normalisation: NormalisationKind,
    /// Height and width of what a network sees of pictures in a folder; if left out, 32 for CIFAR networks and 224 for
    /// ImageNet networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// How training images are cropped and mirrored; if left out, `scale-aspect` for pictures in a folder and an
    /// ImageNet network, else `shift`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// How an epoch's training images are mirrored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mirror: Mirror,
    /// Areas of crops by `scale-aspect`, from which to which, as shares of the picture's; if left out, 0.08 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_scale: Option<[f64; 2]>,
    /// Aspect ratios of crops by `scale-aspect`, from which to which, width over height; if left out, 3/4 to 4/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_ratio: Option<[f64; 2]>,
    /// Whether training images are turned upside down with probability 1/2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flips_vertically: bool,
    /// What chooses an operation for each training image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_augment: AutoAugment,
    /// Whether brightness, contrast, saturation and lighting of training images are varied.
    #[serde(default)]
    pub varies_colour: bool,
    /// How probably a random part of a training image is erased.
    #[serde(default, skip_serializing_if = "is_default")]
    pub random_erasing: f64,
    /// Side of the square that is cut out of every training image, in pixels; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cutout: usize,
    /// The `alpha` of mixup, where images are mixed so ([`Mixing`](crate::data::Mixing)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// The `alpha` of CutMix likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
    /// Which images an epoch has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// Whether every epoch has an order of its own.
    #[serde(default = "yes")]
    pub is_shuffled: bool,
    /// The share of a folder's pictures that may be unreadable; more end the run.
    #[serde(default = "unreadable_share")]
    pub unreadable_share: f64,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self::of(Source::Shapes)
    }
}

impl DataOptions {
    /// Images from there, in an order of their own in every epoch, normalised, cropped and mirrored as usual.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            validation: None,
            normalisation: NormalisationKind::default(),
            size: None,
            augmentation: None,
            mirror: Mirror::Random,
            crop_scale: None,
            crop_ratio: None,
            flips_vertically: false,
            auto_augment: AutoAugment::None,
            varies_colour: false,
            random_erasing: 0.0,
            cutout: 0,
            mixup: None,
            cutmix: None,
            sampling: Sampling::Once,
            is_shuffled: true,
            unreadable_share: ImageFolder::UNREADABLE_SHARE,
        }
    }
}

fn yes() -> bool {
    true
}

fn unreadable_share() -> f64 {
    ImageFolder::UNREADABLE_SHARE
}
