//! Painting a figure on a background, with all that should not matter varied at random.

use rand::{Rng, RngExt};

use super::figure::{Figure, REACH};

/// Height and width of a picture in pixels.
pub(super) const SIDE: usize = 32;

type Colour = [f64; 3];

/// Points a pixel's side at which a figure is sampled, so that its edges are smooth.
const SAMPLES: usize = 4;
/// Radius, in pixels, of the circle that has a figure's area: smallest and largest.
const RADIUS: (f64, f64) = (8.0, 10.5);
/// How far, in pixels, a figure's centre may lie from the picture's along each axis.
const WANDERING: f64 = 2.0;
/// Largest tangent of the angle by which a figure is turned.
const TILT: f64 = 0.25;
/// Least distance between the colours of figure and background, in units of 1/255.
const CONTRAST: f64 = 150.0;
/// Largest change of a surface's colour from the middle to an edge.
const SLOPE: f64 = 20.0;
/// Largest deviation of a surface's texture.
const TEXTURE: f64 = 8.0;
/// Largest standard deviation of the noise of single pixels.
const NOISE: f64 = 8.0;
/// Most distracting strokes behind a figure.
const STROKES: u32 = 2;

/// Paints `figure` as only `random` determines; pixels are `[row, column, channel]`.
pub(super) fn paint(figure: &Figure, random: &mut impl Rng) -> [u8; SIDE * SIDE * 3] {
    // Both are drawn anew until they differ enough, so that their distributions stay the same.
    let (ground, body) = loop {
        let (ground, body) = (Surface::random(random), Surface::random(random));
        if distance_squared(&ground.colour, &body.colour) > CONTRAST * CONTRAST {
            break (ground, body);
        }
    };
    let placement = Placement::random(random);
    let strokes: Vec<Stroke> =
        (0..random.random_range(0..=STROKES)).map(|_| Stroke::random(random)).collect();
    let noise = between(random, 0.0, NOISE);

    let mut pixels = [0; SIDE * SIDE * 3];
    for (place, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((place % SIDE) as f64 + 0.5, (place / SIDE) as f64 + 0.5);
        let mut colour = ground.at(x, y);
        strokes.iter().for_each(|stroke| stroke.draw(x, y, &mut colour));
        lay_over(&mut colour, &body.at(x, y), placement.coverage(figure, x, y));
        for (value, colour) in pixel.iter_mut().zip(colour) {
            *value = (colour + noise * speck(random) + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
    pixels
}

/// A colour that drifts across the picture, with a soft texture.
struct Surface {
    colour: Colour,
    /// Change of colour from the middle to the right and lower edge.
    slopes: [Colour; 2],
    /// What the texture adds where it is 1.
    tint: Colour,
    /// The texture at the corners of a grid of cells, -1 to 1, linear in between.
    lattice: [[f64; CELLS + 1]; CELLS + 1],
}

const CELLS: usize = 8;

impl Surface {
    fn random(random: &mut impl Rng) -> Self {
        let mut colour = |reach: f64| [(); 3].map(|()| between(random, -reach, reach));
        Self {
            colour: colour(127.5).map(|value| value + 127.5),
            slopes: [colour(SLOPE), colour(SLOPE)],
            tint: colour(TEXTURE),
            lattice: [(); CELLS + 1].map(|()| [(); CELLS + 1].map(|()| between(random, -1.0, 1.0))),
        }
    }

    fn at(&self, x: f64, y: f64) -> Colour {
        let half = SIDE as f64 / 2.0;
        let (right, down) = ((x - half) / half, (y - half) / half);
        let (column, row) = (x * CELLS as f64 / SIDE as f64, y * CELLS as f64 / SIDE as f64);
        let (i, j) = (column as usize, row as usize);
        let (u, v) = (column - i as f64, row - j as f64);
        let upper = self.lattice[j][i] * (1.0 - u) + self.lattice[j][i + 1] * u;
        let lower = self.lattice[j + 1][i] * (1.0 - u) + self.lattice[j + 1][i + 1] * u;
        let texture = upper * (1.0 - v) + lower * v;
        [0, 1, 2].map(|channel| {
            let drift = self.slopes[0][channel] * right + self.slopes[1][channel] * down;
            self.colour[channel] + drift + self.tint[channel] * texture
        })
    }
}

/// Where, how large and how turned a figure is.
struct Placement {
    centre: (f64, f64),
    radius: f64,
    /// Cosine and sine of the rotation.
    direction: (f64, f64),
}

impl Placement {
    fn random(random: &mut impl Rng) -> Self {
        let middle = SIDE as f64 / 2.0;
        Self {
            centre: (
                middle + between(random, -WANDERING, WANDERING),
                middle + between(random, -WANDERING, WANDERING),
            ),
            radius: between(random, RADIUS.0, RADIUS.1),
            direction: direction(1.0, between(random, -TILT, TILT)),
        }
    }

    /// The share of the pixel round `(x, y)` that the figure covers, 0 to 1.
    fn coverage(&self, figure: &Figure, x: f64, y: f64) -> f64 {
        let (x, y) = (x - self.centre.0, y - self.centre.1);
        let furthest = self.radius * REACH + 1.0;
        if x * x + y * y > furthest * furthest {
            return 0.0;
        }
        let (cosine, sine) = self.direction;
        let offset = |k: usize| (k as f64 + 0.5) / SAMPLES as f64 - 0.5;
        let mut inside = 0;
        for (row, column) in (0..SAMPLES).flat_map(|row| (0..SAMPLES).map(move |column| (row, column))) {
            let (x, y) = ((x + offset(column)) / self.radius, (y + offset(row)) / self.radius);
            inside += usize::from(figure.contains(cosine * x + sine * y, cosine * y - sine * x));
        }
        inside as f64 / (SAMPLES * SAMPLES) as f64
    }
}

/// A short line with round ends, which belongs to no figure.
struct Stroke {
    colour: Colour,
    start: (f64, f64),
    direction: (f64, f64),
    length: f64,
    half_width: f64,
}

impl Stroke {
    fn random(random: &mut impl Rng) -> Self {
        let side = SIDE as f64;
        Self {
            colour: [(); 3].map(|()| between(random, 0.0, 255.0)),
            start: (between(random, 0.0, side), between(random, 0.0, side)),
            direction: random_direction(random),
            length: between(random, 0.0, 8.0),
            half_width: between(random, 0.4, 1.2),
        }
    }

    fn draw(&self, x: f64, y: f64, colour: &mut Colour) {
        let (x, y) = (x - self.start.0, y - self.start.1);
        let along = (x * self.direction.0 + y * self.direction.1).clamp(0.0, self.length);
        let (x, y) = (x - along * self.direction.0, y - along * self.direction.1);
        let coverage = (self.half_width + 0.5 - (x * x + y * y).sqrt()).clamp(0.0, 1.0);
        lay_over(colour, &self.colour, coverage);
    }
}

fn lay_over(colour: &mut Colour, upper: &Colour, coverage: f64) {
    for (value, upper) in colour.iter_mut().zip(upper) {
        *value += coverage * (upper - *value);
    }
}

fn distance_squared(a: &Colour, b: &Colour) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn between(random: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * random.random::<f64>()
}

/// Nearly normal noise of deviation 1, at most 3.5 in size: the sum of four uniform bytes, which is the same
/// on every machine.
fn speck(random: &mut impl Rng) -> f64 {
    let sum: u32 = random.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
    (f64::from(sum) - 510.0) / 147.8
}

/// A unit vector, all directions alike: of a point of the disc, drawn until it lies in it.
fn random_direction(random: &mut impl Rng) -> (f64, f64) {
    loop {
        let (x, y) = (between(random, -1.0, 1.0), between(random, -1.0, 1.0));
        if (0.01..=1.0).contains(&(x * x + y * y)) {
            return direction(x, y);
        }
    }
}

/// The unit vector along `(x, y)`; sine and cosine of an angle would differ between machines.
fn direction(x: f64, y: f64) -> (f64, f64) {
    let length = (x * x + y * y).sqrt();
    (x / length, y / length)
}
