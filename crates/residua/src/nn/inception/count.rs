//! Counting the multiply-adds.

use super::architecture::{ConvolutionLayer, Layers};

/// Adds up what convolutions cost.
pub(super) struct Counter {
    pub(super) multiply_adds: u64,
}

/// The shape of one image's feature map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) channels: usize,
    height: usize,
    width: usize,
}

impl Counter {
    pub(super) fn images(side: usize) -> Shape {
        Shape { channels: 3, height: side, width: side }
    }
}

impl Shape {
    fn after(self, kernel: [usize; 2], stride: usize, padding: [usize; 2]) -> Self {
        let side = |side: usize, kernel: usize, padding: usize| (side + 2 * padding - kernel) / stride + 1;
        let height = side(self.height, kernel[0], padding[0]);
        Self { height, width: side(self.width, kernel[1], padding[1]), ..self }
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
        let products = x.channels * kernel[0] * kernel[1] * outputs * after.height * after.width;
        self.multiply_adds += products as u64;
        after
    }

    fn max_pooling(&mut self, x: Shape) -> Shape {
        x.after([3, 3], 2, [0, 0])
    }

    fn average_pooling(&mut self, x: Shape, size: usize, stride: usize, padding: usize) -> Shape {
        x.after([size, size], stride, [padding, padding])
    }

    fn mean(&mut self, x: Shape) -> Shape {
        Shape { height: 1, width: 1, ..x }
    }

    fn concatenation(&mut self, maps: Vec<Shape>) -> Shape {
        Shape { channels: maps.iter().map(|map| map.channels).sum(), ..maps[0] }
    }
}
