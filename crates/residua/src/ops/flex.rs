//! The operations on the CPU: the kernels of `residua_kernels` on Flex's tensors.
//!
//! The kernels compute in f32; where weights are of another type the composed operations run. Feature maps may be
//! stored in bfloat16.

mod layer;
mod merge;
mod seam;
mod tensors;
mod unit;

use burn::backend::Flex;
use burn_flex::FlexTensor;
use burn_std::DType;
use rayon::prelude::*;
use residua_kernels::{
    AveragePool, InputGradient, Instructions, MapShape, MaxPool, OutputGradient, Subsampling, TrainedTensor,
    ValuesMut,
};

pub(crate) use self::layer::workspace_bytes;
use super::composed;
use super::extension::ResidualBackend;
use super::memory::{Buffer, IntoTensor};
use super::operands::{
    Addend, ConvolveGradients, Convolved, MergeGradients, Norm, NormGradients, Optional, PoolGradients,
    RunningStatistics, Stepped,
};
use super::unit::{Branch, Seams, Skip, UnitGradients, UnitMaps, UnitOptions, UnitOutput};
use super::{
    ConvolveOptions, MergeOptions, MomentsSource, PoolOptions, Pooling, RunningStatisticsOptions, SgdOptions,
};
use layer::{Layer, convolution, input, norm_gradients, normalisation};
use tensors::{
    MapBuffer, ParameterBuffer, contiguous, map, map_shape, settled, shape, small, values, values_mut,
};

impl ResidualBackend for Flex {
    fn moments(x: FlexTensor, groups: usize) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return composed::moments::<Self>(x, groups);
        }
        let x = contiguous(x);
        let map = map_shape(&x);
        let mut moments = vec![0.; groups * 2 * map.channels];
        residua_kernels::moments(map, values(&x), groups, Instructions::current(), &mut moments);
        small(moments, &[groups, 2, map.channels])
    }

    fn update_running_statistics(
        mut mean: FlexTensor,
        mut variance: FlexTensor,
        moments: FlexTensor,
        options: RunningStatisticsOptions,
    ) -> RunningStatistics<Self> {
        if mean.dtype() != DType::F32 {
            return composed::update_running_statistics::<Self>(mean, variance, moments, options);
        }
        [mean, variance] = [mean, variance].map(contiguous);
        let moments = contiguous(moments);
        let channels = mean.layout().num_elements();
        let (means, variances) = values(&moments)[..2 * channels].split_at(channels);
        let (kept, taken) = ((1. - options.momentum) as f32, options.momentum as f32);
        let correction = options.correction as f32;
        for (running, observed) in values_mut(&mut mean).iter_mut().zip(means) {
            *running = *running * kept + observed * taken;
        }
        for (running, observed) in values_mut(&mut variance).iter_mut().zip(variances) {
            *running = *running * kept + observed * correction * taken;
        }
        RunningStatistics { mean, variance }
    }

    fn convolve(
        x: FlexTensor,
        norm: Norm<Self>,
        weight: FlexTensor,
        addend: Optional<Self>,
        options: ConvolveOptions,
    ) -> Convolved<Self> {
        if weight.dtype() != DType::F32 {
            return composed::convolve::<Self>(x, norm, weight, addend, options);
        }
        let [x, weight] = [x, weight].map(contiguous);
        let addend = match addend {
            Optional::Absent => None,
            Optional::Present(addend) => Some(contiguous(addend)),
        };
        let convolution = convolution(&x, &weight, &options);
        let norm = normalisation(&norm);
        let output = convolution.output();
        let mut y = MapBuffer::of(output.len(), options.is_rounded);
        let mut moments = vec![0.; options.groups.map_or(0, |groups| groups * 2 * output.channels)];
        convolution.forward(
            input(&x, &norm, options.is_activated),
            values(&weight),
            addend.as_ref().map(map),
            y.values(),
            options.groups.map(|groups| (groups, moments.as_mut_slice())),
        );
        let moments = match options.groups {
            None => Optional::Absent,
            Some(groups) => Optional::Present(small(moments, &[groups, 2, output.channels])),
        };
        Convolved { y: y.into_tensor(shape(output)), moments }
    }

    fn convolve_backward(
        x: FlexTensor,
        norm: Norm<Self>,
        weight: FlexTensor,
        gradient: FlexTensor,
        options: ConvolveOptions,
        needs_x: bool,
    ) -> ConvolveGradients<Self> {
        if weight.dtype() != DType::F32 {
            return composed::convolve_backward::<Self>(x, norm, weight, gradient, options, needs_x);
        }
        let [x, weight, gradient] = [x, weight, gradient].map(contiguous);
        let mut layer = Layer::new(x, &norm, weight, options);
        let gradient = OutputGradient::Plain(map(&gradient));
        if layer.norm.is_none() {
            let mut x = needs_x.then(|| Buffer::of(layer.convolution.input.len()));
            let wanted = match &mut x {
                None => InputGradient::Unneeded,
                Some(output) => InputGradient::Complete { output: ValuesMut::F32(output), addend: None },
            };
            layer.backward(gradient, wanted);
            let x = x.map_or(layer.x, |x| x.into_tensor(shape(layer.convolution.input)));
            let weight = layer.weight_gradient.into_tensor(&layer.weight_shape);
            return ConvolveGradients { x, norm: NormGradients::Absent, weight };
        }
        let (x, sums) = layer.complete_backward(gradient, None, false, None);
        let weight = layer.weight_gradient.into_tensor(&layer.weight_shape);
        ConvolveGradients { x, norm: norm_gradients(sums), weight }
    }

    fn merge(x: FlexTensor, norm: Norm<Self>, addend: Addend<Self>, options: MergeOptions) -> FlexTensor {
        let x = composed::widened::<Self>(x);
        if x.dtype() != DType::F32 {
            return composed::merge::<Self>(x, norm, addend, options);
        }
        merge::forward(contiguous(x), norm, addend, options)
    }

    fn merge_backward(
        x: FlexTensor,
        norm: Norm<Self>,
        addend: Addend<Self>,
        output: FlexTensor,
        gradient: FlexTensor,
        options: MergeOptions,
    ) -> MergeGradients<Self> {
        let x = composed::widened::<Self>(x);
        if x.dtype() != DType::F32 {
            return composed::merge_backward::<Self>(x, norm, addend, output, gradient, options);
        }
        let [x, output, gradient] = [x, output, gradient].map(contiguous);
        merge::backward(x, norm, addend, output, gradient, options)
    }

    fn pool(x: FlexTensor, norm: Norm<Self>, options: PoolOptions) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return composed::pool::<Self>(x, norm, options);
        }
        let x = contiguous(x);
        let (map, norm) = (map_shape(&x), normalisation(&norm));
        let (input, instructions) = (input(&x, &norm, options.is_activated), Instructions::current());
        match options.pooling {
            Pooling::Mean => {
                let mut means = vec![0.; map.batch * map.channels];
                AveragePool { input: map, instructions }.forward(input, &mut means);
                small(means, &[map.batch, map.channels])
            }
            Pooling::Maximum => {
                let pool = MaxPool { input: map, instructions };
                let mut maxima = Buffer::of(pool.output().len());
                pool.forward(input, &mut maxima);
                maxima.into_tensor(shape(pool.output()))
            }
        }
    }

    fn pool_backward(
        x: FlexTensor,
        norm: Norm<Self>,
        gradient: FlexTensor,
        options: PoolOptions,
    ) -> PoolGradients<Self> {
        if x.dtype() != DType::F32 {
            return composed::pool_backward::<Self>(x, norm, gradient, options);
        }
        let [x, gradient] = [x, gradient].map(contiguous);
        let (map, norm) = (map_shape(&x), normalisation(&norm));
        let mut of_x = Buffer::of(map.len());
        let (input, instructions) = (input(&x, &norm, options.is_activated), Instructions::current());
        let wanted = InputGradient::Complete { output: ValuesMut::F32(&mut of_x), addend: None };
        let is_constant = options.source == MomentsSource::Running;
        let gradient = values(&gradient);
        let sums = match options.pooling {
            Pooling::Mean => {
                AveragePool { input: map, instructions }.backward(input, gradient, wanted, is_constant)
            }
            Pooling::Maximum => {
                MaxPool { input: map, instructions }.backward(input, gradient, wanted, is_constant)
            }
        };
        PoolGradients {
            x: of_x.into_tensor(shape(map)),
            norm: sums.map_or(NormGradients::Absent, norm_gradients),
        }
    }

    fn unit(
        x: FlexTensor,
        branch: Branch<Self>,
        skip: Skip<Self>,
        options: UnitOptions,
        seams: Seams,
    ) -> UnitOutput<Self> {
        let rest = branch.rest.clone();
        let output = super::unit::forward::<Self>(x, branch, skip, options);
        seam::leave_tail(seams.behind.as_ref(), &rest, &output, &options);
        output
    }

    fn unit_backward(
        x: FlexTensor,
        branch: Branch<Self>,
        skip: Skip<Self>,
        maps: UnitMaps<Self>,
        y: FlexTensor,
        gradient: FlexTensor,
        options: UnitOptions,
        seams: Seams,
    ) -> UnitGradients<Self> {
        if branch.weight.dtype() != DType::F32 {
            return super::unit::backward::<Self>(x, branch, skip, maps, y, gradient, options);
        }
        let [x, y, gradient] = [x, y, gradient].map(contiguous);
        unit::unit_backward(x, branch, skip, maps, y, gradient, options, seams)
    }

    fn sgd_step(
        mut weight: FlexTensor,
        gradient: FlexTensor,
        momentum: Optional<Self>,
        options: SgdOptions,
    ) -> Stepped<Self> {
        if weight.dtype() != DType::F32 {
            return composed::sgd_step::<Self>(weight, gradient, momentum, options);
        }
        let len = weight.layout().num_elements();
        let SgdOptions { learning_rate, momentum: factor, weight_decay, is_nesterov } = options;
        let is_first = matches!(momentum, Optional::Absent);
        let mut buffer = match momentum {
            Optional::Present(momentum) => settled(contiguous(momentum)),
            Optional::Absent => ParameterBuffer::of(len).into_tensor(&[len]),
        };
        weight = settled(contiguous(weight));
        let gradient = contiguous(gradient);
        let sgd = residua_kernels::Sgd { learning_rate, momentum: factor, weight_decay, is_nesterov };
        let tensor = TrainedTensor {
            weight: values_mut(&mut weight),
            gradient: values(&gradient),
            momentum: if factor == 0. { &mut [] } else { values_mut(&mut buffer) },
            is_first,
            decays: weight_decay != 0.,
        };
        sgd.step(&mut [tensor], Instructions::current());
        let momentum = if factor == 0. { Optional::Absent } else { Optional::Present(buffer) };
        Stepped { weight, momentum }
    }

    fn subsample(x: FlexTensor, stride: usize, outputs: usize) -> FlexTensor {
        if x.dtype() != DType::F32 {
            return composed::subsample::<Self>(x, stride, outputs);
        }
        let x = contiguous(x);
        let subsampling = Subsampling { input: map_shape(&x), stride, outputs };
        let to = subsampling.output();
        let mut y = Buffer::of(to.len());
        let x = values(&x);
        y.par_chunks_exact_mut(to.width * outputs)
            .enumerate()
            .for_each(|(row, pixels)| subsampling.row(x, row, pixels));
        y.into_tensor(shape(to))
    }

    fn subsample_backward(
        gradient: FlexTensor,
        stride: usize,
        height: usize,
        width: usize,
        inputs: usize,
    ) -> FlexTensor {
        if gradient.dtype() != DType::F32 {
            return composed::subsample_backward::<Self>(gradient, stride, [height, width, inputs]);
        }
        let gradient = contiguous(gradient);
        let MapShape { batch, channels: outputs, .. } = map_shape(&gradient);
        let input = MapShape { batch, height, width, channels: inputs };
        let subsampling = Subsampling { input, stride, outputs };
        let mut x = Buffer::of(input.len());
        let gradient = values(&gradient);
        x.par_chunks_exact_mut(width * inputs)
            .enumerate()
            .for_each(|(row, pixels)| subsampling.gradient_row(gradient, row, pixels));
        x.into_tensor(shape(input))
    }
}
