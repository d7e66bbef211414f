//! Batch normalisations that become part of the convolutions that they stand behind.

use std::collections::HashMap;

use residua_infer::network::TensorValues;

use super::graph::{BATCH_NORMALISATION, GraphBuilder};
use super::message::Node;

impl GraphBuilder {
    /// Folds every batch normalisation that stands directly behind a convolution, where nothing else reads that one's output.
    ///
    /// `norm(v) = a v + b` with `a = gamma / sqrt(variance + epsilon)`, `b = beta - a mean`. So each output's weights are multiplied
    /// by its `a`, and `b` is its bias.
    pub(super) fn fold_norms(&mut self) {
        let mut readers: HashMap<String, usize> = HashMap::new();
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            *readers.entry(input.clone()).or_default() += 1;
        }
        let mut kept: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes) {
            match kept.last_mut() {
                Some(before)
                    if node.operator == BATCH_NORMALISATION
                        && before.operator == "Conv"
                        && before.outputs[0] == node.inputs[0]
                        && readers[&node.inputs[0]] == 1 =>
                {
                    self.fold(before, node);
                }
                _ => kept.push(node),
            }
        }
        self.nodes = kept;
    }

    fn fold(&mut self, convolution: &mut Node, norm: Node) {
        let mut take = |name: &str| self.floats.remove(name).expect("a node's constants are there").values;
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|part| take(&norm.inputs[part]));
        let bias = convolution.inputs.get(2).map_or_else(|| vec![0.; gamma.len()], |bias| take(bias));
        let weight = self.floats.get_mut(&convolution.inputs[1]).expect("a convolution's weights are there");
        let of_output = weight.values.len() / gamma.len();
        let mut shifts = Vec::with_capacity(gamma.len());
        for (output, weights) in weight.values.chunks_exact_mut(of_output).enumerate() {
            let [gamma, beta, mean, variance, bias] =
                [&gamma, &beta, &mean, &variance, &bias].map(|values| f64::from(values[output]));
            let factor = gamma / (variance + self.epsilon).sqrt();
            weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * factor) as f32);
            shifts.push((beta + factor * (bias - mean)) as f32);
        }
        let bias = format!("{}.bias", convolution.name);
        self.floats.insert(bias.clone(), TensorValues { shape: vec![shifts.len()], values: shifts });
        convolution.inputs.truncate(2);
        convolution.inputs.push(bias);
        convolution.outputs = norm.outputs;
    }
}
