//! The loss of a batch, and its gradient.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData, activation};

use crate::data::{Batch, Mixture};
use crate::evaluate::{misclassified, to_host};
use crate::nn::{ResNet, values_of};
use crate::run::{LossKind, LossOptions};

/// What training makes small; by default the mean cross-entropy, as in the paper.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loss {
    kind: LossKind,
    label_smoothing: f64,
    /// `w`, by class; empty where all are one.
    class_weights: Vec<f64>,
}

/// What images are to be taken for: their labels, and what is mixed into them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Targets<'a> {
    labels: &'a [u16],
    /// One for each image, or none at all.
    mixtures: &'a [Mixture],
}

impl Loss {
    /// The loss of a recipe, with these weights of the classes, or none.
    pub fn new(options: &LossOptions, class_weights: Vec<f64>) -> Self {
        let LossOptions { kind, label_smoothing, .. } = *options;
        Self { kind, label_smoothing, class_weights }
    }

    /// The loss of logits `[batch, classes]`, a tensor of one value. With the targets `q` and the classes' weights `w` it is of
    /// cross-entropy `-sum(w q log softmax(x)) / sum(w of the images)`, of binary cross-entropy
    /// `-sum(w (q log sigmoid(x) + (1 - q) log(1 - sigmoid(x)))) / (batch * classes)`.
    pub fn of<'a>(&self, logits: Tensor<2>, targets: impl Into<Targets<'a>>) -> Tensor<1> {
        let targets = targets.into();
        self.part_of(logits, targets, self.weight_of(targets))
    }

    /// The same as part of the loss of several batches, whose images weigh `weight` together.
    fn part_of(&self, logits: Tensor<2>, targets: Targets, weight: f64) -> Tensor<1> {
        let [images, classes] = logits.dims();
        // A product with the targets needs no gather or scatter, whose order GPUs do not fix.
        let factors = |factor: fn(f64, f64) -> f64, divisor: f64| {
            let mut factors = Vec::with_capacity(images * classes);
            for image in 0..images {
                for class in 0..classes {
                    let part = (1. - self.label_smoothing) * targets.part(image, class);
                    let target = part + self.label_smoothing / classes as f64;
                    factors.push((factor(self.class_weight(class), target) / divisor) as f32);
                }
            }
            Tensor::<2>::from_data(TensorData::new(factors, [images, classes]), &logits.device())
        };
        match self.kind {
            LossKind::CrossEntropy => {
                let factors = factors(|weight, target| -weight * target, weight);
                (activation::log_softmax(logits, 1) * factors).sum()
            }
            LossKind::BinaryCrossEntropy => {
                // As log(1 - sigmoid(x)) = log sigmoid(x) - x, what is in brackets is log sigmoid(x) - (1 - q) x.
                let divisor = weight * classes as f64;
                let of_sigmoid = factors(|weight, _| -weight, divisor);
                let of_logits = factors(|weight, target| weight * (1. - target), divisor);
                (activation::log_sigmoid(logits.clone()) * of_sigmoid + logits * of_logits).sum()
            }
        }
    }

    /// What the loss of these images is divided by, but for the number of classes.
    pub(super) fn weight_of(&self, targets: Targets) -> f64 {
        let images = 0..targets.labels.len();
        match self.kind {
            LossKind::CrossEntropy if !self.class_weights.is_empty() => {
                let of_image = |image| {
                    let part = |(class, weight): (usize, &f64)| weight * targets.part(image, class);
                    self.class_weights.iter().enumerate().map(part).sum::<f64>()
                };
                images.map(of_image).sum()
            }
            _ => images.len() as f64,
        }
    }

    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.get(class).copied().unwrap_or(1.)
    }
}

impl Targets<'_> {
    /// How much of an image is of a class.
    fn part(&self, image: usize, class: usize) -> f64 {
        let is_of = |label: u16| if usize::from(label) == class { 1. } else { 0. };
        let own = is_of(self.labels[image]);
        match self.mixtures.get(image) {
            None => own,
            Some(&Mixture { label, share }) => (1. - share) * own + share * is_of(label),
        }
    }

    /// The label of which an image has most.
    fn most(&self) -> Vec<u16> {
        let mut labels = self.labels.to_vec();
        for (own, mixture) in labels.iter_mut().zip(self.mixtures) {
            if mixture.share > 0.5 {
                *own = mixture.label;
            }
        }
        labels
    }
}

impl<'a> From<&'a [u16]> for Targets<'a> {
    fn from(labels: &'a [u16]) -> Self {
        Self { labels, mixtures: &[] }
    }
}

impl<'a> From<&'a Batch> for Targets<'a> {
    fn from(Batch { labels, mixtures, .. }: &'a Batch) -> Self {
        Self { labels, mixtures }
    }
}

/// `-mean(log softmax(logits)[label])` of logits `[batch, classes]`: a tensor of one value.
pub fn cross_entropy(logits: Tensor<2>, labels: &[u16]) -> Tensor<1> {
    Loss::default().of(logits, labels)
}

/// The loss of a batch, or of one of several that make a step together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Objective<'a> {
    pub(super) loss: &'a Loss,
    pub(super) targets: Targets<'a>,
    /// What all images of the step weigh.
    pub(super) weight: f64,
}

impl Objective<'_> {
    /// From logits `[batch, classes]` back to whatever they depend on.
    pub(super) fn backward(self, logits: Tensor<2>) -> Backward {
        let loss = self.loss.part_of(logits.clone(), self.targets, self.weight);
        let gradients = loss.backward();
        let part = Part { logits: logits.inner(), loss: loss.inner(), labels: self.targets.most() };
        Backward { gradients, parts: vec![part] }
    }
}

/// What a step's images say about a network: the loss, and its gradient with respect to every parameter.
pub struct Backward {
    /// The loss's gradient, which [`Sgd::step`](super::Sgd::step) uses up.
    pub gradients: Gradients,
    parts: Vec<Part>,
}

/// What one batch of a step says, but for its gradient.
pub(super) struct Part {
    logits: Tensor<2>,
    loss: Tensor<1>,
    labels: Vec<u16>,
}

/// What a step's images taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// The loss, by default the mean cross-entropy, before the step.
    pub loss: f64,
    /// Images that were misclassified, of mixed ones those that were not taken for what they have most of.
    pub misclassified: u64,
}

impl Backward {
    /// Adds what another batch of the same step says.
    pub(super) fn add(&mut self, network: &ResNet, other: Self) {
        let Self { mut gradients, parts } = other;
        self.parts.extend(parts);
        network.visit(&mut Sum { from: &mut gradients, to: &mut self.gradients });
    }

    /// The gradient, and what else a batch says.
    pub(super) fn split(self) -> (Gradients, Vec<Part>) {
        (self.gradients, self.parts)
    }

    /// The same with what earlier batches of the step say, but for their gradient.
    pub(super) fn behind(self, mut parts: Vec<Part>) -> Self {
        parts.extend(self.parts);
        Self { parts, ..self }
    }

    /// Shortens the gradient to a Euclidean norm over all parameters, if it is longer.
    pub(super) fn clip(&mut self, network: &ResNet, norm: f64) {
        let mut squares = Squares { gradients: &self.gradients, sum: 0. };
        network.visit(&mut squares);
        let found = squares.sum.sqrt();
        // What is not finite stays so, for the loss to tell.
        if found > norm && found.is_finite() {
            network.visit(&mut Scale { gradients: &mut self.gradients, factor: norm / found });
        }
    }

    /// Multiplies the loss and its gradient.
    pub(super) fn scale(&mut self, network: &ResNet, factor: f64) {
        network.visit(&mut Scale { gradients: &mut self.gradients, factor });
        for part in &mut self.parts {
            part.loss = part.loss.clone() * factor;
        }
    }

    /// The loss and the number of misclassified images, brought to the host.
    pub fn outcome(&self) -> StepOutcome {
        let loss = |part: &Part| f64::from(to_host(part.loss.clone())[0]);
        let wrong = |part: &Part| misclassified(&to_host(part.logits.clone()), &part.labels);
        StepOutcome {
            loss: self.parts.iter().map(loss).sum(),
            misclassified: self.parts.iter().map(wrong).sum(),
        }
    }
}

/// Adds the gradients of parameters to those of another container.
struct Sum<'a> {
    from: &'a mut Gradients,
    to: &'a mut Gradients,
}

impl ModuleVisitor for Sum<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let parameter = parameter.val();
        let Some(gradient) = parameter.grad_remove(self.from) else { return };
        let sum = match parameter.grad_remove(self.to) {
            Some(before) => before + gradient,
            None => gradient,
        };
        parameter.grad_replace(self.to, sum);
    }
}

/// Adds up the squares of all gradients, in the network's order.
struct Squares<'a> {
    gradients: &'a Gradients,
    sum: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(gradient) = parameter.val().grad(self.gradients) else { return };
        let square = |&value: &f32| f64::from(value) * f64::from(value);
        self.sum += values_of(gradient).values.iter().map(square).sum::<f64>();
    }
}

/// Multiplies all gradients by a factor.
struct Scale<'a> {
    gradients: &'a mut Gradients,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let parameter = parameter.val();
        if let Some(gradient) = parameter.grad_remove(self.gradients) {
            parameter.grad_replace(self.gradients, gradient * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::run::LossKind;

    #[test]
    fn cross_entropy_is_the_mean_of_negative_log_probabilities() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0., 0.], [1., 3.]], &device);
        let expected = (2f64.ln() + (1. + 2f64.exp()).ln()) / 2.;
        let loss = f64::from(to_host(cross_entropy(logits, &[1, 0]))[0]);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    /// The losses that PyTorch finds for the same logits, and their gradients; `loss_fixture.py` beside the fixture makes it.
    #[derive(serde::Deserialize)]
    struct Fixture {
        logits: Vec<[f32; 5]>,
        labels: Vec<u16>,
        /// The label and the share of what is mixed in.
        mixtures: Vec<(u16, f64)>,
        class_weights: Vec<f64>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        is_binary: bool,
        label_smoothing: f64,
        is_weighted: bool,
        is_mixed: bool,
        loss: f64,
        gradient: Vec<f64>,
    }

    #[test]
    fn losses_and_gradients_are_pytorchs() {
        let fixture: Fixture =
            serde_json::from_str(include_str!("../../tests/fixtures/losses.json")).unwrap();
        let mixtures =
            fixture.mixtures.iter().map(|&(label, share)| Mixture { label, share }).collect::<Vec<_>>();
        assert_eq!(fixture.cases.len(), 12);
        for case in &fixture.cases {
            let loss = Loss {
                kind: if case.is_binary { LossKind::BinaryCrossEntropy } else { LossKind::CrossEntropy },
                label_smoothing: case.label_smoothing,
                class_weights: if case.is_weighted { fixture.class_weights.clone() } else { Vec::new() },
            };
            let targets =
                Targets { labels: &fixture.labels, mixtures: if case.is_mixed { &mixtures } else { &[] } };
            let logits: Vec<f32> = fixture.logits.concat();
            let data = TensorData::new(logits, [fixture.labels.len(), 5]);
            let logits = Tensor::<2>::from_data(data, &Device::flex().autodiff()).require_grad();
            let value = loss.of(logits.clone(), targets);
            let gradient = to_host(logits.grad(&value.backward()).unwrap());
            let value = f64::from(to_host(value.inner())[0]);
            assert!((value - case.loss).abs() < 1e-6 * case.loss, "{}: {value} {}", case.name, case.loss);
            for (found, expected) in gradient.iter().zip(&case.gradient) {
                assert!((f64::from(*found) - expected).abs() < 1e-7, "{}: {found} {expected}", case.name);
            }
        }
    }

    #[test]
    fn of_mixed_images_the_larger_part_counts() {
        let mixtures = [0.4, 0.6].map(|share| Mixture { label: 7, share });
        assert_eq!(Targets { labels: &[1, 2], mixtures: &mixtures }.most(), [1, 7]);
    }
}
