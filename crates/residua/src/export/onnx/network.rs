//! From a network's plan to nodes.

use residua_infer::WeightsInfo;
use residua_infer::network::{Entry, Exit, Plan, StemPlan, UnitPlan, Weighting};
use residua_infer::normalisation::Normalisation;

use super::graph::{GraphBuilder, Window};
use super::message::{self, Attribute};
use super::ports::Port;
use super::{AxisOrder, OnnxOptions, Pixels, Scores};

impl GraphBuilder {
    /// The input, normalised, `[batch, channels, height, width]`.
    pub(super) fn images(&mut self, input: &Port, info: &WeightsInfo, options: OnnxOptions) -> String {
        let mut x = input.name.to_owned();
        if options.pixels == Pixels::Raw {
            let to = Attribute::of_integer("to", i64::from(message::FLOAT));
            x = self.node("Cast", "images.float", &[&x], vec![to]);
        }
        if options.axes == AxisOrder::Nhwc {
            let order = Attribute::of_integers("perm", &[0, 3, 1, 2]);
            x = self.node("Transpose", "images.nchw", &[&x], vec![order]);
        }
        match options.pixels {
            Pixels::Normalised => x,
            Pixels::Raw => self.normalise(&x, info),
        }
    }

    /// What [`Normalisation::apply`] does, in the same operations.
    fn normalise(&mut self, x: &str, info: &WeightsInfo) -> String {
        let largest = self.number("images.largest", 255.);
        let x = self.node("Div", "images.units", &[x, &largest], vec![]);
        let of_channels = || vec![1, 3, 1, 1];
        match &info.normalisation {
            Normalisation::PerChannel { mean, deviation } => {
                let mean = self.floats("images.mean", of_channels(), mean.to_vec());
                let deviation = self.floats("images.deviation", of_channels(), deviation.to_vec());
                let x = self.node("Sub", "images.centred", &[&x, &mean], vec![]);
                self.node("Div", "images.normalised", &[&x, &deviation], vec![])
            }
            Normalisation::PerPixelMean { mean } => {
                let planes = (0..3).flat_map(|channel| mean.iter().skip(channel).step_by(3).copied());
                let mean = self.floats("images.mean", vec![1, 3, info.height, info.width], planes.collect());
                self.node("Sub", "images.normalised", &[&x, &mean], vec![])
            }
        }
    }

    /// From normalised images to scores of this name.
    pub(super) fn residual_network(&mut self, plan: &Plan, images: String, scores: Scores, output: &str) {
        let mut x = self.stem(&plan.stem, &images);
        for (stage, units) in plan.stages.iter().enumerate() {
            for (index, unit) in units.iter().enumerate() {
                x = self.unit(unit, &format!("stages.{stage}.{index}"), &x);
            }
        }
        if plan.head.has_norm {
            x = self.norm("norm", &x);
        }
        if plan.head.is_activated {
            x = self.relu("relu", &x);
        }
        self.classify("classifier", &x, scores, output);
    }

    fn stem(&mut self, plan: &StemPlan, images: &str) -> String {
        let mut x = self.convolve("stem.conv", images, plan.convolution);
        if plan.has_norm {
            x = self.norm("stem.norm", &x);
        }
        if plan.is_activated {
            x = self.relu("stem.relu", &x);
        }
        if plan.has_pooling {
            x = self.max_pool("stem.pool", &x, Window::centred(3, 2));
        }
        x
    }

    fn unit(&mut self, plan: &UnitPlan, name: &str, x: &str) -> String {
        let (for_shortcut, for_branch) = match plan.entry {
            Entry::Raw => (x.to_owned(), x.to_owned()),
            Entry::BranchActivated => (x.to_owned(), self.entrance(plan, name, x)),
            Entry::BothActivated => {
                let x = self.entrance(plan, name, x);
                (x.clone(), x)
            }
        };
        let mut residual = self.branch(plan, name, &for_branch);
        let mut signal = self.signal(plan, name, &for_shortcut);
        match plan.weighting {
            Weighting::None => {}
            Weighting::Constant { shortcut, residual: factor } => {
                signal = self.scale(&format!("{name}.shortcut.scaled"), &signal, shortcut);
                residual = self.scale(&format!("{name}.branch.scaled"), &residual, factor);
            }
            Weighting::Mask { keep } => {
                signal = self.scale(&format!("{name}.shortcut.scaled"), &signal, keep);
            }
            Weighting::Gate { is_exclusive, .. } => {
                let gate = self.gate(plan, name, &for_shortcut);
                let one = self.number("one", 1.);
                let inverse = self.node("Sub", format!("{name}.gate.inverse"), &[&one, &gate], vec![]);
                signal = self.node("Mul", format!("{name}.shortcut.gated"), &[&signal, &inverse], vec![]);
                if is_exclusive {
                    residual = self.node("Mul", format!("{name}.branch.gated"), &[&residual, &gate], vec![]);
                }
            }
        }
        let sum = self.node("Add", format!("{name}.sum"), &[&residual, &signal], vec![]);
        match (plan.exit, plan.norms.exit) {
            (Exit::Sum | Exit::NormSum | Exit::NormReluSum, _) => sum,
            (Exit::SumNormRelu, Some(norm)) => {
                let sum = self.norm(&format!("{name}.{}", norm.name()), &sum);
                self.relu(format!("{name}.relu"), &sum)
            }
            (Exit::NormSumRelu | Exit::SumNormRelu, _) => self.relu(format!("{name}.relu"), &sum),
        }
    }

    /// What stands in front of the first convolution.
    fn entrance(&mut self, plan: &UnitPlan, name: &str, x: &str) -> String {
        let x = match plan.norms.entrance {
            Some(norm) => self.norm(&format!("{name}.{}", norm.name()), x),
            None => x.to_owned(),
        };
        self.relu(format!("{name}.relu0"), &x)
    }

    /// The convolutions with what stands between and, before the addition, behind them.
    fn branch(&mut self, plan: &UnitPlan, name: &str, x: &str) -> String {
        let behind = plan.norms.exit.filter(|_| plan.exit.normalises_branch());
        let norms = plan.norms.inner.iter().copied().map(Some).chain([behind]);
        let last = plan.convolutions.len();
        let mut x = x.to_owned();
        for ((number, &convolution), norm) in (1..).zip(&plan.convolutions).zip(norms) {
            x = self.convolve(&format!("{name}.conv{number}"), &x, convolution);
            if let Some(norm) = norm {
                x = self.norm(&format!("{name}.{}", norm.name()), &x);
            }
            if number < last || plan.exit == Exit::NormReluSum {
                x = self.relu(format!("{name}.relu{number}"), &x);
            }
        }
        x
    }

    /// What the shortcut carries, before it is weighted.
    fn signal(&mut self, plan: &UnitPlan, name: &str, x: &str) -> String {
        if let Some((projection, has_norm)) = plan.projection {
            let x = self.convolve(&format!("{name}.shortcut.conv"), x, projection);
            return if has_norm { self.norm(&format!("{name}.shortcut.norm"), &x) } else { x };
        }
        let mut x = x.to_owned();
        if plan.stride() > 1 {
            x = self.every(&format!("{name}.shortcut.every"), &x, plan.stride());
        }
        if plan.outputs() > plan.inputs() {
            let channels = plan.outputs() - plan.inputs();
            x = self.append_zeros(&format!("{name}.shortcut.zeros"), &x, channels);
        }
        x
    }

    /// `sigmoid(W_g x + b_g)`
    fn gate(&mut self, plan: &UnitPlan, name: &str, x: &str) -> String {
        let convolution = plan.gate().expect("a gated unit has the gate's convolution");
        let logits = self.convolve(&format!("{name}.gate"), x, convolution);
        self.node("Sigmoid", format!("{name}.gate.sigmoid"), &[&logits], vec![])
    }

    /// `factor * x`
    fn scale(&mut self, name: &str, x: &str, factor: f64) -> String {
        if factor == 1. {
            return x.to_owned();
        }
        let factor = self.number(format!("{name}.factor"), factor as f32);
        self.node("Mul", name, &[x, &factor], vec![])
    }
}
