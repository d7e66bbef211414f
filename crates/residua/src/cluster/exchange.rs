//! The thread that alone talks to the other ranks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::error::ClusterError;
use super::transport::Transport;

/// What the thread is asked for, in the order in which it is asked; and where the answers go.
enum Job {
    Sum {
        values: Vec<f32>,
        answer: Sender<Vec<f32>>,
    },
    Gather {
        bytes: Vec<u8>,
        answer: Sender<Vec<Vec<u8>>>,
    },
    /// To end all ranks.
    End,
}

/// What is still under way; to be waited for.
#[derive(Debug)]
pub(crate) struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// # Errors
    /// When the other ranks cannot be reached any more.
    pub(crate) fn wait(self) -> Result<T, ClusterError> {
        self.0.recv().map_err(|_| ClusterError::Lost)
    }
}

/// What both threads know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    bytes_sent: AtomicU64,
    /// The exit code that all ranks are to end with, or 0.
    end_code: AtomicI32,
}

impl Shared {
    /// The exit code that all ranks are to end with, if they are.
    pub(super) fn end_code(&self) -> Option<i32> {
        Some(self.end_code.load(Ordering::SeqCst)).filter(|&code| code != 0)
    }
}

/// A thread that does what it is asked for, one after the other.
#[derive(Debug)]
pub(super) struct Exchange {
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    /// Starts the thread on a transport that it makes itself, and says which rank this is, and of how many.
    ///
    /// # Errors
    /// When there is no thread to be had, or no transport.
    pub(super) fn start<T: Transport>(
        transport: impl FnOnce(Arc<Shared>) -> Result<T, ClusterError> + Send + 'static,
    ) -> Result<(Self, usize, usize), ClusterError> {
        let shared = Arc::<Shared>::default();
        let ((jobs, asked), (says, said)) = (channel(), channel());
        let known = shared.clone();
        let work = move || match transport(known.clone()) {
            Err(error) => drop(says.send(Err(error))),
            Ok(mut transport) => {
                if says.send(Ok((transport.rank(), transport.ranks()))).is_ok() {
                    follow(&asked, &mut transport, &known);
                }
            }
        };
        let thread = thread::Builder::new().name("residua-cluster".to_owned()).spawn(work);
        let thread = thread.map_err(|reason| ClusterError::NotJoined { problem: reason.to_string() })?;
        let (rank, ranks) = said.recv().map_err(|_| ClusterError::Lost)??;
        Ok((Self { jobs: Some(jobs), shared, thread: Some(thread) }, rank, ranks))
    }

    /// The sums over all ranks of each of these values, of which all ranks have as many, added in the order of the ranks.
    pub(super) fn sum(&self, values: Vec<f32>) -> Pending<Vec<f32>> {
        let (answer, pending) = channel();
        self.ask(Job::Sum { values, answer });
        Pending(pending)
    }

    /// What all ranks give, in their order.
    pub(super) fn gather(&self, bytes: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        let (answer, pending) = channel();
        self.ask(Job::Gather { bytes, answer });
        Pending(pending)
    }

    /// Bytes that this rank has sent to others so far.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.shared.bytes_sent.load(Ordering::Relaxed)
    }

    /// Has all ranks end with an exit code other than 0, whatever the thread is at.
    pub(super) fn end_all(&self, code: i32) {
        self.shared.end_code.store(code, Ordering::SeqCst);
        self.ask(Job::End);
    }

    fn ask(&self, job: Job) {
        // Where the thread has ended, the answer never comes, and waiting for it says so.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Exchange {
    /// Leaves the cluster in order.
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn follow(asked: &Receiver<Job>, transport: &mut impl Transport, shared: &Shared) {
    let others = transport.ranks() - 1;
    let count = |sent: usize| shared.bytes_sent.fetch_add((sent * others) as u64, Ordering::Relaxed);
    for job in asked {
        match job {
            Job::Sum { values, answer } => {
                count(2 * values.len().div_ceil(transport.ranks()) * size_of::<f32>());
                // Whoever has asked may have given up since.
                let _ = answer.send(sum(transport, values));
            }
            Job::Gather { bytes, answer } => {
                count(size_of::<u64>() + bytes.len());
                let _ = answer.send(gather(transport, &bytes));
            }
            Job::End => {
                transport.end_all(shared.end_code().unwrap_or(1));
                return;
            }
        }
    }
}

/// Each rank adds up a part of the values, in the order of the ranks, and sends the sums to all. So each sends twice what it has, however
/// many ranks there are, and no library's choice of an algorithm decides about the last bit.
fn sum(transport: &mut impl Transport, mut values: Vec<f32>) -> Vec<f32> {
    let (count, ranks) = (values.len(), transport.ranks());
    if count == 0 {
        return values;
    }
    let part = count.div_ceil(ranks);
    values.resize(part * ranks, 0.);
    let mut received = vec![0.; part * ranks];
    transport.all_to_all(&values, &mut received);
    let (sums, others) = received.split_at_mut(part);
    for other in others.chunks_exact(part) {
        sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
    }
    transport.all_gather(sums, &mut values);
    values.truncate(count);
    values
}

fn gather(transport: &mut impl Transport, bytes: &[u8]) -> Vec<Vec<u8>> {
    let length = (bytes.len() as u64).to_le_bytes();
    let lengths = transport.all_gather_bytes(&length, &vec![length.len(); transport.ranks()]);
    let of_rank =
        |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |&length| u64::from_le_bytes(length) as usize);
    let lengths: Vec<usize> = lengths.iter().map(of_rank).collect();
    transport.all_gather_bytes(bytes, &lengths)
}
