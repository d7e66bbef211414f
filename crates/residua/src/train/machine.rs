//! What of the machine a run uses.

use std::num::NonZeroUsize;

use burn::tensor::Device;

use crate::cluster::Cluster;
use crate::nn::MemoryChoice;
use crate::ops::Engine;

/// What a run uses of the machine. None of it is part of the recipe, and none of it but the number of processes changes the
/// results on one device.
///
/// By default the network runs on the CPU, in the fastest [mode](crate::nn::Memory) that fits in the free memory, and one
/// thread makes batches.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Machine {
    /// Where the network runs.
    pub device: Device,
    /// Which implementation of the operations.
    pub engine: Engine,
    /// What a step keeps for its backward pass, or the memory that it must fit in.
    pub memory: MemoryChoice,
    /// Threads that make batches ahead of the step.
    pub workers: NonZeroUsize,
    /// The processes that train together, each of which begins or resumes the run alike.
    ///
    /// A batch is divided between them in order, and each normalises its own part: the run is that of one process with groups of that size
    /// ([`bn_group`](crate::nn::NetworkOptions::bn_group), which the recipe of a new run is made to say). Rank 0 has the run's folder; the
    /// others do not look at it. A rank that fails has to [end all](Cluster::end_all).
    pub cluster: Cluster,
    /// Whether several processes normalise with the statistics of the whole batch, as one process does, or each with those of its own
    /// images. It is slower: the operations are composed ones, and processes wait for each other in every normalisation.
    pub shares_statistics: bool,
    /// Whether the run's folder gets a file of events for TensorBoard.
    #[cfg(feature = "tensorboard")]
    pub writes_events: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::on(Device::flex())
    }
}

impl Machine {
    /// The defaults, on this device.
    pub fn on(device: Device) -> Self {
        let (engine, memory) = (Engine::default(), MemoryChoice::default());
        Self {
            device,
            engine,
            memory,
            workers: NonZeroUsize::MIN,
            cluster: Cluster::alone(),
            shares_statistics: false,
            #[cfg(feature = "tensorboard")]
            writes_events: true,
        }
    }

    /// The same with this implementation of the operations.
    pub fn with_engine(self, engine: Engine) -> Self {
        Self { engine, ..self }
    }

    /// The same, where a step keeps so much for its backward pass.
    pub fn with_memory(self, memory: MemoryChoice) -> Self {
        Self { memory, ..self }
    }

    /// The same with so many threads that make batches ahead of the step.
    pub fn with_workers(self, workers: NonZeroUsize) -> Self {
        Self { workers, ..self }
    }

    /// The same, by all ranks of a cluster together.
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        Self { cluster, ..self }
    }

    /// The same, where several processes normalise with the statistics of the whole batch.
    pub fn with_shared_statistics(self, shares_statistics: bool) -> Self {
        Self { shares_statistics, ..self }
    }

    /// The processes with which statistics are shared, if they are with any.
    pub(super) fn sharing_statistics(&self) -> Option<&Cluster> {
        (self.shares_statistics && !self.cluster.is_alone()).then_some(&self.cluster)
    }

    /// The same, with or without a file of events for TensorBoard.
    #[cfg(feature = "tensorboard")]
    pub fn with_events(self, writes_events: bool) -> Self {
        Self { writes_events, ..self }
    }
}
