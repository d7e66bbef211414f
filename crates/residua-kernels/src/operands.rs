//! What operations read, and what is wanted of them: maps with a normalisation in front, and their gradients.

use crate::map::MapShape;
use crate::norm::{Normalisation, NormalisationGradient};
use crate::source::{AnySource, Finish, Norm, Normalised, Raw, ThroughNorm, floor};
use crate::values::{Values, ValuesMut};
use crate::view::MapView;

/// What an operation reads: `relu(norm(values))`, both optional. Convolutions take values of either kind, other operations
/// those of f32.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// `[batch, height, width, channels]`
    pub values: Values<'a>,
    /// Normalisation of the values.
    pub norm: Option<&'a Normalisation>,
    /// Whether ReLU follows.
    pub is_activated: bool,
}

/// The gradient of a convolution's output.
#[derive(Debug, Clone, Copy)]
pub enum OutputGradient<'a> {
    /// As it is.
    Plain(Values<'a>),
    /// Of a map `x` that was normalised: what is known so far is the gradient of `norm(x)`.
    ThroughNorm {
        /// Gradient of `norm(x)`.
        gradient: &'a [f32],
        /// The convolution's output.
        x: Values<'a>,
        /// Its normalisation.
        norm: &'a Normalisation,
        /// The sums over `gradient`.
        sums: &'a NormalisationGradient,
    },
}

/// What is wanted of the input's gradient.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// Nothing.
    Unneeded,
    /// All of it, for an input that is not normalised; plus an addend.
    Complete {
        /// Where it goes.
        output: ValuesMut<'a>,
        /// Added to it.
        addend: Option<Values<'a>>,
    },
    /// Of a normalised input: the gradient of `norm(x)`, and the sums over it.
    OfNorm(&'a mut [f32]),
    /// Of a normalised input: the sums alone. [`Convolution::finish_input_gradient`](crate::Convolution::finish_input_gradient) does the rest.
    SumsOnly,
}

impl<'a> Input<'a> {
    /// What kernels read of it.
    ///
    /// # Panics
    /// When there are not as many values as the shape says.
    pub(crate) fn source(self, shape: MapShape) -> AnySource<'a> {
        assert_eq!(self.values.len(), shape.len(), "input");
        let values = MapView::new(self.values);
        let floor = floor(self.is_activated);
        match self.norm {
            None => AnySource::Raw(Raw { values, floor }),
            Some(norm) => AnySource::Normalised(Normalised { values, norm: Norm::new(norm, shape), floor }),
        }
    }
}

impl<'a> OutputGradient<'a> {
    /// What kernels read of it.
    ///
    /// # Panics
    /// When there are not as many values as the shape says.
    pub(crate) fn source(self, shape: MapShape) -> AnySource<'a> {
        match self {
            OutputGradient::Plain(values) => {
                assert_eq!(values.len(), shape.len(), "gradient of the output");
                AnySource::Raw(Raw { values: MapView::new(values), floor: floor(false) })
            }
            OutputGradient::ThroughNorm { gradient, x, norm, sums } => {
                assert_eq!((gradient.len(), x.len()), (shape.len(), shape.len()), "gradient of the output");
                AnySource::ThroughNorm(ThroughNorm {
                    gradient: MapView::new(gradient),
                    x: MapView::new(x),
                    finish: Finish::new(norm, sums, shape),
                })
            }
        }
    }
}
