//! Convolutions for inference in bytes: weights and maps rounded to one of 255 or 256 steps, sums exact.

use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::algorithm::Algorithm;
use crate::convolution::Convolution;
use crate::instructions::Instructions;
use crate::map::{MapShape, Part, padded};
use crate::operands::Input;
use crate::packed::{Epilogue, Packing};
use crate::tiled::{self, Quantised, Tiled, ToBytes};
use crate::tiles::{Numbers, Tiles};
use crate::values::{Values, ValuesMut};
use crate::vector::LANES;
use crate::view::{MapView, MapViewMut, View};

/// What the bytes of a map stand for: `x = scale * (byte - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// A step, above zero.
    pub scale: f32,
    /// The byte that is zero.
    pub zero_point: u8,
}

impl Quantisation {
    /// That has 255 steps from the least to the largest of some numbers, and zero exactly.
    pub fn of(range: RangeInclusive<f32>) -> Self {
        let (least, largest) = (range.start().min(0.), range.end().max(0.));
        let scale = (largest - least) / 255.;
        // Of zeros alone any step will do.
        let scale = if scale > 0. && scale.is_finite() { scale } else { 1. };
        Self { scale, zero_point: (-least / scale).round() as u8 }
    }

    /// The nearest number that a byte stands for.
    pub fn rounded(self, value: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        ((value / self.scale + zero).round_ties_even().clamp(0., 255.) - zero) * self.scale
    }
}

/// Weights `[outputs, ...]` rounded to bytes of -127 to 127, and what one is worth for each output.
pub fn rounded_weights(weights: &[f32], outputs: usize) -> (Vec<i8>, Vec<f32>) {
    let each = weights.len() / outputs;
    let mut bytes = vec![0; weights.len()];
    let scales = weights.chunks_exact(each).zip(bytes.chunks_exact_mut(each)).map(|(weights, bytes)| {
        let largest = weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        let scale = if largest > 0. { largest / 127. } else { 1. };
        for (byte, weight) in bytes.iter_mut().zip(weights) {
            *byte = (weight / scale).round_ties_even().clamp(-127., 127.) as i8;
        }
        scale
    });
    let scales = scales.collect();
    (bytes, scales)
}

/// A convolution without bias of bytes, padded by half its size, and the layout in which its kernel reads its weights.
#[derive(Debug, Clone, Copy)]
pub struct Int8Packing {
    /// The convolution.
    packing: Packing,
    input: Quantisation,
}

/// What such a convolution reads.
#[derive(Debug, Clone, Copy)]
pub enum Int8Input<'a> {
    /// Bytes of its own quantisation.
    Bytes(&'a [u8]),
    /// Numbers that it makes bytes of.
    Numbers(Input<'a>),
}

/// What it writes.
#[derive(Debug)]
pub enum Int8Output<'a> {
    /// Bytes that stand for numbers.
    Bytes(&'a mut [u8], Quantisation),
    /// Numbers.
    Numbers(ValuesMut<'a>),
}

impl Int8Packing {
    /// The packing of a convolution with weights `[outputs, inputs, size, size]`, whose input is quantised so. `size` is odd.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        size: usize,
        stride: usize,
        input: Quantisation,
        instructions: Instructions,
    ) -> Self {
        Self { packing: Packing::new(inputs, outputs, size, stride, Algorithm::Direct, instructions), input }
    }

    /// Numbers of the packed weights.
    pub fn packed_len(&self) -> usize {
        let convolution = self.packing.any();
        tiled(&convolution).packed_len() + 2 * padded(convolution.outputs)
    }

    /// Rounds and packs weights `[outputs, inputs, size, size]` into memory of any content.
    ///
    /// # Panics
    /// When a slice has another length than the shape says.
    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let convolution = self.packing.any();
        let (tiled, all) = (tiled(&convolution), convolution.outputs);
        assert_eq!(weights.len(), convolution.weights_len(), "weights");
        assert_eq!(packed.len(), self.packed_len(), "packed weights");
        let (bytes, scales) = rounded_weights(weights, all);
        let (packed, of_outputs) = packed.split_at_mut(tiled.packed_len());
        let (units, bases) = of_outputs.split_at_mut(padded(all));
        let each = weights.len() / all;
        for (output, (unit, base)) in units.iter_mut().zip(bases).enumerate() {
            let Some(scale) = scales.get(output) else {
                (*unit, *base) = (0., 0.);
                continue;
            };
            let sum: i32 = bytes[output * each..][..each].iter().map(|byte| i32::from(*byte)).sum();
            *unit = scale * self.input.scale;
            *base = -(f64::from(*unit) * f64::from(sum) * f64::from(self.input.zero_point)) as f32;
        }
        packed.par_chunks_mut(tiled.block_len()).enumerate().for_each(|(block, to)| {
            let outputs = all.min((block + 1) * LANES) - block * LANES;
            let of_block = &bytes[block * LANES * each..][..outputs * each];
            pack_block(tiled, of_block, to);
        });
    }

    /// Shape of the output for an input `[batch, height, width, inputs]`.
    pub fn output(&self, input: MapShape) -> MapShape {
        self.packing.output(input)
    }

    /// `output = epilogue(weights * input, addend)` of the whole batch with these packed weights, in `parts` parts: one on the calling thread,
    /// others on those of its pool, which are best kept awake ([`with_threads_awake`](crate::with_threads_awake)). The results are the
    /// same to the bit for any number of parts; where no numbers of f32 are written, nearly always for any instructions.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        packed: &[f32],
        shape: MapShape,
        input: Int8Input,
        epilogue: &Epilogue,
        addend: Option<Values>,
        output: Int8Output,
        parts: usize,
    ) {
        assert_eq!(packed.len(), self.packed_len(), "packed weights");
        let convolution = self.packing.of_maps(shape);
        let (shape, outputs) = (convolution.input, convolution.outputs);
        let tiled = tiled(&convolution);
        assert_eq!(epilogue.channels, outputs, "channels of the epilogue");
        let source = match input {
            Int8Input::Bytes(bytes) => {
                assert_eq!(bytes.len(), shape.len(), "input");
                Quantised::Stored { bytes: MapView::of_bytes(bytes), zero_point: self.input.zero_point }
            }
            Int8Input::Numbers(input) => {
                Quantised::Computed { source: input.source(shape), quantisation: self.input }
            }
        };
        let (output, quantisation) = match output {
            Int8Output::Bytes(bytes, quantisation) => (MapViewMut::of_bytes(bytes), Some(quantisation)),
            Int8Output::Numbers(values) => (MapViewMut::new(values), None),
        };
        assert_eq!(output.len(), tiled.output.len(), "output");
        if let Some(addend) = addend {
            assert_eq!(addend.len(), tiled.output.len(), "addend");
        }
        let (weights, of_outputs) = packed.split_at(tiled.packed_len());
        let (units, bases) = of_outputs.split_at(padded(outputs));
        let finishing = epilogue.finishing(output, addend);
        let finish = ToBytes { units: View::new(units), bases: View::new(bases), finishing, quantisation };
        let (weights, instructions) = (View::new(weights), convolution.instructions);
        // Disjoint: every tile, pixel or block of outputs is in one part, which alone writes it.
        Part::for_each(parts, &|part| {
            let images = 0..shape.batch;
            instructions.run(tiled::Forward { tiled, source, weights, finish, images, part });
        });
    }
}

/// By products of bytes.
fn tiled(convolution: &Convolution) -> Tiled {
    let tiles = Tiles::of(convolution.instructions, Numbers::Int8);
    convolution.tiled_by(Numbers::Int8, tiles.expect("every machine multiplies bytes"))
}

/// `[kernel row][slot of a run][LANES][4]`
fn pack_block(tiled: Tiled, bytes: &[i8], to: &mut [f32]) {
    let Tiled { size, input, .. } = tiled;
    let (taps, inputs) = (size * size, input.channels);
    to.fill(0.);
    for (output, bytes) in bytes.chunks_exact(inputs * taps).enumerate() {
        for (row, to) in to.chunks_exact_mut(tiled.slots() * LANES).enumerate() {
            let mut slots = to[output..].iter_mut().step_by(LANES);
            let mut slot = [0u8; 4];
            let mut filled = 0;
            for column in 0..size {
                for of_input in bytes.chunks_exact(taps) {
                    slot[filled] = of_input[row * size + column] as u8;
                    filled += 1;
                    if filled == 4 {
                        let to = slots.next().expect("a run has slots for all");
                        *to = f32::from_bits(u32::from_le_bytes(std::mem::take(&mut slot)));
                        filled = 0;
                    }
                }
            }
            if filled > 0 {
                let to = slots.next().expect("a run has slots for all");
                *to = f32::from_bits(u32::from_le_bytes(slot));
            }
        }
    }
}
