//! The options that say which network.

use std::fmt::Display;
use std::num::NonZeroUsize;

use clap::Args;
use residua::data::View;
use residua::infer::choice::{Choices, nearest, suggestion};
use residua::nn::{
    Block, DimensionChange, Layout, NetworkError, NetworkOptions, Ordering, Precision, ResNetConfig,
    Shortcut, ShortcutError, StemPooling, StridePlacement, Trunk,
};

use crate::usage::{UsageError, count};
use crate::words::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArguments {
    /// resnet<depth> (original units) or preresnet<depth> (full pre-activation). CIFAR networks have depth 6n+2
    /// (basic units: 20, 32, 44, 56, 110, ...) or 9n+2 (bottleneck units: 164, 1001, ...); 18, 34, 50, 101, 152 and
    /// 200 are ImageNet networks. wrn-<depth>-<width> is a wide CIFAR network, of depth 6n+4: wrn-28-10, wrn-16-4
    /// [default: preresnet20, in bench preresnet110].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Placement of BN and ReLU in a unit; W is a convolution, a bottleneck has one more W BN ReLU [default: by the model's name].
    #[arg(long, value_name = "ORDERING", value_parser = words::<Ordering>())]
    ordering: Option<Ordering>,
    /// What stands on every shortcut [default: identity].
    #[arg(long, value_name = "SHORTCUT", allow_hyphen_values = true, value_parser = words::<Shortcut>())]
    shortcut: Option<Shortcut>,
    /// Shortcut where dimensions change [default: a in CIFAR networks of basic and single units and of width 1, b elsewhere].
    #[arg(long, value_name = "A|B", value_parser = words::<DimensionChange>())]
    dimensions: Option<DimensionChange>,
    /// Convolutions of a unit [default: by the depth].
    #[arg(long, value_name = "BLOCK", value_parser = words::<Block>())]
    block: Option<Block>,
    /// What the channels of stages are multiplied by: all channels of single and basic units, of bottleneck units those between
    /// their convolutions, as in torchvision's wide_resnet50_2. The stem's channels stay [default: by the model's name, else 1].
    #[arg(long, value_name = "K", value_parser = count::<NonZeroUsize>)]
    width: Option<NonZeroUsize>,
    /// Stem and stages [default: by the depth].
    #[arg(long, value_name = "LAYOUT", value_parser = words::<Layout>())]
    layout: Option<Layout>,
    /// Which convolution of a bottleneck unit has the stride [default: first].
    #[arg(long, value_name = "PLACE", value_parser = words::<StridePlacement>())]
    stride_placement: Option<StridePlacement>,
    /// Order of an ImageNet network's stem [default: pool-last].
    #[arg(long = "stem", value_name = "ORDER", value_parser = words::<StemPooling>())]
    stem_pooling: Option<StemPooling>,
    /// Images over which batch normalisation takes statistics in training [default: the whole batch].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    bn_group: Option<NonZeroUsize>,
    /// What training stores the feature maps between units, and their gradients, in [default: f32].
    #[arg(long, value_name = "F32|BF16", value_parser = words::<Trunk>())]
    trunk: Option<Trunk>,
    /// What is multiplied in: bf16 rounds what convolutions read to three digits, and is faster; sums, statistics and weights are of
    /// f32 [default: f32].
    #[arg(long, value_name = "F32|BF16", value_parser = words::<Precision>())]
    precision: Option<Precision>,
}

impl NetworkArguments {
    pub(crate) fn precision(&self) -> Option<Precision> {
        self.precision
    }

    /// Whether any of them was.
    pub(crate) fn are_given(&self) -> bool {
        self.refine(&NetworkOptions::default()) != NetworkOptions::default()
    }

    /// The network meant, where `options` is what holds if nothing is said.
    ///
    /// Another model than that of `options` is taken without its refinements.
    pub(crate) fn refine(&self, options: &NetworkOptions) -> NetworkOptions {
        let base = match &self.model {
            Some(model) if *model != options.model => {
                NetworkOptions { bn_group: options.bn_group, ..NetworkOptions::named(model) }
            }
            _ => options.clone(),
        };
        NetworkOptions {
            model: base.model,
            ordering: self.ordering.or(base.ordering),
            shortcut: self.shortcut.or(base.shortcut),
            dimensions: self.dimensions.or(base.dimensions),
            block: self.block.or(base.block),
            width: self.width.map(NonZeroUsize::get).or(base.width),
            layout: self.layout.or(base.layout),
            stride_placement: self.stride_placement.or(base.stride_placement),
            stem_pooling: self.stem_pooling.or(base.stem_pooling),
            bn_group: self.bn_group.map(NonZeroUsize::get).or(base.bn_group),
            trunk: self.trunk.or(base.trunk),
            precision: self.precision.or(base.precision),
        }
    }

    /// The network meant, where `model` is meant if no other is named.
    pub(crate) fn options(&self, model: &str) -> NetworkOptions {
        self.refine(&NetworkOptions::named(model))
    }
}

/// What a width is written behind, in a network in one word.
const WIDTH: &str = "width:";

/// A network in one word: `MODEL/REFINEMENT/...`, such as `resnet110/scale:0.5,0.5`; one that there can be.
pub(crate) fn parse_network(text: &str) -> Result<NetworkOptions, UsageError> {
    let wrong = |error: &dyn Display| UsageError::new(format_args!("{}: {error}", visible(text)));
    let mut parts = text.split('/');
    let mut options = NetworkOptions::named(parts.next().unwrap_or_default());
    for part in parts {
        let shortcut = part.parse();
        if let Ok(ordering) = part.parse() {
            options.ordering = Some(ordering);
        } else if let Ok(shortcut) = shortcut {
            options.shortcut = Some(shortcut);
        } else if let Ok(block) = part.parse() {
            options.block = Some(block);
        } else if let Ok(dimensions) = part.parse() {
            options.dimensions = Some(dimensions);
        } else if let Some(width) = part.strip_prefix(WIDTH) {
            options.width = Some(
                count::<NonZeroUsize>(width).map_err(|error| wrong(&format_args!("{part}: {error}")))?.get(),
            );
        } else if let Err(error @ ShortcutError::Parameters { .. }) = shortcut {
            return Err(wrong(&error));
        } else {
            return Err(wrong(&no_refinement(part)));
        }
    }
    options.resolve(1).map_err(|error| wrong(&error))?;
    Ok(options)
}

fn no_refinement(part: &str) -> String {
    let width = vec![WIDTH.trim_end_matches(':')];
    let words =
        [Ordering::words(), Shortcut::words(), Block::words(), DimensionChange::words(), width].concat();
    let word = part.split(':').next().unwrap_or_default();
    format!(
        "'{part}' is no ordering, shortcut, block, dimension change or width{}; see residua train --help",
        suggestion(nearest(word, &words))
    )
}

/// A name that an error begins with, also if it is empty.
pub(crate) fn visible(name: &str) -> &str {
    if name.is_empty() { "''" } else { name }
}

/// The images and classes that a network is made for, where no data set says it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct ImageArguments {
    /// Outputs of the classifier [default: 10 for CIFAR networks, 1000 for ImageNet networks].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    classes: Option<NonZeroUsize>,
    /// Height and width of the images [default: 32x32 for CIFAR networks, 224x224 for ImageNet networks].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    size: Option<[usize; 2]>,
}

impl ImageArguments {
    /// Whether any of them was.
    pub(crate) fn are_given(&self) -> bool {
        self.classes.is_some() || self.size.is_some()
    }

    /// The network meant, and height and width of its images.
    pub(crate) fn resolve(&self, options: &NetworkOptions) -> Result<(ResNetConfig, [usize; 2]), UsageError> {
        let resolve = |classes| options.resolve(classes).map_err(|error| impossible(options, &error));
        let (classes, size) = match resolve(1)?.layout {
            Layout::Cifar => (10, [32, 32]),
            Layout::ImageNet => (1000, [224, 224]),
        };
        let config = resolve(self.classes.map_or(classes, NonZeroUsize::get))?;
        Ok((config, self.size.unwrap_or(size)))
    }
}

/// Options that are no network.
pub(crate) fn impossible(options: &NetworkOptions, error: &NetworkError) -> UsageError {
    UsageError::new(format_args!("--model {}: {error}", visible(&options.model)))
}

/// A height and width, such as 32x32; one number means a square.
fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height @ 1..=View::LARGEST_SIDE), Ok(width @ 1..=View::LARGEST_SIDE)) => Ok([height, width]),
        _ => Err(format!("write HEIGHTxWIDTH in pixels, 1 to {} each, such as 32x32", View::LARGEST_SIDE)),
    }
}
