//! Convolutions of any size and stride, as a matrix product over patches.
//!
//! A row of the left matrix is the patch under one output pixel.

mod patches;

use std::ops::Range;

use crate::instructions::Work;
use crate::map::{MapShape, Part, padded};
use crate::multiply::{Multiply, are_near};
use crate::product::{Ahead, Nothing, ROWS, SQUARE, outer_pair, panel, product_pair};
use crate::scratch::Scratch;
use crate::sink::AnySink;
use crate::source::AnySource;
use crate::vector::{LANES, Vector};
use crate::view::{View, ViewMut};
use patches::{drain, fill_rows};

/// A convolution, padded by half its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    pub(crate) input: MapShape,
    pub(crate) output: MapShape,
    pub(crate) size: usize,
    pub(crate) stride: usize,
}

/// Numbers of weights, half a megabyte, that a part of the work has.
const PART_WEIGHTS: usize = 1 << 17;

impl Direct {
    /// Whether a patch is a pixel.
    fn is_pointwise(self) -> bool {
        self.size == 1
    }

    /// Whether outputs have the input's pixels.
    fn keeps_pixels(self) -> bool {
        self.is_pointwise() && self.stride == 1
    }

    fn input_blocks(self) -> usize {
        self.input.channels.div_ceil(LANES)
    }

    fn output_blocks(self) -> usize {
        self.output.channels.div_ceil(LANES)
    }

    /// Whether the squares of the weights' gradient are `[outputs][inputs]`, not `[inputs][outputs]`: a product is fast by two
    /// blocks of lanes at a time.
    fn gradient_lanes_are_inputs(self) -> bool {
        self.output_blocks() == 1 && self.depth() > 1
    }

    /// Numbers of packed weights or of their gradient, `[depth block][output block][LANES][LANES]` in either order.
    pub(crate) fn weights_len(self) -> usize {
        self.depth() * self.output_blocks() * SQUARE
    }

    /// Into how many parts the work on a run of images is divided, by the channels that it has results for: of many weights each
    /// part reads a share that stays next to the core while all pixels pass it, and so does its share of their gradient.
    pub(crate) fn parts(self) -> usize {
        if self.is_divided() { self.weights_len().div_ceil(PART_WEIGHTS) } else { 1 }
    }

    /// A part of the work by pixels or, of many weights, by outputs.
    pub(crate) fn divided(self, part: Part) -> [Part; 2] {
        if self.is_divided() { [Part::WHOLE, part] } else { [part, Part::WHOLE] }
    }

    fn is_divided(self) -> bool {
        self.is_pointwise() && !are_near(self.weights_len())
    }

    /// Output pixels that are processed together: patches of up to 32 KB or, where the weights do not stay next to the core, as many as
    /// do.
    fn pixels(self) -> usize {
        let (most, blocks) = if are_near(self.weights_len()) {
            (1 << 13, self.depth())
        } else if self.is_divided() {
            (1 << 17, self.depth().max(self.output_blocks()))
        } else {
            (1 << 16, self.depth().max(self.output_blocks()))
        };
        (most / (blocks * LANES) / ROWS * ROWS).clamp(ROWS, 4 * ROWS)
    }

    /// `sink(weights * source)` for a run of images, as far as it is part `of_pixels` and `of_outputs`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn forward<V: Vector>(
        self,
        source: &AnySource,
        weights: View,
        sink: &impl AnySink,
        images: Range<usize>,
        [of_pixels, of_outputs]: [Part; 2],
    ) {
        let (plane, pixels, depth) = (self.plane(), self.pixels(), self.depth());
        let own_blocks = of_outputs.share(self.output_blocks(), 2);
        if own_blocks.is_empty() {
            return;
        }
        let plane_len = if self.is_pointwise() { 0 } else { plane.len(self.input.channels) };
        let mut scratch = Scratch::take();
        let [plane_memory, patches] = scratch.pieces([plane_len, pixels * depth * LANES]);
        let (plane_memory, patches) = (ViewMut::new(plane_memory), ViewMut::new(patches));
        // SAFETY: images are of the batch and pixels of the image; scratch memory has the lengths that plane and patches have.
        unsafe {
            for image in images {
                if !self.is_pointwise() {
                    plane.fill::<V>(source, self.input, 0..self.input_blocks(), image, plane_memory);
                }
                let own = of_pixels.share(self.output.pixels(), ROWS);
                for first in own.clone().step_by(pixels) {
                    let count = pixels.min(own.end - first);
                    let plane_memory = plane_memory.read();
                    let ahead =
                        self.gather::<V>(source, plane, plane_memory, image, first, count, 0..depth, patches);
                    sink.run::<V>(Multiply {
                        panels: patches.read(),
                        rows: pixels,
                        depth,
                        weights,
                        to: self.output,
                        own: own_blocks.clone(),
                        ahead,
                        beside: sink.read_beside(),
                        distance: ROWS,
                        image,
                        first,
                        count,
                    });
                }
            }
        }
    }

    /// For a run of images: the weights' gradient, to `sum` if there is one, and if there are `weights` (with
    /// lanes along the patch) `sink(weights * gradient)`; both as far as they are part `of_inputs`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) unsafe fn backward<V: Vector>(
        self,
        source: &AnySource,
        gradient: &AnySource,
        weights: Option<(View, &impl AnySink)>,
        sum: Option<ViewMut>,
        images: Range<usize>,
        of_inputs: Part,
    ) {
        let (plane, pixels) = (self.plane(), self.pixels());
        let own = of_inputs.share(self.depth(), 2);
        if own.is_empty() {
            return;
        }
        let plane_len = if self.is_pointwise() { 0 } else { plane.len(self.input.channels) };
        let patch_len = pixels * own.len() * LANES;
        let scattered_len = if self.keeps_pixels() { 0 } else { patch_len };
        let lengths = [plane_len, plane_len, patch_len, scattered_len, pixels * padded(self.output.channels)];
        let mut scratch = Scratch::take();
        let [source_plane, input_plane, patches, scattered, gradients] = scratch.pieces(lengths);
        let (source_plane, input_plane) = (ViewMut::new(source_plane), ViewMut::new(input_plane));
        let (patches, scattered) = (ViewMut::new(patches), ViewMut::new(scattered));
        let gradients = ViewMut::new(gradients);
        // SAFETY: images are of the batch and pixels of the image; scratch memory has the lengths that planes, patches and
        // gradients have, and `sum` that of the weights.
        unsafe {
            for image in images.clone() {
                if !self.is_pointwise() {
                    if sum.is_some() {
                        plane.fill::<V>(source, self.input, 0..self.input_blocks(), image, source_plane);
                    }
                    input_plane.slice(0, plane_len).fill(0.);
                }
                for first in (0..self.output.pixels()).step_by(pixels) {
                    let count = pixels.min(self.output.pixels() - first);
                    let output = (self.output, 1, 0..self.output_blocks());
                    let ahead = fill_rows::<V>(gradient, output, image, first, count, gradients, pixels);
                    if let Some(sum) = sum {
                        let source_plane = source_plane.read();
                        let own = own.clone();
                        self.gather::<V>(
                            source,
                            plane,
                            source_plane,
                            image,
                            first,
                            count,
                            own.clone(),
                            patches,
                        );
                        let is_first = image == images.start && first == 0;
                        let (patches, gradients) = (patches.read(), gradients.read());
                        self.outers::<V>(patches, own, gradients, pixels, count, sum, is_first);
                    }
                    let Some((weights, sink)) = weights else { continue };
                    if self.keeps_pixels() {
                        let (mut beside, mut distance) = (sink.read_beside(), ROWS);
                        if sum.is_some() {
                            // The patches have just brought x; those of the next pixels will want more of it.
                            (beside, distance) = ([Some(source.values()), beside[1]], pixels);
                        }
                        sink.run::<V>(Multiply {
                            panels: gradients.read(),
                            rows: pixels,
                            depth: self.output_blocks(),
                            weights,
                            to: self.input,
                            own: own.clone(),
                            ahead,
                            beside,
                            distance,
                            image,
                            first,
                            count,
                        });
                    } else {
                        let rows = (gradients.read(), pixels, self.output_blocks());
                        multiply_to_panels::<V>(rows, weights, own.clone(), count, scattered);
                        if self.is_pointwise() {
                            self.spread::<V>(scattered.read(), image, first, count, own.clone(), sink);
                        } else {
                            self.scatter::<V>(plane, scattered.read(), first, count, input_plane);
                        }
                    }
                }
                if let Some((_, sink)) = weights
                    && !self.is_pointwise()
                {
                    drain::<V>(plane, input_plane.read(), self.input, image, sink);
                }
            }
        }
    }

    /// Adds the outer products of the `own` blocks of `count` patches with as many gradients to `sum`, both panels of `rows` rows.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(crate) unsafe fn outers<V: Vector>(
        self,
        patches: View,
        own: Range<usize>,
        gradients: View,
        rows: usize,
        count: usize,
        sum: ViewMut,
        is_first: bool,
    ) {
        // SAFETY: as the caller promises.
        unsafe { V::call(Outers { direct: self, patches, own, gradients, rows, count, sum, is_first }) }
    }
}

struct Outers<'a> {
    direct: Direct,
    patches: View<'a>,
    own: Range<usize>,
    gradients: View<'a>,
    rows: usize,
    count: usize,
    sum: ViewMut<'a>,
    is_first: bool,
}

impl<V: Vector> Work<V> for Outers<'_> {
    /// What is broadcast has one block, if one of the two has.
    #[inline(always)]
    unsafe fn run(self) {
        let Self { direct, patches, own, gradients, rows, count, sum, is_first } = self;
        let outputs = direct.output_blocks();
        // SAFETY: blocks are of the panels, which have so many rows, and squares of the sum.
        unsafe {
            let patch = |block: usize| patches.from(panel(block, 0, rows));
            let gradient = |output: usize| gradients.from(panel(output, 0, rows));
            if direct.gradient_lanes_are_inputs() {
                let to = |block| sum.from((own.start + block) * SQUARE);
                outers::<V>(gradient(0), patch, own.len(), count, to, is_first);
                return;
            }
            for (place, block) in own.enumerate() {
                let to = |output: usize| sum.from((block * outputs + output) * SQUARE);
                outers::<V>(patch(place), gradient, outputs, count, to, is_first);
            }
        }
    }
}

/// Adds the outer products of the panel `a` with `blocks` panels `g` to as many squares.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn outers<'a, V: Vector>(
    a: View,
    g: impl Fn(usize) -> View<'a>,
    blocks: usize,
    rows: usize,
    sum: impl Fn(usize) -> ViewMut<'a>,
    is_first: bool,
) {
    let pairs = blocks / 2 * 2;
    // SAFETY: as the caller promises of blocks and rows.
    unsafe {
        for block in (0..pairs).step_by(2) {
            outer_pair::<V>(a, [g(block), g(block + 1)], rows, [sum(block), sum(block + 1)], is_first);
        }
        if pairs < blocks {
            V::outer(a, g(pairs), rows, sum(pairs), is_first);
        }
    }
}

/// Multiplies panels by weights to the `own` blocks, as panels again.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn multiply_to_panels<V: Vector>(
    (panels, rows, depth): (View, usize, usize),
    weights: View,
    own: Range<usize>,
    count: usize,
    to: ViewMut,
) {
    let blocks = own.len();
    // As in `Multiply`: weights that are far are read once.
    let are_near = are_near(depth * blocks * SQUARE);
    let turns = [count.div_ceil(ROWS), blocks.div_ceil(2)];
    let [outers, inners] = if are_near { turns } else { [turns[1], turns[0]] };
    for outer in 0..outers {
        for inner in 0..inners {
            let [row, block] = if are_near { [outer, inner] } else { [inner, outer] };
            let (row, block, ahead) = (row * ROWS, block * 2, Ahead::NOTHING);
            // SAFETY: rows and blocks are of panels, weights and results, as the caller promises.
            unsafe {
                let a = (panels.from(row * LANES), rows * LANES);
                let weights = |block: usize| weights.from((own.start + block) * depth * SQUARE);
                let to = |block: usize| to.from(panel(block, row, rows));
                if block + 1 < blocks {
                    let (b, to) = ([weights(block), weights(block + 1)], [to(block), to(block + 1)]);
                    product_pair::<V>(a, depth, b, ahead, to);
                } else {
                    V::product(a, ROWS, depth, weights(block), ahead, &mut Nothing, to(block));
                }
            }
        }
    }
}
