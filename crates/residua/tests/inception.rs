//! Inception-v3 against torchvision's: weights and images by a formula, what comes out from `fixtures/inception/make.py`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use residua::evaluate::{Trained, to_host};
use residua::export::{ExportFormat, weight_file};
use residua::infer::foreign::{Description, Family};
use residua::infer::normalisation::KnownNormalisation;
use residua::infer::weights::{TensorFile, encode};
use residua::infer::{Classifier, StoredWeights};
use residua::nn::{InceptionConfig, InceptionV3, NamedTensors, TensorValues};
use residua::ops::Engine;
use residua::train::cross_entropy;
use serde_json::Value;

const CONFIG: InceptionConfig = InceptionConfig { classes: 10 };

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

fn weights() -> NamedTensors {
    let shapes = CONFIG.tensor_shapes().unwrap();
    let value = |name: &str, shape: &[usize], u: f64| match shape {
        [_, inputs, height, width] => u * (6. / (inputs * height * width) as f64).sqrt(),
        [_, inputs] => u / (*inputs as f64).sqrt(),
        _ if name.ends_with("bn.weight") || name.ends_with("running_var") => 1. + u / 2.,
        _ => u / 10.,
    };
    let make = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = uniform(index as u32, shape.iter().product());
        let values = values.map(|u| value(&name, &shape, u) as f32).collect();
        (name, TensorValues { shape, values })
    };
    shapes.into_iter().enumerate().map(make).collect()
}

/// `[2, 3, 299, 299]`
fn images(device: &Device) -> Tensor<4> {
    let shape = [2, 3, 299, 299];
    let pixels: Vec<f32> = uniform(9999, shape.iter().product()).map(|value| value as f32).collect();
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

fn expected() -> Value {
    serde_json::from_str(include_str!("fixtures/inception/expected.json")).unwrap()
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
    let expected = expected();
    let device = Device::flex().autodiff();
    let network = InceptionV3::of_tensors(&CONFIG, &weights(), &device).unwrap();
    let images = images(&device);

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

/// The weights as a program of PyTorch saves them, in a dictionary of which some is no weight.
fn saved(tensors: &NamedTensors) -> StoredWeights {
    let tensors = tensors.iter().map(|(name, tensor)| (format!("state_dict.module.{name}"), tensor.clone()));
    let file = TensorFile {
        tensors: tensors.collect(),
        others: vec!["state_dict.module.Conv2d_1a_3x3.bn.num_batches_tracked".to_owned()],
        ..TensorFile::default()
    };
    StoredWeights::of(PathBuf::from("inception_v3.pth"), file)
}

#[test]
fn weights_of_torchvision_come_in_and_go_out() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("inception_v3.safetensors");
    let all = weights();
    std::fs::write(&path, encode(&path, &all, &BTreeMap::new()).unwrap()).unwrap();
    let (stored, recognition) =
        StoredWeights::read(&path).unwrap().recognised(&Description::default()).unwrap();
    assert_eq!(recognition.family, Some(Family::Torchvision));
    let assumed: Vec<_> = recognition.assumed.iter().map(ToString::to_string).collect();
    let view = "pictures scaled to 342 and cropped to 299x299";
    assert_eq!(assumed, ["normalisation half", "classes named 0 to 9", view]);
    let info = stored.info().unwrap();
    assert_eq!(info.network, CONFIG.into());
    assert_eq!(info.normalisation, KnownNormalisation::Half.normalisation());
    assert_eq!(stored.metadata["residua.network"], r#"{"architecture":"inception-v3","classes":10}"#);

    // Out, and in again: the same tensors, and all that is said of them.
    let bytes = weight_file(ExportFormat::Torchvision, &info, &stored.tensors, &path).unwrap().unwrap();
    std::fs::write(&path, bytes).unwrap();
    let out = StoredWeights::read(&path).unwrap();
    assert!(out.tensors == all);
    let (again, recognition) = out.recognised(&Description::default()).unwrap();
    assert_eq!((recognition.assumed, again.info().unwrap()), (vec![], info.clone()));
    let other = weight_file(ExportFormat::Timm, &info, &again.tensors, &path).unwrap_err().to_string();
    assert!(
        other
            .contains("inception-v3 is none of the networks of timm-v2; it goes by the names of torchvision"),
        "{other}"
    );

    let trained = Trained::of(again, &Device::flex()).unwrap();
    let logits = trained.network.logits(images(&Device::flex()), Engine::Fused).unwrap();
    let worst = difference(&to_host(logits), &numbers(&expected()["evaluation"]));
    assert!(worst < 1e-4, "{worst}");
    assert!(trained.network.residual().is_err());
}

#[test]
fn the_auxiliary_classifier_may_be_left_out_but_not_in_part() {
    let all = weights();
    let mut without = all.clone();
    without.retain(|name, _| !name.starts_with("AuxLogits."));
    let small = Description { size: Some(75), ..Description::default() };
    let trained = |tensors: &NamedTensors| {
        let (weights, recognition) = saved(tensors).recognised(&small).unwrap();
        assert_eq!(recognition.skipped[0].to_string(), "1 num_batches_tracked");
        assert!(weights.tensors == *tensors);
        Trained::of(weights, &Device::flex()).unwrap()
    };
    let (whole, trained) = (trained(&all), trained(&without));
    let picture: Vec<u8> = (0..75 * 75 * 3).map(|index| (index * 89 % 256) as u8).collect();
    let predict = |trained: &Trained| trained.predict(&picture, 10, Engine::Fused).unwrap();
    assert_eq!(predict(&whole), predict(&trained));

    // Of many images each has its own answer.
    let pictures: Vec<Vec<u8>> =
        (0..9).map(|number| picture.iter().map(|&byte| byte / (number + 1)).collect()).collect();
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let images = trained.images(&pictures).unwrap();
    let features = to_host(trained.network.features(images.clone(), Engine::Fused).unwrap());
    let logits = to_host(trained.network.logits(images, Engine::Fused).unwrap());
    assert_eq!((features.len(), logits.len()), (9 * 2048, 9 * 10));
    for number in [0, 8] {
        let own = trained.features(pictures[number], Engine::Fused).unwrap();
        let own: Vec<f64> = own.into_iter().map(f64::from).collect();
        assert!(difference(&features[number * 2048..][..2048], &own) < 1e-5, "{number}");
    }
    assert!(logits[..10] != logits[80..]);

    let refused = |tensors: &NamedTensors, description: &Description| {
        saved(tensors).recognised(description).unwrap_err().to_string()
    };
    let mut part = all.clone();
    part.remove("AuxLogits.conv0.bn.running_var");
    let message = refused(&part, &small);
    let nearest = "nearest is torchvision inception-v3, but 'AuxLogits.conv0.bn.running_var' is missing; ";
    assert!(message.contains(nearest), "{message}");
    let mut odd = without.clone();
    odd.get_mut("Mixed_6c.branch7x7_2.conv.weight").unwrap().shape = vec![160, 160, 7, 1];
    let message = refused(&odd, &small);
    assert!(
        message
            .contains("'Mixed_6c.branch7x7_2.conv.weight' has shape [160, 160, 7, 1], not [160, 160, 1, 7]"),
        "{message}"
    );
    let message = refused(&without, &Description { size: Some(74), ..Description::default() });
    assert!(message.contains("74x74 pixels are too small; their sides must be 75 or more"), "{message}");
    let forced = Description { family: Some(Family::TimmV2), ..Description::default() };
    assert!(refused(&without, &forced).contains("no likeness to networks of timm-v2"));

    let classifier = Classifier::of(saved(&without), NonZeroUsize::MIN).unwrap_err().to_string();
    assert!(
        classifier.contains("inception_v3.pth: ") && classifier.contains("inception-v3 runs as tensors"),
        "{classifier}"
    );
}
