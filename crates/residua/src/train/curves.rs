//! A run's progress as a figure in the manner of the paper's Fig. 1: test error solid, training loss dashed.

use std::path::Path;

use super::atomic_file::{FileError, write_file};
use super::axis::Axis;
use super::metrics::Record;
use super::picture::{Anchor, Direction, Lettering, Pen, Picture, Rgb, text_width};

/// Draws a run over its iterations into `curves.svg` and `curves.png` of a folder: test error in percent on the
/// left axis, training loss on the right, logarithmic one. The left axis ends where nine tenths of the tests
/// fit, so that the first few do not flatten the rest. Values that are not finite are left out.
///
/// # Errors
/// When a file cannot be written.
pub fn draw_curves(title: &str, records: &[Record], folder: &Path) -> Result<(), FileError> {
    let picture = draw(title, &[Curve { name: "", records }]);
    write_file(&folder.join("curves.svg"), picture.to_svg().as_bytes())?;
    write_file(&folder.join("curves.png"), &picture.to_png(2.0))
}

/// A run to be drawn.
#[derive(Clone, Copy)]
struct Curve<'a> {
    /// What the legend calls it, where there are several.
    name: &'a str,
    records: &'a [Record],
}

const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 460.0;
const LEFT: f32 = 66.0;
const TOP: f32 = 42.0;
const RIGHT: f32 = WIDTH - 74.0;
const BOTTOM: f32 = HEIGHT - 56.0;

const INK: Rgb = [0x22; 3];
const GREY: Rgb = [0x77; 3];
const GRID: Pen = Pen { color: [0xe2; 3], width: 1.0, dashes: None };
/// The colours of Okabe and Ito, which colour-blind readers can tell apart.
const COLORS: [Rgb; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x00, 0x00, 0x00],
];
const LETTERING: Lettering =
    Lettering { size: 14.0, color: INK, anchor: Anchor::Middle, direction: Direction::Right };

fn draw(title: &str, curves: &[Curve<'_>]) -> Picture {
    let runs: Vec<Run> = curves.iter().map(|curve| Run::new(curve.records)).collect();
    let mut picture = Picture::new(WIDTH, HEIGHT, [LEFT, TOP, RIGHT, BOTTOM]);
    picture.text([(LEFT + RIGHT) / 2.0, TOP - 16.0], title, Lettering { size: 17.0, ..LETTERING });
    let Some(axes) = Axes::spanning(&runs) else {
        let centre = [(LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0];
        picture.frame();
        picture.text(centre, "no data yet", Lettering { size: 18.0, color: GREY, ..LETTERING });
        return picture;
    };
    axes.draw(&mut picture);
    let colored = || runs.iter().zip(COLORS.into_iter().cycle());
    for (run, color) in colored() {
        draw_points(&mut picture, loss_pen(color), axes.place(&axes.loss, &run.losses));
    }
    for (run, color) in colored() {
        draw_points(&mut picture, error_pen(color), axes.place(&axes.error, &run.errors));
    }
    draw_legend(&mut picture, curves);
    picture
}

/// What is drawn of a run, as (iteration, value).
struct Run {
    losses: Vec<(f64, f64)>,
    errors: Vec<(f64, f64)>,
}

impl Run {
    fn new(records: &[Record]) -> Self {
        let mut run = Self { losses: Vec::new(), errors: Vec::new() };
        for record in records {
            match *record {
                // A logarithmic axis has no place for a loss of 0.
                Record::Training { iteration, loss, .. } if loss.is_finite() && loss > 0.0 => {
                    run.losses.push((iteration as f64, loss));
                }
                Record::Evaluation { iteration, test_error, .. } if test_error.is_finite() => {
                    run.errors.push((iteration as f64, test_error));
                }
                Record::Training { .. } | Record::Evaluation { .. } => {}
            }
        }
        run
    }
}

struct Axes {
    iterations: Axis,
    error: Axis,
    loss: Axis,
}

impl Axes {
    /// Axes on which all runs fit; none if they have no points.
    fn spanning(runs: &[Run]) -> Option<Self> {
        let points = || runs.iter().flat_map(|run| run.losses.iter().chain(&run.errors));
        let last = points().map(|point| point.0).max_by(f64::total_cmp)?;
        let mut errors: Vec<_> = runs.iter().flat_map(|run| &run.errors).map(|point| point.1).collect();
        errors.sort_by(f64::total_cmp);
        let most = errors.get((errors.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(100.0);
        let losses = || runs.iter().flat_map(|run| &run.losses).map(|point| point.1);
        let smallest = losses().min_by(f64::total_cmp).unwrap_or(0.1);
        let largest = losses().max_by(f64::total_cmp).unwrap_or(1.0);
        Some(Self {
            iterations: Axis::up_to(last.max(1.0)),
            error: Axis::reaching(most.clamp(1.0, 100.0)),
            loss: Axis::logarithmic(smallest.max(1e-9), largest.clamp(1e-9, 1e30)),
        })
    }

    fn draw(&self, picture: &mut Picture) {
        for (tick, label) in self.iterations.ticks() {
            let x = self.x(tick);
            picture.line(vec![[x, TOP], [x, BOTTOM]], GRID);
            picture.text([x, BOTTOM + 20.0], label, LETTERING);
        }
        for (tick, label) in self.error.ticks() {
            let y = y(&self.error, tick);
            picture.line(vec![[LEFT, y], [RIGHT, y]], GRID);
            picture.text([LEFT - 8.0, y + 5.0], label, Lettering { anchor: Anchor::End, ..LETTERING });
        }
        for (tick, label) in self.loss.ticks() {
            let y = y(&self.loss, tick);
            picture.line(vec![[RIGHT - 6.0, y], [RIGHT, y]], Pen { color: INK, ..GRID });
            picture.text([RIGHT + 8.0, y + 5.0], label, Lettering { anchor: Anchor::Start, ..LETTERING });
        }
        picture.frame();
        let middle = (TOP + BOTTOM) / 2.0;
        let title = Lettering { size: 15.0, ..LETTERING };
        picture.text([(LEFT + RIGHT) / 2.0, HEIGHT - 12.0], "iterations", title);
        picture.text([20.0, middle], "test error (%)", Lettering { direction: Direction::Up, ..title });
        let down = Lettering { direction: Direction::Down, ..title };
        picture.text([WIDTH - 20.0, middle], "training loss", down);
    }

    fn place(&self, axis: &Axis, points: &[(f64, f64)]) -> Vec<[f32; 2]> {
        points.iter().map(|&(iteration, value)| [self.x(iteration), y(axis, value)]).collect()
    }

    fn x(&self, iteration: f64) -> f32 {
        LEFT + (RIGHT - LEFT) * self.iterations.fraction(iteration) as f32
    }
}

fn y(axis: &Axis, value: f64) -> f32 {
    BOTTOM - (BOTTOM - TOP) * axis.fraction(value) as f32
}

fn error_pen(color: Rgb) -> Pen {
    Pen { color, width: 2.0, dashes: None }
}

/// Paler than the test error, which is the result.
fn loss_pen(color: Rgb) -> Pen {
    let color = color.map(|part| ((u16::from(part) + 0xff) / 2) as u8);
    Pen { color, width: 1.4, dashes: Some([5.0, 3.0]) }
}

/// A line through points, and the points themselves where they are few.
fn draw_points(picture: &mut Picture, pen: Pen, points: Vec<[f32; 2]>) {
    let few = if pen.dashes.is_none() { 1..=20 } else { 1..=1 };
    if few.contains(&points.len()) {
        for &[x, y] in points.iter().filter(|point| (TOP..=BOTTOM).contains(&point[1])) {
            picture.dot([x, y], 3.2, pen.color);
        }
    }
    if points.len() > 1 {
        picture.line(points, pen);
    }
}

/// In the upper right corner, where falling curves leave room.
fn draw_legend(picture: &mut Picture, curves: &[Curve<'_>]) {
    let names = curves.iter().zip(COLORS.into_iter().cycle()).filter(|_| curves.len() > 1);
    let mut entries: Vec<_> = names.map(|(curve, color)| (curve.name, error_pen(color))).collect();
    let color = if curves.len() > 1 { GREY } else { COLORS[0] };
    entries.extend([("test error", error_pen(color)), ("training loss", loss_pen(color))]);

    let text = Lettering { anchor: Anchor::Start, ..LETTERING };
    let width = entries.iter().map(|(name, _)| text_width(name, text.size)).fold(0.0, f32::max);
    let left = (RIGHT - 66.0 - width).max(LEFT + 10.0);
    picture.panel([left - 10.0, TOP + 8.0, RIGHT - 10.0, TOP + 12.0 + 20.0 * entries.len() as f32]);
    for (index, (name, pen)) in entries.into_iter().enumerate() {
        let y = TOP + 20.0 + 20.0 * index as f32;
        picture.line(vec![[left, y], [left + 34.0, y]], pen);
        picture.text([left + 42.0, y + 5.0], name, text);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn training(iteration: u64, loss: f64) -> Record {
        Record::Training {
            iteration,
            epoch: 0.0,
            loss,
            error: 0.0,
            learning_rate: 0.1,
            images_per_second: 0.0,
            seconds: 0.0,
        }
    }

    fn evaluation(iteration: u64, test_error: f64) -> Record {
        Record::Evaluation { iteration, epoch: 0.0, test_loss: 0.0, test_error }
    }

    fn svg(records: &[Record]) -> String {
        draw("preresnet20 on shapes", &[Curve { name: "", records }]).to_svg()
    }

    fn count(svg: &str, part: &str) -> usize {
        svg.matches(part).count()
    }

    #[test]
    fn both_files_are_written_and_the_same_every_time() {
        let records = [training(10, 2.0), training(20, 1.0), evaluation(20, 50.0), evaluation(40, 25.0)];
        let draw = || {
            let folder = tempfile::tempdir().unwrap();
            draw_curves("title", &records, folder.path()).unwrap();
            ["curves.svg", "curves.png"].map(|name| fs::read(folder.path().join(name)).unwrap())
        };
        let [svg, png] = draw();
        assert!(svg.starts_with(b"<svg") && png.starts_with(b"\x89PNG"));
        assert_eq!([svg, png], draw());
        let missing = draw_curves("title", &records, Path::new("no/such/folder")).unwrap_err();
        assert!(missing.to_string().contains("no/such/folder"), "{missing}");
    }

    #[test]
    fn no_point_and_one_point_are_drawn() {
        for records in
            [vec![], vec![training(10, f64::NAN), training(20, 0.0), evaluation(20, f64::INFINITY)]]
        {
            let svg = svg(&records);
            assert!(svg.contains(">no data yet<") && svg.contains(">preresnet20 on shapes<"), "{svg}");
        }
        for record in [training(10, 2.0), evaluation(10, 50.0), evaluation(0, 0.0)] {
            let svg = svg(&[record]);
            assert_eq!((count(&svg, "<circle"), count(&svg, "no data yet")), (1, 0), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn values_lie_where_the_axes_say() {
        // 40 iterations; error axis 0 to 50 %, loss axis 0.1 to 10.
        let svg = svg(&[training(20, 0.1), training(40, 10.0), evaluation(20, 25.0), evaluation(40, 50.0)]);
        let (middle_x, middle_y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        assert!(svg.contains(&format!("points=\"{middle_x:.2},{BOTTOM:.2} {RIGHT:.2},{TOP:.2}\"")), "{svg}");
        assert!(
            svg.contains(&format!("points=\"{middle_x:.2},{middle_y:.2} {RIGHT:.2},{TOP:.2}\"")),
            "{svg}"
        );
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let clean = [training(10, 2.0), training(30, 1.0), evaluation(20, 50.0), evaluation(40, 40.0)];
        let mut records = clean.to_vec();
        records.insert(1, training(20, f64::NAN));
        records.insert(3, evaluation(30, f64::NEG_INFINITY));
        assert_eq!(svg(&records), svg(&clean));
    }

    #[test]
    fn a_few_bad_tests_at_the_start_do_not_flatten_the_rest() {
        let errors: Vec<_> = (0..20).map(|k| evaluation(k, if k < 2 { 90.0 } else { 8.0 })).collect();
        let svg = svg(&errors);
        assert!(svg.contains(">10</text>") && !svg.contains(">80</text>"), "{svg}");
    }

    #[test]
    fn several_runs_are_told_apart_by_name_and_colour() {
        let records = [evaluation(20, 50.0), evaluation(40, 25.0)];
        let curves = ["original", "proposed"].map(|name| Curve { name, records: &records });
        let svg = draw("title", &curves).to_svg();
        assert!(svg.contains(">original<") && svg.contains(">proposed<"), "{svg}");
        assert!(svg.contains("stroke=\"#0072b2\"") && svg.contains("stroke=\"#d55e00\""), "{svg}");
    }
}
