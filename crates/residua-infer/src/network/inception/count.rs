//! Counting the network, row by row.

use super::layers::{ConvolutionLayer, Layers};
use crate::network::{LayerSummary, VALUE_BYTES};

/// Sums up each module, and each convolution that stands alone.
pub(super) struct Counter {
    pub(super) layers: Vec<LayerSummary>,
    /// Convolutions of the last one.
    convolutions: usize,
}

/// The shape of one image's feature map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) channels: usize,
    height: usize,
    width: usize,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self { layers: Vec::new(), convolutions: 0 }
    }

    /// Images that come in: what the first convolution keeps.
    pub(super) fn images(height: usize, width: usize) -> Shape {
        Shape { channels: 3, height, width }
    }

    /// The row that a layer of this name belongs to.
    fn row(&mut self, layer: &ConvolutionLayer, x: Shape) -> &mut LayerSummary {
        let module = layer.name.split_once('.').map(|(module, _)| module);
        let name = module.unwrap_or(&layer.name);
        if self.layers.last().is_none_or(|last| last.name != name) {
            self.convolutions = 0;
            self.layers.push(LayerSummary {
                name: name.to_owned(),
                description: String::new(),
                output: Vec::new(),
                parameters: 0,
                multiply_adds: 0,
                // The first layer reads the images.
                activation_bytes: if self.layers.is_empty() { x.bytes() } else { 0 },
            });
        }
        self.convolutions += 1;
        let description = match module {
            Some(_) => format!("{} convolutions", self.convolutions),
            None => {
                let ConvolutionLayer { kernel: [height, width], stride, .. } = layer;
                let stride = if *stride == 1 { String::new() } else { format!(", stride {stride}") };
                format!("{height}x{width} convolution{stride}")
            }
        };
        let row = self.layers.last_mut().expect("there is one now");
        row.description = description;
        row
    }

    /// The last row puts this out, as far as is known.
    fn put_out(&mut self, map: Shape) -> Shape {
        if let Some(row) = self.layers.last_mut() {
            row.output = vec![map.channels, map.height, map.width];
        }
        map
    }

    fn pooled(&mut self, map: Shape) -> Shape {
        if let Some(row) = self.layers.last_mut() {
            row.activation_bytes += map.bytes();
        }
        self.put_out(map)
    }
}

impl Shape {
    fn after(self, kernel: [usize; 2], stride: usize, padding: [usize; 2]) -> Self {
        let side = |side: usize, kernel: usize, padding: usize| (side + 2 * padding - kernel) / stride + 1;
        let height = side(self.height, kernel[0], padding[0]);
        Self { height, width: side(self.width, kernel[1], padding[1]), ..self }
    }

    fn pixels(self) -> u64 {
        (self.height * self.width) as u64
    }

    fn bytes(self) -> u64 {
        VALUE_BYTES * self.channels as u64 * self.pixels()
    }
}

impl Layers for Counter {
    type Map = Shape;

    fn channels(map: &Shape) -> usize {
        map.channels
    }

    fn convolution(&mut self, layer: &ConvolutionLayer, x: Shape) -> Shape {
        let ConvolutionLayer { outputs, kernel, stride, padding, .. } = *layer;
        let after = Shape { channels: outputs, ..x.after(kernel, stride, padding) };
        let weights = (x.channels * kernel[0] * kernel[1] * outputs) as u64;
        let row = self.row(layer, x);
        // Beside the weights, gamma and beta.
        row.parameters += weights + 2 * outputs as u64;
        row.multiply_adds += weights * after.pixels();
        row.activation_bytes += after.bytes();
        self.put_out(after)
    }

    fn max_pooling(&mut self, x: Shape) -> Shape {
        self.pooled(x.after([3, 3], 2, [0, 0]))
    }

    fn average_pooling(&mut self, x: Shape, size: usize, stride: usize, padding: usize) -> Shape {
        self.pooled(x.after([size, size], stride, [padding, padding]))
    }

    fn mean(&mut self, x: Shape) -> Shape {
        Shape { height: 1, width: 1, ..x }
    }

    fn concatenation(&mut self, maps: Vec<Shape>) -> Shape {
        self.put_out(Shape { channels: maps.iter().map(|map| map.channels).sum(), ..maps[0] })
    }
}
