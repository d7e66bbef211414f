//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3).
//!
//! ```text
//! for a band of images (as many as have sixteen tiles):
//!     copy them to planes with a border, through the source
//!     for sixteen tiles:
//!         transform them: [frequency][panel of channels][tile][lane]
//!         for every frequency: a matrix product over channels
//!         transform back, into the sink
//! ```
//!
//! The data gradient is the same with flipped weights; the weights' gradient is an outer product per frequency, summed in
//! the transformed domain over a run of images and transformed back once.

use std::ops::Range;

use crate::map::{Block, MapShape, Part, block_at};
use crate::plane::Plane;
use crate::product::{Ahead, FEW_ROWS, Nothing, ROWS, SQUARE, few_rows, outer_pair, product_pair};
use crate::scratch::Scratch;
use crate::sink::{AnySink, Places};
use crate::source::AnySource;
use crate::transform::{self, FREQUENCIES, INPUT, TILE};
use crate::vector::{LANES, Vector};
use crate::view::{Lines, MapView, View, ViewMut};

/// Tiles that are processed together: one product's rows.
const TILES: usize = ROWS;

/// A 3x3 convolution of stride 1 from `inputs` to `outputs` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Winograd {
    /// The input's shape.
    pub(crate) input: MapShape,
    pub(crate) outputs: usize,
}

/// Up to as many tiles (of single small images) are not filled up to sixteen.
const FEW_TILES: usize = 8;

/// Transformed tiles are stored as `[block of channels][frequency][tile][lane]`. Numbers from a frequency to the next: a
/// line more than there are, since powers of two would fall into the same few cache sets.
const FREQUENCY: usize = TILES * LANES + LANES;
/// Numbers from a block of channels to the next.
const BLOCK: usize = FREQUENCIES * FREQUENCY;

/// Where a tile is.
#[derive(Clone, Copy)]
struct Position {
    /// Within the band.
    image: usize,
    row: usize,
    column: usize,
}

impl Winograd {
    /// The same with inputs and outputs exchanged: the data gradient.
    pub(crate) fn transposed(self) -> Self {
        Self { input: self.input.with_channels(self.outputs), outputs: self.input.channels }
    }

    /// Images of a run: enough that what is done once for a run, transforming the weights' gradient back, costs little, but
    /// where there are eight bands at least eight runs.
    pub(crate) fn run(self) -> usize {
        (4 * TILES).div_ceil(self.tiles()).min(self.input.batch.div_ceil(8)).max(self.band())
    }

    /// Images whose tiles are processed together.
    fn band(self) -> usize {
        TILES.div_ceil(self.tiles()).min(self.input.batch)
    }

    /// Numbers of transformed weights, `[frequency][output block][input blocks * LANES][LANES]`, or of their gradient,
    /// `[frequency][input block][output block][LANES][LANES]`.
    pub(crate) fn weights_len(inputs: usize, outputs: usize) -> usize {
        FREQUENCIES * inputs.div_ceil(LANES) * outputs.div_ceil(LANES) * SQUARE
    }

    fn tiles_wide(self) -> usize {
        self.input.width.div_ceil(TILE)
    }

    fn tiles(self) -> usize {
        self.input.height.div_ceil(TILE) * self.tiles_wide()
    }

    fn plane(self) -> Plane {
        let side = |pixels: usize| pixels.next_multiple_of(TILE) + 2;
        Plane::blocked(side(self.input.height), side(self.input.width), 1)
    }

    #[inline(always)]
    fn position(self, tile: usize) -> Position {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        Position { image, row: tile / self.tiles_wide() * TILE, column: tile % self.tiles_wide() * TILE }
    }

    /// `sink(weights * source)` for a run of images. With flipped weights, a gradient as its source and inputs and outputs
    /// exchanged it is the data gradient.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn forward<V: Vector>(
        self,
        source: &AnySource,
        weights: View,
        sink: &impl AnySink,
        images: Range<usize>,
        part: Part,
    ) {
        let Self { input, outputs } = self;
        let (plane, band) = (self.plane(), self.band());
        let (blocks, output_blocks) = (input.channels.div_ceil(LANES), outputs.div_ceil(LANES));
        // Where tiles are too few to be divided, the outputs are.
        let divides_tiles = self.tiles() >= 2 * TILES;
        let (of_tiles, of_outputs) = if divides_tiles { (part, Part::WHOLE) } else { (Part::WHOLE, part) };
        let own = of_outputs.share(output_blocks, 1);
        let lengths = [plane.len(input.channels) * band, blocks * BLOCK, output_blocks * BLOCK];
        let mut scratch = Scratch::take();
        let [planes, tiles, results] = scratch.pieces(lengths);
        let (planes, tiles, results) = (ViewMut::new(planes), ViewMut::new(tiles), ViewMut::new(results));
        unsafe {
            for first in images.clone().step_by(band) {
                let count = band.min(images.end - first);
                for image in 0..count {
                    let to = planes.from(image * plane.len(input.channels));
                    plane.fill::<V>(source, input, first + image, to);
                }
                let [x, addend] = sink.read_beside();
                let ahead = self.ahead(
                    first + count,
                    [source.values(), x.or(addend).unwrap_or(source.values())],
                    [input.channels, outputs],
                    output_blocks,
                );
                let own_tiles = of_tiles.share(count * self.tiles(), TILES);
                for tile in own_tiles.clone().step_by(TILES) {
                    let tiles_here = TILES.min(own_tiles.end - tile);
                    self.transform_input::<V>(plane, planes.read(), tile, tiles_here, blocks, tiles);
                    let to = (results, output_blocks, own.clone());
                    if tiles_here <= FEW_TILES {
                        few_products::<V>((tiles.read(), blocks), tiles_here, weights, to);
                    } else {
                        let ahead = ahead.from(tile / TILES * FREQUENCIES * output_blocks);
                        products::<V>((tiles.read(), blocks), weights, to, ahead);
                    }
                    self.finish::<V>(results.read(), outputs, own.clone(), first, tile, tiles_here, sink);
                }
            }
        }
    }

    /// For a run of images: the weights' gradient, `[input][3][3][output blocks * LANES]`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn weights_gradient<V: Vector>(
        self,
        source: &AnySource,
        gradient: &AnySource,
        to: ViewMut,
        images: Range<usize>,
    ) {
        let Self { input, outputs } = self;
        let output = input.with_channels(outputs);
        let (plane, band) = (self.plane(), self.band());
        let (blocks, output_blocks) = (input.channels.div_ceil(LANES), outputs.div_ceil(LANES));
        let lengths = [
            plane.len(input.channels) * band,
            plane.len(outputs) * band,
            blocks * BLOCK,
            output_blocks * BLOCK,
            Self::weights_len(input.channels, outputs),
        ];
        let mut scratch = Scratch::take();
        let [planes, gradient_planes, tiles, gradients, sum] = scratch.pieces(lengths);
        let (planes, gradient_planes) = (ViewMut::new(planes), ViewMut::new(gradient_planes));
        let (tiles, gradients, sum) = (ViewMut::new(tiles), ViewMut::new(gradients), ViewMut::new(sum));
        unsafe {
            for first in images.clone().step_by(band) {
                let count = band.min(images.end - first);
                for image in 0..count {
                    let to = planes.from(image * plane.len(input.channels));
                    plane.fill::<V>(source, input, first + image, to);
                    let to = gradient_planes.from(image * plane.len(outputs));
                    plane.fill::<V>(gradient, output, first + image, to);
                }
                let products = blocks * output_blocks;
                let maps = [source.values(), gradient.values()];
                let ahead = self.ahead(first + count, maps, [input.channels, outputs], products);
                for tile in (0..count * self.tiles()).step_by(TILES) {
                    let tiles_here = TILES.min(count * self.tiles() - tile);
                    self.transform_input::<V>(plane, planes.read(), tile, tiles_here, blocks, tiles);
                    self.transform_gradient::<V>(plane, gradient_planes.read(), tile, tiles_here, gradients);
                    outers::<V>(
                        (tiles.read(), blocks),
                        (gradients.read(), output_blocks),
                        tiles_here,
                        (sum, first == images.start && tile == 0),
                        ahead.from(tile / TILES * FREQUENCIES * products),
                    );
                }
            }
            transform_weights_gradient::<V>(sum.read(), input.channels, outputs, to);
        }
    }

    /// What the products of a band ask for: two maps from image `next` on, spread over all of them.
    #[inline(always)]
    fn ahead(self, next: usize, maps: [MapView; 2], channels: [usize; 2], blocks: usize) -> Spread {
        let products = (self.band() * self.tiles()).div_ceil(TILES) * FREQUENCIES * blocks;
        let pixels = self.input.pixels();
        let lines = |at: usize| maps[at].lines(next * pixels * channels[at]);
        let step = |at: usize| maps[at].line_count((self.band() * pixels * channels[at]).div_ceil(products));
        Spread { maps: [lines(0), lines(1)], steps: [step(0), step(1)] }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn transform_input<V: Vector>(
        self,
        plane: Plane,
        planes: View,
        first: usize,
        count: usize,
        blocks: usize,
        to: ViewMut,
    ) {
        for tile in 0..count {
            let Position { image, row, column } = self.position(first + tile);
            for block in 0..blocks {
                unsafe {
                    let from = planes.from(image * plane.block * blocks + plane.at(block, row, column));
                    let to = to.from(block * BLOCK + tile * LANES);
                    transform::of_input::<V>(
                        |row, column| from.load((row * plane.width + column) * LANES),
                        |frequency, value| to.store(frequency * FREQUENCY, value),
                    );
                }
            }
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn transform_gradient<V: Vector>(
        self,
        plane: Plane,
        planes: View,
        first: usize,
        count: usize,
        to: ViewMut,
    ) {
        let blocks = self.outputs.div_ceil(LANES);
        for tile in 0..count {
            let Position { image, row, column } = self.position(first + tile);
            for block in 0..blocks {
                unsafe {
                    let at = image * plane.block * blocks + plane.at(block, row + 1, column + 1);
                    let from = planes.from(at);
                    let to = to.from(block * BLOCK + tile * LANES);
                    transform::of_gradient::<V>(
                        |row, column| from.load((row * plane.width + column) * LANES),
                        |frequency, value| to.store(frequency * FREQUENCY, value),
                    );
                }
            }
        }
    }

    /// Transforms tiles of `channels` channels back, into the sink.
    #[allow(clippy::too_many_arguments)]
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn finish<V: Vector>(
        self,
        results: View,
        channels: usize,
        own: Range<usize>,
        first_image: usize,
        first: usize,
        count: usize,
        sink: &impl AnySink,
    ) {
        let MapShape { height, width, .. } = self.input;
        for tile in 0..count {
            let Position { image, row, column } = self.position(first + tile);
            let image = first_image + image;
            let is_first = row == 0 && column == 0;
            for index in own.clone() {
                let block = block_at(channels, index);
                unsafe {
                    let from = results.from(block.index * BLOCK + tile * LANES);
                    let outputs = transform::to_output::<V>(|frequency| from.load(frequency * FREQUENCY));
                    let corner = ((image * height + row) * width + column) * channels + block.channel;
                    let places = Places {
                        start: corner,
                        lines: TILE.min(height - row),
                        columns: TILE.min(width - column),
                        line: width * channels,
                        column: channels,
                        vectors: TILE,
                    };
                    sink.accept(image, block, is_first, &outputs, places);
                }
            }
        }
    }
}

/// Two maps, cut into as many steps of some lines as there are products.
#[derive(Clone, Copy)]
struct Spread {
    maps: [Lines; 2],
    steps: [usize; 2],
}

impl Spread {
    /// What the products from the `product`-th on ask for.
    #[inline(always)]
    fn from(self, product: usize) -> Self {
        let ([left, right], [left_step, right_step]) = (self.maps, self.steps);
        Self { maps: [left.skip(product * left_step), right.skip(product * right_step)], ..self }
    }

    /// What the next product asks for: its own step and, lines being as many as there are, some of the next.
    #[inline(always)]
    fn now(self) -> Ahead {
        Ahead { long: Lines::NONE, short: self.maps }
    }
}

/// For every frequency the product of sixteen tiles with the weights.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn products<V: Vector>(
    (tiles, depth): (View, usize),
    weights: View,
    (results, output_blocks, own): (ViewMut, usize, Range<usize>),
    mut ahead: Spread,
) {
    for frequency in 0..FREQUENCIES {
        let mut block = own.start;
        unsafe {
            let a = (tiles.from(frequency * FREQUENCY), BLOCK);
            let weights = |block: usize| weights.from((frequency * output_blocks + block) * depth * SQUARE);
            let to = |block: usize| results.from(block * BLOCK + frequency * FREQUENCY);
            while block + 2 <= own.end {
                let (b, to) = ([weights(block), weights(block + 1)], [to(block), to(block + 1)]);
                product_pair::<V>(a, depth, b, ahead.now(), to);
                ahead = ahead.from(2);
                block += 2;
            }
            if block < own.end {
                V::product(a, depth, weights(block), ahead.now(), &mut Nothing, to(block));
                ahead = ahead.from(1);
            }
        }
    }
}

/// As [`products`] for `count` tiles, four rows at a time: the same sums in the same order.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn few_products<V: Vector>(
    (tiles, depth): (View, usize),
    count: usize,
    weights: View,
    (results, output_blocks, own): (ViewMut, usize, Range<usize>),
) {
    for frequency in 0..FREQUENCIES {
        unsafe {
            let weights = weights.from(frequency * output_blocks * depth * SQUARE);
            for row in (0..count).step_by(FEW_ROWS) {
                let a = tiles.from(frequency * FREQUENCY + row * LANES);
                let to = results.from(frequency * FREQUENCY + row * LANES);
                let mut block = own.start;
                if V::HAS_MANY_REGISTERS {
                    while block + 4 <= own.end {
                        let (weights, to) = (weights.from(block * depth * SQUARE), to.from(block * BLOCK));
                        few_rows::<V, 4>((a, BLOCK), depth, weights, (to, BLOCK));
                        block += 4;
                    }
                }
                while block + 2 <= own.end {
                    let (weights, to) = (weights.from(block * depth * SQUARE), to.from(block * BLOCK));
                    few_rows::<V, 2>((a, BLOCK), depth, weights, (to, BLOCK));
                    block += 2;
                }
                if block < own.end {
                    let (weights, to) = (weights.from(block * depth * SQUARE), to.from(block * BLOCK));
                    few_rows::<V, 1>((a, BLOCK), depth, weights, (to, BLOCK));
                }
            }
        }
    }
}

/// For every frequency the outer products of `count` tiles of the input and of the gradient, added to `sum`.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn outers<V: Vector>(
    (tiles, input_blocks): (View, usize),
    (gradients, output_blocks): (View, usize),
    count: usize,
    (sum, is_first): (ViewMut, bool),
    mut ahead: Spread,
) {
    for frequency in 0..FREQUENCIES {
        for input in 0..input_blocks {
            let mut output = 0;
            unsafe {
                let a = tiles.from(input * BLOCK + frequency * FREQUENCY);
                let g = |output: usize| gradients.from(output * BLOCK + frequency * FREQUENCY);
                let to = |output: usize| {
                    sum.from(((frequency * input_blocks + input) * output_blocks + output) * SQUARE)
                };
                while output < output_blocks {
                    let together = if output + 2 <= output_blocks { 2 } else { 1 };
                    for (map, step) in ahead.maps.into_iter().zip(ahead.steps) {
                        for line in 0..together * step {
                            map.prefetch::<V>(line);
                        }
                    }
                    ahead = ahead.from(together);
                    if together == 2 {
                        let (g, to) = ([g(output), g(output + 1)], [to(output), to(output + 1)]);
                        outer_pair::<V>(a, g, count, to, is_first);
                    } else {
                        V::outer(a, g(output), count, to(output), is_first);
                    }
                    output += together;
                }
            }
        }
    }
}

/// Transforms a block of channels of weights `[outputs, inputs, 3, 3]` for [`Winograd::forward`], or, flipped and with inputs and outputs
/// exchanged, for the data gradient that it computes [transposed](Winograd::transposed).
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn transform_weights<V: Vector>(
    weights: &[f32],
    inputs: usize,
    outputs: usize,
    is_flipped: bool,
    block: Block,
    to: ViewMut,
) {
    let (from_channels, to_channels) = if is_flipped { (outputs, inputs) } else { (inputs, outputs) };
    let depth = from_channels.div_ceil(LANES);
    let to_blocks = to_channels.div_ceil(LANES);
    let Block { index, channel, count } = block;
    for from in 0..depth * LANES {
        let mut kernel = [[[0f32; LANES]; 3]; 3];
        if from < from_channels {
            for to in channel..channel + count {
                let (output, input) = if is_flipped { (from, to) } else { (to, from) };
                let values = &weights[(output * inputs + input) * 9..][..9];
                for (tap, &value) in values.iter().enumerate() {
                    let tap = if is_flipped { 8 - tap } else { tap };
                    kernel[tap / 3][tap % 3][to - channel] = value;
                }
            }
        }
        unsafe {
            let load = |row: usize, column: usize| V::load(kernel[row][column].as_ptr());
            let kernel = [
                [load(0, 0), load(0, 1), load(0, 2)],
                [load(1, 0), load(1, 1), load(1, 2)],
                [load(2, 0), load(2, 1), load(2, 2)],
            ];
            transform::of_weights(kernel, |frequency, value| {
                let at = ((frequency * to_blocks + index) * depth * LANES + from) * LANES;
                to.store(at, value);
            });
        }
    }
}

/// Transforms the summed gradient back: `[frequency][input block][output block][LANES][LANES]` to
/// `[input][3][3][output blocks * LANES]`.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn transform_weights_gradient<V: Vector>(sum: View, inputs: usize, outputs: usize, to: ViewMut) {
    let output_blocks = outputs.div_ceil(LANES);
    let input_blocks = inputs.div_ceil(LANES);
    for input in 0..inputs {
        for output in 0..output_blocks {
            unsafe {
                let at = |frequency: usize| {
                    let square = (frequency * input_blocks + input / LANES) * output_blocks + output;
                    square * SQUARE + input % LANES * LANES
                };
                let kernel = transform::to_weights::<V>(|frequency| sum.load(at(frequency)));
                for (tap, value) in kernel.into_iter().flatten().enumerate() {
                    to.store(((input * 9 + tap) * output_blocks + output) * LANES, value);
                }
            }
        }
    }
}

const _: () = assert!(INPUT == TILE + 2);
