//! Which network: a name such as `preresnet110`, refined by options.

use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::name::Name;
use super::ordering::Ordering;
use super::shortcut::Shortcut;
use super::variants::{Block, DimensionChange, Layout, StemPooling, StridePlacement, Trunk};
use crate::precision::Precision;

/// A residual network, fully specified.
///
/// ```
/// use residua_infer::network::{Block, DimensionChange, NetworkOptions, Ordering};
///
/// let config = NetworkOptions::named("preresnet164").resolve(10)?;
/// assert_eq!(config.ordering, Ordering::FullPreActivation);
/// assert_eq!(config.block, Block::Bottleneck);
/// assert_eq!(config.dimensions, DimensionChange::B);
/// # Ok::<(), residua_infer::network::NetworkError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// Weighted layers from stem to classifier, projections and gates not counted.
    pub depth: usize,
    /// Stem and stages.
    pub layout: Layout,
    /// Convolutions of a unit.
    pub block: Block,
    /// What the channels of stages are multiplied by, those of the stem not: of single and basic units all channels, of bottleneck
    /// units the inner ones (K of *Wide Residual Networks*, Zagoruyko and Komodakis 2016).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub width: usize,
    /// Placement of BN and ReLU.
    pub ordering: Ordering,
    /// What stands on the shortcut of every unit.
    pub shortcut: Shortcut,
    /// What the shortcut does where dimensions change.
    pub dimensions: DimensionChange,
    /// Where a bottleneck unit has its stride.
    pub stride_placement: StridePlacement,
    /// Where an ImageNet network's stem has its max pooling.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stem_pooling: StemPooling,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Images over which batch statistics are taken in training; the whole batch if `None` (paper section 5:
    /// the published networks saw 64 of 128 images at a time).
    pub bn_group: Option<usize>,
    /// What training stores the feature maps between units in.
    #[serde(default)]
    pub trunk: Trunk,
    /// What training multiplies in: convolutions of stride 1 within units, but for 1x1 ones of few channels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
}

/// A network as it is asked for: its name, and whatever refines it. What is left out follows from the name:
///
/// - `resnet<depth>` has original units, `preresnet<depth>` full pre-activation;
/// - `wrn-<depth>-<width>` is a wide CIFAR network of basic units with full pre-activation, whose depth is 6n+4 as its paper counts:
///   `wrn-28-10` is `preresnet26` with width 10;
/// - depths 18, 34, 50, 101, 152 and 200 are ImageNet networks, all others CIFAR networks;
/// - CIFAR networks of depth 6n+2 have basic units, 164, 1001 and other depths of 9n+2 bottleneck units;
/// - dimensions change by option A in CIFAR networks of basic and single units and of width 1, by option B elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// `resnet<depth>`, `preresnet<depth>` or `wrn-<depth>-<width>`.
    pub model: String,
    /// Placement of BN and ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// What stands on the shortcut of every unit; the identity if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// What the shortcut does where dimensions change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<DimensionChange>,
    /// Convolutions of a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// What the channels of stages are multiplied by, of bottleneck units the inner ones; 1 if neither this nor the name says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Stem and stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Where a bottleneck unit has its stride; the first convolution if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride_placement: Option<StridePlacement>,
    /// Where an ImageNet network's stem has its max pooling; last if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_pooling: Option<StemPooling>,
    /// Images over which batch statistics are taken; the whole batch if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bn_group: Option<usize>,
    /// What training stores the feature maps between units in; f32 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Trunk>,
    /// What training multiplies in; f32 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

impl NetworkOptions {
    /// The network of this name, not refined.
    pub fn named(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// The network that is meant, with a classifier of `classes` outputs.
    ///
    /// # Errors
    /// When the name is unknown or the options contradict it or each other.
    pub fn resolve(&self, classes: usize) -> Result<ResNetConfig, NetworkError> {
        let (is_preactivated, depth, wide) = match Name::parse(&self.model)? {
            Name::Plain { is_preactivated, depth } => (is_preactivated, depth, None),
            Name::Wide { depth, width } => (true, depth, Some(width)),
        };
        if let Some(width) = wide {
            self.check_wide(width)?;
        }
        let is_imagenet_depth = wide.is_none() && imagenet_units(depth).is_some();
        let layout = self.layout.unwrap_or(if is_imagenet_depth { Layout::ImageNet } else { Layout::Cifar });
        let fits = |per_unit| depth > 2 && (depth - 2) % per_unit == 0;
        if layout == Layout::Cifar && self.block.is_none() && !fits(6) && !fits(9) {
            return Err(NetworkError::AnyCifarDepth { depth });
        }
        let block = self.block.unwrap_or(match layout {
            Layout::ImageNet => imagenet_units(depth).map_or(Block::Bottleneck, |(block, _)| block),
            Layout::Cifar if wide.is_some() => Block::Basic,
            Layout::Cifar if [164, 1001].contains(&depth) || !fits(6) => Block::Bottleneck,
            Layout::Cifar => Block::Basic,
        });
        let width = self.width.or(wide).unwrap_or(1);
        let default_ordering = if is_preactivated { Ordering::FullPreActivation } else { Ordering::Original };
        let default_dimensions = match (layout, block) {
            (Layout::Cifar, Block::Single | Block::Basic) if wide.is_none() && width == 1 => {
                DimensionChange::A
            }
            _ => DimensionChange::B,
        };
        let config = ResNetConfig {
            depth,
            layout,
            block,
            width,
            ordering: self.ordering.unwrap_or(default_ordering),
            shortcut: self.shortcut.unwrap_or(Shortcut::Identity),
            dimensions: self.dimensions.unwrap_or(default_dimensions),
            stride_placement: self.stride_placement.unwrap_or(StridePlacement::First),
            stem_pooling: self.stem_pooling.unwrap_or_default(),
            classes,
            bn_group: self.bn_group,
            trunk: self.trunk.unwrap_or_default(),
            precision: self.precision.unwrap_or_default(),
        };
        config.check().map(|()| config)
    }

    /// Checks that nothing contradicts the name of a wide network of this width.
    fn check_wide(&self, width: usize) -> Result<(), NetworkError> {
        if let Some(given) = self.width.filter(|&given| given != width) {
            return Err(NetworkError::WideName { model: self.model.clone(), width, given });
        }
        let is_basic = self.block.is_none_or(|block| block == Block::Basic);
        if !is_basic || self.layout == Some(Layout::ImageNet) {
            return Err(NetworkError::WideFrame { model: self.model.clone() });
        }
        Ok(())
    }

    /// The same network with every option written out.
    ///
    /// # Errors
    /// Those of [`NetworkOptions::resolve`].
    pub fn written_out(&self) -> Result<Self, NetworkError> {
        let config = self.resolve(1)?;
        Ok(Self {
            model: self.model.clone(),
            ordering: Some(config.ordering),
            shortcut: Some(config.shortcut),
            dimensions: Some(config.dimensions),
            block: Some(config.block),
            layout: Some(config.layout),
            stride_placement: Some(config.stride_placement),
            bn_group: config.bn_group,
            // Written out only where they are not what every network has.
            width: (!is_one(&config.width)).then_some(config.width),
            stem_pooling: (config.stem_pooling != StemPooling::default()).then_some(config.stem_pooling),
            trunk: (config.trunk != Trunk::default()).then_some(config.trunk),
            precision: (config.precision != Precision::default()).then_some(config.precision),
        })
    }
}

impl ResNetConfig {
    /// How this network is asked for.
    pub fn options(&self) -> NetworkOptions {
        NetworkOptions {
            model: self.name(),
            ordering: Some(self.ordering),
            shortcut: Some(self.shortcut),
            dimensions: Some(self.dimensions),
            block: Some(self.block),
            width: Some(self.width),
            layout: Some(self.layout),
            stride_placement: Some(self.stride_placement),
            stem_pooling: Some(self.stem_pooling),
            bn_group: self.bn_group,
            trunk: Some(self.trunk),
            precision: Some(self.precision),
        }
    }

    /// The depth of the ImageNet network of such units, so many in each stage.
    pub(crate) fn imagenet_depth(block: Block, units: &[usize]) -> Option<usize> {
        let is_meant = |&depth: &usize| {
            imagenet_units(depth).is_some_and(|(known, of_stages)| known == block && of_stages == units)
        };
        IMAGENET_DEPTHS.into_iter().find(is_meant)
    }
}

const IMAGENET_DEPTHS: [usize; 6] = [18, 34, 50, 101, 152, 200];

/// Whether it is what networks have that do not say otherwise.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The width of networks that do not say otherwise.
fn one() -> usize {
    1
}

fn is_one(width: &usize) -> bool {
    *width == 1
}

/// The block of the ImageNet network of this depth and its units in each of the four stages.
pub(super) fn imagenet_units(depth: usize) -> Option<(Block, [usize; 4])> {
    match depth {
        18 => Some((Block::Basic, [2, 2, 2, 2])),
        34 => Some((Block::Basic, [3, 4, 6, 3])),
        50 => Some((Block::Bottleneck, [3, 4, 6, 3])),
        101 => Some((Block::Bottleneck, [3, 4, 23, 3])),
        152 => Some((Block::Bottleneck, [3, 8, 36, 3])),
        200 => Some((Block::Bottleneck, [3, 24, 36, 3])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: NetworkOptions) -> Result<ResNetConfig, NetworkError> {
        options.resolve(10)
    }

    #[test]
    fn names_imply_the_papers_networks() {
        for (model, layout, block, ordering, dimensions) in [
            ("resnet20", Layout::Cifar, Block::Basic, Ordering::Original, DimensionChange::A),
            ("preresnet110", Layout::Cifar, Block::Basic, Ordering::FullPreActivation, DimensionChange::A),
            (
                "preresnet164",
                Layout::Cifar,
                Block::Bottleneck,
                Ordering::FullPreActivation,
                DimensionChange::B,
            ),
            ("resnet1001", Layout::Cifar, Block::Bottleneck, Ordering::Original, DimensionChange::B),
            ("resnet11", Layout::Cifar, Block::Bottleneck, Ordering::Original, DimensionChange::B),
            ("resnet18", Layout::ImageNet, Block::Basic, Ordering::Original, DimensionChange::B),
            (
                "preresnet200",
                Layout::ImageNet,
                Block::Bottleneck,
                Ordering::FullPreActivation,
                DimensionChange::B,
            ),
        ] {
            let config = resolve(NetworkOptions::named(model)).unwrap();
            assert_eq!(
                (config.layout, config.block, config.ordering, config.dimensions),
                (layout, block, ordering, dimensions),
                "{model}"
            );
        }
    }

    #[test]
    fn options_refine_the_name() {
        let options = NetworkOptions {
            block: Some(Block::Single),
            ordering: Some(Ordering::BnAfterAddition),
            ..NetworkOptions::named("resnet110")
        };
        let config = resolve(options.clone()).unwrap();
        assert_eq!((config.block, config.ordering), (Block::Single, Ordering::BnAfterAddition));
        assert_eq!(options.written_out().unwrap().resolve(10).unwrap(), config);
        assert_eq!(config.options().resolve(10).unwrap(), config);

        let cifar = NetworkOptions { layout: Some(Layout::Cifar), ..NetworkOptions::named("resnet50") };
        assert_eq!(resolve(cifar).unwrap().block, Block::Basic);
    }

    #[test]
    fn impossible_networks_are_refused() {
        for model in ["resnet", "resnet-20", "renset20", "preresnet", "resnet2x", "ResNet20", "resnet9999999"]
        {
            let error = resolve(NetworkOptions::named(model)).unwrap_err();
            assert!(matches!(error, NetworkError::UnknownModel { .. }), "{model}: {error}");
        }
        let error = resolve(NetworkOptions::named("preresnte110")).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown model 'preresnte110' (did you mean 'preresnet110'?); "),
            "{error}"
        );
        let error = resolve(NetworkOptions::named("resnet21")).unwrap_err().to_string();
        assert!(
            error.contains("6n+2 (nearest: 20 and 26), with bottleneck units 9n+2 (nearest: 20 and 29)"),
            "{error}"
        );
        for (model, block, part) in [
            ("resnet164", Block::Basic, ""),
            ("resnet165", Block::Basic, "the nearest are 164 and 170"),
            ("resnet3", Block::Single, "the nearest are 5 and 5"),
            ("resnet0", Block::Basic, "the nearest are 8 and 8"),
            ("resnet50", Block::Basic, "has bottleneck units, not basic"),
        ] {
            let result = resolve(NetworkOptions { block: Some(block), ..NetworkOptions::named(model) });
            match part {
                "" => assert!(result.is_ok(), "{model}: {result:?}"),
                _ => assert!(result.as_ref().unwrap_err().to_string().contains(part), "{model}: {result:?}"),
            }
        }
        let middle = NetworkOptions {
            stride_placement: Some(StridePlacement::Middle),
            ..NetworkOptions::named("resnet20")
        };
        assert!(matches!(resolve(middle), Err(NetworkError::NoMiddleConvolution { .. })));
        for (model, ordering) in [
            ("preresnet20", None),
            ("resnet50", None),
            ("preresnet50", Some(Ordering::ReluOnlyPreActivation)),
        ] {
            let pool_first = NetworkOptions {
                ordering,
                stem_pooling: Some(StemPooling::First),
                ..NetworkOptions::named(model)
            };
            assert!(matches!(resolve(pool_first), Err(NetworkError::PoolFirst { .. })), "{model}");
        }
        let gated = NetworkOptions {
            shortcut: Some(Shortcut::ExclusiveGating { bias: -6. }),
            trunk: Some(Trunk::Bf16),
            ..NetworkOptions::named("resnet20")
        };
        assert!(matches!(resolve(gated.clone()), Err(NetworkError::Trunk { .. })));
        let gated = NetworkOptions { trunk: None, precision: Some(Precision::Bf16), ..gated };
        assert!(matches!(resolve(gated), Err(NetworkError::Precision { .. })));
        let layout = NetworkOptions { layout: Some(Layout::ImageNet), ..NetworkOptions::named("resnet20") };
        assert!(matches!(resolve(layout), Err(NetworkError::ImageNetDepth { depth: 20 })));
        let group = NetworkOptions { bn_group: Some(0), ..NetworkOptions::named("resnet20") };
        assert!(matches!(resolve(group), Err(NetworkError::Zero { .. })));
        assert!(matches!(NetworkOptions::named("resnet20").resolve(0), Err(NetworkError::Zero { .. })));
    }
}
