//! A row of a table, or a curve of a figure.

use serde::Serialize;

use crate::data::{Augmentation, View};
use crate::nn::{Block, NetworkOptions, Ordering, Shortcut};

/// A row of one of the paper's tables, or a curve of a figure.
#[derive(Debug, Clone)]
pub struct Row {
    /// What `--row` calls it.
    pub name: &'static str,
    /// What the paper calls it.
    pub label: &'static str,
    /// The paper's network.
    pub network: &'static str,
    /// The paper's result.
    pub published: Published,
    /// How to get a result of one's own; none where the paper quotes the work of others.
    pub trial: Option<Trial>,
}

/// Test error in percent, of ImageNet's networks top-1 on single crops.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    /// The median of five runs; of ImageNet's networks and the work of others, one number.
    Error(f64),
    /// Median, and mean and standard deviation, of five runs.
    Spread {
        /// The median.
        median: f64,
        /// The mean.
        mean: f64,
        /// The standard deviation.
        deviation: f64,
    },
    /// Above 20 %.
    Fail,
}

impl Published {
    /// The median in percent; none of a failure.
    pub fn median(self) -> Option<f64> {
        match self {
            Self::Error(error) | Self::Spread { median: error, .. } => Some(error),
            Self::Fail => None,
        }
    }

    /// As the paper prints it.
    pub fn text(self) -> String {
        match self {
            Self::Error(error) => format!("{error}"),
            Self::Spread { median, mean, deviation } => format!("{median} ({mean} ± {deviation})"),
            Self::Fail => "fail".to_owned(),
        }
    }
}

/// The images of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSet {
    /// CIFAR-10.
    Cifar10,
    /// CIFAR-100.
    Cifar100,
    /// ImageNet's 1000 classes, as a folder of pictures.
    ImageNet,
}

impl DataSet {
    /// Its usual name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
            Self::ImageNet => "ImageNet",
        }
    }
}

/// What is trained for a row, at the paper's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Whether the network's name begins with `pre`: its units are the proposed ones.
    pub is_proposed: bool,
    /// Layers with weights.
    pub depth: usize,
    /// Convolutions of a unit.
    pub block: Block,
    /// Another ordering than that of the name.
    pub ordering: Option<Ordering>,
    /// What stands on every shortcut, if it is not the identity.
    pub shortcut: Option<Shortcut>,
    /// The images.
    pub data: DataSet,
    /// Images of a mini-batch.
    pub batch: usize,
    /// Another augmentation than the data's usual one.
    pub augmentation: Option<Augmentation>,
    /// What of a picture is seen in the final test, where that is not what training's tests see.
    pub view: Option<View>,
    /// Whether the beginning of the run is the point, which a short budget then keeps at full size.
    pub is_about_the_beginning: bool,
}

impl Trial {
    /// Original units on CIFAR-10 in mini-batches of 128.
    pub fn original(depth: usize, block: Block) -> Self {
        Self {
            is_proposed: false,
            depth,
            block,
            ordering: None,
            shortcut: None,
            data: DataSet::Cifar10,
            batch: 128,
            augmentation: None,
            view: None,
            is_about_the_beginning: false,
        }
    }

    /// The paper's units on CIFAR-10 in mini-batches of 128.
    pub fn proposed(depth: usize, block: Block) -> Self {
        Self { is_proposed: true, ..Self::original(depth, block) }
    }

    /// The network with another number of layers.
    pub fn network(&self, depth: usize) -> NetworkOptions {
        let family = if self.is_proposed { "preresnet" } else { "resnet" };
        NetworkOptions {
            ordering: self.ordering,
            shortcut: self.shortcut,
            block: (self.data != DataSet::ImageNet).then_some(self.block),
            ..NetworkOptions::named(format!("{family}{depth}"))
        }
    }
}
