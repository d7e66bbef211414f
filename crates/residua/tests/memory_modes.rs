//! What a step keeps for its backward pass changes nothing in what it computes.

use burn::tensor::{Device, Tensor, TensorData};
use residua::data::Batch;
use residua::nn::{
    Block, Memory, MemoryPlan, NamedTensors, NetworkOptions, Ordering, Pass, Precision, ResNet, ResNetConfig,
    Trunk,
};
use residua::ops::Engine;
use residua::run::OptimiserOptions;
use residua::train::{Sgd, StepOutcome, step};

const BATCH: usize = 4;
const SIZE: usize = 8;
const STEPS: u64 = 3;

fn batch(classes: u16, size: usize) -> Batch {
    let value = |index: usize| (index * 7919 % 1009) as f32 / 504.5 - 1.;
    let labels = (0..BATCH as u16).map(|index| index * 3 % classes).collect();
    let images = (0..BATCH * size * size * 3).map(value).collect();
    Batch::new(images, labels, size, size)
}

/// Weights, running statistics, momentum and outcomes after a few steps.
fn trained(
    config: &ResNetConfig,
    size: usize,
    pass: impl Fn(u64) -> Pass,
) -> (NamedTensors, NamedTensors, Vec<StepOutcome>) {
    let mut network = ResNet::init(config, 5, &Device::flex().autodiff()).unwrap();
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    let batch = batch(config.classes as u16, size);
    let mut outcomes = Vec::new();
    for iteration in 0..STEPS {
        let outcome;
        (network, outcome) = step(network, &mut sgd, &batch, pass(iteration), 0.05).unwrap();
        outcomes.push(outcome);
    }
    (network.tensors(), sgd.tensors(&network), outcomes)
}

#[track_caller]
fn assert_same(name: &str, expected: &NamedTensors, actual: &NamedTensors) {
    let bits = |tensors: &NamedTensors| -> Vec<(String, Vec<u32>)> {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        tensors.iter().map(|(name, tensor)| (name.clone(), bits(&tensor.values))).collect()
    };
    for ((tensor, expected), (other, actual)) in bits(expected).iter().zip(&bits(actual)) {
        assert_eq!(tensor, other, "{name}");
        assert!(expected == actual, "{name}: {tensor} differs");
    }
    assert_eq!(expected.len(), actual.len(), "{name}");
}

#[track_caller]
fn assert_modes_agree(name: &str, config: &ResNetConfig, size: usize, pass: impl Fn(u64) -> Pass) {
    let (weights, momentum, outcomes) = trained(config, size, &pass);
    assert!(outcomes[STEPS as usize - 1].loss.is_finite(), "{name}");
    for memory in [Memory::Balanced, Memory::Lean] {
        let name = format!("{name}, {memory}");
        let other = trained(config, size, |iteration| pass(iteration).with_memory(memory));
        assert_eq!(outcomes, other.2, "{name}");
        assert_same(&name, &weights, &other.0);
        assert_same(&name, &momentum, &other.1);
    }
}

fn config(model: &str, refine: impl Fn(&mut NetworkOptions)) -> ResNetConfig {
    let mut options = NetworkOptions::named(model);
    refine(&mut options);
    options.resolve(10).unwrap()
}

#[test]
fn all_orderings_and_shortcuts_train_the_same_in_every_mode() {
    let mut segments = 0;
    let shortcuts =
        ["identity", "scale:0.5,0.5", "exclusive-gate:-1", "shortcut-gate:-1", "conv1x1", "dropout:0.5"];
    for &ordering in Ordering::ALL {
        for shortcut in shortcuts {
            for dimensions in ["a", "b"] {
                let config = config("resnet20", |options| {
                    options.ordering = Some(ordering);
                    options.shortcut = Some(shortcut.parse().unwrap());
                    options.dimensions = Some(dimensions.parse().unwrap());
                });
                let plan = MemoryPlan::of(&config, BATCH, SIZE, SIZE, Memory::Lean).unwrap();
                segments += usize::from(plan.segment.unwrap() < 9);
                let name = format!("{ordering}, {shortcut}, dimensions {dimensions}");
                assert_modes_agree(&name, &config, SIZE, |iteration| Pass::train(5, iteration));
            }
        }
    }
    assert_eq!(segments, 2 * shortcuts.len() * Ordering::ALL.len(), "every network is cut into segments");
}

#[test]
fn other_blocks_engines_and_layouts_train_the_same_in_every_mode() {
    let train = |iteration| Pass::train(5, iteration);
    let bottleneck = config("preresnet56", |options| {
        options.block = Some("bottleneck".parse().unwrap());
        options.bn_group = Some(2);
    });
    assert_modes_agree("bottleneck, groups of 2", &bottleneck, SIZE, train);
    let single = config("preresnet20", |options| options.block = Some("single".parse().unwrap()));
    assert_modes_agree("single", &single, SIZE, train);
    let gated = config("resnet20", |options| options.shortcut = Some("exclusive-gate:0".parse().unwrap()));
    assert_modes_agree("composed", &gated, SIZE, |iteration| train(iteration).with_engine(Engine::Composed));
    assert_modes_agree("imagenet", &config("preresnet18", |_| {}), 32, train);
    assert_modes_agree("wide", &config("wrn-28-2", |_| {}), SIZE, train);
}

#[test]
fn a_trunk_of_bfloat16_trains_the_same_in_every_mode() {
    for (model, ordering) in [
        ("preresnet20", "preact"),
        ("preresnet56", "preact"),
        ("resnet20", "original"),
        ("resnet20", "bn-after-add"),
        ("resnet20", "relu-preact"),
    ] {
        for dimensions in ["a", "b"] {
            let config = config(model, |options| {
                options.ordering = Some(ordering.parse().unwrap());
                options.dimensions = Some(dimensions.parse().unwrap());
                options.block = (model == "preresnet56").then_some(Block::Bottleneck);
                options.trunk = Some(Trunk::Bf16);
            });
            let name = format!("{model}, {ordering}, dimensions {dimensions}, bf16");
            assert_modes_agree(&name, &config, SIZE, |iteration| Pass::train(5, iteration));
        }
    }
}

#[test]
fn products_of_bfloat16_train_the_same_in_every_mode() {
    if let Err(reason) = Precision::Bf16.check() {
        return eprintln!("skipped: {reason}");
    }
    for (model, block) in [("preresnet20", Block::Basic), ("preresnet56", Block::Bottleneck)] {
        let config = config(model, |options| {
            options.block = Some(block);
            options.precision = Some(Precision::Bf16);
        });
        assert_modes_agree(model, &config, SIZE, |iteration| Pass::train(5, iteration));
        assert_modes_agree(model, &config, SIZE, |iteration| {
            Pass::train(5, iteration).with_unit_dropout(0.3)
        });
    }
}

/// Masks that are given serve a segment both times that it is passed.
#[test]
fn given_dropout_masks_train_the_same_in_every_mode() {
    let config = config("resnet20", |options| options.shortcut = Some("dropout:0.5".parse().unwrap()));
    let device = Device::flex().autodiff();
    let mask = |unit: usize| {
        let (channels, size) = (16 << (unit / 3), SIZE >> (unit / 3));
        let shape = [BATCH, size, size, channels];
        let values = (0..shape.iter().product::<usize>()).map(|index| (index * (unit + 3) / 5 % 2) as f32);
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &device)
    };
    let pass = |iteration| Pass::train(5, iteration).with_masks((0..9).map(mask).collect());
    assert_modes_agree("given masks", &config, SIZE, pass);
    let (given, ..) = trained(&config, SIZE, pass);
    let (drawn, ..) = trained(&config, SIZE, |iteration| Pass::train(5, iteration));
    assert!(given != drawn, "the masks are used");
}
