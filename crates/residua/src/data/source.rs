//! Which data set to use, as it is named on the command line and in recipes.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    cifar::{cifar10, cifar100},
    dataset::{Dataset, Split},
    error::DataError,
    shapes::shapes,
};
use crate::choice::{UnknownChoice, nearest, serde_as_string};

const CHOICES: [&str; 3] = ["shapes", "cifar10:DIR", "cifar100:DIR"];

/// A data set's name: `shapes`, `cifar10:DIR` or `cifar100:DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in images of [`shapes`].
    Shapes,
    /// CIFAR-10 from a folder, see [`cifar10`].
    Cifar10(PathBuf),
    /// CIFAR-100 from a folder, see [`cifar100`].
    Cifar100(PathBuf),
}

impl Source {
    /// Reads, or for `shapes` draws, all images of a split into memory.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names what is missing or damaged.
    pub fn load(&self, split: Split) -> Result<Dataset, DataError> {
        match self {
            Self::Shapes => Ok(shapes(split)),
            Self::Cifar10(folder) => cifar10(folder, split),
            Self::Cifar100(folder) => cifar100(folder, split),
        }
    }

    /// The number of classes, known without reading any file.
    pub fn classes(&self) -> usize {
        match self {
            Self::Shapes | Self::Cifar10(_) => 10,
            Self::Cifar100(_) => 100,
        }
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(given: &str) -> Result<Self, DataError> {
        let (name, folder) = match given.split_once(':') {
            Some((name, folder)) => (name, Some(folder)),
            None => (given, None),
        };
        let in_folder = |name, source: fn(PathBuf) -> Self| match folder {
            None | Some("") => Err(DataError::SourceWithoutFolder { name }),
            Some(folder) => Ok(source(folder.into())),
        };
        match (name, folder) {
            ("shapes", None) => Ok(Self::Shapes),
            ("shapes", Some(folder)) => Err(DataError::SourceWithFolder { folder: folder.into() }),
            ("cifar10", _) => in_folder("cifar10", Self::Cifar10),
            ("cifar100", _) => in_folder("cifar100", Self::Cifar100),
            _ => {
                let mut unknown = UnknownChoice::new("data set", given, &CHOICES);
                // The folder that was given belongs into the suggestion.
                let folder = folder.filter(|folder| !folder.is_empty()).unwrap_or("DIR");
                unknown.nearest = nearest(name, &["shapes", "cifar10", "cifar100"]).map(|name| match name {
                    "shapes" => name.to_owned(),
                    _ => format!("{name}:{folder}"),
                });
                Err(unknown.into())
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shapes => formatter.write_str("shapes"),
            Self::Cifar10(folder) => write!(formatter, "cifar10:{}", folder.display()),
            Self::Cifar100(folder) => write!(formatter, "cifar100:{}", folder.display()),
        }
    }
}

serde_as_string!(Source);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, source, classes) in [
            ("shapes", Source::Shapes, 10),
            ("cifar10:/data/c:10", Source::Cifar10("/data/c:10".into()), 10),
            ("cifar100:.", Source::Cifar100(".".into()), 100),
        ] {
            assert_eq!(text.parse::<Source>().unwrap(), source);
            assert_eq!(source.to_string(), text);
            assert_eq!(source.classes(), classes);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        }
    }

    #[test]
    fn wrong_names_are_put_right() {
        for (text, expected) in [
            ("cifar10", "needs the folder that holds its files: write `cifar10:DIR`"),
            ("cifar100:", "write `cifar100:DIR`"),
            ("shapes:x", "reads no folder, but `x` was given: write just `shapes`"),
            (
                "shape",
                "unknown data set 'shape' (did you mean 'shapes'?); choose one of: shapes, cifar10:DIR, ",
            ),
            ("CIFAR-10:data", "did you mean 'cifar10:data'?"),
            ("cifar-100", "did you mean 'cifar100:DIR'?"),
            ("imagenet", "unknown data set 'imagenet'; choose one of"),
            ("", "unknown data set ''; choose one of"),
        ] {
            let message = text.parse::<Source>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(
            serde_json::from_str::<Source>("\"mnist\"").unwrap_err().to_string().contains("choose one of")
        );
    }

    #[test]
    fn the_class_counts_are_those_of_the_files() {
        assert_eq!(Source::Shapes.load(Split::Test).unwrap().classes().len(), Source::Shapes.classes());
    }
}
