//! Watching a run.

use crate::evaluate::Evaluation;
use crate::nn::ResNet;
use crate::run::Record;
use crate::run::RunError;

/// Someone who watches a run and may stop it.
pub trait Observer {
    /// After every step.
    fn stepped(&mut self, _progress: &Progress) {}
    /// Shown the network after every step; what comes back becomes a line of the metrics.
    ///
    /// # Errors
    /// Those of what is measured; they end the run.
    fn look(&mut self, _iteration: u64, _network: &ResNet) -> Result<Option<Record>, RunError> {
        Ok(None)
    }
    /// After every evaluation.
    fn evaluated(&mut self, _iteration: u64, _evaluation: &Evaluation) {}
    /// Once for each file of images that could not be read, with the reason.
    fn skipped(&mut self, _reason: &str) {}
    /// Asked before every step; once it is true the run saves a checkpoint and ends.
    fn wants_to_stop(&mut self) -> bool {
        false
    }
}

/// Nobody watches.
impl Observer for () {}

/// Where a run stands after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Finished iterations.
    pub iteration: u64,
    /// Iterations of the whole run.
    pub iterations: u64,
    /// Passes over the training set.
    pub epoch: f64,
    /// Mean cross-entropy of the last batch.
    pub loss: f64,
    /// Misclassified images of the last batch, in percent.
    pub error: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Images per second since the last metrics line.
    pub images_per_second: f64,
}
