//! Pooling: the mean of a whole image, and the maximum of overlapping windows.

use std::ops::Range;

use crate::backward::input_gradient;
use crate::flow::{Flow, MapFlow, Only, for_source};
use crate::instructions::{Instructions, Task};
use crate::map::{Block, Chunks, MapShape, Part, block_at, blocks};
use crate::norm::NormalisationGradient;
use crate::operands::{Input, InputGradient};
use crate::scratch::Scratch;
use crate::sink::{AnySink, BackwardSink, Places, Sink};
use crate::source::{AnySource, Source};
use crate::values::ValuesMut;
use crate::vector::{LANES, Vector};
use crate::view::{MapViewMut, View, ViewMut};

/// Global average pooling: the mean of `relu(norm(x))` over the pixels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AveragePool {
    /// Shape of the input.
    pub input: MapShape,
    /// What to compute it with.
    pub instructions: Instructions,
}

impl AveragePool {
    /// `output`: `[batch, channels]`.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(&self, input: Input, output: &mut [f32]) {
        let Self { input: shape, instructions } = *self;
        assert_eq!(input.values.len(), shape.len(), "input");
        assert_eq!(output.len(), shape.batch * shape.channels, "means");
        let factor = 1. / shape.pixels() as f32;
        let sink = Only(Means { output: ViewMut::new(output), channels: shape.channels, factor });
        for_source!(source = input, shape, MapFlow { shape, source, instructions }.pour_into(sink));
    }

    /// The gradient of the input, as far as wanted, for the gradient `[batch, channels]` of the means. Returns the sums
    /// that belong to a normalised input's gradient; where its statistics are constants (running ones), say so.
    /// [`InputGradient::Complete`] is all of the gradient, also of a normalised input.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or sums are wanted of an input that is not normalised.
    pub fn backward(
        &self,
        input: Input,
        gradient: &[f32],
        wanted: InputGradient,
        statistics_are_constant: bool,
    ) -> Option<NormalisationGradient> {
        let Self { input: shape, instructions } = *self;
        assert_eq!(gradient.len(), shape.batch * shape.channels, "gradient of the means");
        let factor = 1. / shape.pixels() as f32;
        let source = Spread { gradient: View::new(gradient), channels: shape.channels, factor };
        let flow = MapFlow { shape, source, instructions };
        input_gradient(&flow, &flow, shape, input, wanted, statistics_are_constant)
    }
}

/// Sums what it is given, times a factor.
#[derive(Clone, Copy)]
struct Means<'a> {
    /// `[batch, channels]`
    output: ViewMut<'a>,
    channels: usize,
    factor: f32,
}

impl Sink for Means<'_> {
    /// The factor and the sum.
    type State<V: Vector> = (V, V);

    #[inline(always)]
    unsafe fn begin<V: Vector>(self, image: usize, block: Block, is_first: bool, _: usize, _: V) -> (V, V) {
        let at = image * self.channels + block.channel;
        // SAFETY: there is a mean for every image and channel.
        unsafe {
            let sum = if is_first { V::zero() } else { self.output.read().load_first(at, block.count) };
            (V::splat(self.factor), sum)
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, (factor, sum): &mut (V, V), _: usize, _: usize, _: Block, value: V) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { *sum = value.mul_add(*factor, *sum) }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, (_, sum): (V, V), image: usize, block: Block) {
        // SAFETY: there is a mean for every image and channel.
        unsafe { self.output.store_first(image * self.channels + block.channel, block.count, sum) }
    }
}

/// The same for all pixels of an image.
#[derive(Clone, Copy)]
struct Spread<'a> {
    /// `[batch, channels]`
    gradient: View<'a>,
    channels: usize,
    factor: f32,
}

impl Source for Spread<'_> {
    type Constants<V: Vector> = V;

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> V {
        // SAFETY: there is a gradient for every image and channel.
        unsafe {
            let gradient = self.gradient.load_first::<V>(image * self.channels + block.channel, block.count);
            gradient.mul(V::splat(self.factor))
        }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, constants: &V, _: usize, _: Block) -> V {
        *constants
    }
}

/// The maximum of `relu(norm(x))` over windows of 3x3 pixels, two apart, padded by one: what follows the first
/// convolution of an ImageNet network. A window with a NaN has the maximum NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Shape of the input.
    pub input: MapShape,
    /// What to compute it with.
    pub instructions: Instructions,
}

impl MaxPool {
    /// Shape of the output: `ceil(height / 2)` by `ceil(width / 2)`.
    pub fn output(&self) -> MapShape {
        let MapShape { height, width, .. } = self.input;
        MapShape { height: height.div_ceil(2), width: width.div_ceil(2), ..self.input }
    }

    /// The maxima.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(&self, input: Input, output: &mut [f32]) {
        let Self { input: shape, instructions } = *self;
        assert_eq!(input.values.len(), shape.len(), "input");
        assert_eq!(output.len(), self.output().len(), "maxima");
        let (windows, to) = (self.windows(&input), ViewMut::new(output).into());
        Chunks::new(shape.batch, 1).for_each(&|_, images| {
            instructions.run(Forward { windows, to, images, part: Part::WHOLE });
        });
    }

    /// As [`forward`](Self::forward), for inference: in `parts` parts, one on the calling thread, as a
    /// [`PackedConvolution`](crate::PackedConvolution) is computed.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward_in_parts<'a>(&self, input: Input, output: impl Into<ValuesMut<'a>>, parts: usize) {
        let Self { input: shape, instructions } = *self;
        let output = output.into();
        assert_eq!(input.values.len(), shape.len(), "input");
        assert_eq!(output.len(), self.output().len(), "maxima");
        let (windows, to) = (self.windows(&input), MapViewMut::new(output));
        let work = |part| instructions.run(Forward { windows, to, images: 0..shape.batch, part });
        Part::for_each(parts, &work);
    }

    /// The gradient of the input, as far as wanted, for the gradient of the maxima: a maximum that a window has several
    /// times counts where it is first, by rows. Returns the sums that belong to a normalised input's gradient; where its
    /// statistics are constants (running ones), say so. [`InputGradient::Complete`] is all of the gradient, also of a
    /// normalised input.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or sums are wanted of an input that is not normalised.
    pub fn backward(
        &self,
        input: Input,
        gradient: &[f32],
        wanted: InputGradient,
        statistics_are_constant: bool,
    ) -> Option<NormalisationGradient> {
        let Self { input: shape, instructions } = *self;
        assert_eq!(input.values.len(), shape.len(), "input");
        assert_eq!(gradient.len(), self.output().len(), "gradient of the maxima");
        let flow = MaximaFlow { windows: self.windows(&input), gradient: View::new(gradient), instructions };
        input_gradient(&flow, &flow, shape, input, wanted, statistics_are_constant)
    }

    fn windows<'a>(&self, input: &Input<'a>) -> Windows<'a> {
        Windows { input: self.input, output: self.output(), source: input.source(self.input) }
    }
}

/// The windows of a map.
#[derive(Clone, Copy)]
struct Windows<'a> {
    input: MapShape,
    output: MapShape,
    source: AnySource<'a>,
}

/// Pixels of a window in one direction.
const SIZE: usize = 3;
/// Vectors that go to a sink together.
const TOGETHER: usize = 4;

/// Rows (or columns) of the input that belong to row `output` of the output.
#[inline(always)]
fn covered(output: usize, input: usize) -> Range<usize> {
    (2 * output).saturating_sub(1)..(2 * output + 2).min(input)
}

/// The number of a pixel in its window.
#[inline(always)]
fn tap(output: (usize, usize), input: (usize, usize)) -> f32 {
    ((input.0 + 1 - 2 * output.0) * SIZE + input.1 + 1 - 2 * output.1) as f32
}

impl Windows<'_> {
    /// Numbers of the rows that a row of windows covers.
    fn rows_len(self) -> usize {
        SIZE * self.input.width * LANES
    }

    /// Where a pixel lies in these rows. A window's three rows have places of their own; the last is the next window's
    /// first.
    #[inline(always)]
    fn place(self, row: usize, column: usize) -> usize {
        (row % SIZE * self.input.width + column) * LANES
    }

    /// Where a pixel of the input lies.
    #[inline(always)]
    fn at(self, image: usize, row: usize, column: usize, block: Block) -> usize {
        ((image * self.input.height + row) * self.input.width + column) * self.input.channels + block.channel
    }

    /// Where a pixel of the output lies.
    #[inline(always)]
    fn output_at(self, image: usize, row: usize, column: usize, block: Block) -> usize {
        let MapShape { height, width, channels, .. } = self.output;
        ((image * height + row) * width + column) * channels + block.channel
    }

    /// Loads the rows that a row of windows covers and the one before it did not.
    #[inline(always)]
    unsafe fn load<V: Vector>(self, image: usize, output_row: usize, block: Block, values: ViewMut) {
        let MapShape { height, width, channels, .. } = self.input;
        for row in 2 * output_row..(2 * output_row + 2).min(height) {
            // SAFETY: rows are of the image, and `values` has places for three.
            unsafe {
                let (at, to) = (self.at(image, row, 0, block), values.from(self.place(row, 0)));
                self.source.copy::<V>(image, block, at, channels, width, to, LANES, true);
            }
        }
    }

    /// The maximum of a window, and the number of the pixel that has it.
    #[inline(always)]
    unsafe fn maximum<V: Vector>(self, output: (usize, usize), values: View) -> (V, V) {
        // SAFETY: `covered` gives pixels of the image, whose rows `values` holds.
        unsafe {
            let (rows, columns) = (covered(output.0, self.input.height), covered(output.1, self.input.width));
            let mut maximum = V::splat(f32::NEG_INFINITY);
            let mut position = V::splat(tap(output, (rows.start, columns.start)));
            for row in rows {
                for column in columns.start..columns.end {
                    let value = values.load::<V>(self.place(row, column));
                    position = V::splat(tap(output, (row, column))).where_above(value, maximum, position);
                    maximum = value.where_above(value, maximum, maximum);
                }
            }
            (maximum, position)
        }
    }

    #[inline(always)]
    unsafe fn forward<V: Vector>(self, image: usize, block: Block, values: ViewMut, to: MapViewMut) {
        // SAFETY: rows and columns are of the output, whose shape `to` has.
        unsafe {
            for row in 0..self.output.height {
                self.load::<V>(image, row, block, values);
                for column in 0..self.output.width {
                    let (maximum, _) = self.maximum::<V>((row, column), values.read());
                    to.store_first(self.output_at(image, row, column, block), block.count, maximum);
                }
            }
        }
    }

    /// Scatters the gradient over the rows of the input; a row goes to the sink once no window to come covers it.
    #[inline(always)]
    unsafe fn backward<V: Vector>(
        self,
        image: usize,
        block: Block,
        gradient: View,
        sink: &BackwardSink,
        [values, sums]: [ViewMut; 2],
    ) {
        let MapShape { height, width, .. } = self.input;
        // SAFETY: rows and columns are of input and output; `values` and `sums` have places for three rows.
        unsafe {
            for output_row in 0..self.output.height {
                self.load::<V>(image, output_row, block, values);
                for row in 2 * output_row..2 * output_row + 2 {
                    for column in 0..width {
                        sums.store(self.place(row, column), V::zero());
                    }
                }
                for output_column in 0..self.output.width {
                    let output = (output_row, output_column);
                    let (_, position) = self.maximum::<V>(output, values.read());
                    let at = self.output_at(image, output_row, output_column, block);
                    let gradient = gradient.load_first::<V>(at, block.count);
                    for row in covered(output_row, height) {
                        for column in covered(output_column, width) {
                            let tap = tap(output, (row, column));
                            let from_here = gradient.where_above(position, V::splat(tap - 0.5), V::zero());
                            let here = V::zero().where_above(position, V::splat(tap + 0.5), from_here);
                            let at = self.place(row, column);
                            sums.store(at, sums.read().load::<V>(at).add(here));
                        }
                    }
                }
                let is_last = output_row + 1 == self.output.height;
                let done = if is_last { height } else { 2 * output_row + 1 };
                for row in (2 * output_row).saturating_sub(1)..done {
                    self.put_row::<V>(image, row, block, sums.read(), sink);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn put_row<V: Vector>(
        self,
        image: usize,
        row: usize,
        block: Block,
        sums: View,
        sink: &BackwardSink,
    ) {
        let MapShape { width, channels, .. } = self.input;
        for first in (0..width).step_by(TOGETHER) {
            // SAFETY: pixels are of the row, whose sums are in their place; at least one is there.
            unsafe {
                let mut values = [V::zero(); TOGETHER];
                for (item, value) in values.iter_mut().enumerate() {
                    if first + item < width {
                        *value = sums.load(self.place(row, first + item));
                    }
                }
                let at = self.at(image, row, first, block);
                let is_first = row == 0 && first == 0;
                let columns = TOGETHER.min(width - first);
                let places =
                    Places { start: at, lines: 1, columns, line: 0, column: channels, vectors: TOGETHER };
                sink.accept::<V>(image, block, is_first, &values, places);
            }
        }
    }
}

struct Forward<'a> {
    windows: Windows<'a>,
    to: MapViewMut<'a>,
    images: Range<usize>,
    /// Of the blocks of channels.
    part: Part,
}

impl Task for Forward<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { windows, to, images, part } = self;
        let channels = windows.input.channels;
        let mut scratch = Scratch::take();
        let [values] = scratch.pieces([windows.rows_len()]);
        let values = ViewMut::new(values);
        for image in images {
            for block in part.share(channels.div_ceil(LANES), 1) {
                let block = block_at(channels, block);
                // SAFETY: `forward` has checked all lengths; these blocks of the images are this task's alone.
                unsafe { windows.forward::<V>(image, block, values, to) }
            }
        }
    }
}

/// The flow of the gradient of what the maxima are taken of.
#[derive(Clone, Copy)]
struct MaximaFlow<'a> {
    windows: Windows<'a>,
    gradient: View<'a>,
    instructions: Instructions,
}

impl Flow for MaximaFlow<'_> {
    fn pour(&self, sink: BackwardSink) {
        let Self { windows, gradient, instructions } = *self;
        Chunks::new(windows.input.batch, 1).for_each(&|_, images| {
            instructions.run(Backward { windows, gradient, sink, images });
        });
    }
}

struct Backward<'a> {
    windows: Windows<'a>,
    gradient: View<'a>,
    sink: BackwardSink<'a>,
    images: Range<usize>,
}

impl Task for Backward<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { windows, gradient, sink, images } = self;
        let mut scratch = Scratch::take();
        let [values, sums] = scratch.pieces([windows.rows_len(), windows.rows_len()]);
        let rows = [ViewMut::new(values), ViewMut::new(sums)];
        for image in images {
            for block in blocks(windows.input.channels) {
                // SAFETY: `backward` has checked all lengths, and images are this task's alone.
                unsafe { windows.backward::<V>(image, block, gradient, &sink, rows) }
            }
        }
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { V::fence() }
    }
}
