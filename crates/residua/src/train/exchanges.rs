//! What passes between ranks, counted for the metrics.

use std::time::Duration;

use super::ranks::Together;
use crate::cluster::Cluster;
use crate::run::Exchanged;

/// What has passed since the last line of the metrics.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// How long this rank has waited in the last step.
    pub(super) waited: Duration,
    /// Seconds, in the mean over ranks.
    waited_by_all: f64,
    steps: u64,
    bytes_before: u64,
}

impl Exchanges {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self { bytes_before: cluster.bytes_sent(), ..Self::default() }
    }

    /// One more step.
    pub(super) fn add(&mut self, together: &Together) {
        self.waited = together.waited;
        self.waited_by_all += together.waited_before;
        self.steps += 1;
    }

    /// For a line of the metrics over so many seconds; then all begins anew.
    pub(super) fn window(&mut self, cluster: &Cluster, seconds: f64) -> Option<Exchanged> {
        let Self { waited, waited_by_all, steps, bytes_before } = *self;
        let bytes = cluster.bytes_sent();
        *self = Self { waited, bytes_before: bytes, ..Self::default() };
        (!cluster.is_alone() && steps > 0 && seconds > 0.).then(|| Exchanged {
            ranks: cluster.ranks() as u64,
            waited: (100. * waited_by_all / seconds).min(100.),
            bytes_sent: (bytes - bytes_before) / steps,
        })
    }
}
