//! One implementation of the extension for every backend with autodiff: it records the operation with the raw
//! feature maps and calls the backend's own backward method.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::extension::{Addend, Norm, NormGradients, ResidualBackend};
use super::{ConvolveOptions, MergeOptions};

impl<B: ResidualBackend, C: CheckpointStrategy> ResidualBackend for Autodiff<B, C> {
    fn moments(x: FloatTensor<Self>, groups: usize) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::moments(x.into_primitive(), groups))
    }

    fn convolve(
        x: FloatTensor<Self>,
        norm: Norm<Self>,
        weight: FloatTensor<Self>,
        addend: Addend<Self>,
        options: ConvolveOptions,
    ) -> FloatTensor<Self> {
        let needs_x = x.is_tracked();
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(norm, &x);
        let (addend, addend_node) = addend_parts::<B, C>(addend, &x);
        let output = B::convolve(x.clone(), norm.clone(), weight.clone(), addend, options);
        match Convolve
            .prepare::<C>([x_node, gamma_node, beta_node, weight_node, addend_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, norm, weight, options, needs_x), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn merge(
        x: FloatTensor<Self>,
        norm: Norm<Self>,
        addend: Addend<Self>,
        options: MergeOptions,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(norm, &x);
        let (addend, addend_node) = addend_parts::<B, C>(addend, &x);
        let output = B::merge(x.clone(), norm.clone(), addend, options);
        match Merge.prepare::<C>([x_node, gamma_node, beta_node, addend_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, norm, output.clone(), options), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Convolve;

impl<B: ResidualBackend> Backward<B, 5> for Convolve {
    type State = (FloatTensor<B>, Norm<B>, FloatTensor<B>, ConvolveOptions, bool);

    fn backward(self, ops: Ops<Self::State, 5>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, gamma_node, beta_node, weight_node, addend_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, norm, weight, options, needs_x) = ops.state;
        if let Some(node) = addend_node {
            gradients.register::<B>(node.id, gradient.clone());
        }
        let result = B::convolve_backward(x, norm, weight, gradient, options, needs_x);
        if let Some(node) = x_node {
            gradients.register::<B>(node.id, result.x);
        }
        if let Some(node) = weight_node {
            gradients.register::<B>(node.id, result.weight);
        }
        if let NormGradients::Present { gamma, beta } = result.norm {
            if let Some(node) = gamma_node {
                gradients.register::<B>(node.id, gamma);
            }
            if let Some(node) = beta_node {
                gradients.register::<B>(node.id, beta);
            }
        }
    }
}

#[derive(Debug)]
struct Merge;

impl<B: ResidualBackend> Backward<B, 4> for Merge {
    type State = (FloatTensor<B>, Norm<B>, FloatTensor<B>, MergeOptions);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, gamma_node, beta_node, addend_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, norm, output, options) = ops.state;
        let result = B::merge_backward(x, norm, output, gradient, options);
        if let Some(node) = x_node {
            gradients.register::<B>(node.id, result.x);
        }
        if let Some(node) = addend_node {
            gradients.register::<B>(node.id, result.addend);
        }
        if let NormGradients::Present { gamma, beta } = result.norm {
            if let Some(node) = gamma_node {
                gradients.register::<B>(node.id, gamma);
            }
            if let Some(node) = beta_node {
                gradients.register::<B>(node.id, beta);
            }
        }
    }
}

type Parts<B, const N: usize> = (B, [NodeGuard; N]);

fn norm_parts<B: ResidualBackend, C: CheckpointStrategy>(
    norm: Norm<Autodiff<B, C>>,
    x: &FloatTensor<B>,
) -> Parts<Norm<B>, 2> {
    match norm {
        Norm::Absent => (Norm::Absent, [untracked::<B, C>(x), untracked::<B, C>(x)]),
        Norm::Present { moments, gamma, beta } => {
            let (gamma, gamma_node) = gamma.into_parts();
            let (beta, beta_node) = beta.into_parts();
            (Norm::Present { moments: moments.into_primitive(), gamma, beta }, [gamma_node, beta_node])
        }
    }
}

fn addend_parts<B: ResidualBackend, C: CheckpointStrategy>(
    addend: Addend<Autodiff<B, C>>,
    x: &FloatTensor<B>,
) -> (Addend<B>, NodeGuard) {
    match addend {
        Addend::Absent => (Addend::Absent, untracked::<B, C>(x)),
        Addend::Present(addend) => {
            let (addend, node) = addend.into_parts();
            (Addend::Present(addend), node)
        }
    }
}

/// The node of an input that is not there: one that takes no gradient. The tensor is any at hand.
fn untracked<B: ResidualBackend, C: CheckpointStrategy>(any: &FloatTensor<B>) -> NodeGuard {
    FloatTensor::<Autodiff<B, C>>::new(any.clone()).into_parts().1
}
