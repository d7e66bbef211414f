//! Which network of which family tensors are, by their names and shapes.

use std::collections::{BTreeMap, BTreeSet};

use super::channels::{Direction, reorder};
use super::family::{Family, Frame};
use crate::network::{
    Architecture, Block, InceptionConfig, Layout, NamedTensors, NetworkError, NetworkOptions, Ordering, Plan,
    ResNetConfig, TensorValues, misfits,
};

/// How well tensors fit the network of a family that they are nearest to.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) family: Family,
    pub(super) network: Architecture,
    /// Tensors whose names are right.
    named: usize,
    /// What does not fit.
    pub(super) problems: Vec<String>,
}

impl Fit {
    /// The family that tensors fit best, of one or of all; none where they have no likeness.
    pub(super) fn best(tensors: &NamedTensors, family: Option<Family>) -> Option<Self> {
        let families = Family::ALL.iter().filter(|known| family.is_none_or(|family| family == **known));
        let fits = families.flat_map(|&family| {
            let networks = [
                residual(tensors, family).map(Architecture::from),
                inception(tensors, family).map(Architecture::from),
            ];
            networks.into_iter().flatten().filter_map(move |network| Self::of(tensors, family, network))
        });
        fits.max_by_key(|fit| (fit.problems.is_empty(), fit.named))
    }

    fn of(tensors: &NamedTensors, family: Family, network: Architecture) -> Option<Self> {
        let mut expected = BTreeMap::new();
        for (ours, shape) in network.shapes_beside(tensors).ok()? {
            let name = family.name_of(&ours);
            let theirs = family.shape_of(&ours, shape.clone());
            // A classifier may be a matrix as well as a convolution of 1x1.
            let is_ours = tensors.get(&name).is_some_and(|tensor| tensor.shape == shape);
            expected.insert(name, if is_ours { shape } else { theirs });
        }
        let named = expected.keys().filter(|name| tensors.contains_key(*name)).count();
        let problems = misfits(&expected, tensors);
        Some(Self { family, network, named, problems }).filter(|fit| fit.named > 0)
    }
}

/// The family's residual network that is nearest by the units of each stage and the classes.
fn residual(tensors: &NamedTensors, family: Family) -> Option<ResNetConfig> {
    let mut stages: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut block = Block::Basic;
    for name in tensors.keys() {
        if let Some((stage, unit, layer)) = family.unit_of(name) {
            stages.entry(stage).or_default().insert(unit);
            if layer == "conv3.weight" {
                block = Block::Bottleneck;
            }
        }
    }
    let units: Vec<usize> = stages.values().map(BTreeSet::len).collect();
    let classes = *tensors.get(&family.name_of("classifier.weight"))?.shape.first()?;
    let Frame { layout, ordering, dimensions, stem_pooling } = family.frame();
    let depth = match layout {
        Layout::Cifar => {
            block = Block::Basic;
            units.first()? * 3 * block.convolutions() + 2
        }
        Layout::ImageNet => ResNetConfig::imagenet_depth(block, &units)?,
    };
    let model =
        format!("{}{depth}", if ordering == Ordering::FullPreActivation { "preresnet" } else { "resnet" });
    let options = NetworkOptions {
        width: width(tensors, family, block),
        layout: Some(layout),
        block: Some(block),
        ordering: Some(ordering),
        dimensions: Some(dimensions),
        stem_pooling: Some(stem_pooling),
        stride_placement: Some(Family::stride_placement(block)),
        ..NetworkOptions::named(model)
    };
    options.resolve(classes).ok()
}

/// By how much the channels between the convolutions of bottleneck units are more than usual, in a family that has such networks.
fn width(tensors: &NamedTensors, family: Family, block: Block) -> Option<usize> {
    let first = tensors.get(&family.name_of("stages.0.0.conv1.weight"))?;
    let channels = *first.shape.first().filter(|_| family.has_widths(block))?;
    Some(channels / USUAL_CHANNELS).filter(|width| width * USUAL_CHANNELS == channels)
}

/// Channels that the first bottleneck unit of an ImageNet network computes with.
const USUAL_CHANNELS: usize = 64;

/// Inception-v3, where the family has it and tensors are named as those of its modules.
fn inception(tensors: &NamedTensors, family: Family) -> Option<InceptionConfig> {
    let is_alike = |name: &String| name.starts_with("Mixed_") || name.starts_with("Conv2d_1a_3x3.");
    let classes = *tensors.get("fc.weight")?.shape.first()?;
    (family == Family::Torchvision && tensors.keys().any(is_alike)).then_some(InceptionConfig { classes })
}

/// Tensors of a family's network by our names, in our layouts.
pub(super) fn to_ours(
    mut tensors: NamedTensors,
    family: Family,
    network: &Architecture,
) -> Result<NamedTensors, NetworkError> {
    let mut ours = NamedTensors::new();
    for (name, shape) in network.shapes_beside(&tensors)? {
        let theirs = family.name_of(&name);
        let missing = || NetworkError::Weights(format!("'{theirs}' is missing"));
        let mut tensor = tensors.remove(&theirs).ok_or_else(missing)?;
        tensor.shape = shape;
        ours.insert(name, tensor);
    }
    if family == Family::Akamaster {
        reorder(&mut ours, &widths(&network.residual()?.plan()?), Direction::In);
    }
    Ok(ours)
}

/// Tensors of a network by a family's names, in its layouts.
pub(super) fn to_theirs(
    mut ours: NamedTensors,
    family: Family,
    network: &Architecture,
) -> Result<NamedTensors, NetworkError> {
    if family == Family::Akamaster {
        reorder(&mut ours, &widths(&network.residual()?.plan()?), Direction::Out);
    }
    let rename = |(name, mut tensor): (String, TensorValues)| {
        tensor.shape = family.shape_of(&name, tensor.shape);
        (family.name_of(&name), tensor)
    };
    Ok(ours.into_iter().map(rename).collect())
}

/// Channels that each stage puts out.
fn widths(plan: &Plan) -> Vec<usize> {
    plan.stages.iter().map(|units| units[0].outputs()).collect()
}
