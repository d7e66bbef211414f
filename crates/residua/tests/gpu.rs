//! A small network's training steps on a GPU backend agree with the CPU. Mesa's software Vulkan driver suffices:
//! `cargo test --features wgpu --test gpu`. (The SPIR-V that Burn's own Vulkan compiler makes crashes that driver, so the
//! test goes through WGSL; on real GPUs try `RESIDUA_TEST_DEVICE=vulkan` or `cuda` with that feature.)
#![cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]

use residua::data::{Batch, Normalisation, NormalisationKind, Split, evaluation_batches, shapes};
use residua::device::{Device, DeviceChoice};
use residua::nn::{NamedTensors, NetworkOptions, Pass};
use residua::ops::Engine;
use residua::train::{OptimiserOptions, Sgd, step};
use std::num::NonZeroUsize;

#[test]
fn training_steps_agree_with_the_cpu() {
    let name = std::env::var("RESIDUA_TEST_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    let gpu = name.parse::<DeviceChoice>().unwrap().open().unwrap();
    let batch = batch(4);
    for (model, ordering, shortcut) in [
        ("preresnet8", "preact", "identity"),
        ("resnet11", "original", "exclusive-gate:-1"),
        ("resnet8", "bn-after-add", "dropout:0.5"),
    ] {
        let options = NetworkOptions {
            ordering: Some(ordering.parse().unwrap()),
            shortcut: Some(shortcut.parse().unwrap()),
            ..NetworkOptions::named(model)
        };
        for engine in [Engine::Fused, Engine::Composed] {
            let (cpu_losses, cpu) = train(&options, &batch, engine, &Device::flex());
            let (losses, tensors) = train(&options, &batch, engine, &gpu);
            for (loss, cpu_loss) in losses.iter().zip(&cpu_losses) {
                assert!((loss / cpu_loss - 1.).abs() < 1e-4, "{model} {engine}: {losses:?} {cpu_losses:?}");
            }
            for (name, cpu) in &cpu {
                let distance = distance(&tensors[name].values, &cpu.values);
                assert!(distance < 1e-3, "{model} {engine}: {name} differs by {distance}");
            }
        }
    }
}

/// Losses of two steps, and all tensors after them.
fn train(
    options: &NetworkOptions,
    batch: &Batch,
    engine: Engine,
    device: &Device,
) -> (Vec<f64>, NamedTensors) {
    let mut network = options.resolve(10).unwrap().init(1, &device.clone().autodiff()).unwrap();
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    let mut losses = Vec::new();
    for iteration in 0..2 {
        let outcome;
        let pass = Pass::train(1, iteration).with_engine(engine);
        (network, outcome) = step(network, &mut sgd, batch, pass, 0.01).unwrap();
        losses.push(outcome.loss);
    }
    (losses, network.tensors())
}

fn batch(count: usize) -> Batch {
    let images = shapes(Split::Test);
    let normalisation = Normalisation::of(NormalisationKind::PerChannel, &images);
    let mut batches = evaluation_batches(&images, &normalisation, NonZeroUsize::new(count).unwrap()).unwrap();
    batches.next().unwrap()
}

/// The 2-norm of the difference, relative to the expected values' (or to 1e-3, where they are small).
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut expected.iter().map(|&value| f64::from(value))).max(1e-3)
}
