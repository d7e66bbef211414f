//! What is wrong with a network, or with what it is given.

use thiserror::Error;

use crate::precision::UnavailablePrecision;

use super::name::wide_name;
use super::ordering::Ordering;
use super::part::Part;
use super::variants::{Block, Layout};
use crate::choice::nearest;

/// A network that cannot be built, or an input that it cannot take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The name is not `resnet<depth>`, `preresnet<depth>` or `wrn-<depth>-<width>`.
    #[error(
        "unknown model '{given}'{}; write resnet<depth> (original units), preresnet<depth> (pre-activation units) or \
         wrn-<depth>-<width> (wide networks), such as resnet20, preresnet110, preresnet164 or wrn-28-10",
        nearest_model(.given)
    )]
    UnknownModel {
        /// The name that was given.
        given: String,
    },
    /// No CIFAR network has this depth, whichever the block.
    #[error(
        "no CIFAR network has depth {depth}: with basic units it must be 6n+2 (nearest: {}), with bottleneck units 9n+2 (nearest: {})",
        nearest_depths(*depth, 6),
        nearest_depths(*depth, 9)
    )]
    AnyCifarDepth {
        /// The depth that was asked for.
        depth: usize,
    },
    /// No CIFAR network of this block has this depth.
    #[error(
        "depth {depth} does not fit {block} units: it must be {per_unit}n+2, the nearest are {below} and {above}"
    )]
    CifarDepth {
        /// The depth that was asked for.
        depth: usize,
        /// The block of the network.
        block: Block,
        /// Layers that one unit in each of the three stages adds.
        per_unit: usize,
        /// The nearest depth below that works (or the smallest of all).
        below: usize,
        /// The nearest depth above that works.
        above: usize,
    },
    /// No wide network has this depth.
    #[error("no wide residual network has depth {depth}: it must be 6n+4, such as 16, 22, 28 or 40 (nearest: {})", nearest_wide(*depth))]
    WideDepth {
        /// The depth in the name.
        depth: usize,
    },
    /// The name of a wide network says another width.
    #[error("{model} has width {width}, not {given}; leave the width out, or name another network")]
    WideName {
        /// The name.
        model: String,
        /// The width in it.
        width: usize,
        /// The width that was asked for.
        given: usize,
    },
    /// A wide network by its paper's name, with another frame.
    #[error(
        "{model} is a CIFAR network of basic units; leave block and layout out, or write resnet<depth> or preresnet<depth> with a width"
    )]
    WideFrame {
        /// The name.
        model: String,
    },
    /// The depth is out of bounds.
    #[error("a depth of {depth}: it must be at most {most}")]
    TooDeep {
        /// The depth that was asked for.
        depth: usize,
        /// The largest possible.
        most: usize,
    },
    /// The width is out of bounds.
    #[error("a width of {given}: it must be from 1 to {most}")]
    Width {
        /// The width that was asked for.
        given: usize,
        /// The largest possible.
        most: usize,
    },
    /// A wide network of so many weights that no machine would hold them.
    #[error(
        "width {width} at depth {depth} makes {weights} weights in convolutions, and {most} are the most that is counted with; make width or depth smaller"
    )]
    TooLarge {
        /// Width of the network.
        width: usize,
        /// Its depth.
        depth: usize,
        /// Weights of its convolutions.
        weights: u64,
        /// The most that there may be.
        most: u64,
    },
    /// No ImageNet network has this depth.
    #[error(
        "depth {depth} is no ImageNet network; they are 18 and 34 (basic units), 50, 101, 152 and 200 (bottleneck units)"
    )]
    ImageNetDepth {
        /// The depth that was asked for.
        depth: usize,
    },
    /// The ImageNet network of this depth is made of other units.
    #[error("the ImageNet network of depth {depth} has {expected} units, not {given}; leave the block out")]
    ImageNetBlock {
        /// The depth that was asked for.
        depth: usize,
        /// The block of that network.
        expected: Block,
        /// The block that was asked for.
        given: Block,
    },
    /// Only a bottleneck unit has a middle convolution.
    #[error(
        "stride placement 'middle' is for bottleneck units; {block} units have stride 2 in their first convolution"
    )]
    NoMiddleConvolution {
        /// The block of the network.
        block: Block,
    },
    /// A stem that pools first leaves BN and ReLU to the first unit.
    #[error(
        "a stem that pools first is for ImageNet networks whose units begin with BN and ReLU (ordering preact), not for \
         layout {layout} with ordering {ordering}"
    )]
    PoolFirst {
        /// Layout of the network.
        layout: Layout,
        /// Ordering of its units.
        ordering: Ordering,
    },
    /// A number that must be positive is zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// What is zero.
        what: &'static str,
    },
    /// The strides do not divide the input.
    #[error("input of {height}x{width} pixels: the {layout} networks take heights and widths that are multiples of {multiple} (nearest: {}x{})", nearest_multiple(*height, *multiple), nearest_multiple(*width, *multiple))]
    InputSize {
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
        /// Layout of the network.
        layout: Layout,
        /// What height and width must be multiples of.
        multiple: usize,
    },
    /// The input is not an image batch of 3 channels.
    #[error("input of shape {shape:?}: expected [batch, 3, height, width] with at least one image")]
    InputShape {
        /// The shape that was given.
        shape: Vec<usize>,
    },
    /// Batch statistics over groups need whole groups.
    #[error(
        "a batch of {batch} images cannot be cut into batch-norm groups of {group}; make it a multiple of {group}"
    )]
    BatchGroup {
        /// Images in the batch.
        batch: usize,
        /// Images in a group.
        group: usize,
    },
    /// An image that the network's strides leave nothing of.
    #[error("images of {height}x{width} pixels are too small; their sides must be {least} or more")]
    TooSmall {
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
        /// The least possible side.
        least: usize,
    },
    /// One value per channel has no variance.
    #[error(
        "one value per channel: a batch of {group} image(s) of {height}x{width} pixels leaves nothing to take batch statistics of; use larger batches or images"
    )]
    SingleValue {
        /// Images over which statistics are taken.
        group: usize,
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
    },
    /// A trunk of bfloat16 where units are put together from several operations, which keep their maps in f32.
    #[error(
        "a trunk of bf16 wants units that add branch and shortcut as they are (identity or conv1x1), not shortcut \
         {shortcut}; train with a trunk of f32"
    )]
    Trunk {
        /// What stands on the shortcuts.
        shortcut: String,
    },
    /// A precision of bfloat16 where units are put together from several operations, which compute in f32.
    #[error(
        "training in bf16 wants units that add branch and shortcut as they are (identity or conv1x1), not shortcut \
         {shortcut}; train in f32"
    )]
    Precision {
        /// What stands on the shortcuts.
        shortcut: String,
    },
    /// Stochastic depth where paths are weighted.
    #[error(
        "stochastic depth wants units that add branch and shortcut as they are (identity or conv1x1), not shortcut {shortcut}; \
         leave one of the two out"
    )]
    StochasticDepth {
        /// What stands on the shortcuts.
        shortcut: String,
    },
    /// Dropout between the convolutions of units that have one.
    #[error(
        "dropout between a unit's convolutions wants basic or bottleneck units, which have several; leave one of the two out"
    )]
    UnitDropout,
    /// The processor does not compute in the precision that the network is trained in.
    #[error(transparent)]
    Unavailable(#[from] UnavailablePrecision),
    /// Dropout masks were given, but not one for each unit.
    #[error("{given} dropout masks for {units} units; give one for each unit")]
    Masks {
        /// Masks given.
        given: usize,
        /// Units of the network.
        units: usize,
    },
    /// A part was named that the network does not have.
    #[error("the network has no {part}; its parts are {}", list(parts))]
    NoSuchPart {
        /// The part.
        part: Part,
        /// Those that there are.
        parts: Vec<Part>,
    },
    /// Every part is frozen.
    #[error("nothing is left to train; leave at least one part out")]
    AllFrozen,
    /// Another network where a residual one is wanted.
    #[error("{given} is no residual network")]
    NotResidual {
        /// The network.
        given: String,
    },
    /// Training of Inception-v3 without its auxiliary classifier.
    #[error(
        "the network has no auxiliary classifier (AuxLogits), and is not trained without; begin with weights that have it"
    )]
    NoAuxiliary,
    /// Weights that do not belong to this network.
    #[error("the weights do not belong to this network: {0}")]
    Weights(String),
    /// Weights that nothing can be computed with.
    #[error(
        "a value of '{tensor}' is {value}: the training that the weights come from has diverged, or their file is damaged; take an earlier \
         checkpoint or fetch the file again"
    )]
    Value {
        /// The tensor.
        tensor: String,
        /// Its first value that is not finite, or of variances negative.
        value: String,
    },
}

fn list(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(", ")
}

fn nearest_model(given: &str) -> String {
    if let Some(name) = wide_name(given) {
        return format!(" (did you mean '{name}'?)");
    }
    let name = given.trim_end_matches(|character: char| character.is_ascii_digit());
    let depth = &given[name.len()..];
    match nearest(name, &["resnet", "preresnet"]) {
        // A depth of too many digits is not told again.
        Some(nearest) if !depth.is_empty() && nearest != name => {
            format!(" (did you mean '{nearest}{depth}'?)")
        }
        _ => String::new(),
    }
}

/// The depths `per_unit * n + 2` around `depth`.
fn nearest_depths(depth: usize, per_unit: usize) -> String {
    let units = (depth.saturating_sub(2) / per_unit).max(1);
    format!("{} and {}", units * per_unit + 2, (units + 1) * per_unit + 2)
}

/// The depths `6n + 4` around `depth`.
fn nearest_wide(depth: usize) -> String {
    let units = (depth.saturating_sub(4) / 6).max(1);
    format!("{} and {}", units * 6 + 4, (units + 1) * 6 + 4)
}

fn nearest_multiple(size: usize, multiple: usize) -> usize {
    ((size + multiple / 2) / multiple).max(1) * multiple
}
