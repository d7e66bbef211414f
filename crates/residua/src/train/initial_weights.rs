//! Weights that a run begins with instead of random ones, and what becomes of them.

use std::collections::HashMap;

use crate::nn::{NamedTensors, NetworkError, Part, ResNet, TensorValues, values_of};
use residua_infer::weights::StoredWeights;

/// Weights that a run begins with instead of random ones: those of the same network, but for the classifier perhaps.
#[derive(Debug, Clone)]
pub struct InitialWeights {
    tensors: NamedTensors,
    classes: Option<Vec<String>>,
    has_new_classifier: bool,
}

impl InitialWeights {
    /// These tensors; whose classes they tell apart is not known.
    pub fn new(tensors: NamedTensors) -> Self {
        Self { tensors, classes: None, has_new_classifier: false }
    }

    /// The same with a classifier as a new network has it, whatever the weights' own is for.
    pub fn with_new_classifier(self) -> Self {
        Self { has_new_classifier: true, ..self }
    }

    /// A network for images of these classes with these weights. Its own classifier stays if there is none for as many classes among the
    /// weights, or none is wanted.
    pub(super) fn load(
        self,
        network: ResNet,
        classes: &[String],
    ) -> Result<(ResNet, LoadedWeights), NetworkError> {
        let Self { mut tensors, classes: before, has_new_classifier } = self;
        let own = [
            ("classifier.weight", values_of(network.classifier.weight.val())),
            ("classifier.bias", values_of(network.classifier.bias.val())),
        ];
        let of_classifier = |name: &str| Part::of_tensor(name) == Some(Part::Classifier);
        let count = classifier_classes(&tensors, own[0].1.shape[1]);
        let is_there = tensors.keys().any(|name| of_classifier(name));
        let is_new = has_new_classifier || !is_there || count.is_some_and(|count| count != classes.len());
        let mut skipped = Vec::new();
        if is_new {
            skipped = tensors.keys().filter(|name| of_classifier(name)).cloned().collect();
            tensors.retain(|name, _| !of_classifier(name));
            tensors.extend(own.clone().map(|(name, values)| (name.to_owned(), values)));
        }
        let classifier = match (is_new, before) {
            (true, _) => LoadedClassifier::New { classes: count },
            (false, Some(before)) if before != classes => {
                let places = places(&before, classes);
                if places.iter().all(Option::is_none) {
                    LoadedClassifier::Renamed { before }
                } else {
                    for (name, own) in own {
                        if let Some(theirs) = tensors.get_mut(name).filter(|theirs| theirs.shape == own.shape)
                        {
                            *theirs = by_class(theirs, own, &places);
                        }
                    }
                    let new = classes.iter().zip(&places).filter(|(_, place)| place.is_none());
                    LoadedClassifier::ByName { before, new: new.map(|(class, _)| class.clone()).collect() }
                }
            }
            (false, _) => LoadedClassifier::Same,
        };
        let network = network.with_tensors(&tensors)?;
        let of_network = network.tensor_shapes().into_keys();
        let (replaced, loaded) = of_network.partition(|name| is_new && of_classifier(name));
        Ok((network, LoadedWeights { loaded, replaced, skipped, classifier }))
    }
}

/// Weights of a file, with the classes that it names.
impl From<StoredWeights> for InitialWeights {
    fn from(weights: StoredWeights) -> Self {
        let classes = weights.info().ok().map(|info| info.classes);
        Self { classes, ..Self::new(weights.tensors) }
    }
}

/// What became of the weights that a run began with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedWeights {
    /// The network's tensors that were loaded.
    pub loaded: Vec<String>,
    /// Those that are as in a new network.
    pub replaced: Vec<String>,
    /// Tensors of the weights that the network has no use for.
    pub skipped: Vec<String>,
    /// What became of the classifier.
    pub classifier: LoadedClassifier,
}

/// What became of the classifier of weights that a run began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedClassifier {
    /// It was loaded, for the same classes as far as is known.
    Same,
    /// Each class has the outputs that were learnt for one of its name.
    ByName {
        /// What their classes were called.
        before: Vec<String>,
        /// Those of which theirs had none; they are as in a new network.
        new: Vec<String>,
    },
    /// It was loaded, though all its classes had other names.
    Renamed {
        /// What they were called.
        before: Vec<String>,
    },
    /// It is as in a new network.
    New {
        /// How many classes that of the weights is for, if there is one.
        classes: Option<usize>,
    },
}

/// Where each class is among others, by its name. Names that stand there twice say nothing.
fn places(before: &[String], classes: &[String]) -> Vec<Option<usize>> {
    let mut known: HashMap<&String, Option<usize>> = HashMap::new();
    for (place, name) in before.iter().enumerate() {
        known.entry(name).and_modify(|place| *place = None).or_insert(Some(place));
    }
    classes.iter().map(|class| known.get(class).copied().flatten()).collect()
}

/// Rows of a tensor, one for each class: those at the places in theirs, else its own.
fn by_class(theirs: &TensorValues, own: TensorValues, places: &[Option<usize>]) -> TensorValues {
    let TensorValues { shape, mut values } = own;
    let row = (values.len() / places.len().max(1)).max(1);
    for (values, place) in values.chunks_exact_mut(row).zip(places) {
        if let Some(place) = place {
            values.copy_from_slice(&theirs.values[place * row..][..row]);
        }
    }
    TensorValues { shape, values }
}

/// The classes that the weights' classifier of so many features is for, if there is one such.
fn classifier_classes(tensors: &NamedTensors, features: usize) -> Option<usize> {
    let [weight, bias] = ["classifier.weight", "classifier.bias"].map(|name| tensors.get(name));
    match (weight?.shape.as_slice(), bias?.shape.as_slice()) {
        (&[classes, inputs], &[outputs]) if inputs == features && outputs == classes => Some(classes),
        _ => None,
    }
}
