//! Reading a file, and what can go wrong with one.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file or folder that could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}{}", .path.display(), remedy(.source.kind()))]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// What makes an [`io::Error`] a `FileError`: what was tried, such as `read`, and on which path.
    pub fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }

    /// What kind of failure the operating system reported.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// What the operating system reported.
    pub fn into_source(self) -> io::Error {
        self.source
    }
}

/// The bytes of a file.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(FileError::cannot("read", path))
}

/// What helps where a file or folder cannot be read, to be said behind the reason.
pub fn reading_remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => "; give yourself permission to read it (chmod u+rX)",
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::IsADirectory => "; it is a folder, give a file",
        _ => "",
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there and try again",
        io::ErrorKind::FileTooLarge => "; allow larger files (ulimit -f) and try again",
        io::ErrorKind::PermissionDenied => "; give yourself access to it or choose another folder",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a folder that can be written to",
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::IsADirectory => "; it is a folder, give a file",
        io::ErrorKind::NotADirectory => "; a part of the path is a file, choose another path",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path_and_the_remedy() {
        let error = read_file(Path::new("no/such/file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot read no/such/file: "), "{error}");
        assert!(error.to_string().ends_with("; check the path"), "{error}");
        let full = FileError::cannot("write", Path::new("x"))(io::ErrorKind::StorageFull.into());
        assert!(full.to_string().ends_with("; free some space there and try again"), "{full}");
    }
}
