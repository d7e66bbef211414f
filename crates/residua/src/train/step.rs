//! One step of training, whole or in its parts.

use std::borrow::Borrow;
use std::{iter, slice};

use super::gradient_exchange::{GradientExchange, pieces};
use super::loss::{Backward, Loss, Objective, StepOutcome};
use super::segments::{Kept, by_segments};
use super::sgd::Sgd;
use crate::data::Batch;
use crate::evaluate::images;
use crate::nn::{Memory, NetworkError, Pass, ResNet, Workload, lean_segment};
use crate::ops;

/// One step on `batch`: forward, mean cross-entropy, backward, SGD. The network after it, and what the batch taught.
///
/// This is [`backward`], [`Sgd::step`] and [`ResNet::absorb`] in one; by themselves they let a loop of one's own look at the
/// gradients, or leave a step out.
///
/// # Errors
/// When the batch does not fit the network.
pub fn step(
    network: ResNet,
    sgd: &mut Sgd,
    batch: &Batch,
    mut pass: Pass,
    learning_rate: f64,
) -> Result<(ResNet, StepOutcome), NetworkError> {
    ops::with_threads_awake(&network.device(), || {
        let mut learnt = backward_on_this_thread(
            &network,
            iter::once(Ok::<_, NetworkError>(batch)),
            &Loss::default(),
            &mut pass,
        )?;
        let network = sgd.step(network, &mut learnt.gradients, learning_rate).absorb(pass);
        Ok((network, learnt.outcome()))
    })
}

/// Forward, mean cross-entropy, backward: the loss of `batch` and its gradient. The network, which must lie on a device with
/// autodiff, stays as it is; `pass`, a training pass, gathers the new running statistics, for [`ResNet::absorb`].
///
/// ```
/// use residua::data::{Batch, Dataset, Loader, LoaderConfig, NormalisationKind, normalisation_of};
/// use residua::device::Device;
/// use residua::nn::{NetworkOptions, Pass, ResNet};
/// use residua::run::OptimiserOptions;
/// use residua::train::{Sgd, StageNorms, backward};
/// # let (pixels, classes) = (vec![7; 8 * 8 * 3], vec!["grey".to_owned(), "other".to_owned()]);
/// # let images = std::sync::Arc::new(Dataset::new("one", classes, (8, 8), pixels, vec![0])?.into());
/// # let normalisation = normalisation_of(NormalisationKind::PerPixelMean, &images)?;
/// # let batch: Batch = Loader::open(images, normalisation, LoaderConfig::new(2, 1))?.next_batch()?;
///
/// let config = NetworkOptions::named("preresnet8").resolve(2)?;
/// let mut network = ResNet::init(&config, 1, &Device::flex().autodiff())?;
/// let mut sgd = Sgd::new(&OptimiserOptions::default());
///
/// let mut pass = Pass::train(1, 0);
/// let mut learnt = backward(&network, &batch, &mut pass)?;
/// let norms = StageNorms::of(&network, &learnt.gradients);
/// if norms.gradients.values().all(|norm| *norm < 100.) {
///     network = sgd.step(network, &mut learnt.gradients, 0.1).absorb(pass);
/// }
/// assert!(learnt.outcome().loss.is_finite());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the batch does not fit the network.
pub fn backward(network: &ResNet, batch: &Batch, pass: &mut Pass) -> Result<Backward, NetworkError> {
    backward_of(network, slice::from_ref(batch), &Loss::default(), pass)
}

/// As [`backward`], of several batches that make one step together, and with a loss of one's own. The gradient is that of one batch of
/// all images whose statistics are taken over each batch by itself, as by
/// [`bn_group`](crate::nn::NetworkOptions::bn_group); running statistics are those of the first batch, as they are of the first group.
///
/// # Errors
/// When a batch does not fit the network.
///
/// # Panics
/// Without a batch.
pub fn backward_of(
    network: &ResNet,
    batches: &[Batch],
    loss: &Loss,
    pass: &mut Pass,
) -> Result<Backward, NetworkError> {
    // Burn's modules go from thread to thread, but are not looked at by two at once.
    let network = network.clone();
    ops::with_threads_awake(&network.device(), move || {
        backward_on_this_thread(&network, batches.iter().map(Ok), loss, pass)
    })
}

/// As [`backward_of`], for callers who see to the threads; a batch is asked for when the one before it is done with.
pub(super) fn backward_on_this_thread<B: Borrow<Batch>, E: From<NetworkError>>(
    network: &ResNet,
    batches: impl ExactSizeIterator<Item = Result<B, E>>,
    loss: &Loss,
    pass: &mut Pass,
) -> Result<Backward, E> {
    let count = batches.len() as f64;
    // All begin where the first begins: what it gathers is not for the others to see.
    let begun = pass.clone();
    let mut learnt: Option<Backward> = None;
    // What is divided by, the images' weight, and the images, so far.
    let (mut divisor, mut weight, mut images) = (0., 0., 0);
    for batch in batches {
        let batch = batch?;
        let batch = batch.borrow();
        let targets = batch.into();
        weight += loss.weight_of(targets);
        match &mut learnt {
            None => {
                divisor = count * weight;
                let objective = Objective { loss, targets, weight: divisor };
                learnt = Some(backward_of_batch(network, batch, objective, pass, &mut None)?);
            }
            Some(learnt) => {
                let objective = Objective { loss, targets, weight: divisor };
                let mut pass = begun.clone().behind(images);
                learnt.add(network, backward_of_batch(network, batch, objective, &mut pass, &mut None)?);
            }
        }
        images += batch.len();
    }
    let mut learnt = learnt.expect("a step has a batch");
    // So it is where images count differently by their class.
    if weight != divisor {
        learnt.scale(network, divisor / weight);
    }
    Ok(learnt)
}

/// Loss and gradient of a batch; the gradients go to the `exchange`, if there is one.
pub(super) fn backward_of_batch(
    network: &ResNet,
    batch: &Batch,
    objective: Objective,
    pass: &mut Pass,
    exchange: &mut Option<GradientExchange>,
) -> Result<Backward, NetworkError> {
    let images = images(batch, &network.device());
    let first = network.plan().units_before(network.first_trained());
    match pass.memory() {
        Memory::Fast | Memory::Balanced if exchange.is_some() => {
            by_segments(network, images, objective, &pieces(network, first), Kept::Maps, pass, exchange)
        }
        Memory::Fast | Memory::Balanced => Ok(objective.backward(network.forward(images, pass)?)),
        Memory::Lean => {
            let workload = Workload {
                frozen: network.frozen().clone(),
                drops_in_units: pass.drops_in_units(),
                ..Workload::new(batch.len(), batch.height, batch.width)
            };
            let length = lean_segment(network.config(), network.plan(), &workload)?;
            let units = network.units().count();
            let segments: Vec<_> =
                (first..units).step_by(length).map(|start| start..units.min(start + length)).collect();
            by_segments(network, images, objective, &segments, Kept::Input, pass, exchange)
        }
    }
}
