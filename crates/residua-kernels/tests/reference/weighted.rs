//! Weighted sums and their gradients.

use residua_kernels::{MapShape, Weights};

use super::wide;

/// What the terms of a sum are multiplied by, number by number.
pub(crate) struct Factors {
    channels: usize,
    is_exclusive: bool,
    residual: Vec<f64>,
    shortcut: Vec<f64>,
    /// A gate's derivative by its logit.
    slope: Vec<f64>,
}

impl Factors {
    pub(crate) fn new(shape: MapShape, weights: Weights) -> Self {
        let all = |value: f64| vec![value; shape.len()];
        let (residual, shortcut, slope, is_exclusive) = match weights {
            Weights::Constant { shortcut, residual } => {
                (all(residual.into()), all(shortcut.into()), all(0.), false)
            }
            Weights::Gate { logits, bias, is_exclusive } => {
                let logits =
                    logits.iter().zip(bias.iter().cycle()).map(|(x, b)| f64::from(*x) + f64::from(*b));
                let (gate, rest): (Vec<f64>, Vec<f64>) = logits.map(sigmoid).unzip();
                let slope = gate.iter().zip(&rest).map(|(gate, rest)| gate * rest).collect();
                (if is_exclusive { gate } else { all(1.) }, rest, slope, is_exclusive)
            }
            Weights::Mask(mask) => (all(1.), wide(mask), all(0.), false),
        };
        Self { channels: shape.channels, is_exclusive, residual, shortcut, slope }
    }

    pub(crate) fn sum(&self, input: &[f64], addend: &[f64]) -> Vec<f64> {
        let terms = |at| self.residual[at] * input[at] + self.shortcut[at] * addend[at];
        (0..input.len()).map(terms).collect()
    }

    /// For the gradient `g` of the sum those of the input, the addend, the gate's logits and its bias.
    pub(crate) fn backward(&self, input: &[f64], addend: &[f64], g: &[f64]) -> [Vec<f64>; 4] {
        let times = |factors: &[f64]| factors.iter().zip(g).map(|(factor, g)| factor * g).collect();
        let logit = |at: usize| {
            let input = if self.is_exclusive { input[at] } else { 0. };
            g[at] * (input - addend[at]) * self.slope[at]
        };
        let logits: Vec<f64> = (0..g.len()).map(logit).collect();
        let mut bias = vec![0.; self.channels];
        logits.iter().enumerate().for_each(|(at, logit)| bias[at % self.channels] += logit);
        [times(&self.residual), times(&self.shortcut), logits, bias]
    }
}

/// `1 / (1 + exp(-x))`, and what is missing to one, `1 / (1 + exp(x))`.
pub(crate) fn sigmoid(x: f64) -> (f64, f64) {
    (1. / (1. + (-x).exp()), 1. / (1. + x.exp()))
}
