//! Work under threads that are kept awake is done whole, and ends.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rayon::prelude::*;
use residua_kernels::with_threads_awake;

#[test]
fn work_is_done_whole_also_by_several_at_once() {
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let sum = || with_threads_awake(|| (0..1000u64).into_par_iter().map(|n| n * n).sum::<u64>());
        let sums = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..4).map(|_| scope.spawn(|| pool.install(sum))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(sums, [332_833_500; 4]);
    }
}

/// A thread that waits for its half of the work's first join finds the call to stay awake: it must not follow it on top of
/// what the work waits for.
#[test]
fn work_of_many_joins_ends() {
    fn leaves(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let (left, right) = rayon::join(|| leaves(depth - 1), || leaves(depth - 1));
        left + right
    }
    let (ended, end) = mpsc::channel();
    for callers in [1, 3] {
        for threads in [2, 3] {
            let ended = ended.clone();
            thread::spawn(move || {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                thread::scope(|scope| {
                    for _ in 0..callers {
                        scope.spawn(|| {
                            for _ in 0..20_000 {
                                let count = pool.install(|| with_threads_awake(|| leaves(6)));
                                assert_eq!(count, 64);
                            }
                        });
                    }
                });
                ended.send((callers, threads)).unwrap();
            });
        }
    }
    drop(ended);
    for left in (1..=4).rev() {
        let ended = end.recv_timeout(Duration::from_secs(120));
        assert!(ended.is_ok(), "{left} pools of four wait for themselves: {ended:?}");
    }
}

#[test]
fn a_panic_comes_through() {
    assert!(std::panic::catch_unwind(|| with_threads_awake(|| panic!("as expected"))).is_err());
}
