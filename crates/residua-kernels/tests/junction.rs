//! The backward pass across an addition: to the bit what its two halves compute one after the other, on every instruction
//! set and for any number of threads.

#[cfg(unix)]
mod guarded;
mod reference;

#[cfg(unix)]
use guarded::{Guarded, Side};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;
use reference::{EPSILON, bits, random};
use residua_kernels::{
    Algorithm, Beginning, Convolution, Finishing, Input, InputGradient, Instructions, Junction, MapShape,
    Normalisation, NormalisationGradient, OutputGradient,
};

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Of the sum.
    sum: MapShape,
    /// Channels that go into the convolution before it, and come out of the one behind it.
    before: usize,
    behind: usize,
    groups: usize,
    is_activated: [bool; 2],
    is_constant: bool,
    seed: u64,
}

impl Case {
    /// Whole blocks of channels at the sum, both inputs rectified, and no more weights than one core works on alone.
    fn is_for_one_pass(&self) -> bool {
        let weights = |narrow: usize| self.sum.channels * narrow.next_multiple_of(16);
        let are_few = weights(self.before.max(self.behind)) <= 1 << 17;
        self.sum.channels.is_multiple_of(16) && self.is_activated == [true, true] && are_few
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let wide = prop_oneof![Just(16usize), Just(32), Just(48), Just(64), 1usize..70];
    let narrow = || prop_oneof![Just(16usize), Just(32), 1usize..40];
    let shapes = (1usize..4, 1usize..3, 1usize..10, 1usize..10);
    // Mostly what one pass does: both inputs rectified.
    let is_activated = prop_oneof![3 => Just([true, true]), 1 => any::<[bool; 2]>()];
    (shapes, wide, narrow(), narrow(), is_activated, any::<bool>(), any::<u64>()).prop_map(
        |((group, groups, height, width), channels, before, behind, is_activated, is_constant, seed)| Case {
            sum: MapShape { batch: group * groups, height, width, channels },
            before,
            behind,
            groups,
            is_activated,
            is_constant,
            seed,
        },
    )
}

fn normalisation(channels: usize, groups: usize, seed: u64) -> Normalisation {
    let moments: Vec<f32> = (0..groups)
        .flat_map(|group| [vec![0.1 * group as f32; channels], vec![0.5; channels]].concat())
        .collect();
    Normalisation::new(&moments, &random(channels, seed), &random(channels, seed ^ 1), EPSILON)
}

/// Everything that a junction is given.
struct Problem {
    case: Case,
    junction: Junction,
    x: Vec<f32>,
    m: Vec<f32>,
    u: Vec<f32>,
    of_u: Vec<f32>,
    addend: Vec<f32>,
    weights: [Vec<f32>; 2],
    norms: [Normalisation; 3],
}

/// Everything that it computes.
#[derive(Debug, PartialEq)]
struct Found {
    of_x: Vec<u32>,
    of_norm: Vec<u32>,
    of_weights: Vec<u32>,
    gamma: Vec<u32>,
    beta: Vec<u32>,
}

impl Problem {
    fn new(case: Case, instructions: Instructions) -> Self {
        let Case { sum, before, behind, groups, seed, .. } = case;
        let convolution = |input: MapShape, outputs: usize| {
            let algorithm = Algorithm::Winograd;
            Convolution { input, outputs, size: 1, stride: 1, algorithm, instructions }
        };
        let (m, u) = (sum.with_channels(before), sum.with_channels(behind));
        let junction = Junction { before: convolution(m, sum.channels), behind: convolution(sum, behind) };
        Self {
            case,
            junction,
            x: random(sum.len(), seed ^ 2),
            m: random(m.len(), seed ^ 3),
            u: random(u.len(), seed ^ 4),
            of_u: random(u.len(), seed ^ 5),
            addend: random(sum.len(), seed ^ 6),
            weights: [random(before * sum.channels, seed ^ 7), random(sum.channels * behind, seed ^ 8)],
            norms: [before, sum.channels, behind].map(|channels| normalisation(channels, groups, seed ^ 9)),
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            values: (&self.x).into(),
            norm: Some(&self.norms[1]),
            is_activated: self.case.is_activated[1],
        }
    }

    fn input_before(&self) -> Input<'_> {
        Input {
            values: (&self.m).into(),
            norm: Some(&self.norms[0]),
            is_activated: self.case.is_activated[0],
        }
    }

    /// The sums over a gradient of `norm(u)`, of an operation that reads it.
    fn sums_of_u(&self) -> NormalisationGradient {
        let input = self.junction.behind.output();
        let reader = Convolution { input, outputs: 1, ..self.junction.behind };
        let read = Input { values: (&self.u).into(), norm: Some(&self.norms[2]), is_activated: false };
        let gradient = vec![1.; reader.output().len()];
        let plain = OutputGradient::Plain((&gradient).into());
        let weights = random(input.channels, 1);
        let mut unused = vec![0.; input.channels];
        reader.backward(read, &weights, plain, &mut unused, InputGradient::SumsOnly, false).unwrap()
    }

    fn through<'a>(&'a self, sums: &'a NormalisationGradient) -> OutputGradient<'a> {
        OutputGradient::ThroughNorm { gradient: &self.of_u, x: (&self.u).into(), norm: &self.norms[2], sums }
    }

    /// The sums over the gradient of `norm(x)`.
    fn sums_of_x(&self, gradient: OutputGradient) -> NormalisationGradient {
        let mut unused = vec![0.; self.weights[1].len()];
        let (wanted, is_constant) = (InputGradient::SumsOnly, self.case.is_constant);
        let behind = self.junction.behind;
        behind.backward(self.input(), &self.weights[1], gradient, &mut unused, wanted, is_constant).unwrap()
    }

    fn at_once(&self, of_x: &mut [f32], of_norm: &mut [f32], of_weights: &mut [f32]) -> Found {
        let of_u = self.sums_of_u();
        let gradient = self.through(&of_u);
        let sums = self.sums_of_x(gradient);
        let finishing = Finishing {
            input: self.input(),
            weights: &self.weights[1],
            gradient,
            sums: &sums,
            addend: (&self.addend).into(),
            output: of_x.into(),
        };
        let beginning = Beginning {
            input: self.input_before(),
            weights: &self.weights[0],
            weights_gradient: of_weights,
            of_norm,
            statistics_are_constant: self.case.is_constant,
        };
        let takes_one_pass = self.junction.takes_one_pass(&finishing, &beginning);
        assert_eq!(takes_one_pass, self.case.is_for_one_pass(), "{:?}", self.case);
        let sums = self.junction.backward(finishing, beginning);
        Found::new(of_x, of_norm, of_weights, &sums)
    }

    fn at_once_anywhere(&self) -> Found {
        let Self { x, m, weights, .. } = self;
        let unwritten = |length: usize| vec![f32::NAN; length];
        self.at_once(&mut unwritten(x.len()), &mut unwritten(m.len()), &mut unwritten(weights[0].len()))
    }

    fn one_after_the_other(&self) -> Found {
        let Self { x, m, weights, junction: Junction { before, behind }, .. } = self;
        let mut of_x = vec![f32::NAN; x.len()];
        let (mut of_norm, mut of_weights) = (vec![f32::NAN; m.len()], vec![f32::NAN; weights[0].len()]);
        let of_u = self.sums_of_u();
        let gradient = self.through(&of_u);
        let sums = self.sums_of_x(gradient);
        let addend = Some((&self.addend).into());
        behind.finish_input_gradient(self.input(), &weights[1], gradient, &sums, addend, (&mut of_x).into());
        let (gradient, wanted) = (OutputGradient::Plain((&of_x).into()), InputGradient::OfNorm(&mut of_norm));
        let is_constant = self.case.is_constant;
        let sums = before
            .backward(self.input_before(), &weights[0], gradient, &mut of_weights, wanted, is_constant)
            .unwrap();
        Found::new(&of_x, &of_norm, &of_weights, &sums)
    }
}

impl Found {
    fn new(of_x: &[f32], of_norm: &[f32], of_weights: &[f32], sums: &NormalisationGradient) -> Self {
        Self {
            of_x: bits(of_x),
            of_norm: bits(of_norm),
            of_weights: bits(of_weights),
            gamma: bits(&sums.gamma),
            beta: bits(&sums.beta),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..reference::proptest_config() })]

    #[test]
    fn one_pass_is_bitwise_two(case in cases()) {
        for instructions in Instructions::available() {
            let problem = Problem::new(case, instructions);
            prop_assert!(problem.at_once_anywhere() == problem.one_after_the_other(), "{:?}", instructions);
        }
    }
}

const SMALL: Case = Case {
    sum: MapShape { batch: 2, height: 5, width: 9, channels: 32 },
    before: 17,
    behind: 20,
    groups: 1,
    is_activated: [true; 2],
    is_constant: false,
    seed: 1,
};

#[test]
fn whole_blocks_that_are_rectified_take_one_pass() {
    for (channels, is_activated, takes_one_pass) in [
        (16, [true, true], true),
        (64, [true, true], true),
        (63, [true, true], false),
        (64, [true, false], false),
    ] {
        let case = Case { sum: SMALL.sum.with_channels(channels), is_activated, ..SMALL };
        assert_eq!(case.is_for_one_pass(), takes_one_pass, "{case:?}");
        let problem = Problem::new(case, Instructions::current());
        assert!(problem.at_once_anywhere() == problem.one_after_the_other(), "{case:?}");
    }
}

/// Weights that do not stay in the caches next to a core, and more of them, work on which is divided.
#[test]
fn at_once_is_bitwise_two_passes_with_many_channels() {
    for (channels, before, behind) in [(272, 250, 256), (528, 260, 120), (528, 120, 260)] {
        let sum = MapShape { batch: 2, height: 7, width: 6, channels };
        for instructions in Instructions::available() {
            let problem = Problem::new(Case { sum, before, behind, ..SMALL }, instructions);
            let are_same = problem.at_once_anywhere() == problem.one_after_the_other();
            assert!(are_same, "{channels} channels, {instructions:?}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    for batch in (1..10).chain([31, 32, 33, 65, 128]) {
        let case = Case { sum: MapShape { batch, ..SMALL.sum }, ..SMALL };
        let problem = Problem::new(case, Instructions::current());
        let expected = problem.one_after_the_other();
        for threads in [1, 2, 3, 8] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            assert!(
                pool.install(|| problem.at_once_anywhere()) == expected,
                "{threads} threads, {batch} images"
            );
        }
    }
}

/// A sum so large that its gradient is stored past the caches.
#[cfg(unix)]
#[test]
fn streamed_gradients_are_bitwise_those_of_two_passes() {
    let sum = MapShape { batch: 50, height: 32, width: 32, channels: 64 };
    let case = Case { sum, before: 16, behind: 16, ..SMALL };
    for instructions in Instructions::available() {
        let problem = Problem::new(case, instructions);
        let mut of_x = Guarded::new(&vec![f32::NAN; sum.len()], Side::Start);
        let (mut of_norm, mut of_weights) =
            (vec![f32::NAN; problem.m.len()], vec![f32::NAN; problem.weights[0].len()]);
        let found = problem.at_once(&mut of_x, &mut of_norm, &mut of_weights);
        assert!(found == problem.one_after_the_other(), "{instructions:?}");
    }
}

#[cfg(unix)]
#[test]
fn results_stay_within_their_slices() {
    for (side, channels) in [Side::Start, Side::End].into_iter().flat_map(|side| [(side, 16), (side, 48)]) {
        for (height, width) in [(1, 1), (1, 7), (5, 4), (9, 17)] {
            let case = Case { sum: MapShape { batch: 2, height, width, channels }, ..SMALL };
            for instructions in Instructions::available() {
                let problem = Problem::new(case, instructions);
                let guarded = |length: usize| Guarded::new(&vec![f32::NAN; length], side);
                let Problem { x, m, weights, .. } = &problem;
                let [mut of_x, mut of_norm, mut of_weights] =
                    [x.len(), m.len(), weights[0].len()].map(guarded);
                let found = problem.at_once(&mut of_x, &mut of_norm, &mut of_weights);
                assert!(found == problem.one_after_the_other(), "{instructions:?}, {case:?}");
            }
        }
    }
}
