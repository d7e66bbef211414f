//! A run's progress as a figure in the manner of the paper's Fig. 1: test error solid, training loss dashed.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage, imageops};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Axes, Point, label};
use super::bitmap::Bitmap;
use crate::files::{FileError, write_file};
use crate::run::Record;

/// Draws a run over its iterations into `curves.svg` and `curves.png` of a folder: test error in percent on the
/// left axis, training loss on the right, logarithmic one. The left axis ends a little above nine tenths of the
/// tests, so that the first few do not flatten the rest. Values that are not finite are left out.
///
/// # Errors
/// When a file cannot be written.
pub fn draw_curves(title: &str, records: &[Record], folder: &Path) -> Result<(), FileError> {
    let runs = [Run::new("", records)];
    write_file(&folder.join("curves.svg"), svg(title, &runs).as_bytes())?;
    write_file(&folder.join("curves.png"), &png(title, &runs))
}

/// The same figure of several runs by name, as the text of an SVG file.
pub fn curves_svg(title: &str, runs: &[(&str, &[Record])]) -> String {
    svg(title, &runs.iter().map(|(name, records)| Run::new(name, records)).collect::<Vec<_>>())
}

/// What is drawn of a run.
struct Run<'a> {
    /// What the legend calls it, where there are several.
    name: &'a str,
    losses: Vec<Point>,
    errors: Vec<Point>,
    /// Which errors these are: those on validation images, if the run has any.
    is_validated: bool,
}

impl<'a> Run<'a> {
    fn new(name: &'a str, records: &[Record]) -> Self {
        let is_validated = records.iter().any(|record| matches!(record, Record::Validation { .. }));
        let mut run = Self { name, losses: Vec::new(), errors: Vec::new(), is_validated };
        for record in records {
            match *record {
                // A logarithmic axis has no place for a loss of 0.
                Record::Training { iteration, loss, .. } if loss.is_finite() && loss > 0.0 => {
                    run.losses.push((iteration as f64, loss));
                }
                Record::Evaluation { iteration, test_error, .. }
                    if test_error.is_finite() && !is_validated =>
                {
                    run.errors.push((iteration as f64, test_error));
                }
                Record::Validation { iteration, validation_error, .. } if validation_error.is_finite() => {
                    run.errors.push((iteration as f64, validation_error));
                }
                Record::Training { .. }
                | Record::Evaluation { .. }
                | Record::Validation { .. }
                | Record::Norms { .. }
                | Record::Measurement(_) => {}
            }
        }
        run
    }

    fn error_name(&self) -> &'static str {
        if self.is_validated { "validation error" } else { "test error" }
    }
}

/// Dots to a pixel of the SVG: plotters places everything on whole dots, which are then too fine to be seen.
const DOTS: u32 = 4;
const SIZE: (u32, u32) = (720 * DOTS, 460 * DOTS);

fn svg(title: &str, runs: &[Run<'_>]) -> String {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE), title, runs);
    whole_pixels(&svg, SIZE, DOTS)
}

/// An SVG that was drawn in dots, shown at its size in pixels.
pub(crate) fn whole_pixels(svg: &str, size: (u32, u32), dots: u32) -> String {
    let size = |dots| format!("width=\"{}\" height=\"{}\"", size.0 / dots, size.1 / dots);
    svg.replacen(&size(1), &size(dots), 1)
}

/// Makes the font that comes with the program known to plotters.
pub(crate) fn register_plot_font() {
    // Only a damaged font fails, which the first text reports.
    let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
}

/// Half as large as drawn, which smooths it.
fn png(title: &str, runs: &[Run<'_>]) -> Vec<u8> {
    let mut dots = RgbImage::new(SIZE.0, SIZE.1);
    draw(Bitmap(BitMapBackend::with_buffer(&mut dots, SIZE)), title, runs);
    let mut png = Cursor::new(Vec::new());
    imageops::thumbnail(&dots, SIZE.0 / 2, SIZE.1 / 2)
        .write_to(&mut png, ImageFormat::Png)
        .expect("pixels in memory can be encoded into memory");
    png.into_inner()
}

fn draw<Backend: DrawingBackend>(backend: Backend, title: &str, runs: &[Run<'_>]) {
    draw_on(&backend.into_drawing_area(), title, runs)
        .expect("memory takes all that is drawn, and the font comes with the program");
}

/// The colours of Okabe and Ito, which colour-blind readers can tell apart.
const COLORS: [u32; 6] = [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9];
const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
const DASH: u32 = 5 * DOTS;
const GAP: u32 = 3 * DOTS;
/// The first comes with the program; a reader of the SVG who lacks it sees another.
pub(super) const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

fn draw_on<Backend: DrawingBackend>(
    area: &DrawingArea<Backend, Shift>,
    title: &str,
    runs: &[Run<'_>],
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    register_plot_font();
    let text = |size: u32| (FONT, size * DOTS).into_font();
    // Control characters have no glyphs and no place in XML.
    let title: String = title.chars().filter(|character| !character.is_control()).collect();
    let losses: Vec<_> = runs.iter().flat_map(|run| &run.losses).copied().collect();
    let errors: Vec<_> = runs.iter().flat_map(|run| &run.errors).copied().collect();
    let axes = Axes::spanning(&losses, &errors, legend_share(runs));
    let are_named = runs.iter().any(|run| !run.name.is_empty());
    let error = match runs.iter().all(|run| run.is_validated) && !runs.is_empty() {
        true => "validation error (%)",
        false if runs.iter().any(|run| run.is_validated) => "error (%)",
        false => "test error (%)",
    };
    let [errors_are, losses_are] = match are_named {
        false => [error.to_owned(), "training loss".to_owned()],
        true => [format!("{error}, solid"), "training loss, dashed".to_owned()],
    };
    let margin = 10 * DOTS;

    area.fill(&WHITE)?;
    let below_title = area.margin(margin, margin, margin, margin).titled(&title, text(20))?;
    let mut chart = ChartBuilder::on(&below_title)
        .margin_top(8 * DOTS)
        .x_label_area_size(46 * DOTS)
        .y_label_area_size(58 * DOTS)
        .right_y_label_area_size(72 * DOTS)
        .build_cartesian_2d(0.0..axes.iterations, 0.0..axes.error)?
        .set_secondary_coord(
            0.0..axes.iterations,
            axes.loss.clone().log_scale().with_key_points(axes.loss_ticks()),
        );
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_labels(8)
        .y_labels(8)
        .bold_line_style(GRID.stroke_width(DOTS))
        .axis_style(BLACK.stroke_width(DOTS))
        .set_all_tick_mark_size(4 * DOTS)
        .label_style(text(17))
        .axis_desc_style(text(18))
        .x_label_formatter(&|&tick| label(tick))
        .y_label_formatter(&|&tick| label(tick))
        .x_desc("iterations")
        .y_desc(errors_are)
        .draw()?;
    chart
        .configure_secondary_axes()
        .axis_style(BLACK.stroke_width(DOTS))
        .set_all_tick_mark_size(4 * DOTS)
        .label_style(text(17))
        .axis_desc_style(text(18))
        .y_label_formatter(&|&tick| label(tick))
        .y_desc(losses_are)
        .draw()?;
    let plot = chart.plotting_area().strip_coord_spec();
    let size = (plot.dim_in_pixel().0 as i32, plot.dim_in_pixel().1 as i32);
    plot.draw(&PathElement::new([(0, 0), (size.0, 0)], BLACK.stroke_width(DOTS)))?;

    for (run, color) in runs.iter().zip(COLORS.into_iter().cycle()) {
        let [_, red, green, blue] = color.to_be_bytes();
        let bold = RGBColor(red, green, blue).stroke_width(2 * DOTS);
        // Paler, for the test error is the result.
        let pale = RGBColor(red / 2 + 0x80, green / 2 + 0x80, blue / 2 + 0x80).stroke_width(DOTS * 3 / 2);
        let dashed =
            chart.draw_secondary_series(DashedLineSeries::new(run.losses.clone(), DASH, GAP, pale))?;
        if !are_named {
            dashed
                .label("training loss")
                .legend(move |start| DashedPathElement::new(sample(start), DASH, GAP, pale));
        }
        let lone = run.losses.iter().filter(|_| run.losses.len() == 1);
        chart.draw_secondary_series(lone.map(|&point| Circle::new(point, 3 * DOTS, pale.filled())))?;

        let pieces = axes.visible_errors(&run.errors).into_iter();
        chart
            .draw_series(pieces.map(|piece| PathElement::new(piece, bold)))?
            .label(if are_named { run.name } else { run.error_name() })
            .legend(move |start| PathElement::new(sample(start), bold));
        let few = run.errors.iter().filter(|error| run.errors.len() <= 20 && error.1 <= axes.error);
        chart.draw_series(few.map(|&point| Circle::new(point, 3 * DOTS, bold.filled())))?;
    }
    if losses.is_empty() && errors.is_empty() {
        let centred = text(22).color(&GREY).pos(Pos::new(HPos::Center, VPos::Center));
        plot.draw_text("no data yet", &centred, (size.0 / 2, size.1 / 2))?;
    } else {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .legend_area_size(42 * DOTS)
            .margin(9 * DOTS)
            .background_style(WHITE.mix(0.8))
            .label_font(text(17))
            .draw()?;
    }
    area.present()
}

/// How much of the plot's height the legend takes: a line for each of several runs, or for each curve of one.
fn legend_share(runs: &[Run<'_>]) -> f64 {
    const LINE: f64 = 22.0 / 366.0;
    const MARGIN: f64 = 14.0 / 366.0;
    (MARGIN + LINE * runs.len().max(2) as f64).clamp(0.2, 0.7)
}

/// The line beside a name in the legend.
fn sample((x, y): (i32, i32)) -> [(i32, i32); 2] {
    [(x, y), (x + 34 * DOTS as i32, y)]
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
            peak_memory_bytes: None,
            exchange: None,
            time: None,
        }
    }

    fn evaluation(iteration: u64, test_error: f64) -> Record {
        Record::Evaluation {
            iteration,
            epoch: 0.0,
            test_loss: 0.0,
            test_error,
            average_test_loss: None,
            average_test_error: None,
            time: None,
        }
    }

    fn svg_of(records: &[Record]) -> String {
        svg("preresnet20 on <shapes>\n", &[Run::new("", records)])
    }

    /// The corners of the paths of a colour.
    fn corners(svg: &str, color: &str) -> Vec<(i32, i32)> {
        let paths = svg.lines().filter(|line| line.contains(&format!("stroke=\"{color}\"")));
        let paths = paths.filter_map(|line| line.split_once("points=\"")?.1.split_once(" \""));
        let corners = paths.flat_map(|(points, _)| points.split(' ')).filter_map(|at| at.split_once(','));
        corners.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
    }

    fn has_text(svg: &str, text: &str) -> bool {
        svg.lines().any(|line| line == text)
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
        assert!(svg.starts_with(b"<svg width=\"720\" height=\"460\"") && svg.ends_with(b"</svg>\n"));
        let png_size = image::load_from_memory(&png).unwrap().into_rgb8().dimensions();
        assert_eq!(png_size, (1440, 920));
        assert_eq!([svg, png], draw());
        let missing = draw_curves("title", &records, Path::new("no/such/folder")).unwrap_err();
        assert!(missing.to_string().contains("no/such/folder"), "{missing}");
    }

    #[test]
    fn no_point_and_one_point_are_drawn() {
        for records in
            [vec![], vec![training(10, f64::NAN), training(20, 0.0), evaluation(20, f64::INFINITY)]]
        {
            let svg = svg_of(&records);
            assert!(
                has_text(&svg, "no data yet") && has_text(&svg, "preresnet20 on &lt;shapes&gt;"),
                "{svg}"
            );
        }
        for record in
            [training(10, 2.0), training(u64::MAX, 1e-300), evaluation(10, 50.0), evaluation(0, 0.0)]
        {
            let svg = svg_of(&[record]);
            assert_eq!((svg.matches("<circle").count(), has_text(&svg, "no data yet")), (1, false), "{svg}");
        }
    }

    #[test]
    fn values_lie_where_the_axes_say() {
        let errors = [evaluation(0, 0.0), evaluation(20, 20.0), evaluation(40, 40.0)];
        let svg = svg_of(&[&errors[..], &[training(0, 1.0), training(40, 10.0)]].concat());
        // The outer ends of the ticks, at every 10 iterations, every 10 % and the losses 1, 2, 5, 10 and 20.
        let ticks = corners(&svg, "#000000");
        let [left, right] = [255, 2568].map(|x| ticks.iter().filter(|at| at.0 == x).map(|at| at.1).collect());
        let below: Vec<_> = ticks.iter().filter(|at| at.1 == 1632).map(|at| at.0).collect();
        let at = |x: usize, heights: &Vec<_>, y: usize| (below[x], heights[y]);
        assert_eq!(corners(&svg, "#0072B2")[..3], [at(0, &left, 0), at(2, &left, 2), at(4, &left, 4)]);
        let losses = corners(&svg, "#80B9D9");
        assert!(losses[0] == at(0, &right, 0) && losses.contains(&at(4, &right, 3)), "{losses:?}");
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let clean = [training(10, 2.0), training(30, 1.0), evaluation(20, 50.0), evaluation(40, 40.0)];
        let mut records = clean.to_vec();
        records.insert(1, training(20, f64::NAN));
        records.insert(3, evaluation(30, f64::NEG_INFINITY));
        assert_eq!(svg_of(&records), svg_of(&clean));
    }

    #[test]
    fn several_runs_are_told_apart_by_name_and_colour() {
        let records = [evaluation(20, 50.0), evaluation(40, 25.0)];
        let svg = svg("title", &["original", "proposed"].map(|name| Run::new(name, &records)));
        assert!(has_text(&svg, "original") && has_text(&svg, "proposed"), "{svg}");
        assert!(has_text(&svg, "test error (%), solid") && has_text(&svg, "training loss, dashed"), "{svg}");
        assert_eq!(corners(&svg, "#0072B2")[..2], corners(&svg, "#D55E00")[..2]);
    }
}
