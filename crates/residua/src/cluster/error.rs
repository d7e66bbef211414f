//! What can be wrong between ranks.

use thiserror::Error;

/// Ranks that cannot work together.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterError {
    /// The Cargo feature is off.
    #[error(
        "this process is one of several that MPI has started, and this build of residua has no MPI support: build it with the Cargo \
         feature `mpi` (--features mpi)"
    )]
    NotBuilt,
    /// MPI has been joined or left before.
    #[error("MPI cannot be joined: {problem}")]
    NotJoined {
        /// What is wrong with it.
        problem: String,
    },
    /// Ranks that are about to do different things.
    #[error(
        "{rank} has {what} than {first}; start the same residua with the same options, files and data on all of them"
    )]
    Different {
        /// What differs: `another program`, `another recipe`, `other images`, `other weights`.
        what: &'static str,
        /// The first rank that differs, with its host.
        rank: String,
        /// Rank 0, with its host.
        first: String,
    },
    /// The other ranks cannot be reached any more.
    #[error("the other ranks cannot be reached any more")]
    Lost,
}
