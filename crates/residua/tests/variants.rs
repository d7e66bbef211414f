//! Every ordering and shortcut: the fused engine against the composed one, and against itself by any number of threads.

use burn::tensor::Device;
use proptest::prelude::*;
use residua::data::Batch;
use residua::nn::{Block, NamedTensors, NetworkOptions, Ordering, Pass, ResNet, ResNetConfig, StemPooling};
use residua::ops::Engine;
use residua::run::OptimiserOptions;
use residua::train::{Sgd, step};

const SHORTCUTS: [&str; 7] = [
    "identity",
    "scale:0.5,0.5",
    "scale:1,-0.5",
    "exclusive-gate:-1",
    "shortcut-gate:-1",
    "conv1x1",
    "dropout:0.5",
];

#[derive(Debug, Clone)]
struct Variant {
    ordering: Ordering,
    shortcut: &'static str,
    dimensions: &'static str,
    block: Block,
    units: usize,
    groups: usize,
    group: usize,
    size: usize,
    width: usize,
    /// An ImageNet network instead.
    imagenet: Option<(&'static str, StemPooling)>,
}

fn variants() -> impl Strategy<Value = Variant> {
    let kind = (
        prop::sample::select(Ordering::ALL),
        prop::sample::select(&SHORTCUTS[..]),
        prop::sample::select(&["a", "b"][..]),
        prop::sample::select(&[Block::Single, Block::Basic, Block::Bottleneck][..]),
    );
    let width = prop_oneof![3 => Just(1usize), 1 => 2..6usize];
    (kind, 1..3usize, 1..3usize, 2..4usize, 2..4usize, width).prop_map(
        |((ordering, shortcut, dimensions, block), units, groups, group, quarters, width)| Variant {
            ordering,
            shortcut,
            dimensions,
            block,
            units,
            groups,
            group,
            size: 4 * quarters,
            width,
            imagenet: None,
        },
    )
}

impl Variant {
    fn config(&self) -> ResNetConfig {
        if let Some((model, stem_pooling)) = self.imagenet {
            let options = NetworkOptions {
                stem_pooling: Some(stem_pooling),
                width: Some(self.width),
                ..NetworkOptions::named(model)
            };
            return options.resolve(10).unwrap();
        }
        let layers = match self.block {
            Block::Single => 3,
            Block::Basic => 6,
            Block::Bottleneck => 9,
        };
        let options = NetworkOptions {
            ordering: Some(self.ordering),
            shortcut: Some(self.shortcut.parse().unwrap()),
            dimensions: Some(self.dimensions.parse().unwrap()),
            block: Some(self.block),
            bn_group: Some(self.group),
            width: Some(self.width),
            ..NetworkOptions::named(format!("resnet{}", layers * self.units + 2))
        };
        options.resolve(10).unwrap()
    }

    fn batch(&self) -> Batch {
        let (count, size) = (self.groups * self.group, self.size);
        let value = |index: usize| (index * 7919 % 1009) as f32 / 504.5 - 1.;
        let images = (0..count * size * size * 3).map(value).collect();
        let labels = (0..count as u16).map(|index| index * 3 % 10).collect();
        Batch::new(images, labels, size, size)
    }

    /// Losses, and all tensors after as many steps from the weights that follow from `seed`.
    fn trained(&self, seed: u64, steps: u64, engine: Engine) -> (Vec<f64>, NamedTensors) {
        let mut network = ResNet::init(&self.config(), seed, &Device::flex().autodiff()).unwrap();
        let mut sgd = Sgd::new(&OptimiserOptions::default());
        let mut losses = Vec::new();
        for iteration in 0..steps {
            let pass = Pass::train(5, iteration).with_engine(engine);
            let outcome;
            (network, outcome) = step(network, &mut sgd, &self.batch(), pass, 0.05).unwrap();
            losses.push(outcome.loss);
        }
        (losses, network.tensors())
    }
}

/// The largest error of what one fused step changes in a tensor, relative to what a composed step changes (or, where
/// that nearly cancels, to a hundredth of what it changes elsewhere).
fn worst_error(variant: &Variant, seed: u64) -> (f64, String) {
    let (fused_losses, fused) = variant.trained(seed, 1, Engine::Fused);
    let (losses, composed) = variant.trained(seed, 1, Engine::Composed);
    let start = ResNet::init(&variant.config(), seed, &Device::flex().autodiff()).unwrap().tensors();
    let change = |name: &String, other: &NamedTensors| {
        let pairs = other[name].values.iter().zip(&composed[name].values);
        pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
    };
    let least = composed.keys().map(|name| change(name, &start)).fold(0., f64::max) / 100.;
    let of_loss = ((fused_losses[0] / losses[0] - 1.).abs(), "loss".to_owned());
    let errors =
        composed.keys().map(|name| (change(name, &fused) / change(name, &start).max(least), name.clone()));
    errors.chain([of_loss]).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fused_steps_agree_with_composed_ones(variant in variants()) {
        // In a network here and there a value rounds across zero and switches its ReLU: not for all of these weights.
        let errors: Vec<_> = (1..=8).map(|seed| worst_error(&variant, seed)).take_while(|error| error.0 > 1e-3).collect();
        prop_assert!(errors.len() < 8, "{errors:?}");
    }
}

#[test]
fn either_stem_of_imagenet_networks_trains_alike_with_both_engines() {
    for (stem_pooling, width) in [(StemPooling::Last, 1), (StemPooling::First, 1), (StemPooling::Last, 2)] {
        let variant = Variant {
            ordering: Ordering::FullPreActivation,
            shortcut: "identity",
            dimensions: "b",
            block: Block::Basic,
            units: 2,
            groups: 1,
            group: 3,
            size: 64,
            width,
            imagenet: Some(("preresnet18", stem_pooling)),
        };
        let errors: Vec<_> =
            (1..=8).map(|seed| worst_error(&variant, seed)).take_while(|error| error.0 > 1e-3).collect();
        assert!(errors.len() < 8, "{stem_pooling}, width {width}: {errors:?}");
    }
}

#[test]
fn every_variant_trains_the_same_by_any_number_of_threads() {
    for (index, &ordering) in Ordering::ALL.iter().enumerate() {
        for shortcut in SHORTCUTS {
            let variant = Variant {
                ordering,
                shortcut,
                dimensions: if index % 2 == 0 { "a" } else { "b" },
                block: Block::Basic,
                units: 1,
                groups: 1,
                group: 5,
                size: 8,
                width: if shortcut == "identity" { 3 } else { 1 },
                imagenet: None,
            };
            let bits = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (losses, tensors) = pool.install(|| variant.trained(5, 2, Engine::Fused));
                let values =
                    tensors.values().flat_map(|tensor| tensor.values.iter().map(|value| value.to_bits()));
                (losses, values.collect::<Vec<_>>())
            };
            let one = bits(1);
            assert!(one.0.iter().all(|loss| loss.is_finite()), "{variant:?}");
            for threads in [2, 3, 8] {
                assert!(one == bits(threads), "{variant:?} with {threads} threads");
            }
        }
    }
}
