//! Helpers change nothing in results, whoever leads them and whether they slept. Small enough for Miri.

mod reference;

use std::thread;
use std::time::Duration;

use reference::random;
use residua_kernels::{Activation, Algorithm, Epilogue, Helpers, Input, Instructions, MapShape, Packing};

/// A convolution divided in three, and what it should be.
struct Work {
    shape: MapShape,
    x: Vec<f32>,
    packing: Packing,
    packed: Vec<f32>,
    epilogue: Epilogue,
    expected: Vec<f32>,
}

impl Work {
    fn new() -> Self {
        let shape = MapShape { batch: 1, height: 3, width: 2, channels: 5 };
        let packing = Packing::new(5, 3, 1, 1, Algorithm::Direct, Instructions::Portable);
        let mut packed = vec![f32::NAN; packing.packed_len()];
        packing.pack(&random(3 * 5, 2), &mut packed);
        let epilogue = Epilogue::new(&[1.; 3], &[0.25; 3], 1., Activation::None);
        let mut work =
            Self { shape, x: random(shape.len(), 1), packing, packed, epilogue, expected: Vec::new() };
        work.expected = work.result(1);
        work
    }

    fn result(&self, parts: usize) -> Vec<f32> {
        let Self { shape, x, packing, packed, epilogue, .. } = self;
        let mut y = vec![f32::NAN; packing.output(*shape).len()];
        let input = Input { values: x.into(), norm: None, is_activated: false };
        packing.with_weights(packed).forward(*shape, input, epilogue, None, &mut y, parts);
        y
    }
}

#[test]
fn they_join_in_again_after_they_slept() {
    let work = Work::new();
    let helpers = Helpers::start(2).unwrap();
    for _ in 0..3 {
        for _ in 0..3 {
            assert!(helpers.lead(|| work.result(3)) == work.expected);
        }
        thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn several_may_want_to_lead() {
    let work = Work::new();
    let helpers = Helpers::start(1).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..4 {
                    assert!(helpers.lead(|| work.result(3)) == work.expected);
                }
            });
        }
    });
}

#[test]
fn a_leader_who_panics_leaves_them_to_others() {
    let work = Work::new();
    let helpers = Helpers::start(1).unwrap();
    let panics = thread::scope(|scope| scope.spawn(|| helpers.lead(|| panic!("on purpose"))).join());
    assert!(panics.is_err());
    assert!(helpers.lead(|| work.result(2)) == work.expected);
}
