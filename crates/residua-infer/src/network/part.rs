//! The parts of a network, as they can be trained or left as they are.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::plan::Plan;
use crate::choice::{Choice, Choices, UnknownChoice};

/// A part of a network. Parts are ordered from the image to the class scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Part {
    /// From the image to the first stage.
    Stem,
    /// The units of a stage, counted from 1.
    Stage(usize),
    /// BN behind the last unit, in networks with full pre-activation.
    Norm,
    /// The linear classifier.
    Classifier,
}

impl Part {
    /// The part that the tensor of this name lies in, if it is one of a network.
    pub fn of_tensor(name: &str) -> Option<Self> {
        let (part, rest) = name.split_once('.')?;
        match part {
            "stem" => Some(Self::Stem),
            "stages" => {
                let stage: usize = rest.split('.').next()?.parse().ok()?;
                Some(Self::Stage(stage + 1))
            }
            "norm" => Some(Self::Norm),
            "classifier" => Some(Self::Classifier),
            _ => None,
        }
    }
}

impl Plan {
    /// The parts of this network, in order.
    pub fn parts(&self) -> Vec<Part> {
        let stages = (1..=self.stages.len()).map(Part::Stage);
        let norm = self.head.has_norm.then_some(Part::Norm);
        [Part::Stem].into_iter().chain(stages).chain(norm).chain([Part::Classifier]).collect()
    }

    /// The residual units in front of a part.
    pub fn units_before(&self, part: Part) -> usize {
        let stages = match part {
            Part::Stem => 0,
            Part::Stage(stage) => stage.saturating_sub(1),
            Part::Norm | Part::Classifier => self.stages.len(),
        };
        self.stages.iter().take(stages).map(Vec::len).sum()
    }
}

impl Choices for Part {
    const CHOICES: &'static [Choice] = &[
        Choice::new("stem", "from the image to the first stage"),
        Choice::with_example("stageN", "stage1", "the units of a stage"),
        Choice::new("norm", "BN behind the last unit of networks with full pre-activation"),
        Choice::new("classifier", "the linear classifier"),
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stem => formatter.write_str("stem"),
            Self::Stage(stage) => write!(formatter, "stage{stage}"),
            Self::Norm => formatter.write_str("norm"),
            Self::Classifier => formatter.write_str("classifier"),
        }
    }
}

impl FromStr for Part {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |stage: &usize| *stage > 0 && text == format!("stage{stage}");
        let stage = |number: &str| number.parse().ok().filter(is_plain);
        match text {
            "stem" => Ok(Self::Stem),
            "norm" => Ok(Self::Norm),
            "classifier" => Ok(Self::Classifier),
            _ => text.strip_prefix("stage").and_then(stage).map(Self::Stage).ok_or_else(|| {
                let words = ["stem", "stage1", "stage2", "stage3", "stage4", "norm", "classifier"];
                UnknownChoice::new("part of the network", text, &words)
            }),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = UnknownChoice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.to_string()
    }
}

/// Some of a network's parts, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(BTreeSet<Part>);

impl Parts {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub fn contains(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// The first part of the network besides these: where these are frozen, the first that is trained.
    ///
    /// # Errors
    /// When the network does not have one of these parts, or has no other.
    pub fn first_besides(&self, plan: &Plan) -> Result<Part, NetworkError> {
        let parts = plan.parts();
        if let Some(&part) = self.0.iter().find(|part| !parts.contains(part)) {
            return Err(NetworkError::NoSuchPart { part, parts });
        }
        parts.into_iter().find(|part| !self.contains(*part)).ok_or(NetworkError::AllFrozen)
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

/// As they are given: `stem,stage1`.
impl fmt::Display for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.iter().map(Part::to_string).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkOptions;

    fn plan(model: &str) -> Plan {
        NetworkOptions::named(model).resolve(10).unwrap().plan().unwrap()
    }

    fn parts(text: &str) -> Parts {
        text.split(',').map(|part| part.parse::<Part>().unwrap()).collect()
    }

    #[test]
    fn every_tensor_lies_in_a_part_and_every_part_has_tensors() {
        for model in ["preresnet20", "resnet20", "preresnet50", "resnet18"] {
            let config = NetworkOptions::named(model).resolve(10).unwrap();
            let shapes = config.tensor_shapes().unwrap();
            let of_tensors: BTreeSet<Part> =
                shapes.keys().map(|name| Part::of_tensor(name).unwrap()).collect();
            assert_eq!(of_tensors.into_iter().collect::<Vec<_>>(), plan(model).parts(), "{model}");
        }
        assert_eq!(Part::of_tensor("fc.weight"), None);
        assert_eq!(Part::of_tensor("stages.first.weight"), None);
    }

    #[test]
    fn parts_are_written_as_they_are_read() {
        assert_eq!(parts("stage2,stem,norm,stage2").to_string(), "stem,stage2,norm");
        for text in ["stage0", "stage", "stage-1", "stage+1", "stage01", "Stem", "", "stages.0"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
        let error = "stge1".parse::<Part>().unwrap_err().to_string();
        assert!(error.contains("did you mean 'stage1'?"), "{error}");
    }

    #[test]
    fn what_is_trained_begins_with_the_first_part_that_is_not_frozen() {
        let plan = plan("preresnet20");
        for (frozen, first, units) in [
            (Parts::default(), Part::Stem, 0),
            (parts("stage1,stage3"), Part::Stem, 0),
            (parts("stem"), Part::Stage(1), 0),
            (parts("stem,stage1,stage3"), Part::Stage(2), 3),
            (parts("stem,stage1,stage2,stage3"), Part::Norm, 9),
            (parts("stem,stage1,stage2,stage3,norm"), Part::Classifier, 9),
        ] {
            assert_eq!(frozen.first_besides(&plan).unwrap(), first, "{frozen}");
            assert_eq!(plan.units_before(first), units, "{frozen}");
        }
    }

    #[test]
    fn parts_that_there_are_not_and_all_at_once_are_refused() {
        let error = parts("stem,stage4").first_besides(&plan("preresnet20")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the network has no stage4; its parts are stem, stage1, stage2, stage3, norm, classifier"
        );
        assert!(parts("norm").first_besides(&plan("resnet20")).is_err());
        let all = parts("stem,stage1,stage2,stage3,classifier");
        assert_eq!(all.first_besides(&plan("resnet20")), Err(NetworkError::AllFrozen));
    }
}
