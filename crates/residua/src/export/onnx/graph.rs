//! A graph in the making: operations on values that are known by name.

use std::collections::BTreeMap;

use residua_infer::Temperature;
use residua_infer::network::{ConvolutionPlan, NamedTensors, TensorValues};

use super::Scores;
use super::message::{self, Attribute, Node};
use super::ports::Port;

/// Collects nodes and constants. What adds a node gives it a name, and returns the name of its output, which is the same.
pub(super) struct GraphBuilder {
    pub(super) nodes: Vec<Node>,
    /// Constants: the network's tensors, and numbers that operations take.
    pub(super) floats: NamedTensors,
    integers: BTreeMap<String, Vec<i64>>,
    /// What batch normalisations add to variances.
    pub(super) epsilon: f64,
    /// What logits are divided by before the softmax.
    temperature: f64,
}

/// Which pixels of a map an operation reads at a time: a window of so many rows and columns, and how it moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) size: [usize; 2],
    pub(super) stride: usize,
    /// Rows above and below the map, columns to its left and right.
    pub(super) padding: [usize; 2],
}

impl Window {
    /// A square one that, at stride 1, leaves the map's size as it is.
    pub(super) fn centred(size: usize, stride: usize) -> Self {
        Self { size: [size; 2], stride, padding: [size / 2; 2] }
    }

    fn attributes(self) -> Vec<Attribute> {
        let Self { size, stride, padding: [above, left] } = self;
        let integers = |name, lengths: &[usize]| {
            let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
            Attribute::of_integers(name, &lengths)
        };
        vec![
            integers("kernel_shape", &size),
            integers("strides", &[stride; 2]),
            integers("pads", &[above, left, above, left]),
        ]
    }
}

impl From<ConvolutionPlan> for Window {
    fn from(ConvolutionPlan { size, stride, .. }: ConvolutionPlan) -> Self {
        Self::centred(size, stride)
    }
}

impl GraphBuilder {
    /// No nodes yet, and the network's tensors.
    pub(super) fn new(tensors: NamedTensors, epsilon: f64, temperature: Temperature) -> Self {
        let temperature = temperature.get();
        Self { nodes: Vec::new(), floats: tensors, integers: BTreeMap::new(), epsilon, temperature }
    }

    /// `operator(inputs)`
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: impl Into<String>,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        let name = name.into();
        self.nodes.push(Node {
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![name.clone()],
            name: name.clone(),
            operator: operator.to_owned(),
            attributes,
        });
        name
    }

    /// The convolution whose weights have this name, and whose bias, where there is one.
    pub(super) fn convolve(&mut self, name: &str, x: &str, window: impl Into<Window>) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let mut inputs = vec![x, &weight];
        inputs.extend(self.floats.contains_key(&bias).then_some(bias.as_str()));
        self.node("Conv", name, &inputs, window.into().attributes())
    }

    /// The batch normalisation whose tensors have this name.
    pub(super) fn norm(&mut self, name: &str, x: &str) -> String {
        let parts = NORM_PARTS.map(|part| format!("{name}.{part}"));
        let inputs = [x].into_iter().chain(parts.iter().map(String::as_str)).collect::<Vec<_>>();
        let epsilon = Attribute::of_float("epsilon", self.epsilon as f32);
        self.node(BATCH_NORMALISATION, name, &inputs, vec![epsilon])
    }

    pub(super) fn relu(&mut self, name: impl Into<String>, x: &str) -> String {
        self.node("Relu", name, &[x], vec![])
    }

    /// The maximum over windows; what lies outside the map is never the largest.
    pub(super) fn max_pool(&mut self, name: &str, x: &str, window: Window) -> String {
        self.node("MaxPool", name, &[x], window.attributes())
    }

    /// The mean over windows; what lies outside the map counts as zeros.
    pub(super) fn average_pool(&mut self, name: &str, x: &str, window: Window) -> String {
        let mut attributes = window.attributes();
        attributes.push(Attribute::of_integer("count_include_pad", 1));
        self.node("AveragePool", name, &[x], attributes)
    }

    /// From a last map, through its mean and the classifier whose tensors have this name, to scores.
    pub(super) fn classify(&mut self, classifier: &str, x: &str, scores: Scores, output: &str) {
        let x = self.node("GlobalAveragePool", "pool", &[x], vec![]);
        let x = self.node("Flatten", "features", &[&x], vec![Attribute::of_integer("axis", 1)]);
        let name = match scores {
            Scores::Logits => output,
            Scores::Probabilities => classifier,
        };
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{classifier}.{part}"));
        let transposed = vec![Attribute::of_integer("transB", 1)];
        let x = self.node("Gemm", name, &[&x, &weight, &bias], transposed);
        if scores == Scores::Probabilities {
            let x = match self.temperature {
                1. => x,
                temperature => {
                    let temperature = self.number("temperature", temperature as f32);
                    self.node("Div", "logits.at_temperature", &[&x, &temperature], vec![])
                }
            };
            self.node("Softmax", output, &[&x], vec![Attribute::of_integer("axis", 1)]);
        }
    }

    /// Every `stride`-th pixel.
    pub(super) fn every(&mut self, name: &str, x: &str, stride: usize) -> String {
        let stride = stride as i64;
        let [starts, ends, axes, steps] =
            [("starts", [0, 0]), ("ends", [i64::MAX, i64::MAX]), ("axes", [2, 3]), ("steps", [stride; 2])]
                .map(|(what, values)| self.integers(format!("{name}.{what}"), &values));
        self.node("Slice", name, &[x, &starts, &ends, &axes, &steps], vec![])
    }

    /// `channels` of zeros, appended.
    pub(super) fn append_zeros(&mut self, name: &str, x: &str, channels: usize) -> String {
        let pads = self.integers(format!("{name}.pads"), &[0, 0, 0, 0, 0, channels as i64, 0, 0]);
        self.node("Pad", name, &[x, &pads], vec![])
    }

    /// A constant of one number.
    pub(super) fn number(&mut self, name: impl Into<String>, value: f32) -> String {
        self.floats(name, vec![], vec![value])
    }

    /// A constant.
    pub(super) fn floats(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) -> String {
        let name = name.into();
        self.floats.insert(name.clone(), TensorValues { shape, values });
        name
    }

    fn integers(&mut self, name: String, values: &[i64]) -> String {
        self.integers.insert(name.clone(), values.to_vec());
        name
    }

    /// The message of this graph.
    pub(super) fn finish(self, input: &Port, output: &Port) -> message::Graph {
        let floats = self.floats.into_iter().map(|(name, TensorValues { shape, values })| {
            constant(name, message::FLOAT, &shape, &values, |value| value.to_le_bytes())
        });
        let integers = self.integers.into_iter().map(|(name, values)| {
            constant(name, message::INT64, &[values.len()], &values, |value| value.to_le_bytes())
        });
        message::Graph {
            nodes: self.nodes,
            name: "network".to_owned(),
            initializers: floats.chain(integers).collect(),
            inputs: vec![input.message()],
            outputs: vec![output.message()],
        }
    }
}

/// What [`GraphBuilder::norm`] adds.
pub(super) const BATCH_NORMALISATION: &str = "BatchNormalization";

/// The parts of a batch normalisation in weight files, in the order in which ONNX takes them.
pub(super) const NORM_PARTS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

fn constant<T: Copy, const BYTES: usize>(
    name: String,
    numbers: i32,
    shape: &[usize],
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; BYTES],
) -> message::Tensor {
    let shape = shape.iter().map(|&length| length as i64).collect();
    let mut bytes = Vec::with_capacity(values.len() * BYTES);
    for &value in values {
        bytes.extend_from_slice(&bytes_of(value));
    }
    message::Tensor { shape, numbers, name, bytes }
}
