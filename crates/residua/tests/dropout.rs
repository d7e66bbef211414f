//! Dropout in front of the classifier, and between the convolutions of units.

use burn::tensor::{Device, Tensor, TensorData};
use residua::data::Batch;
use residua::evaluate::to_host;
use residua::nn::{Block, Memory, NetworkError, NetworkOptions, Ordering, Pass, ResNet};
use residua::ops::Engine;
use residua::run::OptimiserOptions;
use residua::train::{Sgd, backward, step};

const BATCH: usize = 16;
const SIZE: usize = 8;
/// As many as there are classes.
const FEATURES: usize = 64;
const PROBABILITY: f64 = 0.3;

/// A network whose class scores are its features.
fn network() -> ResNet {
    let config = NetworkOptions::named("preresnet8").resolve(FEATURES).unwrap();
    let network = ResNet::init(&config, 5, &Device::flex().autodiff()).unwrap();
    let mut tensors = network.tensors();
    let weight = tensors.get_mut("classifier.weight").unwrap();
    weight.values =
        (0..FEATURES * FEATURES).map(|at| f32::from(u8::from(at / FEATURES == at % FEATURES))).collect();
    tensors.get_mut("classifier.bias").unwrap().values.fill(0.);
    network.with_tensors(&tensors).unwrap()
}

fn batch() -> Batch {
    let value = |index: usize| (index * 7919 % 1009) as f32 / 504.5 - 1.;
    let labels = (0..BATCH as u16).map(|index| index * 3 % FEATURES as u16).collect();
    let images = (0..BATCH * SIZE * SIZE * 3).map(value).collect();
    Batch::new(images, labels, SIZE, SIZE)
}

fn images(network: &ResNet) -> Tensor<4> {
    let data = TensorData::new(batch().images, [BATCH, SIZE, SIZE, 3]);
    Tensor::from_data(data, &network.device()).permute([0, 3, 1, 2])
}

fn logits(network: &ResNet, mut pass: Pass) -> Vec<f32> {
    to_host(network.forward(images(network), &mut pass).unwrap().inner())
}

fn pass(iteration: u64) -> Pass {
    Pass::train(5, iteration).with_dropout(PROBABILITY)
}

#[test]
fn features_are_zero_or_divided_by_the_probability_that_they_are_not() {
    let network = network();
    for engine in [Engine::Fused, Engine::Composed] {
        let (mut dropped, mut draws) = (0, 0);
        for iteration in 0..20 {
            let whole = logits(&network, Pass::train(5, iteration).with_engine(engine));
            let found = logits(&network, pass(iteration).with_engine(engine));
            // A mean of zeros, behind the ReLU, says nothing.
            for (found, whole) in found.iter().zip(&whole).filter(|(_, whole)| **whole > 0.) {
                let expected = f64::from(*whole) / (1. - PROBABILITY);
                let is_kept = (f64::from(*found) / expected - 1.).abs() < 1e-5;
                assert!(is_kept || *found == 0., "{found} of {whole}");
                dropped += u64::from(!is_kept);
                draws += 1;
            }
        }
        assert!(draws > 1000, "{draws}");
        let draws = f64::from(draws);
        let deviation = (draws * PROBABILITY * (1. - PROBABILITY)).sqrt();
        assert!((dropped as f64 - draws * PROBABILITY).abs() < 5. * deviation, "{dropped} of {draws}");
    }
    assert_ne!(logits(&network, pass(0)), logits(&network, pass(1)));
    assert_eq!(logits(&network, pass(0)), logits(&network, pass(0)));
}

/// The gradient of the classifier's weights is the sum over images of that of the scores times the features that it has read, which
/// here are the scores themselves.
#[test]
fn gradients_go_through_what_is_kept() {
    let network = network();
    let scores = logits(&network, pass(3));
    let learnt = backward(&network, &batch(), &mut pass(3)).unwrap();
    let gradients = network.gradients(&learnt.gradients);
    let mut expected = vec![0f64; FEATURES * FEATURES];
    for (scores, &label) in scores.chunks_exact(FEATURES).zip(&batch().labels) {
        let sum: f64 = scores.iter().map(|&score| f64::from(score).exp()).sum();
        for (class, row) in expected.chunks_exact_mut(FEATURES).enumerate() {
            let likelihood = f64::from(scores[class]).exp() / sum;
            let of_score = (likelihood - f64::from(u8::from(class == usize::from(label)))) / BATCH as f64;
            row.iter_mut().zip(scores).for_each(|(sum, &score)| *sum += of_score * f64::from(score));
        }
    }
    let found = &gradients["classifier.weight"].values;
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5 * largest, "{found}, not {expected}");
    }
}

#[test]
fn evaluation_and_a_frozen_classifier_drop_nothing() {
    let network = network();
    let evaluate = || Pass::evaluate().with_dropout(PROBABILITY);
    assert_eq!(logits(&network, evaluate()), logits(&network, Pass::evaluate()));
    let train = || Pass::train(5, 0);
    assert_eq!(logits(&network, train().with_dropout(0.)), logits(&network, train()));
    let frozen = network.freeze(&["classifier".parse().unwrap()].into_iter().collect()).unwrap();
    assert_eq!(logits(&frozen, pass(0)), logits(&frozen, train()));
}

/// Where a unit's last convolution copies what it reads, the branch is what has been dropped from.
#[test]
fn values_in_front_of_a_units_last_convolution_are_zero_or_divided_by_the_probability_that_they_are_not() {
    for (model, block, last) in
        [("preresnet8", Block::Basic, "conv2"), ("preresnet11", Block::Bottleneck, "conv3")]
    {
        let options = NetworkOptions { block: Some(block), ..NetworkOptions::named(model) };
        let network = ResNet::init(&options.resolve(10).unwrap(), 5, &Device::flex().autodiff()).unwrap();
        let mut tensors = network.tensors();
        let weight = tensors.get_mut(&format!("stages.0.0.{last}.weight")).unwrap();
        let [outputs, inputs, size] = [weight.shape[0], weight.shape[1], weight.shape[2]];
        weight.values.fill(0.);
        for channel in 0..inputs.min(outputs) {
            weight.values[((channel * inputs + channel) * size + size / 2) * size + size / 2] = 1.;
        }
        let network = network.with_tensors(&tensors).unwrap();
        for engine in [Engine::Fused, Engine::Composed] {
            let branch = |pass: Pass| {
                let mut pass = pass.with_engine(engine).with_traces();
                network.forward(images(&network), &mut pass).unwrap();
                let residual = pass.traces()[0].residual.clone().narrow(3, 0, inputs.min(outputs));
                to_host(residual.inner())
            };
            let (mut dropped, mut draws) = (0, 0);
            for iteration in 0..4 {
                let pass = || Pass::train(5, iteration);
                let (whole, found) = (branch(pass()), branch(pass().with_unit_dropout(PROBABILITY)));
                // Convolutions round.
                let rounding = 1e-5 * whole.iter().fold(0f32, |largest, value| largest.max(*value));
                for (found, whole) in found.iter().zip(&whole).filter(|(_, whole)| **whole > 100. * rounding)
                {
                    let expected = whole / (1. - PROBABILITY) as f32;
                    let is_kept = (found - expected).abs() < rounding;
                    assert!(is_kept || found.abs() < rounding, "{model}: {found} of {whole}");
                    dropped += u64::from(!is_kept);
                    draws += 1;
                }
            }
            assert!(draws > 10_000, "{draws}");
            let draws = f64::from(draws);
            let deviation = (draws * PROBABILITY * (1. - PROBABILITY)).sqrt();
            assert!((dropped as f64 - draws * PROBABILITY).abs() < 5. * deviation, "{dropped} of {draws}");
        }
    }
}

#[test]
fn gradients_through_dropped_values_are_those_of_composed_operations() {
    for ordering in Ordering::ALL {
        let options = NetworkOptions { ordering: Some(*ordering), ..NetworkOptions::named("wrn-10-2") };
        let network =
            ResNet::init(&options.resolve(FEATURES).unwrap(), 5, &Device::flex().autodiff()).unwrap();
        let gradients = |engine| {
            let mut pass = Pass::train(5, 3).with_unit_dropout(PROBABILITY).with_engine(engine);
            network.gradients(&backward(&network, &batch(), &mut pass).unwrap().gradients)
        };
        let (fused, composed) = (gradients(Engine::Fused), gradients(Engine::Composed));
        assert_eq!(fused.len(), composed.len());
        for (name, composed) in composed {
            let largest = composed.values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            for (fused, composed) in fused[&name].values.iter().zip(&composed.values) {
                assert!(
                    (fused - composed).abs() <= 1e-3 * largest,
                    "{ordering}, {name}: {fused}, not {composed}"
                );
            }
        }
    }
}

#[test]
fn evaluation_drops_no_values_and_units_of_one_convolution_refuse() {
    let network = network();
    let dropping = |pass: Pass| pass.with_unit_dropout(PROBABILITY);
    assert_eq!(logits(&network, dropping(Pass::evaluate())), logits(&network, Pass::evaluate()));
    assert_eq!(
        logits(&network, Pass::train(5, 0).with_unit_dropout(0.)),
        logits(&network, Pass::train(5, 0))
    );
    assert_ne!(logits(&network, dropping(Pass::train(5, 0))), logits(&network, Pass::train(5, 0)));
    assert_ne!(logits(&network, dropping(Pass::train(5, 0))), logits(&network, dropping(Pass::train(5, 1))));
    let options = NetworkOptions { block: Some(Block::Single), ..NetworkOptions::named("preresnet8") };
    let network = ResNet::init(&options.resolve(FEATURES).unwrap(), 5, &Device::flex().autodiff()).unwrap();
    let refused = network.forward(images(&network), &mut dropping(Pass::train(5, 0)));
    assert!(matches!(refused, Err(NetworkError::UnitDropout)));
}

/// Passes over the parts of a batch, as accumulated gradients take them, drop what one over all of it drops; branches too.
#[test]
fn parts_of_a_batch_are_dropped_as_the_whole() {
    let options = NetworkOptions { bn_group: Some(BATCH / 2), ..NetworkOptions::named("preresnet14") };
    let network = ResNet::init(&options.resolve(FEATURES).unwrap(), 5, &Device::flex().autodiff()).unwrap();
    let images = images(&network);
    let pass = |iteration| pass(iteration).with_stochastic_depth(0.5).with_unit_dropout(PROBABILITY);
    for iteration in 0..4 {
        let whole = logits(&network, pass(iteration));
        let halves = [0, BATCH / 2].map(|first| {
            let half = images.clone().narrow(0, first, BATCH / 2);
            to_host(network.forward(half, &mut pass(iteration).behind(first)).unwrap().inner())
        });
        let largest = whole.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        for (half, whole) in halves.concat().iter().zip(&whole) {
            assert!((half - whole).abs() < 1e-5 * largest, "{half}, not {whole}");
        }
    }
}

#[test]
fn it_trains_the_same_in_every_mode_of_memory_and_by_any_number_of_threads() {
    let trained = |threads: usize, memory: Memory| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut network, mut sgd) = (network(), Sgd::new(&OptimiserOptions::default()));
            for iteration in 0..3 {
                let pass = pass(iteration).with_stochastic_depth(0.5).with_unit_dropout(PROBABILITY);
                let pass = pass.with_memory(memory);
                (network, _) = step(network, &mut sgd, &batch(), pass, 0.05).unwrap();
            }
            let tensors = network.tensors();
            tensors
                .values()
                .flat_map(|tensor| tensor.values.iter().map(|value| value.to_bits()))
                .collect::<Vec<_>>()
        })
    };
    let expected = trained(1, Memory::Fast);
    for (threads, memory) in [(2, Memory::Fast), (3, Memory::Balanced), (2, Memory::Lean)] {
        assert!(trained(threads, memory) == expected, "{threads} threads, {memory}");
    }
}
