//! A map over the picture that it explains.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

use super::activation_map::ActivationMap;
use residua_infer::view::CHANNELS;

/// A PNG file: the picture as the network saw it, `[height, width, 3]` bytes, and beside it the same in grey under the map in colours.
///
/// Between its smallest and its largest number the map goes from the dark to the bright end of viridis, whose lightness alone tells them
/// apart, for the colour-blind too. Small pictures are enlarged.
///
/// # Panics
/// When the pixels do not fill the size.
pub fn overlay(pixels: &[u8], [height, width]: [usize; 2], map: &ActivationMap) -> Vec<u8> {
    assert_eq!(pixels.len(), height * width * CHANNELS, "a picture's size");
    let factor = LEAST_SIDE.div_ceil(height.min(width));
    let (rows, columns) = (height * factor, width * factor);
    let [smallest, largest] = map.range();
    let map = map.resized(rows, columns);
    let mut image = RgbImage::from_pixel((2 * columns + GAP) as u32, rows as u32, Rgb([255; CHANNELS]));
    for (row, values) in map.values.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            let at = (row / factor * width + column / factor) * CHANNELS;
            let colour = [pixels[at], pixels[at + 1], pixels[at + 2]];
            let share = (value - smallest) / (largest - smallest);
            image.put_pixel(column as u32, row as u32, Rgb(colour));
            image.put_pixel((columns + GAP + column) as u32, row as u32, Rgb(laid_over(colour, share)));
        }
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("pixels in memory can be encoded into memory");
    png.into_inner()
}

/// A picture's shorter side has at least so many pixels.
const LEAST_SIDE: usize = 224;
/// Pixels between the two.
const GAP: usize = 8;
/// How much of the colour shows, the rest being the picture's grey.
const OPACITY: f32 = 0.6;

/// A pixel of the picture in grey under the colour of a share of the map's range. A share that is no number has the darkest.
fn laid_over([red, green, blue]: [u8; CHANNELS], share: f32) -> [u8; CHANNELS] {
    let grey = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
    viridis(share).map(|colour| (OPACITY * colour + (1. - OPACITY) * grey).round() as u8)
}

/// The colour map viridis of matplotlib at a share from 0 to 1, linear between eleven of its colours.
fn viridis(share: f32) -> [f32; CHANNELS] {
    let place = if share > 0. { share.min(1.) * (VIRIDIS.len() - 1) as f32 } else { 0. };
    let first = (place as usize).min(VIRIDIS.len() - 2);
    let between = place - first as f32;
    std::array::from_fn(|channel| {
        let [from, to] = [VIRIDIS[first], VIRIDIS[first + 1]].map(|colour| f32::from(colour[channel]));
        from + between * (to - from)
    })
}

const VIRIDIS: [[u8; CHANNELS]; 11] = [
    [68, 1, 84],
    [72, 36, 117],
    [65, 68, 135],
    [53, 95, 141],
    [42, 120, 142],
    [33, 145, 140],
    [34, 168, 132],
    [68, 191, 112],
    [122, 209, 81],
    [189, 223, 38],
    [253, 231, 37],
];

#[cfg(test)]
mod tests {
    use super::*;

    fn lightness(colour: [f32; 3]) -> f32 {
        0.2126 * colour[0].powf(2.2) + 0.7152 * colour[1].powf(2.2) + 0.0722 * colour[2].powf(2.2)
    }

    #[test]
    fn larger_numbers_are_lighter_and_no_number_is_darkest() {
        let shades: Vec<f32> = (0..=100).map(|percent| lightness(viridis(percent as f32 / 100.))).collect();
        assert!(shades.is_sorted_by(|a, b| a < b), "{shades:?}");
        assert_eq!(viridis(1.), [253., 231., 37.]);
        for share in [0., -1., f32::NAN] {
            assert_eq!(viridis(share), [68., 1., 84.]);
        }
    }

    #[test]
    fn the_picture_stands_beside_itself_under_the_map() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).map(|k| 10 * k as u8).collect();
        let map = ActivationMap { height: 1, width: 2, values: vec![-1., 3.] };
        let png = overlay(&pixels, [2, 3], &map);
        let image = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (2 * 336 + 8, 224));
        assert_eq!(image.get_pixel(335, 223).0, [150, 160, 170]);
        assert_eq!(image.get_pixel(340, 0).0, [255; 3]);
        assert_eq!(image.get_pixel(344, 0).0, laid_over([0, 10, 20], 0.));
        assert_eq!(image.get_pixel(679, 223).0, laid_over([150, 160, 170], 1.));
        // A map that says nothing has no bright place.
        let flat = ActivationMap { height: 1, width: 1, values: vec![2.] };
        let image = image::load_from_memory(&overlay(&pixels, [2, 3], &flat)).unwrap().into_rgb8();
        assert_eq!(image.get_pixel(679, 223).0, laid_over([150, 160, 170], 0.));
    }
}
