//! One step of training.

use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};

use super::segments::by_segments;
use super::sgd::Sgd;
use crate::data::Batch;
use crate::evaluate::{images, misclassified, to_host};
use crate::nn::{Memory, NetworkError, Pass, ResNet, lean_segment};

/// What a batch taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy over the batch, before the step.
    pub loss: f64,
    /// Images of the batch that were misclassified.
    pub misclassified: u64,
}

/// Forward, mean cross-entropy, backward, SGD: the network after one step on `batch`.
///
/// # Errors
/// When the batch does not fit the network.
pub fn step(
    network: ResNet,
    sgd: &mut Sgd,
    batch: &Batch,
    pass: Pass,
    learning_rate: f64,
) -> Result<(ResNet, StepOutcome), NetworkError> {
    let (network, outcome, _) = step_looked_at(network, sgd, batch, pass, learning_rate, |_, _| ())?;
    Ok((network, outcome))
}

/// As [`step`], where `look` sees the network and its gradients before they are used up.
///
/// # Errors
/// When the batch does not fit the network.
pub(super) fn step_looked_at<T: Send>(
    network: ResNet,
    sgd: &mut Sgd,
    batch: &Batch,
    pass: Pass,
    learning_rate: f64,
    look: impl FnOnce(&ResNet, &Gradients) -> T + Send,
) -> Result<(ResNet, StepOutcome, T), NetworkError> {
    let is_on_the_cpu = network.device().inner() == Device::flex();
    let work = || whole_step(network, sgd, batch, pass, learning_rate, look);
    if is_on_the_cpu {
        // On a thread of the pool: from outside, every kernel would put this thread to sleep and wake another.
        residua_kernels::with_threads_awake(work)
    } else {
        work()
    }
}

fn whole_step<T>(
    network: ResNet,
    sgd: &mut Sgd,
    batch: &Batch,
    mut pass: Pass,
    learning_rate: f64,
    look: impl FnOnce(&ResNet, &Gradients) -> T,
) -> Result<(ResNet, StepOutcome, T), NetworkError> {
    let images = images(batch, &network.device());
    let Learnt { logits, loss, mut gradients } = match pass.memory() {
        Memory::Fast | Memory::Balanced => whole(&network, images, &batch.labels, &mut pass)?,
        Memory::Lean => {
            let length = lean_segment(network.config(), batch.len(), batch.height, batch.width)?;
            by_segments(&network, images, &batch.labels, length, &mut pass)?
        }
    };
    let seen = look(&network, &gradients);
    let network = sgd.step(network, &mut gradients, learning_rate).absorb(pass);
    let outcome = StepOutcome {
        loss: to_host(loss)[0].into(),
        misclassified: misclassified(&to_host(logits), &batch.labels),
    };
    Ok((network, outcome, seen))
}

/// What a batch says about a network.
pub(super) struct Learnt {
    /// `[batch, classes]`
    pub(super) logits: Tensor<2>,
    /// A tensor of one value.
    pub(super) loss: Tensor<1>,
    /// Of all parameters.
    pub(super) gradients: Gradients,
}

/// Loss and gradients of a batch by one forward and one backward pass.
pub(super) fn whole(
    network: &ResNet,
    images: Tensor<4>,
    labels: &[u16],
    pass: &mut Pass,
) -> Result<Learnt, NetworkError> {
    let logits = network.forward(images, pass)?;
    let loss = cross_entropy(logits.clone(), labels);
    let gradients = loss.backward();
    Ok(Learnt { logits: logits.inner(), loss: loss.inner(), gradients })
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
