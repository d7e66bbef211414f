//! Several networks' propagation in one picture.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::propagation::{Propagation, UnitPropagation};
use crate::plot::{register_plot_font, whole_pixels};

/// An SVG of two diagrams over the relative depth of networks by name: the norm of each unit's gradient over the last one's, and the
/// share of Eq. 5's direct term, across stages, in it. Relative depth lets networks of 20 and of 1001 layers share an axis.
pub fn propagation_picture(networks: &[(String, Propagation)]) -> String {
    let size = (WIDTH * DOTS, (2 * HEIGHT + 20 * networks.len() as u32) * DOTS);
    let mut svg = String::new();
    let drawn = draw(SVGBackend::with_string(&mut svg, size).into_drawing_area(), networks);
    drawn.expect("memory takes all that is drawn, and the font comes with the program");
    whole_pixels(&svg, size, DOTS)
}

/// Dots to a pixel of the SVG, as in a run's curves.
const DOTS: u32 = 4;
const WIDTH: u32 = 760;
const HEIGHT: u32 = 300;
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
/// The colours of Okabe and Ito and four more.
const COLOURS: [u32; 10] =
    [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x7a4fa3, 0x4b4b4b, 0x8c1c13, 0x3a9d23];

type Value = fn(&Propagation, &UnitPropagation) -> f64;

fn draw<Backend: DrawingBackend>(
    area: DrawingArea<Backend, Shift>,
    networks: &[(String, Propagation)],
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    register_plot_font();
    area.fill(&WHITE)?;
    let (diagrams, legend) = area.split_vertically(2 * HEIGHT * DOTS);
    let (above, below) = diagrams.split_vertically(HEIGHT * DOTS);
    let gradient: Value = |found, unit| unit.gradient / found.units.last().map_or(1., |last| last.gradient);
    let direct: Value = |_, unit| unit.direct_across / unit.gradient;
    diagram(&above, "gradient of a unit's input, over the last unit's", networks, gradient)?;
    diagram(&below, "of it, the norm of what shortcuts alone have carried", networks, direct)?;
    let text = (FONT, 13 * DOTS).into_font();
    for (index, (name, _)) in networks.iter().enumerate() {
        let y = (20 * index as u32 * DOTS + 8 * DOTS) as i32;
        let line = [(60 * DOTS as i32, y), (90 * DOTS as i32, y)];
        legend.draw(&PathElement::new(line, colour(index).stroke_width(2 * DOTS)))?;
        legend.draw_text(name, &text.clone().into(), (98 * DOTS as i32, y - 8 * DOTS as i32))?;
    }
    area.present()
}

fn diagram<Backend: DrawingBackend>(
    area: &DrawingArea<Backend, Shift>,
    title: &str,
    networks: &[(String, Propagation)],
    value: Value,
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    let text = |size: u32| (FONT, size * DOTS).into_font();
    let curves: Vec<Vec<(f64, f64)>> = networks.iter().map(|(_, found)| curve(found, value)).collect();
    let values = || curves.iter().flatten().map(|point| point.1);
    let (low, high) = (values().fold(1., f64::min), values().fold(1., f64::max));
    let margin = 10 * DOTS;
    let titled = area.margin(margin, 0, margin, margin).titled(title, text(15))?;
    let mut chart = ChartBuilder::on(&titled)
        .x_label_area_size(38 * DOTS)
        .y_label_area_size(62 * DOTS)
        .build_cartesian_2d(0.0..1.0, (low / 1.5..high * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_labels(11)
        .y_labels(7)
        .bold_line_style(RGBColor(0xe2, 0xe2, 0xe2).stroke_width(DOTS))
        .axis_style(BLACK.stroke_width(DOTS))
        .label_style(text(13))
        .axis_desc_style(text(13))
        .x_label_formatter(&|tick| format!("{tick:.1}"))
        .y_label_formatter(&|&tick| power_of_ten(tick))
        .x_desc("relative depth of the unit")
        .draw()?;
    for (index, points) in curves.into_iter().enumerate() {
        let colour = colour(index);
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2 * DOTS)))?;
    }
    Ok(())
}

/// The ticks of a logarithmic axis come with rounding errors.
fn power_of_ten(tick: f64) -> String {
    match tick {
        0.009..1001. => format!("{}", (tick * 1e3).round() / 1e3),
        _ => format!("{tick:.0e}"),
    }
}

/// Relative depth and value of every unit whose value has a place on a logarithmic axis.
fn curve(found: &Propagation, value: Value) -> Vec<(f64, f64)> {
    let last = found.units.len().saturating_sub(1).max(1) as f64;
    let points =
        found.units.iter().enumerate().map(|(index, unit)| (index as f64 / last, value(found, unit)));
    points.filter(|point| point.1.is_finite() && point.1 > 0.).collect()
}

fn colour(index: usize) -> RGBColor {
    let [_, red, green, blue] = COLOURS[index % COLOURS.len()].to_be_bytes();
    RGBColor(red, green, blue)
}
