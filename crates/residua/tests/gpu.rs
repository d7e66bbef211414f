//! A small network's training steps on a GPU backend agree with the CPU. Mesa's software Vulkan driver suffices:
//! `cargo test --features wgpu --test gpu`. (The SPIR-V that Burn's own Vulkan compiler makes crashes that driver, so the
//! test goes through WGSL; on real GPUs try `RESIDUA_TEST_DEVICE=vulkan` or `cuda` with that feature.)
#![cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]

use residua::data::Batch;
use residua::device::{Device, DeviceChoice};
use residua::nn::{DimensionChange, NamedTensors, NetworkOptions, Pass, ResNet, Shortcut};
use residua::run::OptimiserOptions;
use residua::train::{Sgd, step};

#[test]
fn training_steps_agree_with_the_cpu() {
    let name = std::env::var("RESIDUA_TEST_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    let gpu = name.parse::<DeviceChoice>().unwrap().open().unwrap();
    // A gate brings in sigmoid, products and a convolution with bias, on top of what every unit has.
    let options = NetworkOptions {
        shortcut: Some(Shortcut::ExclusiveGating { bias: -1. }),
        dimensions: Some(DimensionChange::B),
        ..NetworkOptions::named("preresnet8")
    };
    let (cpu_losses, cpu) = train(&options, &Device::flex());
    let (losses, tensors) = train(&options, &gpu);
    for (loss, cpu_loss) in losses.iter().zip(&cpu_losses) {
        assert!((loss / cpu_loss - 1.).abs() < 1e-4, "{losses:?} {cpu_losses:?}");
    }
    for (name, cpu) in &cpu {
        let distance = distance(&tensors[name].values, &cpu.values);
        assert!(distance < 1e-3, "{name} differs by {distance}");
    }
}

/// Losses of two steps on a few small images, and all tensors after them.
fn train(options: &NetworkOptions, device: &Device) -> (Vec<f64>, NamedTensors) {
    let mut network = ResNet::init(&options.resolve(10).unwrap(), 1, &device.clone().autodiff()).unwrap();
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    let (count, height, width) = (4, 8, 8);
    let images =
        (0..count * height * width * 3).map(|index| (index * 7919 % 256) as f32 / 64. - 2.).collect();
    let batch = Batch::new(images, vec![0, 3, 5, 9], height, width);
    let mut losses = Vec::new();
    for iteration in 0..2 {
        let outcome;
        (network, outcome) = step(network, &mut sgd, &batch, Pass::train(1, iteration), 0.01).unwrap();
        losses.push(outcome.loss);
    }
    (losses, network.tensors())
}

/// The 2-norm of the difference, relative to the expected values' (or to 1e-3, where they are small).
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut expected.iter().map(|&value| f64::from(value))).max(1e-3)
}
