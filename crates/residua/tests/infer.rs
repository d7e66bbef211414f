//! Inference without tensors against the training path's evaluation mode.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use residua::evaluate::to_host;
use residua::export::int8_file;
use residua::infer::normalisation::KnownNormalisation;
use residua::infer::{
    Classifier, ClassifierOptions, ClassifierPrecision, InputRanges, Precision, WeightsInfo, likeliest,
};
use residua::nn::{Architecture, NamedTensors, NetworkOptions, Ordering, Pass, ResNet};

const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// The network with normalisations that are none of the initial ones.
fn network(options: &NetworkOptions, classes: usize, seed: u64) -> (ResNet, NamedTensors) {
    let device = Device::flex();
    let network = ResNet::init(&options.resolve(classes).unwrap(), seed, &device).unwrap();
    let mut tensors = network.tensors();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, tensor) in &mut tensors {
        let is_norm = name.contains("norm.") || name.contains(".norm");
        for value in tensor.values.iter_mut().filter(|_| is_norm) {
            let u: f32 = random.random_range(-1f32..1.);
            *value =
                if name.ends_with("weight") || name.ends_with("running_var") { 1. + u / 2. } else { u / 3. };
        }
    }
    let network = network.with_tensors(&tensors).unwrap();
    (network, tensors)
}

/// Logits by both ways, of images `[batch, height, width, 3]`.
fn both(options: &NetworkOptions, batch: usize, size: [usize; 2], seed: u64) -> [Vec<f32>; 2] {
    both_in(Computing::F32, options, batch, size, seed)
}

/// What a classifier computes in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Computing {
    F32,
    Bf16,
    Int8,
}

impl Computing {
    /// Those that this processor has.
    fn available() -> impl Iterator<Item = Self> {
        let has_bf16 = Precision::Bf16.check().map_err(|reason| eprintln!("skipped: {reason}")).is_ok();
        let all = [Self::F32, Self::Bf16, Self::Int8].into_iter();
        all.filter(move |computing| *computing != Self::Bf16 || has_bf16)
    }

    /// Of a rounding to bfloat16, 0.4 %, or to bytes, each map is one.
    fn bound(self) -> f32 {
        match self {
            Self::F32 => 2e-5,
            Self::Bf16 => 0.1,
            Self::Int8 => 0.15,
        }
    }

    /// The ranges are those of `images`.
    fn classifier(
        self,
        threads: NonZeroUsize,
        network: &ResNet,
        tensors: &NamedTensors,
        size: [usize; 2],
        images: &[f32],
    ) -> Classifier {
        let of = |precision| {
            let options = ClassifierOptions { threads, precision: Some(precision) };
            Classifier::new(network.config(), tensors.clone(), size, options).unwrap()
        };
        match self {
            Self::F32 => of(ClassifierPrecision::F32),
            Self::Bf16 => of(ClassifierPrecision::Bf16),
            Self::Int8 => {
                let ranges = of(ClassifierPrecision::F32).input_ranges(images);
                of(ClassifierPrecision::Int8(ranges))
            }
        }
    }
}

fn both_in(
    computing: Computing,
    options: &NetworkOptions,
    batch: usize,
    size: [usize; 2],
    seed: u64,
) -> [Vec<f32>; 2] {
    let classes = 7;
    let (network, tensors) = network(options, classes, seed);
    let [height, width] = size;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 1);
    let images: Vec<f32> = (0..batch * height * width * 3).map(|_| random.random_range(-2f32..2.)).collect();
    let tensor =
        Tensor::<4>::from_data(TensorData::new(images.clone(), [batch, height, width, 3]), &Device::flex());
    let expected = network.forward(tensor.permute([0, 3, 1, 2]), &mut Pass::evaluate()).unwrap();
    let classifier = computing.classifier(THREADS, &network, &tensors, size, &images);
    let mut logits = vec![f32::NAN; batch * classes];
    classifier.logits(&images, &mut logits);
    [logits, to_host(expected)]
}

/// The largest difference over the largest logit.
fn difference([found, expected]: [Vec<f32>; 2]) -> f32 {
    let largest = expected.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    let worst = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
    // A comparison that NaN fails.
    worst.fold(0f32, |worst, difference| if difference <= worst { worst } else { difference }) / largest
}

#[test]
fn every_ordering_and_shortcut_gives_the_training_paths_logits() {
    for computing in Computing::available() {
        assert_variants_agree(computing);
    }
}

fn assert_variants_agree(computing: Computing) {
    let bound = computing.bound();
    let shortcuts = [
        "identity",
        "scale:0.5,0.7",
        "scale:0.9,-0.5",
        "exclusive-gate:-1",
        "shortcut-gate:0.5",
        "conv1x1",
        "dropout:0.3",
    ];
    for &ordering in Ordering::ALL {
        for shortcut in shortcuts {
            for (model, block) in [("resnet14", "single"), ("resnet14", "basic"), ("resnet20", "bottleneck")]
            {
                for dimensions in ["a", "b"] {
                    let options = NetworkOptions {
                        ordering: Some(ordering),
                        shortcut: Some(shortcut.parse().unwrap()),
                        block: Some(block.parse().unwrap()),
                        dimensions: Some(dimensions.parse().unwrap()),
                        ..NetworkOptions::named(model)
                    };
                    let worst = difference(both_in(computing, &options, 5, [16, 12], 3));
                    assert!(
                        worst < bound,
                        "{computing:?} {ordering} {shortcut} {block} {dimensions}: {worst}"
                    );
                }
            }
        }
    }
}

#[test]
fn deep_and_imagenet_networks_agree() {
    for (model, batch, size) in [
        ("preresnet110", 2, [32, 32]),
        ("resnet164", 1, [32, 32]),
        ("preresnet50", 1, [64, 96]),
        ("resnet18", 2, [64, 64]),
        ("preresnet18", 1, [32, 64]),
    ] {
        for computing in Computing::available() {
            let worst = difference(both_in(computing, &NetworkOptions::named(model), batch, size, 5));
            assert!(worst < computing.bound(), "{model}, {computing:?}: {worst}");
        }
    }
    for (model, width, batch, size) in [
        ("wrn-10-3", 3, 5, [16, 12]),
        ("wrn-16-8", 8, 1, [32, 32]),
        ("resnet8", 5, 3, [16, 16]),
        ("preresnet20", 2, 2, [32, 32]),
        ("preresnet29", 3, 3, [16, 16]),
        ("resnet18", 2, 1, [32, 64]),
        ("resnet50", 2, 1, [64, 32]),
    ] {
        for computing in Computing::available() {
            let options = NetworkOptions { width: Some(width), ..NetworkOptions::named(model) };
            let worst = difference(both_in(computing, &options, batch, size, 5));
            assert!(worst < computing.bound(), "{model} of width {width}, {computing:?}: {worst}");
        }
    }
    let middle = NetworkOptions {
        stride_placement: Some("middle".parse().unwrap()),
        ..NetworkOptions::named("resnet50")
    };
    let worst = difference(both(&middle, 1, [64, 64], 5));
    assert!(worst < 2e-5, "{worst}");
    for model in ["preresnet18", "preresnet50"] {
        let pool_first = NetworkOptions {
            stem_pooling: Some("pool-first".parse().unwrap()),
            ..NetworkOptions::named(model)
        };
        let worst = difference(both(&pool_first, 2, [64, 32], 5));
        assert!(worst < 2e-5, "{model}: {worst}");
    }
}

#[test]
fn an_image_gets_the_same_logits_in_any_batch_and_from_many_callers() {
    let options = NetworkOptions::named("preresnet20");
    let (network, tensors) = network(&options, 10, 1);
    let classifier = Classifier::new(network.config(), tensors.clone(), [32, 32], THREADS).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let images: Vec<f32> = (0..11 * classifier.image_len()).map(|_| random.random_range(-2f32..2.)).collect();
    let logits = |images: &[f32]| {
        let mut logits = vec![0.; images.len() / classifier.image_len() * 10];
        classifier.logits(images, &mut logits);
        logits
    };
    let together = logits(&images);
    let one_by_one: Vec<f32> = images.chunks(classifier.image_len()).flat_map(&logits).collect();
    let close = |a: &[f32], b: &[f32]| difference([a.to_vec(), b.to_vec()]) < 1e-5;
    assert!(close(&together, &one_by_one));
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (logits, images, together) = (&logits, &images, &together);
            scope.spawn(move || {
                for image in (0..11).cycle().skip(caller).take(22) {
                    let length = images.len() / 11;
                    let alone = logits(&images[image * length..(image + 1) * length]);
                    assert!(close(&alone, &together[image * 10..(image + 1) * 10]), "{caller} {image}");
                }
            });
        }
    });
    assert_eq!(logits(&[]), [0f32; 0]);
}

/// Large images pass the first stages each by itself and the last together: as many as there are, the numbers are the same.
#[test]
fn large_images_get_the_same_bits_in_any_batch() {
    let options = NetworkOptions::named("resnet18");
    let (network, tensors) = network(&options, 10, 1);
    let threads = [1, 3].map(|threads| NonZeroUsize::new(threads).unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let images: Vec<f32> = (0..11 * 96 * 64 * 3).map(|_| random.random_range(-2f32..2.)).collect();
    for (computing, threads) in
        Computing::available().flat_map(|computing| threads.map(|threads| (computing, threads)))
    {
        let classifier = computing.classifier(threads, &network, &tensors, [96, 64], &images);
        let logits = |images: &[f32]| {
            let mut logits = vec![f32::NAN; images.len() / classifier.image_len() * 10];
            classifier.logits(images, &mut logits);
            logits
        };
        let one_by_one: Vec<f32> = images.chunks(classifier.image_len()).flat_map(&logits).collect();
        for batch in [2, 3, 5, 11] {
            let in_batches: Vec<f32> =
                images.chunks(batch * classifier.image_len()).flat_map(&logits).collect();
            assert_eq!(in_batches, one_by_one, "{batch} at a time, {computing:?}");
        }
    }
}

/// The features times the classifier's weights are the logits, of any number of images.
#[test]
fn features_are_what_the_classifier_reads() {
    for (model, ordering) in [
        ("preresnet20", Ordering::FullPreActivation),
        ("resnet29", Ordering::Original),
        ("resnet14", Ordering::ReluOnlyPreActivation),
        ("resnet18", Ordering::Original),
    ] {
        let options = NetworkOptions { ordering: Some(ordering), ..NetworkOptions::named(model) };
        let (network, tensors) = network(&options, 7, 4);
        let classifier = Classifier::new(network.config(), tensors.clone(), [32, 64], THREADS).unwrap();
        let count = classifier.features_len();
        assert_eq!(count, network.plan().head.features);
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for batch in [1, 3, 9] {
            let images: Vec<f32> =
                (0..batch * classifier.image_len()).map(|_| random.random_range(-2f32..2.)).collect();
            let mut features = vec![f32::NAN; batch * count];
            classifier.features(&images, &mut features);
            let mut logits = vec![f32::NAN; batch * 7];
            classifier.logits(&images, &mut logits);
            let tensor = Tensor::<4>::from_data(TensorData::new(images, [batch, 32, 64, 3]), &Device::flex());
            let expected = network.features(tensor.permute([0, 3, 1, 2]), &mut Pass::evaluate()).unwrap();
            assert_eq!(expected.dims(), [batch, count]);
            let worst = difference([features.clone(), to_host(expected)]);
            assert!(worst < 2e-5, "{model} {batch}: {worst}");
            let (weights, bias) = (&tensors["classifier.weight"].values, &tensors["classifier.bias"].values);
            let of_image = |features: &[f32]| -> Vec<f32> {
                let of_class = |(weights, bias): (&[f32], &f32)| {
                    weights.iter().zip(features).fold(*bias, |sum, (weight, feature)| sum + weight * feature)
                };
                weights.chunks_exact(count).zip(bias).map(of_class).collect()
            };
            let classified: Vec<f32> = features.chunks_exact(count).flat_map(of_image).collect();
            let worst = difference([logits, classified]);
            assert!(worst < 1e-6, "{model} {batch}: {worst}");
        }
    }
}

#[test]
fn probabilities_are_a_softmax_and_wrong_networks_are_refused() {
    let (network, mut tensors) = network(&NetworkOptions::named("preresnet8"), 3, 1);
    let found = likeliest(&[1., 1000., 1000.], 2);
    assert_eq!(found.iter().map(|prediction| prediction.class).collect::<Vec<_>>(), [1, 2]);
    assert!(found.iter().all(|prediction| (prediction.probability - 0.5).abs() < 1e-6));
    let refused = |size, tensors: &NamedTensors| {
        Classifier::new(network.config(), tensors.clone(), size, THREADS).unwrap_err().to_string()
    };
    assert!(refused([30, 32], &tensors).contains("multiple"), "{}", refused([30, 32], &tensors));
    tensors.remove("stages.1.0.norm1.bias");
    assert!(refused([32, 32], &tensors).contains("'stages.1.0.norm1.bias' is missing"));
}

/// A file of rounded weights is a network whose weights were rounded: in f32 it differs from bytes only by the rounding of maps.
#[test]
fn an_int8_file_computes_in_bytes_as_its_network_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("int8.safetensors");
    let (network, tensors) = network(&NetworkOptions::named("preresnet20"), 10, 3);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let images: Vec<f32> = (0..6 * 32 * 32 * 3).map(|_| random.random_range(-2f32..2.)).collect();
    let in_f32 = Computing::F32.classifier(THREADS, &network, &tensors, [32, 32], &images);
    let mut info = WeightsInfo {
        network: Architecture::ResNet(network.config().clone()),
        classes: (0..10).map(|class| class.to_string()).collect(),
        height: 32,
        width: 32,
        shorter_side: 32,
        normalisation: KnownNormalisation::Cifar10.normalisation(),
        ranges: Some(in_f32.input_ranges(&images)),
        temperature: None,
    };
    let bytes = int8_file(&info, &tensors, &path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert!(bytes.len() < network.parameters() * 5 / 4 + 20_000, "{}", bytes.len());

    let logits = |precision| {
        let options = ClassifierOptions { threads: THREADS, precision };
        let (classifier, info) = Classifier::load(&path, options).unwrap();
        assert!(info.ranges.is_some());
        let mut logits = vec![f32::NAN; 6 * 10];
        classifier.logits(&images, &mut logits);
        logits
    };
    let read = Computing::Int8.classifier(THREADS, &network, &tensors, [32, 32], &images);
    let mut expected = vec![f32::NAN; 6 * 10];
    read.logits(&images, &mut expected);
    let found = logits(info.ranges.take().map(ClassifierPrecision::Int8));
    // Rounded once or twice, weights are the same bytes; their scales may differ in the last bit.
    assert!(difference([found.clone(), expected]) < 1e-3);
    let in_f32 = logits(Some(ClassifierPrecision::F32));
    let worst = difference([found.clone(), in_f32.clone()]);
    assert!(worst > 0. && worst < Computing::Int8.bound(), "{worst}");
    let by_default = logits(None);
    assert!(by_default == found || by_default == in_f32);
}

#[test]
fn a_range_that_is_missing_is_named() {
    let (network, tensors) = network(&NetworkOptions::named("preresnet8"), 3, 1);
    let precision = Some(ClassifierPrecision::Int8(InputRanges::default()));
    let options = ClassifierOptions { threads: THREADS, precision };
    let error = Classifier::new(network.config(), tensors, [32, 32], options).unwrap_err().to_string();
    assert!(error.contains("'stem.conv.weight'") && error.contains("export"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_batch_and_size_agrees(batch in 1usize..7, height in 1usize..9, width in 1usize..9, seed: u64, is_pre: bool) {
        let model = if is_pre { "preresnet14" } else { "resnet14" };
        let worst = difference(both(&NetworkOptions::named(model), batch, [4 * height, 4 * width], seed));
        prop_assert!(worst < 1e-5, "{worst}");
    }
}

/// The first pass packs weights as it goes, the second finds them packed.
#[test]
fn the_first_pass_gives_the_bits_of_later_ones_whoever_comes_first() {
    for (model, ordering) in [("preresnet20", Ordering::FullPreActivation), ("resnet29", Ordering::Original)]
    {
        let options = NetworkOptions { ordering: Some(ordering), ..NetworkOptions::named(model) };
        let (network, tensors) = network(&options, 10, 1);
        let fresh = || Classifier::new(network.config(), tensors.clone(), [32, 32], THREADS).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let length = fresh().image_len();
        let images: Vec<f32> = (0..8 * length).map(|_| random.random_range(-2f32..2.)).collect();
        let logits = |classifier: &Classifier, images: &[f32]| {
            let mut logits = vec![f32::NAN; images.len() / length * 10];
            classifier.logits(images, &mut logits);
            logits
        };
        // A batch never does without packed weights.
        let expected = logits(&fresh(), &images);
        let classifier = fresh();
        for pass in 0..3 {
            assert!(logits(&classifier, &images[..length]) == expected[..10], "{model}, pass {pass}");
        }
        for _ in 0..20 {
            let classifier = fresh();
            std::thread::scope(|scope| {
                let (logits, classifier, images) = (&logits, &classifier, &images);
                for (image, expected) in images.chunks(length).zip(expected.chunks(10)) {
                    scope.spawn(move || assert!(logits(classifier, image) == expected, "{model}"));
                }
                // A batch wants them packed at once.
                scope.spawn(|| assert!(logits(classifier, images) == expected, "{model}"));
            });
            assert!(logits(&classifier, &images[..length]) == expected[..10], "{model}");
        }
    }
}
