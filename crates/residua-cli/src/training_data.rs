//! The options that say what training makes of a data set.

use clap::Args;
use residua::data::{NormalisationKind, Sampling, Validation};
use residua::run::DataOptions;

use crate::augmentation::AugmentationArguments;
use crate::usage::whole;
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct TrainingDataArguments {
    /// The images to choose by: so many of the training images (5000), or such a share (0.1), drawn by the seed and not learnt from, or
    /// pictures in DIR/CLASS. The best checkpoint and --patience go by them, and the test images are looked at once, at the end
    /// [default: none, the run is tested on the test images as it goes on].
    #[arg(long, value_name = "N|SHARE|DIR")]
    validation: Option<Validation>,
    /// Height and width of what the network sees of a folder's pictures [default: 32 for CIFAR networks, 224 for
    /// ImageNet networks].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    size: Option<usize>,
    /// The share of a folder's pictures that may be unreadable; each is told of and passed over, more end the run
    /// [default: 0.01].
    #[arg(long, value_name = "SHARE")]
    max_unreadable: Option<f64>,
    /// Which images an epoch has [default: once].
    #[arg(long, value_name = "HOW", value_parser = words::<Sampling>())]
    sampling: Option<Sampling>,
    /// Take training images in the data set's order in every epoch.
    #[arg(long)]
    no_shuffle: bool,
    /// What pixels are shifted and scaled by [default: channel].
    #[arg(long, value_name = "KIND", value_parser = words::<NormalisationKind>())]
    normalisation: Option<NormalisationKind>,
    #[command(flatten)]
    augmentation: AugmentationArguments,
}

impl TrainingDataArguments {
    pub(crate) fn refine(&self, data: &mut DataOptions) {
        data.validation = self.validation.clone().or(data.validation.take());
        data.size = self.size.or(data.size);
        data.unreadable_share = self.max_unreadable.unwrap_or(data.unreadable_share);
        data.sampling = self.sampling.unwrap_or(data.sampling);
        data.is_shuffled &= !self.no_shuffle;
        data.normalisation = self.normalisation.unwrap_or(data.normalisation);
        self.augmentation.refine(data);
    }
}
