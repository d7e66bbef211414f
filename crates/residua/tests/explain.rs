//! Class activation maps and Grad-CAM against PyTorch's in f64 (`tests/fixtures/explain`), with both engines, and against what they are by
//! definition.

mod fixture;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use fixture::Case;
use residua::evaluate::to_host;
use residua::explain::{ExplainError, Explanation, Method, UnitPlace, explain};
use residua::nn::{Pass, ResNet};
use residua::ops::Engine;
use serde::Deserialize;

/// What PyTorch finds of two images.
#[derive(Debug, Deserialize)]
struct Expected {
    /// The network is that of this case.
    name: String,
    seed: u64,
    input: [usize; 4],
    class: usize,
    features: Vec<f32>,
    logits: Vec<f32>,
    /// `cam`, and Grad-CAM by its unit.
    maps: BTreeMap<String, Vec<f32>>,
}

impl Expected {
    fn all() -> Vec<Self> {
        serde_json::from_slice(&fixture::read("explain/expected.json"))
            .expect("expected.json should be what make.py writes")
    }

    fn network_and_images(&self) -> (ResNet, Tensor<4>) {
        let mut case = Case::named(&self.name);
        (case.seed, case.input) = (self.seed, self.input);
        let device = Device::flex();
        let images = Tensor::from_data(TensorData::new(case.images(), case.input), &device);
        let network = ResNet::init(&case.config(), 0, &device).unwrap();
        (network.with_tensors(&case.tensors()).unwrap(), images)
    }
}

const ENGINES: [Engine; 2] = [Engine::Fused, Engine::Composed];

/// 2-norm of the difference relative to what is expected.
fn off(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    };
    norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected))
        / norm(&mut expected.iter().copied())
}

#[test]
fn maps_and_features_are_pytorchs() {
    let cases = Expected::all();
    assert!(cases.len() > 8);
    for (expected, engine) in cases.iter().flat_map(|case| ENGINES.map(|engine| (case, engine))) {
        let (network, images) = expected.network_and_images();
        let name = &expected.name;
        let features = network.features(images.clone(), &mut Pass::evaluate().with_engine(engine)).unwrap();
        let error = off(&to_host(features), &expected.features);
        assert!(error < 1e-4, "{name}, {engine}: features are off by {error:.1e}");
        for (key, values) in &expected.maps {
            let method = match key.as_str() {
                "cam" => Method::ClassActivation,
                unit => Method::GradCam(unit.parse().unwrap()),
            };
            let class = Some(expected.class);
            let found = explain(&network, images.clone(), class, method, engine).unwrap();
            assert_eq!(found.len(), 2);
            for (image, (found, values)) in found.iter().zip(values.chunks(values.len() / 2)).enumerate() {
                let error = off(&found.map.values, values);
                assert!(error < 1e-4, "{name}, {engine}: {key} of image {image} is off by {error:.1e}");
                let logits = &expected.logits[image * network.config().classes..];
                assert!((found.logit - logits[expected.class]).abs() < 1e-4, "{name} {found:?}");
            }
        }
    }
}

/// The mean of the map and the class's bias are its logit, so that nothing that decides is left out of the map or added to it.
#[test]
fn a_class_activation_map_is_the_logit_spread_over_the_image() {
    for (expected, engine) in Expected::all().iter().flat_map(|case| ENGINES.map(|engine| (case, engine))) {
        let (network, images) = expected.network_and_images();
        let bias = to_host(network.classifier.bias.val());
        for (class, bias) in bias.iter().enumerate() {
            let method = Method::ClassActivation;
            let found = explain(&network, images.clone(), Some(class), method, engine).unwrap();
            for Explanation { map, logit, .. } in found {
                let sum: f64 = map.values.iter().map(|value| f64::from(*value)).sum();
                let largest = map.values.iter().fold(1f32, |largest, value| largest.max(value.abs()));
                let of_map = sum / map.values.len() as f64 + f64::from(*bias);
                let error = (of_map - f64::from(logit)).abs() / f64::from(largest);
                assert!(error < 1e-5, "{}, {engine}, class {class}: {of_map} {logit}", expected.name);
            }
        }
    }
}

/// Where nothing stands between the last unit and the pooling, the logit's gradient by a channel is the classifier's weight at every pixel,
/// over their number.
#[test]
fn grad_cam_of_the_map_that_is_pooled_is_the_class_activation_map_rectified() {
    for name in ["original-basic-b", "imagenet-original", "relu-before-add-basic-b"] {
        let cases = Expected::all();
        let (network, images) = cases.iter().find(|case| case.name == name).unwrap().network_and_images();
        let last = Method::GradCam(UnitPlace::last(network.plan()));
        for engine in ENGINES {
            let [cam, grad_cam] = [Method::ClassActivation, last]
                .map(|method| explain(&network, images.clone(), None, method, engine).unwrap());
            for (cam, grad_cam) in cam.iter().zip(&grad_cam) {
                assert_eq!((cam.class, cam.logit), (grad_cam.class, grad_cam.logit));
                let pixels = cam.map.values.len() as f32;
                let rectified: Vec<f32> = cam.map.values.iter().map(|value| value.max(0.) / pixels).collect();
                assert!(
                    off(&grad_cam.map.values, &rectified) < 1e-5,
                    "{name} {engine}: {cam:?} {grad_cam:?}"
                );
            }
        }
    }
}

#[test]
fn the_likeliest_class_is_explained_and_impossible_questions_are_refused() {
    let cases = Expected::all();
    let (network, images) = cases[0].network_and_images();
    let explained = |class, method| explain(&network, images.clone(), class, method, Engine::default());
    let found = explained(None, Method::ClassActivation).unwrap();
    for (found, logits) in found.iter().zip(cases[0].logits.chunks(10)) {
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(logits[found.class], largest);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        assert!((found.probability - 1. / sum).abs() < 1e-5);
        let alone =
            explain(&network, images.clone(), Some(found.class), Method::ClassActivation, Engine::default());
        assert!(alone.unwrap().contains(found));
    }
    let error = explained(Some(10), Method::ClassActivation).unwrap_err();
    assert!(matches!(error, ExplainError::NoClass { class: 10, classes: 10 }), "{error}");
    let error = explained(None, Method::GradCam(UnitPlace { stage: 0, index: 2 })).unwrap_err();
    assert!(
        error.to_string().starts_with("there is no unit stage1.3; the network has stage1.1 to stage1.2"),
        "{error}"
    );
}
