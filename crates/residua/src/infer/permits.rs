//! How many callers compute at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// As many permits as there are threads to compute: more callers wait instead of sharing cores.
#[derive(Debug)]
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

/// Returned when it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
    count: usize,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), returned: Condvar::new() }
    }

    /// Waits for a permit.
    pub(super) fn take(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.returned.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit { permits: self, count: 1 }
    }

    /// All `count` permits, if nobody has any.
    pub(super) fn take_all(&self, count: usize) -> Option<Permit<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if *free < count {
            return None;
        }
        *free -= count;
        Some(Permit { permits: self, count })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Self { permits, count } = *self;
        *permits.free.lock().unwrap_or_else(PoisonError::into_inner) += count;
        permits.returned.notify_all();
    }
}
