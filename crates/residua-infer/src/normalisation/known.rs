//! Normalisations that others have trained with, by their names.

use std::fmt;
use std::str::FromStr;

use super::Normalisation;
use crate::choice::{Choice, Choices, nearest, suggestion};
use crate::serde_as_string;

/// Means and deviations of the channels that are known beforehand: by a name, or as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KnownNormalisation {
    /// Those of ImageNet, as torchvision and most of timm take them.
    ImageNet,
    /// Those of CIFAR-10.
    Cifar10,
    /// Those of CIFAR-100.
    Cifar100,
    /// Mean and deviation 0.5: values from -1 to 1.
    Half,
    /// Numbers for red, green and blue, in units of pixel / 255.
    Given {
        /// Mean of each channel.
        mean: [f32; 3],
        /// Deviation of each channel.
        deviation: [f32; 3],
    },
}

impl KnownNormalisation {
    /// The normalisation itself.
    pub const fn normalisation(self) -> Normalisation {
        let (mean, deviation) = match self {
            Self::ImageNet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Cifar10 => ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
            Self::Cifar100 => ([0.5070, 0.4865, 0.4409], [0.2673, 0.2564, 0.2761]),
            Self::Half => ([0.5; 3], [0.5; 3]),
            Self::Given { mean, deviation } => (mean, deviation),
        };
        Normalisation::PerChannel { mean, deviation }
    }
}

impl Choices for KnownNormalisation {
    const CHOICES: &'static [Choice] = &[
        Choice::new("imagenet", "means 0.485, 0.456, 0.406, deviations 0.229, 0.224, 0.225"),
        Choice::new("cifar10", "means 0.4914, 0.4822, 0.4465, deviations 0.2023, 0.1994, 0.2010"),
        Choice::new("cifar100", "means 0.5070, 0.4865, 0.4409, deviations 0.2673, 0.2564, 0.2761"),
        Choice::new("half", "means and deviations 0.5"),
        Choice::with_example(
            "M,M,M/D,D,D",
            "0.5,0.5,0.5/0.25,0.25,0.25",
            "means and deviations of pixel / 255",
        ),
    ];
}

impl FromStr for KnownNormalisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "imagenet" => return Ok(Self::ImageNet),
            "cifar10" => return Ok(Self::Cifar10),
            "cifar100" => return Ok(Self::Cifar100),
            "half" => return Ok(Self::Half),
            _ => {}
        }
        if let Some((mean, deviation)) = text.split_once('/')
            && let (Some(mean), Some(deviation)) = (three(mean), three(deviation))
            && deviation.iter().all(|&deviation| deviation > 0.)
        {
            return Ok(Self::Given { mean, deviation });
        }
        let names = ["imagenet", "cifar10", "cifar100", "half"];
        Err(format!(
            "unknown normalisation '{text}'{}; write one of: {}, or means and positive deviations of pixel / 255, such as \
             0.5,0.5,0.5/0.25,0.25,0.25",
            suggestion(nearest(text, &names)),
            names.join(", ")
        ))
    }
}

/// Three finite numbers.
fn three(text: &str) -> Option<[f32; 3]> {
    let number = |text: &str| text.trim().parse().ok().filter(|number: &f32| number.is_finite());
    let numbers: Option<Vec<f32>> = text.split(',').map(number).collect();
    numbers?.try_into().ok()
}

impl fmt::Display for KnownNormalisation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[f32; 3]| numbers.map(|number| number.to_string()).join(",");
        match self {
            Self::ImageNet => formatter.write_str("imagenet"),
            Self::Cifar10 => formatter.write_str("cifar10"),
            Self::Cifar100 => formatter.write_str("cifar100"),
            Self::Half => formatter.write_str("half"),
            Self::Given { mean, deviation } => write!(formatter, "{}/{}", list(mean), list(deviation)),
        }
    }
}

serde_as_string!(KnownNormalisation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisations_are_read_and_written() {
        for text in ["imagenet", "cifar10", "cifar100", "half", "0.5,0.25,0.125/1,2,0.5"] {
            assert_eq!(text.parse::<KnownNormalisation>().unwrap().to_string(), text);
        }
        for text in
            ["imagent", "0.5,0.5/1,1", "0.5,0.5,0.5", "0,0,0/1,1,0", "0,0,0/1,1,-1", "nan,0,0/1,1,1", ""]
        {
            let message = text.parse::<KnownNormalisation>().unwrap_err();
            assert!(message.contains("such as 0.5,0.5,0.5/"), "{message}");
        }
        let message = "imagent".parse::<KnownNormalisation>().unwrap_err();
        assert!(message.contains("(did you mean 'imagenet'?)"), "{message}");
    }
}
