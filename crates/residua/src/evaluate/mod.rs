//! What a trained network says of images: its predictions, its loss, its error, and how far it can be believed.
//!
//! [`evaluate()`] finds loss and error and keeps nothing else. For more, a network is shown the images ([`Trained::score`],
//! [`score_by_classifier`]) and says something of each ([`Scored`]), an [`Answer`] of a few numbers. [`Measures`] are what all answers come to.

mod calibration;
mod confusions;
mod evaluation;
mod host;
mod measures;
mod network;
mod scored;
mod temperature_fit;
mod test_pass;
mod trained;

pub use calibration::{Calibration, CalibrationBin};
pub use confusions::Confusions;
pub use evaluation::{Evaluation, evaluate, evaluate_classifier};
pub(crate) use evaluation::{Score, scores};
pub use host::{images, to_host};
pub use measures::{ClassMeasures, Measures};
pub use network::TrainedNetwork;
pub(crate) use scored::misclassified;
pub use scored::{Answer, Scored};
pub use temperature_fit::{HeldOut, TemperatureFitError};
pub use test_pass::{Mirroring, TestOptions, score_by_classifier};
pub use trained::Trained;
