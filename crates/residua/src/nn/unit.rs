//! The residual unit: one type for every ordering, shortcut, block and dimension change.

use burn::module::Module;
use burn::tensor::{Slice, Tensor, activation};

use super::initialise::Initialiser;
use super::layers::{BatchNorm, Convolution, FeatureMap, Gate, Projection};
use super::memory::Memory;
use super::pass::{Pass, UnitTrace};
use crate::ops::{
    self, Addition, Engine, Exit, MomentsSource, Seam, Seams, UnitBranch, UnitLayer, UnitOptions,
    UnitProjection,
};
use residua_infer::network::{Entry, Ordering, Shortcut, UnitPlan};

/// `x_{l+1} = f(h(x_l) + F(x_l))`: a residual unit (paper Eq. 1 and 2).
///
/// F is the branch of convolutions, h the shortcut, f what follows the addition; [`Ordering`] says where BN and ReLU
/// stand, [`Shortcut`] what h is. Weights are named as the layers are: `conv1`, `norm1`, ..., `shortcut`, `gate`.
#[derive(Module, Debug)]
pub struct ResidualUnit {
    /// Convolutions of the branch, each with its BN.
    pub layers: Vec<Layer>,
    /// The projection on the shortcut.
    pub shortcut: Option<Projection>,
    /// The gate, if the shortcut is gated.
    pub gate: Option<Gate>,
    #[module(skip)]
    plan: UnitPlan,
}

/// A convolution of the branch and the BN that belongs to it, in front of it or behind it by the ordering.
#[derive(Module, Debug)]
pub struct Layer {
    /// The convolution.
    pub conv: Convolution,
    /// Its normalisation; `None` where it has been made already.
    pub norm: Option<BatchNorm>,
}

impl ResidualUnit {
    pub(super) fn init(
        plan: UnitPlan,
        bn_group: Option<usize>,
        name: &str,
        initialiser: &Initialiser,
    ) -> Self {
        let norm = |channels: usize| BatchNorm::init(channels, bn_group, initialiser);
        let layers = plan
            .convolutions
            .iter()
            .zip(&plan.norms)
            .enumerate()
            .map(|(index, (convolution, channels))| Layer {
                conv: Convolution::init(convolution, &format!("{name}.conv{}", index + 1), initialiser),
                norm: channels.map(norm),
            })
            .collect();
        let shortcut = plan.projection.as_ref().map(|(convolution, has_norm)| Projection {
            conv: Convolution::init(convolution, &format!("{name}.shortcut.conv"), initialiser),
            norm: has_norm.then(|| norm(convolution.outputs)),
        });
        let gate = match plan.shortcut {
            Shortcut::ExclusiveGating { bias } | Shortcut::ShortcutOnlyGating { bias } => plan
                .gate
                .as_ref()
                .map(|convolution| Gate::init(convolution, bias, &format!("{name}.gate"), initialiser)),
            _ => None,
        };
        Self { layers, shortcut, gate, plan }
    }

    /// The layers of this unit, counted.
    pub fn plan(&self) -> &UnitPlan {
        &self.plan
    }

    /// `[batch, height, width, inputs]` to `[batch, ceil(height / stride), ceil(width / stride), outputs]`.
    pub(super) fn forward(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        pass.begin_unit();
        if self.is_one_operation(pass) {
            return self.run(input, pass);
        }
        let is_rounded = input.is_rounded();
        let output = FeatureMap::from(self.forward_in_parts(input.widened().values, pass));
        if is_rounded { output.rounded() } else { output }
    }

    fn forward_in_parts(&self, input: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        let x = match self.plan.entry {
            Entry::Activated => self.activate(input.clone(), pass),
            Entry::Raw | Entry::AlreadyActivated => input.clone(),
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
        self.plan.adds_paths_unweighted() && pass.engine() == Engine::Fused && !pass.keeps_traces()
    }

    /// The whole unit as one operation.
    fn run(&self, input: FeatureMap, pass: &mut Pass) -> FeatureMap {
        let [batch, height, width, _] = input.values.dims();
        let ordering = self.plan.ordering;
        let mut strides = [1; 3];
        for (stride, layer) in strides.iter_mut().zip(&self.layers) {
            *stride = layer.conv.stride;
        }
        let mut norms = self.layers.iter().filter_map(|layer| layer.norm.as_ref());
        let options = UnitOptions {
            strides,
            is_activated: ordering.is_preactivated() && self.plan.entry == Entry::Raw,
            is_activation_shared: self.plan.entry == Entry::Activated,
            exit: exit(ordering),
            source: if pass.is_training() { MomentsSource::Batch } else { MomentsSource::Running },
            groups: norms.next().map_or(1, |norm| norm.groups(batch)),
            keeps_first: pass.memory() != Memory::Balanced,
        };
        // Full pre-activation has a norm in front of each convolution, the others one behind each.
        let (entry, inner, exit) = match ordering {
            Ordering::FullPreActivation => (self.layers[0].norm.as_ref(), &self.layers[1..], None),
            _ => (None, &self.layers[..], self.layers.last().and_then(|layer| layer.norm.as_ref())),
        };
        let inner: Vec<&BatchNorm> = inner.iter().filter_map(|layer| layer.norm.as_ref()).collect();
        let rest = self.layers[1..].iter().zip(&inner);
        let rest = rest
            .map(|(layer, norm)| UnitLayer { norm: norm.inside(pass), weight: layer.conv.weight.val() })
            .collect();
        let branch = UnitBranch {
            norm: entry.map(|norm| norm.prepare_map(&input, pass)),
            weight: self.layers[0].conv.weight.val(),
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
        // A convolution adds without weights.
        let (mut addend, addition) = match (self.plan.ordering, addition) {
            (Ordering::FullPreActivation | Ordering::BnAfterAddition, Some(Addition::Plain(addend))) => {
                (Some(addend), Addition::None)
            }
            (_, addition) => (None, addition.unwrap_or(Addition::None)),
        };
        let is_activated_at_entry = self.plan.entry != Entry::Raw;
        let last = self.layers.len() - 1;
        // The normalisation that the next operation has still to apply, for orderings with BN behind a convolution.
        let mut pending: Option<&BatchNorm> = None;
        for (index, Layer { conv, norm }) in self.layers.iter().enumerate() {
            let is_first = index == 0;
            x = match self.plan.ordering {
                Ordering::FullPreActivation => {
                    let is_activated = !(is_first && is_activated_at_entry);
                    let norm = norm.as_ref().filter(|_| is_activated);
                    conv.forward(x, norm, is_activated, addend.take_if(|_| index == last), pass)
                }
                Ordering::ReluOnlyPreActivation => {
                    let is_activated = !(is_first && is_activated_at_entry);
                    conv.forward(x, pending, is_activated, None, pass)
                }
                Ordering::BnAfterAddition => {
                    conv.forward(x, pending, !is_first, addend.take_if(|_| index == last), pass)
                }
                Ordering::Original | Ordering::ReluBeforeAddition => {
                    conv.forward(x, pending, !is_first, None, pass)
                }
            };
            pending = norm.as_ref();
        }
        match (self.plan.ordering, pending) {
            (Ordering::Original, Some(norm)) => return norm.merge(x, false, addition, is_whole, pass),
            (Ordering::ReluBeforeAddition, Some(norm)) => return norm.merge(x, true, addition, false, pass),
            (Ordering::ReluOnlyPreActivation, Some(norm)) => {
                return norm.merge(x, false, addition, false, pass);
            }
            _ => {}
        }
        if !matches!(addition, Addition::None) {
            x = ops::merge(pass.engine(), x, None, false, addition, false);
        }
        match self.plan.ordering {
            Ordering::BnAfterAddition if is_whole => self.after_addition(x, pass),
            _ => x,
        }
    }

    /// f: what follows the addition.
    fn after_addition(&self, y: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        match (self.plan.ordering, self.layers.last().and_then(|layer| layer.norm.as_ref())) {
            (Ordering::Original, _) => ops::merge(pass.engine(), y, None, true, Addition::None, false),
            (Ordering::BnAfterAddition, Some(norm)) => norm.merge(y, true, Addition::None, false, pass),
            _ => y,
        }
    }

    /// The activation in front of the first convolution of a pre-activation unit.
    fn activate(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<4> {
        match (self.plan.ordering, &self.layers[0].norm) {
            (Ordering::FullPreActivation, Some(norm)) => norm.merge(x, true, Addition::None, false, pass),
            _ => ops::merge(pass.engine(), x, None, true, Addition::None, false),
        }
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
        match (self.plan.shortcut, &self.gate) {
            (Shortcut::ConstantScaling { shortcut, residual }, _) => Paths::Scaled { shortcut, residual },
            (Shortcut::ExclusiveGating { .. }, Some(gate)) => Paths::gated(gate, true, x, pass),
            (Shortcut::ShortcutOnlyGating { .. }, Some(gate)) => Paths::gated(gate, false, x, pass),
            (Shortcut::Dropout { probability }, _) if pass.is_training() => {
                let [batch, height, width, _] = x.dims();
                let stride = self.plan.stride();
                let shape = [batch, height.div_ceil(stride), width.div_ceil(stride), self.plan.outputs()];
                Paths::Masked(pass.mask(shape, 1. - probability, &x.device()))
            }
            (Shortcut::Dropout { probability }, _) => {
                Paths::Scaled { shortcut: 1. - probability, residual: 1. }
            }
            _ => Paths::Plain,
        }
    }
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

/// What follows the last convolution.
fn exit(ordering: Ordering) -> Exit {
    let norm_then_sum = |is_activated_before, is_activated_after| Exit::NormThenSum {
        is_activated_before,
        is_activated_after,
    };
    match ordering {
        Ordering::Original => norm_then_sum(false, true),
        Ordering::BnAfterAddition => Exit::SumThenNorm,
        Ordering::ReluBeforeAddition => norm_then_sum(true, false),
        Ordering::ReluOnlyPreActivation => norm_then_sum(false, false),
        Ordering::FullPreActivation => Exit::Sum,
    }
}
