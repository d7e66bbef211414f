//! Watching a run.

use crate::evaluate::Evaluation;
use crate::nn::ResNet;
use crate::run::Record;
use crate::run::RunError;

/// Someone who watches a run and may stop it. Each method has a default that does nothing.
///
/// ```
/// use residua::train::{Observer, Progress};
///
/// /// Stops a run whose loss has become small enough.
/// struct UntilLearnt(f64);
///
/// impl Observer for UntilLearnt {
///     fn stepped(&mut self, progress: &Progress) {
///         self.0 = progress.loss;
///     }
///     fn wants_to_stop(&mut self) -> bool {
///         self.0 < 0.1
///     }
/// }
/// ```
pub trait Observer {
    /// Is called after every step.
    fn stepped(&mut self, _progress: &Progress) {}
    /// Is shown the network after every step; what comes back becomes lines of the metrics.
    ///
    /// # Errors
    /// Those of what is measured; they end the run.
    fn measure(&mut self, _iteration: u64, _network: &ResNet) -> Result<Vec<Record>, RunError> {
        Ok(Vec::new())
    }
    /// Is called before every evaluation, of so many images.
    fn tests(&mut self, _iteration: u64, _images: usize) {}
    /// Is called after every evaluation on the test images.
    fn evaluated(&mut self, _iteration: u64, _evaluation: &Evaluation) {}
    /// Is called behind that with what the average of the weights reaches, where the run keeps one.
    fn evaluated_average(&mut self, _iteration: u64, _evaluation: &Evaluation) {}
    /// Is called after every evaluation on the validation images, where the run has any: of the weights, and of their average if it
    /// keeps one.
    fn validated(&mut self, _iteration: u64, _evaluation: &Evaluation, _average: Option<&Evaluation>) {}
    /// Is called once for each file of images that could not be read, with the reason.
    fn skipped(&mut self, _reason: &str) {}
    /// Is asked before every step; once it is true the run saves a checkpoint and ends.
    fn wants_to_stop(&mut self) -> bool {
        false
    }
}

/// Nobody watches.
impl Observer for () {}

/// Both watch; the run ends when either wants it to.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn stepped(&mut self, progress: &Progress) {
        self.0.stepped(progress);
        self.1.stepped(progress);
    }

    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        let mut records = self.0.measure(iteration, network)?;
        records.extend(self.1.measure(iteration, network)?);
        Ok(records)
    }

    fn tests(&mut self, iteration: u64, images: usize) {
        self.0.tests(iteration, images);
        self.1.tests(iteration, images);
    }

    fn evaluated(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.0.evaluated(iteration, evaluation);
        self.1.evaluated(iteration, evaluation);
    }

    fn evaluated_average(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.0.evaluated_average(iteration, evaluation);
        self.1.evaluated_average(iteration, evaluation);
    }

    fn validated(&mut self, iteration: u64, evaluation: &Evaluation, average: Option<&Evaluation>) {
        self.0.validated(iteration, evaluation, average);
        self.1.validated(iteration, evaluation, average);
    }

    fn skipped(&mut self, reason: &str) {
        self.0.skipped(reason);
        self.1.skipped(reason);
    }

    fn wants_to_stop(&mut self) -> bool {
        self.0.wants_to_stop() || self.1.wants_to_stop()
    }
}

/// Whoever is there, if anybody.
impl<O: Observer> Observer for Option<O> {
    fn stepped(&mut self, progress: &Progress) {
        self.iter_mut().for_each(|observer| observer.stepped(progress));
    }

    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        self.as_mut().map_or(Ok(Vec::new()), |observer| observer.measure(iteration, network))
    }

    fn tests(&mut self, iteration: u64, images: usize) {
        self.iter_mut().for_each(|observer| observer.tests(iteration, images));
    }

    fn evaluated(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.iter_mut().for_each(|observer| observer.evaluated(iteration, evaluation));
    }

    fn evaluated_average(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.iter_mut().for_each(|observer| observer.evaluated_average(iteration, evaluation));
    }

    fn validated(&mut self, iteration: u64, evaluation: &Evaluation, average: Option<&Evaluation>) {
        self.iter_mut().for_each(|observer| observer.validated(iteration, evaluation, average));
    }

    fn skipped(&mut self, reason: &str) {
        self.iter_mut().for_each(|observer| observer.skipped(reason));
    }

    fn wants_to_stop(&mut self) -> bool {
        self.as_mut().is_some_and(Observer::wants_to_stop)
    }
}

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
