//! The residual unit: one type for every ordering, shortcut, block and dimension change.

use burn::module::{Module, Param};
use burn::tensor::{Slice, Tensor, activation};

use super::initialise::Initialiser;
use super::layers::{BatchNorm, Convolution, FeatureMap, Gate, Projection};
use super::memory::Memory;
use super::pass::{Branch, Pass, UnitTrace};
use crate::ops::{
    self, Addition, Engine, MomentsSource, Seam, Seams, UnitBranch, UnitLayer, UnitOptions, UnitProjection,
};
use residua_infer::network::{Entry, Exit, NormPlan, UnitPlan, Weighting};

/// `x_{l+1} = f(h(x_l) + F(x_l))`: a residual unit (paper Eq. 1 and 2).
///
/// F is the branch of convolutions, h the shortcut, f what follows the addition; the [plan](UnitPlan) says where BN and ReLU
/// stand, and what the paths are multiplied by. Weights are named as the layers are: `conv1`, `norm1`, ..., `shortcut`, `gate`.
#[derive(Module, Debug)]
pub struct ResidualUnit {
    /// The convolutions of the branch.
    pub convolutions: Vec<Convolution>,
    /// The normalisations of the branch by number, counted from 0; `None` where one has been made already.
    pub norms: Vec<Option<BatchNorm>>,
    /// The projection on the shortcut.
    pub shortcut: Option<Projection>,
    /// The gate, if the paths are gated.
    pub gate: Option<Gate>,
    #[module(skip)]
    plan: UnitPlan,
}

impl ResidualUnit {
    pub(super) fn init(
        plan: UnitPlan,
        bn_group: Option<usize>,
        name: &str,
        initialiser: &Initialiser,
    ) -> Self {
        let norm = |channels: usize| BatchNorm::init(channels, bn_group, initialiser);
        let convolution = |(index, convolution)| {
            Convolution::init(convolution, &format!("{name}.conv{}", index + 1), initialiser)
        };
        let convolutions = plan.convolutions.iter().enumerate().map(convolution).collect();
        let mut norms = Vec::new();
        for NormPlan { number, channels } in plan.norms.iter() {
            norms.resize(number - 1, None);
            norms.push(Some(norm(channels)));
        }
        let shortcut = plan.projection.as_ref().map(|(convolution, has_norm)| Projection {
            conv: Convolution::init(convolution, &format!("{name}.shortcut.conv"), initialiser),
            norm: has_norm.then(|| norm(convolution.outputs)),
        });
        let gate = match (plan.weighting, plan.gate()) {
            (Weighting::Gate { bias, .. }, Some(convolution)) => {
                Some(Gate::init(&convolution, bias, &format!("{name}.gate"), initialiser))
            }
            _ => None,
        };
        Self { convolutions, norms, shortcut, gate, plan }
    }

    /// The layers of this unit, counted.
    pub fn plan(&self) -> &UnitPlan {
        &self.plan
    }

    /// `[batch, height, width, inputs]` to `[batch, ceil(height / stride), ceil(width / stride), outputs]`.
    pub(super) fn forward(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        pass.begin_unit();
        match pass.branch() {
            Branch::Whole => self.forward_whole(input, pass),
            Branch::Scaled(factor) => self.with_branch_scaled(factor).forward_whole(input, pass),
            Branch::Dropped => self.forward_without_branch(input, pass),
        }
    }

    fn forward_whole(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        if self.is_one_operation(pass) {
            return self.run(input, pass);
        }
        let is_rounded = input.is_rounded();
        let output = FeatureMap::from(self.forward_in_parts(input.widened().values, pass));
        if is_rounded { output.rounded() } else { output }
    }

    /// The unit whose branch is multiplied by this positive factor, which its last layer takes over: the weights of the last
    /// convolution, or where a normalisation follows that within the branch, gamma and beta (a ReLU behind them lets the factor through). So
    /// it is one operation as ever, and gradients go through the factor to the parameters.
    fn with_branch_scaled(&self, factor: f64) -> Self {
        let mut unit = self.clone();
        let exit = self.plan.norms.exit.filter(|_| self.plan.exit.normalises_branch());
        match exit.and_then(|norm| unit.norms[norm.number - 1].as_mut()) {
            Some(norm) => {
                norm.weight = scaled(&norm.weight, factor);
                norm.bias = scaled(&norm.bias, factor);
            }
            None => {
                let last = unit.convolutions.len() - 1;
                unit.convolutions[last].weight = scaled(&self.convolutions[last].weight, factor);
            }
        }
        unit
    }

    /// `f(h(x))`: the unit where the branch is left out.
    fn forward_without_branch(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        let UnitPlan { entry, exit, .. } = self.plan;
        let changes = self.plan.stride() != 1 || self.plan.inputs() != self.plan.outputs();
        // Where a ReLU alone follows the addition, it follows that of the unit before, too, and x has been through one.
        let is_identity = !changes && self.shortcut.is_none() && exit != Exit::SumNormRelu;
        if is_identity && entry != Entry::BothActivated {
            return input;
        }
        let is_rounded = input.is_rounded();
        let input = input.widened();
        let x = match entry {
            Entry::Raw | Entry::BranchActivated => input.values,
            Entry::BothActivated => {
                let norm = self.norm(self.plan.norms.entrance).map(|norm| norm.prepare_map(&input, pass));
                ops::merge(pass.engine(), input.values, norm, true, Addition::None, false)
            }
        };
        let shortcut = self.skip(x, pass);
        let output = FeatureMap::from(self.after_addition(shortcut, pass));
        if is_rounded { output.rounded() } else { output }
    }

    fn forward_in_parts(&self, input: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let x = match self.plan.entry {
            Entry::BothActivated => self.activate(input.clone(), pass),
            Entry::Raw | Entry::BranchActivated => input.clone(),
        };
        let shortcut = self.skip(x.clone(), pass);
        let paths = self.paths(&x, pass);
        if !pass.keeps_traces() {
            return self.branch(x, Some(paths.addition(shortcut)), pass);
        }
        let residual = self.branch(x, None, pass);
        let signal = shortcut;
        let (attenuation, residual) = paths.weigh(&signal, residual);
        let shortcut = match &attenuation {
            Some(attenuation) => signal.clone() * attenuation.clone(),
            None => signal.clone(),
        };
        let output = self.after_addition(shortcut.clone() + residual.clone(), pass);
        pass.trace(UnitTrace { input, signal, attenuation, shortcut, residual, output: output.clone() });
        output
    }

    /// Whether this pass takes the unit as one operation.
    fn is_one_operation(&self, pass: &Pass) -> bool {
        let is_plain = self.plan.adds_paths_unweighted() && !pass.drops_in_units();
        is_plain && pass.engine() == Engine::Fused && !pass.keeps_traces()
    }

    /// The whole unit as one operation.
    fn run(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        let [batch, height, width, _] = input.values.dims();
        let mut strides = [1; 3];
        for (stride, convolution) in strides.iter_mut().zip(&self.convolutions) {
            *stride = convolution.stride;
        }
        let options = UnitOptions {
            strides,
            entry: self.plan.entry,
            exit: self.plan.exit,
            source: if pass.is_training() { MomentsSource::Batch } else { MomentsSource::Running },
            groups: self.norms.iter().flatten().next().map_or(1, |norm| norm.groups(batch)),
            keeps_first: pass.memory() != Memory::Balanced,
            precision: pass.precision_of_units(),
        };
        let inner: Vec<&BatchNorm> = self.inner_norms().collect();
        let exit = self.norm(self.plan.norms.exit);
        let rest = self.convolutions[1..].iter().zip(&inner);
        let rest = rest
            .map(|(conv, norm)| UnitLayer { norm: norm.inside(pass), weight: conv.weight.val() })
            .collect();
        let branch = UnitBranch {
            norm: self.norm(self.plan.norms.entrance).map(|norm| norm.prepare_map(&input, pass)),
            weight: self.convolutions[0].weight.val(),
            rest,
            exit: exit.map(|norm| norm.inside(pass)),
        };
        let projection = self.shortcut.as_ref().map(|projection| UnitProjection {
            weight: projection.conv.weight.val(),
            norm: projection.norm.as_ref().map(|norm| norm.inside(pass)),
        });
        let behind = pass.is_training().then(Seam::default);
        let seams = Seams { before: input.seam, behind: behind.clone() };
        let result = ops::unit(input.values, branch, projection, options, seams);
        if pass.is_training() {
            let projected = self.shortcut.as_ref().and_then(|projection| projection.norm.as_ref());
            let at_end = [(exit, &result.exit), (projected, &result.projected)];
            let [_, of_height, of_width, _] = result.y.dims();
            for (norm, moments) in at_end {
                if let (Some(norm), Some(moments)) = (norm, moments) {
                    norm.note(moments, batch / options.groups * of_height * of_width, pass);
                }
            }
            let (mut height, mut width) = (height, width);
            for ((norm, moments), stride) in inner.into_iter().zip(&result.inner).zip(strides) {
                (height, width) = (height.div_ceil(stride), width.div_ceil(stride));
                norm.note(moments, batch / options.groups * height * width, pass);
            }
        }
        FeatureMap { values: result.y, moments: result.moments, seam: behind }
    }

    /// F(x), or with an addition the unit's output: the addition and what follows it then ride in the last operation.
    fn branch(&self, mut x: Tensor<4>, addition: Option<Addition>, pass: &mut Pass) -> Tensor<4> {
        let is_whole = addition.is_some();
        let exit = self.plan.exit;
        // A convolution adds without weights.
        let (mut addend, addition) = match addition {
            Some(Addition::Plain(addend)) if !exit.normalises_branch() => (Some(addend), Addition::None),
            addition => (None, addition.unwrap_or(Addition::None)),
        };
        let last = self.convolutions.len() - 1;
        // What the next convolution has still to apply to what it reads.
        let (mut norm, mut is_activated) = match self.plan.entry {
            Entry::BranchActivated => (self.norm(self.plan.norms.entrance), true),
            Entry::Raw | Entry::BothActivated => (None, false),
        };
        let mut inner = self.inner_norms();
        for (index, conv) in self.convolutions.iter().enumerate() {
            if index == last
                && let Some(factors) = pass.of_unit(x.dims(), &x.device())
            {
                x = merge(x, norm.take(), is_activated, Addition::None, false, pass) * factors;
                is_activated = false;
            }
            let addend = addend.take_if(|_| index == last);
            x = conv.forward_in_unit(x, norm, is_activated, addend, pass);
            (norm, is_activated) = (inner.next(), true);
        }
        let norm = self.norm(self.plan.norms.exit);
        match exit {
            Exit::NormSum => merge(x, norm, false, addition, false, pass),
            Exit::NormReluSum => merge(x, norm, true, addition, false, pass),
            Exit::NormSumRelu => merge(x, norm, false, addition, is_whole, pass),
            Exit::Sum | Exit::SumNormRelu => {
                if !matches!(addition, Addition::None) {
                    x = merge(x, None, false, addition, false, pass);
                }
                if is_whole { self.after_addition(x, pass) } else { x }
            }
        }
    }

    /// f: what follows the addition.
    fn after_addition(&self, y: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        match self.plan.exit {
            Exit::Sum | Exit::NormSum | Exit::NormReluSum => y,
            Exit::NormSumRelu => merge(y, None, true, Addition::None, false, pass),
            Exit::SumNormRelu => merge(y, self.norm(self.plan.norms.exit), true, Addition::None, false, pass),
        }
    }

    /// The activation in front of the first convolution of a pre-activation unit.
    fn activate(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        merge(x, self.norm(self.plan.norms.entrance), true, Addition::None, false, pass)
    }

    fn norm(&self, norm: Option<NormPlan>) -> Option<&BatchNorm> {
        self.norms[norm?.number - 1].as_ref()
    }

    /// Between the convolutions.
    fn inner_norms(&self) -> impl Iterator<Item = &BatchNorm> {
        self.plan.norms.inner.iter().filter_map(|&norm| self.norm(Some(norm)))
    }

    /// The shortcut's signal: the identity, a projection, or every stride-th pixel with zero channels appended.
    fn skip(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        if let Some(projection) = &self.shortcut {
            return projection.forward(x, pass);
        }
        let stride = self.plan.stride();
        let extra = self.plan.outputs() - self.plan.inputs();
        if stride == 1 && extra == 0 {
            return x;
        }
        let every = Slice::new(0, None, stride as isize);
        let strided = x.slice_dim(1, every).slice_dim(2, every);
        let [batch, height, width, _] = strided.dims();
        let zeros = Tensor::zeros([batch, height, width, extra], &strided.device());
        Tensor::cat(vec![strided, zeros], 3)
    }

    /// What the two paths are multiplied by before they are added.
    fn paths(&self, x: &Tensor<4>, pass: &mut Pass) -> Paths {
        match (self.plan.weighting, &self.gate) {
            (Weighting::Constant { shortcut, residual }, _) => Paths::Scaled { shortcut, residual },
            (Weighting::Gate { is_exclusive, .. }, Some(gate)) => Paths::gated(gate, is_exclusive, x, pass),
            (Weighting::Mask { keep }, _) if pass.is_training() => {
                let [batch, height, width, _] = x.dims();
                let stride = self.plan.stride();
                let shape = [batch, height.div_ceil(stride), width.div_ceil(stride), self.plan.outputs()];
                Paths::Masked(pass.mask(shape, keep, &x.device()))
            }
            (Weighting::Mask { keep }, _) => Paths::Scaled { shortcut: keep, residual: 1. },
            (Weighting::None, _) | (Weighting::Gate { .. }, None) => Paths::Plain,
        }
    }
}

/// A parameter times a constant, through which its gradient goes.
fn scaled<const D: usize>(parameter: &Param<Tensor<D>>, factor: f64) -> Param<Tensor<D>> {
    Param::initialized(parameter.id, parameter.val() * factor)
}

/// How branch and shortcut are weighted.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Paths {
    Plain,
    Scaled { shortcut: f64, residual: f64 },
    Gated { logits: Tensor<4>, bias: Tensor<1>, is_exclusive: bool },
    Masked(Tensor<4>),
}

impl Paths {
    fn gated(gate: &Gate, is_exclusive: bool, x: &Tensor<4>, pass: &Pass) -> Self {
        Self::Gated { logits: gate.logits(x.clone(), pass), bias: gate.bias.val(), is_exclusive }
    }

    /// The addition of this shortcut's signal.
    fn addition(self, values: Tensor<4>) -> Addition {
        match self {
            Self::Plain => Addition::Plain(values),
            Self::Scaled { shortcut, residual } => Addition::Scaled { values, shortcut, residual },
            Self::Gated { logits, bias, is_exclusive } => {
                Addition::Gated { values, logits, bias, is_exclusive }
            }
            Self::Masked(mask) => Addition::Masked { values, mask },
        }
    }

    /// What the shortcut's signal is multiplied by, and the branch's term of the addition.
    fn weigh(self, signal: &Tensor<4>, residual: Tensor<4>) -> (Option<Tensor<4>>, Tensor<4>) {
        match self {
            Self::Plain => (None, residual),
            Self::Scaled { shortcut, residual: of_residual } => {
                let factor = Tensor::full(signal.dims(), shortcut, &signal.device());
                (Some(factor), residual * of_residual)
            }
            Self::Gated { logits, bias, is_exclusive } => {
                let gate = activation::sigmoid(logits + bias.unsqueeze());
                let residual = if is_exclusive { residual * gate.clone() } else { residual };
                (Some(gate.neg() + 1.), residual)
            }
            Self::Masked(mask) => (Some(mask), residual),
        }
    }
}

/// `relu(relu(norm(x)) + addend)`, each part optional; see [`ops::merge`].
fn merge(
    x: Tensor<4>,
    norm: Option<&BatchNorm>,
    is_activated_before: bool,
    addition: Addition,
    is_activated_after: bool,
    pass: &mut Pass,
) -> Tensor<4> {
    let norm = norm.map(|norm| norm.prepare(&x, pass));
    ops::merge(pass.engine(), x, norm, is_activated_before, addition, is_activated_after)
}
