//! Training in bfloat16: a trunk of it, where what is stored between units is rounded, and products of it; nothing else.

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use residua::evaluate::to_host;
use residua::nn::{
    Block, Memory, MemoryPlan, NamedVisitor, NetworkOptions, Ordering, Pass, Precision, ResNet, ResNetConfig,
    Trunk,
};
use residua::ops::Engine;
use residua::train::cross_entropy;

const BATCH: usize = 6;
const SIZE: usize = 16;

fn config(model: &str, ordering: Ordering, block: Block, trunk: Trunk) -> ResNetConfig {
    let options = NetworkOptions {
        ordering: Some(ordering),
        block: Some(block),
        trunk: Some(trunk),
        ..NetworkOptions::named(model)
    };
    options.resolve(10).unwrap()
}

fn images(device: &Device) -> Tensor<4> {
    let values = (0..BATCH * 3 * SIZE * SIZE).map(|index| (index * 7919 % 1009) as f32 / 504.5 - 1.);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), [BATCH, 3, SIZE, SIZE]), device)
}

/// Logits and the gradients of all weights, one after the other.
fn learnt(config: &ResNetConfig, engine: Engine) -> (Vec<f32>, Vec<f32>) {
    let device = Device::flex().autodiff();
    let network = ResNet::init(config, 3, &device).unwrap();
    let logits = network.forward(images(&device), &mut Pass::train(0, 0).with_engine(engine)).unwrap();
    let gradients = cross_entropy(logits.clone(), &[0, 1, 2, 3, 4, 5]).backward();
    (to_host(logits.inner()), all(&network, &gradients))
}

fn all(network: &ResNet, gradients: &Gradients) -> Vec<f32> {
    struct Collect<'a>(&'a Gradients, Vec<f32>);
    impl NamedVisitor for Collect<'_> {
        fn visit<const D: usize>(&mut self, _: String, parameter: &Param<Tensor<D>>) {
            self.1.extend(parameter.val().grad(self.0).map(to_host).unwrap_or_default());
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    network.visit_named(&mut collect);
    collect.1
}

/// `|a - b| / |b|`
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

/// The two engines round the same numbers, but for those that lie, by the error of f32, on different sides of a tie. In a deep
/// network one such number moves others over theirs, until nothing is rounded alike: these have three units.
#[test]
fn both_engines_round_the_same() {
    for (model, block) in
        [("preresnet8", Block::Basic), ("preresnet11", Block::Bottleneck), ("preresnet5", Block::Single)]
    {
        for ordering in Ordering::ALL {
            let rounded = config(model, *ordering, block, Trunk::Bf16);
            let exact = config(model, *ordering, block, Trunk::F32);
            let (fused, fused_gradients) = learnt(&rounded, Engine::Fused);
            let (composed, composed_gradients) = learnt(&rounded, Engine::Composed);
            let (f32, f32_gradients) = learnt(&exact, Engine::Fused);
            let name = format!("{model}, {block}, {ordering}");
            // What rounding moves gradients and logits by, and what of it the engines do not agree on.
            let effects = [distance(&fused_gradients, &f32_gradients), distance(&fused, &f32)];
            let errors = [distance(&fused_gradients, &composed_gradients), distance(&fused, &composed)];
            println!("{name}: rounding {effects:?}, engines {errors:?}");
            let ranges = [0.02..0.2, 1e-3..1e-2];
            for ((effect, error), range) in effects.into_iter().zip(errors).zip(ranges) {
                assert!(range.contains(&effect), "{name}: rounding moves by {effect}");
                assert!(error < 0.6 * effect, "{name}: engines {error} apart, rounding moves by {effect}");
            }
        }
    }
}

/// Convolutions round what they read, and only in training.
#[test]
fn products_round_a_little() {
    if let Err(reason) = Precision::Bf16.check() {
        return eprintln!("skipped: {reason}");
    }
    for (model, block) in [("preresnet8", Block::Basic), ("preresnet11", Block::Bottleneck)] {
        for ordering in Ordering::ALL {
            let exact = config(model, *ordering, block, Trunk::F32);
            let rounded = ResNetConfig { precision: Precision::Bf16, ..exact.clone() };
            let (found, gradients) = learnt(&rounded, Engine::Fused);
            let (expected, expected_gradients) = learnt(&exact, Engine::Fused);
            let name = format!("{model}, {block}, {ordering}");
            let effects = [distance(&gradients, &expected_gradients), distance(&found, &expected)];
            println!("{name}: {effects:?}");
            assert!(
                (1e-4..0.2).contains(&effects[0]) && (1e-5..0.03).contains(&effects[1]),
                "{name}: {effects:?}"
            );
            let device = Device::flex();
            let logits = |network: &ResNetConfig| {
                let network = ResNet::init(network, 3, &device).unwrap();
                to_host(network.forward(images(&device), &mut Pass::evaluate()).unwrap())
            };
            assert_eq!(logits(&rounded), logits(&exact), "{name}");
            let in_f32 = |network: &ResNetConfig| {
                let network = ResNet::init(network, 3, &device).unwrap();
                to_host(network.forward(images(&device), &mut Pass::train(0, 0).in_f32()).unwrap())
            };
            assert_eq!(in_f32(&rounded), in_f32(&exact), "{name}");
        }
    }
}

#[test]
fn evaluation_does_not_round() {
    let device = Device::flex();
    let logits = |trunk: Trunk| {
        let network = config("preresnet20", Ordering::FullPreActivation, Block::Basic, trunk);
        let network = ResNet::init(&network, 3, &device).unwrap();
        to_host(network.forward(images(&device), &mut Pass::evaluate()).unwrap())
    };
    assert_eq!(logits(Trunk::Bf16), logits(Trunk::F32));
}

#[test]
fn the_plan_knows_what_is_saved() {
    for memory in Memory::ALL {
        let peak = |trunk: Trunk| {
            let config = config("preresnet164", Ordering::FullPreActivation, Block::Bottleneck, trunk);
            MemoryPlan::of(&config, 128, 32, 32, *memory).unwrap().peak_bytes as f64
        };
        let share = peak(Trunk::Bf16) / peak(Trunk::F32);
        // Two thirds of what a bottleneck keeps are its output; inputs alone would be half.
        assert!((0.62..0.74).contains(&share), "{memory}: {share}");
    }
}
