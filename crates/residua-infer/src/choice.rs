//! Values that are written as one of a few words: one list of them is read by parsers, help texts and completions, and answers
//! an unknown word with the nearest right one.

use thiserror::Error;

/// A word that is none of the choices it was read as.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown {what} '{given}'{}; choose one of: {}", suggestion(.nearest.as_deref()), .choices.join(", "))]
#[non_exhaustive]
pub struct UnknownChoice {
    /// What the word should have named, such as `ordering`.
    pub what: &'static str,
    /// The word as it was given.
    pub given: String,
    /// The choice spelt most like it, if any is close.
    pub nearest: Option<String>,
    /// All choices.
    pub choices: Vec<String>,
}

impl UnknownChoice {
    /// The error for `given`, which is none of `choices`.
    pub fn new(what: &'static str, given: &str, choices: &[&str]) -> Self {
        Self {
            what,
            given: given.to_owned(),
            nearest: nearest(given, choices).map(str::to_owned),
            choices: choices.iter().map(|&choice| choice.to_owned()).collect(),
        }
    }
}

/// The choice spelt most like `given`, if it is close enough to be what was meant.
pub fn nearest<'a>(given: &str, choices: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    choices
        .iter()
        .map(|&choice| (strsim::jaro_winkler(&given, choice), choice))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, choice)| choice)
}

/// The question with which an error offers what may have been meant, to be said right behind what was given; nothing without.
pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|choice| format!(" (did you mean '{choice}'?)")).unwrap_or_default()
}

/// The first five of some names, and how many there are if that is not all: `a, b, c, d, e, ...: 7`.
pub fn some_of(names: &[String]) -> String {
    const FEW: usize = 5;
    let shown = names[..names.len().min(FEW)].join(", ");
    if names.len() > FEW { format!("{shown}, ...: {}", names.len()) } else { shown }
}

/// One of the words that a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The word, behind it the parameters that it takes: `identity`, `scale:S,F`, in brackets those that can be left out: `cuda[:N]`.
    pub written: &'static str,
    /// With parameters, where it does not go without.
    pub example: Option<&'static str>,
    /// What it means, in a few words; nothing where the word says it.
    pub meaning: &'static str,
}

impl Choice {
    /// A word that goes without parameters.
    pub const fn new(written: &'static str, meaning: &'static str) -> Self {
        Self { written, example: None, meaning }
    }

    /// A word with its parameters.
    pub const fn with_example(written: &'static str, example: &'static str, meaning: &'static str) -> Self {
        Self { written, example: Some(example), meaning }
    }

    /// The word without its parameters.
    pub fn word(self) -> &'static str {
        self.written.split([':', '[']).next().unwrap_or_default()
    }

    /// How it is written: `scale:S,F, such as scale:0.5,0.5`.
    pub fn usage(self) -> String {
        self.example
            .map_or_else(|| self.written.to_owned(), |example| format!("{}, such as {example}", self.written))
    }
}

/// A type whose values are written as one of a few words.
pub trait Choices: std::str::FromStr {
    /// The words, in the order in which the documentation lists them.
    const CHOICES: &'static [Choice];

    /// The words without their parameters.
    fn words() -> Vec<&'static str> {
        Self::CHOICES.iter().map(|choice| choice.word()).collect()
    }
}

/// Gives an enum of plain words its `ALL`, `as_str`, `Display`, `FromStr`, serde (as that word) and [`Choices`]. A word is
/// followed by what it means, where help texts are to say it: `Word => "word": "what it means"`.
#[doc(hidden)]
#[macro_export]
macro_rules! words {
    ($type:ident, $what:literal, { $($variant:ident => $word:literal $(: $meaning:literal)?),+ $(,)? }) => {
        impl $type {
            /// Every choice, in the order in which the documentation lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that names this choice on the command line and in files.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::choice::UnknownChoice;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::choice::UnknownChoice::new($what, word, &[$($word),+])),
                }
            }
        }

        impl $crate::choice::Choices for $type {
            const CHOICES: &'static [$crate::choice::Choice] =
                &[$($crate::choice::Choice::new($word, concat!("" $(, $meaning)?))),+];
        }

        $crate::serde_as_string!($type);
    };
}

/// Serialises a type through its `Display` and `FromStr`.
#[doc(hidden)]
#[macro_export]
macro_rules! serde_as_string {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_and_all_choices() {
        let error = UnknownChoice::new("ordering", "pre-act", &["original", "preact"]);
        assert_eq!(
            error.to_string(),
            "unknown ordering 'pre-act' (did you mean 'preact'?); choose one of: original, preact"
        );
        let error = UnknownChoice::new("ordering", "zzz", &["original", "preact"]);
        assert_eq!(error.to_string(), "unknown ordering 'zzz'; choose one of: original, preact");
    }

    #[test]
    fn words_are_told_from_their_parameters() {
        for (written, word) in [("identity", "identity"), ("scale:S,F", "scale"), ("cuda[:N]", "cuda")] {
            assert_eq!(Choice::new(written, "").word(), word);
        }
        let scale = Choice::with_example("scale:S,F", "scale:0.5,0.5", "weighs both paths");
        assert_eq!(scale.usage(), "scale:S,F, such as scale:0.5,0.5");
    }

    #[test]
    fn nothing_is_suggested_for_an_unlike_name() {
        let choices = ["shapes", "cifar10", "cifar100"];
        assert_eq!(nearest("CIFAR-10", &choices), Some("cifar10"));
        assert_eq!(nearest("imagenet", &choices), None);
        assert_eq!(nearest("", &choices), None);
        assert_eq!(nearest("shapes", &[]), None);
    }
}
