//! Names of residual networks: `resnet<depth>`, `preresnet<depth>`, `wrn-<depth>-<width>`.

use super::config::ResNetConfig;
use super::error::NetworkError;
use super::ordering::Ordering;
use super::variants::{Block, DimensionChange, Layout};

/// What a name says of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Original units or full pre-activation, of this depth.
    Plain { is_preactivated: bool, depth: usize },
    /// A wide residual network for CIFAR; its depth is [`ResNetConfig::depth`], two less than the name's.
    Wide { depth: usize, width: usize },
}

/// Layers by which the name of a wide network counts more: it counts three projections, and no classifier.
const OF_WIDE_NAME: usize = 2;

impl Name {
    /// # Errors
    /// When no network is called so.
    pub(super) fn parse(model: &str) -> Result<Self, NetworkError> {
        let unknown = || NetworkError::UnknownModel { given: model.to_owned() };
        let Some(wide) = model.strip_prefix("wrn-") else {
            let (is_preactivated, depth) = match model.strip_prefix("preresnet") {
                Some(depth) => (true, depth),
                None => (false, model.strip_prefix("resnet").ok_or_else(unknown)?),
            };
            let depth = number(depth).ok_or_else(unknown)?;
            return Ok(Self::Plain { is_preactivated, depth });
        };
        let (depth, width) = wide.split_once('-').ok_or_else(unknown)?;
        let (depth, width) = number(depth).zip(number(width)).ok_or_else(unknown)?;
        if depth < 10 || (depth - 4) % 6 != 0 {
            return Err(NetworkError::WideDepth { depth });
        }
        Ok(Self::Wide { depth: depth - OF_WIDE_NAME, width })
    }
}

/// A number of six digits at most.
fn number(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

impl ResNetConfig {
    /// The name of the network, refinements left out: `resnet50`, `preresnet110`; of a wide one `wrn-28-10`, if it is one of their
    /// paper's.
    pub fn name(&self) -> String {
        let Self { depth, width, .. } = *self;
        match self.ordering {
            Ordering::FullPreActivation if self.is_papers_wide() => {
                format!("wrn-{}-{width}", depth + OF_WIDE_NAME)
            }
            Ordering::FullPreActivation => format!("preresnet{depth}"),
            _ => format!("resnet{depth}"),
        }
    }

    fn is_papers_wide(&self) -> bool {
        let frame = (self.layout, self.block, self.dimensions);
        self.width > 1 && frame == (Layout::Cifar, Block::Basic, DimensionChange::B)
    }
}

/// The wide network that was probably meant, however it was written: `WRN_28_10`, `wrn28-10`.
pub(super) fn wide_name(given: &str) -> Option<String> {
    let lower = given.to_ascii_lowercase();
    let rest = lower.strip_prefix("wrn").or_else(|| lower.strip_prefix("wide-resnet"));
    let numbers = rest.or_else(|| lower.strip_prefix("wide_resnet"))?.trim_start_matches(['-', '_']);
    let (depth, width) = numbers.split_once(['-', '_', 'x'])?;
    let name = format!("wrn-{depth}-{width}");
    Name::parse(&name).is_ok().then_some(name)
}
