//! Changes of brightness, colour, contrast and sharpness, as Pillow computes them.

use crate::data::dataset::Dataset;

const CHANNELS: usize = Dataset::CHANNELS;

/// What becomes of each value of each channel.
pub(super) struct Table([[u8; 256]; CHANNELS]);

impl Table {
    fn of_all(value: impl Fn(u8) -> u8) -> Self {
        Self([std::array::from_fn(|k| value(k as u8)); CHANNELS])
    }

    /// `factor` of the image and the rest of black.
    pub(super) fn brightness(factor: f32) -> Self {
        Self::of_all(|value| blend(0, value, factor))
    }

    /// `factor` of the image and the rest of its mean brightness.
    pub(super) fn contrast(image: &[u8], factor: f32) -> Self {
        let (pixels, _) = image.as_chunks::<CHANNELS>();
        let sum: u64 = pixels.iter().map(|pixel| u64::from(brightness(pixel))).sum();
        let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
        Self::of_all(|value| blend(mean, value, factor))
    }

    /// The highest bits alone.
    pub(super) fn posterise(bits: u32) -> Self {
        Self::of_all(|value| value & !((1u32 << (8 - bits)) - 1) as u8)
    }

    /// Inverted from a value on.
    pub(super) fn solarise(threshold: f32) -> Self {
        Self::of_all(|value| if f32::from(value) < threshold { value } else { 255 - value })
    }

    /// Each channel stretched so that its smallest value is 0 and its largest 255; one that has a single value stays.
    pub(super) fn auto_contrast(image: &[u8]) -> Self {
        Self(histograms(image).map(|counts| {
            let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
            let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
            if last <= first {
                return std::array::from_fn(|k| k as u8);
            }
            let scale = 255.0 / (last - first) as f64;
            let offset = -(first as f64) * scale;
            std::array::from_fn(|k| (k as f64 * scale + offset) as u8)
        }))
    }

    /// Each channel's values spread so that ranges of equal length are equally frequent, as far as they can be.
    pub(super) fn equalise(image: &[u8]) -> Self {
        Self(histograms(image).map(|counts| {
            let total: u32 = counts.iter().sum();
            let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
            let step = (total - last) / 255;
            if step == 0 {
                return std::array::from_fn(|k| k as u8);
            }
            let mut below = step / 2;
            std::array::from_fn(|k| {
                let value = (below / step).min(255) as u8;
                below += counts[k];
                value
            })
        }))
    }

    pub(super) fn apply(&self, image: &[u8], out: &mut [u8]) {
        let [red, green, blue] = &self.0;
        let (image, _) = image.as_chunks::<CHANNELS>();
        let (out, _) = out.as_chunks_mut::<CHANNELS>();
        for (out, &[r, g, b]) in out.iter_mut().zip(image) {
            *out = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
        }
    }
}

/// `factor` of the image and the rest of its grey version.
pub(super) fn adjust_colour(image: &[u8], factor: f32, out: &mut [u8]) {
    let (image, _) = image.as_chunks::<CHANNELS>();
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    for (out, pixel) in out.iter_mut().zip(image) {
        let grey = brightness(pixel);
        *out = pixel.map(|value| blend(grey, value, factor));
    }
}

/// `factor` of the image and the rest of its blurred version: means over 3x3 pixels, where the middle counts five times. The outermost
/// pixels stay.
pub(super) fn sharpen(image: &[u8], width: usize, factor: f32, out: &mut [u8]) {
    out.copy_from_slice(image);
    let row = width * CHANNELS;
    for (lines, out) in image.windows(3 * row).step_by(row).zip(out.chunks_exact_mut(row).skip(1)) {
        let (above, rest) = lines.split_at(row);
        let (line, below) = rest.split_at(row);
        for at in CHANNELS..row.saturating_sub(CHANNELS) {
            let across = |line: &[u8]| {
                u32::from(line[at - CHANNELS]) + u32::from(line[at]) + u32::from(line[at + CHANNELS])
            };
            let sum = across(above) + across(line) + across(below) + 4 * u32::from(line[at]);
            // The weights add up to 13; an odd number leaves no halves to round.
            let blurred = (2 * sum + 13) / 26;
            out[at] = blend(blurred as u8, line[at], factor);
        }
    }
}

/// `factor * value + (1 - factor) * plainer`, without the fraction.
fn blend(plainer: u8, value: u8, factor: f32) -> u8 {
    let difference = i16::from(value) - i16::from(plainer);
    (f32::from(plainer) + factor * f32::from(difference)) as u8
}

/// How bright a pixel looks: 0.299 R + 0.587 G + 0.114 B, rounded.
fn brightness(&[red, green, blue]: &[u8; CHANNELS]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

/// How often each value occurs in each channel.
fn histograms(image: &[u8]) -> [[u32; 256]; CHANNELS] {
    let mut counts = [[0; 256]; CHANNELS];
    for pixel in image.as_chunks::<CHANNELS>().0 {
        for (counts, &value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(value)] += 1;
        }
    }
    counts
}
