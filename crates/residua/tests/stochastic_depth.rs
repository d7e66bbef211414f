//! Stochastic depth: units whose branches are dropped in training, against networks in which the same branches are zero.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use residua::data::Batch;
use residua::evaluate::to_host;
use residua::nn::{
    Block, Memory, NamedTensors, NetworkError, NetworkOptions, Ordering, Pass, Precision, ResNet,
    ResNetConfig, Trunk,
};
use residua::ops::Engine;
use residua::run::OptimiserOptions;
use residua::train::{Sgd, backward, cross_entropy, step};

const BATCH: usize = 4;
const SIZE: usize = 8;
const PROBABILITY: f64 = 0.7;

fn config(model: &str, refine: impl FnOnce(&mut NetworkOptions)) -> ResNetConfig {
    let mut options = NetworkOptions::named(model);
    refine(&mut options);
    options.resolve(10).unwrap()
}

/// Every ordering with every block and dimension change, and a wide network.
fn networks() -> Vec<(String, ResNetConfig)> {
    let mut networks = vec![("wrn-16-2".to_owned(), config("wrn-16-2", |_| {}))];
    for &ordering in Ordering::ALL {
        for dimensions in ["a", "b"] {
            for (block, model) in
                [(Block::Single, "resnet14"), (Block::Basic, "resnet20"), (Block::Bottleneck, "resnet29")]
            {
                let config = config(model, |options| {
                    options.ordering = Some(ordering);
                    options.block = Some(block);
                    options.dimensions = Some(dimensions.parse().unwrap());
                });
                networks.push((format!("{ordering}, {block}, dimensions {dimensions}"), config));
            }
        }
    }
    networks
}

fn batch(size: usize) -> Batch {
    let value = |index: usize| (index * 7919 % 1009) as f32 / 504.5 - 1.;
    let labels = (0..BATCH as u16).map(|index| index * 3 % 10).collect();
    let images = (0..BATCH * size * size * 3).map(value).collect();
    Batch::new(images, labels, size, size)
}

fn network(config: &ResNetConfig) -> ResNet {
    ResNet::init(config, 5, &Device::flex().autodiff()).unwrap()
}

fn pass(iteration: u64) -> Pass {
    Pass::train(5, iteration).with_stochastic_depth(PROBABILITY)
}

/// Weights, running statistics and momentum after a few steps, and the losses.
fn trained(
    config: &ResNetConfig,
    size: usize,
    steps: u64,
    pass: impl Fn(u64) -> Pass,
) -> (NamedTensors, NamedTensors, Vec<f64>) {
    let (mut network, mut sgd) = (network(config), Sgd::new(&OptimiserOptions::default()));
    let mut losses = Vec::new();
    for iteration in 0..steps {
        let outcome;
        (network, outcome) = step(network, &mut sgd, &batch(size), pass(iteration), 0.05).unwrap();
        losses.push(outcome.loss);
    }
    let momentum = sgd.tensors(&network);
    (network.tensors(), momentum, losses)
}

fn bits(tensors: &NamedTensors) -> Vec<(String, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    tensors.iter().map(|(name, tensor)| (name.clone(), bits(&tensor.values))).collect()
}

/// Units of a network by the beginnings of their tensors' names.
fn units(network: &ResNet) -> Vec<String> {
    let stages = network.stages.iter().enumerate();
    stages
        .flat_map(|(stage, units)| (0..units.len()).map(move |unit| format!("stages.{stage}.{unit}.")))
        .collect()
}

/// The units whose branch has no gradient.
fn dropped(network: &ResNet, gradients: &NamedTensors) -> BTreeSet<String> {
    let has_branch = |unit: &String| gradients.contains_key(&format!("{unit}conv1.weight"));
    units(network).into_iter().filter(|unit| !has_branch(unit)).collect()
}

/// Loss and gradients of the network as it is in this pass.
fn gradients(network: &ResNet, pass: &mut Pass) -> (f64, NamedTensors) {
    let learnt = backward(network, &batch(SIZE), pass).unwrap();
    let gradients = network.gradients(&learnt.gradients);
    (learnt.outcome().loss, gradients)
}

#[track_caller]
fn assert_close(what: &str, actual: &[f32], expected: &[f32], least: f64) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let size = norm(&mut expected.iter().map(|&value| f64::from(value))).max(least);
    assert!(difference <= 1e-3 * size, "{what}: {difference:.1e} of {size:.1e}");
}

/// What ends the branch of a unit: the last convolution's weights, or gamma and beta of the normalisation behind it.
fn ends(config: &ResNetConfig, unit: &str) -> Vec<String> {
    let last = config.block.convolutions();
    match config.ordering {
        Ordering::FullPreActivation | Ordering::BnAfterAddition => vec![format!("{unit}conv{last}.weight")],
        Ordering::Original | Ordering::ReluBeforeAddition | Ordering::ReluOnlyPreActivation => {
            ["weight", "bias"].map(|of| format!("{unit}norm{last}.{of}")).to_vec()
        }
    }
}

/// The same loss and gradients as of a network without stochastic depth, where what ends a branch is zero if that is dropped, and
/// else divided by its probability of being there. This knows nothing of how branches are left out.
#[test]
fn a_step_is_that_of_the_network_with_the_branches_zeroed_and_divided() {
    for (name, config) in networks() {
        for engine in [Engine::Fused, Engine::Composed] {
            let network = network(&config);
            let (loss, found) = gradients(&network, &mut pass(3).with_engine(engine));
            let names = units(&network);
            let dropped = dropped(&network, &found);
            assert!(!dropped.is_empty() && dropped.len() < names.len(), "{name}: {dropped:?}");

            let mut tensors = network.tensors();
            let mut factors = std::collections::BTreeMap::new();
            for (index, unit) in names.iter().enumerate() {
                let survival = 1. - (index + 1) as f64 / names.len() as f64 * PROBABILITY;
                let factor = if dropped.contains(unit) { 0. } else { 1. / survival };
                for end in ends(&config, unit) {
                    let tensor = tensors.get_mut(&end).unwrap_or_else(|| panic!("{name}: no {end}"));
                    tensor.values.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
                    factors.insert(end, factor);
                }
            }
            let other = network.with_tensors(&tensors).unwrap();
            let (expected_loss, expected) = gradients(&other, &mut Pass::train(5, 3).with_engine(engine));
            assert!(
                (loss / expected_loss - 1.).abs() < 1e-4,
                "{name}, {engine}: {loss}, not {expected_loss}"
            );
            let largest = expected
                .values()
                .map(|tensor| tensor.values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt())
                .fold(0., f64::max);
            for (tensor, gradient) in &found {
                let factor = factors.get(tensor).copied().unwrap_or(1.);
                let expected: Vec<f32> =
                    expected[tensor].values.iter().map(|&value| (f64::from(value) * factor) as f32).collect();
                assert_close(
                    &format!("{name}, {engine}: {tensor}"),
                    &gradient.values,
                    &expected,
                    largest / 10.,
                );
            }
        }
    }
}

/// How often branches are there: each within five standard deviations of `1 - l / L * P`.
#[test]
fn later_units_are_dropped_more_often() {
    let config = config("preresnet14", |_| {});
    let network = network(&config);
    let names = units(&network);
    let passes = 400;
    let mut kept = vec![0; names.len()];
    for iteration in 0..passes {
        let (_, found) = gradients(&network, &mut pass(iteration));
        let dropped = dropped(&network, &found);
        for (count, unit) in kept.iter_mut().zip(&names) {
            *count += u64::from(!dropped.contains(unit));
        }
    }
    for (index, &count) in kept.iter().enumerate() {
        let probability = 1. - (index + 1) as f64 / names.len() as f64 * PROBABILITY;
        let deviation = (passes as f64 * probability * (1. - probability)).sqrt();
        let off = count as f64 - passes as f64 * probability;
        assert!(off.abs() < 5. * deviation, "unit {index}: {count} of {passes}, not {probability}");
    }
}

/// Neither weights nor momentum, nor running statistics: as PyTorch leaves parameters without gradient alone.
#[test]
fn what_is_dropped_stays_as_it_is() {
    let config = config("preresnet20", |options| options.dimensions = Some("b".parse().unwrap()));
    let (mut network, mut sgd) = (network(&config), Sgd::new(&OptimiserOptions::default()));
    let mut seen = 0;
    for iteration in 0..6 {
        let (_, found) = gradients(&network, &mut pass(iteration));
        let dropped = dropped(&network, &found);
        let before = (network.tensors(), sgd.tensors(&network));
        (network, _) = step(network, &mut sgd, &batch(SIZE), pass(iteration), 0.05).unwrap();
        let after = (network.tensors(), sgd.tensors(&network));
        for (name, tensor) in &after.0 {
            // The first unit of a stage activates its input for both paths.
            let is_shared = name.contains(".0.norm1.") || name.contains(".shortcut.");
            let is_of_branch = name.starts_with("stages.") && !is_shared;
            let is_dropped = dropped.iter().any(|unit| name.starts_with(unit.as_str())) && is_of_branch;
            assert_eq!(*tensor == before.0[name], is_dropped, "{name} in step {iteration}");
            assert!(!is_dropped || after.1.get(name) == before.1.get(name), "momentum of {name}");
            seen += usize::from(is_dropped);
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn it_trains_the_same_in_every_mode_of_memory() {
    let mut cases = networks();
    cases.push(("preresnet110".to_owned(), config("preresnet110", |_| {})));
    cases.push(("groups".to_owned(), config("preresnet32", |options| options.bn_group = Some(2))));
    for ordering in ["preact", "original", "bn-after-add", "relu-preact"] {
        let trunk = config("resnet20", |options| {
            options.ordering = Some(ordering.parse().unwrap());
            options.trunk = Some(Trunk::Bf16);
        });
        cases.push((format!("{ordering}, trunk bf16"), trunk));
    }
    for (name, config) in cases {
        let expected = trained(&config, SIZE, 3, pass);
        assert!(expected.2.iter().all(|loss| loss.is_finite()), "{name}");
        for memory in [Memory::Balanced, Memory::Lean] {
            let other = trained(&config, SIZE, 3, |iteration| pass(iteration).with_memory(memory));
            assert_eq!(expected.2, other.2, "{name}, {memory}");
            assert!(bits(&expected.0) == bits(&other.0), "{name}, {memory}: weights");
            assert!(bits(&expected.1) == bits(&other.1), "{name}, {memory}: momentum");
        }
    }
}

#[test]
fn it_trains_the_same_by_any_number_of_threads() {
    for (name, config) in networks().into_iter().step_by(3) {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (weights, momentum, losses) = pool.install(|| trained(&config, SIZE, 2, pass));
            (bits(&weights), bits(&momentum), losses)
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(one == run(threads), "{name} with {threads} threads");
        }
    }
}

/// With almost every branch dropped, a segment of `lean` may be nothing but the identity.
#[test]
fn networks_of_next_to_no_units_train() {
    let config = config("preresnet110", |_| {});
    let pass = |iteration| Pass::train(5, iteration).with_stochastic_depth(0.999_999);
    let expected = trained(&config, SIZE, 3, pass);
    let lean = trained(&config, SIZE, 3, |iteration| pass(iteration).with_memory(Memory::Lean));
    assert!(bits(&expected.0) == bits(&lean.0) && expected.2 == lean.2);
    let imagenet = config_of_imagenet();
    let expected = trained(&imagenet, 64, 2, pass);
    let lean = trained(&imagenet, 64, 2, |iteration| pass(iteration).with_memory(Memory::Lean));
    assert!(bits(&expected.0) == bits(&lean.0) && expected.2 == lean.2);
}

fn config_of_imagenet() -> ResNetConfig {
    config("preresnet18", |_| {})
}

#[test]
fn products_of_bfloat16_train_with_it() {
    if let Err(reason) = Precision::Bf16.check() {
        return eprintln!("skipped: {reason}");
    }
    let config = config("wrn-16-2", |options| options.precision = Some(Precision::Bf16));
    let expected = trained(&config, SIZE, 3, pass);
    let lean = trained(&config, SIZE, 3, |iteration| pass(iteration).with_memory(Memory::Lean));
    assert!(bits(&expected.0) == bits(&lean.0) && expected.2 == lean.2);
}

/// Frozen parts are taken in their evaluation form, and evaluation knows no stochastic depth.
#[test]
fn evaluation_and_frozen_parts_are_whole() {
    let config = config("preresnet20", |_| {});
    let network = network(&config);
    let images = Tensor::<4>::from_data(
        TensorData::new(vec![0.5f32; 2 * 3 * SIZE * SIZE], [2, 3, SIZE, SIZE]),
        &network.device(),
    );
    let logits = |network: &ResNet, mut pass: Pass| {
        to_host(network.forward(images.clone(), &mut pass).unwrap().inner())
    };
    let evaluate = || Pass::evaluate().with_stochastic_depth(PROBABILITY);
    assert_eq!(logits(&network, evaluate()), logits(&network, Pass::evaluate()));
    let parts = ["stem", "stage1", "stage2", "stage3"].iter().map(|part| part.parse().unwrap()).collect();
    let frozen = network.clone().freeze(&parts).unwrap();
    assert_eq!(logits(&frozen, pass(0)), logits(&frozen, Pass::train(5, 0)));
    assert_ne!(logits(&network, pass(0)), logits(&network, Pass::train(5, 0)));
    // Nothing is dropped with probability zero, to the bit.
    assert_eq!(
        logits(&network, Pass::train(5, 0).with_stochastic_depth(0.)),
        logits(&network, Pass::train(5, 0))
    );
}

#[test]
fn weighted_shortcuts_are_refused() {
    for shortcut in ["scale:0.5,1", "exclusive-gate:-1", "dropout:0.5"] {
        let config = config("resnet8", |options| options.shortcut = Some(shortcut.parse().unwrap()));
        let error = backward(&network(&config), &batch(SIZE), &mut pass(0)).err().unwrap();
        assert!(matches!(error, NetworkError::StochasticDepth { .. }), "{shortcut}: {error}");
    }
    let config = config("resnet8", |options| options.shortcut = Some("conv1x1".parse().unwrap()));
    let mut pass = pass(0);
    let images = Tensor::<4>::zeros([2, 3, SIZE, SIZE], &Device::flex().autodiff());
    let logits = network(&config).forward(images, &mut pass).unwrap();
    assert!(to_host(cross_entropy(logits, &[1, 2]).inner())[0].is_finite());
}
