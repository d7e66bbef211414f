//! What training makes small.

use serde::{Deserialize, Serialize};

use super::option::RecipeOption;
use super::validation::{InvalidOption, OptionProblem};
use residua_infer::words;

/// The loss of training; tests always measure the plain cross-entropy. By default it is that, as in the paper.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LossOptions {
    /// Which loss.
    pub kind: LossKind,
    /// The part of the target that is shared out among all classes: of `K` classes the right one has
    /// `1 - label_smoothing + label_smoothing / K`, each other one `label_smoothing / K` (Szegedy et al., 2016, section 7).
    pub label_smoothing: f64,
    /// What images count by their class; if left out, all count alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
}

/// Which loss training makes small, of logits `x` and targets `q` that sum to one for each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossKind {
    /// `-sum(q log softmax(x))`, the mean over the images (the paper).
    #[default]
    CrossEntropy,
    /// `-(q log sigmoid(x) + (1 - q) log(1 - sigmoid(x)))`, each class a question of its own, the mean over images and classes
    /// (Wightman, Touvron and Jegou, 2021, section 4; PyTorch's `BCEWithLogitsLoss`).
    BinaryCrossEntropy,
}

words!(LossKind, "loss", {
    CrossEntropy => "cross-entropy": "of one class among all",
    BinaryCrossEntropy => "binary-cross-entropy": "of each class by itself",
});

/// What an image counts in the loss and its gradient, by its class. The sum over images is divided by the sum of their weights (PyTorch's
/// `CrossEntropyLoss(weight=...)`). In a recipe it is the word `balanced`, or a list of classes with their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredWeights", into = "StoredWeights")]
pub enum ClassWeights {
    /// In inverse proportion to the number of training images: of `n` images and `K` classes `n / (K * images of the class)`, so
    /// that every class counts as much as any other (scikit-learn's `balanced`).
    Balanced,
    /// Each class's own, by its name.
    Given(Vec<(String, f64)>),
}

impl ClassWeights {
    /// The word for weights in inverse proportion to the number of images.
    pub const BALANCED: &str = "balanced";

    /// The weight of each class, where these are the labels of all training images. A class without images has none to weigh.
    ///
    /// # Errors
    /// Names classes that weights are given for and that there are not, or that there are without a weight.
    pub fn of_classes(&self, classes: &[String], labels: &[u16]) -> Result<Vec<f64>, InvalidOption> {
        let Self::Given(given) = self else { return Ok(balanced(classes.len(), labels)) };
        let wrong = |name: &str, rule| {
            InvalidOption::new(RecipeOption::ClassWeights, name, OptionProblem::Rule(rule))
        };
        if let Some((name, _)) = given.iter().find(|(name, _)| !classes.contains(name)) {
            return Err(wrong(name, "is no class of the training images; take it out"));
        }
        let of_class = |class: &String| match given.iter().find(|(name, _)| name == class) {
            Some((_, weight)) => Ok(*weight),
            None => Err(wrong(class, "has no weight; give every class one")),
        };
        classes.iter().map(of_class).collect()
    }
}

fn balanced(classes: usize, labels: &[u16]) -> Vec<f64> {
    let mut images = vec![0u64; classes];
    labels.iter().for_each(|&label| images[usize::from(label)] += 1);
    let weight = |images| match images {
        0 => 0.,
        images => labels.len() as f64 / (classes as f64 * images as f64),
    };
    images.into_iter().map(weight).collect()
}

/// As weights stand in a recipe's file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredWeights {
    Word(String),
    Given(Vec<(String, f64)>),
}

impl TryFrom<StoredWeights> for ClassWeights {
    type Error = String;

    fn try_from(stored: StoredWeights) -> Result<Self, String> {
        match stored {
            StoredWeights::Word(word) if word == Self::BALANCED => Ok(Self::Balanced),
            StoredWeights::Word(word) => {
                Err(format!("unknown class weights '{word}'; write balanced, or [[\"CLASS\", WEIGHT], ...]"))
            }
            StoredWeights::Given(given) => Ok(Self::Given(given)),
        }
    }
}

impl From<ClassWeights> for StoredWeights {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::Balanced => Self::Word(ClassWeights::BALANCED.to_owned()),
            ClassWeights::Given(given) => Self::Given(given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_make_all_classes_count_alike() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        // sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1], y=[0, 0, 0, 1]) is [2/3, 2].
        let weights = ClassWeights::Balanced.of_classes(&classes[..2], &[0, 0, 0, 1]).unwrap();
        assert_eq!(weights, [2. / 3., 2.]);
        assert_eq!(ClassWeights::Balanced.of_classes(&classes, &[0, 0, 2]).unwrap(), [0.5, 0., 1.]);
    }

    #[test]
    fn weights_are_given_by_name_for_every_class() {
        let classes = ["cat", "dog"].map(str::to_owned);
        let given = |given: &[(&str, f64)]| {
            ClassWeights::Given(given.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect())
        };
        let weights = given(&[("dog", 3.), ("cat", 0.5)]);
        assert_eq!(weights.of_classes(&classes, &[0]).unwrap(), [0.5, 3.]);
        let missing = given(&[("dog", 3.)]).of_classes(&classes, &[0]).unwrap_err().to_string();
        assert_eq!(missing, "loss.class_weights = cat: has no weight; give every class one");
        let unknown = given(&[("dog", 3.), ("cow", 1.)]).of_classes(&classes, &[0]).unwrap_err().to_string();
        assert!(unknown.starts_with("loss.class_weights = cow: is no class"), "{unknown}");
    }
}
