//! Every network against PyTorch's results in f64 (`tests/fixtures`), with both engines.

mod fixture;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use fixture::{Case, Expected, relative_error};
use residua::data::Batch;
use residua::evaluate::to_host;
use residua::nn::{NamedTensors, NetworkOptions, Pass, ResNet, Shortcut};
use residua::ops::Engine;
use residua::run::{DecayScope, OptimiserOptions};
use residua::train::{Sgd, cross_entropy, step};

/// Relative 2-norm of the difference that f32 is allowed.
const TOLERANCE: f64 = 1e-4;

/// The same of what a few steps have trained. A value that rounds across zero switches its ReLU, in one image and pixel of
/// the few there are, and moves what lies below by this much at most.
const TRAINED_TOLERANCE: f64 = 2e-3;

#[test]
fn fused_networks_agree_with_pytorch() {
    check_all(Engine::Fused);
}

#[test]
fn composed_networks_agree_with_pytorch() {
    check_all(Engine::Composed);
}

fn check_all(engine: Engine) {
    let cases = Case::all();
    assert!(cases.len() > 50, "only {} cases", cases.len());
    let mut failures = Vec::new();
    let mut worst: f64 = 0.;
    for case in &cases {
        let mut report = Report { case: &case.name, failures: &mut failures, worst: &mut worst };
        check_first_pass(case, engine, &mut report);
        check_evaluation(case, engine, &mut report);
        if case.sgd.is_some() {
            check_training(case, engine, &mut report);
        }
    }
    println!("{} cases, {engine} engine: worst relative error {worst:.1e}", cases.len());
    assert!(failures.is_empty(), "{} tensors are off:\n{}", failures.len(), failures.join("\n"));
}

/// Logits, loss, gradients of all parameters and of the input, running statistics.
fn check_first_pass(case: &Case, engine: Engine, report: &mut Report) {
    let network = network(case);
    let images = images(case, &network.device()).require_grad();
    let mut pass = pass(case, &network, 0).with_engine(engine);
    let logits = network.forward(images.clone(), &mut pass).unwrap();
    let loss = cross_entropy(logits.clone(), &labels(case));
    report.check("logits", &to_host(logits.inner()), &case.expected("logits"));
    report.number("loss", f64::from(to_host(loss.clone().inner())[0]), case.losses[0]);

    let gradients = loss.backward();
    let input = to_host(images.grad(&gradients).expect("the input requires a gradient"));
    report.check("gradient/input", &input, &case.expected("gradient/input"));
    let actual = network.gradients(&gradients);
    report.tensors("gradient", &actual, case.expected_by_name("gradient"), &["input"]);

    let running = network.absorb(pass).tensors();
    report.tensors("running", &running, case.expected_by_name("running"), &[]);
}

fn check_evaluation(case: &Case, engine: Engine, report: &mut Report) {
    let network = network(case);
    let images = images(case, &network.device());
    let logits = network.forward(images, &mut Pass::evaluate().with_engine(engine)).unwrap();
    report.check("eval_logits", &to_host(logits.inner()), &case.expected("eval_logits"));
}

/// The losses of a few steps of SGD, and tensors after them.
fn check_training(case: &Case, engine: Engine, report: &mut Report) {
    let options = case.sgd.as_ref().expect("the case has steps");
    let mut network = network(case);
    let mut optimiser = OptimiserOptions::default();
    optimiser.batch = case.input[0];
    optimiser.momentum = options.momentum;
    optimiser.is_nesterov = options.nesterov;
    optimiser.weight_decay = options.weight_decay;
    optimiser.decays = DecayScope::All;
    let mut sgd = Sgd::new(&optimiser);
    let batch = batch(case);
    for (iteration, &expected) in case.losses.iter().enumerate() {
        let pass = pass(case, &network, iteration as u64).with_engine(engine);
        let outcome;
        (network, outcome) = step(network, &mut sgd, &batch, pass, options.learning_rate).unwrap();
        report.number(&format!("loss of step {iteration}"), outcome.loss, expected);
    }
    report.tensors("trained", &network.tensors(), case.expected_by_name("trained"), &[]);
}

/// Eq. 4, `x_L = x_l + sum F_i`, holds to rounding wherever nothing follows the addition, within a stage.
#[test]
fn features_are_sums_of_residuals_where_the_shortcut_is_the_identity() {
    for ordering in ["relu-before-add", "relu-preact", "preact"] {
        let error = eq4_error(ordering, "identity");
        assert!(error < 1e-6, "{ordering}: {error}");
    }
    for ordering in ["original", "bn-after-add"] {
        let error = eq4_error(ordering, "identity");
        assert!(error > 1e-3, "{ordering} has something after the addition: {error}");
    }
    let error = eq4_error("preact", "scale:0.999,1");
    assert!(error > 1e-4, "a shortcut that is not the identity breaks the sum: {error}");
}

/// `|x_L - x_l - sum F_i| / |x_L|` over the last stage's units but the first, F being the branches' own outputs.
fn eq4_error(ordering: &str, shortcut: &str) -> f64 {
    let options = NetworkOptions {
        ordering: Some(ordering.parse().unwrap()),
        shortcut: Some(shortcut.parse().unwrap()),
        ..NetworkOptions::named("resnet32")
    };
    let device = Device::flex();
    let network = ResNet::init(&options.resolve(10).unwrap(), 3, &device).unwrap();
    let images = fixture::generate("input", 3, &[2, 3, 16, 16]);
    let images = Tensor::from_data(TensorData::new(images, [2, 3, 16, 16]), &device);
    let mut pass = Pass::train(3, 0).with_traces();
    network.forward(images, &mut pass).unwrap();
    let units = network.stages.last().unwrap().len();
    let traces = &pass.traces()[pass.traces().len() - units + 1..];
    let mut sum = to_host(traces[0].input.clone());
    for trace in traces {
        sum.iter_mut().zip(to_host(trace.residual.clone())).for_each(|(sum, residual)| *sum += residual);
    }
    let last = to_host(traces.last().unwrap().output.clone());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut sum.iter().zip(&last).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut last.iter().map(|&value| f64::from(value)))
}

/// A trace does not change what a unit computes.
#[test]
fn traced_networks_compute_the_same() {
    for name in ["preact-basic-a", "original-bottleneck-a", "original-basic-a-exclusive-gate_-6"] {
        let case = Case::named(name);
        let network = network(&case);
        let images = images(&case, &network.device());
        let logits = |pass: Pass| {
            let mut pass = pass;
            to_host(network.forward(images.clone(), &mut pass).unwrap().inner())
        };
        let (plain, traced) = (logits(Pass::train(1, 0)), logits(Pass::train(1, 0).with_traces()));
        let difference = plain.iter().zip(&traced).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
        assert!(difference < 1e-5, "{name}: {difference}");
    }
}

struct Report<'a> {
    case: &'a str,
    failures: &'a mut Vec<String>,
    worst: &'a mut f64,
}

impl Report<'_> {
    fn check(&mut self, what: &str, actual: &[f32], expected: &Expected) {
        self.note(what, relative_error(actual, expected));
    }

    fn number(&mut self, what: &str, actual: f64, expected: f64) {
        self.note(what, (actual - expected).abs() / expected.abs());
    }

    fn tensors(
        &mut self,
        kind: &str,
        actual: &NamedTensors,
        expected: BTreeMap<&str, Expected>,
        apart: &[&str],
    ) {
        assert!(!expected.is_empty(), "{}: no {kind} is expected", self.case);
        for (name, expected) in expected.iter().filter(|(name, _)| !apart.contains(name)) {
            match actual.get(*name) {
                Some(actual) => self.check(&format!("{kind}/{name}"), &actual.values, expected),
                None => self.failures.push(format!("{}: no {kind}/{name}", self.case)),
            }
        }
        if kind == "gradient" {
            let unexpected = actual.keys().filter(|name| !expected.contains_key(name.as_str()));
            self.failures.extend(unexpected.map(|name| format!("{}: gradient of {name}", self.case)));
        }
    }

    fn note(&mut self, what: &str, error: f64) {
        let tolerance = if what.starts_with("trained/") { TRAINED_TOLERANCE } else { TOLERANCE };
        if error.is_nan() || error > tolerance {
            self.failures.push(format!("{}: {what}: relative error {error:.1e}", self.case));
        }
        *self.worst = self.worst.max(error);
    }
}

/// The case's network with the case's weights, ready to be trained.
fn network(case: &Case) -> ResNet {
    let network = ResNet::init(&case.config(), 0, &Device::flex().autodiff()).unwrap();
    network.with_tensors(&case.tensors()).unwrap()
}

fn pass(case: &Case, network: &ResNet, iteration: u64) -> Pass {
    let pass = Pass::train(case.seed, iteration);
    if !matches!(network.config().shortcut, Shortcut::Dropout { .. }) {
        return pass;
    }
    let [batch, _, mut height, mut width] = case.input;
    let mut masks = Vec::new();
    for (stage, units) in network.stages.iter().enumerate() {
        for (index, unit) in units.iter().enumerate() {
            (height, width) = (height.div_ceil(unit.plan().stride()), width.div_ceil(unit.plan().stride()));
            let shape = [batch, unit.plan().outputs(), height, width];
            let mask = case.keep_mask(&format!("stages.{stage}.{index}"), &shape);
            let mask = Tensor::<4>::from_data(TensorData::new(mask, shape), &network.device());
            masks.push(mask.permute([0, 2, 3, 1]));
        }
    }
    pass.with_masks(masks)
}

fn images(case: &Case, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(case.images(), case.input), device)
}

fn labels(case: &Case) -> Vec<u16> {
    case.labels().into_iter().map(|label| label as u16).collect()
}

/// The case's images as the loader would give them, channels last.
fn batch(case: &Case) -> Batch {
    let [count, channels, height, width] = case.input;
    let planes = case.images();
    let mut images = Vec::with_capacity(planes.len());
    for image in planes.chunks_exact(channels * height * width) {
        for pixel in 0..height * width {
            images.extend((0..channels).map(|channel| image[channel * height * width + pixel]));
        }
    }
    assert_eq!(images.len(), count * channels * height * width);
    Batch::new(images, labels(case), height, width)
}
