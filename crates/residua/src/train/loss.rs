//! The loss of a batch, and its gradient.

use burn::tensor::{Gradients, Tensor, TensorData, activation};

use crate::evaluate::{misclassified, to_host};

/// What a batch says about a network: the loss, and its gradient with respect to every parameter.
pub struct Backward {
    /// The loss's gradient, which [`Sgd::step`](super::Sgd::step) uses up.
    pub gradients: Gradients,
    logits: Tensor<2>,
    loss: Tensor<1>,
    labels: Vec<u16>,
}

/// What a batch taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy over the batch, before the step.
    pub loss: f64,
    /// Images of the batch that were misclassified.
    pub misclassified: u64,
}

impl Backward {
    /// From logits `[batch, classes]` back to whatever they depend on.
    pub(super) fn from_logits(logits: Tensor<2>, labels: &[u16]) -> Self {
        let loss = cross_entropy(logits.clone(), labels);
        let gradients = loss.backward();
        Self { gradients, logits: logits.inner(), loss: loss.inner(), labels: labels.to_vec() }
    }

    /// The loss and the number of misclassified images, brought to the host.
    pub fn outcome(&self) -> StepOutcome {
        StepOutcome {
            loss: to_host(self.loss.clone())[0].into(),
            misclassified: misclassified(&to_host(self.logits.clone()), &self.labels),
        }
    }
}

/// `-mean(log softmax(logits)[label])` of logits `[batch, classes]`: a tensor of one value.
pub fn cross_entropy(logits: Tensor<2>, labels: &[u16]) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    // A product with ones at the labels needs no scatter in the backward pass, whose order GPUs do not fix.
    let mut at_label = vec![0f32; batch * classes];
    for (row, &label) in at_label.chunks_exact_mut(classes).zip(labels) {
        row[usize::from(label)] = -1. / batch as f32;
    }
    let at_label = Tensor::<2>::from_data(TensorData::new(at_label, [batch, classes]), &logits.device());
    (activation::log_softmax(logits, 1) * at_label).sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn cross_entropy_is_the_mean_of_negative_log_probabilities() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0., 0.], [1., 3.]], &device);
        let expected = (2f64.ln() + (1. + 2f64.exp()).ln()) / 2.;
        let loss = f64::from(to_host(cross_entropy(logits, &[1, 0]))[0]);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }
}
