//! A backward pass that begins in the middle of a network, at a tensor whose gradient is known.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as NodeGradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Gradients, Shape, Tensor};

/// The gradients of all that `output` was computed from, given the gradient of `output`.
///
/// `output` must be tracked by autodiff; `gradient` has its shape and is used as it is, to the bit.
pub(crate) fn backward(output: Tensor<4>, gradient: Tensor<4>) -> Gradients {
    let root = Dispatch::root(output.into_dispatch(), gradient.inner().into_dispatch());
    Tensor::<1>::from_dispatch(root).backward()
}

/// An end for an autodiff graph: Burn begins a backward pass at a gradient of ones only.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu")),
)]
pub(crate) trait RootBackend: Backend {
    /// A tensor of one value whose backward pass gives `x` the gradient `gradient`.
    fn root(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        drop(gradient);
        Self::float_zeros(Shape::new([1]), &x.device(), x.dtype().into())
    }
}

impl RootBackend for Flex {}

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
impl RootBackend for burn::backend::Cube {}

impl<B: RootBackend, C: CheckpointStrategy> RootBackend for Autodiff<B, C> {
    fn root(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let gradient = gradient.into_primitive();
        let output = B::root(x, gradient.clone());
        match Root.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct Root;

impl<B: RootBackend> Backward<B, 1> for Root {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut NodeGradients, _: &mut Checkpointer) {
        // The root's own gradient, a one, is not needed.
        drop(gradients.consume::<B>(&ops.node));
        if let [Some(node)] = ops.parents {
            gradients.register::<B>(node.id, ops.state);
        }
    }
}
