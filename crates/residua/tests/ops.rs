//! The operations' own backward passes against Burn's autodiff of the same compositions and against finite
//! differences, in f64, over random shapes and options; and the f32 kernels against all of that.

use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use residua::nn::Precision;
use residua::ops::{
    Addition, Engine, MomentsSource, Normalise, convolve, linear, max_pool, merge, moments, pool,
};

/// What a case computes, apart from its tensors.
#[derive(Debug, Clone)]
struct Case {
    groups: usize,
    group: usize,
    height: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    normalises: bool,
    source: MomentsSource,
    is_activated: [bool; 2],
    adds: bool,
    weighting: Weighting,
    seed: u64,
}

/// How a merge weights its two terms.
#[derive(Debug, Clone, Copy)]
enum Weighting {
    Equal,
    Constant,
    Gate { is_exclusive: bool },
    Mask,
}

impl Case {
    fn batch(&self) -> usize {
        self.groups * self.group
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (1..3usize, 2..4usize, 1..7usize, 1..7usize, 1..5usize, 1..5usize);
    let kind = (prop_oneof![Just(1usize), Just(3), Just(7)], 1..3usize, any::<bool>(), any::<bool>());
    let weighting = prop_oneof![
        Just(Weighting::Equal),
        Just(Weighting::Constant),
        any::<bool>().prop_map(|is_exclusive| Weighting::Gate { is_exclusive }),
        Just(Weighting::Mask),
    ];
    let rest = (any::<[bool; 2]>(), prop::bool::weighted(0.75), weighting, any::<u64>());
    (shape, kind, rest).prop_map(|(shape, (kernel, stride, normalises, is_batch), rest)| {
        let (groups, group, height, width, inputs, outputs) = shape;
        let (is_activated, adds, weighting, seed) = rest;
        let source = if is_batch { MomentsSource::Batch } else { MomentsSource::Running };
        Case {
            groups,
            group,
            height,
            width,
            inputs,
            outputs,
            kernel,
            stride,
            normalises,
            source,
            is_activated,
            adds,
            weighting,
            seed,
        }
    })
}

/// The tensors of a case, as plain values so that finite differences can move each.
#[derive(Clone)]
struct Values {
    tensors: Vec<(Vec<usize>, Vec<f64>)>,
}

const X: usize = 0;
const GAMMA: usize = 1;
const BETA: usize = 2;
const WEIGHT: usize = 3;
const ADDEND: usize = 4;
const LOGITS: usize = 5;
const BIAS: usize = 6;
const COTANGENT: usize = 7;

fn values(case: &Case, output: [usize; 4]) -> Values {
    let mut state = case.seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as f64 / u64::MAX as f64 * 2. - 1.
    };
    let shapes = [
        vec![case.batch(), case.height, case.width, case.inputs],
        vec![case.inputs],
        vec![case.inputs],
        vec![case.outputs, case.inputs, case.kernel, case.kernel],
        output.to_vec(),
        output.to_vec(),
        vec![output[3]],
        output.to_vec(),
    ];
    let tensors = shapes.map(|shape| {
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        (shape, values)
    });
    Values { tensors: tensors.into() }
}

impl Values {
    /// Rounded to f32, so that both precisions start from the same numbers.
    fn rounded(mut self) -> Self {
        let values = self.tensors.iter_mut().flat_map(|(_, values)| values);
        values.for_each(|value| *value = f64::from(*value as f32));
        self
    }
}

struct Leaves {
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    weight: Tensor<4>,
    addend: Tensor<4>,
    logits: Tensor<4>,
    bias: Tensor<1>,
    cotangent: Tensor<4>,
}

impl Leaves {
    fn of(values: &Values, device: &Device, dtype: DType) -> Self {
        fn leaf<const D: usize>(
            values: &Values,
            index: usize,
            (device, dtype): (&Device, DType),
        ) -> Tensor<D> {
            let (shape, values) = &values.tensors[index];
            Tensor::from_data(TensorData::new(values.clone(), shape.clone()), (device, dtype)).require_grad()
        }
        let options = (device, dtype);
        Self {
            x: leaf(values, X, options),
            gamma: leaf(values, GAMMA, options),
            beta: leaf(values, BETA, options),
            weight: leaf(values, WEIGHT, options),
            addend: leaf(values, ADDEND, options),
            logits: leaf(values, LOGITS, options),
            bias: leaf(values, BIAS, options),
            cotangent: leaf(values, COTANGENT, options).detach(),
        }
    }

    fn norm(&self, case: &Case, engine: Engine) -> Option<Normalise> {
        let moments = match case.source {
            MomentsSource::Batch => moments(engine, self.x.clone(), case.groups),
            // Any constants will do for running moments; the variance is positive.
            MomentsSource::Running => {
                let mean = self.gamma.clone().detach() * 0.5;
                let variance = self.beta.clone().detach().powi_scalar(2) + 0.1;
                Tensor::stack::<2>(vec![mean, variance], 0).unsqueeze()
            }
        };
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        case.normalises.then_some(Normalise { moments, source: case.source, gamma, beta })
    }

    fn convolve(&self, case: &Case, engine: Engine) -> Tensor<4> {
        let addend = case.adds.then(|| self.addend.clone());
        let norm = self.norm(case, engine);
        convolve(
            engine,
            Precision::F32,
            self.x.clone(),
            norm,
            case.is_activated[0],
            self.weight.clone(),
            case.stride,
            addend,
        )
    }

    fn merge(&self, case: &Case, engine: Engine) -> Tensor<4> {
        let values = self.addend.clone();
        let addition = match case.weighting {
            _ if !case.adds => Addition::None,
            Weighting::Equal => Addition::Plain(values),
            Weighting::Constant => Addition::Scaled { values, shortcut: 0.5, residual: -0.25 },
            Weighting::Gate { is_exclusive } => {
                let (logits, bias) = (self.logits.clone(), self.bias.clone());
                Addition::Gated { values, logits, bias, is_exclusive }
            }
            Weighting::Mask => Addition::Masked { values, mask: self.logits.clone().detach() },
        };
        let [before, after] = case.is_activated;
        merge(engine, self.x.clone(), self.norm(case, engine), before, addition, after)
    }

    fn pool(&self, case: &Case, engine: Engine) -> Tensor<4> {
        let means = pool(engine, self.x.clone(), self.norm(case, engine), case.is_activated[0]);
        means.reshape([case.batch(), 1, 1, case.inputs])
    }

    fn max_pool(&self, case: &Case, engine: Engine) -> Tensor<4> {
        max_pool(engine, self.x.clone(), self.norm(case, engine), case.is_activated[0])
    }
}

/// An operation of a case's leaves.
type Operation = fn(&Leaves, &Case, Engine) -> Tensor<4>;

/// The sum of output times cotangent, and its gradient by every input that takes part.
fn run(operation: Operation, case: &Case, values: &Values, engine: Engine) -> (f64, Vec<Option<Vec<f64>>>) {
    run_in(DType::F64, operation, case, values, engine)
}

fn run_in(
    dtype: DType,
    operation: Operation,
    case: &Case,
    values: &Values,
    engine: Engine,
) -> (f64, Vec<Option<Vec<f64>>>) {
    let leaves = Leaves::of(values, &Device::flex().autodiff(), dtype);
    let loss = (operation(&leaves, case, engine) * leaves.cotangent.clone()).sum();
    let value = loss.clone().into_data().convert::<f64>().try_into_vec::<f64>().unwrap()[0];
    if !loss.is_tracked() {
        return (value, vec![None; 7]);
    }
    let gradients = loss.backward();
    fn plain<const D: usize>(gradient: Option<Tensor<D>>) -> Option<Vec<f64>> {
        gradient.map(|gradient| gradient.into_data().convert::<f64>().try_into_vec().unwrap())
    }
    let all = vec![
        plain(leaves.x.grad(&gradients)),
        plain(leaves.gamma.grad(&gradients)),
        plain(leaves.beta.grad(&gradients)),
        plain(leaves.weight.grad(&gradients)),
        plain(leaves.addend.grad(&gradients)),
        plain(leaves.logits.grad(&gradients)),
        plain(leaves.bias.grad(&gradients)),
    ];
    (value, all)
}

fn assert_close(left: &[f64], right: &[f64], tolerance: f64, what: &str) {
    assert_close_above(1e-3, left, right, tolerance, what);
}

/// The distance is relative to the size of `right`, or to `least` if that is larger.
fn assert_close_above(least: f64, left: &[f64], right: &[f64], tolerance: f64, what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    let size = right.iter().map(|value| value * value).sum::<f64>().sqrt().max(least);
    let distance = left.iter().zip(right).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!(distance <= tolerance * size, "{what}: relative distance {}", distance / size);
}

/// The extension's gradients are those of Burn's autodiff.
fn check_engines(operation: Operation, case: &Case, output: [usize; 4]) {
    let values = values(case, output);
    let (fused_loss, fused) = run(operation, case, &values, Engine::Fused);
    let (composed_loss, composed) = run(operation, case, &values, Engine::Composed);
    assert_close(&[fused_loss], &[composed_loss], 1e-10, "loss");
    for (index, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        match (fused, composed) {
            (Some(fused), Some(composed)) => {
                assert_close(fused, composed, 1e-9, &format!("gradient {index}"))
            }
            (fused, composed) => assert_eq!(fused, composed, "gradient {index}"),
        }
    }
}

/// The kernels' results in f32 are those of f64, as far as f32 goes.
fn check_precisions(operation: Operation, case: &Case, output: [usize; 4]) {
    let values = values(case, output).rounded();
    let (exact_loss, exact) = run_in(DType::F64, operation, case, &values, Engine::Fused);
    let (loss, gradients) = run_in(DType::F32, operation, case, &values, Engine::Fused);
    // The loss may cancel; its terms are not larger than about one.
    let terms = output.iter().product::<usize>() as f64;
    assert!((loss - exact_loss).abs() <= 1e-5 * terms, "{loss} {exact_loss}");
    for (index, (single, exact)) in gradients.iter().zip(&exact).enumerate() {
        match (single, exact) {
            // Sums that cancel keep the error of their terms, which are about one.
            (Some(single), Some(exact)) => {
                assert_close_above(1., single, exact, 1e-4, &format!("gradient {index}"));
            }
            (single, exact) => assert_eq!(single, exact, "gradient {index}"),
        }
    }
}

/// Whether a batch normalisation has enough values for its variance not to be rounding.
fn is_well_posed(case: &Case) -> bool {
    !case.normalises || case.source == MomentsSource::Running || case.group * case.height * case.width > 5
}

/// The extension's gradients are the slopes of its own result.
fn check_slopes(operation: Operation, case: &Case, output: [usize; 4]) {
    let values = values(case, output);
    let (_, gradients) = run(operation, case, &values, Engine::Fused);
    let step = 1e-6;
    for (index, gradient) in gradients.iter().enumerate() {
        // Running moments are made from gamma and beta here, so moving those would move the moments as well.
        let moves_moments = case.source == MomentsSource::Running && [GAMMA, BETA].contains(&index);
        let Some(gradient) = gradient.as_ref().filter(|_| !moves_moments) else { continue };
        let elements: Vec<usize> = (0..gradient.len()).step_by(1 + gradient.len() / 12).collect();
        let moved = |element: usize, by: f64| {
            let mut moved = values.clone();
            moved.tensors[index].1[element] += by;
            run(operation, case, &moved, Engine::Fused).0
        };
        let slope = |&element: &usize| (moved(element, step) - moved(element, -step)) / (2. * step);
        let slopes: Vec<f64> = elements.iter().map(slope).collect();
        let expected: Vec<f64> = elements.iter().map(|&element| gradient[element]).collect();
        assert_close(&slopes, &expected, 1e-4, &format!("slope of input {index}"));
    }
}

fn convolved(case: &Case) -> [usize; 4] {
    [case.batch(), case.height.div_ceil(case.stride), case.width.div_ceil(case.stride), case.outputs]
}

fn same(case: &Case) -> [usize; 4] {
    [case.batch(), case.height, case.width, case.inputs]
}

fn halved(case: &Case) -> [usize; 4] {
    [case.batch(), case.height.div_ceil(2), case.width.div_ceil(2), case.inputs]
}

fn pooled(case: &Case) -> [usize; 4] {
    [case.batch(), 1, 1, case.inputs]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolve_agrees_with_autodiff(case in cases()) {
        check_engines(Leaves::convolve, &case, convolved(&case));
    }

    #[test]
    fn merge_agrees_with_autodiff(case in cases()) {
        check_engines(Leaves::merge, &case, same(&case));
    }

    #[test]
    fn pool_agrees_with_autodiff(case in cases()) {
        check_engines(Leaves::pool, &case, pooled(&case));
    }

    #[test]
    fn max_pool_agrees_with_autodiff(case in cases()) {
        check_engines(Leaves::max_pool, &case, halved(&case));
    }

    #[test]
    fn max_pool_in_single_precision_agrees_with_double(case in cases()) {
        prop_assume!(is_well_posed(&case));
        check_precisions(Leaves::max_pool, &case, halved(&case));
    }

    #[test]
    fn convolve_in_single_precision_agrees_with_double(case in cases()) {
        prop_assume!(is_well_posed(&case));
        check_precisions(Leaves::convolve, &case, convolved(&case));
    }

    #[test]
    fn merge_in_single_precision_agrees_with_double(case in cases()) {
        prop_assume!(is_well_posed(&case));
        check_precisions(Leaves::merge, &case, same(&case));
    }

    #[test]
    fn pool_in_single_precision_agrees_with_double(case in cases()) {
        prop_assume!(is_well_posed(&case));
        check_precisions(Leaves::pool, &case, pooled(&case));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolve_agrees_with_finite_differences(case in cases()) {
        check_slopes(Leaves::convolve, &case, convolved(&case));
    }

    #[test]
    fn max_pool_agrees_with_finite_differences(case in cases()) {
        check_slopes(Leaves::max_pool, &case, halved(&case));
    }

    #[test]
    fn merge_agrees_with_finite_differences(case in cases()) {
        check_slopes(Leaves::merge, &case, same(&case));
    }
}

#[test]
fn moments_keep_their_digits_at_a_mean_of_a_thousand_deviations() {
    let device = Device::flex();
    let count = 4 * 16 * 16;
    let plain: Vec<f64> =
        (0..count).map(|index| 1000. + (index * 7919 % 1024) as f64 / 1024. - 0.5).collect();
    let exact_mean = plain.iter().sum::<f64>() / count as f64;
    let exact_variance =
        plain.iter().map(|value| (value - exact_mean) * (value - exact_mean)).sum::<f64>() / count as f64;
    let single: Vec<f32> = plain.iter().map(|&value| value as f32).collect();
    let x = Tensor::<4>::from_data(TensorData::new(single, [4, 16, 16, 1]), &device);
    let result = moments(Engine::Fused, x, 1).into_data().try_into_vec::<f32>().unwrap();
    assert!((f64::from(result[0]) - exact_mean).abs() < 1e-4, "{} {exact_mean}", result[0]);
    assert!((f64::from(result[1]) / exact_variance - 1.).abs() < 1e-3, "{} {exact_variance}", result[1]);
}

#[test]
fn gradients_at_exact_zeros_are_zero_and_nan_passes_through() {
    let device = Device::flex().autodiff();
    let values = vec![0f32, -0., 1., -1.];
    let x = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 4, 1]), &device).require_grad();
    let gradients = merge(Engine::Fused, x.clone(), None, true, Addition::None, false).sum().backward();
    let gradient = x.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(gradient, [0., 0., 1., 0.]);

    let x = Tensor::<4>::from_data(TensorData::new(vec![f32::NAN], [1, 1, 1, 1]), &device);
    let y =
        merge(Engine::Fused, x, None, true, Addition::None, true).into_data().try_into_vec::<f32>().unwrap();
    assert!(y[0].is_nan());
}

/// The classifier of few classes, and of so many that it goes through the kernels: the result and both gradients, in f32,
/// beside Burn's own product in f64.
#[test]
fn linear_is_the_matrix_product() {
    let numbers = |count: usize, seed: usize| {
        (0..count).map(|at| ((at + 31 * seed) * 7919 % 1009) as f64 / 504.5 - 1.).collect::<Vec<_>>()
    };
    for [batch, inputs, outputs] in [[3, 20, 7], [1, 70, 1000], [5, 2048, 33], [16, 512, 1000]] {
        let learnt = |dtype: DType, engine: Engine| {
            let device = Device::flex().autodiff();
            let leaf = |shape: [usize; 2], seed: usize| {
                let data = TensorData::new(numbers(shape[0] * shape[1], seed), shape);
                Tensor::<2>::from_data(data, (&device, dtype))
            };
            let x = leaf([batch, inputs], 1).require_grad();
            let weight = leaf([outputs, inputs], 2).require_grad();
            let y = linear(engine, x.clone(), weight.clone());
            let gradients = (y.clone() * leaf([batch, outputs], 3)).sum().backward();
            [y.inner(), x.grad(&gradients).unwrap(), weight.grad(&gradients).unwrap()]
                .map(|tensor| tensor.into_data().convert::<f64>().try_into_vec::<f64>().unwrap())
        };
        let exact = learnt(DType::F64, Engine::Composed);
        for engine in [Engine::Fused, Engine::Composed] {
            for (found, exact) in learnt(DType::F32, engine).iter().zip(&exact) {
                assert_close(found, exact, 1e-6, &format!("{engine:?}, {batch} of {inputs} to {outputs}"));
            }
        }
    }
}
