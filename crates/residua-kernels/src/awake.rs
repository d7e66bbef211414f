//! Keeping the pool's threads awake between kernels.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Calls `work` with 0 to `count - 1`: every thread a run of neighbours in order, then what is left of the others' runs.
/// The calling thread waits for the last calls awake: they take less time than falling asleep and being woken.
pub(crate) fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(count);
    let begin = |run: usize| run * count / threads;
    let next: Vec<AtomicUsize> = (0..threads).map(|run| AtomicUsize::new(begin(run))).collect();
    let finished = AtomicUsize::new(0);
    let work_off = |own: usize| {
        for run in (own..threads).chain(0..own) {
            loop {
                let turn = next[run].fetch_add(1, Ordering::Relaxed);
                if turn >= begin(run + 1) {
                    break;
                }
                let _finished = Finished(&finished);
                work(turn);
            }
        }
    };
    rayon::in_place_scope(|scope| {
        let work_off = &work_off;
        for run in 1..threads {
            scope.spawn(move |_| work_off(run));
        }
        work_off(0);
        let mut looks = 0;
        while finished.load(Ordering::Acquire) < count {
            pause(&mut looks);
        }
    });
}

/// Counts a call, also when it panics.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Between two looks at what is waited for.
fn pause(looks: &mut usize) {
    *looks += 1;
    if looks.is_multiple_of(LOOKS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

fn look_for_work(is_done: &AtomicBool) {
    let mut looks = 0;
    while !is_done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
            continue;
        }
        pause(&mut looks);
    }
}

/// Says that the work is done, also when it panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
