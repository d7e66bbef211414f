//! What a network costs, counted from its plan: parameters, multiply-adds, feature maps kept for training.

use serde::Serialize;

use super::config::ResNetConfig;
use super::error::NetworkError;
use super::ordering::Exit;
use super::plan::{ConvolutionPlan, Entry, Plan, UnitPlan};
use super::shortcut::Weighting;
use super::variants::Trunk;

/// Bytes of a value of a feature map.
pub const VALUE_BYTES: u64 = 4;

/// The layers of a network and what they cost for one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Stem, units and classifier, in order.
    pub layers: Vec<LayerSummary>,
    /// Trained values.
    pub parameters: u64,
    /// Multiply-adds of convolutions and classifier, forward; a training step costs three times that.
    pub multiply_adds: u64,
    /// Feature maps kept for the backward pass, per image; see [`LayerSummary::activation_bytes`].
    pub activation_bytes_per_image: u64,
}

/// A unit, the stem or the classifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Its name in weight files.
    pub name: String,
    /// What it is, such as `basic 16-16-16`.
    pub description: String,
    /// `[channels, height, width]`, or `[classes]`.
    pub output: Vec<usize>,
    /// Trained values.
    pub parameters: u64,
    /// Multiply-adds for one image, forward.
    pub multiply_adds: u64,
    /// Bytes of the feature maps that a training step keeps for one image: every convolution's raw
    /// input or output once, and the outputs of additions; batch statistics and masks are not counted.
    pub activation_bytes: u64,
}

impl ResNetConfig {
    /// Counts this network for inputs of `height` x `width` pixels.
    ///
    /// # Errors
    /// When there is no such network or it does not take such inputs.
    pub fn summary(&self, height: usize, width: usize) -> Result<Summary, NetworkError> {
        self.summary_of(&self.plan()?, height, width)
    }

    /// As [`summary`](Self::summary), of layers that are planned already.
    ///
    /// # Errors
    /// When the network does not take such inputs.
    pub fn summary_of(&self, plan: &Plan, height: usize, width: usize) -> Result<Summary, NetworkError> {
        self.check_input(height, width)?;
        let mut size = Size { height, width };
        let mut layers = Vec::new();

        let mut stem = Count::default();
        stem.keep(3, size);
        size = stem.convolution(&plan.stem.convolution, size);
        stem.keep(plan.stem.convolution.outputs, size);
        if plan.stem.has_norm {
            stem.norm(plan.stem.convolution.outputs);
            // Max pooling normalises what it reads and stores no map of it.
            if !plan.stem.has_pooling {
                stem.keep(plan.stem.convolution.outputs, size);
            }
        }
        if plan.stem.has_pooling {
            size = size.strided(2);
            stem.keep(plan.stem.convolution.outputs, size);
        }
        if self.trunk != Trunk::F32 {
            // A stem of one convolution has no use for its output in f32.
            if !plan.stem.has_norm && !plan.stem.has_pooling {
                stem.drop_kept(plan.stem.convolution.outputs, size);
            }
            stem.keep_on_trunk(self.trunk, plan.stem.convolution.outputs, size);
        }
        let kernel = plan.stem.convolution.size;
        let description = format!("{kernel}x{kernel} convolution");
        layers.push(stem.into_layer(
            "stem",
            description,
            vec![plan.stem.convolution.outputs, size.height, size.width],
        ));

        for (stage, units) in plan.stages.iter().enumerate() {
            for (index, unit) in units.iter().enumerate() {
                let mut count = Count::default();
                size = count.unit(unit, size, self.trunk);
                let name = format!("stages.{stage}.{index}");
                let output = vec![unit.outputs(), size.height, size.width];
                layers.push(count.into_layer(&name, describe(self, unit), output));
            }
        }

        let mut head = Count::default();
        if plan.head.has_norm {
            head.norm(plan.head.features);
        }
        if plan.head.is_activated {
            head.keep(plan.head.features, size);
        }
        if self.trunk != Trunk::F32 {
            head.keep(plan.head.features, size);
        }
        let weights = (plan.head.features * plan.head.classes) as u64;
        head.parameters += weights + plan.head.classes as u64;
        head.multiply_adds += weights;
        layers.push(head.into_layer(
            "classifier",
            "average pooling, linear".to_owned(),
            vec![plan.head.classes],
        ));

        Ok(Summary::of(layers))
    }
}

impl Summary {
    pub(super) fn of(layers: Vec<LayerSummary>) -> Self {
        Self {
            parameters: layers.iter().map(|layer| layer.parameters).sum(),
            multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
            activation_bytes_per_image: layers.iter().map(|layer| layer.activation_bytes).sum(),
            layers,
        }
    }
}

#[derive(Clone, Copy)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    fn strided(self, stride: usize) -> Self {
        Self { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride) }
    }

    fn pixels(self) -> u64 {
        (self.height * self.width) as u64
    }
}

#[derive(Default)]
struct Count {
    parameters: u64,
    multiply_adds: u64,
    bytes_kept: u64,
}

impl Count {
    fn convolution(&mut self, convolution: &ConvolutionPlan, size: Size) -> Size {
        let ConvolutionPlan { inputs, outputs, size: kernel, stride } = *convolution;
        let weights = (inputs * outputs * kernel * kernel) as u64;
        let size = size.strided(stride);
        self.parameters += weights;
        self.multiply_adds += weights * size.pixels();
        size
    }

    fn norm(&mut self, channels: usize) {
        self.parameters += 2 * channels as u64;
    }

    fn keep(&mut self, channels: usize, size: Size) {
        self.bytes_kept += VALUE_BYTES * channels as u64 * size.pixels();
    }

    fn drop_kept(&mut self, channels: usize, size: Size) {
        self.bytes_kept -= VALUE_BYTES * channels as u64 * size.pixels();
    }

    fn keep_on_trunk(&mut self, trunk: Trunk, channels: usize, size: Size) {
        self.bytes_kept += trunk.bytes() * channels as u64 * size.pixels();
    }

    /// The unit's own maps: those of its input are the previous layer's output and counted there.
    fn unit(&mut self, unit: &UnitPlan, input: Size, trunk: Trunk) -> Size {
        let output = input.strided(unit.stride());
        if unit.entry == Entry::BothActivated {
            self.keep(unit.inputs(), input);
        }
        let mut size = input;
        let last = unit.convolutions.len() - 1;
        let ends_in_convolution = !unit.exit.normalises_branch();
        for (index, convolution) in unit.convolutions.iter().enumerate() {
            size = self.convolution(convolution, size);
            if index < last || !ends_in_convolution {
                self.keep(convolution.outputs, size);
            }
        }
        for norm in unit.norms.iter() {
            self.norm(norm.channels);
        }
        if let Some((projection, has_norm)) = &unit.projection {
            self.convolution(projection, input);
            if *has_norm {
                self.norm(projection.outputs);
                self.keep(projection.outputs, output);
            }
        }
        if let Some(gate) = unit.gate() {
            self.convolution(&gate, input);
            self.parameters += gate.outputs as u64;
        }
        match unit.weighting {
            // The gate's logits, or the mask.
            Weighting::Gate { .. } | Weighting::Mask { .. } => self.keep(unit.outputs(), output),
            Weighting::None | Weighting::Constant { .. } => {}
        }
        // A weighted sum reads the last convolution's output, which otherwise is the sum.
        if !unit.adds_paths_unweighted() && ends_in_convolution {
            self.keep(unit.outputs(), output);
        }
        self.keep_on_trunk(trunk, unit.outputs(), output);
        match unit.exit {
            // The sum, besides the output.
            Exit::SumNormRelu => self.keep(unit.outputs(), output),
            Exit::Sum | Exit::NormSum | Exit::NormReluSum | Exit::NormSumRelu => {}
        }
        output
    }

    fn into_layer(self, name: &str, description: String, output: Vec<usize>) -> LayerSummary {
        LayerSummary {
            name: name.to_owned(),
            description,
            output,
            parameters: self.parameters,
            multiply_adds: self.multiply_adds,
            activation_bytes: self.bytes_kept,
        }
    }
}

fn describe(config: &ResNetConfig, unit: &UnitPlan) -> String {
    let widths = std::iter::once(unit.inputs()).chain(unit.convolutions.iter().map(|layer| layer.outputs));
    let widths = widths.map(|width| width.to_string()).collect::<Vec<_>>().join("-");
    let stride = if unit.stride() == 1 { String::new() } else { format!(", stride {}", unit.stride()) };
    let projection = if unit.projection.is_some() { ", projection" } else { "" };
    format!("{} {widths}{stride}{projection}", config.block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{DimensionChange, NetworkOptions};

    fn summary(model: &str, dimensions: DimensionChange) -> Summary {
        let options = NetworkOptions { dimensions: Some(dimensions), ..NetworkOptions::named(model) };
        options.resolve(10).unwrap().summary(32, 32).unwrap()
    }

    /// Figures of the PyTorch networks and of the paper's reference code.
    #[test]
    fn parameters_and_multiply_adds_are_the_reference_codes() {
        for (model, parameters, millions) in [
            ("preresnet20", 272_282, 40.8),
            ("preresnet110", 1_730_522, 253.1),
            ("preresnet164", 1_703_258, 244.5),
            ("preresnet1001", 10_327_706, 1487.8),
        ] {
            let summary = summary(model, DimensionChange::B);
            assert_eq!(summary.parameters, parameters, "{model}");
            assert_eq!((summary.multiply_adds as f64 / 1e5).round() / 10., millions, "{model}");
        }
    }

    #[test]
    fn option_a_has_no_projections() {
        assert_eq!(summary("preresnet20", DimensionChange::A).parameters, 269_722);
        assert_eq!(summary("resnet20", DimensionChange::A).parameters, 269_722);
    }

    #[test]
    fn a_bottleneck_unit_keeps_its_raw_maps() {
        let [two, three] = ["preresnet20", "preresnet29"].map(|model| {
            let options = NetworkOptions {
                block: Some(crate::network::Block::Bottleneck),
                ..NetworkOptions::named(model)
            };
            options.resolve(10).unwrap().summary(32, 32).unwrap().activation_bytes_per_image
        });
        assert_eq!((three - two) / VALUE_BYTES, 172_032);
    }

    #[test]
    fn the_sum_of_layers_is_the_whole() {
        let summary = NetworkOptions::named("resnet50").resolve(1000).unwrap().summary(224, 224).unwrap();
        assert_eq!(summary.parameters, 25_557_032);
        assert_eq!(summary.layers.last().unwrap().output, [1000]);
        let parts: u64 = summary.layers.iter().map(|layer| layer.parameters).sum();
        assert_eq!(parts, summary.parameters);
    }
}
