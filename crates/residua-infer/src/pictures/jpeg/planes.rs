//! Pictures whose colours are in scans of their own: each plane is decoded by itself, and they are laid over each other.

use image::{Rgb, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Frame, Problem, damaged};

/// A plane as a grey JPEG file.
pub(super) struct Plane {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) stream: Vec<u8>,
}

/// The picture of three planes, each a grey picture of its own: what a decoder makes of colours in scans of their own depends on where it
/// has to read on.
pub(super) fn joined(
    planes: &[Plane],
    frame: &Frame,
    colours: Option<ColorSpace>,
) -> Result<RgbImage, Problem> {
    let options =
        DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX).set_strict_mode(true);
    let options = options.jpeg_set_out_colorspace(ColorSpace::Luma);
    let values = planes
        .iter()
        .map(|plane| JpegDecoder::new_with_options(ZCursor::new(&plane.stream[..]), options).decode());
    let values = values.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    // Between the centres of the plane's pixels: its place in 1/256 of them, and the two that it lies between. Planes of less than half
    // the pixels on an axis are made larger by repeating them, as libjpeg does.
    let places = |side: u16, of_plane: u16, [factor, most]: [u64; 2], is_repeated: bool| -> Vec<[u32; 3]> {
        let place = |at: u16| {
            if is_repeated {
                let place = ((u64::from(at) * factor / most) as u32).min(u32::from(of_plane) - 1);
                return [place, place, 0];
            }
            let place = (2 * i64::from(at) + 1) * 128 * factor as i64 / most as i64 - 128;
            let place = place.clamp(0, 256 * i64::from(of_plane - 1)) as u32;
            [place / 256, (place / 256 + 1).min(u32::from(of_plane) - 1), place % 256]
        };
        (0..side).map(place).collect()
    };
    let axes: Vec<_> = planes
        .iter()
        .zip(&frame.components)
        .map(|(plane, factors)| {
            let of = [0, 1].map(|axis| [factors[axis].into(), frame.most(axis)]);
            let is_repeated = of.iter().any(|[factor, most]| most % factor != 0 || most / factor > 2);
            let across = places(frame.width, plane.width, of[0], is_repeated);
            (across, places(frame.height, plane.height, of[1], is_repeated))
        })
        .collect();
    let value = |plane: usize, x: u32, y: u32| {
        let ([left, right, across], [above, below, down]) =
            (axes[plane].0[x as usize], axes[plane].1[y as usize]);
        let at = |x: u32, y: u32| u32::from(values[plane][(y * u32::from(planes[plane].width) + x) as usize]);
        let row = |y: u32| at(left, y) * (256 - across) + at(right, y) * across;
        ((row(above) * (256 - down) + row(below) * down + (1 << 15)) >> 16) as i32
    };
    Ok(RgbImage::from_fn(frame.width.into(), frame.height.into(), |x, y| {
        let [first, second, third] = [0, 1, 2].map(|plane| value(plane, x, y));
        if colours == Some(ColorSpace::RGB) {
            return Rgb([first, second, third].map(|value| value as u8));
        }
        // ITU-T T.871, section 7, in 1/65536.
        let (blue, red) = (second - 128, third - 128);
        let channel = |add: i32| (first + ((add + (1 << 15)) >> 16)).clamp(0, 255) as u8;
        Rgb([channel(91_881 * red), channel(-22_554 * blue - 46_802 * red), channel(116_130 * blue)])
    }))
}
