//! Several processes that do one piece of work together, joined by MPI.
//!
//! A [`Cluster`] is the group of them. Each has a rank, and all of them ask the cluster for the same things in the same order. What
//! is summed over ranks is summed in the order of the ranks, so the sums are the same to the bit, whatever the timing. A thread of its
//! own alone talks to the other ranks, while the process computes.
//!
//! Without the Cargo feature `mpi` there are only clusters of one.

mod error;
mod exchange;
mod group;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
pub(crate) mod threads;
mod transport;

pub use error::ClusterError;
pub(crate) use exchange::Pending;
pub use group::Cluster;
pub use launch::Launch;
