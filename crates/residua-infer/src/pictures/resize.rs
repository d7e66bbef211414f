//! Resizing a picture, or a part of it.

use std::cell::RefCell;

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;

/// A rectangle of whole pixels in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Columns left of it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its columns.
    pub width: u32,
    /// Its rows.
    pub height: u32,
}

/// Cuts `part` out of a picture and resizes it to `height` x `width`, `[height, width, channel]`: bilinear, widened
/// for shrinking so that nothing aliases. These are Pillow's numbers, and so those of torchvision.
pub fn resize_part(picture: &RgbImage, part: Part, height: usize, width: usize) -> Vec<u8> {
    resized(picture, part, (width, height), &bilinear())
}

/// What [`resize_part`] would give of a picture resized to `scaled` (height, width), of which only the `window` is made.
pub fn resize_window(picture: &RgbImage, scaled: (u32, u32), window: Part) -> Vec<u8> {
    let Part { left, top, width, height } = window;
    let size = (width as usize, height as usize);
    let by = |full: u32, scaled: u32| f64::from(full) / f64::from(scaled);
    let (down, across) = (by(picture.height(), scaled.0), by(picture.width(), scaled.1));
    // Rounding must not carry the window over the picture's edge.
    let span = |start: u32, length: u32, step: f64, full: u32| {
        let start = (f64::from(start) * step).min(f64::from(full));
        (start, (f64::from(length) * step).min(f64::from(full) - start))
    };
    let (left, width) = span(left, width, across, picture.width());
    let (top, height) = span(top, height, down, picture.height());
    let all = Part { left: 0, top: 0, width: picture.width(), height: picture.height() };
    resized(picture, all, size, &bilinear().crop(left, top, width, height))
}

/// Of one type of pixels and pictures only: a `Resizer` that finds them out as it runs is compiled for thirteen.
fn resized(picture: &RgbImage, part: Part, size: (usize, usize), options: &ResizeOptions) -> Vec<u8> {
    let (width, height) = size;
    let whole = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw())
        .expect("a picture has three bytes a pixel");
    let part = TypedCroppedImage::new(whole, part.left, part.top, part.width, part.height)
        .expect("the part lies in the picture");
    let mut bytes = vec![0; size_of::<[u8; 3]>() * width * height];
    let mut out = TypedImage::<U8x3>::from_buffer(width as u32, height as u32, &mut bytes)
        .expect("three bytes are made a pixel");
    with_resizer(|resizer| resizer.resize_typed(&part, &mut out, options))
        .expect("the window lies in the picture");
    bytes
}

fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

/// A resizer's buffers are as large as pictures, so each thread keeps its own.
fn with_resizer<T>(use_it: impl FnOnce(&mut Resizer) -> T) -> T {
    thread_local!(static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new()));
    RESIZER.with_borrow_mut(use_it)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ((x * 7 + y * 13) % 256) as u8])
        })
    }

    #[test]
    fn the_right_size_passes_untouched() {
        let picture = gradient(5, 4);
        let part = Part { left: 0, top: 0, width: 5, height: 4 };
        assert_eq!(resize_part(&picture, part, 4, 5), picture.clone().into_raw());
        let part = Part { left: 1, top: 2, width: 3, height: 2 };
        let cut: Vec<u8> = (2..4)
            .flat_map(|y| (1..4).flat_map(move |x| [x, y]))
            .collect::<Vec<u32>>()
            .chunks(2)
            .flat_map(|at| picture.get_pixel(at[0], at[1]).0)
            .collect();
        assert_eq!(resize_part(&picture, part, 2, 3), cut);
    }

    #[test]
    fn shrinking_averages_and_does_not_sample() {
        let lines = RgbImage::from_fn(64, 64, |x, _| Rgb([255 * (x % 2) as u8; 3]));
        let found = resize_part(&lines, Part { left: 0, top: 0, width: 64, height: 64 }, 8, 8);
        assert!(found.iter().all(|value| (115..=140).contains(value)), "{found:?}");
    }

    #[test]
    fn a_window_is_cut_out_of_the_resized_picture() {
        let picture = gradient(61, 47);
        for (scaled, window) in [
            ((24, 31), Part { left: 3, top: 5, width: 20, height: 16 }),
            ((100, 130), Part { left: 30, top: 0, width: 100, height: 100 }),
            ((47, 61), Part { left: 1, top: 2, width: 60, height: 45 }),
            ((1, 1), Part { left: 0, top: 0, width: 1, height: 1 }),
        ] {
            let whole = Part { left: 0, top: 0, width: 61, height: 47 };
            let whole = resize_part(&picture, whole, scaled.0 as usize, scaled.1 as usize);
            let found = resize_window(&picture, scaled, window);
            let at = |x: u32, y: u32| ((y + window.top) * scaled.1 + x + window.left) as usize * 3;
            for y in 0..window.height {
                for x in 0..window.width {
                    for channel in 0..3 {
                        let expected = whole[at(x, y) + channel];
                        let value = found[((y * window.width + x) * 3) as usize + channel];
                        assert!(expected.abs_diff(value) <= 1, "{scaled:?} {x} {y}: {value} {expected}");
                    }
                }
            }
        }
    }
}
