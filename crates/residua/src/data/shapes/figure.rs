//! The ten figures of `shapes`, as tests of whether a point lies inside.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// A figure in coordinates of its own (x to the right, y downwards), with what brings it to the origin and to
/// the area of the unit circle: equal areas, so that the amount of colour does not tell figures apart.
pub(super) struct Figure {
    pub(super) name: &'static str,
    contains: fn(f64, f64) -> bool,
    centre: (f64, f64),
    scale: f64,
}

impl Figure {
    /// Whether a point lies in the figure, centred at the origin with the area of the unit circle.
    pub(super) fn contains(&self, x: f64, y: f64) -> bool {
        (self.contains)(x * self.scale + self.centre.0, y * self.scale + self.centre.1)
    }
}

/// The figures, by label; none reaches further than [`REACH`] from the origin.
pub(super) const FIGURES: [Figure; 10] = [
    Figure { name: "arrow", contains: arrow, centre: (0.0107, 0.0), scale: 0.65431 },
    Figure { name: "circle", contains: circle, centre: (0.0, 0.0), scale: 1.0 },
    Figure { name: "crescent", contains: crescent, centre: (-0.31203, 0.0), scale: 0.75757 },
    Figure { name: "cross", contains: cross, centre: (0.0, 0.0), scale: 0.82734 },
    Figure { name: "heart", contains: heart, centre: (0.0, -0.29349), scale: 1.07965 },
    Figure { name: "ring", contains: ring, centre: (0.0, 0.0), scale: 0.8 },
    Figure { name: "semicircle", contains: semicircle, centre: (0.0, 0.42441), scale: FRAC_1_SQRT_2 },
    Figure { name: "square", contains: square, centre: (0.0, 0.0), scale: FRAC_2_SQRT_PI },
    Figure { name: "star", contains: star, centre: (0.0, 0.0), scale: 0.59776 },
    Figure { name: "triangle", contains: triangle, centre: (0.0, 0.0), scale: 0.64304 },
];

/// Radius of a circle round the origin that holds every figure.
pub(super) const REACH: f64 = 1.68;

fn arrow(x: f64, y: f64) -> bool {
    let is_in_shaft = y.abs() < 0.28 && -1.0 < x && x <= 0.1;
    let is_in_head = x > 0.1 && y.abs() < (1.0 - x) * 0.9;
    is_in_shaft || is_in_head
}

fn circle(x: f64, y: f64) -> bool {
    x * x + y * y < 1.0
}

fn crescent(x: f64, y: f64) -> bool {
    circle(x, y) && (x - 0.5) * (x - 0.5) + y * y > 0.49
}

fn cross(x: f64, y: f64) -> bool {
    let (shorter, longer) = if x.abs() < y.abs() { (x.abs(), y.abs()) } else { (y.abs(), x.abs()) };
    shorter < 0.32 && longer < 1.0
}

fn heart(x: f64, y: f64) -> bool {
    let outside = x * x + y * y - 1.0;
    outside * outside * outside < -x * x * y * y * y
}

fn ring(x: f64, y: f64) -> bool {
    circle(x, y) && x * x + y * y > 0.36
}

fn semicircle(x: f64, y: f64) -> bool {
    circle(x, y) && y > 0.0
}

fn square(x: f64, y: f64) -> bool {
    x.abs() < 1.0 && y.abs() < 1.0
}

/// Inside at least four of the five lines that draw a pentagram.
fn star(x: f64, y: f64) -> bool {
    const NORMALS: [(f64, f64); 5] = [
        (0.0, -1.0),
        (0.951057, -0.309017),
        (0.587785, 0.809017),
        (-0.587785, 0.809017),
        (-0.951057, -0.309017),
    ];
    NORMALS.iter().filter(|normal| normal.0 * x + normal.1 * y < 0.309017).count() >= 4
}

fn triangle(x: f64, y: f64) -> bool {
    y < 0.5 && 0.866025 * x.abs() - 0.5 * y < 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_centred_and_of_equal_area() {
        let step = 0.01;
        for figure in &FIGURES {
            let (mut area, mut centre) = (0.0, (0.0, 0.0));
            for row in -200..200 {
                for column in -200..200 {
                    let (x, y) = ((f64::from(column) + 0.5) * step, (f64::from(row) + 0.5) * step);
                    if figure.contains(x, y) {
                        assert!(x * x + y * y < REACH * REACH, "{}", figure.name);
                        area += step * step;
                        centre = (centre.0 + x * step * step, centre.1 + y * step * step);
                    }
                }
            }
            assert!((area / std::f64::consts::PI - 1.0).abs() < 0.01, "{}: {area}", figure.name);
            assert!(centre.0.abs() < 0.02 && centre.1.abs() < 0.02, "{}: {centre:?}", figure.name);
        }
    }

    #[test]
    fn points_tell_the_figures_apart() {
        let inside_at =
            |x, y| FIGURES.iter().filter(|f| f.contains(x, y)).map(|f| f.name).collect::<Vec<_>>();
        assert!(FIGURES.iter().all(|figure| figure.contains(0.0, 0.0) == (figure.name != "ring")));
        assert_eq!(inside_at(1.4, 0.0), ["arrow"]);
        assert_eq!(inside_at(0.0, -1.6), ["star"]);
        assert_eq!(inside_at(0.0, -1.5), ["star", "triangle"]);
        assert_eq!(inside_at(1.2, 0.02), ["arrow", "cross", "ring", "semicircle"]);
        assert_eq!(inside_at(0.885, -0.885), ["square"]);
    }
}
