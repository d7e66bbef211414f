//! The whole network: stem, stages of residual units, head.

use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};

use super::initialise::Initialiser;
use super::layers::{BatchNorm, Convolution, FeatureMap, Linear};
use super::pass::Pass;
use super::unit::ResidualUnit;
use super::weights::NamedMapper;
use crate::ops::{self, Addition, Engine};
use residua_infer::network::{
    Block, NetworkError, Part, Parts, Plan, ResNetConfig, StemPlan, Trunk, Weighting, is_trained,
};

/// A residual network (paper section 3).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use residua::nn::{NetworkOptions, Pass, ResNet};
///
/// let device = Device::flex();
/// let network = ResNet::init(&NetworkOptions::named("preresnet8").resolve(10)?, 1, &device)?;
/// let images = Tensor::<4>::zeros([2, 3, 32, 32], &device);
/// let logits = network.forward(images, &mut Pass::evaluate())?;
/// assert_eq!(logits.dims(), [2, 10]);
/// # Ok::<(), residua::nn::NetworkError>(())
/// ```
#[derive(Module, Debug)]
pub struct ResNet {
    /// From the image to the first stage.
    pub stem: Stem,
    /// The residual units of every stage.
    pub stages: Vec<Vec<ResidualUnit>>,
    /// BN after the last unit, in networks with full pre-activation.
    pub norm: Option<BatchNorm>,
    /// The linear classifier.
    pub classifier: Linear,
    #[module(skip)]
    config: ResNetConfig,
    #[module(skip)]
    plan: Arc<Plan>,
    #[module(skip)]
    frozen: Arc<Parts>,
}

/// Stand-alone convolution, optional BN and ReLU, optional max pooling.
#[derive(Module, Debug)]
pub struct Stem {
    /// The first convolution.
    pub conv: Convolution,
    /// BN behind it.
    pub norm: Option<BatchNorm>,
    #[module(skip)]
    plan: StemPlan,
}

impl ResNet {
    /// A new network of this configuration on `device`, with initial weights by the paper's conventions: convolutions normal with
    /// standard deviation `sqrt(2 / (size * size * outputs))`, BN gamma 1 and beta 0, classifier uniform within
    /// `1 / sqrt(features)`, its bias 0. The same `seed` gives the same weights on every machine.
    ///
    /// To train it, give a device with autodiff.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn init(config: &ResNetConfig, seed: u64, device: &Device) -> Result<Self, NetworkError> {
        Ok(Self::of_plan(config, config.plan()?, seed, device))
    }

    /// As [`init`](Self::init), of layers that are planned already.
    pub(crate) fn of_plan(config: &ResNetConfig, plan: Plan, seed: u64, device: &Device) -> Self {
        let initialiser = Initialiser::new(seed, device);
        let norm = |channels: usize| BatchNorm::init(channels, config.bn_group, &initialiser);
        let unit = |stage: usize, index: usize, plan| {
            ResidualUnit::init(plan, config.bn_group, &format!("stages.{stage}.{index}"), &initialiser)
        };
        let stages = plan.stages.iter().enumerate().map(|(stage, units)| {
            units.iter().enumerate().map(|(index, plan)| unit(stage, index, plan.clone())).collect()
        });
        Self {
            stem: Stem {
                conv: Convolution::init(&plan.stem.convolution, "stem.conv", &initialiser),
                norm: plan.stem.has_norm.then(|| norm(plan.stem.convolution.outputs)),
                plan: plan.stem.clone(),
            },
            stages: stages.collect(),
            norm: plan.head.has_norm.then(|| norm(plan.head.features)),
            classifier: Linear::init(plan.head.features, plan.head.classes, &initialiser),
            config: config.clone(),
            plan: Arc::new(plan),
            frozen: Arc::default(),
        }
    }

    /// The network of which these parts are frozen and no others.
    ///
    /// A training pass takes frozen parts in their evaluation form: BN by its running statistics, which stay as they are, shortcuts that
    /// are dropped by their expectation. Their tensors have no gradient, so [`Sgd`](crate::train::Sgd) leaves them alone. What lies in
    /// front of the first part that is not frozen takes part in no backward pass, and nothing of it is kept for one.
    ///
    /// # Errors
    /// When the network does not have one of these parts, or has no other.
    pub fn freeze(self, parts: &Parts) -> Result<Self, NetworkError> {
        parts.first_besides(&self.plan)?;
        let network = if *parts == *self.frozen { self } else { self.map_named(&mut Freeze(parts)) };
        Ok(Self { frozen: Arc::new(parts.clone()), ..network })
    }
}

struct Freeze<'a>(&'a Parts);

impl NamedMapper for Freeze<'_> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match Part::of_tensor(&name).filter(|_| is_trained(&name)) {
            None => parameter,
            Some(part) => parameter.set_require_grad(!self.0.contains(part)),
        }
    }
}

impl ResNet {
    /// What this network is.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Its layers in numbers.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The parts that are not trained.
    pub fn frozen(&self) -> &Parts {
        &self.frozen
    }

    /// The first part that is trained.
    pub(crate) fn first_trained(&self) -> Part {
        self.frozen.first_besides(&self.plan).expect("it was looked at when the others were frozen")
    }

    /// Where the network lies.
    pub fn device(&self) -> Device {
        self.classifier.bias.val().device()
    }

    /// Class scores of a batch: `[batch, 3, height, width]` to `[batch, classes]`.
    ///
    /// # Errors
    /// When the images do not fit the network, or the batch does not fit the pass.
    pub fn forward(&self, images: Tensor<4>, pass: &mut Pass) -> Result<Tensor<2>, NetworkError> {
        let features = self.features(images, pass)?;
        Ok(self.forward_classifier(features, pass))
    }

    /// What the classifier reads of a batch, the means of the last map: `[batch, 3, height, width]` to `[batch, features]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn features(&self, images: Tensor<4>, pass: &mut Pass) -> Result<Tensor<2>, NetworkError> {
        let x = self.forward_stem(images, pass)?;
        let x = self.forward_units(0..self.units().count(), x, pass);
        Ok(self.forward_pooling(x, pass))
    }

    /// The residual units of all stages, in order.
    pub fn units(&self) -> impl Iterator<Item = &ResidualUnit> {
        self.stages.iter().flatten()
    }

    /// Images `[batch, 3, height, width]` to the first unit's input `[batch, height, width, channels]`.
    pub(crate) fn forward_stem(
        &self,
        images: Tensor<4>,
        pass: &mut Pass,
    ) -> Result<FeatureMap, NetworkError> {
        self.check(&images, pass)?;
        let groups = images.dims()[0] / self.config.bn_group.unwrap_or(images.dims()[0]);
        let images = images.permute([0, 2, 3, 1]);
        let x = self.pass_part(Part::Stem, pass, |pass| self.stem.forward(images, groups, pass));
        Ok(if pass.is_training() && self.config.trunk == Trunk::Bf16 { x.rounded() } else { x })
    }

    /// The input of unit `units.start` to the output of the last of `units`, counted over all stages.
    pub(crate) fn forward_units(&self, units: Range<usize>, x: FeatureMap, pass: &mut Pass) -> FeatureMap {
        pass.pass_over(units.start);
        pass.units = self.units().count() as u64;
        pass.precision = pass.precision_of(self.config.precision);
        let stages = self.stages.iter().zip(1..);
        let numbered =
            stages.flat_map(|(units, stage)| units.iter().map(move |unit| (Part::Stage(stage), unit)));
        let units = numbered.skip(units.start).take(units.len());
        let output =
            units.fold(x, |x, (stage, unit)| self.pass_part(stage, pass, |pass| unit.forward(x, pass)));
        // What is kept of these units is not kept alive by their output.
        FeatureMap { seam: None, ..output }
    }

    /// The last unit's output to class scores `[batch, classes]`.
    pub(crate) fn forward_head(&self, x: FeatureMap, pass: &mut Pass) -> Tensor<2> {
        let features = self.forward_pooling(x, pass);
        self.forward_classifier(features, pass)
    }

    /// Features `[batch, features]` to class scores `[batch, classes]`.
    fn forward_classifier(&self, features: Tensor<2>, pass: &mut Pass) -> Tensor<2> {
        self.pass_part(Part::Classifier, pass, |pass| {
            let features = match pass.of_features(features.dims(), &features.device()) {
                Some(factors) => features * factors,
                None => features,
            };
            self.classifier.forward(features, pass.engine())
        })
    }

    /// The last unit's output to features `[batch, features]`: the means of [`forward_activation`](Self::forward_activation).
    fn forward_pooling(&self, x: FeatureMap, pass: &mut Pass) -> Tensor<2> {
        let x = x.widened();
        let norm = self.norm.as_ref();
        let norm = norm.map(|norm| self.pass_part(Part::Norm, pass, |pass| norm.prepare_map(&x, pass)));
        ops::pool(pass.engine(), x.values, norm, self.plan.head.is_activated)
    }

    /// One part's share of a pass, in its evaluation form if the part is frozen.
    fn pass_part<T>(&self, part: Part, pass: &mut Pass, forward: impl FnOnce(&mut Pass) -> T) -> T {
        if self.frozen.contains(part) { pass.evaluating(forward) } else { forward(pass) }
    }

    /// The last unit's output to `relu(norm(x))`, both where the head has them, `[batch, height, width, features]`.
    pub(crate) fn forward_activation(&self, x: FeatureMap, pass: &mut Pass) -> Tensor<4> {
        let x = x.widened();
        let norm = self.norm.as_ref().map(|norm| norm.prepare_map(&x, pass));
        ops::merge(pass.engine(), x.values, norm, self.plan.head.is_activated, Addition::None, false)
    }

    /// The network with the running statistics that a training pass has gathered.
    pub fn absorb(self, pass: Pass) -> Self {
        self.map(&mut Absorb(pass))
    }

    fn check(&self, images: &Tensor<4>, pass: &Pass) -> Result<(), NetworkError> {
        let shape = images.dims();
        let [batch, channels, height, width] = shape;
        if batch == 0 || channels != 3 {
            return Err(NetworkError::InputShape { shape: shape.to_vec() });
        }
        self.config.check_input(height, width)?;
        if pass.engine() == Engine::Fused && ops::is_cpu(&images.device()) {
            pass.precision_of(self.config.precision).check()?;
        }
        if pass.is_training() {
            self.config.check_batch(batch, height, width)?;
            let units = self.units().count();
            let weighting = self.config.shortcut.weighting();
            if pass.drops_branches() && weighting != Weighting::None {
                let shortcut = self.config.shortcut.to_string();
                return Err(NetworkError::StochasticDepth { shortcut });
            }
            if pass.drops_in_units() && self.config.block == Block::Single {
                return Err(NetworkError::UnitDropout);
            }
            if let (Weighting::Mask { .. }, Some(given)) = (weighting, pass.given_masks())
                && given != units
            {
                return Err(NetworkError::Masks { given, units });
            }
        }
        Ok(())
    }
}

impl Stem {
    fn forward(&self, images: Tensor<4>, groups: usize, pass: &mut Pass) -> FeatureMap {
        let ends_in_convolution = self.norm.is_none() && !self.plan.has_pooling;
        if ends_in_convolution && pass.is_training() && pass.engine() == Engine::Fused {
            let (weight, stride) = (self.conv.weight.val(), self.conv.stride);
            let (values, moments) = ops::convolve_with_moments(images, weight, stride, groups);
            return FeatureMap { values, moments: Some(moments), seam: None };
        }
        let mut x = self.conv.forward(images, pass);
        let is_activated = self.plan.is_activated;
        if self.plan.has_pooling {
            let norm = self.norm.as_ref().map(|norm| norm.prepare(&x, pass));
            x = ops::max_pool(pass.engine(), x, norm, is_activated);
        } else if let Some(norm) = &self.norm {
            x = norm.merge(x, is_activated, Addition::None, false, pass);
        }
        x.into()
    }
}

struct Absorb(Pass);

impl ModuleMapper for Absorb {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.running_statistics.remove(&parameter.id) {
            None => parameter,
            Some(statistics) => parameter.map(|running| statistics.reshape(running.dims())),
        }
    }
}
