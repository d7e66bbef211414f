//! A reproduction as SVG pictures: a figure's diagrams, or a table's errors beside the paper's.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::experiment::Panel;
use super::page::legend;
use super::reproduction::{Measured, Reproduction, RowResult};
use crate::plot::{curves_svg, register_plot_font, whole_pixels};

/// SVG files by the ends of their names: `-1`, `-2`, ... for a figure's diagrams, nothing for a table.
pub fn pictures(reproduction: &Reproduction) -> Vec<(String, String)> {
    let panels = reproduction.experiment.panels();
    let diagram = |(number, panel): (usize, &Panel)| {
        let curves = reproduction.curves();
        let shown: Vec<_> = curves.iter().filter(|(row, _)| panel.rows.contains(&row.name)).collect();
        let names: Vec<String> = shown.iter().map(|(row, _)| legend(row)).collect();
        let runs: Vec<_> = shown
            .iter()
            .zip(&names)
            .map(|((_, run), name)| (name.as_str(), run.records.as_slice()))
            .collect();
        let title = format!("{} (budget {})", panel.title, reproduction.budget);
        (format!("-{}", number + 1), curves_svg(&title, &runs))
    };
    match panels {
        [] => vec![(String::new(), dots(reproduction))],
        [panel] => vec![(String::new(), diagram((0, panel)).1)],
        panels => panels.iter().enumerate().map(diagram).collect(),
    }
}

/// Dots to a pixel of the SVG, as in a run's curves.
const DOTS: u32 = 4;
const WIDTH: u32 = 760;
const ROW: u32 = 26;
const OURS: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const PAPER: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// Every run's test error as a dot, the median as a line, the paper's as a hollow circle; "fail" beyond the right end of the axis.
fn dots(reproduction: &Reproduction) -> String {
    let size = (WIDTH * DOTS, (110 + ROW * reproduction.rows.len() as u32) * DOTS);
    let mut svg = String::new();
    let drawn = draw(SVGBackend::with_string(&mut svg, size).into_drawing_area(), reproduction);
    drawn.expect("memory takes all that is drawn, and the font comes with the program");
    whole_pixels(&svg, size, DOTS)
}

fn draw<Backend: DrawingBackend>(
    area: DrawingArea<Backend, Shift>,
    reproduction: &Reproduction,
) -> Result<(), DrawingAreaErrorKind<Backend::ErrorType>> {
    register_plot_font();
    let rows = &reproduction.rows;
    let text = |size: u32| (FONT, size * DOTS).into_font();
    let errors = rows.iter().flat_map(|row| {
        let ours = row.runs.iter().filter_map(|run| run.outcome.error()).filter(|error| error.is_finite());
        ours.chain(row.published.median()).collect::<Vec<_>>()
    });
    let end = errors.fold(Measured::FAIL_ABOVE, f64::max).min(100.) * 1.05;
    let fail = end * 1.06;
    area.fill(&WHITE)?;
    let margin = 10 * DOTS;
    let (title, rest) = area.margin(margin, margin, margin, margin).split_vertically(44 * DOTS);
    title.draw_text(reproduction.experiment.title(), &text(17).into(), (0, 0))?;
    let scaled = format!(
        "budget {}; each run a dot, median a bar, the paper's a ring; F: above {} %",
        reproduction.budget,
        Measured::FAIL_ABOVE
    );
    title.draw_text(&scaled, &text(12).color(&RGBColor(0x55, 0x55, 0x55)), (0, 24 * DOTS as i32))?;
    let mut chart = ChartBuilder::on(&rest)
        .x_label_area_size(40 * DOTS)
        .y_label_area_size(330 * DOTS)
        .build_cartesian_2d(0.0..end * 1.1, rows.len() as f64 - 0.5..-0.5)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(0)
        .x_labels(8)
        .bold_line_style(RGBColor(0xe2, 0xe2, 0xe2).stroke_width(DOTS))
        .axis_style(BLACK.stroke_width(DOTS))
        .label_style(text(13))
        .axis_desc_style(text(13))
        .x_label_formatter(&|tick| format!("{tick:.0}"))
        .x_desc("test error (%)")
        .draw()?;
    let plot = chart.plotting_area();
    for (row, at) in rows.iter().zip(0u32..) {
        let y = f64::from(at);
        let (left, middle) = plot.map_coordinate(&(0., y));
        let (label, width) = (name(row), 326 * DOTS as i32);
        area.draw_text(&label, &text(12).into(), (left - width, middle - 8 * DOTS as i32))?;
        let published = row.published.median();
        plot.draw(&Circle::new((published.unwrap_or(fail), y), 5 * DOTS, PAPER.stroke_width(3 * DOTS / 2)))?;
        for run in &row.runs {
            let Some(error) = run.outcome.error() else { continue };
            let x = if error.is_finite() { error } else { fail };
            plot.draw(&Circle::new((x, y), 3 * DOTS, OURS.filled()))?;
        }
        if let Some(median) = row.measured.and_then(|measured| measured.median) {
            let bar = [(median, y - 0.32), (median, y + 0.32)];
            plot.draw(&PathElement::new(bar, OURS.stroke_width(2 * DOTS)))?;
        }
    }
    let (x, y) = plot.map_coordinate(&(fail, -0.5));
    area.draw_text("F", &text(12).color(&PAPER), (x - 4 * DOTS as i32, y - 15 * DOTS as i32))?;
    area.present()
}

fn name(row: &RowResult) -> String {
    let trained = row.trained.as_ref().map_or("quoted", |trained| trained.model.as_str());
    let name = format!("{}, {} ({trained})", row.label, row.network);
    match name.chars().count() {
        0..=52 => name,
        _ => format!("{} ({trained})", row.label),
    }
}
