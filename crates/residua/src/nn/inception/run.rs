//! Running the network on tensors `[batch, channels, height, width]`.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, batch_norm, batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};

use residua_infer::network::inception::{BATCH_NORM_EPSILON, ConvolutionLayer, Layers};

/// How far a batch moves the running statistics.
const MOMENTUM: f64 = 0.1;

/// Passes a batch through the layers.
pub(super) struct Runner<'a> {
    tensors: &'a BTreeMap<String, Tensor<1>>,
    is_training: bool,
    /// Running statistics that this batch has moved.
    pub(super) statistics: Vec<(String, Tensor<1>)>,
}

impl<'a> Runner<'a> {
    pub(super) fn evaluation(tensors: &'a BTreeMap<String, Tensor<1>>) -> Self {
        Self { tensors, is_training: false, statistics: Vec::new() }
    }

    pub(super) fn training(tensors: &'a BTreeMap<String, Tensor<1>>) -> Self {
        Self { is_training: true, ..Self::evaluation(tensors) }
    }

    fn norm(&mut self, name: &str, x: Tensor<4>) -> Tensor<4> {
        let tensor = |of: &str| self.tensors[&format!("{name}.bn.{of}")].clone();
        let (gamma, beta, mean, variance) =
            (tensor("weight"), tensor("bias"), tensor("running_mean"), tensor("running_var"));
        if !self.is_training {
            return batch_norm(x, gamma, beta, mean, variance, BATCH_NORM_EPSILON);
        }
        let [batch, _, height, width] = x.dims();
        let values = (batch * height * width) as f64;
        let normalised = batch_norm_train(x, gamma, beta, BATCH_NORM_EPSILON);
        let moved = |running: Tensor<1>, of_batch: Tensor<1>| running * (1. - MOMENTUM) + of_batch * MOMENTUM;
        // The running variance is the unbiased one.
        let unbiased = normalised.variance * (values / (values - 1.).max(1.));
        self.statistics.push((format!("{name}.bn.running_mean"), moved(mean, normalised.mean)));
        self.statistics.push((format!("{name}.bn.running_var"), moved(variance, unbiased)));
        normalised.output
    }
}

impl Layers for Runner<'_> {
    type Map = Tensor<4>;

    fn channels(map: &Tensor<4>) -> usize {
        map.dims()[1]
    }

    fn convolution(&mut self, layer: &ConvolutionLayer, x: Tensor<4>) -> Tensor<4> {
        let ConvolutionLayer { name, inputs, outputs, kernel, stride, padding } = layer;
        let weight = self.tensors[&format!("{name}.conv.weight")].clone();
        let weight = weight.reshape([*outputs, *inputs, kernel[0], kernel[1]]);
        let options = ConvOptions::new([*stride, *stride], *padding, [1, 1], 1);
        relu(self.norm(name, conv2d(x, weight, None, options)))
    }

    fn max_pooling(&mut self, x: Tensor<4>) -> Tensor<4> {
        max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]))
    }

    fn average_pooling(&mut self, x: Tensor<4>, size: usize, stride: usize, padding: usize) -> Tensor<4> {
        let options = AvgPoolOptions::new([size, size]).with_stride([stride, stride]);
        avg_pool2d(x, AvgPoolOptions { count_include_pad: true, ..options.with_padding([padding, padding]) })
    }

    fn mean(&mut self, x: Tensor<4>) -> Tensor<4> {
        x.mean_dim(3).mean_dim(2)
    }

    fn concatenation(&mut self, maps: Vec<Tensor<4>>) -> Tensor<4> {
        Tensor::cat(maps, 1)
    }
}
