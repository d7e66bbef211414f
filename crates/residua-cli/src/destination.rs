//! Where the results of a study go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use residua::files::{FileError, check_writable, write_file};

use crate::output::tell;

/// A file whose name says what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Ends in `.html`.
    Page(PathBuf),
    /// Ends in `.svg`.
    Picture(PathBuf),
}

impl Destination {
    /// Refuses what could not be written, before anything is measured for it.
    pub(crate) fn check(&self) -> Result<(), FileError> {
        check_writable(self.path())
    }

    /// Writes the page or the picture, whichever it is for, and says so.
    pub(crate) fn write(
        &self,
        page: impl FnOnce() -> String,
        picture: impl FnOnce() -> String,
    ) -> Result<(), FileError> {
        let text = match self {
            Self::Page(_) => page(),
            Self::Picture(_) => picture(),
        };
        write_file(self.path(), text.as_bytes())?;
        tell(format_args!("the {self} is {}", self.path().display()));
        Ok(())
    }

    fn path(&self) -> &Path {
        match self {
            Self::Page(path) | Self::Picture(path) => path,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Page(_) => "page",
            Self::Picture(_) => "picture",
        })
    }
}

impl FromStr for Destination {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(name);
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase).as_deref() {
            Some("html" | "htm") => Ok(Self::Page(path)),
            Some("svg") => Ok(Self::Picture(path)),
            _ => Err("give a name that ends in .html for a page, or in .svg for a picture"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_is_wanted() {
        assert_eq!("a/b.HTML".parse(), Ok(Destination::Page("a/b.HTML".into())));
        assert_eq!("b.svg".parse(), Ok(Destination::Picture("b.svg".into())));
        for name in ["", "svg", ".svg", "b.png"] {
            assert!(name.parse::<Destination>().is_err(), "{name}");
        }
    }
}
