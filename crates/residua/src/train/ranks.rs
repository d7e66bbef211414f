//! What the ranks of a cluster do together in a step, and in a test.

use std::borrow::Borrow;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use std::{env, fs};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use sha2::{Digest, Sha256};

use super::gradient_exchange::GradientExchange;
use super::loss::{Backward, Loss, Objective, StepOutcome};
use super::run_images::RunImages;
use super::step::backward_of_batch;
use crate::cluster::{Cluster, ClusterError};
use crate::data::{Batch, Images, Listing, Normalisation, Share};
use crate::evaluate::{Evaluation, Score, scores};
use crate::nn::{NamedMapper, NamedVisitor, Pass, ResNet, is_trained, values_of};
use crate::ops::Engine;
use crate::run::RunError;

/// The part of each batch that is for this rank.
pub(super) fn share_of(cluster: &Cluster) -> Share {
    Share::new(cluster.rank(), cluster.ranks()).unwrap_or_default()
}

/// Refuses images that are not the same on all ranks: of pictures in files names and sizes are compared, of images in memory labels and
/// normalisation.
pub(super) fn check_images(
    images: &RunImages,
    normalisation: &Normalisation,
    cluster: &Cluster,
) -> Result<(), RunError> {
    if cluster.is_alone() {
        return Ok(());
    }
    let mut digest = Sha256::new();
    let all = [Some(images.training()), images.validation(), Some(images.test())];
    for images in all.into_iter().flatten() {
        digest.update(serde_json::to_string(&(images.classes(), Listing::of([images]))).unwrap_or_default());
        images.labels().iter().for_each(|label| digest.update(label.to_le_bytes()));
    }
    digest.update(serde_json::to_string(normalisation).unwrap_or_default());
    Ok(cluster.agree("other images", &format!("{:x}", digest.finalize()))?)
}

/// A digest of the file that this process runs.
pub(super) fn digest_of_program() -> String {
    let program = env::current_exe().and_then(fs::read);
    program
        .map_or_else(|_| env!("CARGO_PKG_VERSION").to_owned(), |bytes| format!("{:x}", Sha256::digest(bytes)))
}

/// What a rank has to say to the others with a step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// Whether it was asked to stop.
    pub(super) wants_to_stop: bool,
    /// A digest of its weights, if they are to be compared.
    pub(super) weights: Option<u64>,
    /// How long it has waited for others in the step before.
    pub(super) waited: Duration,
}

/// What the images of all ranks have taught.
pub(super) struct Together {
    /// The gradient of the loss of all images; the parts of the loss are this rank's own.
    pub(super) learnt: Backward,
    pub(super) outcome: StepOutcome,
    /// Whether one of the ranks was asked to stop.
    pub(super) wants_to_stop: bool,
    /// How long this rank has waited for others, when it had no more to do.
    pub(super) waited: Duration,
    /// The same of the step before, in the mean over ranks, in seconds.
    pub(super) waited_before: f64,
}

/// Loss and gradient of a step of which each rank has a share of every batch, all as many images. Statistics are taken over each share
/// by itself, as by [`bn_group`](crate::nn::NetworkOptions::bn_group), and `pass` gathers those of the first batch. Rank 0's are those that one
/// process would have.
pub(super) fn backward_on_ranks<B: Borrow<Batch>>(
    network: &ResNet,
    batches: impl ExactSizeIterator<Item = Result<B, RunError>>,
    loss: &Loss,
    pass: &mut Pass,
    cluster: &Cluster,
    said: Said,
) -> Result<Together, RunError> {
    let count = batches.len();
    let begun = pass.clone();
    let (mut weight, mut divisor, mut images) = (0., 0., 0);
    let (mut learnt, mut exchange): (Option<Backward>, _) = (None, None);
    for (number, batch) in batches.enumerate() {
        let batch = batch?;
        let batch = batch.borrow();
        let (targets, of_all) = (batch.into(), cluster.ranks() * batch.len());
        weight += loss.weight_of(targets);
        // All divide by the number of images, before they know what those of the others weigh.
        divisor = (count * of_all) as f64;
        let objective = Objective { loss, targets, weight: divisor };
        let mut own = begun.clone().behind(images + cluster.rank() * batch.len());
        images += of_all;
        let is_last = number + 1 == count;
        let mut parts = Vec::new();
        if is_last {
            let (before, of_before) = learnt.take().map(Backward::split).unzip();
            parts = of_before.unwrap_or_default();
            exchange = Some(GradientExchange::begin(cluster, before));
        }
        let found = backward_of_batch(network, batch, objective, &mut own, &mut exchange)?;
        learnt = Some(match learnt {
            Some(mut learnt) => {
                learnt.add(network, found);
                learnt
            }
            None => found.behind(parts),
        });
        if number == 0 {
            *pass = own;
        }
    }
    let mut learnt = learnt.expect("a step has a batch");
    let StepOutcome { loss, misclassified } = learnt.outcome();
    let waiting = Instant::now();
    let own = [
        loss,
        misclassified as f64,
        weight,
        f64::from(u8::from(said.wants_to_stop)),
        f64::from_bits(said.weights.unwrap_or_default()),
        said.waited.as_secs_f64(),
    ];
    let all = cluster.gather(&own)?;
    if let Some(exchange) = exchange {
        exchange.finish(network, &mut learnt.gradients)?;
    }
    let waited = waiting.elapsed();
    if let Some(rank) = all.iter().position(|other| other[4].to_bits() != all[0][4].to_bits()) {
        return Err(cluster.different("other weights", rank).into());
    }
    let sum = |place: usize| all.iter().fold(0., |sum, numbers| sum + numbers[place]);
    let scale = divisor / sum(2);
    // So it is where images count differently by their class.
    if scale != 1. {
        learnt.scale(network, scale);
    }
    Ok(Together {
        outcome: StepOutcome { loss: scale * sum(0), misclassified: sum(1) as u64 },
        wants_to_stop: sum(3) > 0.,
        learnt,
        waited,
        waited_before: sum(5) / cluster.ranks() as f64,
    })
}

/// A number that follows from the trained values of a network to the bit.
pub(super) fn digest(network: &ResNet) -> u64 {
    let mut digest = Weights(Sha256::new());
    network.visit_named(&mut digest);
    digest.0.finalize().first_chunk().map_or(0, |&first| u64::from_le_bytes(first))
}

struct Weights(Sha256);

impl NamedVisitor for Weights {
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>) {
        if is_trained(&name) {
            let values = values_of(parameter.val()).values;
            self.0.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        }
    }
}

/// What a network reaches on images of which each rank looks at a part. Of the running statistics, which differ from rank to rank, those of
/// rank 0 count. The result is that of one process, to the bit.
pub(super) fn evaluate_on_ranks(
    network: &ResNet,
    images: &Images,
    normalisation: &Normalisation,
    batch: NonZeroUsize,
    engine: Engine,
    cluster: &Cluster,
) -> Result<Evaluation, RunError> {
    let network = with_first_statistics(network.clone(), cluster)?;
    let part = share_of(cluster).range_of(images.len());
    let own = scores(&network, images, part, normalisation, batch, engine)?;
    let numbers: Vec<f64> = own.into_iter().flat_map(Score::to_numbers).collect();
    let all = cluster.gather(&numbers)?.concat();
    Evaluation::of(&all.as_chunks().0.iter().copied().map(Score::from_numbers).collect::<Vec<_>>())
}

/// The network with rank 0's running statistics.
fn with_first_statistics(network: ResNet, cluster: &Cluster) -> Result<ResNet, ClusterError> {
    let mut own = Statistics(Vec::new());
    network.visit_named(&mut own);
    let first = cluster
        .from_first(|| Ok::<_, ClusterError>(own.0.iter().flat_map(|value| value.to_le_bytes()).collect()))?;
    let first = first.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(network.map_named(&mut Statistics(first)))
}

/// Running statistics, in the network's order.
struct Statistics(Vec<f32>);

impl NamedVisitor for Statistics {
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>) {
        if !is_trained(&name) {
            self.0.extend(values_of(parameter.val()).values);
        }
    }
}

impl NamedMapper for Statistics {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if is_trained(&name) {
            return parameter;
        }
        parameter.map(|running| {
            let count: usize = running.dims().iter().product();
            let values: Vec<f32> = self.0.drain(..count).collect();
            Tensor::from_data(TensorData::new(values, running.dims()), &running.device())
        })
    }
}

#[cfg(test)]
mod tests;
