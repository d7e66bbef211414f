//! The standard colour augmentation of ImageNet training, as in fb.resnet.torch: brightness, contrast and saturation
//! in a random order, then lighting (Krizhevsky et al., 2012).

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::data::dataset::Dataset;

/// How far brightness, contrast and saturation go from 1.
const STRENGTH: f32 = 0.4;

/// Deviation of the lighting along each principal component.
const LIGHTING: f32 = 0.1;

/// Principal components of ImageNet's colours: standard deviations, and for each channel its part in the components.
const DEVIATIONS: [f32; 3] = [0.2175, 0.0188, 0.0045];
const COMPONENTS: [[f32; 3]; 3] =
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];

/// Each channel's part in how bright a pixel looks.
const BRIGHTNESS: [f32; 3] = [0.2989, 0.587, 0.114];

/// One change of colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColourVariation {
    adjustments: [Adjustment; 3],
    /// Added to each channel.
    light: [f32; 3],
}

/// Blends an image with a plainer one: `factor * image + (1 - factor) * plainer`, clamped to 0..1.
#[derive(Clone, Copy, Debug)]
enum Adjustment {
    /// With black.
    Brightness(f32),
    /// With its mean brightness.
    Contrast(f32),
    /// With its grey version.
    Saturation(f32),
}

impl ColourVariation {
    /// Draws three factors, the order (Fisher and Yates), and three normal numbers.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        let [brightness, contrast, saturation] =
            [(); 3].map(|()| random.random_range(1.0 - STRENGTH..=1.0 + STRENGTH));
        let mut adjustments = [
            Adjustment::Brightness(brightness),
            Adjustment::Contrast(contrast),
            Adjustment::Saturation(saturation),
        ];
        for last in [2, 1] {
            adjustments.swap(last, random.random_range(0..=last));
        }
        let lights = DEVIATIONS.map(|deviation| {
            let normal: f32 = StandardNormal.sample(random);
            normal * LIGHTING * deviation
        });
        let light = COMPONENTS.map(|parts| parts.iter().zip(lights).map(|(part, light)| part * light).sum());
        Self { adjustments, light }
    }

    /// Changes an image, `[height, width, channel]` of values 0 to 1.
    pub(super) fn apply(&self, image: &mut [f32]) {
        let (pixels, _) = image.as_chunks_mut::<{ Dataset::CHANNELS }>();
        for adjustment in self.adjustments {
            adjustment.apply(pixels);
        }
        for pixel in pixels {
            for (value, light) in pixel.iter_mut().zip(self.light) {
                *value += light;
            }
        }
    }
}

impl Adjustment {
    fn apply(self, pixels: &mut [[f32; 3]]) {
        let blend = |value: f32, plainer: f32, factor: f32| {
            (factor * value + (1.0 - factor) * plainer).clamp(0.0, 1.0)
        };
        match self {
            Self::Brightness(factor) => {
                for pixel in pixels {
                    *pixel = pixel.map(|value| blend(value, 0.0, factor));
                }
            }
            Self::Contrast(factor) => {
                let sum: f64 = pixels.iter().map(|pixel| f64::from(brightness(pixel))).sum();
                let mean = (sum / pixels.len() as f64) as f32;
                for pixel in pixels {
                    *pixel = pixel.map(|value| blend(value, mean, factor));
                }
            }
            Self::Saturation(factor) => {
                for pixel in pixels {
                    let grey = brightness(pixel);
                    *pixel = pixel.map(|value| blend(value, grey, factor));
                }
            }
        }
    }
}

fn brightness(pixel: &[f32; 3]) -> f32 {
    pixel.iter().zip(BRIGHTNESS).map(|(value, part)| value * part).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;

    use super::*;
    use crate::data::random_stream::{Purpose, random_stream};

    /// An image that torchvision has adjusted; see `residua-infer/tests/fixtures/augmentation/make.py`.
    #[derive(Deserialize)]
    struct Adjusted {
        image: Vec<f32>,
        steps: Vec<(String, f32)>,
        expected: Vec<f32>,
    }

    #[test]
    fn adjustments_are_those_of_torchvision() {
        let adjusted = include_str!("../../../../residua-infer/tests/fixtures/augmentation/colours.json");
        let adjusted: Vec<Adjusted> = serde_json::from_str(adjusted).unwrap();
        assert!(adjusted.len() > 5);
        for Adjusted { mut image, steps, expected } in adjusted {
            for (name, factor) in steps {
                let adjustment = match name.as_str() {
                    "brightness" => Adjustment::Brightness(factor),
                    "contrast" => Adjustment::Contrast(factor),
                    _ => Adjustment::Saturation(factor),
                };
                adjustment.apply(image.as_chunks_mut().0);
            }
            for (value, expected) in image.iter().zip(&expected) {
                assert!((value - expected).abs() < 1e-5, "{value} {expected}");
            }
        }
    }

    #[test]
    fn orders_factors_and_lights_are_drawn_over_their_range() {
        let mut orders = BTreeSet::new();
        let (mut smallest, mut largest, mut squares) = (f32::MAX, f32::MIN, [0.0; 3]);
        for sample in 0..600 {
            let variation = ColourVariation::draw(&mut random_stream(0, Purpose::Augmentation, sample));
            orders.insert(variation.adjustments.map(|adjustment| match adjustment {
                Adjustment::Brightness(_) => 0,
                Adjustment::Contrast(_) => 1,
                Adjustment::Saturation(_) => 2,
            }));
            for Adjustment::Brightness(factor)
            | Adjustment::Contrast(factor)
            | Adjustment::Saturation(factor) in variation.adjustments
            {
                smallest = smallest.min(factor);
                largest = largest.max(factor);
            }
            for (square, light) in squares.iter_mut().zip(variation.light) {
                *square += light * light / 600.0;
            }
        }
        assert_eq!(orders.len(), 6);
        assert!((0.6..0.62).contains(&smallest) && (1.38..=1.4).contains(&largest), "{smallest} {largest}");
        // The variance of red: the squared sum over components of part * deviation * 0.1.
        let expected: f32 = (0..3).map(|k| (COMPONENTS[0][k] * DEVIATIONS[k] * LIGHTING).powi(2)).sum();
        assert!((squares[0] / expected - 1.0).abs() < 0.2, "{} {expected}", squares[0]);
    }
}
