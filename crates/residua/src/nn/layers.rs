//! The layers with weights: convolution, batch normalisation, projection, gate and classifier.

use burn::module::{Module, Param};
use burn::tensor::{DType, FloatDType, Tensor};

use super::initialise::Initialiser;
use super::pass::{Pass, Statistics};
use crate::ops::{
    self, Addition, Engine, MomentsSource, Normalise, RunningStatisticsOptions, Seam, UnitNorm,
};
use residua_infer::Precision;
use residua_infer::network::ConvolutionPlan;

/// How far one batch moves the running statistics.
const MOMENTUM: f64 = 0.1;

/// A feature map, `[batch, height, width, channels]`, and its moments where its producer has taken them.
#[derive(Clone)]
pub(crate) struct FeatureMap {
    pub(crate) values: Tensor<4>,
    /// `[groups, 2, channels]`; constants to autodiff.
    pub(crate) moments: Option<Tensor<3>>,
    /// With the unit that has made it, for the unit that reads it.
    pub(crate) seam: Option<Seam>,
}

impl From<Tensor<4>> for FeatureMap {
    fn from(values: Tensor<4>) -> Self {
        Self { values, moments: None, seam: None }
    }
}

impl FeatureMap {
    /// As a trunk of bfloat16 stores it.
    pub(super) fn rounded(self) -> Self {
        self.values.cast(FloatDType::BF16).into()
    }

    /// In f32, whatever the trunk stores.
    pub(super) fn widened(self) -> Self {
        match self.is_rounded() {
            true => Self { values: self.values.cast(FloatDType::F32), ..self },
            false => self,
        }
    }

    /// Whether it is stored in bfloat16.
    pub(super) fn is_rounded(&self) -> bool {
        self.values.dtype() == DType::BF16
    }
}

/// A convolution without bias, padded by half its size.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[outputs, inputs, size, size]`
    pub weight: Param<Tensor<4>>,
    /// Distance of neighbouring outputs in the input.
    pub stride: usize,
}

impl Convolution {
    pub(super) fn init(plan: &ConvolutionPlan, name: &str, initialiser: &Initialiser) -> Self {
        let shape = [plan.outputs, plan.inputs, plan.size, plan.size];
        Self { weight: initialiser.convolution(&format!("{name}.weight"), shape), stride: plan.stride }
    }

    /// `weight * x`, in f32.
    pub(super) fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        ops::convolve(pass.engine(), Precision::F32, x, None, false, self.weight.val(), self.stride, None)
    }

    /// `weight * relu(norm(x)) + addend`, each part but the convolution optional, as [units](Pass::precision_of_units) multiply; see
    /// [`ops::convolve`].
    pub(super) fn forward_in_unit(
        &self,
        x: Tensor<4>,
        norm: Option<&BatchNorm>,
        is_activated: bool,
        addend: Option<Tensor<4>>,
        pass: &mut Pass,
    ) -> Tensor<4> {
        let norm = norm.map(|norm| norm.prepare(&x, pass));
        let (precision, weight) = (pass.precision_of_units(), self.weight.val());
        ops::convolve(pass.engine(), precision, x, norm, is_activated, weight, self.stride, addend)
    }
}

/// Batch normalisation: `weight * (x - mean) / sqrt(variance + 1e-5) + bias` per channel, with the batch's mean and
/// biased variance in training, running ones in evaluation.
///
/// Each training pass moves the running statistics by 0.1 towards the batch's mean and *unbiased* variance (of its
/// first group, if statistics are taken over groups of images), as PyTorch does.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// gamma, `[channels]`
    pub weight: Param<Tensor<1>>,
    /// beta, `[channels]`
    pub bias: Param<Tensor<1>>,
    /// `[channels]`; no parameter
    pub running_mean: Param<Tensor<1>>,
    /// `[channels]`; no parameter
    pub running_var: Param<Tensor<1>>,
    /// Images over which statistics are taken; the whole batch if `None`.
    pub group: Option<usize>,
}

impl BatchNorm {
    pub(super) fn init(channels: usize, group: Option<usize>, initialiser: &Initialiser) -> Self {
        Self {
            weight: initialiser.constant(channels, 1.),
            bias: initialiser.constant(channels, 0.),
            running_mean: initialiser.buffer(channels, 0.),
            running_var: initialiser.buffer(channels, 1.),
            group,
        }
    }

    /// `relu(relu(norm(x)) + addend)`, each part but the normalisation optional, both terms weighted as the addition says;
    /// see [`ops::merge`].
    pub(super) fn merge(
        &self,
        x: Tensor<4>,
        is_activated_before: bool,
        addition: Addition,
        is_activated_after: bool,
        pass: &mut Pass,
    ) -> Tensor<4> {
        let norm = Some(self.prepare(&x, pass));
        ops::merge(pass.engine(), x, norm, is_activated_before, addition, is_activated_after)
    }

    /// The normalisation of `x`; a training pass notes the new running statistics.
    pub(super) fn prepare(&self, x: &Tensor<4>, pass: &mut Pass) -> Normalise {
        self.prepare_map(&FeatureMap::from(x.clone()), pass)
    }

    /// The normalisation of a map whose moments may be known already.
    pub(super) fn prepare_map(&self, x: &FeatureMap, pass: &mut Pass) -> Normalise {
        let (gamma, beta) = (self.weight.val(), self.bias.val());
        if !pass.is_training() {
            return Normalise { moments: self.running(), source: MomentsSource::Running, gamma, beta };
        }
        let [batch, height, width, _] = x.values.dims();
        let groups = self.groups(batch);
        let (moments, ranks) = match (&x.moments, pass.statistics()) {
            (Some(moments), _) => (moments.clone(), 1),
            (None, Statistics::Own) => (ops::moments(pass.engine(), x.clone().widened().values, groups), 1),
            (None, Statistics::Shared(cluster)) => {
                (ops::moments_over_ranks(x.clone().widened().values, cluster), cluster.ranks())
            }
        };
        self.note(&moments, ranks * batch / groups * height * width, pass);
        Normalise { moments, source: MomentsSource::Batch, gamma, beta }
    }

    /// This normalisation as part of a unit that is one operation.
    pub(super) fn inside(&self, pass: &Pass) -> UnitNorm {
        let moments = (!pass.is_training()).then(|| self.running());
        UnitNorm { moments, gamma: self.weight.val(), beta: self.bias.val() }
    }

    /// The number of groups of images that statistics of a batch are taken over.
    pub(super) fn groups(&self, batch: usize) -> usize {
        batch / self.group.unwrap_or(batch)
    }

    /// Running mean and variance, `[1, 2, channels]`.
    pub(super) fn running(&self) -> Tensor<3> {
        Tensor::stack::<2>(vec![self.running_mean.val(), self.running_var.val()], 0).unsqueeze()
    }

    /// Notes what the running statistics become after a batch with these moments, each over `pixels` values.
    pub(super) fn note(&self, moments: &Tensor<3>, pixels: usize, pass: &mut Pass) {
        let pixels = pixels as f64;
        let options = RunningStatisticsOptions { momentum: MOMENTUM, correction: pixels / (pixels - 1.) };
        let (mean, variance) = (self.running_mean.val(), self.running_var.val());
        let (mean, variance) =
            ops::update_running_statistics(pass.engine(), mean, variance, moments.clone(), options);
        pass.running_statistics.insert(self.running_mean.id, mean);
        pass.running_statistics.insert(self.running_var.id, variance);
    }
}

/// A 1x1 convolution on the shortcut, with BN where the branch's last convolution is directly followed by BN.
#[derive(Module, Debug)]
pub struct Projection {
    /// The 1x1 convolution.
    pub conv: Convolution,
    /// The normalisation behind it.
    pub norm: Option<BatchNorm>,
}

impl Projection {
    pub(super) fn forward(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let x = self.conv.forward_in_unit(x, None, false, None, pass);
        match &self.norm {
            None => x,
            Some(norm) => norm.merge(x, false, Addition::None, false, pass),
        }
    }
}

/// `g(x) = sigmoid(W x + b)` with a 1x1 convolution `W`: one value for each output channel and pixel.
#[derive(Module, Debug)]
pub struct Gate {
    /// `[outputs, inputs, 1, 1]`
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`
    pub bias: Param<Tensor<1>>,
    /// Distance of neighbouring outputs in the input.
    pub stride: usize,
}

impl Gate {
    pub(super) fn init(plan: &ConvolutionPlan, bias: f64, name: &str, initialiser: &Initialiser) -> Self {
        let Convolution { weight, stride } = Convolution::init(plan, name, initialiser);
        Self { weight, bias: initialiser.constant(plan.outputs, bias), stride }
    }

    /// `W x`: what is left to do is the merge's.
    pub(super) fn logits(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        ops::convolve(pass.engine(), Precision::F32, x, None, false, self.weight.val(), self.stride, None)
    }
}

/// `weight * features + bias`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[classes, features]`
    pub weight: Param<Tensor<2>>,
    /// `[classes]`
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    pub(super) fn init(features: usize, classes: usize, initialiser: &Initialiser) -> Self {
        let bound = 1. / (features as f64).sqrt();
        Self {
            weight: initialiser.uniform("classifier.weight", [classes, features], bound),
            bias: initialiser.constant(classes, 0.),
        }
    }

    /// `[batch, features]` to `[batch, classes]`.
    pub(super) fn forward(&self, features: Tensor<2>, engine: Engine) -> Tensor<2> {
        ops::linear(engine, features, self.weight.val()) + self.bias.val().unsqueeze()
    }
}
