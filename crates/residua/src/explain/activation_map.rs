//! Numbers that lie over an image.

/// How much each part of an image speaks for a class, `[height, width]`: what lies there in a feature map, added over its channels.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl ActivationMap {
    /// The smallest and the largest number; NaN counts as neither.
    pub fn range(&self) -> [f32; 2] {
        let fold = |begin: f32, of: fn(f32, f32) -> f32| self.values.iter().copied().fold(begin, of);
        [fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max)]
    }

    /// The map at another resolution, bilinearly between the middles of its pixels and constant beyond the outermost: PyTorch's
    /// `interpolate(..., mode="bilinear", align_corners=False)`.
    pub fn resized(&self, height: usize, width: usize) -> Self {
        let (rows, columns) = (neighbours(self.height, height), neighbours(self.width, width));
        let at = |row: usize, column: usize| self.values[row * self.width + column];
        let mut values = Vec::with_capacity(height * width);
        for &(above, below, down) in &rows {
            for &(left, right, across) in &columns {
                let of_row = |row| at(row, left) + across * (at(row, right) - at(row, left));
                let (upper, lower) = (of_row(above), of_row(below));
                values.push(upper + down * (lower - upper));
            }
        }
        Self { height, width, values }
    }
}

/// For each of `to` pixels that cover `from`: the two whose middles enclose its own, and how far it is from the first to the second.
fn neighbours(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let of_pixel = |pixel: usize| {
        let middle = ((pixel as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0., (from - 1) as f32);
        let first = middle.floor();
        (first as usize, (first as usize + 1).min(from - 1), middle - first)
    };
    (0..to).map(of_pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.interpolate(torch.tensor([[[[0., 4.], [8., 20.]]]]), (4, 3), mode="bilinear")`
    #[test]
    fn resizing_is_pytorchs() {
        let map = ActivationMap { height: 2, width: 2, values: vec![0., 4., 8., 20.] };
        let resized = map.resized(4, 3);
        assert_eq!((resized.height, resized.width), (4, 3));
        assert_eq!(resized.values, [0., 2., 4., 2., 5., 8., 6., 11., 16., 8., 14., 20.]);
        assert_eq!(map.resized(2, 2), map);
        assert_eq!(map.resized(1, 1).values, [8.]);
        assert_eq!(map.range(), [0., 20.]);
    }
}
