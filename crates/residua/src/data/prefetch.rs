//! Making numbered things ahead of time in worker threads, and handing them out in order.

use std::{
    any::Any,
    num::NonZeroUsize,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use super::error::DataError;

/// Things that each worker has ready, beside the one that it is making.
const READY: usize = 2;

/// Things 0, 1, 2, ... made by worker threads, a bounded number ahead.
///
/// Thing `i` is made by worker `i mod workers` and waits in that worker's own queue, so the order never
/// depends on which thread is fastest. Dropping it stops the workers after the thing in hand.
#[derive(Debug)]
pub(super) struct Prefetch<T> {
    workers: Vec<Worker<T>>,
    next: usize,
    failure: Option<String>,
}

#[derive(Debug)]
struct Worker<T> {
    queue: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts the workers; each has its own copy of `make`, which makes the thing of a given number.
    ///
    /// # Errors
    ///
    /// [`DataError::WorkerNotStarted`] where the operating system has no thread to give.
    pub(super) fn start<F>(workers: NonZeroUsize, make: F) -> Result<Self, DataError>
    where
        F: FnMut(u64) -> T + Clone + Send + 'static,
    {
        let mut prefetch = Self { workers: Vec::new(), next: 0, failure: None };
        for first in 0..workers.get() {
            let (ready, queue) = sync_channel(READY);
            let mut make = make.clone();
            let work = move || {
                for number in (first as u64..).step_by(workers.get()) {
                    if ready.send(make(number)).is_err() {
                        break;
                    }
                }
            };
            let thread = thread::Builder::new()
                .name(format!("residua-data-{first}"))
                .spawn(work)
                .map_err(|reason| DataError::WorkerNotStarted { reason })?;
            prefetch.workers.push(Worker { queue, thread });
        }
        Ok(prefetch)
    }

    /// The next thing, waiting for it if need be.
    ///
    /// # Errors
    ///
    /// [`DataError::WorkerStopped`] once its worker has panicked, and ever after.
    pub(super) fn next(&mut self) -> Result<T, DataError> {
        let stopped = |message: &String| Err(DataError::WorkerStopped { message: message.clone() });
        if let Some(message) = &self.failure {
            return stopped(message);
        }
        match self.workers[self.next].queue.recv() {
            Ok(thing) => {
                self.next = (self.next + 1) % self.workers.len();
                Ok(thing)
            }
            Err(_) => {
                let panic = self.workers.swap_remove(self.next).thread.join();
                let message = panic.err().map_or_else(|| "it ended early".into(), |panic| text_of(&*panic));
                stopped(self.failure.insert(message))
            }
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // All queues are closed before any worker is waited for, so that they stop together.
        let (queues, threads): (Vec<_>, Vec<_>) =
            self.workers.drain(..).map(|Worker { queue, thread }| (queue, thread)).unzip();
        drop(queues);
        for thread in threads {
            // A panic was either reported by `next` or concerns a thing that nobody asked for.
            let _ = thread.join();
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
    literal.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::*;

    fn count(workers: usize) -> NonZeroUsize {
        NonZeroUsize::new(workers).unwrap()
    }

    #[test]
    fn things_come_in_order_whoever_is_fastest() {
        for workers in 1..=5 {
            let mut squares = Prefetch::start(count(workers), |number| {
                thread::sleep(Duration::from_micros(number * 7919 % 300));
                number * number
            })
            .unwrap();
            for number in 0..50 {
                assert_eq!(squares.next().unwrap(), number * number);
            }
        }
    }

    #[test]
    fn a_panic_is_an_error_in_its_turn() {
        for workers in 1..=3 {
            let mut things = Prefetch::start(count(workers), |number| {
                assert!(number != 4, "thing {number} cannot be made");
                number
            })
            .unwrap();
            for number in 0..4 {
                assert_eq!(things.next().unwrap(), number);
            }
            for _ in 0..2 {
                let message = things.next().unwrap_err().to_string();
                assert!(message.contains("stopped: thing 4 cannot be made"), "{message}");
            }
        }
    }

    #[test]
    fn few_things_are_made_ahead_and_dropping_stops_the_workers() {
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let mut things = Prefetch::start(count(2), move |_| counter.fetch_add(1, Ordering::SeqCst)).unwrap();
        things.next().unwrap();
        thread::sleep(Duration::from_millis(50));
        assert!(made.load(Ordering::SeqCst) <= 1 + 2 * (READY as u64 + 1));
        drop(things);
        // The workers' copies of the counter are gone with them.
        assert_eq!(Arc::strong_count(&made), 1);
    }
}
