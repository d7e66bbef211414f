//! The gradients of a step on their way through a cluster.

use std::collections::HashMap;
use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor, TensorData};

use crate::cluster::{Cluster, ClusterError, Pending};
use crate::nn::{ResNet, values_of};

/// Gradients that are summed over the ranks of a cluster, a flat bucket after the other, from the head of the network down. A bucket is on
/// its way while the backward pass goes on through the layers in front.
pub(super) struct GradientExchange<'a> {
    cluster: &'a Cluster,
    /// What earlier batches of the step have found, which is added first.
    before: Option<Gradients>,
    buckets: Vec<Bucket>,
}

/// Gradients of some parameters, in order.
struct Bucket {
    lengths: Vec<(ParamId, usize)>,
    sums: Pending<Vec<f32>>,
}

/// Values of a bucket beyond which another is begun: 4 MiB, long to send beside what it takes to begin.
const BUCKET: usize = 1 << 20;

impl<'a> GradientExchange<'a> {
    /// That of the last batch of a step.
    pub(super) fn begin(cluster: &'a Cluster, before: Option<Gradients>) -> Self {
        Self { cluster, before, buckets: Vec::new() }
    }

    /// Takes the gradients of the parameters that `visit` shows, and sends them off.
    pub(super) fn send(&mut self, gradients: &mut Gradients, visit: impl FnOnce(&mut Flat<'_>)) {
        let before = self.before.as_mut();
        let mut flat = Flat { gradients, before, lengths: Vec::new(), values: Vec::new() };
        visit(&mut flat);
        let Flat { lengths, values, .. } = flat;
        if values.is_empty() {
            return;
        }
        if let Some(sums) = self.cluster.sum(values) {
            self.buckets.push(Bucket { lengths, sums });
        }
    }

    /// Waits for what is under way and puts the sums in the place of the gradients that were sent.
    ///
    /// # Errors
    /// When the other ranks cannot be reached.
    pub(super) fn finish(self, network: &ResNet, gradients: &mut Gradients) -> Result<(), ClusterError> {
        let mut sums = HashMap::new();
        for Bucket { lengths, sums: pending } in self.buckets {
            let values = pending.wait()?;
            let mut rest = &values[..];
            for (id, length) in lengths {
                let (own, others) = rest.split_at(length);
                sums.insert(id, own.to_vec());
                rest = others;
            }
        }
        network.visit(&mut PutBack { sums, gradients });
        Ok(())
    }
}

/// The gradients of parameters, one behind the other.
pub(super) struct Flat<'a> {
    gradients: &'a mut Gradients,
    before: Option<&'a mut Gradients>,
    lengths: Vec<(ParamId, usize)>,
    values: Vec<f32>,
}

impl ModuleVisitor for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let (id, parameter) = (parameter.id, parameter.val());
        let before = self.before.as_mut().and_then(|before| parameter.grad_remove(before));
        let gradient = match (before, parameter.grad_remove(self.gradients)) {
            (Some(before), Some(gradient)) => before + gradient,
            (Some(gradient), None) | (None, Some(gradient)) => gradient,
            (None, None) => return,
        };
        let values = values_of(gradient).values;
        self.lengths.push((id, values.len()));
        self.values.extend(values);
    }
}

struct PutBack<'a> {
    sums: HashMap<ParamId, Vec<f32>>,
    gradients: &'a mut Gradients,
}

impl ModuleVisitor for PutBack<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(sums) = self.sums.remove(&parameter.id) else { return };
        let parameter = parameter.val();
        let sums = TensorData::new(sums, parameter.dims());
        parameter.grad_replace(self.gradients, Tensor::from_data(sums, &parameter.device().inner()));
    }
}

/// The units of a network from the `first` on, in pieces whose gradients are sent together: a piece lies in one stage, as nothing that
/// consecutive units share goes beyond one, and ends where it would become too long.
pub(super) fn pieces(network: &ResNet, first: usize) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let (mut number, mut values) = (0, 0);
    for stage in &network.stages {
        let mut begins = true;
        for unit in stage {
            let mut count = Count(0);
            unit.visit(&mut count);
            if number >= first {
                match pieces.last_mut() {
                    Some(piece) if !begins && values + count.0 <= BUCKET => piece.end += 1,
                    _ => {
                        pieces.push(number..number + 1);
                        values = 0;
                    }
                }
                values += count.0;
                begins = false;
            }
            number += 1;
        }
    }
    pieces
}

struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0 += parameter.lazy_shape().iter().product::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::nn::NetworkOptions;

    #[test]
    fn pieces_lie_in_stages_and_are_not_too_long() {
        let pieces = |model: &str, first| {
            let config = NetworkOptions::named(model).resolve(10).unwrap();
            let network = ResNet::init(&config, 1, &Device::flex()).unwrap();
            super::pieces(&network, first)
        };
        assert_eq!(pieces("resnet20", 0), [0..3, 3..6, 6..9]);
        assert_eq!(pieces("resnet20", 4), [4..6, 6..9]);
        assert!(pieces("resnet20", 9).is_empty());
        // Units of 3.7 and 4.7 million values are pieces of their own.
        assert_eq!(pieces("resnet18", 0).last(), Some(&(7..8)));
        let deep = pieces("preresnet1001", 0);
        assert!(deep.len() > 9 && deep.iter().cloned().flatten().eq(0..333), "{deep:?}");
    }
}
