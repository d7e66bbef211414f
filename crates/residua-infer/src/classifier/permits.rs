//! How many callers compute at once, and who is next.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// As many permits as there are threads to compute: more callers wait instead of sharing cores, first come, first served.
#[derive(Debug)]
pub(super) struct Permits {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    /// Callers that have come, and those of them that have had their turn.
    come: u64,
    served: u64,
}

/// Returned when it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    count: usize,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { queue: Mutex::new(Queue { free: count, come: 0, served: 0 }), moved: Condvar::new() }
    }

    /// Waits for a permit behind those who came before.
    pub(super) fn take(&self) -> Permit<'_> {
        let mut queue = self.queue();
        let turn = queue.come;
        queue.come += 1;
        let waits = |queue: &mut Queue| queue.served < turn || queue.free == 0;
        let mut queue = self.moved.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
        queue.served += 1;
        queue.free -= 1;
        if queue.free > 0 {
            self.moved.notify_all();
        }
        Permit { permits: self, count: 1 }
    }

    /// All `count` permits, if nobody has or waits for any.
    pub(super) fn take_all(&self, count: usize) -> Option<Permit<'_>> {
        let mut queue = self.queue();
        if queue.free < count || queue.served < queue.come {
            return None;
        }
        queue.free -= count;
        Some(Permit { permits: self, count })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Self { permits, count } = *self;
        permits.queue().free += count;
        permits.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;
    use std::time::Duration;

    use super::Permits;

    #[test]
    fn who_comes_first_is_served_first() {
        let permits = Permits::new(1);
        let all = permits.take_all(1).unwrap();
        assert!(permits.take_all(1).is_none());
        let served = Mutex::new(Vec::<u64>::new());
        thread::scope(|scope| {
            for caller in 0..8 {
                let (permits, served) = (&permits, &served);
                scope.spawn(move || {
                    let permit = permits.take();
                    served.lock().unwrap().push(caller);
                    drop(permit);
                });
                while permits.queue().come <= caller {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            // All wait, so nobody new may have everything.
            assert!(permits.take_all(0).is_none());
            drop(all);
        });
        assert_eq!(permits.queue().served, 8);
        assert_eq!(served.into_inner().unwrap(), Vec::from_iter(0..8));
        assert!(permits.take_all(1).is_some());
    }
}
