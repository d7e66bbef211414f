//! Weights of others, against what their own networks compute (`tests/fixtures/foreign`).

mod fixture;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use fixture::generate;
use residua::evaluate::{Trained, to_host};
use residua::infer::foreign::{Description, Family, ForeignError, Misfit, Recognition, named_by};
use residua::infer::weights::{Container, TensorFile, encode};
use residua::infer::{Classifier, StoredWeights};
use residua::nn::{NamedTensors, NetworkOptions, TensorValues};
use residua::ops::Engine;
use serde::Deserialize;

/// Largest difference over the largest logit.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    family: String,
    model: String,
    classes: usize,
    side: usize,
    seed: u64,
    tensors: BTreeMap<String, Vec<usize>>,
    logits: Vec<f64>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder().join("cases.json")).unwrap()).unwrap()
    }

    fn tensors(&self) -> NamedTensors {
        let is_number = |name: &str| !name.ends_with("num_batches_tracked");
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            let values = generate(name, self.seed, shape);
            (name.clone(), TensorValues { shape: shape.clone(), values })
        };
        self.tensors.iter().filter(|(name, _)| is_number(name)).map(tensor).collect()
    }

    /// As a file has them.
    fn weights(&self) -> StoredWeights {
        let is_counter = |name: &&String| name.ends_with("num_batches_tracked");
        let file = TensorFile {
            tensors: self.tensors(),
            others: self.tensors.keys().filter(is_counter).cloned().collect(),
            ..TensorFile::default()
        };
        StoredWeights::of(PathBuf::from(format!("{}.safetensors", self.model)), file)
    }

    /// `[2, height, width, 3]`
    fn images(&self) -> Tensor<4> {
        let shape = [2, 3, self.side, self.side];
        let images = TensorData::new(generate("input", self.seed, &shape), shape);
        Tensor::from_data(images, &Device::flex())
    }

    fn family(&self) -> Family {
        // timm's networks of the first kind have torchvision's names.
        if self.family == "timm" { Family::Torchvision } else { self.family.parse().unwrap() }
    }

    fn error(&self, logits: &[f32]) -> f64 {
        let largest = self.logits.iter().fold(0f64, |largest, logit| largest.max(logit.abs()));
        assert_eq!(logits.len(), self.logits.len());
        let differences =
            self.logits.iter().zip(logits).map(|(right, &found)| (right - f64::from(found)).abs());
        differences.fold(0f64, |worst, next| if next <= worst { worst } else { next }) / largest
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign")
}

fn sized(side: usize) -> Description {
    Description { size: Some(side), shorter_side: Some(side), ..Description::default() }
}

#[test]
fn networks_of_others_give_their_logits() {
    let cases = Case::all();
    assert!(cases.len() >= 10);
    for case in cases {
        let (weights, recognition) = case.weights().recognised(&sized(case.side)).unwrap();
        assert_eq!(recognition.family, Some(case.family()), "{}", case.model);
        let trained = Trained::of(
            StoredWeights {
                tensors: weights.tensors.clone(),
                metadata: weights.metadata.clone(),
                ..case.weights()
            },
            &Device::flex(),
        )
        .unwrap();
        let images = case.images();
        let logits = to_host(trained.network.logits(images.clone(), Engine::Fused).unwrap());
        let (classifier, info) = Classifier::of(weights, NonZeroUsize::MIN).unwrap();
        assert_eq!(info.classes.len(), case.classes);
        let mut folded = vec![f32::NAN; 2 * case.classes];
        classifier.logits(&to_host(images.permute([0, 2, 3, 1])), &mut folded);
        for (what, logits) in [("trained", logits), ("folded", folded)] {
            let error = case.error(&logits);
            assert!(error < TOLERANCE, "{} {} {what}: {error:.1e}", case.family, case.model);
        }
    }
}

#[test]
fn in_and_out_again_is_the_identity() {
    for case in Case::all() {
        let (weights, _) = case.weights().recognised(&sized(case.side)).unwrap();
        let network = weights.info().unwrap().network;
        let back = named_by(case.family(), &network, weights.tensors).unwrap();
        assert!(back == case.tensors(), "{}", case.model);
    }
}

#[test]
fn wide_networks_are_recognised_and_what_others_do_not_have_is_refused() {
    let case = Case::all().into_iter().find(|case| case.model == "wide_resnet50_2").unwrap();
    let (weights, _) = case.weights().recognised(&sized(case.side)).unwrap();
    let network = weights.info().unwrap().network;
    let config = network.residual().unwrap();
    assert_eq!((config.name().as_str(), config.width), ("resnet50", 2));
    let tensors = NamedTensors::new();
    for (model, family, part) in [
        ("resnet18", Family::Torchvision, "basic units of torchvision have width 1, not 2"),
        ("resnet20", Family::PyTorchCifarModels, "basic units of pytorch-cifar-models have width 1, not 2"),
    ] {
        let options = NetworkOptions {
            width: Some(2),
            dimensions: Some("b".parse().unwrap()),
            ..NetworkOptions::named(model)
        };
        let network = options.resolve(10).unwrap().into();
        let reason = named_by(family, &network, tensors.clone()).unwrap_err();
        assert_eq!(reason, part, "{model}");
    }
}

fn refused(weights: StoredWeights, description: &Description) -> Misfit {
    match weights.recognised(description) {
        Err(ForeignError::Misfit { misfit, .. }) => misfit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_beside_a_file_counts_and_what_is_not_is_told() {
    let case = || Case::all().into_iter().find(|case| case.family == "akamaster").unwrap();
    let (weights, Recognition { family, skipped, assumed }) =
        case().weights().recognised(&Description::default()).unwrap();
    assert_eq!(family, Some(Family::Akamaster));
    assert_eq!(skipped.iter().map(ToString::to_string).collect::<Vec<_>>(), ["19 num_batches_tracked"]);
    let assumed: Vec<_> = assumed.iter().map(ToString::to_string).collect();
    let view = "pictures scaled to 32 and cropped to 32x32";
    assert_eq!(assumed, ["normalisation imagenet", "the class names of CIFAR-10", view]);
    assert_eq!(weights.info().unwrap().classes[3], "cat");

    let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    let description = Description {
        normalisation: Some("half".parse().unwrap()),
        classes: Some(classes.clone()),
        ..sized(40)
    };
    let (weights, recognition) = case().weights().recognised(&description).unwrap();
    assert_eq!(recognition.assumed, []);
    let info = weights.info().unwrap();
    assert_eq!((info.height, info.width, info.shorter_side, info.classes), (40, 40, 40, classes));
    assert_eq!(
        info.normalisation,
        "half".parse::<residua::infer::normalisation::KnownNormalisation>().unwrap().normalisation()
    );

    // Now they are ours, and say so themselves.
    let (again, recognition) = weights.recognised(&Description::default()).unwrap();
    assert_eq!((recognition.family, again.info().unwrap().height), (None, 40));
    let own = refused(again, &Description { family: Some(Family::Torchvision), ..Description::default() });
    assert!(own.to_string().contains("leave the family torchvision out"), "{own}");

    let few = Description { classes: Some(vec!["one".to_owned()]), ..Description::default() };
    let few = refused(case().weights(), &few);
    assert_eq!(few.to_string(), "1 names of classes for a network of 10 outputs");
    let odd = refused(case().weights(), &sized(33));
    assert!(odd.to_string().contains("multiples of 4"), "{odd}");
}

#[test]
fn tensors_that_are_no_network_are_refused_by_what_they_are_nearest_to() {
    let case = || Case::all().into_iter().find(|case| case.model == "resnet50").unwrap();
    let message =
        |weights, family| refused(weights, &Description { family, ..Description::default() }).to_string();
    let mut grouped = case().weights();
    let tensor = grouped.tensors.get_mut("layer1.0.conv2.weight").unwrap();
    tensor.shape[1] /= 2;
    tensor.values.truncate(tensor.values.len() / 2);
    let text = message(grouped, None);
    assert!(
        text.starts_with(
            "safetensors file of 267 tensors (bn1.bias, bn1.running_mean, bn1.running_var, ...): "
        ),
        "{text}"
    );
    let nearest = "nearest is torchvision resnet50, but 'layer1.0.conv2.weight' has shape [64, 32, 3, 3], not [64, 64, 3, 3]; ";
    assert!(text.contains(nearest), "{text}");

    let mut squeezed = case().weights();
    let extra = TensorValues { shape: vec![1], values: vec![0.] };
    squeezed.tensors.insert("layer1.0.se.fc1.bias".to_owned(), extra.clone());
    squeezed.tensors.insert("layer1.0.se.fc2.bias".to_owned(), extra.clone());
    let text = message(squeezed, None);
    assert!(text.contains("but 'layer1.0.se.fc1.bias' is unknown (and 1 more)"), "{text}");

    let text = message(case().weights(), Some(Family::Akamaster));
    assert!(text.contains("it has no likeness to networks of akamaster"), "{text}");
    let mut other = case().weights();
    other.tensors = NamedTensors::from([("encoder.weight".to_owned(), extra)]);
    let text = message(other, None);
    assert!(text.contains("1 tensors (encoder.weight): it has no likeness to any network; known are networks of torchvision, "), "{text}");
    let mut none = case().weights();
    none.tensors.clear();
    assert!(message(none, None).starts_with("safetensors file without tensors: "));
}

#[test]
fn files_of_every_kind_are_read() {
    for (name, container) in [
        ("zip.pth", Container::PyTorchZip),
        ("stream.pth", Container::PyTorchStream),
        ("tar.pth", Container::PyTorchTar),
    ] {
        let file = TensorFile::read(&folder().join(name)).unwrap();
        assert_eq!(file.container, container);
        assert_eq!(file.others, ["state_dict.module.num_batches_tracked"]);
        assert_eq!(file.tensors.len(), 5);
        for (name, tensor) in &file.tensors {
            assert_eq!(tensor.shape, [2, 3], "{name}");
            let expected = match name.ends_with("transposed") {
                true => [0., 2., 4., 1., 3., 5.],
                false => [0., 1., 2., 3., 4., 5.],
            };
            assert_eq!(tensor.values, expected, "{name}");
        }
    }
}

/// An archive is filled up with zeros to ten kilobytes: so many bytes from the end are the last tensors.
const TAR_END: usize = 6400;

#[test]
fn damaged_and_hostile_files_end_in_one_line() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("weights.pth");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        TensorFile::read(&path)
    };
    for (name, end) in [("zip.pth", 1), ("stream.pth", 1), ("tar.pth", TAR_END)] {
        let whole = std::fs::read(folder().join(name)).unwrap();
        for length in [0, 1, 20, 300, whole.len() / 4, whole.len() - end] {
            let message = read(&whole[..length]).unwrap_err().to_string();
            assert!(message.contains("weights.pth") && !message.contains('\n'), "{name} {length}: {message}");
        }
        // Whatever byte is another, there is an answer.
        for position in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x55;
            let _ = read(&bytes);
        }
    }
    let tricked = Path::new("residua-was-tricked");
    let _ = TensorFile::read(&folder().join("runs-code.pth"));
    assert!(!tricked.exists(), "the pickle was run");
    let message = TensorFile::read(&folder().join("expanded.pth")).unwrap_err().to_string();
    assert!(message.contains("claim more than 4 times"), "{message}");
}

/// Where the networks that others have published are at hand.
#[test]
fn published_weights_are_recognised() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/weights");
    for (name, model) in [("resnet20-12fca82f.th", "resnet20"), ("resnet56-4bfd9763.th", "resnet56")] {
        let path = shared.join(name);
        if !path.exists() {
            println!("skipped: {name} is not here");
            continue;
        }
        let weights = StoredWeights::read(&path).unwrap();
        assert_eq!(weights.container, Container::PyTorchStream);
        let (weights, recognition) = weights.recognised(&Description::default()).unwrap();
        assert_eq!(recognition.family, Some(Family::Akamaster));
        let info = weights.info().unwrap();
        assert_eq!(info.network.name(), model);
        encode(&path, &weights.tensors, &weights.metadata).unwrap();
    }
}
