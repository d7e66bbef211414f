//! Which images to use, as they are named on the command line and in recipes.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    dataset::Split,
    downloadable::Downloadable,
    error::DataError,
    folder::ImageFolder,
    images::Images,
    shapes::{SHAPES_CLASSES, shapes},
};
use residua_infer::choice::{Choice, Choices, UnknownChoice, nearest};
use residua_infer::cifar_classes;

/// Where images come from: `shapes`, `cifar10`, `cifar10:DIR`, `cifar100`, `cifar100:DIR` or `folder:DIR`; in the recipe of a
/// run on images that the program itself gives, `own:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in images of [`shapes`].
    Shapes,
    /// CIFAR-10 from a folder, or from where [`Downloadable::download`] puts it; see [`super::cifar10`].
    Cifar10(Option<PathBuf>),
    /// CIFAR-100 likewise, see [`super::cifar100`].
    Cifar100(Option<PathBuf>),
    /// Pictures in a folder for each class, see [`ImageFolder`].
    Folder(PathBuf),
    /// Images of this name that the program which trains holds or makes itself. Nobody else can load them.
    Own(String),
}

impl Source {
    /// Reads, or for `shapes` draws, all images of a split into memory; of a folder, lists the files.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names what is missing or damaged; [`DataError::OwnImages`] for a program's own images.
    pub fn load(&self, split: Split) -> Result<Images, DataError> {
        Ok(match self {
            Self::Shapes => shapes(split).into(),
            Self::Cifar10(folder) => Downloadable::Cifar10.load(folder.as_deref(), split)?.into(),
            Self::Cifar100(folder) => Downloadable::Cifar100.load(folder.as_deref(), split)?.into(),
            Self::Folder(folder) => Images::Files(ImageFolder::open(folder, split)?),
            Self::Own(name) => return Err(DataError::OwnImages { name: name.clone() }),
        })
    }

    /// Whether the images are files of any size, rather than all of one size.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// Whether the images are those of the program itself, rather than of files or built in.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// How many classes its images have; none of a folder or a program's own, which say it themselves.
    pub fn class_count(&self) -> Option<usize> {
        match self {
            Self::Shapes => Some(SHAPES_CLASSES),
            Self::Cifar10(_) => Some(cifar_classes::CIFAR_10.len()),
            Self::Cifar100(_) => Some(cifar_classes::CIFAR_100.len()),
            Self::Folder(_) | Self::Own(_) => None,
        }
    }

    /// The data set's name for a run: without its folder, or a folder of pictures by its own name.
    pub fn short_name(&self) -> String {
        match self {
            Self::Folder(folder) => folder
                .file_name()
                .map_or_else(|| "folder".to_owned(), |name| name.to_string_lossy().into_owned()),
            Self::Shapes => "shapes".to_owned(),
            Self::Cifar10(_) => "cifar10".to_owned(),
            Self::Cifar100(_) => "cifar100".to_owned(),
            Self::Own(name) => name.clone(),
        }
    }
}

impl Choices for Source {
    const CHOICES: &'static [Choice] = &[
        Choice::new("shapes", "built-in images"),
        Choice::new(
            "cifar10[:DIR]",
            "from where downloads go, or files of the official binary layout in DIR",
        ),
        Choice::new("cifar100[:DIR]", "likewise"),
        Choice::new("folder:DIR", "pictures in DIR/train/CLASS and DIR/test/CLASS or DIR/val/CLASS"),
    ];
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(given: &str) -> Result<Self, DataError> {
        let (name, folder) = match given.split_once(':') {
            Some((name, folder)) => (name, Some(folder)),
            None => (given, None),
        };
        let without_folder = |name| DataError::SourceWithoutFolder { name };
        let folder_or_none = |name, source: fn(Option<PathBuf>) -> Self| match folder {
            Some("") => Err(without_folder(name)),
            folder => Ok(source(folder.map(PathBuf::from))),
        };
        match (name, folder) {
            ("shapes", None) => Ok(Self::Shapes),
            ("shapes", Some(folder)) => Err(DataError::SourceWithFolder { folder: folder.into() }),
            ("cifar10", _) => folder_or_none("cifar10", Self::Cifar10),
            ("cifar100", _) => folder_or_none("cifar100", Self::Cifar100),
            ("folder", None | Some("")) => Err(without_folder("folder")),
            ("folder", Some(folder)) => Ok(Self::Folder(folder.into())),
            ("own", Some(name)) => Err(DataError::OwnImages { name: name.into() }),
            _ => {
                let mut unknown = UnknownChoice::new(
                    "data set",
                    given,
                    &Self::CHOICES.iter().map(|choice| choice.written).collect::<Vec<_>>(),
                );
                // The folder that was given belongs into the suggestion.
                let folder = folder.filter(|folder| !folder.is_empty());
                unknown.nearest = nearest(name, &Self::words()).map(|name| match (name, folder) {
                    ("folder", folder) => format!("folder:{}", folder.unwrap_or("DIR")),
                    ("shapes", _) | (_, None) => name.to_owned(),
                    (name, Some(folder)) => format!("{name}:{folder}"),
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
            Self::Cifar10(Some(folder)) => write!(formatter, "cifar10:{}", folder.display()),
            Self::Cifar10(None) => formatter.write_str("cifar10"),
            Self::Cifar100(Some(folder)) => write!(formatter, "cifar100:{}", folder.display()),
            Self::Cifar100(None) => formatter.write_str("cifar100"),
            Self::Folder(folder) => write!(formatter, "folder:{}", folder.display()),
            Self::Own(name) => write!(formatter, "own:{name}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A recipe may say that images were a program's own; whoever asks for images by name may not.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("own:") {
            Some(name) => Ok(Self::Own(name.to_owned())),
            None => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, source, name) in [
            ("shapes", Source::Shapes, "shapes"),
            ("cifar10:/data/c:10", Source::Cifar10(Some("/data/c:10".into())), "cifar10"),
            ("cifar100:.", Source::Cifar100(Some(".".into())), "cifar100"),
            ("cifar10", Source::Cifar10(None), "cifar10"),
            ("cifar100", Source::Cifar100(None), "cifar100"),
            ("folder:my/flowers", Source::Folder("my/flowers".into()), "flowers"),
            ("folder:..", Source::Folder("..".into()), "folder"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap(), source);
            assert_eq!(source.to_string(), text);
            assert_eq!(source.short_name(), name);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        }
    }

    #[test]
    fn images_of_a_program_are_named_in_recipes_alone() {
        let source = Source::Own("rings: small".into());
        assert_eq!(source.short_name(), "rings: small");
        let json = serde_json::to_string(&source).unwrap();
        assert_eq!(json, "\"own:rings: small\"");
        assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        for error in ["own:rings".parse::<Source>().unwrap_err(), source.load(Split::Test).unwrap_err()] {
            assert!(error.to_string().contains("those of the program that began the run"), "{error}");
        }
    }

    #[test]
    fn wrong_names_are_put_right() {
        for (text, expected) in [
            ("folder", "needs the folder that holds its files: write `folder:DIR`"),
            ("cifar100:", "write `cifar100:DIR`"),
            ("shapes:x", "reads no folder, but `x` was given: write just `shapes`"),
            (
                "shape",
                "unknown data set 'shape' (did you mean 'shapes'?); choose one of: shapes, cifar10[:DIR], ",
            ),
            ("CIFAR-10:data", "did you mean 'cifar10:data'?"),
            ("cifar-100", "did you mean 'cifar100'?"),
            ("foler", "did you mean 'folder:DIR'?"),
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
}
