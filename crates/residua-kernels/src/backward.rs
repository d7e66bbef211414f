//! From the gradient of an operation's input, `relu(norm(x))`, to the gradient of `x`.

use crate::flow::Flow;
use crate::map::{MapShape, padded};
use crate::norm::{Normalisation, NormalisationGradient, SUMS};
use crate::operands::{Input, InputGradient};
use crate::scratch;
use crate::sink::{BackwardSink, FinishedGradient, NormGradient, RawGradient};
use crate::source::{Finish, Norm};
use crate::streaming::is_streamed;
use crate::values::{Values, ValuesMut};
use crate::view::{MapView, MapViewMut, ViewMut};

/// Passes the gradient of `relu(norm(x))` on to `x`, as far as wanted. The sums over a normalised input take a pass of
/// their own, from `first`; where all of the gradient is wanted, it comes from `second`, which computes the same.
///
/// # Panics
/// When a slice has another length than its shape says, or sums are wanted of an input that is not normalised.
pub(crate) fn input_gradient(
    first: &dyn Flow,
    second: &dyn Flow,
    shape: MapShape,
    input: Input,
    wanted: InputGradient,
    statistics_are_constant: bool,
) -> Option<NormalisationGradient> {
    let x = MapView::new(input.values);
    let has_length = |length: usize, what: &str| assert_eq!(length, shape.len(), "{what}");
    has_length(input.values.len(), "input");
    let (stored, completed) = match wanted {
        InputGradient::Unneeded => return None,
        InputGradient::OfNorm(output) => (Some(output), None),
        InputGradient::SumsOnly => (None, None),
        InputGradient::Complete { output, addend } => (None, Some((output, addend))),
    };
    let stored_length = stored.as_ref().map(|output| output.len());
    if let Some(length) = stored_length.or(completed.as_ref().map(|(output, _)| output.len())) {
        has_length(length, "gradient of the input");
    }
    let addend = completed.as_ref().and_then(|(_, addend)| *addend);
    let (adds, addend) = (addend.is_some(), addend_view(shape, addend));

    let Some(norm) = input.norm else {
        let (output, _) = completed.expect("only a normalised input has sums");
        let output = MapViewMut::new(output);
        let masks = input.is_activated;
        first.pour(BackwardSink::Raw(RawGradient { output, masks, x, adds, addend }));
        return None;
    };
    let sums = sums(|sink| first.pour(sink), shape, input, norm, stored, statistics_are_constant);
    if let Some((output, addend)) = completed {
        let sink = finished(shape, input, &sums, addend, output);
        second.pour(BackwardSink::Finished(sink));
    }
    Some(sums)
}

/// What finishes the gradient of a normalised input, by the sums over it.
///
/// # Panics
/// When the input is not normalised, or something has another length than the shape says.
pub(crate) fn finished<'a>(
    shape: MapShape,
    input: Input<'a>,
    sums: &'a NormalisationGradient,
    addend: Option<Values<'a>>,
    output: ValuesMut<'a>,
) -> FinishedGradient<'a> {
    let norm = input.norm.expect("a normalised input");
    let has_length = |length: usize, what: &str| assert_eq!(length, shape.len(), "{what}");
    has_length(input.values.len(), "input");
    has_length(output.len(), "gradient of the input");
    let output = MapViewMut::new(output);
    FinishedGradient {
        output,
        masks: input.is_activated,
        x: MapView::new(input.values),
        finish: Finish::new(norm, sums, shape),
        adds: addend.is_some(),
        addend: addend_view(shape, addend),
        is_streamed: is_streamed(shape, output),
    }
}

/// What is added to a map of this shape, if anything is.
///
/// # Panics
/// When it has another length.
pub(crate) fn addend_view(shape: MapShape, addend: Option<Values>) -> MapView {
    if let Some(addend) = addend {
        assert_eq!(addend.len(), shape.len(), "addend");
    }
    addend.map_or_else(MapView::none, MapView::new)
}

/// The sums over a normalised input's gradient, which `pour` computes; it is stored too if there is a place for it.
pub(crate) fn sums(
    pour: impl FnOnce(BackwardSink),
    shape: MapShape,
    input: Input,
    norm: &Normalisation,
    stored: Option<&mut [f32]>,
    statistics_are_constant: bool,
) -> NormalisationGradient {
    let x = MapView::new(input.values);
    let (stores, output) = (stored.is_some(), ViewMut::new(stored.unwrap_or_default()));
    scratch::with_shared(shape.batch * SUMS * padded(shape.channels), |partial| {
        let (sums, channels) = (ViewMut::new(partial), shape.channels);
        let (masks, constants) = (input.is_activated, Norm::new(norm, shape));
        let sink = NormGradient { stores, output, masks, x, norm: constants, sums, channels };
        pour(BackwardSink::Norm(sink));
        NormalisationGradient::new(shape, norm, partial, statistics_are_constant)
    })
}
