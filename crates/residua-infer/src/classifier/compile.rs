//! From a network's plan and tensors to its program.

use residua_kernels::{
    Activation, Algorithm, Epilogue, Instructions, Int8Packing, MapShape, MaxPool, Normalisation, Packing,
    Quantisation, Reading,
};

use super::ClassifierPrecision;
use super::affine::{Affine, normalisation, values};
use super::elementwise::Combination;
use super::packed_weights::{AnyPacking, Unpacked, Weights};
use super::program::{Convolve, Head, Program, Slot, Step};
use crate::network::{
    ConvolutionPlan, Entry, Exit, HeadPlan, NamedTensors, NetworkError, NormPlan, ResNetConfig, TensorValues,
    UnitPlan, Weighting,
};

/// The name of the classifier's weights.
const CLASSIFIER: &str = "classifier.weight";

/// Pixels from which on an image's first maps do not stay in the caches.
const MANY_PIXELS: usize = 64 * 64;
/// Pixels of a map of such an image up to which there is less of it than of the weights.
const FEW_PIXELS: usize = 16 * 16;

impl Program {
    /// The program of a network with these tensors for images of `size`.
    ///
    /// # Errors
    /// When there is no such network, it does not take such images, or a tensor or a convolution's range is missing.
    ///
    /// # Panics
    /// When this processor does not compute in the precision.
    pub(super) fn of(
        config: &ResNetConfig,
        tensors: NamedTensors,
        size: [usize; 2],
        precision: &ClassifierPrecision,
    ) -> Result<Self, NetworkError> {
        let [height, width] = size;
        config.check_input(height, width)?;
        let plan = config.plan()?;
        let image = MapShape { batch: 1, height, width, channels: 3 };
        let mut compiler = Compiler {
            tensors,
            instructions: Instructions::current(),
            precision,
            steps: Vec::new(),
            unpacked: Vec::new(),
            names: Vec::new(),
            trunk: Slot::Trunk(false),
            shape: image,
        };
        compiler.stem(plan.stem.convolution, plan.stem.has_norm, plan.stem.is_activated)?;
        if plan.stem.has_pooling {
            compiler.pool();
        }
        let mut alone = Vec::new();
        let mut between = (compiler.trunk, compiler.shape);
        let mut pass_alone = |compiler: &mut Compiler| {
            alone.append(&mut compiler.steps);
            between = (compiler.trunk, compiler.shape);
        };
        if image.pixels() >= MANY_PIXELS {
            pass_alone(&mut compiler);
        }
        for (stage, units) in plan.stages.iter().enumerate() {
            for (index, unit) in units.iter().enumerate() {
                compiler.unit(unit, &format!("stages.{stage}.{index}"))?;
                if compiler.shape.pixels() > FEW_PIXELS && image.pixels() >= MANY_PIXELS {
                    pass_alone(&mut compiler);
                }
            }
        }
        let head = compiler.head(&plan.head)?;
        Ok(Self {
            image,
            alone,
            together: compiler.steps,
            between,
            features: (compiler.trunk, compiler.shape),
            head,
            convolutions: Weights::new(compiler.unpacked),
            names: compiler.names,
            numbers: precision.numbers(),
        })
    }
}

/// Collects steps while it walks from the images to the last unit.
struct Compiler<'a> {
    /// Without the weights of convolutions that have been walked past.
    tensors: NamedTensors,
    instructions: Instructions,
    precision: &'a ClassifierPrecision,
    steps: Vec<Step>,
    /// The weights of the convolutions among them, and their names.
    unpacked: Vec<Unpacked>,
    names: Vec<String>,
    /// Where the walk stands: a feature map and its shape.
    trunk: Slot,
    shape: MapShape,
}

/// What a unit's two paths are multiplied by.
struct Paths {
    residual: f64,
    shortcut: f64,
    /// Of a gate, whether it is exclusive.
    gate: Option<bool>,
}

impl Compiler<'_> {
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
        let pool = MaxPool { input: self.shape, instructions: self.instructions };
        self.steps.push(Step::Pool { from: self.trunk, pool, to });
        (self.trunk, self.shape) = (to, pool.output());
    }

    fn unit(&mut self, plan: &UnitPlan, name: &str) -> Result<(), NetworkError> {
        let mut x = self.trunk;
        if plan.entry == Entry::BothActivated {
            let norm = self.entrance(name, plan.norms.entrance)?;
            let reading = Reading { shape: self.shape, instructions: self.instructions };
            self.steps.push(Step::Activate { from: x, reading, norm, to: Slot::Activated });
            x = Slot::Activated;
        }
        let output = MapShape {
            height: self.shape.height.div_ceil(plan.stride()),
            width: self.shape.width.div_ceil(plan.stride()),
            channels: plan.outputs(),
            ..self.shape
        };
        let signal = self.signal(plan, name, x, output)?;
        let paths = Paths::of(plan.weighting);
        if let Some(gate) = plan.gate() {
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
        self.branch(plan, name, x, signal, &paths, to)?;
        if paths.are_added_apart(plan.exit) {
            self.combine(plan, name, signal, &paths, output, to)?;
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
        paths: &Paths,
        end: Slot,
    ) -> Result<(), NetworkError> {
        let last = plan.convolutions.len() - 1;
        let is_apart = paths.are_added_apart(plan.exit);
        let (mut from, mut shape) = (x, self.shape);
        for (index, &convolution) in plan.convolutions.iter().enumerate() {
            let is_last = index == last;
            let behind = if is_last { plan.norms.exit } else { Some(plan.norms.inner[index]) };
            let norm = self.norm(name, behind, convolution.outputs)?;
            let weight = format!("{name}.conv{}.weight", index + 1);
            let mut quantisation = None;
            let ((packing, weights), epilogue, addend, to) = if !is_last {
                let packed = self.packed(convolution, &weight, &norm, 1.)?;
                quantisation = self.quantisation(&format!("{name}.conv{}.weight", index + 2))?;
                let of_index = index % 2 == 1;
                let to = if quantisation.is_some() { Slot::Bytes(of_index) } else { Slot::Branch(of_index) };
                (packed, shifted(&norm, 1., 0., Activation::After), None, to)
            } else {
                let (factor, shortcut, addend) = match is_apart {
                    true => (1., 0., None),
                    false => (paths.residual, paths.shortcut, Some(signal)),
                };
                let (folded, epilogue) = exit(plan.exit, &norm, factor, shortcut, is_apart);
                let packed = self.packed(convolution, &weight, &folded, factor)?;
                (packed, epilogue, addend, if is_apart { Slot::Branch(index % 2 == 1) } else { end })
            };
            let is_activated = index == 0 && plan.entry == Entry::BranchActivated;
            let before = self.entrance(name, plan.norms.entrance.filter(|_| is_activated))?;
            let input = shape;
            shape = packing.output(shape);
            self.steps.push(Step::Convolve(Convolve {
                from,
                input,
                norm: before,
                is_activated,
                packing,
                weights,
                epilogue,
                addend,
                quantisation,
                to,
            }));
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
        paths: &Paths,
        shape: MapShape,
        to: Slot,
    ) -> Result<(), NetworkError> {
        let last = plan.convolutions.len() - 1;
        let (norm, is_activated) = match plan.exit {
            Exit::SumNormRelu => (plan.norms.exit, true),
            Exit::NormSumRelu => (None, true),
            Exit::Sum | Exit::NormSum | Exit::NormReluSum => (None, false),
        };
        let norm = self.norm(name, norm, shape.channels)?;
        let gate = match paths.gate {
            Some(is_exclusive) => {
                Some((values(&self.tensors, &format!("{name}.gate.bias"))?.to_vec(), is_exclusive))
            }
            None => None,
        };
        self.steps.push(Step::Combine {
            residual: Slot::Branch(last % 2 == 1),
            signal,
            gate: paths.gate.map(|_| Slot::Gate),
            shape,
            combination: Combination {
                shortcut: paths.shortcut as f32,
                residual: paths.residual as f32,
                gate,
                norm,
                is_activated,
            },
            to,
        });
        Ok(())
    }

    /// A normalisation that is applied while a map is read.
    fn entrance(&self, unit: &str, norm: Option<NormPlan>) -> Result<Option<Normalisation>, NetworkError> {
        norm.map(|norm| normalisation(&self.tensors, &format!("{unit}.{}", norm.name()))).transpose()
    }

    /// A normalisation of a unit of this name, or none of a map of so many channels.
    fn norm(&self, unit: &str, norm: Option<NormPlan>, channels: usize) -> Result<Affine, NetworkError> {
        match norm {
            Some(norm) => Affine::of(&self.tensors, &format!("{unit}.{}", norm.name())),
            None => Ok(Affine::identity(channels)),
        }
    }

    /// The packing of a convolution whose weights are multiplied by `factor`, each output's also by the scale of `norm`, and their number.
    fn packed(
        &mut self,
        plan: ConvolutionPlan,
        weight: &str,
        norm: &Affine,
        factor: f64,
    ) -> Result<(AnyPacking, usize), NetworkError> {
        let ConvolutionPlan { inputs, outputs, size, stride } = plan;
        let packing = match self.quantisation(weight)? {
            Some(input) => {
                let channels = [inputs, outputs];
                AnyPacking::Bytes(Int8Packing::new(channels, size, stride, input, self.instructions))
            }
            None => {
                let algorithm = match self.precision {
                    ClassifierPrecision::Bf16 => Algorithm::Bf16,
                    ClassifierPrecision::F32 | ClassifierPrecision::Int8(_) => Algorithm::current(),
                };
                let instructions = self.instructions;
                AnyPacking::Numbers(Packing::new(inputs, outputs, size, stride, algorithm, instructions))
            }
        };
        let missing = || NetworkError::Weights(format!("'{weight}' is missing"));
        let TensorValues { values, .. } = self.tensors.remove(weight).ok_or_else(missing)?;
        if values.len() != inputs * outputs * size * size {
            return Err(NetworkError::Weights(format!("'{weight}' has {} values", values.len())));
        }
        let scale: Vec<f64> = norm.scale.iter().map(|scale| f64::from(*scale) * factor).collect();
        let scale = scale.iter().any(|scale| *scale != 1.).then_some(scale);
        self.unpacked.push(Unpacked { packing, values, scale });
        self.names.push(weight.to_owned());
        Ok((packing, self.unpacked.len() - 1))
    }

    /// How bytes stand for what the convolution with these weights reads, if it computes with bytes: all but the classifier do.
    fn quantisation(&self, weight: &str) -> Result<Option<Quantisation>, NetworkError> {
        let ClassifierPrecision::Int8(ranges) = self.precision else { return Ok(None) };
        if weight == CLASSIFIER {
            return Ok(None);
        }
        let missing = || {
            NetworkError::Weights(format!(
                "the range of what '{weight}' is multiplied by is missing; export the network to int8 again"
            ))
        };
        ranges.quantisation(weight).map(Some).ok_or_else(missing)
    }

    fn convolve(
        &mut self,
        from: Slot,
        input: MapShape,
        (packing, weights): (AnyPacking, usize),
        epilogue: Epilogue,
        to: Slot,
    ) {
        let (norm, is_activated, addend, quantisation) = (None, false, None, None);
        self.steps.push(Step::Convolve(Convolve {
            from,
            input,
            norm,
            is_activated,
            packing,
            weights,
            epilogue,
            addend,
            quantisation,
            to,
        }));
    }

    fn head(&mut self, plan: &HeadPlan) -> Result<Head, NetworkError> {
        let norm = match plan.has_norm {
            true => Affine::of(&self.tensors, "norm")?,
            false => Affine::identity(plan.features),
        };
        let bias = values(&self.tensors, "classifier.bias")?.to_vec();
        let classes = bias.len();
        let convolution = ConvolutionPlan { inputs: plan.features, outputs: classes, size: 1, stride: 1 };
        let identity = Affine::identity(classes);
        let (packing, weights) = self.packed(convolution, CLASSIFIER, &identity, 1.)?;
        let AnyPacking::Numbers(packing) = packing else { unreachable!("the classifier reads numbers") };
        let epilogue = Epilogue::new(&identity.scale, &bias, 0., Activation::None);
        Ok(Head { norm, is_activated: plan.is_activated, packing, weights, epilogue, classes })
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

impl Paths {
    fn of(weighting: Weighting) -> Self {
        let (residual, shortcut, gate) = match weighting {
            Weighting::None => (1., 1., None),
            Weighting::Constant { shortcut, residual } => (residual, shortcut, None),
            Weighting::Mask { keep } => (1., keep, None),
            Weighting::Gate { is_exclusive, .. } => (1., 1., Some(is_exclusive)),
        };
        Self { residual, shortcut, gate }
    }

    /// Whether the paths are added in a step of their own: a gate's weights differ from pixel to pixel, and a negative factor does not go
    /// through a ReLU.
    fn are_added_apart(&self, exit: Exit) -> bool {
        self.gate.is_some() || (exit == Exit::NormReluSum && self.residual < 0.)
    }
}

/// What the last convolution's weights are multiplied by besides `factor`, and its epilogue.
fn exit(exit: Exit, norm: &Affine, factor: f64, shortcut: f64, is_apart: bool) -> (Affine, Epilogue) {
    let identity = || Affine::identity(norm.scale.len());
    match exit {
        Exit::NormSumRelu => {
            let activation = if is_apart { Activation::None } else { Activation::After };
            (norm.clone(), shifted(norm, factor, shortcut, activation))
        }
        Exit::NormReluSum => (norm.clone(), shifted(norm, factor, shortcut, Activation::Before)),
        Exit::NormSum => (norm.clone(), shifted(norm, factor, shortcut, Activation::None)),
        Exit::SumNormRelu if !is_apart => {
            (identity(), Epilogue::new(&norm.scale, &norm.shift, shortcut as f32, Activation::After))
        }
        Exit::Sum | Exit::SumNormRelu => (identity(), shifted(&identity(), 1., shortcut, Activation::None)),
    }
}

/// The epilogue behind weights that the scale has been folded into.
fn shifted(norm: &Affine, factor: f64, shortcut: f64, activation: Activation) -> Epilogue {
    let shift: Vec<f32> = norm.shift.iter().map(|shift| (f64::from(*shift) * factor) as f32).collect();
    Epilogue::new(&vec![1.; shift.len()], &shift, shortcut as f32, activation)
}
