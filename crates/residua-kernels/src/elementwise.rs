//! What works on the numbers of a map one by one: statistics, the end of a residual block, the end of a gradient.

use crate::backward::input_gradient;
use crate::flag::{Flag, Never, for_flags};
use crate::flow::{Flow, KeptFlow, MapFlow, Only, for_source};
use crate::instructions::Instructions;
use crate::map::{Block, MapShape, padded};
use crate::norm::{self, Normalisation, NormalisationGradient, STATISTICS};
use crate::operands::{Input, InputGradient, OutputGradient};
use crate::scratch;
use crate::sink::{FinishedGradient, Output, Sink, Statistics};
use crate::source::{Finish, Raw, Source, ThroughNorm, floor};
use crate::streaming::is_streamed;
use crate::values::{Values, ValuesMut};
use crate::vector::Vector;
use crate::view::{MapView, MapViewMut, View, ViewMut};

/// Mean and biased variance of the channels of `x`, for each of `groups` groups of consecutive images, to `moments`:
/// `[groups, 2, channels]`.
///
/// # Panics
/// When a slice has another length than its shape says, or the images cannot be divided into the groups.
pub fn moments(shape: MapShape, x: &[f32], groups: usize, instructions: Instructions, moments: &mut [f32]) {
    assert_eq!(x.len(), shape.len(), "map");
    scratch::with_shared(shape.batch * STATISTICS * padded(shape.channels), |partial| {
        let sink = Only(Count { statistics: ViewMut::new(partial), channels: shape.channels });
        MapFlow { shape, source: raw(View::new(x)), instructions }.pour_into(sink);
        norm::moments(shape, partial, groups, moments, instructions);
    });
}

/// The end of a residual block: `y = relu(relu(norm(x)) + addend)`, each part of it optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// Shape of all maps.
    pub shape: MapShape,
    /// Whether a ReLU follows the sum.
    pub is_activated: bool,
    /// What to compute it with.
    pub instructions: Instructions,
}

/// The gradient of a merge's output, and what becomes of the gradient of the sum: the former where `y > 0`, if a ReLU
/// follows the sum; else the same. The gradient of the sum is that of the addend.
#[derive(Debug)]
pub enum SumGradient<'a> {
    /// The gradient of the sum is not needed.
    Discarded(&'a [f32]),
    /// It takes the place of the gradient of the output.
    Replaced(&'a mut [f32]),
    /// It is stored.
    Stored {
        /// Gradient of the output.
        gradient: &'a [f32],
        /// Where the gradient of the sum goes.
        sum: &'a mut [f32],
    },
}

impl Merge {
    /// `output = relu(input + addend)`; with `moments` (`[groups, 2, channels]`) also mean and biased variance of the
    /// output for each group of consecutive images.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn forward(
        &self,
        input: Input,
        addend: Option<&[f32]>,
        output: &mut [f32],
        moments: Option<(usize, &mut [f32])>,
    ) {
        let Self { shape, is_activated, instructions } = *self;
        assert_eq!(input.values.len(), shape.len(), "input");
        self.check(output, "output");
        if let Some(addend) = addend {
            self.check(addend, "addend");
        }
        let (adds, addend) = (addend.is_some(), View::new(addend.unwrap_or_default()));
        let statistics_len = shape.batch * STATISTICS * padded(shape.channels);
        scratch::with_shared(if moments.is_some() { statistics_len } else { 0 }, |partial| {
            let (output, statistics) = (ViewMut::new(output), ViewMut::new(partial));
            let (counts, floor) = (moments.is_some(), floor(is_activated));
            for_source!(
                source = input,
                shape,
                for_flags!([adds, counts], {
                    let source = Sum { source, adds, addend, floor };
                    let sink = Output::stored(shape, output).counted(counts, statistics);
                    MapFlow { shape, source, instructions }.pour_into(Only(sink));
                })
            );
            if let Some((groups, moments)) = moments {
                norm::moments(shape, partial, groups, moments, instructions);
            }
        });
    }

    /// The gradients of [`Merge::forward`]: of the sum (which is the addend's) and of the input, as far as wanted. Returns
    /// the sums that belong to a normalised input's gradient; where its statistics are constants (running ones), say so.
    ///
    /// `output` is what `forward` computed; it is read where a ReLU follows the sum, and may else be empty.
    /// [`InputGradient::Complete`] is all of the gradient here, also of a normalised input, which takes a second pass.
    /// Without a ReLU before the sum, [`InputGradient::OfNorm`] is the gradient of the sum once more.
    ///
    /// # Panics
    /// When a slice has another length than its shape says, or sums are wanted of an input that is not normalised.
    pub fn backward(
        &self,
        input: Input,
        output: &[f32],
        gradient: SumGradient,
        wanted: InputGradient,
        statistics_are_constant: bool,
    ) -> Option<NormalisationGradient> {
        let Self { shape, instructions, .. } = *self;
        let (gradient, kept) = match gradient {
            SumGradient::Discarded(gradient) => (View::new(self.check(gradient, "gradient")), None),
            SumGradient::Replaced(gradient) => {
                self.check(gradient, "gradient");
                let output = ViewMut::new(gradient);
                (output.read(), Some((output, false)))
            }
            SumGradient::Stored { gradient, sum } => {
                self.check(gradient, "gradient");
                self.check(sum, "gradient of the sum");
                if !self.is_activated {
                    let plain = OutputGradient::Plain(gradient.into());
                    finish_gradient(shape, plain, None, ValuesMut::F32(&mut *sum), instructions);
                }
                let sum = ViewMut::new(sum);
                (View::new(gradient), Some((sum, is_streamed(shape, sum.into()))))
            }
        };
        let of_input = |first: &dyn Flow, second: &dyn Flow, wanted| {
            input_gradient(first, second, shape, input, wanted, statistics_are_constant)
        };
        if !self.is_activated {
            let flow = MapFlow { shape, source: raw(gradient), instructions };
            return of_input(&flow, &flow, wanted);
        }
        let source = Masked { gradient, guide: View::new(self.check(output, "output")) };
        let flow = MapFlow { shape, source, instructions };
        match (kept, wanted) {
            (None, wanted) => of_input(&flow, &flow, wanted),
            (Some((output, is_streamed)), InputGradient::Unneeded) => {
                flow.pour_into(Only(Output { is_streamed, ..Output::stored(shape, output) }));
                None
            }
            (Some((output, is_streamed)), wanted) => {
                let kept = MapFlow { shape, source: raw(output.read()), instructions };
                of_input(&KeptFlow { flow, output, is_streamed }, &kept, wanted)
            }
        }
    }

    fn check<'a>(&self, values: &'a [f32], what: &str) -> &'a [f32] {
        assert_eq!(values.len(), self.shape.len(), "{what}");
        values
    }
}

/// A gradient in full: one [`OutputGradient::ThroughNorm`] is `scale * g + slope * (x - mean) + offset`, plus an addend.
///
/// # Panics
/// When a slice has another length than its shape says.
pub fn finish_gradient(
    shape: MapShape,
    gradient: OutputGradient,
    addend: Option<Values>,
    output: ValuesMut,
    instructions: Instructions,
) {
    let check = |length: usize, what: &str| assert_eq!(length, shape.len(), "{what}");
    check(output.len(), "finished gradient");
    if let Some(addend) = addend {
        check(addend.len(), "addend");
    }
    let (adds, addend) = (addend.is_some(), addend.map_or_else(MapView::none, MapView::new));
    let output = MapViewMut::new(output);
    let is_streamed = is_streamed(shape, output);
    let (counts, statistics, channels) = (Never, ViewMut::new(&mut []), shape.channels);
    let sink = Only(Output { output, adds, addend, counts, statistics, channels, is_streamed });
    match gradient {
        OutputGradient::Plain(gradient) => {
            check(gradient.len(), "gradient");
            let source = Raw { values: MapView::new(gradient), floor: floor(false) };
            MapFlow { shape, source, instructions }.pour_into(sink);
        }
        OutputGradient::ThroughNorm { gradient, x, norm, sums } => {
            check(gradient.len(), "gradient");
            check(x.len(), "normalised map");
            let finish = Finish::new(norm, sums, shape);
            let source = ThroughNorm { gradient: MapView::new(gradient), x: MapView::new(x), finish };
            MapFlow { shape, source, instructions }.pour_into(sink);
        }
    }
}

/// As [`finish_gradient`], of the gradient of `norm(x)` that is in `gradient`, where the result goes.
///
/// # Panics
/// When a slice has another length than its shape says.
pub fn finish_gradient_in_place(
    shape: MapShape,
    gradient: &mut [f32],
    x: Values,
    norm: &Normalisation,
    sums: &NormalisationGradient,
    addend: Option<Values>,
    instructions: Instructions,
) {
    let check = |length: usize, what: &str| assert_eq!(length, shape.len(), "{what}");
    check(gradient.len(), "gradient");
    check(x.len(), "normalised map");
    if let Some(addend) = addend {
        check(addend.len(), "addend");
    }
    let (adds, addend) = (addend.is_some(), addend.map_or_else(MapView::none, MapView::new));
    let output = ViewMut::new(gradient);
    let flow = MapFlow { shape, source: raw(output.read()), instructions };
    let sink = FinishedGradient {
        output: output.into(),
        masks: Never,
        x: MapView::new(x),
        finish: Finish::new(norm, sums, shape),
        adds,
        addend,
        // What has just been read is in the caches: writing past them would gain nothing.
        is_streamed: false,
    };
    for_flags!(
        [adds],
        match sink.known(Never, adds) {
            Some(sink) => flow.pour_into(Only(sink)),
            None => flow.pour_into(Only(sink)),
        }
    );
}

/// A map of f32 as it is.
fn raw(values: View<'_>) -> Raw<'_, true> {
    Raw { values: values.into(), floor: floor(false) }
}

/// `relu(source + addend)`
#[derive(Clone, Copy)]
struct Sum<'a, S, Adds> {
    source: S,
    /// Whether `addend` is added.
    adds: Adds,
    addend: View<'a>,
    /// [`floor`]
    floor: f32,
}

impl<S: Source, Adds: Flag> Source for Sum<'_, S, Adds> {
    /// And the floor.
    type Constants<V: Vector> = (S::Constants<V>, V);

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, image: usize, block: Block) -> Self::Constants<V> {
        // SAFETY: as the caller promises.
        unsafe { (self.source.constants(image, block), V::splat(self.floor)) }
    }

    #[inline(always)]
    unsafe fn get<V: Vector>(self, (source, floor): &Self::Constants<V>, at: usize, block: Block) -> V {
        // SAFETY: the addend, if there is one, has the map's shape.
        unsafe {
            let mut value = self.source.get::<V>(source, at, block);
            if self.adds.holds() {
                value = value.add(self.addend.load_first(at, block.count));
            }
            value.at_least(*floor)
        }
    }
}

/// A gradient where a ReLU's output is above zero.
#[derive(Clone, Copy)]
pub(crate) struct Masked<'a> {
    pub(crate) gradient: View<'a>,
    pub(crate) guide: View<'a>,
}

impl Source for Masked<'_> {
    type Constants<V: Vector> = ();

    #[inline(always)]
    unsafe fn constants<V: Vector>(self, _: usize, _: Block) {}

    #[inline(always)]
    unsafe fn get<V: Vector>(self, (): &(), at: usize, block: Block) -> V {
        // SAFETY: guide and gradient have the map's shape.
        unsafe {
            let gradient = self.gradient.load_first::<V>(at, block.count);
            gradient.where_active(self.guide.load_first(at, block.count))
        }
    }
}

/// Takes the statistics that [`Output`] takes, and stores nothing.
#[derive(Clone, Copy)]
struct Count<'a> {
    /// `[batch][STATISTICS][padded channels]`
    statistics: ViewMut<'a>,
    channels: usize,
}

impl Sink for Count<'_> {
    type State<V: Vector> = Statistics<V>;

    #[inline(always)]
    unsafe fn begin<V: Vector>(
        self,
        image: usize,
        block: Block,
        is_first: bool,
        _: usize,
        value: V,
    ) -> Statistics<V> {
        // SAFETY: statistics have a place for every image and block.
        unsafe {
            if is_first {
                return Statistics::new(value);
            }
            Statistics::load(self.statistics.read(), self.channels, image, block)
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, state: &mut Statistics<V>, chain: usize, _: usize, _: Block, value: V) {
        // SAFETY: the processor has `V`'s instructions, as the caller promises.
        unsafe { state.count(chain, value) }
    }

    #[inline(always)]
    unsafe fn end<V: Vector>(self, state: Statistics<V>, image: usize, block: Block) {
        // SAFETY: statistics have a place for every image and block.
        unsafe { state.store(self.statistics, self.channels, image, block) }
    }
}
