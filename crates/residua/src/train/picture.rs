//! Line drawings, written as SVG and as PNG that look alike wherever they are made: the font comes with the program.

use std::fmt::Write;

use tiny_skia::{
    Color, FillRule, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform,
};
use ttf_parser::{Face, OutlineBuilder};

/// A drawing on white, in pixels of the SVG from the upper left corner.
pub(super) struct Picture {
    width: f32,
    height: f32,
    frame: [f32; 4],
    shapes: Vec<Shape>,
}

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub(super) color: Rgb,
    pub(super) width: f32,
    /// The lengths of a dash and of the gap after it; a solid line if `None`.
    pub(super) dashes: Option<[f32; 2]>,
}

/// How a text is set.
#[derive(Clone, Copy)]
pub(super) struct Lettering {
    pub(super) size: f32,
    pub(super) color: Rgb,
    pub(super) anchor: Anchor,
    pub(super) direction: Direction,
}

/// Which part of a text stands at its position.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Which way a text runs.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Right,
    Up,
    Down,
}

enum Shape {
    Line { points: Vec<[f32; 2]>, pen: Pen },
    Dot { centre: [f32; 2], radius: f32, color: Rgb },
    Frame,
    Panel { corners: [f32; 4] },
    Text { position: [f32; 2], text: String, lettering: Lettering },
}

impl Picture {
    /// An empty picture whose frame is `[left, top, right, bottom]`.
    pub(super) fn new(width: f32, height: f32, frame: [f32; 4]) -> Self {
        Self { width, height, frame, shapes: Vec::new() }
    }

    /// Draws a line through points. What is outside the frame is cut off.
    pub(super) fn line(&mut self, points: Vec<[f32; 2]>, pen: Pen) {
        self.shapes.push(Shape::Line { points, pen });
    }

    /// Draws a filled circle.
    pub(super) fn dot(&mut self, centre: [f32; 2], radius: f32, color: Rgb) {
        self.shapes.push(Shape::Dot { centre, radius, color });
    }

    /// Draws the frame.
    pub(super) fn frame(&mut self) {
        self.shapes.push(Shape::Frame);
    }

    /// Draws a white rectangle `[left, top, right, bottom]` with a faint edge.
    pub(super) fn panel(&mut self, corners: [f32; 4]) {
        self.shapes.push(Shape::Panel { corners });
    }

    /// Writes a text whose base line goes through `position`.
    pub(super) fn text(&mut self, position: [f32; 2], text: impl Into<String>, lettering: Lettering) {
        // Control characters have no glyphs and no place in XML.
        let text = text.into().chars().filter(|character| !character.is_control()).collect();
        self.shapes.push(Shape::Text { position, text, lettering });
    }

    /// The picture as the text of an SVG file. Its texts stay texts.
    pub(super) fn to_svg(&self) -> String {
        let Self { width, height, frame, shapes } = self;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <clipPath id=\"frame\">{}</clipPath>\n",
            svg_rectangle(*frame, "")
        );
        for shape in shapes {
            svg.push_str(&shape.to_svg(*frame));
            svg.push('\n');
        }
        svg + "</svg>\n"
    }

    /// The picture as the bytes of a PNG file, `scale` pixels for each of the SVG.
    pub(super) fn to_png(&self, scale: f32) -> Vec<u8> {
        let size = |length: f32| (length * scale).round().max(1.0) as u32;
        let (width, height) = (size(self.width), size(self.height));
        let mut pixels = Pixmap::new(width, height).expect("a picture has a positive, moderate size");
        let mut frame = Mask::new(width, height).expect("a picture has a positive, moderate size");
        let transform = Transform::from_scale(scale, scale);
        pixels.fill(Color::WHITE);
        frame.fill_path(&rectangle(self.frame), FillRule::Winding, true, transform);
        let mut canvas = Canvas { pixels, clip: frame, frame: self.frame, transform };
        self.shapes.iter().for_each(|shape| shape.paint(&mut canvas));
        canvas.pixels.encode_png().expect("pixels in memory can be encoded into memory")
    }
}

/// Where a PNG is painted.
struct Canvas {
    pixels: Pixmap,
    clip: Mask,
    frame: [f32; 4],
    transform: Transform,
}

impl Canvas {
    fn fill(&mut self, path: Option<Path>, color: Rgb, transform: Transform) {
        if let Some(path) = path {
            self.pixels.fill_path(&path, &paint(color), FillRule::Winding, transform, None);
        }
    }

    fn outline(&mut self, path: &Path, color: Rgb) {
        self.pixels.stroke_path(path, &paint(color), &Stroke::default(), self.transform, None);
    }
}

const FRAME: Rgb = [0x33; 3];
const EDGE: Rgb = [0xcc; 3];

impl Shape {
    fn to_svg(&self, frame: [f32; 4]) -> String {
        match self {
            Self::Line { points, pen: Pen { color, width, dashes } } => {
                let mut list = String::new();
                for [x, y] in points {
                    // Writing to a string cannot fail.
                    let _ = write!(list, " {x:.2},{y:.2}");
                }
                let dashes = dashes
                    .map(|[dash, gap]| format!(" stroke-dasharray=\"{dash} {gap}\""))
                    .unwrap_or_default();
                format!(
                    "<polyline clip-path=\"url(#frame)\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
                     stroke-linejoin=\"round\"{dashes} points=\"{}\"/>",
                    hex(*color),
                    list.trim_start()
                )
            }
            Self::Dot { centre: [x, y], radius, color } => {
                format!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" fill=\"{}\"/>", hex(*color))
            }
            Self::Frame => svg_rectangle(frame, &format!(" fill=\"none\" stroke=\"{}\"", hex(FRAME))),
            Self::Panel { corners } => {
                svg_rectangle(*corners, &format!(" fill=\"white\" stroke=\"{}\"", hex(EDGE)))
            }
            Self::Text { position: [x, y], text, lettering } => {
                let anchor = match lettering.anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let place = match lettering.direction.degrees() {
                    0 => format!("x=\"{x:.2}\" y=\"{y:.2}\""),
                    degrees => format!("transform=\"translate({x:.2} {y:.2}) rotate({degrees})\""),
                };
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let (size, color) = (lettering.size, hex(lettering.color));
                format!(
                    "<text {place} font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{color}\">{text}</text>"
                )
            }
        }
    }

    fn paint(&self, canvas: &mut Canvas) {
        let transform = canvas.transform;
        match self {
            Self::Line { points, pen } => {
                let mut path = PathBuilder::new();
                for (index, &[x, y]) in points.iter().enumerate() {
                    if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
                }
                let stroke = Stroke {
                    width: pen.width,
                    line_join: LineJoin::Round,
                    dash: pen.dashes.and_then(|dashes| StrokeDash::new(dashes.to_vec(), 0.0)),
                    ..Stroke::default()
                };
                if let Some(path) = path.finish() {
                    canvas.pixels.stroke_path(
                        &path,
                        &paint(pen.color),
                        &stroke,
                        transform,
                        Some(&canvas.clip),
                    );
                }
            }
            Self::Dot { centre: [x, y], radius, color } => {
                canvas.fill(PathBuilder::from_circle(*x, *y, *radius), *color, transform);
            }
            Self::Frame => canvas.outline(&rectangle(canvas.frame), FRAME),
            Self::Panel { corners } => {
                canvas.fill(Some(rectangle(*corners)), [0xff; 3], transform);
                canvas.outline(&rectangle(*corners), EDGE);
            }
            Self::Text { position: [x, y], text, lettering } => {
                let (path, width) = outline(text, lettering.size);
                let offset = match lettering.anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => -width / 2.0,
                    Anchor::End => -width,
                };
                let transform = transform
                    .pre_translate(*x, *y)
                    .pre_rotate(lettering.direction.degrees() as f32)
                    .pre_translate(offset, 0.0);
                canvas.fill(path, lettering.color, transform);
            }
        }
    }
}

impl Direction {
    fn degrees(self) -> i16 {
        match self {
            Self::Right => 0,
            Self::Up => -90,
            Self::Down => 90,
        }
    }
}

/// How long a text is.
pub(super) fn text_width(text: &str, size: f32) -> f32 {
    outline(text, size).1
}

/// The outlines of a text that begins at the origin, and its length.
fn outline(text: &str, size: f32) -> (Option<Path>, f32) {
    let font =
        Face::parse(dejavu::sans::regular(), 0).expect("the font that comes with the program is whole");
    let mut pen = Letters { path: PathBuilder::new(), scale: size / f32::from(font.units_per_em()), x: 0.0 };
    for character in text.chars() {
        let glyph = font.glyph_index(character).unwrap_or_default();
        font.outline_glyph(glyph, &mut pen);
        pen.x += f32::from(font.glyph_hor_advance(glyph).unwrap_or(0)) * pen.scale;
    }
    (pen.path.finish(), pen.x)
}

/// Puts glyph after glyph into one path. Fonts have y upwards, pictures downwards.
struct Letters {
    path: PathBuilder,
    scale: f32,
    x: f32,
}

impl Letters {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Letters {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

fn rectangle([left, top, right, bottom]: [f32; 4]) -> Path {
    let rectangle = Rect::from_ltrb(left, top, right, bottom).expect("corners are finite and in order");
    PathBuilder::from_rect(rectangle)
}

fn svg_rectangle([left, top, right, bottom]: [f32; 4], attributes: &str) -> String {
    let (width, height) = (right - left, bottom - top);
    format!("<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"{attributes}/>")
}

fn paint([red, green, blue]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 0xff);
    paint
}

fn hex([red, green, blue]: Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Pen = Pen { color: [0xff, 0, 0], width: 4.0, dashes: None };
    const LETTERS: Lettering =
        Lettering { size: 10.0, color: [0; 3], anchor: Anchor::Middle, direction: Direction::Right };

    fn pixel(picture: &Picture, x: u32, y: u32) -> Rgb {
        let pixels = Pixmap::decode_png(&picture.to_png(1.0)).unwrap();
        let pixel = pixels.pixel(x, y).unwrap();
        [pixel.red(), pixel.green(), pixel.blue()]
    }

    #[test]
    fn lines_are_cut_off_at_the_frame() {
        let mut picture = Picture::new(40.0, 40.0, [10.0, 10.0, 30.0, 30.0]);
        picture.line(vec![[0.0, 20.0], [40.0, 20.0]], RED);
        assert_eq!(pixel(&picture, 20, 20), [0xff, 0, 0]);
        assert_eq!(pixel(&picture, 5, 20), [0xff; 3]);
        assert!(picture.to_svg().contains("points=\"0.00,20.00 40.00,20.00\""));
        picture.panel([15.0, 15.0, 25.0, 25.0]);
        assert_eq!(pixel(&picture, 20, 20), [0xff; 3]);
        picture.dot([20.0, 20.0], 3.0, [0, 0, 0xff]);
        assert_eq!(pixel(&picture, 20, 20), [0, 0, 0xff]);
    }

    #[test]
    fn dashes_leave_gaps() {
        let mut picture = Picture::new(40.0, 20.0, [0.0, 0.0, 40.0, 20.0]);
        picture.line(vec![[0.0, 10.0], [40.0, 10.0]], Pen { dashes: Some([10.0, 10.0]), ..RED });
        assert_eq!([5, 15, 25].map(|x| pixel(&picture, x, 10)), [[0xff, 0, 0], [0xff; 3], [0xff, 0, 0]]);
        assert!(picture.to_svg().contains("stroke-dasharray=\"10 10\""));
    }

    #[test]
    fn texts_are_escaped_and_drawn_where_they_are_anchored() {
        let mut picture = Picture::new(60.0, 40.0, [1.0, 1.0, 59.0, 39.0]);
        picture.text([30.0, 25.0], "a<b>\u{0}&\nc", LETTERS);
        assert!(picture.to_svg().contains(">a&lt;b&gt;&amp;c</text>"), "{}", picture.to_svg());
        assert_eq!(picture.to_png(1.0), picture.to_png(1.0));

        let is_inked = |anchor, direction, [left, top, right, bottom]: [u32; 4]| {
            let mut picture = Picture::new(60.0, 60.0, [1.0, 1.0, 59.0, 59.0]);
            picture.text([30.0, 30.0], "HHH", Lettering { anchor, direction, ..LETTERS });
            let pixels = Pixmap::decode_png(&picture.to_png(1.0)).unwrap();
            (left..right).any(|x| (top..bottom).any(|y| pixels.pixel(x, y).unwrap().red() < 100))
        };
        let (left, right, above, below) = ([5, 5, 28, 55], [32, 5, 55, 55], [5, 5, 55, 28], [5, 32, 55, 55]);
        assert!(is_inked(Anchor::Start, Direction::Right, right));
        assert!(!is_inked(Anchor::Start, Direction::Right, left));
        assert!(!is_inked(Anchor::End, Direction::Right, right));
        assert!(is_inked(Anchor::Start, Direction::Up, above));
        assert!(!is_inked(Anchor::Start, Direction::Up, below));
        assert!(is_inked(Anchor::Start, Direction::Down, below));
        assert!(!is_inked(Anchor::Start, Direction::Down, above));
        assert!(text_width("mm", 10.0) > 1.9 * text_width("m", 10.0) && text_width("", 10.0) == 0.0);
    }
}
