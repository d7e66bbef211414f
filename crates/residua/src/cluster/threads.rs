//! Ranks as threads of one process, for tests.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::group::Cluster;
use super::transport::Transport;

/// Runs `work` on so many ranks, each in a pool of threads of its own, one thread in the first and more in those behind; what each
/// has come to.
pub(crate) fn on_ranks<R: Send>(ranks: usize, work: impl Fn(Cluster) -> R + Sync) -> Vec<R> {
    let mut senders: Vec<Vec<Sender<Vec<u8>>>> = Vec::new();
    let mut receivers: Vec<Vec<Receiver<Vec<u8>>>> = (0..ranks).map(|_| Vec::new()).collect();
    for _ in 0..ranks {
        let mut to = Vec::new();
        for receiver in &mut receivers {
            let (sender, received) = channel();
            to.push(sender);
            receiver.push(received);
        }
        senders.push(to);
    }
    let lines = senders.into_iter().zip(receivers).enumerate();
    thread::scope(|scope| {
        let work = &work;
        let start = |(rank, (to, from))| {
            scope.spawn(move || {
                let channels = Channels { rank, to, from };
                let cluster = Cluster::over(move |_| Ok(channels), &format!("host{}", rank / 2)).unwrap();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1 + rank % 3).build().unwrap();
                pool.install(|| work(cluster))
            })
        };
        let ranks: Vec<_> = lines.map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// A channel from every rank to every other.
struct Channels {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Channels {
    fn exchange(&self, sent: impl Fn(usize) -> Vec<u8>) -> Vec<Vec<u8>> {
        self.to.iter().enumerate().for_each(|(rank, to)| to.send(sent(rank)).unwrap());
        self.from.iter().map(|from| from.recv().expect("the other rank is there")).collect()
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn fill(received: &mut [f32], all: &[Vec<u8>]) {
    let values = all.iter().flat_map(|bytes| bytes.chunks_exact(4));
    received
        .iter_mut()
        .zip(values)
        .for_each(|(to, bytes)| *to = f32::from_le_bytes(bytes.try_into().unwrap()));
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn all_to_all(&mut self, sent: &[f32], received: &mut [f32]) {
        let part = sent.len() / self.ranks();
        fill(received, &self.exchange(|rank| bytes(&sent[rank * part..(rank + 1) * part])));
    }

    fn all_gather(&mut self, sent: &[f32], received: &mut [f32]) {
        fill(received, &self.exchange(|_| bytes(sent)));
    }

    fn all_gather_bytes(&mut self, sent: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
        assert_eq!(sent.len(), lengths[self.rank]);
        let all = self.exchange(|_| sent.to_vec());
        assert!(all.iter().map(Vec::len).eq(lengths.iter().copied()));
        all
    }

    fn end_all(&mut self, code: i32) {
        panic!("ended with {code}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterError;

    #[test]
    fn sums_are_those_in_the_order_of_the_ranks() {
        // Terms whose sum depends on the order.
        let value =
            |rank: usize, place: usize| (1. + place as f32) * 10f32.powi(7 * (rank as i32 % 3)) + rank as f32;
        for ranks in [2, 3, 5] {
            for count in [0, 1, 4, 5, 23] {
                let sums = on_ranks(ranks, |cluster| {
                    let values = (0..count).map(|place| value(cluster.rank(), place)).collect();
                    cluster.sum(values).unwrap().wait().unwrap()
                });
                let in_order = |place| (1..ranks).fold(value(0, place), |sum, rank| sum + value(rank, place));
                let expected: Vec<f32> = (0..count).map(in_order).collect();
                assert!(sums.iter().all(|sum| *sum == expected), "{ranks} {count}: {sums:?}");
            }
        }
    }

    #[test]
    fn ranks_know_who_and_where_they_are() {
        let known = on_ranks(3, |cluster| {
            assert_eq!((cluster.ranks(), cluster.hosts(), cluster.is_alone()), (3, 2, false));
            assert_eq!(cluster.name_of(2), "rank 2 on host1");
            assert_eq!(cluster.sharing_cores(), if cluster.rank() < 2 { 2 } else { 1 });
            let before = cluster.bytes_sent();
            cluster.sum(vec![1.; 6]).unwrap().wait().unwrap();
            cluster.agree("another recipe", "same").unwrap();
            assert_eq!(cluster.bytes_sent() - before, 2 * (2 * 2 * 4 + 8 + "same".len() as u64));
            (cluster.rank(), cluster.place_on_host(), cluster.is_first())
        });
        assert_eq!(known, [(0, (0, 2), true), (1, (1, 2), false), (2, (0, 1), false)]);
        let alone = Cluster::alone();
        assert_eq!((alone.rank(), alone.ranks(), alone.hosts(), alone.place_on_host()), (0, 1, 1, (0, 1)));
    }

    #[test]
    fn what_differs_is_told_by_all_and_the_first_is_believed() {
        let found = on_ranks(3, |cluster| {
            let own = if cluster.rank() == 1 { "other" } else { "same" };
            let first = cluster.from_first::<ClusterError>(|| Ok(vec![cluster.rank() as u8, 9])).unwrap();
            let all = cluster.gather(&vec![0.1; cluster.rank()]).unwrap();
            assert_eq!(all, [vec![], vec![0.1], vec![0.1; 2]]);
            let texts = cluster.gather_texts(vec!["\0ö\n".to_owned(), String::new()]).unwrap();
            assert_eq!(texts, ["\0ö\n", ""].repeat(3));
            assert!(cluster.gather_texts(Vec::new()).unwrap().is_empty());
            (first, cluster.agree("other images", own))
        });
        for (first, agreed) in found {
            assert_eq!(first, [0, 9]);
            let message = agreed.unwrap_err().to_string();
            assert!(
                message.starts_with("rank 1 on host0 has other images than rank 0 on host0; "),
                "{message}"
            );
        }
    }
}
