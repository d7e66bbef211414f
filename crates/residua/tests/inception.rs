//! Inception-v3 against torchvision's: weights and images by a formula, what comes out from `fixtures/inception/make.py`.

use burn::tensor::{Device, Tensor, TensorData};
use residua::evaluate::to_host;
use residua::nn::{InceptionV3, NamedTensors, TensorValues};
use residua::train::cross_entropy;
use serde_json::Value;

/// The hash that `make.py` describes: values between -1 and 1.
fn uniform(tensor: u32, count: usize) -> impl Iterator<Item = f64> {
    (1..=count as u32).map(move |index| {
        let mut x = index.wrapping_mul(0x9E37_79B1) ^ (tensor + 1).wrapping_mul(0x85EB_CA6B);
        x ^= x >> 15;
        x = x.wrapping_mul(0x2C1B_3C6D);
        x ^= x >> 12;
        f64::from(x >> 8) / f64::from(1 << 23) - 1.
    })
}

fn weights(network: &InceptionV3) -> NamedTensors {
    let tensors = network.tensors();
    let value = |name: &str, shape: &[usize], u: f64| match shape {
        [_, inputs, height, width] => u * (6. / (inputs * height * width) as f64).sqrt(),
        [_, inputs] => u / (*inputs as f64).sqrt(),
        _ if name.ends_with("bn.weight") || name.ends_with("running_var") => 1. + u / 2.,
        _ => u / 10.,
    };
    let make = |(index, (name, TensorValues { shape, values })): (usize, (&String, &TensorValues))| {
        let values = uniform(index as u32, values.len()).map(|u| value(name, shape, u) as f32).collect();
        (name.clone(), TensorValues { shape: shape.clone(), values })
    };
    tensors.iter().enumerate().map(make).collect()
}

fn numbers(expected: &Value) -> Vec<f64> {
    expected.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The largest difference over the largest value.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
    worst.fold(0., f64::max) / largest
}

#[test]
fn outputs_gradients_and_statistics_are_torchvisions() {
    let expected: Value = serde_json::from_str(include_str!("fixtures/inception/expected.json")).unwrap();
    let device = Device::flex().autodiff();
    let network = InceptionV3::init(10, 1, &device);
    let weights = weights(&network);
    let network = network.with_tensors(&weights).unwrap();
    let shape = [2, 3, 299, 299];
    let pixels: Vec<f32> = uniform(9999, shape.iter().product()).map(|value| value as f32).collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &device);

    let evaluation = to_host(network.forward(images.clone()).unwrap());
    let worst = difference(&evaluation, &numbers(&expected["evaluation"]));
    assert!(worst < 1e-4, "evaluation: {worst}");

    let mask = Tensor::ones([2, 2048], &device);
    let output = network.forward_in_training(images, mask).unwrap();
    for (name, logits) in [("logits", &output.logits), ("auxiliary_logits", &output.auxiliary_logits)] {
        let worst = difference(&to_host(logits.clone()), &numbers(&expected[name]));
        assert!(worst < 2e-3, "{name}: {worst}");
    }
    let labels = [3, 7];
    let loss = cross_entropy(output.logits, &labels) + cross_entropy(output.auxiliary_logits, &labels) * 0.4;
    let worst = difference(&to_host(loss.clone()), &[expected["loss"].as_f64().unwrap()]);
    assert!(worst < 1e-3, "loss: {worst}");

    let gradients = loss.backward();
    let mut network = network.absorb(output.statistics);
    let norm =
        |values: &[f32]| values.iter().map(|value| f64::from(value.powi(2))).sum::<f64>().sqrt() as f32;
    let mut compared = 0;
    for (name, tensor) in network.trained_mut() {
        let gradient = to_host(tensor.grad(&gradients).unwrap());
        if let Some(expected) = expected["gradient_norms"].get(name) {
            let worst = difference(&[norm(&gradient)], &[expected.as_f64().unwrap()]);
            assert!(worst < 1e-2, "{name}: {worst}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
    let tensors = network.tensors();
    for (name, expected) in expected["running"].as_object().unwrap() {
        let worst = difference(&[norm(&tensors[name].values)], &[expected.as_f64().unwrap()]);
        assert!(worst < 1e-4, "{name}: {worst}");
    }
}
