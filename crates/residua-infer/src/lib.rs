#![doc = include_str!("../README.md")]

pub mod choice;
pub mod cifar_classes;
pub mod classifier;
pub mod file;
pub mod foreign;
pub mod network;
pub mod normalisation;
#[cfg(feature = "pictures")]
pub mod pictures;
mod precision;
mod ranges;
mod temperature;
pub mod view;
pub mod weights;

pub use classifier::{
    Classifier, ClassifierError, ClassifierOptions, ClassifierPrecision, Prediction, likeliest,
};
#[cfg(feature = "pictures")]
pub use pictures::read_image;
pub use precision::{Precision, UnavailablePrecision};
pub use ranges::InputRanges;
pub use temperature::{Temperature, TemperatureError};
pub use view::View;
pub use weights::{StoredWeights, WeightsInfo};
