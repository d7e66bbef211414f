//! One implementation of the extension for every backend with autodiff: it records the operation with the raw
//! feature maps and calls the backend's own backward method.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::extension::{Convolved, Norm, NormGradients, Optional, ResidualBackend, Tracked};
use super::unit::{
    Branch, InnerGradients, InnerLayer, InnerMap, InnerMaps, Rest, RestGradients, Skip, UnitOptions,
    UnitOutput,
};
use super::{ConvolveOptions, MergeOptions, PoolOptions, TrackOptions};

impl<B: ResidualBackend, C: CheckpointStrategy> ResidualBackend for Autodiff<B, C> {
    fn moments(x: FloatTensor<Self>, groups: usize) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::moments(x.into_primitive(), groups))
    }

    fn track(
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        options: TrackOptions,
    ) -> Tracked<Self> {
        let [mean, variance, moments] = [mean, variance, moments].map(FloatTensor::<Self>::into_primitive);
        let Tracked { mean, variance } = B::track(mean, variance, moments, options);
        Tracked { mean: FloatTensor::<Self>::new(mean), variance: FloatTensor::<Self>::new(variance) }
    }

    fn convolve(
        x: FloatTensor<Self>,
        norm: Norm<Self>,
        weight: FloatTensor<Self>,
        addend: Optional<Self>,
        options: ConvolveOptions,
    ) -> Convolved<Self> {
        let needs_x = x.is_tracked();
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(norm, &x);
        let (addend, addend_node) = optional_parts::<B, C>(addend, &x);
        let Convolved { y: output, moments } =
            B::convolve(x.clone(), norm.clone(), weight.clone(), addend, options);
        let y = match Convolve
            .prepare::<C>([x_node, gamma_node, beta_node, weight_node, addend_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, norm, weight, options, needs_x), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        Convolved { y, moments: constant(moments) }
    }

    fn merge(
        x: FloatTensor<Self>,
        norm: Norm<Self>,
        addend: Optional<Self>,
        options: MergeOptions,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(norm, &x);
        let (addend, addend_node) = optional_parts::<B, C>(addend, &x);
        let output = B::merge(x.clone(), norm.clone(), addend, options);
        match Merge.prepare::<C>([x_node, gamma_node, beta_node, addend_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, norm, output.clone(), options), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn pool(x: FloatTensor<Self>, norm: Norm<Self>, options: PoolOptions) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(norm, &x);
        let output = B::pool(x.clone(), norm.clone(), options);
        match Pool.prepare::<C>([x_node, gamma_node, beta_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, norm, options), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn unit(
        x: FloatTensor<Self>,
        branch: Branch<Self>,
        skip: Skip<Self>,
        options: UnitOptions,
    ) -> UnitOutput<Self> {
        let (x, x_node) = x.into_parts();
        let (norm, [gamma_node, beta_node]) = norm_parts::<B, C>(branch.norm, &x);
        let (weight, weight_node) = branch.weight.into_parts();
        let (rest, [first, second]) = rest_parts::<B, C>(branch.rest, &x);
        let (skip, projection_node) = match skip {
            Skip::Identity => (Skip::Identity, untracked::<B, C>(&x)),
            Skip::Projection(weight) => {
                let (weight, node) = weight.into_parts();
                (Skip::Projection(weight), node)
            }
        };
        let branch = Branch { norm, weight, rest };
        let UnitOutput { y, moments, inner } = B::unit(x.clone(), branch.clone(), skip.clone(), options);
        // What the unit returns says what it has normalised with; the maps themselves stay in the graph.
        let bare = |map: &InnerMap<B>| InnerMap {
            values: Optional::Absent,
            moments: FloatTensor::<Self>::new(map.moments.clone()),
        };
        let bare_inner = match &inner {
            InnerMaps::None => InnerMaps::None,
            InnerMaps::One(only) => InnerMaps::One(bare(only)),
            InnerMaps::Two(first, second) => InnerMaps::Two(bare(first), bare(second)),
        };
        let [[gamma_1, beta_1, weight_1], [gamma_2, beta_2, weight_2]] = [first, second];
        let nodes = [
            x_node,
            gamma_node,
            beta_node,
            weight_node,
            gamma_1,
            beta_1,
            weight_1,
            gamma_2,
            beta_2,
            weight_2,
            projection_node,
        ];
        let y = match Unit.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, branch, skip, inner, options), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        UnitOutput { y, moments: constant(moments), inner: bare_inner }
    }
}

#[derive(Debug)]
struct Convolve;

impl<B: ResidualBackend> Backward<B, 5> for Convolve {
    type State = (FloatTensor<B>, Norm<B>, FloatTensor<B>, ConvolveOptions, bool);

    fn backward(self, ops: Ops<Self::State, 5>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, norm, weight, options, needs_x) = ops.state;
        let addend = gradient.clone();
        let result = B::convolve_backward(x, norm, weight, gradient, options, needs_x);
        let (gamma, beta) = split(result.norm);
        let found = [Some(result.x), gamma, beta, Some(result.weight), Some(addend)];
        register::<B, 5>(ops.parents.map(|parent| parent.map(|node| node.id)), found, gradients);
    }
}

#[derive(Debug)]
struct Merge;

impl<B: ResidualBackend> Backward<B, 4> for Merge {
    type State = (FloatTensor<B>, Norm<B>, FloatTensor<B>, MergeOptions);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, norm, output, options) = ops.state;
        let result = B::merge_backward(x, norm, output, gradient, options);
        let (gamma, beta) = split(result.norm);
        register::<B, 4>(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [Some(result.x), gamma, beta, Some(result.addend)],
            gradients,
        );
    }
}

#[derive(Debug)]
struct Pool;

impl<B: ResidualBackend> Backward<B, 3> for Pool {
    type State = (FloatTensor<B>, Norm<B>, PoolOptions);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, norm, options) = ops.state;
        let result = B::pool_backward(x, norm, gradient, options);
        let (gamma, beta) = split(result.norm);
        register::<B, 3>(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [Some(result.x), gamma, beta],
            gradients,
        );
    }
}

#[derive(Debug)]
struct Unit;

impl<B: ResidualBackend> Backward<B, 11> for Unit {
    type State = (FloatTensor<B>, Branch<B>, Skip<B>, InnerMaps<B>, UnitOptions);

    fn backward(self, ops: Ops<Self::State, 11>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, branch, skip, inner, options) = ops.state;
        let result = B::unit_backward(x, branch, skip, inner, gradient, options);
        let (gamma, beta) = split(result.norm);
        let (first, second) = match result.rest {
            RestGradients::None => (None, None),
            RestGradients::One(only) => (Some(only), None),
            RestGradients::Two(first, second) => (Some(first), Some(second)),
        };
        let projection = match result.projection {
            Optional::Absent => None,
            Optional::Present(projection) => Some(projection),
        };
        let of_layer = |layer: Option<InnerGradients<B>>| match layer {
            None => [None, None, None],
            Some(layer) => [Some(layer.gamma), Some(layer.beta), Some(layer.weight)],
        };
        let ([gamma_1, beta_1, weight_1], [gamma_2, beta_2, weight_2]) = (of_layer(first), of_layer(second));
        let found = [
            Some(result.x),
            gamma,
            beta,
            Some(result.weight),
            gamma_1,
            beta_1,
            weight_1,
            gamma_2,
            beta_2,
            weight_2,
            projection,
        ];
        register::<B, 11>(ops.parents.map(|parent| parent.map(|node| node.id)), found, gradients);
    }
}

/// The gradients of gamma and beta.
fn split<B: ResidualBackend>(norm: NormGradients<B>) -> (Option<FloatTensor<B>>, Option<FloatTensor<B>>) {
    match norm {
        NormGradients::Absent => (None, None),
        NormGradients::Present { gamma, beta } => (Some(gamma), Some(beta)),
    }
}

/// Hands the gradients that were found to the parents that take one.
fn register<B: ResidualBackend, const N: usize>(
    parents: [Option<NodeId>; N],
    found: [Option<FloatTensor<B>>; N],
    gradients: &mut Gradients,
) {
    for (node, gradient) in parents.into_iter().zip(found) {
        if let (Some(node), Some(gradient)) = (node, gradient) {
            gradients.register::<B>(node, gradient);
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

fn optional_parts<B: ResidualBackend, C: CheckpointStrategy>(
    addend: Optional<Autodiff<B, C>>,
    x: &FloatTensor<B>,
) -> (Optional<B>, NodeGuard) {
    match addend {
        Optional::Absent => (Optional::Absent, untracked::<B, C>(x)),
        Optional::Present(addend) => {
            let (addend, node) = addend.into_parts();
            (Optional::Present(addend), node)
        }
    }
}

fn rest_parts<B: ResidualBackend, C: CheckpointStrategy>(
    rest: Rest<Autodiff<B, C>>,
    x: &FloatTensor<B>,
) -> (Rest<B>, [[NodeGuard; 3]; 2]) {
    let parts = |layer: InnerLayer<Autodiff<B, C>>| {
        let moments = match layer.moments {
            Optional::Absent => Optional::Absent,
            Optional::Present(moments) => Optional::Present(moments.into_primitive()),
        };
        let (gamma, gamma_node) = layer.gamma.into_parts();
        let (beta, beta_node) = layer.beta.into_parts();
        let (weight, weight_node) = layer.weight.into_parts();
        (InnerLayer { moments, gamma, beta, weight }, [gamma_node, beta_node, weight_node])
    };
    let absent = || std::array::from_fn(|_| untracked::<B, C>(x));
    match rest {
        Rest::None => (Rest::None, [absent(), absent()]),
        Rest::One(only) => {
            let (only, nodes) = parts(only);
            (Rest::One(only), [nodes, absent()])
        }
        Rest::Two(first, second) => {
            let ((first, first_nodes), (second, second_nodes)) = (parts(first), parts(second));
            (Rest::Two(first, second), [first_nodes, second_nodes])
        }
    }
}

/// A tensor that autodiff does not look behind.
fn constant<B: ResidualBackend, C: CheckpointStrategy>(tensor: Optional<B>) -> Optional<Autodiff<B, C>> {
    match tensor {
        Optional::Absent => Optional::Absent,
        Optional::Present(tensor) => Optional::Present(FloatTensor::<Autodiff<B, C>>::new(tensor)),
    }
}

/// The node of an input that is not there: one that takes no gradient. The tensor is any at hand.
fn untracked<B: ResidualBackend, C: CheckpointStrategy>(any: &FloatTensor<B>) -> NodeGuard {
    FloatTensor::<Autodiff<B, C>>::new(any.clone()).into_parts().1
}
