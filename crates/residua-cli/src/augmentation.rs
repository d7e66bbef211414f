//! The options that say how training images are varied.

use clap::Args;
use residua::data::{Augmentation, AutoAugment, Mirror};
use residua::run::DataOptions;

use crate::usage::whole;
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub(crate) struct AugmentationArguments {
    /// How training images are cropped and mirrored at random [default: scale-aspect for a folder and an ImageNet network,
    /// else shift].
    #[arg(long, value_name = "KIND", value_parser = words::<Augmentation>())]
    augment: Option<Augmentation>,
    /// Take training images as they are, as --augment none does.
    #[arg(long, conflicts_with = "augment")]
    no_augment: bool,
    /// How an epoch's training images are mirrored, left for right [default: random].
    #[arg(long, value_name = "HOW", value_parser = words::<Mirror>())]
    mirror: Option<Mirror>,
    /// Areas of crops by scale-aspect, from which to which, as shares of the picture's [default: 0.08,1].
    #[arg(long, value_name = "FROM,TO", value_parser = span)]
    crop_scale: Option<[f64; 2]>,
    /// Aspect ratios of crops by scale-aspect, from which to which, width over height [default: 0.75,1.3333].
    #[arg(long, value_name = "FROM,TO", value_parser = span)]
    crop_ratio: Option<[f64; 2]>,
    /// Turn half of the training images upside down.
    #[arg(long)]
    flip_vertical: bool,
    /// Change each training image by an operation that this policy chooses [default: none].
    #[arg(long, value_name = "POLICY", value_parser = words::<AutoAugment>())]
    auto_augment: Option<AutoAugment>,
    /// Vary brightness, contrast, saturation and lighting of training images.
    #[arg(long)]
    colour: bool,
    /// Erase a random part of training images with this probability: 2 to 33 % of the area become the mean colour, as by torchvision's
    /// RandomErasing [default: 0].
    #[arg(long, value_name = "P")]
    random_erasing: Option<f64>,
    /// Cut a square of so many pixels out of every training image, around a random place: it becomes the mean colour; 16 is usual for
    /// CIFAR-10 [default: 0, none].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    cutout: Option<usize>,
    /// Mix pairs of training images and what they are taken for, each share drawn from Beta(A, A), such as 0.2 [default: not].
    #[arg(long, value_name = "A")]
    mixup: Option<f64>,
    /// Exchange a box between pairs of training images, its area drawn from Beta(A, A), such as 1; with --mixup half of the pairs
    /// each [default: not].
    #[arg(long, value_name = "A")]
    cutmix: Option<f64>,
}

impl AugmentationArguments {
    /// Whether any of them is.
    pub(crate) fn are_given(&self) -> bool {
        let mut data = DataOptions::default();
        self.refine(&mut data);
        data != DataOptions::default()
    }

    pub(crate) fn refine(&self, data: &mut DataOptions) {
        let Self { augment, no_augment, crop_scale, crop_ratio, flip_vertical, colour, .. } = *self;
        data.augmentation = augment.or(data.augmentation);
        if no_augment {
            data.augmentation = Some(Augmentation::None);
        }
        data.mirror = self.mirror.unwrap_or(data.mirror);
        data.crop_scale = crop_scale.or(data.crop_scale);
        data.crop_ratio = crop_ratio.or(data.crop_ratio);
        data.flips_vertically |= flip_vertical;
        data.varies_colour |= colour;
        data.auto_augment = self.auto_augment.unwrap_or(data.auto_augment);
        data.random_erasing = self.random_erasing.unwrap_or(data.random_erasing);
        data.cutout = self.cutout.unwrap_or(data.cutout);
        data.mixup = self.mixup.or(data.mixup);
        data.cutmix = self.cutmix.or(data.cutmix);
    }
}

/// Two numbers, from which to which.
fn span(text: &str) -> Result<[f64; 2], &'static str> {
    let wrong = "write two numbers, the smaller first, such as 0.25,1";
    let (from, to) = text.split_once(',').ok_or(wrong)?;
    let number = |text: &str| text.trim().parse().map_err(|_| wrong);
    Ok([number(from)?, number(to)?])
}
