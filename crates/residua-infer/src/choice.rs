//! Parsing a word that must be one of a few: an unknown word is answered with the nearest right one.

use thiserror::Error;

/// A word that is none of the choices it was read as.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown {what} '{given}'{}; choose one of: {}", suggestion(.nearest), .choices.join(", "))]
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

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|choice| format!(" (did you mean '{choice}'?)")).unwrap_or_default()
}

/// A type whose values are named by one word each, which is read, written and stored.
pub trait Word: Copy + Send + Sync + std::str::FromStr<Err = UnknownChoice> + 'static {
    /// Every value, in the order in which the documentation lists them.
    const WORDS: &'static [Self];

    /// The word that names this value on the command line and in files.
    fn word(self) -> &'static str;
}

/// Gives an enum of plain words its `ALL`, `as_str`, `Display`, `FromStr` and serde (as that word).
#[doc(hidden)]
#[macro_export]
macro_rules! words {
    ($type:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
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

        impl $crate::choice::Word for $type {
            const WORDS: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
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
    fn nothing_is_suggested_for_an_unlike_name() {
        let choices = ["shapes", "cifar10", "cifar100"];
        assert_eq!(nearest("CIFAR-10", &choices), Some("cifar10"));
        assert_eq!(nearest("imagenet", &choices), None);
        assert_eq!(nearest("", &choices), None);
        assert_eq!(nearest("shapes", &[]), None);
    }
}
