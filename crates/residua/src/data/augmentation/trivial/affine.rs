//! Images moved, slanted and turned.

use crate::data::dataset::Dataset;

/// Where a pixel of the new image is taken from: its centre `(x, y)` from `(a x + b y + c, d x + e y + f)`, the nearest pixel; black
/// where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine([[f64; 3]; 2]);

impl Affine {
    /// A row is taken from `factor` columns further right than the one above it.
    pub(super) fn shear_x(factor: f64) -> Self {
        Self([[1.0, factor, 0.0], [0.0, 1.0, 0.0]])
    }

    /// A column is taken from `factor` rows further down than the one left of it.
    pub(super) fn shear_y(factor: f64) -> Self {
        Self([[1.0, 0.0, 0.0], [factor, 1.0, 0.0]])
    }

    /// So many columns to the right and rows down.
    pub(super) fn translation(columns: i32, rows: i32) -> Self {
        Self([[1.0, 0.0, -f64::from(columns)], [0.0, 1.0, -f64::from(rows)]])
    }

    /// So many degrees counterclockwise around the middle.
    pub(super) fn rotation(degrees: f64, height: usize, width: usize) -> Self {
        let angle = degrees.to_radians();
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let [x, y] = [width, height].map(|length| length as f64 / 2.0);
        Self([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
    }

    /// Writes the moved image to `out`. Places are computed in units of 1/65536 of a pixel, as Pillow does.
    pub(super) fn apply(self, image: &[u8], height: usize, width: usize, out: &mut [u8]) {
        let fixed = |number: f64| (number * 65536.0 + 0.5).floor() as i64;
        let [[a, b, mut x0], [d, e, mut y0]] =
            self.0.map(|[across, down, start]| [across, down, start + across * 0.5 + down * 0.5].map(fixed));
        let (image, _) = image.as_chunks::<{ Dataset::CHANNELS }>();
        let (out, _) = out.as_chunks_mut::<{ Dataset::CHANNELS }>();
        for row in out.chunks_exact_mut(width) {
            let (mut x, mut y) = (x0, y0);
            for pixel in row {
                // A negative place is larger than any length.
                let (column, line) = ((x >> 16) as usize, (y >> 16) as usize);
                let is_inside = column < width && line < height;
                *pixel = if is_inside { image[line * width + column] } else { [0; Dataset::CHANNELS] };
                (x, y) = (x + a, y + d);
            }
            (x0, y0) = (x0 + b, y0 + e);
        }
    }
}
