//! The kernels of a bottleneck unit with full pre-activation, as a training step of batch 128 calls them, in the three
//! stages of ResNet-164: the median milliseconds of each.
//!
//! With `--turns` it runs one kernel for every line of its standard input, the kernel's number, and answers with the
//! nanoseconds that it took: `scripts/compare-kernels` has two builds take turns, so that both find the machine the same.

mod maps;

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use maps::{Map, normalisation, numbers};
use residua_kernels::{
    Algorithm, Beginning, Convolution, Finishing, Input, InputGradient, Instructions, Junction, MapShape,
    Normalisation, NormalisationGradient, OutputGradient,
};

const BATCH: usize = 128;
/// Side of the maps and channels between the convolutions.
const STAGES: [(usize, usize); 3] = [(32, 16), (16, 32), (8, 64)];
/// Of each map, taken in turn: in a step, too, none is read again soon.
const COPIES: usize = 3;
const SAMPLES: usize = 15;

fn main() -> io::Result<()> {
    let mut units = STAGES.map(|(side, inner)| Unit::new(side, inner));
    if std::env::args().any(|argument| argument == "--turns") {
        return take_turns(&mut units);
    }
    for unit in &mut units {
        for kernel in Kernel::ALL {
            let mut times: Vec<Duration> = (0..SAMPLES).map(|_| unit.time(kernel)).collect();
            times.sort_unstable();
            println!("{:34} {:6.2} ms", unit.name(kernel), times[SAMPLES / 2].as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

fn take_turns(units: &mut [Unit]) -> io::Result<()> {
    let mut output = io::stdout();
    for unit in &*units {
        for kernel in Kernel::ALL {
            writeln!(output, "{}", unit.name(kernel))?;
        }
    }
    writeln!(output)?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        let number: usize = line?.trim().parse().map_err(io::Error::other)?;
        let kernels = Kernel::ALL.len();
        let time = units[number / kernels].time(Kernel::ALL[number % kernels]);
        writeln!(output, "{}", time.as_nanos())?;
        output.flush()?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Kernel {
    ReduceForward,
    MiddleForward,
    ExpandForward,
    ExpandBackward,
    MiddleBackward,
    /// The gradient of the weights and the sums; [`ReduceFinish`](Self::ReduceFinish) computes the map again.
    ReduceBackward,
    ReduceFinish,
    /// [`ReduceFinish`](Self::ReduceFinish) and the [`ExpandBackward`](Self::ExpandBackward) of the unit before, in one pass.
    Junction,
}

impl Kernel {
    const ALL: [Self; 8] = [
        Self::ReduceForward,
        Self::MiddleForward,
        Self::ExpandForward,
        Self::ExpandBackward,
        Self::MiddleBackward,
        Self::ReduceBackward,
        Self::ReduceFinish,
        Self::Junction,
    ];
}

/// Maps of one shape, and the normalisation and the sums that belong to them.
struct Maps {
    maps: Vec<Map>,
    norm: Normalisation,
    sums: NormalisationGradient,
}

impl Maps {
    fn new(shape: MapShape, sums: impl FnOnce(Input) -> NormalisationGradient) -> Self {
        let maps: Vec<Map> = (0..COPIES).map(|_| numbers(shape.len())).collect();
        let norm = normalisation(shape.channels);
        let sums = sums(Input { values: (&maps[0][..]).into(), norm: Some(&norm), is_activated: true });
        Self { maps, norm, sums }
    }

    fn input(&self, turn: usize) -> Input<'_> {
        Input { values: self.values(turn).into(), norm: Some(&self.norm), is_activated: true }
    }

    fn values(&self, turn: usize) -> &[f32] {
        &self.maps[turn % COPIES]
    }

    /// The gradient `values`, finished while it is read as that of the map of this turn.
    fn through<'a>(&'a self, values: &'a [f32], turn: usize) -> OutputGradient<'a> {
        let x = self.values(turn).into();
        OutputGradient::ThroughNorm { gradient: values, x, norm: &self.norm, sums: &self.sums }
    }
}

/// Three convolutions: 1x1 from four times as many channels, 3x3, 1x1 back.
struct Unit {
    convolutions: [Convolution; 3],
    weights: [Map; 3],
    of_weights: [Vec<f32>; 3],
    /// What goes from unit to unit, and its gradient.
    trunk: Maps,
    of_trunk: Vec<Map>,
    /// What goes from convolution to convolution, and its gradient.
    inner: Maps,
    of_inner: Vec<Map>,
    outputs: [Vec<Map>; 2],
    moments: Vec<f32>,
    turn: usize,
}

impl Unit {
    fn new(side: usize, inner: usize) -> Self {
        let shape = |channels| MapShape { batch: BATCH, height: side, width: side, channels };
        let convolution = |inputs, outputs, size| {
            let (algorithm, instructions) = (Algorithm::Winograd, Instructions::current());
            Convolution { input: shape(inputs), outputs, size, stride: 1, algorithm, instructions }
        };
        let wide = 4 * inner;
        let convolutions =
            [convolution(wide, inner, 1), convolution(inner, inner, 3), convolution(inner, wide, 1)];
        let weights = convolutions.map(|convolution| numbers(convolution.weights_len()));
        let maps = |channels| (0..COPIES).map(|_| numbers(shape(channels).len())).collect::<Vec<_>>();
        let [of_trunk, of_inner] = [maps(wide), maps(inner)];
        let sums = |at: usize, gradient: &[f32], input: Input| {
            let (wanted, gradient) = (InputGradient::SumsOnly, OutputGradient::Plain(gradient.into()));
            let mut of_weights = vec![0.; weights[at].len()];
            let sums =
                convolutions[at].backward(input, &weights[at], gradient, &mut of_weights, wanted, false);
            sums.expect("the input is normalised")
        };
        Self {
            trunk: Maps::new(shape(wide), |input| sums(0, &of_inner[0], input)),
            inner: Maps::new(shape(inner), |input| sums(2, &of_trunk[0], input)),
            of_weights: convolutions.map(|convolution| vec![0.; convolution.weights_len()]),
            outputs: [maps(wide), maps(inner)],
            moments: vec![0.; 2 * wide],
            convolutions,
            weights,
            of_trunk,
            of_inner,
            turn: 0,
        }
    }

    fn name(&self, kernel: Kernel) -> String {
        let MapShape { width, channels, .. } = self.convolutions[0].input;
        format!("{width:2} x {width:2}, {channels:3} channels {kernel:?}")
    }

    fn time(&mut self, kernel: Kernel) -> Duration {
        let start = Instant::now();
        self.run(kernel);
        start.elapsed()
    }

    fn run(&mut self, kernel: Kernel) {
        let Self {
            convolutions,
            weights,
            of_weights,
            trunk,
            of_trunk,
            inner,
            of_inner,
            outputs,
            moments,
            turn,
        } = self;
        let now = *turn % COPIES;
        *turn += 1;
        let [reduce, middle, expand] = convolutions;
        let (of_inner, of_trunk) = (&of_inner[now][..], &of_trunk[now][..]);
        let [wide, narrow] = outputs.each_mut().map(|maps| &mut maps[now][..]);
        let inner_moments = &mut moments[..2 * middle.outputs];
        match kernel {
            Kernel::ReduceForward => {
                let moments = Some((1, inner_moments));
                reduce.forward(trunk.input(now), &weights[0], None, narrow.into(), moments);
            }
            Kernel::MiddleForward => {
                let moments = Some((1, inner_moments));
                middle.forward(inner.input(now), &weights[1], None, narrow.into(), moments);
            }
            Kernel::ExpandForward => {
                let (addend, moments) = (Some(trunk.values(now).into()), Some((1, &mut moments[..])));
                expand.forward(inner.input(now), &weights[2], addend, wide.into(), moments);
            }
            Kernel::ExpandBackward => {
                let (gradient, wanted) =
                    (OutputGradient::Plain(of_trunk.into()), InputGradient::OfNorm(narrow));
                expand.backward(inner.input(now), &weights[2], gradient, &mut of_weights[2], wanted, false);
            }
            Kernel::MiddleBackward => {
                let (gradient, wanted) = (inner.through(of_inner, now + 1), InputGradient::OfNorm(narrow));
                middle.backward(inner.input(now), &weights[1], gradient, &mut of_weights[1], wanted, false);
            }
            Kernel::ReduceBackward => {
                let (gradient, wanted) = (inner.through(of_inner, now), InputGradient::SumsOnly);
                reduce.backward(trunk.input(now), &weights[0], gradient, &mut of_weights[0], wanted, false);
            }
            Kernel::ReduceFinish => {
                let (gradient, shortcut) = (inner.through(of_inner, now), Some(of_trunk.into()));
                let input = trunk.input(now);
                reduce.finish_input_gradient(
                    input,
                    &weights[0],
                    gradient,
                    &trunk.sums,
                    shortcut,
                    wide.into(),
                );
            }
            Kernel::Junction => {
                let finishing = Finishing {
                    input: trunk.input(now),
                    weights: &weights[0],
                    gradient: inner.through(of_inner, now),
                    sums: &trunk.sums,
                    addend: of_trunk.into(),
                    output: wide.into(),
                };
                let beginning = Beginning {
                    input: inner.input(now + 1),
                    weights: &weights[2],
                    weights_gradient: &mut of_weights[2],
                    of_norm: narrow,
                    statistics_are_constant: false,
                };
                Junction { before: *expand, behind: *reduce }.backward(finishing, beginning);
            }
        }
    }
}
