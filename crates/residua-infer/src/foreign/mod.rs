//! Weights that others have trained: which network they are, by names and shapes, and what they leave unsaid.
//!
//! [`StoredWeights::recognised`] makes of a file's tensors those of a network of ours, and adds what the file does not say:
//! how pixels become inputs, names of the classes, the size of pictures. [`named_by`] gives a network's tensors a family's
//! names, so that its own programs load them.

mod channels;
mod dictionary;
mod family;
mod recognise;

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

pub use family::Family;

use self::dictionary::Dictionary;
use self::recognise::{Fit, to_ours, to_theirs};
use crate::network::{Architecture, NamedTensors, NetworkError, first_of};
use crate::normalisation::KnownNormalisation;
use crate::view::{View, ViewError};
use crate::weights::{Container, StoredWeights, WeightsError, WeightsInfo};

/// What is said of weights beside their file; what is `None` is what the file says, or else the family's custom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// Whose network it is.
    pub family: Option<Family>,
    /// How pixels become inputs.
    pub normalisation: Option<KnownNormalisation>,
    /// Names of the classes, in the order of the classifier's outputs.
    pub classes: Option<Vec<String>>,
    /// Height and width of what the network sees of a picture.
    pub size: Option<usize>,
    /// To how many pixels the shorter side of a picture is scaled before it is cropped, see [`View`].
    pub shorter_side: Option<usize>,
}

/// What was made of a file's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognition {
    /// Whose network it is; none for Residua's own.
    pub family: Option<Family>,
    /// What is in the file besides the network's weights, and was passed over.
    pub skipped: Vec<Skipped>,
    /// What neither the file nor the description says.
    pub assumed: Vec<Assumption>,
}

/// Tensors that were passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// What they are.
    pub what: String,
    /// How many they are.
    pub count: usize,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.count, self.what)
    }
}

/// What was taken to be so, as nothing says it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Assumption {
    /// The family's normalisation.
    Normalisation(KnownNormalisation),
    /// Classes are those of CIFAR-10 or CIFAR-100: so many.
    CifarClasses(usize),
    /// Classes have no names and are numbered from 0 on.
    NumberedClasses(usize),
    /// The family's view of pictures.
    View(View),
}

impl fmt::Display for Assumption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normalisation(known) => write!(formatter, "normalisation {known}"),
            Self::CifarClasses(count) => write!(formatter, "the class names of CIFAR-{count}"),
            Self::NumberedClasses(count) => write!(formatter, "classes named 0 to {}", count - 1),
            Self::View(View { height, width, shorter_side, .. }) => {
                write!(formatter, "pictures scaled to {shorter_side} and cropped to {height}x{width}")
            }
        }
    }
}

/// Weights that no network was made of.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// What the file says of itself cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights, or what was said of them.
    #[error("{}: {misfit}", .path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        misfit: Misfit,
    },
}

/// What does not fit in weights, or in what was said of them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Misfit {
    /// No network is known whose tensors have these names and shapes.
    #[error("{contents}: {problem}; known are networks of {families} and Residua's own", families = families())]
    Unknown {
        /// What the file is, how many tensors it has, and a few of their names.
        contents: String,
        /// The nearest network, and what does not fit.
        problem: String,
    },
    /// What the file says of pictures and classes cannot be read.
    #[error("{reason}; export the weights again")]
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// A family was named for weights that say themselves that they are Residua's own.
    #[error("the weights are Residua's own; leave the family {given} out")]
    Own {
        /// The family.
        given: Family,
    },
    /// The names of classes are not as many as the outputs.
    #[error("{given} names of classes for a network of {outputs} outputs")]
    Classes {
        /// Names given.
        given: usize,
        /// Outputs of the classifier.
        outputs: usize,
    },
    /// Pictures cannot be seen as described.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The network does not take such pictures.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

fn families() -> String {
    Family::ALL.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(", ")
}

impl StoredWeights {
    /// The weights by our names, with all that is needed to classify said in their metadata. Residua's own are as they were,
    /// but for what is described otherwise.
    ///
    /// # Errors
    /// When they are no network's that is known, or the description does not fit it.
    pub fn recognised(mut self, description: &Description) -> Result<(Self, Recognition), ForeignError> {
        // Nothing is to be found out: the metadata is not read only to be written again.
        if self.says_its_network() && *description == Description::default() {
            let recognition = own(&mut self);
            return Ok((self, recognition));
        }
        let result = if self.says_its_network() {
            let info = self.info()?;
            match description.family {
                Some(given) => Err(Misfit::Own { given }),
                None => Ok((info, own(&mut self))),
            }
        } else {
            foreign(&mut self, description)
        };
        let result = result.and_then(|(info, recognition)| Ok((described(info, description)?, recognition)));
        match result {
            Ok((info, recognition)) => Ok((Self { metadata: info.to_metadata(), ..self }, recognition)),
            Err(misfit) => Err(ForeignError::Misfit { path: self.path, misfit }),
        }
    }
}

/// Gives a network's tensors the names of a family, in its layouts: what [`StoredWeights::recognised`] undoes.
///
/// # Errors
/// Says why the network is none of that family.
pub fn named_by(
    family: Family,
    network: &Architecture,
    tensors: NamedTensors,
) -> Result<NamedTensors, String> {
    family.check(network)?;
    to_theirs(tensors, family, network).map_err(|error| error.to_string())
}

/// Residua's own weights.
fn own(weights: &mut StoredWeights) -> Recognition {
    let count = std::mem::take(&mut weights.others).len();
    let skipped = (count > 0).then(|| Skipped { what: "tensors of integers".to_owned(), count });
    Recognition { family: None, skipped: skipped.into_iter().collect(), assumed: Vec::new() }
}

/// Others' weights, which become ours.
fn foreign(
    weights: &mut StoredWeights,
    description: &Description,
) -> Result<(WeightsInfo, Recognition), Misfit> {
    let (tensors, others) = (std::mem::take(&mut weights.tensors), std::mem::take(&mut weights.others));
    let Dictionary { tensors, skipped } = Dictionary::of(tensors, &others);
    let (family, network) = match Fit::best(&tensors, description.family) {
        Some(Fit { family, network, problems, .. }) if problems.is_empty() => (family, network),
        nearest => {
            let contents = contents(weights.container, &tensors);
            return Err(Misfit::Unknown { contents, problem: problem(nearest.as_ref(), description.family) });
        }
    };
    weights.tensors = to_ours(tensors, family, &network)?;
    // A network that Residua has exported for that family says the rest.
    let said = WeightsInfo::from_foreign_metadata(&network, &weights.metadata)
        .map_err(|reason| Misfit::Metadata { reason })?;
    let (info, assumed) = match said {
        Some(info) => (info, Vec::new()),
        None => customary(family, network, description),
    };
    Ok((info, Recognition { family: Some(family), skipped, assumed }))
}

/// What the file is, how many tensors it has, and a few of their names.
fn contents(container: Container, tensors: &NamedTensors) -> String {
    let names: Vec<&str> = tensors.keys().map(String::as_str).take(3).collect();
    let more = if tensors.len() > names.len() { ", ..." } else { "" };
    match names.is_empty() {
        true => format!("{container} without tensors"),
        false => format!("{container} of {} tensors ({}{more})", tensors.len(), names.join(", ")),
    }
}

/// What does not fit the nearest network.
fn problem(nearest: Option<&Fit>, forced: Option<Family>) -> String {
    let Some(Fit { family, network, problems, .. }) = nearest else {
        return match forced {
            Some(family) => format!("it has no likeness to networks of {family}"),
            None => "it has no likeness to any network".to_owned(),
        };
    };
    let nearest = if forced.is_some() { "of" } else { "nearest is" };
    format!("{nearest} {family} {}, but {}", network.name(), first_of(problems).unwrap_or_default())
}

/// What a family's weights go with, and what of it is a guess.
fn customary(
    family: Family,
    network: Architecture,
    description: &Description,
) -> (WeightsInfo, Vec<Assumption>) {
    let (known, view) = (family.normalisation(&network), family.view(&network));
    let mut assumed = Vec::new();
    if description.normalisation.is_none() {
        assumed.push(Assumption::Normalisation(known));
    }
    let outputs = network.classes();
    let classes = match family.class_names(outputs) {
        Some(names) => names.iter().map(|&name| name.to_owned()).collect(),
        None => (0..outputs).map(|class| class.to_string()).collect(),
    };
    if description.classes.is_none() {
        assumed.push(match family.class_names(outputs) {
            Some(names) => Assumption::CifarClasses(names.len()),
            None => Assumption::NumberedClasses(outputs),
        });
    }
    if description.size.is_none() {
        assumed.push(Assumption::View(view));
    }
    let View { height, width, shorter_side, .. } = view;
    let normalisation = known.normalisation();
    let (ranges, temperature) = (None, None);
    let info =
        WeightsInfo { network, classes, height, width, shorter_side, normalisation, ranges, temperature };
    (info, assumed)
}

/// The same, as the description says otherwise.
fn described(info: WeightsInfo, description: &Description) -> Result<WeightsInfo, Misfit> {
    let Description { normalisation, classes, size, shorter_side, .. } = description;
    let view = size.map_or(info.view(), View::square);
    let view = View { shorter_side: shorter_side.unwrap_or(view.shorter_side), ..view };
    view.check()?;
    info.network.check_input(view.height, view.width)?;
    let classes = classes.clone().unwrap_or(info.classes);
    let (given, outputs) = (classes.len(), info.network.classes());
    if given != outputs {
        return Err(Misfit::Classes { given, outputs });
    }
    let View { height, width, shorter_side, .. } = view;
    let normalisation = normalisation.map_or(info.normalisation, KnownNormalisation::normalisation);
    Ok(WeightsInfo { classes, height, width, shorter_side, normalisation, ..info })
}
