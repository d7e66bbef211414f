//! Files and folders that are there whole or not at all, whenever the process is killed or the power fails.
//!
//! Everything is written beside its place under a name that begins with `.tmp-`, forced to disk, and only then
//! renamed, which file systems do in one step. What a kill has left is cleared when the run goes on.

mod npy;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use npy::encode_npy;
pub use residua_infer::file::{FileError, read_file};

/// Makes `bytes` the content of the file at `path`, replacing what was there: whole, or after a failure not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let aside = beside(path, TEMPORARY);
    let written = write_through(&aside, bytes).and_then(|()| rename(&aside, path));
    written.map_err(|error| {
        // The write has failed for a reason that is about to be told; a leftover is no second one.
        let _ = fs::remove_file(&aside);
        // The name aside is no business of who asked for the file.
        FileError::cannot("write", path)(error.into_source())
    })?;
    sync_folder(parent(path))
}

/// Finds out whether [`write_file`] could write a file, before long work whose results go there; what is there stays.
///
/// # Errors
/// When the file could not be written.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let aside = beside(path, TEMPORARY);
    if path.is_dir() {
        return Err(FileError::cannot("write", path)(io::ErrorKind::IsADirectory.into()));
    }
    write_through(&aside, b"").map_err(|error| FileError::cannot("write", path)(error.into_source()))?;
    fs::remove_file(&aside).map_err(FileError::cannot("delete", &aside))
}

/// Whether the file at `path` has other names, as in a copy that was made by hard links: what is appended to it would stand there, too.
pub(crate) fn is_linked_elsewhere(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).is_ok_and(|file| file.nlink() > 1)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// A file in the making: it is written out of sight and bit by bit, until it is put in its place whole. Dropped before that, it leaves what was
/// there as it was.
#[derive(Debug)]
pub struct NewFile {
    aside: PathBuf,
    place: PathBuf,
    content: BufWriter<File>,
}

impl NewFile {
    /// Begins the file that will be at `place`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(place: &Path) -> Result<Self, FileError> {
        let aside = beside(place, TEMPORARY);
        let file = File::create(&aside).map_err(FileError::cannot("write", place))?;
        Ok(Self { aside, place: place.to_owned(), content: BufWriter::new(file) })
    }

    /// Adds to its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, content: impl AsRef<[u8]>) -> Result<(), FileError> {
        self.content.write_all(content.as_ref()).map_err(FileError::cannot("write", &self.place))
    }

    /// Puts the file in its place, where it replaces another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn publish(mut self) -> Result<(), FileError> {
        let cannot = || FileError::cannot("write", &self.place);
        self.content.flush().map_err(cannot())?;
        self.content.get_ref().sync_all().map_err(cannot())?;
        rename(&self.aside, &self.place).map_err(|error| cannot()(error.into_source()))?;
        sync_folder(parent(&self.place))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After `publish` there is nothing here; after a failure, that failure is what the user must hear of.
        let _ = fs::remove_file(&self.aside);
    }
}

/// A folder in the making: files are added to it out of sight, until it is put in its place whole.
/// Dropped before that, it leaves nothing behind.
pub(crate) struct NewFolder {
    aside: PathBuf,
    place: PathBuf,
}

impl NewFolder {
    /// Begins the folder that will be at `place`, whose parent exists.
    pub(crate) fn create(place: &Path) -> Result<Self, FileError> {
        let aside = beside(place, TEMPORARY);
        remove_tree(&aside)?;
        fs::create_dir(&aside).map_err(FileError::cannot("create", &aside))?;
        Ok(Self { aside, place: place.to_owned() })
    }

    /// Adds a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        write_through(&self.aside.join(name), bytes)
    }

    /// Puts the folder in its place. One that is there already is kept aside until the new one is safely on
    /// disk: no single step can move a folder over another.
    pub(crate) fn publish(self) -> Result<(), FileError> {
        sync_folder(&self.aside)?;
        let replaced = beside(&self.place, REPLACED);
        if self.place.exists() {
            remove_tree(&replaced)?;
            rename(&self.place, &replaced)?;
        }
        rename(&self.aside, &self.place)?;
        sync_folder(parent(&self.place))?;
        remove_tree(&replaced)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // After `publish` there is nothing here; after a failure, that failure is what the user must hear of.
        let _ = fs::remove_dir_all(&self.aside);
    }
}

/// Deletes a folder. It disappears in one step, so that no part of it can be taken for the whole.
pub(crate) fn remove_folder(path: &Path) -> Result<(), FileError> {
    let aside = beside(path, TEMPORARY);
    remove_tree(&aside)?;
    rename(path, &aside)?;
    sync_folder(parent(path))?;
    remove_tree(&aside)
}

/// Finishes or undoes what a kill interrupted in `folder`: a folder that was being replaced comes back, what was
/// being written or deleted goes. Only for a folder that no other process is writing to.
pub(crate) fn clear_leftovers(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::cannot("list", folder))? {
        let path = entry.map_err(FileError::cannot("list", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        match name.strip_prefix(REPLACED).map(|name| folder.join(name)) {
            Some(place) if !place.exists() => rename(&path, &place)?,
            Some(_) => remove_tree(&path)?,
            None if name.starts_with(TEMPORARY) => remove_tree(&path)?,
            None => {}
        }
    }
    sync_folder(folder)
}

/// Renames a file or folder, within one folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::cannot("rename", from))
}

/// Forces a folder's list of names to disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    // Only Unix can open a folder as a file; some network file systems cannot sync one.
    match if cfg!(unix) { File::open(folder).and_then(|file| file.sync_all()) } else { Ok(()) } {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result.map_err(FileError::cannot("sync", folder)),
    }
}

const TEMPORARY: &str = ".tmp-";
const REPLACED: &str = ".replaced-";

/// The path whose last part is that of `path` behind `prefix`.
fn beside(path: &Path, prefix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_through(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    File::create(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(FileError::cannot("write", path))
}

/// Deletes a file or a folder with all that is in it, if it is there.
fn remove_tree(path: &Path) -> Result<(), FileError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(FileError::cannot("delete", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_file(&path, b"one").unwrap();
        fs::write(folder.path().join(".tmp-a.txt"), "torn by an earlier kill").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(read_file(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_file_that_is_written_bit_by_bit_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut file = NewFile::create(&path).unwrap();
        file.write("one").unwrap();
        assert!(!path.exists());
        drop(file);
        assert!(names(folder.path()).is_empty());

        for parts in [["one ", "two"], ["three ", "four"]] {
            let mut file = NewFile::create(&path).unwrap();
            parts.iter().for_each(|part| file.write(part).unwrap());
            file.publish().unwrap();
            assert_eq!(read_file(&path).unwrap(), parts.concat().as_bytes());
            assert_eq!(names(folder.path()), ["a.txt"]);
        }
        let message = NewFile::create(&path.join("b")).unwrap_err().to_string();
        assert!(message.contains("a.txt/b: ") && message.contains("is a file"), "{message}");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let message = write_file(&path, b"one").unwrap_err().to_string();
        assert!(message.contains("cannot write") && message.contains("/taken: "), "{message}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn whether_a_file_can_be_written_is_found_out_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        check_writable(&path).unwrap();
        assert!(names(folder.path()).is_empty());
        write_file(&path, b"one").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(read_file(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a.txt"]);
        for (path, remedy) in [(folder.path().to_owned(), "give a file"), (path.join("b"), "is a file")] {
            let message = check_writable(&path).unwrap_err().to_string();
            assert!(
                message.contains(&format!("{}: ", path.display())) && message.contains(remedy),
                "{message}"
            );
        }
    }

    #[test]
    fn a_new_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("made");
        let new = NewFolder::create(&place).unwrap();
        new.write("a", b"1").unwrap();
        assert!(!place.exists());
        drop(new);
        assert!(names(folder.path()).is_empty());

        for content in [b"1", b"2"] {
            let new = NewFolder::create(&place).unwrap();
            new.write("a", content).unwrap();
            new.publish().unwrap();
            assert_eq!(read_file(&place.join("a")).unwrap(), content);
            assert_eq!(names(folder.path()), ["made"]);
        }
        remove_folder(&place).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn leftovers_of_a_kill_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".tmp-new", ".replaced-lost", ".replaced-kept", "kept", "other"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("from"), name).unwrap();
        }
        fs::write(at(".tmp-file"), "").unwrap();
        clear_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["kept", "lost", "other"]);
        assert_eq!(read_file(&at("lost").join("from")).unwrap(), b".replaced-lost");
        assert_eq!(read_file(&at("kept").join("from")).unwrap(), b"kept");
    }
}
