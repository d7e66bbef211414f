//! From a network's plan and tensors to its program.

use residua_kernels::{Activation, Algorithm, Epilogue, Instructions, MapShape, Packing};

use super::affine::{Affine, normalisation, values};
use super::elementwise::{Combination, pool};
use super::packed_weights::{Unpacked, Weights};
use super::program::{Program, Slot, Step};
use crate::network::{
    ConvolutionPlan, Entry, NamedTensors, NetworkError, Ordering, ResNetConfig, Shortcut, TensorValues,
    UnitPlan,
};

impl Program {
    /// The program of a network with these tensors for images of `size`.
    ///
    /// # Errors
    /// When there is no such network, it does not take such images, or a tensor is missing.
    pub(super) fn of(
        config: &ResNetConfig,
        tensors: NamedTensors,
        size: [usize; 2],
    ) -> Result<Self, NetworkError> {
        let [height, width] = size;
        config.check_input(height, width)?;
        let plan = config.plan()?;
        let image = MapShape { batch: 1, height, width, channels: 3 };
        let mut compiler = Compiler {
            tensors,
            instructions: Instructions::current(),
            steps: Vec::new(),
            unpacked: Vec::new(),
            trunk: Slot::Trunk(false),
            shape: image,
        };
        compiler.stem(plan.stem.convolution, plan.stem.has_norm, plan.stem.is_activated)?;
        if plan.stem.has_pooling {
            compiler.pool();
        }
        for (stage, units) in plan.stages.iter().enumerate() {
            for (index, unit) in units.iter().enumerate() {
                compiler.unit(unit, &format!("stages.{stage}.{index}"))?;
            }
        }
        let tensors = &compiler.tensors;
        let head = if plan.head.has_norm {
            Affine::of(tensors, "norm")?
        } else {
            Affine::identity(plan.head.features)
        };
        Ok(Self {
            image,
            features: (compiler.trunk, compiler.shape),
            steps: compiler.steps,
            head,
            is_head_activated: plan.head.is_activated,
            weights: values(tensors, "classifier.weight")?.to_vec(),
            bias: values(tensors, "classifier.bias")?.to_vec(),
            convolutions: Weights::new(compiler.unpacked),
        })
    }
}

/// Collects steps while it walks from the images to the last unit.
struct Compiler {
    /// Without the weights of convolutions that have been walked past.
    tensors: NamedTensors,
    instructions: Instructions,
    steps: Vec<Step>,
    /// The weights of the convolutions among them.
    unpacked: Vec<Unpacked>,
    /// Where the walk stands: a feature map and its shape.
    trunk: Slot,
    shape: MapShape,
}

/// How a unit's two paths come together.
struct Junction {
    residual: f64,
    shortcut: f64,
    is_gated: bool,
}

impl Compiler {
    fn stem(
        &mut self,
        plan: ConvolutionPlan,
        has_norm: bool,
        is_activated: bool,
    ) -> Result<(), NetworkError> {
        let norm =
            if has_norm { Affine::of(&self.tensors, "stem.norm")? } else { Affine::identity(plan.outputs) };
        let activation = if is_activated { Activation::After } else { Activation::None };
        let to = self.other_trunk();
        let convolution = self.packed(plan, "stem.conv.weight", &norm, 1.)?;
        let epilogue = shifted(&norm, 1., 0., activation);
        self.convolve(self.trunk, self.shape, convolution, epilogue, to);
        self.arrive(to, plan);
        Ok(())
    }

    fn pool(&mut self) {
        let to = self.other_trunk();
        self.steps.push(Step::Pool { from: self.trunk, input: self.shape, to });
        (self.trunk, self.shape) = (to, pool::output(self.shape));
    }

    fn unit(&mut self, plan: &UnitPlan, name: &str) -> Result<(), NetworkError> {
        let is_full = plan.ordering == Ordering::FullPreActivation;
        let channels = self.shape.channels;
        let mut x = self.trunk;
        if plan.entry == Entry::Activated {
            let norm = if is_full {
                Affine::of(&self.tensors, &format!("{name}.norm1"))?
            } else {
                Affine::identity(channels)
            };
            self.steps.push(Step::Activate { from: x, shape: self.shape, norm, to: Slot::Activated });
            x = Slot::Activated;
        }
        let output = MapShape {
            height: self.shape.height.div_ceil(plan.stride()),
            width: self.shape.width.div_ceil(plan.stride()),
            channels: plan.outputs(),
            ..self.shape
        };
        let signal = self.signal(plan, name, x, output)?;
        let junction = Junction::of(plan.shortcut);
        if let (true, Some(gate)) = (junction.is_gated, plan.gate) {
            let identity = Affine::identity(gate.outputs);
            let convolution = self.packed(gate, &format!("{name}.gate.weight"), &identity, 1.)?;
            self.convolve(
                x,
                self.shape,
                convolution,
                shifted(&identity, 1., 0., Activation::None),
                Slot::Gate,
            );
        }
        let to = self.other_trunk();
        self.branch(plan, name, x, signal, &junction, to)?;
        if junction.is_apart(plan.ordering) {
            self.combine(plan, name, signal, &junction, output, to)?;
        }
        (self.trunk, self.shape) = (to, output);
        Ok(())
    }

    /// What the shortcut carries, before it is weighted.
    fn signal(
        &mut self,
        plan: &UnitPlan,
        name: &str,
        x: Slot,
        output: MapShape,
    ) -> Result<Slot, NetworkError> {
        if let Some((projection, has_norm)) = plan.projection {
            let norm = match has_norm {
                true => Affine::of(&self.tensors, &format!("{name}.shortcut.norm"))?,
                false => Affine::identity(projection.outputs),
            };
            let convolution = self.packed(projection, &format!("{name}.shortcut.conv.weight"), &norm, 1.)?;
            self.convolve(
                x,
                self.shape,
                convolution,
                shifted(&norm, 1., 0., Activation::None),
                Slot::Shortcut,
            );
            return Ok(Slot::Shortcut);
        }
        if output == self.shape {
            return Ok(x);
        }
        self.steps.push(Step::Subsample { from: x, input: self.shape, output, to: Slot::Shortcut });
        Ok(Slot::Shortcut)
    }

    /// The convolutions of the residual branch. The last one adds the shortcut, unless that is done apart.
    fn branch(
        &mut self,
        plan: &UnitPlan,
        name: &str,
        x: Slot,
        signal: Slot,
        junction: &Junction,
        end: Slot,
    ) -> Result<(), NetworkError> {
        let ordering = plan.ordering;
        let is_full = ordering == Ordering::FullPreActivation;
        let last = plan.convolutions.len() - 1;
        let is_apart = junction.is_apart(ordering);
        let (mut from, mut shape) = (x, self.shape);
        for (index, &convolution) in plan.convolutions.iter().enumerate() {
            let is_last = index == last;
            // The normalisation behind this convolution: its own, or, in full pre-activation, the next one's.
            let behind = match (is_full, is_last) {
                (true, true) => None,
                (true, false) => Some(format!("{name}.norm{}", index + 2)),
                (false, _) => Some(format!("{name}.norm{}", index + 1)),
            };
            let norm = match &behind {
                Some(behind) => Affine::of(&self.tensors, behind)?,
                None => Affine::identity(convolution.outputs),
            };
            let weight = format!("{name}.conv{}.weight", index + 1);
            let ((packing, weights), epilogue, addend, to) = if !is_last {
                let packed = self.packed(convolution, &weight, &norm, 1.)?;
                (packed, shifted(&norm, 1., 0., Activation::After), None, Slot::Branch(index % 2 == 1))
            } else {
                let (factor, shortcut, addend) = match is_apart {
                    true => (1., 0., None),
                    false => (junction.residual, junction.shortcut, Some(signal)),
                };
                let (folded, epilogue) = exit(ordering, &norm, factor, shortcut, is_apart);
                let packed = self.packed(convolution, &weight, &folded, factor)?;
                (packed, epilogue, addend, if is_apart { Slot::Branch(index % 2 == 1) } else { end })
            };
            let enters_raw = index == 0 && plan.entry == Entry::Raw && ordering.is_preactivated();
            let before = match enters_raw && is_full {
                true => Some(normalisation(&self.tensors, &format!("{name}.norm1"))?),
                false => None,
            };
            let input = shape;
            shape = packing.output(shape);
            self.steps.push(Step::Convolve {
                from,
                input,
                norm: before,
                is_activated: enters_raw,
                packing,
                weights,
                epilogue,
                addend,
                to,
            });
            from = to;
        }
        Ok(())
    }

    /// The addition of paths that no convolution's epilogue can do.
    fn combine(
        &mut self,
        plan: &UnitPlan,
        name: &str,
        signal: Slot,
        junction: &Junction,
        shape: MapShape,
        to: Slot,
    ) -> Result<(), NetworkError> {
        let last = plan.convolutions.len() - 1;
        let norm = match plan.ordering {
            Ordering::BnAfterAddition => Affine::of(&self.tensors, &format!("{name}.norm{}", last + 1))?,
            _ => Affine::identity(shape.channels),
        };
        let gate = match (junction.is_gated, plan.shortcut) {
            (true, shortcut) => {
                let bias = values(&self.tensors, &format!("{name}.gate.bias"))?.to_vec();
                Some((bias, matches!(shortcut, Shortcut::ExclusiveGating { .. })))
            }
            (false, _) => None,
        };
        self.steps.push(Step::Combine {
            residual: Slot::Branch(last % 2 == 1),
            signal,
            gate: junction.is_gated.then_some(Slot::Gate),
            shape,
            combination: Combination {
                shortcut: junction.shortcut as f32,
                residual: junction.residual as f32,
                gate,
                norm,
                is_activated: matches!(plan.ordering, Ordering::Original | Ordering::BnAfterAddition),
            },
            to,
        });
        Ok(())
    }

    /// The packing of a convolution whose weights are multiplied by `factor`, each output's also by the scale of `norm`, and their number.
    fn packed(
        &mut self,
        plan: ConvolutionPlan,
        weight: &str,
        norm: &Affine,
        factor: f64,
    ) -> Result<(Packing, usize), NetworkError> {
        let ConvolutionPlan { inputs, outputs, size, stride } = plan;
        let missing = || NetworkError::Weights(format!("'{weight}' is missing"));
        let TensorValues { values, .. } = self.tensors.remove(weight).ok_or_else(missing)?;
        if values.len() != inputs * outputs * size * size {
            return Err(NetworkError::Weights(format!("'{weight}' has {} values", values.len())));
        }
        let packing = Packing::new(inputs, outputs, size, stride, Algorithm::current(), self.instructions);
        let scale: Vec<f64> = norm.scale.iter().map(|scale| f64::from(*scale) * factor).collect();
        let scale = scale.iter().any(|scale| *scale != 1.).then_some(scale);
        self.unpacked.push(Unpacked { packing, values, scale });
        Ok((packing, self.unpacked.len() - 1))
    }

    fn convolve(
        &mut self,
        from: Slot,
        input: MapShape,
        (packing, weights): (Packing, usize),
        epilogue: Epilogue,
        to: Slot,
    ) {
        let (norm, is_activated, addend) = (None, false, None);
        self.steps.push(Step::Convolve {
            from,
            input,
            norm,
            is_activated,
            packing,
            weights,
            epilogue,
            addend,
            to,
        });
    }

    fn other_trunk(&self) -> Slot {
        Slot::Trunk(self.trunk == Slot::Trunk(false))
    }

    fn arrive(&mut self, to: Slot, plan: ConvolutionPlan) {
        let side = |pixels: usize| pixels.div_ceil(plan.stride);
        let (height, width) = (side(self.shape.height), side(self.shape.width));
        (self.trunk, self.shape) = (to, MapShape { height, width, channels: plan.outputs, ..self.shape });
    }
}

impl Junction {
    fn of(shortcut: Shortcut) -> Self {
        let weighted = |residual, shortcut| Self { residual, shortcut, is_gated: false };
        match shortcut {
            Shortcut::Identity | Shortcut::Conv1x1 => weighted(1., 1.),
            Shortcut::ConstantScaling { shortcut, residual } => weighted(residual, shortcut),
            // At test the shortcut is multiplied by what was kept in training.
            Shortcut::Dropout { probability } => weighted(1., 1. - probability),
            Shortcut::ExclusiveGating { .. } | Shortcut::ShortcutOnlyGating { .. } => {
                Self { is_gated: true, ..weighted(1., 1.) }
            }
        }
    }

    /// Whether the paths are added in a step of their own: a gate's weights differ from pixel to pixel, and a negative factor does not go
    /// through a ReLU.
    fn is_apart(&self, ordering: Ordering) -> bool {
        self.is_gated || (ordering == Ordering::ReluBeforeAddition && self.residual < 0.)
    }
}

/// What the last convolution's weights are multiplied by besides `factor`, and its epilogue.
fn exit(ordering: Ordering, norm: &Affine, factor: f64, shortcut: f64, is_apart: bool) -> (Affine, Epilogue) {
    let identity = || Affine::identity(norm.scale.len());
    match ordering {
        Ordering::Original => {
            let activation = if is_apart { Activation::None } else { Activation::After };
            (norm.clone(), shifted(norm, factor, shortcut, activation))
        }
        Ordering::ReluBeforeAddition => (norm.clone(), shifted(norm, factor, shortcut, Activation::Before)),
        Ordering::ReluOnlyPreActivation => (norm.clone(), shifted(norm, factor, shortcut, Activation::None)),
        Ordering::FullPreActivation => (identity(), shifted(&identity(), 1., shortcut, Activation::None)),
        Ordering::BnAfterAddition if is_apart => {
            (identity(), shifted(&identity(), 1., shortcut, Activation::None))
        }
        Ordering::BnAfterAddition => {
            let epilogue = Epilogue::new(&norm.scale, &norm.shift, shortcut as f32, Activation::After);
            (identity(), epilogue)
        }
    }
}

/// The epilogue behind weights that the scale has been folded into.
fn shifted(norm: &Affine, factor: f64, shortcut: f64, activation: Activation) -> Epilogue {
    let shift: Vec<f32> = norm.shift.iter().map(|shift| (f64::from(*shift) * factor) as f32).collect();
    Epilogue::new(&vec![1.; shift.len()], &shift, shortcut as f32, activation)
}
