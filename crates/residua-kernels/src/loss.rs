//! Softmax cross-entropy.

use rayon::prelude::*;

/// Runs of rows that are summed on their own; the loss does not depend on the number of threads.
const RUNS: usize = 32;

/// The mean over the batch of `log(sum(exp(logits))) - logits[label]`; with `gradient` also its gradient
/// `(softmax(logits) - one_hot(label)) / batch`.
///
/// `logits` and `gradient`: `[batch, classes]`. Sums are f64, and of differences to the largest logit, so that no logit
/// is too large. A row with a NaN or a positive infinity gives NaN; a label of probability zero gives an infinite loss.
/// The mean of no rows is NaN.
///
/// # Panics
/// When a slice has another length than its shape says, or a label is not below `classes`.
pub fn cross_entropy(logits: &[f32], labels: &[u16], classes: usize, gradient: Option<&mut [f32]>) -> f64 {
    let batch = labels.len();
    assert!(classes > 0, "at least one class");
    assert_eq!(logits.len(), batch * classes, "logits");
    let rows = batch.div_ceil(RUNS).max(1);
    let mut losses = [0f64; RUNS];
    let runs = logits.par_chunks(rows * classes).zip(labels.par_chunks(rows)).zip(&mut losses);
    match gradient {
        None => runs.for_each(|((logits, labels), loss)| {
            for (logits, &label) in logits.chunks_exact(classes).zip(labels) {
                *loss += Row::new(logits).loss(label);
            }
        }),
        Some(gradient) => {
            assert_eq!(gradient.len(), logits.len(), "gradient");
            let factor = 1. / batch as f64;
            runs.zip(gradient.par_chunks_mut(rows * classes)).for_each(
                |(((logits, labels), loss), gradient)| {
                    let gradients = gradient.chunks_exact_mut(classes);
                    for ((logits, &label), gradient) in
                        logits.chunks_exact(classes).zip(labels).zip(gradients)
                    {
                        let row = Row::keeping(logits, gradient);
                        *loss += row.loss(label);
                        row.finish(label, factor, gradient);
                    }
                },
            );
        }
    }
    losses.iter().sum::<f64>() / batch as f64
}

struct Row<'a> {
    logits: &'a [f32],
    largest: f64,
    sum: f64,
}

impl<'a> Row<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let largest = largest(logits);
        let sum = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        Self { logits, largest, sum }
    }

    /// As [`Row::new`], and writes the exponentials.
    fn keeping(logits: &'a [f32], exponentials: &mut [f32]) -> Self {
        let largest = largest(logits);
        let mut sum = 0.;
        for (kept, &logit) in exponentials.iter_mut().zip(logits) {
            let exponential = (f64::from(logit) - largest).exp();
            *kept = exponential as f32;
            sum += exponential;
        }
        Self { logits, largest, sum }
    }

    fn loss(&self, label: u16) -> f64 {
        let label = usize::from(label);
        assert!(label < self.logits.len(), "label {label} of {} classes", self.logits.len());
        // The difference first: beside a large logit the logarithm would vanish.
        self.sum.ln() + (self.largest - f64::from(self.logits[label]))
    }

    /// From the exponentials to the gradient.
    fn finish(&self, label: u16, factor: f64, gradient: &mut [f32]) {
        let (softmax, label) = (factor / self.sum, usize::from(label));
        for value in &mut *gradient {
            *value = (f64::from(*value) * softmax) as f32;
        }
        // In f64: where the probability is near one, the difference is all that matters.
        let of_label = (f64::from(self.logits[label]) - self.largest).exp();
        gradient[label] = (of_label * softmax - factor) as f32;
    }
}

/// NaN is passed over here; it comes back with the exponentials.
fn largest(logits: &[f32]) -> f64 {
    f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}
