//! Unpacking an archive from the network, which may hold anything.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::EntryType;
use thiserror::Error;

/// Bytes that an archive may hold; the data sets have a fifth of it.
const MOST: u64 = 1 << 30;

/// Unpacks the folder that a `.tar.gz` file holds to `folder`, which is there whole afterwards or not at all.
///
/// The archive must hold files and folders below one folder of the same name only: an entry with an absolute path or one
/// that leads elsewhere, a link or a device is an error, and so is more than 1 GiB.
///
/// # Errors
///
/// An [`ArchiveError`]; what was unpacked so far is removed.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<(), ArchiveError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".tmp-{name}"));
    let failed = |reason| ArchiveError::File { path: aside.clone(), reason };
    remove(&aside).map_err(failed)?;
    let unpacked = unpack_to(archive, &aside).and_then(|()| {
        let inner = aside.join(&*name);
        if !inner.is_dir() {
            let problem = format!("it holds no folder {name}");
            return Err(ArchiveError::Damaged { path: archive.into(), problem });
        }
        File::open(&inner).and_then(|folder| folder.sync_all()).map_err(failed)?;
        fs::rename(&inner, folder).map_err(|reason| ArchiveError::File { path: folder.into(), reason })
    });
    let removed = remove(&aside).map_err(failed);
    unpacked.and(removed)
}

fn unpack_to(archive: &Path, aside: &Path) -> Result<(), ArchiveError> {
    let damaged = |problem: String| ArchiveError::Damaged { path: archive.into(), problem };
    let broken = |error: io::Error| damaged(error.to_string());
    let file = File::open(archive).map_err(|reason| ArchiveError::File { path: archive.into(), reason })?;
    fs::create_dir_all(aside).map_err(|reason| ArchiveError::File { path: aside.into(), reason })?;
    // One byte more than may be shows that there are more.
    let content = GzDecoder::new(BufReader::new(file)).take(MOST + 1);
    let mut unpacked = 0;
    for entry in tar::Archive::new(content).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let unsafe_entry =
            |problem| ArchiveError::Unsafe { path: archive.into(), entry: path.clone(), problem };
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(unsafe_entry("leads out of the folder"));
        }
        let target = aside.join(&path);
        let failed = |reason| ArchiveError::File { path: target.clone(), reason };
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&target).map_err(failed)?,
            EntryType::Regular | EntryType::Continuous => {
                unpacked += entry.size();
                if unpacked > MOST {
                    return Err(unsafe_entry("makes it larger than 1 GiB"));
                }
                fs::create_dir_all(target.parent().unwrap_or(aside)).map_err(failed)?;
                let mut file = File::create_new(&target).map_err(failed)?;
                copy(&mut entry, &mut file).map_err(|error| match error {
                    Copying::From(error) => broken(error),
                    Copying::To(error) => failed(error),
                })?;
                file.sync_all().map_err(failed)?;
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(unsafe_entry("is neither a file nor a folder")),
        }
    }
    if unpacked == 0 {
        return Err(damaged("it is empty".into()));
    }
    Ok(())
}

/// Which side of a copy has failed: a broken archive and a full disk want different remedies.
enum Copying {
    From(io::Error),
    To(io::Error),
}

fn copy(from: &mut impl Read, to: &mut File) -> Result<(), Copying> {
    use io::Write;
    let mut piece = vec![0; 1 << 16];
    loop {
        match from.read(&mut piece).map_err(Copying::From)? {
            0 => return Ok(()),
            length => to.write_all(&piece[..length]).map_err(Copying::To)?,
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An archive that cannot be unpacked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is no whole archive.
    #[error("{path:?} is no whole archive: {problem}; delete it and download it again")]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It holds what no data set does.
    #[error(
        "{path:?} was not unpacked: its entry {entry:?} {problem}, which no data set needs; delete the file"
    )]
    Unsafe {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path:?}: {reason}; free some space or choose another folder")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    /// The path, kind and content of an entry.
    type Entry<'a> = (&'a str, EntryType, &'a [u8]);

    fn archive(folder: &Path, entries: &[Entry<'_>]) -> PathBuf {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            // Written as it is: the crate would refuse to make such paths.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        let path = folder.join("some.tar.gz");
        fs::write(&path, builder.into_inner().unwrap().finish().unwrap()).unwrap();
        path
    }

    fn unpack_here(entries: &[Entry<'_>]) -> (tempfile::TempDir, Result<(), ArchiveError>) {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path(), entries);
        let unpacked = unpack(&archive, &folder.path().join("data"));
        assert!(!folder.path().join(".tmp-data").exists());
        (folder, unpacked)
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn files_and_folders_are_unpacked() {
        let (folder, unpacked) = unpack_here(&[
            ("data/", EntryType::Directory, b""),
            ("data/one.bin", FILE, b"one"),
            ("./data/deep/two.bin", FILE, b"two"),
        ]);
        unpacked.unwrap();
        assert_eq!(fs::read(folder.path().join("data/one.bin")).unwrap(), b"one");
        assert_eq!(fs::read(folder.path().join("data/deep/two.bin")).unwrap(), b"two");
    }

    #[test]
    fn nothing_gets_out_of_the_folder() {
        for (entry, problem) in [
            (("data/../../evil", FILE, &b"x"[..]), "leads out"),
            (("../evil", FILE, b"x"), "leads out"),
            (("/tmp/evil-from-an-archive", FILE, b"x"), "leads out"),
            (("data/link", EntryType::Symlink, b""), "is neither a file nor a folder"),
            (("data/link", EntryType::Link, b""), "is neither a file nor a folder"),
            (("data/pipe", EntryType::Fifo, b""), "is neither a file nor a folder"),
            (("data/device", EntryType::Block, b""), "is neither a file nor a folder"),
        ] {
            let (folder, unpacked) = unpack_here(&[("data/one.bin", FILE, b"one"), entry]);
            let message = unpacked.unwrap_err().to_string();
            assert!(message.contains(problem) && message.contains("was not unpacked"), "{message}");
            assert!(!folder.path().join("data").exists() && !folder.path().join("evil").exists());
            assert!(!Path::new("/tmp/evil-from-an-archive").exists());
        }
    }

    #[test]
    fn what_is_no_archive_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let whole = archive(folder.path(), &[("data/one.bin", FILE, &[7; 5000])]);
        let bytes = fs::read(&whole).unwrap();
        for broken in [&b""[..], b"garbage", &bytes[..bytes.len() / 2], &bytes[..12]] {
            fs::write(&whole, broken).unwrap();
            let message = unpack(&whole, &folder.path().join("data")).unwrap_err().to_string();
            assert!(message.contains("is no whole archive"), "{message}");
            assert!(!folder.path().join("data").exists());
        }
        let (_folder, unpacked) = unpack_here(&[("other/one.bin", FILE, b"one")]);
        assert!(unpacked.unwrap_err().to_string().contains("it holds no folder data"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        // A header that announces 2 GiB, with nothing behind it.
        let folder = tempfile::tempdir().unwrap();
        let mut header = Header::new_gnu();
        header.set_path("data/bomb").unwrap();
        header.set_size(2 << 30);
        header.set_entry_type(FILE);
        header.set_cksum();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
        let path = folder.path().join("bomb.tar.gz");
        fs::write(&path, encoder.finish().unwrap()).unwrap();
        let message = unpack(&path, &folder.path().join("data")).unwrap_err().to_string();
        assert!(message.contains("makes it larger than 1 GiB"), "{message}");
    }
}
