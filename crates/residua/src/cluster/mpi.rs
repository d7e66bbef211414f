//! Ranks over MPI.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::error::ClusterError;
use super::exchange::Shared;
use super::transport::Transport;

/// MPI as the one thread that joined it sees it.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    shared: Arc<Shared>,
    /// Leaves MPI when it is dropped.
    _universe: Universe,
}

/// Between two looks at what is under way: MPI's own waiting keeps a core busy, which has better to do, and hears of nothing else.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_micros(500);

/// Most bytes that go in one call, for all ranks together: MPI counts in 32 bits.
const MOST_BYTES: usize = 1 << 30;

impl Mpi {
    pub(super) fn join(shared: Arc<Shared>) -> Result<Self, ClusterError> {
        let not_joined = |problem: &str| ClusterError::NotJoined { problem: problem.to_owned() };
        let joined = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, threading) = joined.ok_or_else(|| not_joined("this process has joined it before"))?;
        if threading < Threading::Funneled {
            return Err(not_joined("its library allows no threads; take one that has MPI_THREAD_FUNNELED"));
        }
        Ok(Self { world: universe.world(), shared, _universe: universe })
    }

    /// Waits for an operation, or for the end of all.
    fn finish<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let begun = Instant::now();
        while let Err(pending) = request.test() {
            request = pending;
            if let Some(code) = self.shared.end_code() {
                self.world.abort(code);
            }
            // The longer it has taken, the less a little more matters.
            thread::sleep((begun.elapsed() / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn ranks(&self) -> usize {
        self.world.size() as usize
    }

    fn all_to_all(&mut self, sent: &[f32], received: &mut [f32]) {
        scope(|scope| self.finish(self.world.immediate_all_to_all_into(scope, sent, received)));
    }

    fn all_gather(&mut self, sent: &[f32], received: &mut [f32]) {
        scope(|scope| self.finish(self.world.immediate_all_gather_into(scope, sent, received)));
    }

    fn all_gather_bytes(&mut self, sent: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let most = MOST_BYTES / lengths.len();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        for begin in (0..longest).step_by(most.max(1)) {
            let piece = |length: usize| length.saturating_sub(begin).min(most);
            let counts: Vec<i32> = lengths.iter().map(|&length| piece(length) as i32).collect();
            let places: Vec<i32> =
                counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
            let mut received = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
            let own = &sent[begin.min(sent.len())..][..piece(sent.len())];
            let mut parts = PartitionMut::new(&mut received[..], counts.clone(), places);
            scope(|scope| {
                self.finish(self.world.immediate_all_gather_varcount_into(scope, own, &mut parts));
            });
            let mut rest = &received[..];
            for (bytes, count) in all.iter_mut().zip(counts) {
                let (own, others) = rest.split_at(count as usize);
                bytes.extend_from_slice(own);
                rest = others;
            }
        }
        all
    }

    fn end_all(&mut self, code: i32) {
        self.world.abort(code);
    }
}
