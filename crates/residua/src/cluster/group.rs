//! The group of processes that work together, as one of them sees it.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::error::ClusterError;
use super::exchange::{Exchange, Pending, Shared};
use super::transport::Transport;

/// A group of processes, the ranks, numbered from 0 on; by default this process alone. Clones are the same member of the same group.
///
/// Ranks do the same things in the same order; one that does not keeps the others waiting. So a program that fails on one rank ends all by
/// [`end_all`](Self::end_all). When the last clone is dropped, the rank leaves, and waits for the others to do so.
#[derive(Debug, Clone, Default)]
pub struct Cluster(Option<Arc<Member>>);

#[derive(Debug)]
struct Member {
    rank: usize,
    /// The host of each rank.
    hosts: Vec<String>,
    /// The cores of its host that each rank may run on, in the system's words.
    cores: Vec<String>,
    exchange: Exchange,
}

impl Cluster {
    /// This process and no other.
    pub fn alone() -> Self {
        Self::default()
    }

    /// All processes that MPI has started with this one. A process can join once.
    ///
    /// # Errors
    /// When this process has joined before, or MPI does not work with threads.
    #[cfg(feature = "mpi")]
    pub fn join() -> Result<Self, ClusterError> {
        let host = sysinfo::System::host_name();
        Self::over(super::mpi::Mpi::join, host.as_deref().unwrap_or("a host without a name"))
    }

    /// The ranks that a transport reaches, of which this one is on `host`.
    #[cfg_attr(not(any(feature = "mpi", test)), expect(dead_code, reason = "there is no transport"))]
    pub(super) fn over<T: Transport>(
        transport: impl FnOnce(Arc<Shared>) -> Result<T, ClusterError> + Send + 'static,
        host: &str,
    ) -> Result<Self, ClusterError> {
        let (exchange, rank, ranks) = Exchange::start(transport)?;
        if ranks == 1 {
            return Ok(Self::alone());
        }
        let gather = |own: &str| {
            let all = exchange.gather(own.as_bytes().to_vec()).wait()?;
            Ok(all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
        };
        let (hosts, cores) = (gather(host)?, gather(&cores())?);
        Ok(Self(Some(Arc::new(Member { rank, hosts, cores, exchange }))))
    }

    /// The number of this process in the group.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |member| member.rank)
    }

    /// How many processes there are.
    pub fn ranks(&self) -> usize {
        self.0.as_ref().map_or(1, |member| member.hosts.len())
    }

    /// Whether this process is the only one.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is rank 0, which writes and tells what is to be written and told once.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The number of this process among those of its host, and how many these are.
    pub fn place_on_host(&self) -> (usize, usize) {
        let Some(member) = &self.0 else { return (0, 1) };
        let on_host =
            |hosts: &[String]| hosts.iter().filter(|host| **host == member.hosts[member.rank]).count();
        (on_host(&member.hosts[..member.rank]), on_host(&member.hosts))
    }

    /// How many of the processes on this host, this one among them, may run on the same cores as this one.
    pub fn sharing_cores(&self) -> usize {
        let Some(Member { rank, hosts, cores, .. }) = self.0.as_deref() else { return 1 };
        let is_beside = |other: &usize| hosts[*other] == hosts[*rank] && cores[*other] == cores[*rank];
        (0..hosts.len()).filter(is_beside).count()
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        let Some(member) = &self.0 else { return 1 };
        let is_new = |(rank, host): &(usize, &String)| !member.hosts[..*rank].contains(host);
        member.hosts.iter().enumerate().filter(is_new).count()
    }

    /// A rank and its host, in words.
    pub fn name_of(&self, rank: usize) -> String {
        match self.0.as_ref().and_then(|member| member.hosts.get(rank)) {
            Some(host) => format!("rank {rank} on {host}"),
            None => format!("rank {rank}"),
        }
    }

    /// The numbers that all ranks give, in their order.
    ///
    /// # Errors
    /// When the others cannot be reached.
    pub(crate) fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>, ClusterError> {
        let Some(member) = &self.0 else { return Ok(vec![numbers.to_vec()]) };
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = member.exchange.gather(bytes).wait()?;
        let numbers =
            |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        Ok(all.iter().map(numbers).collect())
    }

    /// The texts that all ranks give, in their order.
    ///
    /// # Errors
    /// When the others cannot be reached.
    pub(crate) fn gather_texts(&self, texts: Vec<String>) -> Result<Vec<String>, ClusterError> {
        let Some(member) = &self.0 else { return Ok(texts) };
        // Behind each a byte that no text has.
        let bytes = texts.iter().flat_map(|text| text.bytes().chain([END])).collect();
        let all = member.exchange.gather(bytes).wait()?.concat();
        let texts = all.split_inclusive(|&byte| byte == END);
        Ok(texts.map(|text| String::from_utf8_lossy(&text[..text.len() - 1]).into_owned()).collect())
    }

    /// What rank 0 finds; on the others `find` is not called.
    ///
    /// # Errors
    /// When rank 0 finds none: there its error, with which it has to end all. When it cannot be reached.
    pub fn from_first<E: From<ClusterError>>(
        &self,
        find: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let found = if self.is_first() { find()? } else { Vec::new() };
        let Some(member) = &self.0 else { return Ok(found) };
        let mut all = member.exchange.gather(found).wait()?;
        Ok(all.swap_remove(0))
    }

    /// Makes sure that all ranks have the same.
    ///
    /// # Errors
    /// [`ClusterError::Different`] on every rank, naming the first that differs from rank 0.
    pub fn agree(&self, what: &'static str, digest: &str) -> Result<(), ClusterError> {
        let Some(member) = &self.0 else { return Ok(()) };
        let all = member.exchange.gather(digest.as_bytes().to_vec()).wait()?;
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => Err(self.different(what, rank)),
        }
    }

    /// That a rank has `another recipe`, or what it is, than rank 0.
    pub(crate) fn different(&self, what: &'static str, rank: usize) -> ClusterError {
        ClusterError::Different { what, rank: self.name_of(rank), first: self.name_of(0) }
    }

    /// The sums over all ranks of each of these values, of which all have as many, in f32 and in the order of the ranks.
    pub(crate) fn sum(&self, values: Vec<f32>) -> Option<Pending<Vec<f32>>> {
        self.0.as_ref().map(|member| member.exchange.sum(values))
    }

    /// Bytes that this rank has sent to others so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |member| member.exchange.bytes_sent())
    }

    /// Ends all processes of the group with this exit code, which is not 0; alone, it does nothing. Others may be in the midst of
    /// anything.
    pub fn end_all(&self, code: i32) {
        if let Some(member) = &self.0 {
            member.exchange.end_all(code);
            thread::sleep(PATIENCE);
        }
    }
}

/// What ends a text among several: in UTF-8 there is no such byte.
const END: u8 = 0xff;

/// How long MPI may take to end this process, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cores that this process may run on, as Linux lists them; nothing where they are unknown.
fn cores() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}
