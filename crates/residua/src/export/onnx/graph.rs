//! A graph in the making: operations on values that are known by name.

use std::collections::BTreeMap;

use residua_infer::network::{BATCH_NORM_EPSILON, ConvolutionPlan, NamedTensors, TensorValues};

use super::message::{self, Attribute, Node};
use super::ports::Port;

/// Collects nodes and constants. What adds a node gives it a name, and returns the name of its output, which is the same.
pub(super) struct GraphBuilder {
    pub(super) nodes: Vec<Node>,
    /// Constants: the network's tensors, and numbers that operations take.
    pub(super) floats: NamedTensors,
    integers: BTreeMap<String, Vec<i64>>,
}

impl GraphBuilder {
    /// No nodes yet, and the network's tensors.
    pub(super) fn new(tensors: NamedTensors) -> Self {
        Self { nodes: Vec::new(), floats: tensors, integers: BTreeMap::new() }
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
    pub(super) fn convolve(&mut self, name: &str, x: &str, plan: ConvolutionPlan) -> String {
        let ConvolutionPlan { size, stride, .. } = plan;
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let mut inputs = vec![x, &weight];
        inputs.extend(self.floats.contains_key(&bias).then_some(bias.as_str()));
        self.node("Conv", name, &inputs, windows(size, stride, size / 2))
    }

    /// The batch normalisation whose tensors have this name.
    pub(super) fn norm(&mut self, name: &str, x: &str) -> String {
        let parts = NORM_PARTS.map(|part| format!("{name}.{part}"));
        let inputs = [x].into_iter().chain(parts.iter().map(String::as_str)).collect::<Vec<_>>();
        let epsilon = Attribute::of_float("epsilon", BATCH_NORM_EPSILON as f32);
        self.node(BATCH_NORMALISATION, name, &inputs, vec![epsilon])
    }

    pub(super) fn relu(&mut self, name: impl Into<String>, x: &str) -> String {
        self.node("Relu", name, &[x], vec![])
    }

    /// The maximum over windows of `size` x `size`; what lies outside the map is never the largest.
    pub(super) fn max_pool(&mut self, name: &str, x: &str, size: usize, stride: usize) -> String {
        self.node("MaxPool", name, &[x], windows(size, stride, size / 2))
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

fn windows(size: usize, stride: usize, padding: usize) -> Vec<Attribute> {
    let [size, stride, padding] = [size, stride, padding].map(|length| length as i64);
    vec![
        Attribute::of_integers("kernel_shape", &[size; 2]),
        Attribute::of_integers("strides", &[stride; 2]),
        Attribute::of_integers("pads", &[padding; 4]),
    ]
}
