//! What the machine can do at most: multiply-adds in registers, reads from memory.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use residua_kernels::Instructions;

/// Prints the peaks of one thread and of all.
pub(crate) fn print() {
    let threads = rayon::current_num_threads();
    println!("peaks of this machine       1 thread  {threads:3} threads");
    for instructions in Instructions::available() {
        let [one, all] = [1, threads].map(|threads| multiply_adds(instructions, threads) / 1e9);
        println!("multiply-adds, {:8} {one:9.1} {all:12.1}  Gflop/s", instructions.name());
    }
    let memory: Vec<u64> = (0..MEMORY as u64 / 8).collect();
    let [one, all] = [1, threads].map(|threads| memory_reads(&memory, threads) / 1e9);
    println!("memory, read            {one:9.1} {all:12.1}  GB/s\n");
}

/// Far more than the caches hold.
const MEMORY: usize = 256 << 20;
/// Every peak is the best of as many tries.
const TRIES: usize = 5;
/// Steps of the register loop.
const STEPS: usize = 1 << 22;
/// Accumulators: as many multiply-adds as are under way at a time, and no more than fit in registers.
const CHAINS: usize = 12;

/// Calls per second of `work` on as many threads at once.
fn per_second(threads: usize, work: impl Fn() + Sync) -> f64 {
    let times = (0..TRIES).map(|_| {
        let start = Instant::now();
        if threads == 1 {
            work();
        } else {
            rayon::broadcast(|_| work());
        }
        start.elapsed().as_secs_f64()
    });
    threads as f64 / times.fold(f64::INFINITY, f64::min)
}

/// Floating-point operations per second.
fn multiply_adds(instructions: Instructions, threads: usize) -> f64 {
    let (lanes, run): (usize, fn()) = match instructions {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set is available.
        Instructions::Avx512 => (16, || unsafe { x86::avx512() }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Instructions::Avx2 => (8, || unsafe { x86::avx2() }),
        #[cfg(target_arch = "aarch64")]
        Instructions::Neon => (4, neon),
        // Four lanes, which every 64-bit machine has; a multiplication and an addition.
        _ => (4, portable),
    };
    per_second(threads, run) * (2 * STEPS * CHAINS * lanes) as f64
}

/// The register loop of a vector type: sums of products, of which the compiler can foresee none.
macro_rules! register_loop {
    ($splat:expr, |$factor:ident, $sum:ident, $term:ident| $multiply_add:expr) => {{
        let ($factor, $term) = ($splat(black_box(0.999f32)), $splat(black_box(0.001f32)));
        let mut sums = [$splat(1.); CHAINS];
        for _ in 0..STEPS {
            for $sum in &mut sums {
                *$sum = $multiply_add;
            }
        }
        black_box(sums);
    }};
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, STEPS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512() {
        register_loop!(_mm512_set1_ps, |factor, sum, term| _mm512_fmadd_ps(*sum, factor, term));
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2() {
        register_loop!(_mm256_set1_ps, |factor, sum, term| _mm256_fmadd_ps(*sum, factor, term));
    }
}

#[cfg(target_arch = "aarch64")]
fn neon() {
    use std::arch::aarch64::*;
    // SAFETY: every aarch64 machine that the standard library supports has NEON.
    let splat = |value| unsafe { vdupq_n_f32(value) };
    // SAFETY: as above.
    register_loop!(splat, |factor, sum, term| unsafe { vfmaq_f32(term, *sum, factor) });
}

fn portable() {
    let splat = |value: f32| [value; 4];
    register_loop!(splat, |factor, sum, term| std::array::from_fn(
        |lane| sum[lane] * factor[lane] + term[lane]
    ));
}

/// Bytes per second.
fn memory_reads(memory: &[u64], threads: usize) -> f64 {
    let sum = |part: &[u64]| part.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
    let all = || {
        if threads == 1 {
            black_box(sum(memory));
        } else {
            memory.par_chunks(memory.len().div_ceil(threads)).for_each(|part| {
                black_box(sum(part));
            });
        }
    };
    let times = (0..TRIES).map(|_| {
        let start = Instant::now();
        all();
        start.elapsed().as_secs_f64()
    });
    size_of_val(memory) as f64 / times.fold(f64::INFINITY, f64::min)
}
