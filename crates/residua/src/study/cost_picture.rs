//! Error against cost, with the Pareto front.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::cost::{Cost, pareto_front};
use crate::plot::{register_plot_font, whole_pixels};

/// An SVG: published error (where there is none, one's own) against multiply-adds and, where it was measured, against the time of
/// training on a thousand images. What nothing beats is joined by a line.
pub fn cost_picture(costs: &[Cost]) -> String {
    let diagrams = diagrams(costs);
    let size = (WIDTH * DOTS, HEIGHT * diagrams.len() as u32 * DOTS);
    let mut svg = String::new();
    let areas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = areas.fill(&WHITE).and_then(|()| {
        let parts = areas.split_evenly((diagrams.len(), 1));
        parts.iter().zip(&diagrams).try_for_each(|(area, diagram)| draw(area, diagram))?;
        areas.present()
    });
    drawn.expect("memory takes all that is drawn, and the font comes with the program");
    drop(areas);
    whole_pixels(&svg, size, DOTS)
}

/// Dots to a pixel of the SVG, as in a run's curves.
const DOTS: u32 = 4;
const WIDTH: u32 = 760;
const HEIGHT: u32 = 380;
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);

struct Diagram {
    cost: &'static str,
    points: Vec<Point>,
}

struct Point {
    name: String,
    at: (f64, f64),
    is_on_front: bool,
}

fn diagrams(costs: &[Cost]) -> Vec<Diagram> {
    let seconds = |cost: &Cost| Some(1000. / cost.training?.images_per_second);
    let counted =
        diagram("multiply-adds of an image, G", costs, |cost| Some(cost.multiply_adds as f64 / 1e9));
    let measured = diagram("measured: seconds of training on 1,000 images", costs, seconds);
    [counted, measured]
        .into_iter()
        .filter(|diagram| !diagram.points.is_empty() || diagram.cost.starts_with("mult"))
        .collect()
}

fn diagram(cost: &'static str, costs: &[Cost], value: impl Fn(&Cost) -> Option<f64>) -> Diagram {
    let error = |cost: &Cost| {
        let published = cost.published.and_then(|published| published.median());
        published.or(cost.ours.as_ref().map(|ours| ours.error))
    };
    let found: Vec<(String, (f64, f64))> = costs
        .iter()
        .filter_map(|cost| Some((cost.name.clone(), (value(cost)?, error(cost)?))))
        .filter(|(_, at)| at.0.is_finite() && at.0 > 0.)
        .collect();
    let front = pareto_front(&found.iter().map(|point| point.1).collect::<Vec<_>>());
    let points = found.into_iter().zip(front);
    Diagram {
        cost,
        points: points.map(|((name, at), is_on_front)| Point { name, at, is_on_front }).collect(),
    }
}

/// 1, 2 and 5 times powers of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = powers.flat_map(|power| [1., 2., 5.].map(|digit| digit * 10f64.powi(power)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

fn draw<Backend: DrawingBackend>(
    area: &DrawingArea<Backend, Shift>,
    Diagram { cost, points }: &Diagram,
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    register_plot_font();
    let text = |size: u32| (FONT, size * DOTS).into_font();
    let range = |of: fn(&Point) -> f64| {
        let values = || points.iter().map(of);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0., f64::max));
        if low <= high { (low, high) } else { (1., 10.) }
    };
    let (least, most) = range(|point| point.at.0);
    let (best, worst) = range(|point| point.at.1);
    let room = (worst - best).max(0.5) * 0.12;
    let margin = 10 * DOTS;
    let mut chart = ChartBuilder::on(&area.margin(margin, margin, margin, margin))
        .x_label_area_size(44 * DOTS)
        .y_label_area_size(56 * DOTS)
        // Names stand to the right of their points.
        .build_cartesian_2d(
            (least / 1.3..most * 2.2).log_scale().with_key_points(ticks(least / 1.3, most * 2.2)),
            (best - room).max(0.)..worst + room,
        )?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(RGBColor(0xe2, 0xe2, 0xe2).stroke_width(DOTS))
        .axis_style(BLACK.stroke_width(DOTS))
        .label_style(text(13))
        .axis_desc_style(text(14))
        .x_label_formatter(&|tick| format!("{}", (tick * 1e4).round() / 1e4))
        .y_label_formatter(&|tick| format!("{}", (tick * 1e2).round() / 1e2))
        .x_desc(*cost)
        .y_desc("test error (%)")
        .draw()?;
    let mut front: Vec<(f64, f64)> =
        points.iter().filter(|point| point.is_on_front).map(|point| point.at).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    chart.draw_series(LineSeries::new(front, BLUE.stroke_width(3 * DOTS / 2)))?;
    let plot = chart.plotting_area();
    for Point { name, at, is_on_front } in points {
        let style = if *is_on_front { BLUE.filled() } else { RGBColor(0x77, 0x77, 0x77).stroke_width(DOTS) };
        plot.draw(&Circle::new(*at, 4 * DOTS, style))?;
        let (x, y) = plot.map_coordinate(at);
        let offset = [8 * DOTS as i32, -8 * DOTS as i32];
        area.draw_text(name, &text(12).into(), (x + offset[0], y + offset[1] - area.get_base_pixel().1))?;
    }
    Ok(())
}
