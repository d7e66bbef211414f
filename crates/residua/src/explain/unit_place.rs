//! Units by name.

use std::fmt;
use std::str::FromStr;

use super::error::ExplainError;
use crate::nn::Plan;

/// A unit by its stage and its number in that. `stages.2.1`, as weight files name it, counts both from 0; `stage3.2` is the same unit counted
/// from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitPlace {
    /// From 0 on.
    pub stage: usize,
    /// From 0 on, within the stage.
    pub index: usize,
}

impl UnitPlace {
    /// The last unit of a network.
    pub fn last(plan: &Plan) -> Self {
        let stage = plan.stages.len() - 1;
        Self { stage, index: plan.stages[stage].len() - 1 }
    }

    /// The unit's number among those of all stages, from 0 on.
    ///
    /// # Errors
    /// When the network has no such unit; the error says which it has.
    pub fn number(self, plan: &Plan) -> Result<usize, ExplainError> {
        match plan.stages.get(self.stage) {
            Some(units) if self.index < units.len() => {
                Ok(plan.stages[..self.stage].iter().map(Vec::len).sum::<usize>() + self.index)
            }
            _ => Err(ExplainError::NoUnit { place: self, units: units(plan) }),
        }
    }
}

/// All units of a network in words: `stage1.1 to stage1.3, stage2.1 to stage2.3`.
fn units(plan: &Plan) -> String {
    let of_stage = |(stage, units): (usize, &Vec<_>)| {
        let name = |index| UnitPlace { stage, index }.to_string();
        match units.len() {
            1 => name(0),
            count => format!("{} to {}", name(0), name(count - 1)),
        }
    };
    plan.stages.iter().enumerate().map(of_stage).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for UnitPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "stage{}.{}", self.stage + 1, self.index + 1)
    }
}

impl FromStr for UnitPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (numbers, first) = match text.strip_prefix("stages.") {
            Some(numbers) => (Some(numbers), 0),
            None => (text.strip_prefix("stage"), 1),
        };
        let number = |text: &str| text.parse::<usize>().ok()?.checked_sub(first);
        let place = numbers.and_then(|numbers| {
            let (stage, index) = numbers.split_once('.')?;
            Some(Self { stage: number(stage)?, index: number(index)? })
        });
        place.ok_or(
            "write stage3.2 for the second unit of the third stage, or its name in weight files, stages.2.1",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkOptions;

    #[test]
    fn both_names_mean_the_same_unit() {
        let place = UnitPlace { stage: 2, index: 1 };
        assert_eq!(("stage3.2".parse(), "stages.2.1".parse()), (Ok(place), Ok(place)));
        assert_eq!(place.to_string(), "stage3.2");
        for text in ["", "stage3", "stage0.1", "stage1.0", "stages.1", "3.2", "stage3.2.1", "stages.-1.0"] {
            assert!(text.parse::<UnitPlace>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_unit_that_there_is_not_is_answered_with_those_that_there_are() {
        let plan = NetworkOptions::named("preresnet20").resolve(10).unwrap().plan().unwrap();
        assert_eq!(UnitPlace { stage: 1, index: 2 }.number(&plan).unwrap(), 5);
        assert_eq!(UnitPlace::last(&plan).number(&plan).unwrap(), 8);
        for text in ["stage4.1", "stage1.4"] {
            let error = text.parse::<UnitPlace>().unwrap().number(&plan).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "there is no unit {text}; the network has stage1.1 to stage1.3, stage2.1 to stage2.3, stage3.1 to stage3.3"
                )
            );
        }
        let plan = NetworkOptions::named("resnet8").resolve(10).unwrap().plan().unwrap();
        assert_eq!(units(&plan), "stage1.1, stage2.1, stage3.1");
    }
}
