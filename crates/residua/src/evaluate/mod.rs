//! What a trained network says of images: its predictions, its loss and its error.

mod evaluation;
mod host;
mod network;
mod trained;

pub(crate) use evaluation::misclassified;
pub use evaluation::{Evaluation, evaluate, evaluate_classifier};
pub use host::{images, to_host};
pub use network::TrainedNetwork;
pub use trained::Trained;
