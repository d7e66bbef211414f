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
//! Transformed weights of many channels do not fit in the caches next to a core (512 to 512 channels: 38 MB). There a block of them is multiplied
//! with several sixteens of tiles before the next is read, and as that leaves few runs of images, each is divided by
//! output channels too. If each is multiplied with few tiles, they lie as kernels, a quarter of that, and are transformed on the way (`kernels`).
//!
//! The data gradient is the same with flipped weights; the weights' gradient is an outer product per frequency, summed in
//! the transformed domain over a run of images and transformed back once.

mod kernels;
mod products;

pub(crate) use kernels::{len as kernels_len, pack as pack_kernels, pack_flipped as pack_flipped_kernels};

use std::ops::Range;

use products::{Results, Spread, Tiles, in_groups, outers, products};

use crate::instructions::Work;
use crate::map::{Block, MapShape, Part, block_at};
use crate::plane::Plane;
use crate::product::{ROWS, SQUARE};
use crate::scratch::Scratch;
use crate::sink::{AnySink, Places, Sink, WithSink};
use crate::source::AnySource;
use crate::transform::{self, FREQUENCIES, INPUT, TILE};
use crate::vector::{LANES, Vector};
use crate::view::{MapView, View, ViewMut};

/// Tiles that are processed together: one product's rows.
const TILES: usize = ROWS;

/// A 3x3 convolution of stride 1 from `inputs` to `outputs` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Winograd {
    /// The input's shape.
    pub(crate) input: MapShape,
    pub(crate) outputs: usize,
    pub(crate) layout: Layout,
}

/// How the weights of [`Winograd::forward`] lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Transformed: `[frequency][output block][input blocks * LANES][LANES]`.
    Transformed,
    /// As kernels, in a quarter of the memory: `[output block][input blocks * LANES][9][LANES]`. Whoever multiplies by them transforms them,
    /// which takes less time than reading four times as much from memory, if that is done seldom.
    Kernels,
}

/// Sixteens of tiles that weights of many channels are multiplied with at a time.
const GROUPS: usize = 4;
/// Numbers of transformed weights up to which they are taken to be at hand for every sixteen tiles: those of 128 to 128 channels.
const NEAR_WEIGHTS: usize = FREQUENCIES * 64 * 64;
/// Blocks of output channels that are a part of the work on weights of many channels.
const PART_BLOCKS: usize = 8;

/// Numbers of transformed weights from which on they are kept as kernels, 2 MB.
const FEWEST_KERNELS: usize = 1 << 19;
/// Numbers of transformed weights from which on no cache holds them until they are read: they are written past the caches.
const FEWEST_STREAMED_WEIGHTS: usize = 6 << 20;
/// As many numbers of the weights' gradient, of which every run of images has one.
const FEWEST_STREAMED: usize = 1 << 19;

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
    /// The convolution, with the layout of weights that is the faster where they are used once: kernels that would be transformed for
    /// several runs of images are better transformed before.
    pub(crate) fn new(input: MapShape, outputs: usize) -> Self {
        let winograd = Self { input, outputs, layout: Layout::Transformed };
        if input.batch * winograd.tiles() <= GROUPS * TILES {
            winograd.with_packed_weights()
        } else {
            winograd
        }
    }

    /// The same with the layout that is the faster where weights are packed once for all: large ones are read from memory, and what is read is
    /// what takes the time.
    pub(crate) fn with_packed_weights(self) -> Self {
        let is_large = self.transformed_len() >= FEWEST_KERNELS;
        let layout = if is_large { Layout::Kernels } else { Layout::Transformed };
        Self { layout, ..self }
    }

    /// The same with inputs and outputs exchanged: the data gradient.
    pub(crate) fn transposed(self) -> Self {
        Self { input: self.input.with_channels(self.outputs), outputs: self.input.channels, ..self }
    }

    /// Images of a run: enough that what is done once for a run, transforming the weights' gradient back, costs little, but
    /// where there are eight bands at least eight runs.
    pub(crate) fn run(self) -> usize {
        (4 * TILES).div_ceil(self.tiles()).min(self.input.batch.div_ceil(8)).max(self.band())
    }

    /// Sixteens of tiles that are processed together.
    fn groups(self) -> usize {
        if self.transformed_len() <= NEAR_WEIGHTS { 1 } else { GROUPS }
    }

    /// Into how many parts the work on a run of images is divided, by the channels that it has results for.
    pub(crate) fn parts(self) -> usize {
        let channels = self.input.channels.max(self.outputs);
        if self.groups() == 1 { 1 } else { channels.div_ceil(PART_BLOCKS * LANES) }
    }

    /// A part of the work by tiles or, where they are too few to be divided, by outputs.
    pub(crate) fn divided(self, part: Part) -> [Part; 2] {
        if self.tiles() >= 2 * TILES { [part, Part::WHOLE] } else { [Part::WHOLE, part] }
    }

    /// Images whose tiles are processed together.
    fn band(self) -> usize {
        (self.groups() * TILES).div_ceil(self.tiles()).min(self.input.batch)
    }

    /// Numbers of weights, of the forward pass or of the data gradient.
    pub(crate) fn weights_len(self) -> usize {
        match self.layout {
            Layout::Transformed => self.transformed_len(),
            Layout::Kernels => kernels::len(self.input.channels) * self.outputs.div_ceil(LANES),
        }
    }

    /// Numbers of transformed weights, or of their gradient, `[frequency][input block][output block][LANES][LANES]`.
    fn transformed_len(self) -> usize {
        transformed_len(self.input.channels, self.outputs)
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

    /// Where up to sixteen tiles begin in planes of the images of a band, `inset` pixels inside.
    #[inline(always)]
    fn places(self, plane: Plane, blocks: usize, tiles: Range<usize>, inset: usize) -> [usize; TILES] {
        let mut places = [0; TILES];
        for (place, tile) in places.iter_mut().zip(tiles) {
            let Position { image, row, column } = self.position(tile);
            *place = image * plane.block * blocks + plane.at(0, row + inset, column + inset);
        }
        places
    }

    /// `sink(weights * source)` for a run of images, as far as it is part `of_tiles` and `of_outputs`. With flipped weights, a
    /// gradient as its source and inputs and outputs exchanged it is the data gradient.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn forward<V: Vector>(
        self,
        source: &AnySource,
        weights: View,
        sink: &impl AnySink,
        images: Range<usize>,
        [of_tiles, of_outputs]: [Part; 2],
    ) {
        let Self { input, outputs, .. } = self;
        let (plane, band, groups) = (self.plane(), self.band(), self.groups());
        let (blocks, output_blocks) = (input.channels.div_ceil(LANES), outputs.div_ceil(LANES));
        let own = of_outputs.share(output_blocks, 1);
        if own.is_empty() {
            return;
        }
        let of_group = [blocks * BLOCK, own.len() * BLOCK];
        let transformed_len = match self.layout {
            Layout::Transformed => 0,
            Layout::Kernels => kernels::transformed_len(blocks),
        };
        let lengths =
            [plane.len(input.channels) * band, groups * of_group[0], groups * of_group[1], transformed_len];
        let mut scratch = Scratch::take();
        let [planes, tiles, results, transformed] = scratch.pieces(lengths);
        let (planes, tiles, results) = (ViewMut::new(planes), ViewMut::new(tiles), ViewMut::new(results));
        let transformed = ViewMut::new(transformed);
        // SAFETY: images are of the batch and tiles of its images; scratch memory has the lengths that planes, tiles and
        // results have.
        unsafe {
            for first in images.clone().step_by(band) {
                let count = band.min(images.end - first);
                for image in 0..count {
                    let to = planes.from(image * plane.len(input.channels));
                    plane.fill::<V>(source, input, 0..blocks, first + image, to);
                }
                let [x, addend] = sink.read_beside();
                let ahead = self.ahead(
                    first + count,
                    [source.values(), x.or(addend).unwrap_or(source.values())],
                    [input.channels, outputs],
                    output_blocks,
                );
                let own_tiles = of_tiles.share(count * self.tiles(), TILES);
                for tile in own_tiles.clone().step_by(groups * TILES) {
                    let here = tile..own_tiles.end.min(tile + groups * TILES);
                    V::call(Products {
                        winograd: self,
                        planes: planes.read(),
                        tiles,
                        weights,
                        transformed,
                        results,
                        here: here.clone(),
                        own: own.clone(),
                        ahead: ahead.from(tile / TILES * FREQUENCIES * output_blocks),
                    });
                    sink.run::<V>(Finish {
                        winograd: self,
                        results: results.read(),
                        own: own.clone(),
                        first_image: first,
                        tiles: here,
                    });
                }
            }
        }
    }

    /// For a run of images: the weights' gradient, `[input][3][3][output blocks * LANES]`, as far as it is part `of_outputs`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn weights_gradient<V: Vector>(
        self,
        source: &AnySource,
        gradient: &AnySource,
        to: ViewMut,
        images: Range<usize>,
        of_outputs: Part,
    ) {
        let Self { input, outputs, .. } = self;
        let output = input.with_channels(outputs);
        let (plane, band, groups) = (self.plane(), self.band(), self.groups());
        let (blocks, output_blocks) = (input.channels.div_ceil(LANES), outputs.div_ceil(LANES));
        let own = of_outputs.share(output_blocks, 1);
        if own.is_empty() {
            return;
        }
        let plane_lens = [plane.len(input.channels), plane.len(own.len() * LANES)];
        let of_group = [blocks * BLOCK, own.len() * BLOCK];
        let lengths = [
            plane_lens[0] * band,
            plane_lens[1] * band,
            groups * of_group[0],
            groups * of_group[1],
            FREQUENCIES * blocks * own.len() * SQUARE,
        ];
        let mut scratch = Scratch::take();
        let [planes, gradient_planes, tiles, gradients, sum] = scratch.pieces(lengths);
        let (planes, gradient_planes) = (ViewMut::new(planes), ViewMut::new(gradient_planes));
        let (tiles, gradients, sum) = (ViewMut::new(tiles), ViewMut::new(gradients), ViewMut::new(sum));
        // SAFETY: images are of the batch and tiles of its images; scratch memory has the lengths that planes, tiles and sums
        // have, and the `own` blocks of `to` are this part's alone.
        unsafe {
            for first in images.clone().step_by(band) {
                let count = band.min(images.end - first);
                for image in 0..count {
                    let to = planes.from(image * plane_lens[0]);
                    plane.fill::<V>(source, input, 0..blocks, first + image, to);
                    let to = gradient_planes.from(image * plane_lens[1]);
                    plane.fill::<V>(gradient, output, own.clone(), first + image, to);
                }
                let products = blocks * output_blocks;
                let maps = [source.values(), gradient.values()];
                let ahead = self.ahead(first + count, maps, [input.channels, outputs], products);
                for tile in (0..count * self.tiles()).step_by(groups * TILES) {
                    let here = tile..(count * self.tiles()).min(tile + groups * TILES);
                    for (group, tiles_here) in in_groups(here.clone()) {
                        let to = tiles.from(group * of_group[0]);
                        self.transform_input::<V>(plane, planes.read(), tiles_here.clone(), blocks, to);
                        let to = gradients.from(group * of_group[1]);
                        self.transform_gradient::<V>(
                            plane,
                            gradient_planes.read(),
                            tiles_here,
                            own.len(),
                            to,
                        );
                    }
                    outers::<V>(
                        (tiles.read(), blocks),
                        (gradients.read(), own.len()),
                        here.len(),
                        (sum, first == images.start && tile == 0),
                        ahead.from(tile / TILES * FREQUENCIES * products),
                    );
                }
            }
            transform_weights_gradient::<V>(sum.read(), input.channels, own, output_blocks, to);
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
        tiles: Range<usize>,
        blocks: usize,
        to: ViewMut,
    ) {
        let places = self.places(plane, blocks, tiles.clone(), 0);
        for block in 0..blocks {
            for (tile, place) in places.into_iter().enumerate().take(tiles.len()) {
                // SAFETY: tiles lie within the planes, which have a border, and `to` has places for sixteen in every block.
                unsafe {
                    let from = planes.from(place + block * plane.block);
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
        tiles: Range<usize>,
        blocks: usize,
        to: ViewMut,
    ) {
        let places = self.places(plane, blocks, tiles.clone(), 1);
        for block in 0..blocks {
            for (tile, place) in places.into_iter().enumerate().take(tiles.len()) {
                // SAFETY: tiles lie within the planes, which have a border, and `to` has places for sixteen in every block.
                unsafe {
                    let from = planes.from(place + block * plane.block);
                    let to = to.from(block * BLOCK + tile * LANES);
                    transform::of_gradient::<V>(
                        |row, column| from.load((row * plane.width + column) * LANES),
                        |frequency, value| to.store(frequency * FREQUENCY, value),
                    );
                }
            }
        }
    }
}

/// The transformed results of some tiles, from planes with a border: what a sink has no part in.
struct Products<'a> {
    winograd: Winograd,
    planes: View<'a>,
    /// Memory for the transformed tiles.
    tiles: ViewMut<'a>,
    weights: View<'a>,
    /// Memory for some transformed weights, where they lie as kernels.
    transformed: ViewMut<'a>,
    results: ViewMut<'a>,
    /// The tiles.
    here: Range<usize>,
    /// The blocks of outputs.
    own: Range<usize>,
    ahead: Spread,
}

impl<V: Vector> Work<V> for Products<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { winograd, planes, tiles, weights, transformed, results, here, own, ahead } = self;
        let blocks = winograd.input.channels.div_ceil(LANES);
        let results = Results { values: results, blocks: own.len() };
        // SAFETY: tiles are of the band, blocks of the weights, and there are places for as many groups.
        unsafe {
            for (group, tiles_here) in in_groups(here.clone()) {
                let to = tiles.from(group * blocks * BLOCK);
                winograd.transform_input::<V>(winograd.plane(), planes, tiles_here, blocks, to);
            }
            let tiles = Tiles { values: tiles.read(), depth: blocks, count: here.len() };
            match winograd.layout {
                Layout::Transformed => {
                    let output_blocks = winograd.outputs.div_ceil(LANES);
                    products::<V>(tiles, weights, output_blocks, own, results, ahead);
                }
                Layout::Kernels => {
                    kernels::products::<V>(tiles, weights, transformed, own, results, ahead);
                }
            }
        }
    }
}

/// Transforms `own` blocks of the results of some tiles back, into a sink.
struct Finish<'a> {
    winograd: Winograd,
    results: View<'a>,
    own: Range<usize>,
    first_image: usize,
    tiles: Range<usize>,
}

impl<V: Vector> WithSink<V> for Finish<'_> {
    #[inline(always)]
    unsafe fn run<K: Sink>(self, sink: K) {
        let Self { winograd, results, own, first_image, tiles } = self;
        let (MapShape { height, width, .. }, channels) = (winograd.input, winograd.outputs);
        for (group, tiles) in in_groups(tiles) {
            for (tile, position) in tiles.enumerate() {
                let Position { image, row, column } = winograd.position(position);
                let image = first_image + image;
                let is_first = row == 0 && column == 0;
                for index in own.clone() {
                    let block = block_at(channels, index);
                    // SAFETY: tiles are of the images behind the sink, and results have places for them.
                    unsafe {
                        let at = (group * own.len() + index - own.start) * BLOCK + tile * LANES;
                        let from = results.from(at);
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
                        places.fill(sink, image, block, is_first, outputs.as_flattened());
                    }
                }
            }
        }
    }
}

fn transformed_len(inputs: usize, outputs: usize) -> usize {
    FREQUENCIES * inputs.div_ceil(LANES) * outputs.div_ceil(LANES) * SQUARE
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
    // A square of channels at a time: what is read and written in long runs is faster, and a vector that has just been stored number by number
    // is slow to load.
    let is_large = transformed_len(inputs, outputs) >= FEWEST_STREAMED_WEIGHTS;
    let is_streamed = is_large && to.has_aligned_vectors();
    let mut scratch = Scratch::take();
    let [kernels, transformed] = scratch.pieces([9 * SQUARE, FREQUENCIES * SQUARE]);
    for first in (0..depth * LANES).step_by(LANES) {
        kernels.fill(0.);
        for from in first..from_channels.min(first + LANES) {
            for to in channel..channel + count {
                let (output, input) = if is_flipped { (from, to) } else { (to, from) };
                let values = &weights[(output * inputs + input) * 9..][..9];
                for (tap, &value) in values.iter().enumerate() {
                    let tap = if is_flipped { 8 - tap } else { tap };
                    kernels[((from - first) * 9 + tap) * LANES + to - channel] = value;
                }
            }
        }
        let (kernels, transformed) = (View::new(kernels), ViewMut::new(transformed));
        // SAFETY: the pieces have nine and `FREQUENCIES` squares, and `to` is the transformed weights'.
        unsafe {
            for from in 0..LANES {
                let kernel = kernels::kernel::<V>(kernels, from);
                transform::of_weights(kernel, |frequency, value| {
                    transformed.store(frequency * SQUARE + from * LANES, value);
                });
            }
            for frequency in 0..FREQUENCIES {
                let to = to.from(((frequency * to_blocks + index) * depth * LANES + first) * LANES);
                for at in (0..SQUARE).step_by(LANES) {
                    let value = transformed.read().load::<V>(frequency * SQUARE + at);
                    if is_streamed { to.store_streaming(at, value) } else { to.store(at, value) }
                }
            }
        }
    }
}

/// Transforms the summed gradient of `own` blocks of outputs back: `[frequency][input block][own block][LANES][LANES]` to
/// `[input][3][3][output blocks * LANES]`.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn transform_weights_gradient<V: Vector>(
    sum: View,
    inputs: usize,
    own: Range<usize>,
    output_blocks: usize,
    to: ViewMut,
) {
    let input_blocks = inputs.div_ceil(LANES);
    let is_streamed = 9 * inputs * output_blocks * LANES >= FEWEST_STREAMED && to.has_aligned_vectors();
    for block in 0..input_blocks {
        for output in own.clone() {
            for row in 0..LANES.min(inputs - block * LANES) {
                // SAFETY: blocks and rows are of `sum`, inputs and blocks of `to`, as the caller promises.
                unsafe {
                    let at = |frequency: usize| {
                        let square = (frequency * input_blocks + block) * own.len() + output - own.start;
                        square * SQUARE + row * LANES
                    };
                    let kernel = transform::to_weights::<V>(|frequency| sum.load(at(frequency)));
                    let input = block * LANES + row;
                    for (tap, value) in kernel.into_iter().flatten().enumerate() {
                        let at = ((input * 9 + tap) * output_blocks + output) * LANES;
                        if is_streamed { to.store_streaming(at, value) } else { to.store(at, value) }
                    }
                }
            }
        }
    }
}

const _: () = assert!(INPUT == TILE + 2);
