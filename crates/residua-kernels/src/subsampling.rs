//! The shortcut without parameters where dimensions change: option A.

use crate::arena::Stored;
use crate::map::MapShape;

/// Every `stride`-th pixel of every `stride`-th row, with channels of zeros behind its own (option A of the paper).
///
/// A row at a time, so that the caller divides the work.
#[derive(Debug, Clone, Copy)]
pub struct Subsampling {
    /// The map that is subsampled.
    pub input: MapShape,
    /// The distance of the pixels that are kept.
    pub stride: usize,
    /// Channels of the output, at least as many as of the input.
    pub outputs: usize,
}

impl Subsampling {
    /// Shape of the output.
    pub fn output(&self) -> MapShape {
        let Self { input, stride, outputs } = *self;
        let (height, width) = (input.height.div_ceil(stride), input.width.div_ceil(stride));
        MapShape { height, width, channels: outputs, ..input }
    }

    /// Writes row `row` of the output, counted through the batch, `[width, outputs]`, of the whole input.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says.
    pub fn row<T: Stored + Default>(&self, input: &[T], row: usize, output: &mut [T]) {
        let Self { input: from, stride, outputs } = *self;
        let rows = self.output().height;
        let row = row / rows * from.height + row % rows * stride;
        for (column, pixel) in output.chunks_exact_mut(outputs).enumerate() {
            let at = (row * from.width + column * stride) * from.channels;
            let (kept, appended) = pixel.split_at_mut(from.channels);
            kept.copy_from_slice(&input[at..at + from.channels]);
            appended.fill(T::default());
        }
    }

    /// Writes row `row` of the input's gradient, counted through the batch, `[width, inputs]`, of the output's whole gradient.
    ///
    /// # Panics
    /// When a slice is shorter than its shape says.
    pub fn gradient_row(&self, gradient: &[f32], row: usize, output: &mut [f32]) {
        let Self { input, stride, outputs } = *self;
        let MapShape { height, width, .. } = self.output();
        let (image, row) = (row / input.height, row % input.height);
        if !row.is_multiple_of(stride) {
            output.fill(0.);
            return;
        }
        let row = image * height + row / stride;
        for (column, pixel) in output.chunks_exact_mut(input.channels).enumerate() {
            if column.is_multiple_of(stride) {
                let at = (row * width + column / stride) * outputs;
                pixel.copy_from_slice(&gradient[at..at + input.channels]);
            } else {
                pixel.fill(0.);
            }
        }
    }
}
