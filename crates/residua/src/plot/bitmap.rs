//! The bitmap backend of plotters, with bent lines and the height of texts put right.

use plotters::backend::DrawingBackend;
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

/// Draws what `Bitmap.0` draws, but lines with round joins and texts as high as they stand in an SVG.
pub(super) struct Bitmap<Backend>(pub(super) Backend);

type Drawn<Backend> = Result<(), DrawingErrorKind<<Backend as DrawingBackend>::ErrorType>>;

impl<Backend: DrawingBackend> DrawingBackend for Bitmap<Backend> {
    type ErrorType = Backend::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<Backend> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<Backend> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<Backend> {
        self.0.draw_pixel(point, color)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        lower_right: BackendCoord,
        style: &S,
        is_filled: bool,
    ) -> Drawn<Backend> {
        self.0.draw_rect(upper_left, lower_right, style, is_filled)
    }

    /// plotters fills the outline of a thick line as one polygon, which shoots out far beyond a sharp bend between
    /// short pieces, and is hollow where it crosses itself. So the pieces are drawn one by one.
    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn<Backend> {
        let mut path = path.into_iter().peekable();
        let Some(mut from) = path.next() else { return Ok(()) };
        while let Some(to) = path.next() {
            self.0.draw_line(from, to, style)?;
            if path.peek().is_some() {
                self.0.draw_circle(to, style.stroke_width().saturating_sub(1) / 2, style, true)?;
            }
            from = to;
        }
        Ok(())
    }

    /// With its ab_glyph feature plotters sets texts an eighth of their size too high.
    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn<Backend> {
        let (right, down) = style.transform().transform(0, (style.size() / 8.0) as i32);
        self.0.draw_text(text, style, (x + right, y + down))
    }
}

#[cfg(test)]
mod tests {
    use plotters::prelude::{BitMapBackend, IntoDrawingArea, PathElement, ShapeStyle, WHITE};

    use super::*;

    #[test]
    fn a_line_that_folds_back_stays_where_its_points_are() {
        let mut pixels = vec![0; 40 * 40 * 3];
        let area = Bitmap(BitMapBackend::with_buffer(&mut pixels, (40, 40))).into_drawing_area();
        let path = [(10, 20), (20, 20), (10, 21), (20, 21)];
        area.draw(&PathElement::new(
            path,
            ShapeStyle { color: WHITE.into(), filled: false, stroke_width: 6 },
        ))
        .unwrap();
        drop(area);
        let is_white = |x: usize, y: usize| pixels[(y * 40 + x) * 3] == 0xff;
        assert!((11..20).all(|x| (18..23).all(|y| is_white(x, y))));
        assert!((0..40 * 40).all(|at| {
            let (x, y) = (at % 40, at / 40);
            ((6..25).contains(&x) && (16..26).contains(&y)) || !is_white(x, y)
        }));
    }
}
