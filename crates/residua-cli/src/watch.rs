//! A run that is looked at while it trains: how gradients go through its network.

use std::num::NonZeroU64;

use residua::data::Batch;
use residua::evaluate::images;
use residua::nn::ResNet;
use residua::run::{Record, RunError};
use residua::study::Propagation;
use residua::train::Observer;

/// Measures every so often the propagation of a batch that is always the same.
pub(crate) struct Watch {
    pub(crate) every: NonZeroU64,
    pub(crate) batch: Batch,
    pub(crate) seed: u64,
}

impl Observer for Watch {
    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        if !iteration.is_multiple_of(self.every.get()) {
            return Ok(Vec::new());
        }
        let images = images(&self.batch, &network.device());
        let propagation = Propagation::of(network, images, &self.batch.labels, self.seed)?;
        Ok(vec![propagation.record(iteration)])
    }
}
