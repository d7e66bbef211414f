//! Keeping the pool's threads awake between kernels.

use std::sync::atomic::{AtomicBool, Ordering};

/// Looks for work between two times that the thread offers its core to others.
const LOOKS: usize = 64;

/// Runs `work` on a thread of the current pool, whose other threads meanwhile look for work without going to sleep.
///
/// A training step is a thousand short kernels; threads that fall asleep between them take a tenth of the time to wake
/// up. Waiting threads offer their cores to whoever else wants them.
pub fn with_threads_awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let is_done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let own = rayon::current_thread_index();
        let is_done = &is_done;
        scope.spawn_broadcast(move |_, context| {
            // On the thread that does the work it would wait for itself.
            if Some(context.index()) != own {
                look_for_work(is_done);
            }
        });
        let _done = Done(is_done);
        work()
    })
}

fn look_for_work(is_done: &AtomicBool) {
    let mut idle = 0;
    while !is_done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle % LOOKS == 0 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Says that the work is done, also when it panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
