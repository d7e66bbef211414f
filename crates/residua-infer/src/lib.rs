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
pub mod view;
pub mod weights;

pub use classifier::{Classifier, ClassifierError, ClassifierOptions, Prediction, likeliest};
#[cfg(feature = "pictures")]
pub use pictures::read_image;
pub use precision::{Precision, UnavailablePrecision};
pub use view::View;
pub use weights::{StoredWeights, WeightsInfo};
