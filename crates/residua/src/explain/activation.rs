//! Class activation maps and Grad-CAM.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, activation};

use super::activation_map::ActivationMap;
use super::error::ExplainError;
use super::unit_place::UnitPlace;
use crate::evaluate::to_host;
use crate::nn::{FeatureMap, Pass, ResNet};
use crate::ops::Engine;

/// What is looked at, and how its channels are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Class activation map (Zhou et al. 2016) of the last map f, whose mean over the pixels the classifier reads: `M = sum_k w[class, k] f_k`.
    /// It is exact: `mean(M) + b[class]` is the class's logit.
    ClassActivation,
    /// Grad-CAM (Selvaraju et al. 2017) of a unit's output x: `M = relu(sum_k a_k x_k)`, where `a_k` is the mean over the pixels of the gradient
    /// of the class's logit by `x_k`.
    GradCam(UnitPlace),
}

/// Where in an image a network finds what speaks for a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The class.
    pub class: usize,
    /// Its logit.
    pub logit: f32,
    /// Its probability by softmax.
    pub probability: f32,
    /// The logits of all classes.
    pub logits: Vec<f32>,
    /// At the resolution of the map that was looked at.
    pub map: ActivationMap,
}

/// Explains what `network` makes of each image `[batch, 3, height, width]`, as it is in evaluation: for `class`, or for the likeliest of each.
/// Network and images lie on one device, without autodiff.
///
/// # Errors
/// When the images do not fit the network, or it has no such unit or class.
pub fn explain(
    network: &ResNet,
    images: Tensor<4>,
    class: Option<usize>,
    method: Method,
    engine: Engine,
) -> Result<Vec<Explanation>, ExplainError> {
    let classes = network.config().classes;
    if let Some(class) = class.filter(|class| *class >= classes) {
        return Err(ExplainError::NoClass { class, classes });
    }
    let units = network.units().count();
    let behind = match method {
        Method::ClassActivation => units,
        Method::GradCam(place) => place.number(network.plan())? + 1,
    };
    let mut pass = Pass::evaluate().with_engine(engine);
    let x = network.forward_stem(images, &mut pass)?;
    let x = network.forward_units(0..behind, x, &mut pass);
    let looked_at = match method {
        Method::ClassActivation => {
            let explained = Explained::of(network.forward_head(x.clone(), &mut pass), class);
            let weights = class_weights(network, &explained.classes);
            LookedAt {
                explained,
                map: network.forward_activation(x, &mut pass),
                weights,
                is_rectified: false,
            }
        }
        Method::GradCam(_) => {
            let map = x.values;
            let (explained, weights) = gradients(network, behind, &map, class, &mut pass);
            LookedAt { explained, map, weights, is_rectified: true }
        }
    };
    Ok(looked_at.explanations())
}

/// The classes that a batch is explained for, and all its logits.
struct Explained {
    /// One for each image.
    classes: Vec<usize>,
    /// `[batch, classes]`
    logits: Vec<f32>,
    /// `[batch, classes]`
    probabilities: Vec<f32>,
}

impl Explained {
    fn of(logits: Tensor<2>, class: Option<usize>) -> Self {
        let [_, count] = logits.dims();
        let probabilities = to_host(activation::softmax(logits.clone(), 1));
        let logits = to_host(logits);
        let classes = logits.chunks_exact(count).map(|row| class.unwrap_or_else(|| largest(row))).collect();
        Self { classes, logits, probabilities }
    }
}

/// The first of the largest numbers.
fn largest(row: &[f32]) -> usize {
    (0..row.len()).reduce(|best, other| if row[other] > row[best] { other } else { best }).unwrap_or_default()
}

/// The classifier's weights of the class of each image, `[batch, channels]`.
fn class_weights(network: &ResNet, classes: &[usize]) -> Vec<f32> {
    let weights = to_host(network.classifier.weight.val());
    let channels = weights.len() / network.config().classes;
    classes.iter().flat_map(|class| &weights[class * channels..][..channels]).copied().collect()
}

/// Passes a unit's output through what is behind it, and the class's logit back: the means over the pixels of its gradient,
/// `[batch, channels]`.
fn gradients(
    network: &ResNet,
    behind: usize,
    x: &Tensor<4>,
    class: Option<usize>,
    pass: &mut Pass,
) -> (Explained, Vec<f32>) {
    // Nothing is asked of the weights.
    let network = network.clone().no_grad().train();
    let x = x.clone().autodiff().require_grad();
    let output = network.forward_units(behind..network.units().count(), FeatureMap::from(x.clone()), pass);
    let logits = network.forward_head(output, pass);
    let explained = Explained::of(logits.clone().inner(), class);
    let [batch, classes] = logits.dims();
    let mut ones = vec![0f32; batch * classes];
    for (image, class) in explained.classes.iter().enumerate() {
        ones[image * classes + class] = 1.;
    }
    // Images do not mix in evaluation, so that one backward pass is that of each.
    let chosen =
        logits.clone() * Tensor::from_data(TensorData::new(ones, [batch, classes]), &logits.device());
    let gradient = x.grad(&chosen.sum().backward()).unwrap_or_else(|| x.clone().inner().zeros_like());
    let means = gradient.mean_dim(1).mean_dim(2);
    (explained, to_host(means))
}

/// A map, and what its channels are weighed by.
struct LookedAt {
    explained: Explained,
    /// `[batch, height, width, channels]`
    map: Tensor<4>,
    /// `[batch, channels]`
    weights: Vec<f32>,
    is_rectified: bool,
}

impl LookedAt {
    fn explanations(self) -> Vec<Explanation> {
        let Self { explained, map, weights, is_rectified } = self;
        let [batch, height, width, channels] = map.dims();
        let map = to_host(map);
        let classes = explained.logits.len() / batch;
        let of_image = |image: usize| {
            let weights = &weights[image * channels..][..channels];
            let value = |pixel: &[f32]| {
                // In f64, so that the sum of many channels is the exact one's.
                let terms = pixel.iter().zip(weights);
                let sum: f64 = terms.map(|(value, weight)| f64::from(*value) * f64::from(*weight)).sum();
                if is_rectified && sum < 0. { 0. } else { sum as f32 }
            };
            let pixels = &map[image * height * width * channels..][..height * width * channels];
            let values = pixels.chunks_exact(channels).map(value).collect();
            let class = explained.classes[image];
            Explanation {
                class,
                logit: explained.logits[image * classes + class],
                logits: explained.logits[image * classes..][..classes].to_vec(),
                probability: explained.probabilities[image * classes + class],
                map: ActivationMap { height, width, values },
            }
        };
        (0..batch).map(of_image).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::nn::{NetworkOptions, TensorValues};

    /// Moved together, all pixels of a channel move the logit by the sum of their gradients.
    #[test]
    fn the_weights_of_grad_cam_are_what_finite_differences_find() {
        let device = Device::flex();
        let noise = |count: usize, factor: f32| -> Vec<f32> {
            (0..count).map(|k| factor * ((k as f32 * 12.9898).sin() * 43758.547).fract()).collect()
        };
        for (name, unit) in [("preresnet14", 1), ("resnet14", 2), ("preresnet20", 3), ("preresnet18", 2)] {
            let network = ResNet::init(&NetworkOptions::named(name).resolve(5).unwrap(), 1, &device).unwrap();
            let mut tensors = network.tensors();
            for (_, TensorValues { values, .. }) in
                tensors.iter_mut().filter(|(name, _)| name.contains("running_mean"))
            {
                *values = noise(values.len(), 0.3);
            }
            let network = network.with_tensors(&tensors).unwrap();
            let images = TensorData::new(noise(2 * 3 * 32 * 32, 2.), [2, 3, 32, 32]);
            for engine in [Engine::Fused, Engine::Composed] {
                let mut pass = Pass::evaluate().with_engine(engine);
                let x = network.forward_stem(Tensor::from_data(images.clone(), &device), &mut pass).unwrap();
                let x = network.forward_units(0..unit, x, &mut pass).values;
                let (explained, weights) = gradients(&network, unit, &x, Some(3), &mut pass);
                assert_eq!(explained.classes, [3, 3]);
                let [_, height, width, channels] = x.dims();
                let logits = |x: Tensor<4>, pass: &mut Pass| {
                    let x = network.forward_units(unit..network.units().count(), x.into(), pass);
                    to_host(network.forward_head(x, pass))
                };
                let largest = weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
                for channel in (0..channels).step_by(channels / 4) {
                    let mut step = vec![0f32; channels];
                    step[channel] = 0.001;
                    let step = Tensor::<1>::from_data(TensorData::new(step, [channels]), &device).unsqueeze();
                    let [up, down] =
                        [x.clone() + step.clone(), x.clone() - step].map(|x| logits(x, &mut pass));
                    for image in 0..2 {
                        let difference = (up[image * 5 + 3] - down[image * 5 + 3]) / 0.002;
                        let found = weights[image * channels + channel] * (height * width) as f32;
                        let allowed = 0.05 * largest * (height * width) as f32;
                        assert!(
                            (found - difference).abs() < allowed,
                            "{name} {engine} {channel}: {found} {difference}, largest {largest}"
                        );
                    }
                }
            }
        }
    }
}
