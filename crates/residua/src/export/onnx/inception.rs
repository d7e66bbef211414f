//! From the description of Inception-v3 to nodes.

use residua_infer::network::inception::{ConvolutionLayer, Layers, network};

use super::Scores;
use super::graph::{GraphBuilder, Window};
use super::message::Attribute;

impl GraphBuilder {
    /// From normalised images to scores of this name.
    pub(super) fn inception(&mut self, images: String, scores: Scores, output: &str) {
        let last = network(self, Map { name: images, channels: 3 }).features;
        self.classify("fc", &last.name, scores, output);
    }
}

/// A value of the graph that is a feature map.
#[derive(Debug, Clone)]
pub(super) struct Map {
    name: String,
    channels: usize,
}

impl Layers for GraphBuilder {
    type Map = Map;

    fn channels(map: &Map) -> usize {
        map.channels
    }

    fn convolution(&mut self, layer: &ConvolutionLayer, x: Map) -> Map {
        let ConvolutionLayer { name, outputs, kernel, stride, padding, .. } = layer;
        let window = Window { size: *kernel, stride: *stride, padding: *padding };
        let y = self.convolve(&format!("{name}.conv"), &x.name, window);
        let y = self.norm(&format!("{name}.bn"), &y);
        Map { name: self.relu(format!("{name}.relu"), &y), channels: *outputs }
    }

    fn max_pooling(&mut self, x: Map) -> Map {
        let window = Window { size: [3, 3], stride: 2, padding: [0, 0] };
        Map { name: self.max_pool(&format!("{}.max_pool", x.name), &x.name, window), ..x }
    }

    fn average_pooling(&mut self, x: Map, size: usize, stride: usize, padding: usize) -> Map {
        let window = Window { size: [size; 2], stride, padding: [padding; 2] };
        Map { name: self.average_pool(&format!("{}.average_pool", x.name), &x.name, window), ..x }
    }

    /// The classifier's mean comes with the classifier.
    fn mean(&mut self, x: Map) -> Map {
        x
    }

    fn concatenation(&mut self, maps: Vec<Map>) -> Map {
        let names: Vec<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        // A module's first branch begins with a convolution of its own.
        let module = names[0].split('.').next().unwrap_or_default();
        let axis = vec![Attribute::of_integer("axis", 1)];
        let name = self.node("Concat", format!("{module}.concatenation"), &names, axis);
        Map { name, channels: maps.iter().map(|map| map.channels).sum() }
    }
}
