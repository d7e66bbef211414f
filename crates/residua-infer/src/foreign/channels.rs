//! The order of channels where others have option A's zeros half in front and half behind.

use crate::network::{NamedTensors, TensorValues};

/// For each stage of a CIFAR network, where each of our channels stands there. Ours are appended: those of the stage before,
/// then the zeros; there, a half of the zeros, those of the stage before, the other half.
fn orders(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = Vec::new();
    for &width in widths {
        let order = match orders.last() {
            None => (0..width).collect(),
            Some(before) => {
                let front = (width - before.len()) / 2;
                let behind = front + before.len();
                let carried = before.iter().map(|channel| front + channel);
                carried.chain(0..front).chain(behind..width).collect()
            }
        };
        orders.push(order);
    }
    orders
}

/// Which way tensors are brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From zeros on both sides to zeros appended.
    In,
    /// Back.
    Out,
}

/// Brings all tensors of a CIFAR network of basic units, by our names, into the other order of channels. It is the same network:
/// what a stage puts out has its channels in another order, and what reads it reads them so.
pub(super) fn reorder(tensors: &mut NamedTensors, widths: &[usize], direction: Direction) {
    let orders = orders(widths);
    for (name, tensor) in tensors {
        let parts: Vec<&str> = name.split('.').collect();
        let (outputs, inputs) = match parts.as_slice() {
            ["stages", stage, unit, layer, _] => {
                let Ok(stage) = stage.parse::<usize>() else { continue };
                let before = if *unit == "0" { stage.checked_sub(1) } else { Some(stage) };
                match *layer {
                    "conv1" => (None, before),
                    "conv2" | "norm2" => (Some(stage), None),
                    _ => (None, None),
                }
            }
            ["classifier", "weight"] => (None, widths.len().checked_sub(1)),
            _ => (None, None),
        };
        for (axis, stage) in [(0, outputs), (1, inputs)] {
            if let Some(order) = stage.and_then(|stage| orders.get(stage)) {
                permute(tensor, axis, order, direction);
            }
        }
    }
}

/// Brings the slices of a tensor along an axis into another order.
fn permute(tensor: &mut TensorValues, axis: usize, order: &[usize], direction: Direction) {
    let length = tensor.shape[axis];
    let inner: usize = tensor.shape[axis + 1..].iter().product();
    let old = tensor.values.clone();
    for (slab, old) in tensor.values.chunks_exact_mut(length * inner).zip(old.chunks_exact(length * inner)) {
        for (ours, &theirs) in order.iter().enumerate() {
            let (to, from) = match direction {
                Direction::In => (ours, theirs),
                Direction::Out => (theirs, ours),
            };
            slab[to * inner..][..inner].copy_from_slice(&old[from * inner..][..inner]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_every_stage_are_moved_behind() {
        let orders = orders(&[2, 4, 8]);
        assert_eq!(orders, [vec![0, 1], vec![1, 2, 0, 3], vec![3, 4, 2, 5, 0, 1, 6, 7]]);
    }

    #[test]
    fn there_and_back_is_the_identity() {
        let values: Vec<f32> = (0..48).map(|value| value as f32).collect();
        let before = TensorValues { shape: vec![3, 8, 2], values };
        let mut tensor = before.clone();
        let order = &orders(&[2, 4, 8])[2];
        permute(&mut tensor, 1, order, Direction::In);
        assert_eq!(tensor.values[..4], [6., 7., 8., 9.]);
        permute(&mut tensor, 1, order, Direction::Out);
        assert_eq!(tensor, before);
    }
}
