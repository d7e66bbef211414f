//! Exported networks, run by an ONNX runtime, against PyTorch's results and against inference here.

mod fixture;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use fixture::{Case, generate, relative_error};
use residua::evaluate::{TrainedNetwork, to_host};
use residua::export::onnx::{Axis, AxisOrder, Norms, OnnxFile, OnnxOptions, Pixels, Scores, encode};
use residua::files::write_file;
use residua::infer::normalisation::Normalisation;
use residua::infer::{Classifier, Temperature, WeightsInfo, likeliest, weights};
use residua::nn::{Architecture, InceptionConfig, NamedTensors, NetworkOptions, Ordering, TensorValues};
use residua::ops::Engine;
use rten::{Dimension, Model, Value};

/// Relative error that f32 is allowed.
const TOLERANCE: f64 = 1e-4;

/// A folder to which the fixture networks are written, too: for `scripts/check-onnx`.
const FOLDER: &str = "RESIDUA_FIXTURE_NETWORKS";

const FORMS: [OnnxOptions; 2] = [
    OnnxOptions {
        pixels: Pixels::Normalised,
        axes: AxisOrder::Nchw,
        norms: Norms::Folded,
        scores: Scores::Logits,
    },
    OnnxOptions {
        pixels: Pixels::Normalised,
        axes: AxisOrder::Nchw,
        norms: Norms::Kept,
        scores: Scores::Logits,
    },
];

#[test]
fn fixture_networks_give_pytorchs_logits() {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    let cases = Case::all();
    assert!(cases.len() > 50, "only {} cases", cases.len());
    let mut worst: f64 = 0.;
    for case in &cases {
        let [batch, _, height, width] = case.input;
        let info = info(case.config(), [height, width], per_channel());
        let expected = case.expected("eval_logits");
        for options in FORMS {
            let file = encode(&info, case.tensors(), options).unwrap();
            let images = Value::from_shape(case.input, case.images()).unwrap();
            let error = relative_error(&run(&load(&file), images), &expected);
            assert!(error < TOLERANCE, "{} {:?}: {error:.1e}", case.name, options.norms);
            worst = worst.max(error);
        }
        if let Some(folder) = &folder {
            let path = folder.join(format!("{}.safetensors", case.name));
            let bytes = weights::encode(&path, &case.tensors(), &info.to_metadata()).unwrap();
            write_file(&path, &bytes).unwrap();
            assert_eq!(expected.values.len(), batch * case.classes, "{}", case.name);
            let logits = TensorValues { shape: vec![batch, case.classes], values: expected.values.to_vec() };
            let images = TensorValues { shape: case.input.to_vec(), values: case.images() };
            let results = NamedTensors::from([("images".to_owned(), images), ("logits".to_owned(), logits)]);
            let path = folder.join(format!("{}.results", case.name));
            write_file(&path, &weights::encode(&path, &results, &BTreeMap::new()).unwrap()).unwrap();
        }
    }
    println!("{} cases: worst relative error {worst:.1e}", cases.len());
}

#[test]
fn every_ordering_shortcut_block_and_dimension_change_gives_the_classifiers_logits() {
    let shortcuts = [
        "identity",
        "scale:0.5,0.7",
        "scale:1,-0.5",
        "exclusive-gate:-1",
        "shortcut-gate:0.5",
        "conv1x1",
        "dropout:0.3",
    ];
    for &ordering in Ordering::ALL {
        for shortcut in shortcuts {
            for (model, block) in [("resnet8", "single"), ("resnet14", "basic"), ("resnet20", "bottleneck")] {
                for dimensions in ["a", "b"] {
                    let options = NetworkOptions {
                        ordering: Some(ordering),
                        shortcut: Some(shortcut.parse().unwrap()),
                        block: Some(block.parse().unwrap()),
                        dimensions: Some(dimensions.parse().unwrap()),
                        ..NetworkOptions::named(model)
                    };
                    check_logits(&options, [12, 8]);
                }
            }
        }
    }
}

#[test]
fn imagenet_networks_give_the_classifiers_logits() {
    for &ordering in Ordering::ALL {
        for dimensions in ["a", "b"] {
            let options = NetworkOptions {
                ordering: Some(ordering),
                dimensions: Some(dimensions.parse().unwrap()),
                ..NetworkOptions::named("resnet18")
            };
            check_logits(&options, [32, 64]);
        }
    }
    let middle = NetworkOptions {
        stride_placement: Some("middle".parse().unwrap()),
        ..NetworkOptions::named("resnet50")
    };
    check_logits(&middle, [64, 32]);
    check_logits(&NetworkOptions::named("preresnet50"), [32, 32]);
    for model in ["preresnet18", "preresnet50"] {
        let pool_first = NetworkOptions {
            stem_pooling: Some("pool-first".parse().unwrap()),
            ..NetworkOptions::named(model)
        };
        check_logits(&pool_first, [32, 64]);
    }
}

#[test]
fn wide_networks_give_the_classifiers_logits() {
    check_logits(&NetworkOptions::named("wrn-10-4"), [32, 32]);
    for (model, width) in [("resnet8", 3), ("preresnet29", 2), ("resnet18", 2), ("resnet50", 2)] {
        check_logits(&NetworkOptions { width: Some(width), ..NetworkOptions::named(model) }, [32, 32]);
    }
}

#[test]
fn deep_networks_give_the_classifiers_logits() {
    for model in ["preresnet110", "resnet164"] {
        check_logits(&NetworkOptions::named(model), [32, 32]);
    }
}

/// The description of the network is read twice, by what runs it and by what writes it; the fixture of `tests/inception.rs` holds
/// the first to torchvision's.
#[test]
fn inception_gives_its_own_logits() {
    let size = [75, 91];
    let [height, width] = size;
    let config = InceptionConfig { classes: 10 };
    let tensors = generated(config.tensor_shapes().unwrap());
    let info = info(config.clone(), size, per_channel());
    let images = planes(&images(2, size), size);
    let network = TrainedNetwork::of(&info.network, &tensors, &Device::flex()).unwrap();
    let given = Tensor::from_data(TensorData::new(images.clone(), [2, 3, height, width]), &Device::flex());
    let expected = to_host(network.logits(given, Engine::Fused).unwrap());
    for options in FORMS {
        let file = encode(&info, tensors.clone(), options).unwrap();
        assert_eq!(file.description, "inception-v3: 10 classes, images of 75x91");
        for (name, is_there) in [
            ("BatchNormalization", options.norms == Norms::Kept),
            ("fc.weight", true),
            // Inference has no use for it.
            ("AuxLogits", false),
        ] {
            let found = file.bytes.windows(name.len()).any(|part| part == name.as_bytes());
            assert_eq!(found, is_there, "{name} {:?}", options.norms);
        }
        let model = load(&file);
        for batch in [2, 1] {
            let given = images[..batch * 3 * height * width].to_vec();
            let found = run(&model, Value::from_shape([batch, 3, height, width], given).unwrap());
            let error = difference(&found, &expected[..batch * config.classes]);
            assert!(error < TOLERANCE, "{:?}, batch of {batch}: {error:.1e}", options.norms);
        }
    }
}

/// Logits of three images, and of the first alone, with normalisations folded and kept.
#[track_caller]
fn check_logits(network: &NetworkOptions, size: [usize; 2]) {
    let (info, tensors) = weights_of(network, size, per_channel());
    let images = images(3, size);
    let expected = logits(&info, &tensors, &images);
    for options in FORMS {
        let model = load(&encode(&info, tensors.clone(), options).unwrap());
        for batch in [3, 1] {
            let [height, width] = size;
            let given = planes(&images[..batch * height * width * 3], size);
            let given = Value::from_shape([batch, 3, height, width], given).unwrap();
            let error = difference(&run(&model, given), &expected[..batch * info.classes.len()]);
            assert!(error < TOLERANCE, "{network:?}, {:?}, batch of {batch}: {error:.1e}", options.norms);
        }
    }
}

#[test]
fn raw_pixels_are_normalised_inside_and_images_lie_either_way() {
    let size = [12, 8];
    let [height, width] = size;
    let mean = generate("input", 5, &[height * width * 3]).iter().map(|u| u / 4. + 0.5).collect();
    let bytes: Vec<u8> = (0..2 * height * width * 3).map(|index| (index * 89 % 256) as u8).collect();
    for normalisation in [per_channel(), Normalisation::PerPixelMean { mean }] {
        let (info, tensors) = weights_of(&NetworkOptions::named("preresnet14"), size, normalisation);
        let mut normalised = vec![0.; bytes.len()];
        for (bytes, normalised) in
            bytes.chunks(height * width * 3).zip(normalised.chunks_mut(height * width * 3))
        {
            info.normalisation.apply(bytes, normalised);
        }
        let expected = logits(&info, &tensors, &normalised);
        for axes in [AxisOrder::Nchw, AxisOrder::Nhwc] {
            let options = |pixels| OnnxOptions { pixels, axes, ..OnnxOptions::default() };
            let shape = match axes {
                AxisOrder::Nchw => [2, 3, height, width],
                AxisOrder::Nhwc => [2, height, width, 3],
            };
            let is_nchw = axes == AxisOrder::Nchw;
            let values = if is_nchw { planes(&normalised, size) } else { normalised.clone() };
            let file = encode(&info, tensors.clone(), options(Pixels::Normalised)).unwrap();
            let of_normalised = run(&load(&file), Value::from_shape(shape, values).unwrap());
            let values = if is_nchw { planes(&bytes, size) } else { bytes.clone() };
            let file = encode(&info, tensors.clone(), options(Pixels::Raw)).unwrap();
            let of_raw = run(&load(&file), Value::from_shape(shape, values).unwrap());
            for found in [&of_normalised, &of_raw] {
                let error = difference(found, &expected);
                assert!(error < TOLERANCE, "{:?} {axes}: {error:.1e}", info.normalisation.kind());
            }
        }
    }
}

#[test]
fn probabilities_are_a_softmax_of_the_logits() {
    let size = [8, 8];
    let (mut info, tensors) = weights_of(&NetworkOptions::named("resnet8"), size, per_channel());
    let images = images(1, size);
    let logits = logits(&info, &tensors, &images);
    let options = OnnxOptions { scores: Scores::Probabilities, ..OnnxOptions::default() };
    let hot = Temperature::new(2.5).unwrap();
    for (temperature, expected) in [(None, likeliest(&logits, 10)), (Some(hot), hot.likeliest(&logits, 10))] {
        info.temperature = temperature;
        let file = encode(&info, tensors.clone(), options).unwrap();
        assert_eq!(file.output.to_string(), "probabilities float32 [batch, 10]");
        let found = run(&load(&file), Value::from_shape([1, 3, 8, 8], planes(&images, size)).unwrap());
        for prediction in expected {
            let error = f64::from((found[prediction.class] - prediction.probability).abs());
            assert!(error < TOLERANCE, "class {}: {error:.1e}", prediction.class);
        }
    }
}

#[test]
fn norms_behind_convolutions_are_folded_or_all_are_kept() {
    for (network, folded) in [
        // BN stands behind convolutions only.
        ("resnet20", 0),
        // Those in front of the units, but for the first, which stands behind the stem's convolution, and the one behind the last.
        ("preresnet20", 9),
        ("preresnet18", 8),
    ] {
        let size = [32, 32];
        let (info, tensors) = weights_of(&NetworkOptions::named(network), size, per_channel());
        let all = tensors.keys().filter(|name| name.ends_with("running_var")).count();
        let count = |options: OnnxOptions| {
            let bytes = encode(&info, tensors.clone(), options).unwrap().bytes;
            bytes.windows(18).filter(|part| part == b"BatchNormalization").count()
        };
        assert_eq!(FORMS.map(count), [folded, all], "{network}");
    }
}

#[test]
fn a_file_says_what_it_is() {
    let size = [12, 8];
    let (info, tensors) = weights_of(&NetworkOptions::named("resnet8"), size, per_channel());
    let raw = OnnxOptions { pixels: Pixels::Raw, axes: AxisOrder::Nhwc, ..OnnxOptions::default() };
    let file = encode(&info, tensors, raw).unwrap();
    assert_eq!(file.input.to_string(), "images uint8 [batch, 12, 8, 3]");
    assert_eq!(file.output.to_string(), "logits float32 [batch, 10]");
    let json = serde_json::to_string(&file.input).unwrap();
    assert_eq!(json, r#"{"name":"images","type":"uint8","shape":["batch",12,8,3]}"#);
    for part in ["resnet8: original ordering", "identity shortcut", "10 classes", "images of 12x8"] {
        assert!(file.description.contains(part), "{part}: {}", file.description);
    }
    let model = load(&file);
    let metadata = model.metadata();
    assert_eq!(metadata.producer_name(), Some("residua"));
    assert_eq!(metadata.producer_version(), Some(env!("CARGO_PKG_VERSION")));
    let known = info.to_metadata();
    let found: BTreeMap<_, _> =
        known.keys().map(|key| (key.clone(), metadata.get(key).unwrap().to_owned())).collect();
    assert_eq!(WeightsInfo::from_metadata(&found).unwrap(), info);
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let size = [12, 8];
    let (mut info, mut tensors) = weights_of(&NetworkOptions::named("resnet8"), size, per_channel());
    let refused = |info: &WeightsInfo, tensors: &NamedTensors, options| {
        encode(info, tensors.clone(), options).unwrap_err().to_string()
    };
    let raw = OnnxOptions { pixels: Pixels::Raw, ..OnnxOptions::default() };
    info.height = 13;
    let message = refused(&info, &tensors, raw);
    assert!(message.contains("input of 13x8"), "{message}");
    info.height = 12;
    info.normalisation = Normalisation::PerPixelMean { mean: vec![0.5; 3] };
    let message = refused(&info, &tensors, raw);
    assert!(message.contains("its mean image has 3 numbers, but an image is 12x8x3"), "{message}");
    // Where it stays outside, it is nobody's business here.
    assert!(encode(&info, tensors.clone(), OnnxOptions::default()).is_ok());
    tensors.remove("stages.1.0.norm1.bias");
    let message = refused(&info, &tensors, OnnxOptions::default());
    assert!(message.contains("'stages.1.0.norm1.bias' is missing"), "{message}");
}

/// A network's weights, and what their file would say of them.
fn weights_of(
    network: &NetworkOptions,
    size: [usize; 2],
    normalisation: Normalisation,
) -> (WeightsInfo, NamedTensors) {
    let config = network.resolve(10).unwrap();
    let tensors = generated(config.tensor_shapes().unwrap());
    (info(config, size, normalisation), tensors)
}

/// Running statistics that have moved, gammas of either sign.
fn generated(shapes: BTreeMap<String, Vec<usize>>) -> NamedTensors {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = generate(&name, 3, &shape);
        (name, TensorValues { shape, values })
    };
    shapes.into_iter().map(tensor).collect()
}

fn info(
    network: impl Into<Architecture>,
    [height, width]: [usize; 2],
    normalisation: Normalisation,
) -> WeightsInfo {
    let network = network.into();
    let classes = (0..network.classes()).map(|class| format!("class \"{class}\"")).collect();
    WeightsInfo {
        network,
        classes,
        height,
        width,
        shorter_side: height.min(width),
        normalisation,
        ranges: None,
        temperature: None,
    }
}

fn per_channel() -> Normalisation {
    Normalisation::PerChannel { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] }
}

/// `[batch, height, width, 3]`
fn images(batch: usize, [height, width]: [usize; 2]) -> Vec<f32> {
    generate("input", 1, &[batch, height, width, 3])
}

/// `[batch, 3, height, width]` of `[batch, height, width, 3]`.
fn planes<T: Copy>(images: &[T], [height, width]: [usize; 2]) -> Vec<T> {
    let of_image = |image: &[T]| {
        (0..3).flat_map(|channel| image.iter().skip(channel).step_by(3).copied()).collect::<Vec<_>>()
    };
    images.chunks(height * width * 3).flat_map(of_image).collect()
}

/// What inference here makes of images `[batch, height, width, 3]`.
fn logits(info: &WeightsInfo, tensors: &NamedTensors, images: &[f32]) -> Vec<f32> {
    let WeightsInfo { network, height, width, .. } = info;
    let network = network.residual().unwrap();
    let classifier = Classifier::new(network, tensors.clone(), [*height, *width], NonZeroUsize::MIN).unwrap();
    let mut logits = vec![f32::NAN; images.len() / classifier.image_len() * classifier.classes()];
    classifier.logits(images, &mut logits);
    logits
}

/// The file in the runtime, which sees in it what it says of itself.
fn load(file: &OnnxFile) -> Model {
    let model = Model::load(file.bytes.clone()).unwrap();
    for (port, ids) in [(&file.input, model.input_ids()), (&file.output, model.output_ids())] {
        let &[id] = ids else { panic!("{ids:?}") };
        let info = model.node_info(id).unwrap();
        let shape = port.shape.iter().map(|axis| match axis {
            Axis::Batch => Dimension::Symbolic("batch".to_owned()),
            Axis::Fixed(length) => Dimension::Fixed(*length),
        });
        assert_eq!(info.name(), Some(port.name));
        assert_eq!(info.shape(), Some(shape.collect()));
    }
    model
}

fn run(model: &Model, images: Value) -> Vec<f32> {
    let scores = model.run_one(images.into(), None).unwrap();
    scores.into_shape_vec::<f32, 2>().unwrap().1
}

/// The largest difference over the largest value.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    // A comparison that NaN fails.
    let worst = differences.fold(0f32, |worst, one| if one <= worst { worst } else { one });
    f64::from(worst / largest)
}
