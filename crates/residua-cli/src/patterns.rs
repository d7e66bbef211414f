//! Which files a pattern such as `photos/*.jpg` means.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

/// What a pattern means.
#[derive(Debug, Default)]
pub(crate) struct Matched {
    /// Files, in the order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// Folders that could not be listed.
    pub(crate) unlisted: Vec<(PathBuf, io::Error)>,
}

/// As shells do: what a pattern does not begin with a dot for is no hidden file.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that a pattern means. Names that are no text are matched as if the bytes that are none were any character.
pub(crate) fn matched(pattern: &str) -> Result<Matched, PatternError> {
    Pattern::new(pattern)?;
    let is_separator = |character| std::path::is_separator(character);
    let (mut places, mut found) = (vec![PathBuf::new()], Matched::default());
    if pattern.starts_with(is_separator) {
        places = vec![PathBuf::from("/")];
    }
    let mut parts = pattern.split(is_separator).filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        places = match part {
            // By itself it means folders alone.
            "**" if is_last => Vec::new(),
            "**" => places.iter().flat_map(|place| found.folders_below(place)).collect(),
            part if part.contains(['*', '?', '[']) => {
                let pattern = Pattern::new(part)?;
                let is_meant = |name: &OsString| pattern.matches_with(&name.to_string_lossy(), OPTIONS);
                let mut all = Vec::new();
                for place in places.iter().filter(|place| is_folder(place)) {
                    let names = found.names_in(place).into_iter().filter(is_meant);
                    all.extend(names.map(|name| place.join(name)));
                }
                all
            }
            part => places.iter().map(|place| place.join(part)).collect(),
        };
        places.retain(|place| place.symlink_metadata().is_ok());
    }
    found.files = places.into_iter().filter(|place| !place.is_dir()).collect();
    found.files.dedup();
    Ok(found)
}

impl Matched {
    /// A folder, and all folders below it but hidden ones and links, which may lead back.
    fn folders_below(&mut self, place: &Path) -> Vec<PathBuf> {
        let mut folders = vec![place.to_owned()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            let inner = self
                .names_in(&folder)
                .into_iter()
                .filter(|name| !is_hidden(name))
                .map(|name| folder.join(name));
            let inner: Vec<_> = inner.filter(|inner| inner.is_dir() && !inner.is_symlink()).collect();
            // Each behind the folder it is in, so that the order is that of the paths.
            folders.splice(next + 1..next + 1, inner);
            next += 1;
        }
        folders
    }

    /// The names in a folder, in their order.
    fn names_in(&mut self, place: &Path) -> Vec<OsString> {
        let here = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        let list = |entries: fs::ReadDir| entries.map(|entry| Ok(entry?.file_name())).collect();
        let names: io::Result<Vec<_>> = fs::read_dir(here).and_then(list);
        let mut names = names.unwrap_or_else(|reason| {
            self.unlisted.push((here.to_owned(), reason));
            Vec::new()
        });
        names.sort();
        names
    }
}

fn is_folder(place: &Path) -> bool {
    place.as_os_str().is_empty() || place.is_dir()
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_files_as_in_shells() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "b.png",
            "a.png",
            ".hidden.png",
            "c.jpg",
            "in/x.png",
            "in/deep/y.png",
            ".git/z.png",
            "in.png/w.txt",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = matched(at(pattern).to_str().unwrap()).unwrap();
            assert!(found.unlisted.is_empty());
            let name =
                |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            found.files.iter().map(name).collect()
        };
        assert_eq!(names("*.png"), ["a.png", "b.png"]);
        assert_eq!(names("[bc].*"), ["b.png", "c.jpg"]);
        assert_eq!(names(".*.png"), [".hidden.png"]);
        assert_eq!(names("?n/*"), ["in/x.png"]);
        assert_eq!(names("**/*.png"), ["a.png", "b.png", "in/x.png", "in/deep/y.png"]);
        assert_eq!(names("in/*/y.png"), ["in/deep/y.png"]);
        assert_eq!(names("none/*.png"), [""; 0]);
        assert!(matched("a[").is_err() && matched("a**/b").is_err());
    }
}
