//! Threads that help whoever calls, for work of milliseconds.
//!
//! Handing a call to a pool wakes one of its threads, that one wakes the others, and at the end the caller is woken: 50 microseconds each
//! time a core has to be. Here the caller computes, and its helpers stay awake for a while after a call: the next one finds them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::awake::{Led, Team, pause};

/// How long helpers look for work when nobody leads them, before they fall asleep. Meanwhile they offer their cores to whoever wants them.
const STAYS_AWAKE: Duration = Duration::from_millis(1);

/// Threads that join in the kernels of whoever leads them. They end when it is dropped.
#[derive(Debug)]
pub struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    team: Team,
    is_led: AtomicBool,
    is_over: AtomicBool,
    has_panicked: AtomicBool,
}

impl Helpers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system refuses one.
    pub fn start(count: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            team: Team::new(count + 1),
            is_led: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            has_panicked: AtomicBool::new(false),
        });
        let mut helpers = Self { shared, threads: Vec::with_capacity(count) };
        for _ in 0..count {
            let shared = Arc::clone(&helpers.shared);
            helpers
                .threads
                .push(thread::Builder::new().name("helper".to_owned()).spawn(move || shared.help())?);
        }
        Ok(helpers)
    }

    /// Runs `work` on this thread, whose kernels the helpers join in. If another thread leads them already, `work` runs without help.
    ///
    /// # Panics
    /// When a helper has panicked.
    pub fn lead<R>(&self, work: impl FnOnce() -> R) -> R {
        let Shared { team, is_led, has_panicked, .. } = &*self.shared;
        if is_led.swap(true, Ordering::AcqRel) {
            return work();
        }
        for helper in &self.threads {
            helper.thread().unpark();
        }
        let result = {
            let _free = Free(is_led);
            let _led = Led::by_this_thread(team);
            work()
        };
        assert!(!has_panicked.swap(false, Ordering::AcqRel), "a helper has panicked");
        result
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        for helper in self.threads.drain(..) {
            helper.thread().unpark();
            // It does not panic: what it joins in is caught.
            let _ = helper.join();
        }
    }
}

impl Shared {
    fn help(&self) {
        let (mut looks, mut seen) = (0, 0);
        let mut idle_since = None;
        while !self.is_over.load(Ordering::Acquire) {
            // Nothing is left half done for others to see: the leader panics.
            let joined = catch_unwind(AssertUnwindSafe(|| self.team.join(&mut seen))).unwrap_or_else(|_| {
                self.has_panicked.store(true, Ordering::Release);
                true
            });
            if joined || self.is_led.load(Ordering::Acquire) {
                idle_since = None;
            } else if idle_since.get_or_insert_with(Instant::now).elapsed() > STAYS_AWAKE {
                // A leader that has come meanwhile has left a token, so that this returns at once.
                thread::park();
                idle_since = None;
            }
            if joined {
                looks = 0;
            } else {
                pause(&mut looks);
            }
        }
    }
}

/// Lets others lead, also after a panic.
struct Free<'a>(&'a AtomicBool);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
