//! A run that is looked at while it trains: how gradients go through its network.

use std::num::NonZeroU64;

use residua::data::Batch;
use residua::evaluate::{Evaluation, images};
use residua::nn::ResNet;
use residua::run::{Record, RunError};
use residua::study::Propagation;
use residua::train::{Observer, Progress};

use crate::progress::Terminal;

/// What the terminal shows, and every so often the propagation of a batch that is always the same.
pub(crate) struct Watch {
    pub(crate) terminal: Terminal,
    pub(crate) every: NonZeroU64,
    pub(crate) batch: Batch,
    pub(crate) seed: u64,
}

impl Observer for Watch {
    fn stepped(&mut self, progress: &Progress) {
        self.terminal.stepped(progress);
    }

    fn look(&mut self, iteration: u64, network: &ResNet) -> Result<Option<Record>, RunError> {
        if !iteration.is_multiple_of(self.every.get()) {
            return Ok(None);
        }
        let images = images(&self.batch, &network.device());
        let propagation = Propagation::of(network, images, &self.batch.labels, self.seed)?;
        Ok(Some(propagation.record(iteration)))
    }

    fn evaluated(&mut self, iteration: u64, evaluation: &Evaluation) {
        self.terminal.evaluated(iteration, evaluation);
    }

    fn skipped(&mut self, reason: &str) {
        self.terminal.skipped(reason);
    }

    fn wants_to_stop(&mut self) -> bool {
        self.terminal.wants_to_stop()
    }
}
