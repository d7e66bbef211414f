//! The operations composed of a backend's own, forward and backward: default bodies of the extension, and (forward,
//! differentiated by Burn) the reference.

use burn::backend::ops::ConvOptions;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{DType, FloatDType, Shape, Slice, TensorData};
use burn_std::reader::try_read_sync;

use super::extension::ResidualBackend;
use super::operands::{
    Addend, ConvolveGradients, Convolved, GateGradients, MergeGradients, Norm, NormGradients, Optional,
    PoolGradients, RunningStatistics, Stepped,
};
use super::{
    ConvolveOptions, EPSILON, MergeOptions, MomentsSource, PoolOptions, Pooling, RunningStatisticsOptions,
    SgdOptions,
};
use crate::cluster::{Cluster, Pending};

/// Two passes over the centred map: the mean is corrected by the mean of what is left, and the variance by its
/// square, so that a mean of 1000 deviations costs no digits.
pub(super) fn moments<B: Backend>(x: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let x = grouped::<B>(x, groups);
    let mean = B::float_mean_dim(x.clone(), 1);
    let centred = B::float_sub(x, mean.clone());
    let rest = B::float_mean_dim(centred.clone(), 1);
    let square = B::float_mean_dim(B::float_mul(centred.clone(), centred), 1);
    let variance = B::float_sub(square, B::float_mul(rest.clone(), rest.clone()));
    B::float_cat(vec![B::float_add(mean, rest), variance], 1)
}

/// The moments of a batch of which each rank has a part of the same size, `[1, 2, channels]`: the same two passes.
pub(super) fn moments_over_ranks<B: ResidualBackend>(x: FloatTensor<B>, cluster: &Cluster) -> FloatTensor<B> {
    let x = grouped::<B>(x, 1);
    let mean_of_all = |x: FloatTensor<B>| {
        let sum = B::sum_over_ranks(B::float_mean_dim(x, 1), cluster.clone());
        B::float_mul_scalar(sum, (1. / cluster.ranks() as f64).into())
    };
    let mean = mean_of_all(x.clone());
    let centred = B::float_sub(x, mean.clone());
    let rest = mean_of_all(centred.clone());
    let square = mean_of_all(B::float_mul(centred.clone(), centred));
    let variance = B::float_sub(square, B::float_mul(rest.clone(), rest.clone()));
    B::float_cat(vec![B::float_add(mean, rest), variance], 1)
}

pub(super) fn sum_over_ranks<B: Backend>(x: FloatTensor<B>, cluster: &Cluster) -> FloatTensor<B> {
    let (shape, device) = (x.shape(), x.device());
    let Some(Ok(own)) = try_read_sync(B::float_into_data(x.clone())) else { return x };
    let Ok(values) = own.convert::<f32>().try_into_vec::<f32>() else { return x };
    // Where the others are gone, the exchange at the end of the step says so.
    let Some(Ok(sums)) = cluster.sum(values).map(Pending::wait) else { return x };
    B::float_from_data(TensorData::new(sums, shape), &device)
}

/// A map that may be stored in bfloat16, in f32.
pub(super) fn widened<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::BF16 { B::float_cast(x, FloatDType::F32) } else { x }
}

pub(super) fn convolve<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    weight: FloatTensor<B>,
    addend: Optional<B>,
    options: ConvolveOptions,
) -> Convolved<B> {
    let x = widened::<B>(x);
    let x = match options.is_activated {
        true => B::relu(normalise::<B>(x, &norm)),
        false => normalise::<B>(x, &norm),
    };
    let mut y = convolution::<B>(x, weight, options.stride);
    if let Optional::Present(addend) = addend {
        y = B::float_add(y, widened::<B>(addend));
    }
    if options.is_rounded {
        y = B::float_cast(y, FloatDType::BF16);
    }
    let moments = match options.groups {
        None => Optional::Absent,
        Some(groups) => Optional::Present(moments::<B>(widened::<B>(y.clone()), groups)),
    };
    Convolved { y, moments }
}

pub(super) fn convolve_backward<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    options: ConvolveOptions,
    needs_x: bool,
) -> ConvolveGradients<B> {
    let x = widened::<B>(x);
    let normalised = normalise::<B>(x.clone(), &norm);
    let input = match options.is_activated {
        true => B::relu(normalised.clone()),
        false => normalised.clone(),
    };
    let weight_gradient =
        convolution_weight_gradient::<B>(input.clone(), weight.clone(), gradient.clone(), options.stride);
    if !needs_x && matches!(norm, Norm::Absent) {
        return ConvolveGradients { x, norm: NormGradients::Absent, weight: weight_gradient };
    }
    let gradient = convolution_data_gradient::<B>(input, weight, gradient, options.stride);
    let gradient = match options.is_activated {
        true => masked::<B>(gradient, normalised),
        false => gradient,
    };
    let (x, norm) = normalise_backward::<B>(x, norm, gradient, options.source);
    ConvolveGradients { x, norm, weight: weight_gradient }
}

pub(super) fn merge<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    addend: Addend<B>,
    options: MergeOptions,
) -> FloatTensor<B> {
    let u = merged_input::<B>(widened::<B>(x), &norm, options);
    let y = match addend {
        Addend::Absent => u,
        Addend::Plain(values) => B::float_add(u, widened::<B>(values)),
        Addend::Scaled { values, shortcut, residual } => B::float_add(
            B::float_mul_scalar(u, residual.into()),
            B::float_mul_scalar(values, shortcut.into()),
        ),
        Addend::Gated { values, logits, bias, is_exclusive } => {
            let g = gate::<B>(logits, bias);
            let closed = B::float_add_scalar(B::float_neg(g.clone()), 1.into());
            let u = if is_exclusive { B::float_mul(u, g) } else { u };
            B::float_add(u, B::float_mul(values, closed))
        }
        Addend::Masked { values, mask } => B::float_add(u, B::float_mul(values, mask)),
    };
    if options.is_activated_after { B::relu(y) } else { y }
}

/// `relu(norm(x))`, the first term of a merge.
fn merged_input<B: Backend>(x: FloatTensor<B>, norm: &Norm<B>, options: MergeOptions) -> FloatTensor<B> {
    let x = normalise::<B>(x, norm);
    if options.is_activated_before { B::relu(x) } else { x }
}

/// `sigmoid(logits + bias)`
fn gate<B: Backend>(logits: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let [channels] = bias.shape().dims();
    let bias = B::float_reshape(bias, Shape::new([1, 1, 1, channels]));
    B::sigmoid(B::float_add(logits, bias))
}

pub(super) fn merge_backward<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    addend: Addend<B>,
    output: FloatTensor<B>,
    gradient: FloatTensor<B>,
    options: MergeOptions,
) -> MergeGradients<B> {
    let x = widened::<B>(x);
    let of_sum = match options.is_activated_after {
        true => masked::<B>(gradient, output),
        false => gradient,
    };
    let mut gate_gradients = GateGradients::Absent;
    // Of the two terms.
    let (of_input, of_values) = match addend {
        Addend::Absent | Addend::Plain(_) => (of_sum.clone(), of_sum),
        Addend::Scaled { shortcut, residual, .. } => (
            B::float_mul_scalar(of_sum.clone(), residual.into()),
            B::float_mul_scalar(of_sum, shortcut.into()),
        ),
        Addend::Gated { values, logits, bias, is_exclusive } => {
            let channels = bias.shape();
            let g = gate::<B>(logits, bias);
            let closed = B::float_add_scalar(B::float_neg(g.clone()), 1.into());
            let difference = match is_exclusive {
                true => B::float_sub(merged_input::<B>(x.clone(), &norm, options), values),
                false => B::float_neg(values),
            };
            let slope = B::float_mul(g.clone(), closed.clone());
            let of_logits = B::float_mul(B::float_mul(of_sum.clone(), difference), slope);
            let of_bias = (0..3).fold(of_logits.clone(), |sum, dimension| B::float_sum_dim(sum, dimension));
            gate_gradients =
                GateGradients::Present { logits: of_logits, bias: B::float_reshape(of_bias, channels) };
            let of_input = if is_exclusive { B::float_mul(of_sum.clone(), g) } else { of_sum.clone() };
            (of_input, B::float_mul(of_sum, closed))
        }
        Addend::Masked { mask, .. } => (of_sum.clone(), B::float_mul(of_sum, mask)),
    };
    let gradient = match options.is_activated_before {
        true => masked::<B>(of_input, normalise::<B>(x.clone(), &norm)),
        false => of_input,
    };
    let (x, norm) = normalise_backward::<B>(x, norm, gradient, options.source);
    MergeGradients { x, norm, addend: of_values, gate: gate_gradients }
}

/// The mean over the pixels of each image, or the maximum over windows.
pub(super) fn pool<B: Backend>(x: FloatTensor<B>, norm: Norm<B>, options: PoolOptions) -> FloatTensor<B> {
    let x = merge::<B>(x, norm, Addend::Absent, options.merge());
    let [batch, height, width, channels] = x.shape().dims();
    match options.pooling {
        Pooling::Mean => {
            let x = B::float_reshape(x, Shape::new([batch, height * width, channels]));
            B::float_reshape(B::float_mean_dim(x, 1), Shape::new([batch, channels]))
        }
        Pooling::Maximum => {
            let [size, stride, padding] = WINDOWS;
            let maxima = B::max_pool2d(channels_second::<B>(x), size, stride, padding, [1, 1], false);
            channels_last::<B>(maxima)
        }
    }
}

/// Height and width of a window of maxima, the distance of windows, and the padding.
const WINDOWS: [[usize; 2]; 3] = [[3, 3], [2, 2], [1, 1]];

pub(super) fn pool_backward<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    gradient: FloatTensor<B>,
    options: PoolOptions,
) -> PoolGradients<B> {
    let gradient = match options.pooling {
        Pooling::Mean => {
            let [batch, height, width, channels] = x.shape().dims();
            let gradient = B::float_mul_scalar(gradient, (1. / (height * width) as f64).into());
            let gradient = B::float_reshape(gradient, Shape::new([batch, 1, 1, channels]));
            B::float_expand(gradient, x.shape())
        }
        Pooling::Maximum => {
            let merged = merge::<B>(x.clone(), norm.clone(), Addend::Absent, options.merge());
            maxima_backward::<B>(merged, gradient)
        }
    };
    // Without a ReLU behind the addition the output is not looked at.
    let found = merge_backward::<B>(x.clone(), norm, Addend::Absent, x, gradient, options.merge());
    PoolGradients { x: found.x, norm: found.norm }
}

/// The gradient of what maxima over windows are taken of.
fn maxima_backward<B: Backend>(x: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let [size, stride, padding] = WINDOWS;
    let int_dtype = get_or_init_device_settings::<B>(&x.device()).int_dtype;
    let x = channels_second::<B>(x);
    let maxima = B::max_pool2d_with_indices(x.clone(), size, stride, padding, [1, 1], false, int_dtype);
    let (gradient, indices) = (channels_second::<B>(gradient), maxima.indices);
    let found =
        B::max_pool2d_with_indices_backward(x, size, stride, padding, [1, 1], false, gradient, indices);
    channels_last::<B>(found.x_grad)
}

/// Every `stride`-th pixel, with channels of zeros appended.
pub(super) fn subsample<B: Backend>(x: FloatTensor<B>, stride: usize, outputs: usize) -> FloatTensor<B> {
    let (device, dtype) = (x.device(), x.dtype());
    let x = every::<B>(x, stride);
    let [batch, height, width, inputs] = x.shape().dims();
    if inputs == outputs {
        return x;
    }
    let zeros = B::float_zeros(Shape::new([batch, height, width, outputs - inputs]), &device, dtype.into());
    B::float_cat(vec![x, zeros], 3)
}

pub(super) fn subsample_backward<B: Backend>(
    gradient: FloatTensor<B>,
    stride: usize,
    [height, width, inputs]: [usize; 3],
) -> FloatTensor<B> {
    let [batch, rows, columns, outputs] = gradient.shape().dims();
    let mut at_pixels = gradient;
    if inputs < outputs {
        at_pixels = B::float_slice(at_pixels, &[0..batch, 0..rows, 0..columns, 0..inputs].map(Slice::from));
    }
    if stride == 1 {
        return at_pixels;
    }
    let shape = Shape::new([batch, height, width, inputs]);
    let zeros = B::float_zeros(shape.clone(), &at_pixels.device(), at_pixels.dtype().into());
    B::float_slice_assign(zeros, &strided(&shape, stride), at_pixels)
}

pub(super) fn update_running_statistics<B: Backend>(
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    moments: FloatTensor<B>,
    options: RunningStatisticsOptions,
) -> RunningStatistics<B> {
    let RunningStatisticsOptions { momentum, correction } = options;
    let moments = B::float_detach(moments);
    let row = |row: usize| {
        let [_, _, channels] = moments.shape().dims();
        let row = B::float_slice(moments.clone(), &[0..1, row..row + 1, 0..channels].map(Slice::from));
        B::float_reshape(row, Shape::new([channels]))
    };
    let moved = |running: FloatTensor<B>, observed: FloatTensor<B>| {
        let kept = B::float_mul_scalar(running, (1. - momentum).into());
        B::float_add(kept, B::float_mul_scalar(observed, momentum.into()))
    };
    let unbiased = B::float_mul_scalar(row(1), correction.into());
    RunningStatistics { mean: moved(mean, row(0)), variance: moved(variance, unbiased) }
}

pub(super) fn sgd_step<B: Backend>(
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    momentum: Optional<B>,
    options: SgdOptions,
) -> Stepped<B> {
    let shape = weight.shape();
    let flat = Shape::new([shape.num_elements()]);
    let mut direction = gradient;
    if options.weight_decay != 0. {
        let decay = B::float_mul_scalar(weight.clone(), options.weight_decay.into());
        direction = B::float_add(direction, decay);
    }
    let mut buffer = Optional::Absent;
    if options.momentum != 0. {
        let mut velocity = B::float_reshape(direction.clone(), flat);
        if let Optional::Present(momentum) = momentum {
            velocity = B::float_add(B::float_mul_scalar(momentum, options.momentum.into()), velocity);
        }
        buffer = Optional::Present(velocity.clone());
        let velocity = B::float_reshape(velocity, shape);
        direction = match options.is_nesterov {
            true => B::float_add(direction, B::float_mul_scalar(velocity, options.momentum.into())),
            false => velocity,
        };
    }
    let step = B::float_mul_scalar(direction, options.learning_rate.into());
    Stepped { weight: B::float_sub(weight, step), momentum: buffer }
}

/// `[batch, height, width, channels]` as `[groups, pixels, channels]`.
fn grouped<B: Backend>(x: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    B::float_reshape(x, Shape::new([groups, batch / groups * height * width, channels]))
}

/// Mean and `1 / sqrt(variance + EPSILON)`, each `[groups, 1, channels]`.
fn mean_and_scale<B: Backend>(moments: &FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let [groups, _, channels] = moments.shape().dims();
    let row = |row: usize| {
        let slices = [0..groups, row..row + 1, 0..channels].map(Slice::from);
        B::float_slice(moments.clone(), &slices)
    };
    let variance = B::float_add_scalar(row(1), EPSILON.into());
    (row(0), B::float_recip(B::float_sqrt(variance)))
}

/// `[channels]` as `[1, 1, channels]`.
fn per_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let [channels] = values.shape().dims();
    B::float_reshape(values, Shape::new([1, 1, channels]))
}

fn normalise<B: Backend>(x: FloatTensor<B>, norm: &Norm<B>) -> FloatTensor<B> {
    let Norm::Present { moments, gamma, beta } = norm else { return x };
    let shape = x.shape();
    let (mean, scale) = mean_and_scale::<B>(moments);
    let scale = B::float_mul(scale, per_channel::<B>(gamma.clone()));
    let x = grouped::<B>(x, mean.shape()[0]);
    // Centred first: folding the mean into the shift would cancel digits where it is large.
    let y = B::float_add(B::float_mul(B::float_sub(x, mean), scale), per_channel::<B>(beta.clone()));
    B::float_reshape(y, shape)
}

/// Gradients of `gamma * n + beta` with `n = (x - mean) / sqrt(variance + EPSILON)`, over groups of `m` pixels:
/// `d gamma = sum(g n)`, `d beta = sum(g)`, `d x = gamma / sqrt(...) * (g - sum(g) / m - n * sum(g n) / m)`; the two
/// sums are missing from `d x` where the moments are running ones.
fn normalise_backward<B: Backend>(
    x: FloatTensor<B>,
    norm: Norm<B>,
    gradient: FloatTensor<B>,
    source: MomentsSource,
) -> (FloatTensor<B>, NormGradients<B>) {
    let Norm::Present { moments, gamma, .. } = norm else { return (gradient, NormGradients::Absent) };
    let shape = x.shape();
    let channels = Shape::new([shape[3]]);
    let (mean, scale) = mean_and_scale::<B>(&moments);
    let groups = mean.shape()[0];
    let normalised = B::float_mul(B::float_sub(grouped::<B>(x, groups), mean), scale.clone());
    let gradient = grouped::<B>(gradient, groups);
    let pixels = gradient.shape()[1];
    let sum = B::float_sum_dim(gradient.clone(), 1);
    let product_sum = B::float_sum_dim(B::float_mul(gradient.clone(), normalised.clone()), 1);
    let over_groups = |sums: FloatTensor<B>| B::float_reshape(B::float_sum_dim(sums, 0), channels.clone());
    let gradients =
        NormGradients::Present { gamma: over_groups(product_sum.clone()), beta: over_groups(sum.clone()) };
    let centred = match source {
        MomentsSource::Running => gradient,
        MomentsSource::Batch => {
            let per_pixel = 1.0 / pixels as f64;
            let mean_gradient = B::float_mul_scalar(sum, per_pixel.into());
            let mean_product = B::float_mul_scalar(product_sum, per_pixel.into());
            B::float_sub(B::float_sub(gradient, mean_gradient), B::float_mul(normalised, mean_product))
        }
    };
    let x = B::float_mul(centred, B::float_mul(scale, per_channel::<B>(gamma)));
    (B::float_reshape(x, shape), gradients)
}

/// The gradient where `value` is above zero; ReLU's gradient at zero is zero, as in PyTorch.
fn masked<B: Backend>(gradient: FloatTensor<B>, value: FloatTensor<B>) -> FloatTensor<B> {
    let bool_dtype = get_or_init_device_settings::<B>(&value.device()).bool_dtype;
    let is_off = B::float_lower_equal_elem(value, 0f32.into(), bool_dtype);
    B::float_mask_fill(gradient, is_off, 0f32.into())
}

/// A 1x1 convolution is a matrix product over pixels; others go through Burn's, which takes channels second.
fn convolution<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, stride: usize) -> FloatTensor<B> {
    let [outputs, inputs, size, _] = weight.shape().dims();
    if size == 1 {
        let x = every::<B>(x, stride);
        let [batch, height, width, _] = x.shape().dims();
        let weight = B::float_reshape(weight, Shape::new([outputs, inputs]));
        let y = B::float_matmul(as_rows::<B>(x), B::float_transpose(weight));
        return B::float_reshape(y, Shape::new([batch, height, width, outputs]));
    }
    let y = B::conv2d(channels_second::<B>(x), weight, None, conv_options(size, stride));
    channels_last::<B>(y)
}

fn convolution_data_gradient<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    stride: usize,
) -> FloatTensor<B> {
    let [outputs, inputs, size, _] = weight.shape().dims();
    if size > 1 {
        let (x, gradient) = (channels_second::<B>(x), channels_second::<B>(gradient));
        return channels_last::<B>(B::conv2d_x_backward(x, weight, gradient, conv_options(size, stride)));
    }
    let [batch, height, width, _] = gradient.shape().dims();
    let weight = B::float_reshape(weight, Shape::new([outputs, inputs]));
    let at_outputs = B::float_matmul(as_rows::<B>(gradient), weight);
    let at_outputs = B::float_reshape(at_outputs, Shape::new([batch, height, width, inputs]));
    if stride == 1 {
        return at_outputs;
    }
    let zeros = B::float_zeros(x.shape(), &x.device(), x.dtype().into());
    B::float_slice_assign(zeros, &strided(&x.shape(), stride), at_outputs)
}

fn convolution_weight_gradient<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    stride: usize,
) -> FloatTensor<B> {
    let [_, _, size, _] = weight.shape().dims();
    if size > 1 {
        let (x, gradient) = (channels_second::<B>(x), channels_second::<B>(gradient));
        return B::conv2d_weight_backward(x, weight, gradient, conv_options(size, stride));
    }
    let x = as_rows::<B>(every::<B>(x, stride));
    let gradient = B::float_matmul(B::float_transpose(as_rows::<B>(gradient)), x);
    B::float_reshape(gradient, weight.shape())
}

fn conv_options(size: usize, stride: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [size / 2; 2], [1; 2], 1)
}

fn as_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    B::float_reshape(x, Shape::new([batch * height * width, channels]))
}

fn channels_second<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(x, &[0, 3, 1, 2])
}

/// The permuted map, written out: reshaping a view to rows copies it, and later operations stay on contiguous data.
fn channels_last<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let x = B::float_permute(x, &[0, 2, 3, 1]);
    let shape = x.shape();
    B::float_reshape(as_rows::<B>(x), shape)
}

/// Every `stride`-th pixel.
fn every<B: Backend>(x: FloatTensor<B>, stride: usize) -> FloatTensor<B> {
    match stride {
        1 => x,
        _ => B::float_slice(x.clone(), &strided(&x.shape(), stride)),
    }
}

fn strided(shape: &Shape, stride: usize) -> [Slice; 4] {
    let slice = |axis: usize, step: usize| Slice::new(0, Some(shape[axis] as isize), step as isize);
    [slice(0, 1), slice(1, stride), slice(2, stride), slice(3, 1)]
}
