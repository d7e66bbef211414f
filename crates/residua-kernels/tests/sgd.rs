//! SGD against its formula, operation by operation in f32: the same bits.

mod reference;

use proptest::prelude::*;
use reference::{bits, random, with_threads};
use residua_kernels::{Instructions, Sgd, TrainedTensor};

fn expected(sgd: &Sgd, tensor: &mut TrainedTensor) {
    let [rate, momentum, decay] = [sgd.learning_rate, sgd.momentum, sgd.weight_decay].map(|x| x as f32);
    for at in 0..tensor.weight.len() {
        let mut direction = tensor.gradient[at];
        if tensor.decays && decay != 0. {
            direction += tensor.weight[at] * decay;
        }
        if momentum != 0. {
            let before = tensor.momentum[at];
            let velocity = if tensor.is_first { direction } else { before * momentum + direction };
            tensor.momentum[at] = velocity;
            direction = if sgd.is_nesterov { direction + velocity * momentum } else { velocity };
        }
        tensor.weight[at] -= direction * rate;
    }
}

/// Weight, gradient, momentum.
type Values = [Vec<f32>; 3];

fn tensors(values: &mut [Values], is_first: bool) -> Vec<TrainedTensor<'_>> {
    values
        .iter_mut()
        .enumerate()
        .map(|(index, [weight, gradient, momentum])| TrainedTensor {
            weight,
            gradient,
            momentum,
            is_first,
            decays: index % 2 == 0,
        })
        .collect()
}

fn values(lengths: &[usize], seed: u64) -> Vec<Values> {
    let values = |(index, &length): (usize, &usize)| {
        [0, 1, 2].map(|which| random(length, seed + 3 * index as u64 + which))
    };
    lengths.iter().enumerate().map(values).collect()
}

fn all_bits(values: &[Values]) -> Vec<u32> {
    values.iter().flatten().flat_map(|values| bits(values)).collect()
}

proptest! {
    #[test]
    fn it_computes_the_formula(
        lengths in prop::collection::vec(prop_oneof![1usize..70, 16_380usize..33_000], 0..5),
        flags in any::<[bool; 4]>(),
        seed in any::<u32>(),
    ) {
        let sgd = Sgd {
            learning_rate: 0.1,
            momentum: if flags[0] { 0.9 } else { 0. },
            weight_decay: if flags[1] { 1e-4 } else { 0. },
            is_nesterov: flags[2],
        };
        let start = values(&lengths, seed.into());
        let mut by_formula = start.clone();
        tensors(&mut by_formula, flags[3]).iter_mut().for_each(|tensor| expected(&sgd, tensor));
        for instructions in Instructions::available() {
            let mut found = start.clone();
            sgd.step(&mut tensors(&mut found, flags[3]), instructions);
            prop_assert_eq!(all_bits(&found), all_bits(&by_formula));
        }
    }
}

/// What the buffer held before the first step does not matter, nor do weights that do not decay.
#[test]
fn the_first_step_reads_no_momentum() {
    let sgd = Sgd { learning_rate: 0.5, momentum: 0.9, weight_decay: 0.1, is_nesterov: false };
    for instructions in Instructions::available() {
        let (mut weight, mut momentum) = ([1f32, f32::INFINITY], [f32::NAN; 2]);
        let tensor = TrainedTensor {
            weight: &mut weight,
            gradient: &[2., 3.],
            momentum: &mut momentum,
            is_first: true,
            decays: false,
        };
        sgd.step(&mut [tensor], instructions);
        assert_eq!((weight, momentum), ([0., f32::INFINITY], [2., 3.]));
    }
}

#[test]
#[should_panic(expected = "momentum buffer")]
fn a_momentum_buffer_is_as_long_as_its_tensor() {
    let sgd = Sgd { learning_rate: 0.5, momentum: 0.9, weight_decay: 0., is_nesterov: false };
    let (mut weight, mut momentum) = ([0.; 2], [0.; 1]);
    let tensor = TrainedTensor {
        weight: &mut weight,
        gradient: &[0.; 2],
        momentum: &mut momentum,
        is_first: false,
        decays: true,
    };
    sgd.step(&mut [tensor], Instructions::Portable);
}

#[test]
fn any_number_of_threads_computes_the_same() {
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4, is_nesterov: true };
    let results = with_threads(|| {
        let mut values = values(&[5, 40_000, 16, 100_003], 4);
        sgd.step(&mut tensors(&mut values, false), Instructions::current());
        all_bits(&values)
    });
    assert!(results.iter().all(|result| *result == results[0]));
}
