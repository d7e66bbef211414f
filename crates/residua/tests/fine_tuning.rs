//! Networks of which parts are frozen, or learn at other rates, or begin from weights for other classes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use residua::data::{Batch, Dataset};
use residua::infer::StoredWeights;
use residua::nn::{
    Memory, MemoryChoice, MemoryPlan, NamedTensors, NetworkError, NetworkOptions, Ordering, Part, Parts,
    Pass, ResNet, ResNetConfig, TensorValues, Trunk, is_trained,
};
use residua::ops::Engine;
use residua::run::{FineTuning, LearningRates, OptimiserOptions, Recipe, RunError, Schedule};
use residua::train::{
    InitialWeights, LoadedClassifier, Machine, Observer, Progress, RunImages, Sgd, Trainer, backward,
    cross_entropy, step,
};

const BATCH: usize = 4;
const SIZE: usize = 8;
const CLASSES: usize = 5;

fn batch() -> Batch {
    let value = |index: usize| (index * 7919 % 1009) as f32 / 504.5 - 1.;
    let labels = (0..BATCH as u16).map(|index| index * 3 % CLASSES as u16).collect();
    let images = (0..BATCH * SIZE * SIZE * 3).map(value).collect();
    Batch::new(images, labels, SIZE, SIZE)
}

fn parts(text: &str) -> Parts {
    text.split(',').map(|part| part.parse::<Part>().unwrap()).collect()
}

fn config(model: &str, refine: impl Fn(&mut NetworkOptions)) -> ResNetConfig {
    let mut options = NetworkOptions::named(model);
    refine(&mut options);
    options.resolve(CLASSES).unwrap()
}

fn ordering(model: &str, ordering: Ordering) -> ResNetConfig {
    config(model, |options| options.ordering = Some(ordering))
}

/// A network whose weights and running statistics have moved from where a new one's are.
fn trained(config: &ResNetConfig) -> ResNet {
    let mut network = ResNet::init(config, 5, &Device::flex().autodiff()).unwrap();
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    for iteration in 0..4 {
        (network, _) = step(network, &mut sgd, &batch(), Pass::train(5, iteration), 0.05).unwrap();
    }
    network
}

fn lies_in(parts: &Parts, name: &str) -> bool {
    parts.contains(Part::of_tensor(name).unwrap())
}

fn bits(tensor: &TensorValues) -> Vec<u32> {
    tensor.values.iter().map(|value| value.to_bits()).collect()
}

/// The largest difference, by the largest value.
fn distance(expected: &TensorValues, actual: &TensorValues) -> f32 {
    assert_eq!(expected.shape, actual.shape);
    let scale = expected.values.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
    let differences = expected.values.iter().zip(&actual.values).map(|(a, b)| (a - b).abs());
    differences.fold(0f32, f32::max) / scale
}

#[track_caller]
fn assert_near(what: &str, expected: &NamedTensors, actual: &NamedTensors) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in expected {
        let distance = distance(expected, &actual[name]);
        assert!(distance < 2e-4, "{what}: {name} differs by {distance}");
    }
}

fn gradients(network: &ResNet, engine: Engine) -> (NamedTensors, f64) {
    let mut pass = Pass::train(5, 9).with_engine(engine);
    let learnt = backward(network, &batch(), &mut pass).unwrap();
    (network.gradients(&learnt.gradients), learnt.outcome().loss)
}

/// Those of the whole network in its evaluation form, by Burn's own operations and autodiff.
fn gradients_in_evaluation_form(network: &ResNet) -> (NamedTensors, f64) {
    let Batch { images, labels, .. } = batch();
    let data = TensorData::new(images, [BATCH, SIZE, SIZE, 3]);
    let images = Tensor::<4>::from_data(data, &network.device()).permute([0, 3, 1, 2]);
    let logits = network.forward(images, &mut Pass::evaluate().with_engine(Engine::Composed)).unwrap();
    let loss = cross_entropy(logits, &labels);
    let value = loss.clone().into_data().convert::<f32>().try_into_vec::<f32>().unwrap()[0];
    (network.gradients(&loss.backward()), f64::from(value))
}

/// Frozen parts lie in front of and behind what is trained here; all BN is frozen.
#[test]
fn gradients_are_those_of_frozen_parts_in_their_evaluation_form() {
    let everything_between = "stage1,stage2,stage3,norm";
    let shortcut =
        |shortcut: &str| config("preresnet20", |options| options.shortcut = Some(shortcut.parse().unwrap()));
    for (name, config, frozen) in [
        ("classifier alone", config("preresnet20", |_| {}), "stem,stage1,stage2,stage3,norm"),
        ("original, classifier alone", config("resnet20", |_| {}), "stem,stage1,stage2,stage3"),
        ("stem and classifier", config("preresnet20", |_| {}), everything_between),
        ("stem alone", config("preresnet20", |_| {}), "stage1,stage2,stage3,norm,classifier"),
        (
            "projections",
            config("preresnet20", |options| options.dimensions = Some("b".parse().unwrap())),
            everything_between,
        ),
        ("gates", shortcut("exclusive-gate:-1"), everything_between),
        ("dropout in expectation", shortcut("dropout:0.5"), everything_between),
        (
            "bottlenecks",
            config("preresnet29", |options| options.block = Some("bottleneck".parse().unwrap())),
            everything_between,
        ),
    ] {
        let (network, frozen) = (trained(&config), parts(frozen));
        let (mut expected, loss) = gradients_in_evaluation_form(&network);
        expected.retain(|name, _| !lies_in(&frozen, name));
        let network = network.freeze(&frozen).unwrap();
        for &engine in Engine::ALL {
            let (found, found_loss) = gradients(&network, engine);
            assert_near(&format!("{name}, {engine}"), &expected, &found);
            assert!((loss - found_loss).abs() < 1e-5 * loss.abs().max(1.), "{name}: {loss} {found_loss}");
        }
    }
}

/// Trained and frozen BN in one network, in every ordering: the fused operations against Burn's own.
#[test]
fn engines_agree_on_the_gradients_beside_frozen_parts() {
    for &ordering in Ordering::ALL {
        for frozen in ["stem", "stem,stage1,stage2", "stage2", "stem,stage2,classifier", "stage3"] {
            let network = trained(&self::ordering("resnet20", ordering)).freeze(&parts(frozen)).unwrap();
            let [(composed, _), (fused, _)] =
                [Engine::Composed, Engine::Fused].map(|engine| gradients(&network, engine));
            assert!(composed.keys().all(|name| !lies_in(&parts(frozen), name)), "{frozen}");
            assert_near(&format!("{ordering}, {frozen} frozen"), &composed, &fused);
        }
    }
}

/// Frozen tensors, running statistics among them, keep their bits and have no momentum; all others move; all modes agree.
#[test]
fn what_is_frozen_stays_and_all_else_learns_the_same_in_every_mode() {
    let mut networks: Vec<_> =
        Ordering::ALL.iter().map(|&ordering| self::ordering("resnet20", ordering)).collect();
    networks.push(config("preresnet56", |options| options.bn_group = Some(2)));
    networks.push(config("preresnet20", |options| options.shortcut = Some("dropout:0.5".parse().unwrap())));
    networks.push(config("preresnet20", |options| options.trunk = Some(Trunk::Bf16)));
    networks.push(config("resnet20", |options| options.trunk = Some(Trunk::Bf16)));
    for config in networks {
        for frozen in
            ["stem", "stem,stage1", "stem,stage1,stage2,stage3", "stage2", "stem,stage1,stage3,classifier"]
        {
            let (before, frozen) = (trained(&config), parts(frozen));
            let name = format!("{}, {}, {frozen} frozen", config.ordering, config.shortcut);
            let mut first: Option<(NamedTensors, NamedTensors)> = None;
            for &memory in Memory::ALL {
                let mut network = before.clone().freeze(&frozen).unwrap();
                let mut sgd = Sgd::new(&OptimiserOptions::default());
                for iteration in 0..2 {
                    let pass = Pass::train(5, 10 + iteration).with_memory(memory);
                    (network, _) = step(network, &mut sgd, &batch(), pass, 0.05).unwrap();
                }
                let (after, momentum) = (network.tensors(), sgd.tensors(&network));
                for (tensor, values) in before.tensors() {
                    let (has_moved, is_frozen) =
                        (bits(&values) != bits(&after[&tensor]), lies_in(&frozen, &tensor));
                    assert_eq!(has_moved, !is_frozen, "{name}, {memory}: {tensor}");
                    let has_momentum = momentum.contains_key(&tensor);
                    assert_eq!(has_momentum, !is_frozen && is_trained(&tensor), "{name}: {tensor}");
                }
                let (expected, of_momentum) = first.get_or_insert_with(|| (after.clone(), momentum.clone()));
                assert!(*expected == after && *of_momentum == momentum, "{name}, {memory}");
            }
        }
    }
}

#[test]
fn what_is_frozen_can_be_trained_again() {
    let config = config("preresnet20", |_| {});
    let network = trained(&config);
    let (expected, _) = gradients(&network, Engine::Fused);
    let network = network.freeze(&parts("stem,stage2")).unwrap().freeze(&Parts::default()).unwrap();
    assert!(gradients(&network, Engine::Fused).0 == expected);
    assert_eq!(
        network.clone().freeze(&parts("stage4")).err().unwrap().to_string(),
        "the network has no stage4; its parts are stem, stage1, stage2, stage3, norm, classifier"
    );
    let all = network.plan().parts().into_iter().collect();
    assert_eq!(network.freeze(&all).err(), Some(NetworkError::AllFrozen));
}

#[test]
fn less_memory_is_predicted_the_more_is_frozen_in_front() {
    let config = NetworkOptions::named("preresnet110").resolve(10).unwrap();
    for &memory in Memory::ALL {
        let peak = |frozen: &str| {
            let frozen =
                frozen.split(',').filter(|part| !part.is_empty()).map(|part| part.parse::<Part>().unwrap());
            MemoryPlan::of_frozen(&config, &frozen.collect(), 128, 32, 32, memory).unwrap().peak_bytes
        };
        let peaks = ["", "stem,stage1", "stem,stage1,stage2", "stem,stage1,stage2,stage3,norm"].map(peak);
        assert!(peaks.is_sorted_by(|more, less| more > less), "{memory}: {peaks:?}");
        assert_eq!(peak(""), MemoryPlan::of(&config, 128, 32, 32, memory).unwrap().peak_bytes);
        // Behind what is trained all maps are kept; only momentum and gradients of weights are not.
        assert!(peak("stage3") > peak("stem,stage1"));
    }
}

/// One step by hand, in f64: `w - rate * (g + decay * w)` with a rate for each part.
#[test]
fn each_part_learns_at_its_own_rate() {
    const RATE: f64 = 0.05;
    let mut options = FineTuning::default();
    options.layer_decay = Some(0.5);
    options.classifier_learning_rate = Some(0.4);
    options.frozen = parts("stage2");
    let network = trained(&config("preresnet20", |_| {})).freeze(&options.frozen).unwrap();
    let (before, (gradients, _)) = (network.tensors(), gradients(&network, Engine::Fused));
    // The schedule's rate is twice that of the step.
    let mut sgd =
        Sgd::new(&OptimiserOptions::default()).with_learning_rates(LearningRates::new(&options, 2. * RATE));
    let (network, _) = step(network, &mut sgd, &batch(), Pass::train(5, 9), RATE).unwrap();
    let after = network.tensors();
    let rates = BTreeMap::from([
        (Part::Stem, RATE / 16.),
        (Part::Stage(1), RATE / 8.),
        (Part::Stage(3), RATE / 2.),
        (Part::Norm, RATE / 2.),
        (Part::Classifier, 0.2),
    ]);
    let mut checked = 0;
    for (name, gradient) in &gradients {
        let rate = rates[&Part::of_tensor(name).unwrap()];
        let values = before[name].values.iter().zip(&gradient.values).zip(&after[name].values);
        for ((&weight, &gradient), &after) in values {
            let (weight, gradient) = (f64::from(weight), f64::from(gradient));
            let expected = weight - rate * (gradient + 1e-4 * weight);
            let error = (expected - f64::from(after)).abs();
            assert!(error <= 1e-7 * weight.abs().max(1.), "{name}: {expected} {after}");
            checked += 1;
        }
    }
    let trained = before.iter().filter(|(name, _)| is_trained(name) && !lies_in(&options.frozen, name));
    assert_eq!(checked, trained.map(|(_, tensor)| tensor.values.len()).sum::<usize>());
}

/// Noise, brighter from class to class.
fn noise(images: usize, classes: usize, name: &str) -> Dataset {
    let labels: Vec<u16> = (0..images).map(|image| (image % classes) as u16).collect();
    let pixel = |k: usize| {
        let label = k / (SIZE * SIZE * 3) % classes;
        ((k * 7919) % 151 + 100 * label / classes) as u8
    };
    let pixels = (0..images * SIZE * SIZE * 3).map(pixel).collect();
    let classes = (0..classes).map(|class| format!("{name} {class}")).collect();
    Dataset::new("noise", classes, (SIZE, SIZE), pixels, labels).unwrap()
}

fn trainer(classes: usize, name: &str, change: impl FnOnce(&mut Recipe)) -> Trainer {
    let mut recipe = Recipe::new(NetworkOptions::named("preresnet8"), Schedule::new(6, 0.05));
    recipe.optimiser.batch = 4;
    recipe.seed = 7;
    change(&mut recipe);
    let images = RunImages::own(noise(20, classes, name), noise(10, classes, name)).unwrap();
    let memory = MemoryChoice::Mode(Memory::Fast);
    let machine = Machine::default().with_memory(memory).with_events(false);
    Trainer::new(recipe).with_images(images).with_machine(machine)
}

fn tensors(checkpoint: &Path) -> NamedTensors {
    StoredWeights::read(&checkpoint.join("weights.safetensors")).unwrap().tensors
}

struct StopsAfter(u64);

impl Observer for StopsAfter {
    fn stepped(&mut self, progress: &Progress) {
        assert!(progress.iteration <= 3);
        self.0 = progress.iteration;
    }

    fn wants_to_stop(&mut self) -> bool {
        self.0 >= 3
    }
}

#[test]
fn a_run_with_frozen_parts_goes_on_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    for frozen in ["stem,stage1", "stage2"] {
        let trainer = trainer(3, "class", |recipe| {
            recipe.fine_tuning.frozen = parts(frozen);
            recipe.fine_tuning.classifier_learning_rate = Some(0.1);
            recipe.fine_tuning.layer_decay = Some(0.75);
            recipe.intervals.norms = Some(2);
        });
        let expected = trainer.clone().start(&whole).unwrap().train(&mut ()).unwrap();
        let stopped = trainer.clone().start(&halves).unwrap().train(&mut StopsAfter(0)).unwrap();
        assert_eq!(stopped.iteration, 3);
        let resumed = trainer.resume(&halves).unwrap().train(&mut ()).unwrap();
        for file in ["weights.safetensors", "optimiser.safetensors"] {
            let [expected, resumed] =
                [&expected, &resumed].map(|run| fs::read(run.checkpoint.join(file)).unwrap());
            assert!(expected == resumed, "{frozen}: {file}");
        }
        let momentum =
            StoredWeights::read(&resumed.checkpoint.join("optimiser.safetensors")).unwrap().tensors;
        assert!(!momentum.is_empty() && momentum.keys().all(|name| !lies_in(&parts(frozen), name)));
        fs::remove_dir_all(&whole).unwrap();
        fs::remove_dir_all(&halves).unwrap();
    }
}

#[test]
fn weights_for_other_classes_leave_the_classifier_new() {
    let folder = tempfile::tempdir().unwrap();
    let first =
        trainer(3, "class", |_| {}).start(folder.path().join("first")).unwrap().train(&mut ()).unwrap();
    let weights = tensors(&first.checkpoint);
    let new = |classes: usize| {
        let config = NetworkOptions::named("preresnet8").resolve(classes).unwrap();
        ResNet::init(&config, 8, &Device::flex()).unwrap().tensors()
    };
    let seeded = |recipe: &mut Recipe| recipe.seed = 8;
    for (name, classes, weights, is_new) in [
        ("more", 4, InitialWeights::new(weights.clone()), true),
        ("same", 3, InitialWeights::new(weights.clone()), false),
        ("asked", 3, InitialWeights::new(weights.clone()).with_new_classifier(), true),
    ] {
        let run =
            trainer(classes, "other", seeded).start_from(weights.clone(), folder.path().join(name)).unwrap();
        let loaded = run.loaded_weights().unwrap().clone();
        drop(run);
        let found = tensors(&folder.path().join(name).join("checkpoints/iteration-00000000"));
        let (from, own) = (tensors(&first.checkpoint), new(classes));
        for (tensor, values) in &found {
            let is_classifier = tensor.starts_with("classifier.");
            let expected = if is_new && is_classifier { &own[tensor] } else { &from[tensor] };
            assert!(bits(values) == bits(expected), "{name}: {tensor}");
        }
        let of_classifier = ["classifier.bias", "classifier.weight"].map(str::to_owned);
        let expected = if is_new { of_classifier.to_vec() } else { vec![] };
        assert_eq!((&loaded.replaced, &loaded.skipped), (&expected, &expected), "{name}");
        assert_eq!(loaded.loaded.len() + loaded.replaced.len(), found.len());
        let classifier =
            if is_new { LoadedClassifier::New { classes: Some(3) } } else { LoadedClassifier::Same };
        assert_eq!(loaded.classifier, classifier, "{name}");
    }

    let mut headless = weights.clone();
    headless.retain(|name, _| !name.starts_with("classifier."));
    let run = trainer(3, "class", seeded)
        .start_from(InitialWeights::new(headless), folder.path().join("headless"))
        .unwrap();
    assert_eq!(run.loaded_weights().unwrap().classifier, LoadedClassifier::New { classes: None });
    assert_eq!(run.loaded_weights().unwrap().skipped.len(), 0);
    assert!(
        trainer(3, "class", |_| {}).start(folder.path().join("random")).unwrap().loaded_weights().is_none()
    );

    let mut stray = weights.clone();
    stray.insert("fc.weight".to_owned(), weights["classifier.weight"].clone());
    let mut half = weights.clone();
    half.remove("classifier.bias");
    let mut narrow = weights.clone();
    narrow.insert("classifier.weight".to_owned(), TensorValues { shape: vec![3, 7], values: vec![0.; 21] });
    for (tensors, part) in [
        (stray, "'fc.weight' is unknown"),
        (half, "'classifier.bias' is missing"),
        (narrow, "'classifier.weight' has shape [3, 7]"),
    ] {
        let run =
            trainer(3, "class", |_| {}).start_from(InitialWeights::new(tensors), folder.path().join("wrong"));
        let Err(RunError::Network(NetworkError::Weights(error))) = run.map(drop) else { panic!("{part}") };
        assert!(error.contains(part), "{error}");
    }
    assert!(!folder.path().join("wrong").exists());
}
