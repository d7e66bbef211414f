//! Several batches that make one step have the gradient of one batch as large as all, with their statistics each.

use residua::data::Batch;
use residua::device::Device;
use residua::nn::{Memory, NamedTensors, NetworkOptions, Pass, ResNet, Shortcut};
use residua::run::{LossKind, LossOptions};
use residua::train::{Loss, StepOutcome, backward_of};

const SIZE: usize = 16;
const CLASSES: usize = 4;
const GROUP: usize = 4;

fn images(count: usize) -> Batch {
    let value = |place: usize| ((place * 7919 + place / 31) % 211) as f32 / 105. - 1.;
    let pixels = (0..count * SIZE * SIZE * 3).map(value).collect();
    Batch::new(pixels, (0..count).map(|image| (image * image % CLASSES) as u16).collect(), SIZE, SIZE)
}

/// The images in batches of a group each.
fn in_groups(batch: &Batch) -> Vec<Batch> {
    let pixels = batch.images.chunks_exact(GROUP * SIZE * SIZE * 3);
    let labels = batch.labels.chunks_exact(GROUP);
    pixels
        .zip(labels)
        .map(|(pixels, labels)| Batch::new(pixels.to_vec(), labels.to_vec(), SIZE, SIZE))
        .collect()
}

fn passed(
    options: &NetworkOptions,
    batches: &[Batch],
    loss: &Loss,
    memory: Memory,
) -> (NamedTensors, NamedTensors, StepOutcome) {
    let config = options.resolve(CLASSES).unwrap();
    let network = ResNet::init(&config, 3, &Device::flex().autodiff()).unwrap();
    let mut pass = Pass::train(5, 7).with_memory(memory);
    let learnt = backward_of(&network, batches, loss, &mut pass).unwrap();
    let gradients = network.gradients(&learnt.gradients);
    (gradients, network.absorb(pass).tensors(), learnt.outcome())
}

fn assert_close(found: &NamedTensors, expected: &NamedTensors) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let largest = expected
        .values()
        .flat_map(|tensor| &tensor.values)
        .fold(0f32, |largest, value| largest.max(value.abs()));
    for (name, expected) in expected {
        for (found, expected) in found[name].values.iter().zip(&expected.values) {
            assert!((found - expected).abs() < 1e-5 * largest, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn batches_of_a_step_are_groups_of_one_batch() {
    let one = images(3 * GROUP);
    let several = in_groups(&one);
    let mut smoothed = LossOptions::default();
    smoothed.label_smoothing = 0.1;
    let mut binary = LossOptions::default();
    binary.kind = LossKind::BinaryCrossEntropy;
    let weights = vec![0.5, 2., 1., 3.];
    let losses = [
        Loss::default(),
        Loss::new(&smoothed, Vec::new()),
        Loss::new(&smoothed, weights.clone()),
        Loss::new(&binary, weights),
    ];
    let mut networks = [NetworkOptions::named("preresnet8"), NetworkOptions::named("resnet11")];
    networks[0].shortcut = Some(Shortcut::Dropout { probability: 0.5 });
    for (number, loss) in losses.iter().enumerate() {
        let options = &networks[number % networks.len()];
        let mut grouped = options.clone();
        grouped.bn_group = Some(GROUP);
        for memory in [Memory::Fast, Memory::Lean] {
            let expected = passed(&grouped, std::slice::from_ref(&one), loss, memory);
            let found = passed(options, &several, loss, memory);
            assert_close(&found.0, &expected.0);
            assert_close(&found.1, &expected.1);
            assert!((found.2.loss - expected.2.loss).abs() < 1e-5 * expected.2.loss);
            assert_eq!(found.2.misclassified, expected.2.misclassified);
        }
    }
}

#[test]
fn one_batch_alone_is_an_ordinary_step() {
    let one = images(GROUP);
    let options = NetworkOptions::named("preresnet8");
    let (gradients, ..) = passed(&options, std::slice::from_ref(&one), &Loss::default(), Memory::Fast);
    let config = options.resolve(CLASSES).unwrap();
    let network = ResNet::init(&config, 3, &Device::flex().autodiff()).unwrap();
    let learnt = residua::train::backward(&network, &one, &mut Pass::train(5, 7)).unwrap();
    assert_eq!(network.gradients(&learnt.gradients), gradients);
}
