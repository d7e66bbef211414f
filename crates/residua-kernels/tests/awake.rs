//! Work under threads that are kept awake is done whole, and ends.

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

#[test]
fn a_panic_comes_through() {
    assert!(std::panic::catch_unwind(|| with_threads_awake(|| panic!("as expected"))).is_err());
}
