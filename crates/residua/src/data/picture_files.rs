//! Which pictures lie in a folder: the one walk of training, tests and predictions.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use residua_infer::pictures::EXTENSIONS;
use walkdir::WalkDir;

/// What lies in a folder, at any depth.
#[derive(Debug, Default)]
pub struct PictureFiles {
    /// The files that are taken for pictures: those whose names end in `.jpg`, `.jpeg`, `.png`, `.webp`, `.bmp` or `.gif`, links
    /// that lead nowhere included. They begin with the folder's path and are in the order of their paths.
    pub pictures: Vec<PathBuf>,
    /// Folders that cannot be listed.
    pub unlisted: Vec<(PathBuf, io::Error)>,
    /// Pictures of formats that are not read, by their ending.
    pub left_out: LeftOut,
    /// Links that lead nowhere, or back to a folder that they lie in, and cannot be known to be of no picture.
    pub dead_links: Vec<PathBuf>,
    /// The folders that were looked into, as the system calls them.
    pub(super) folders: Vec<PathBuf>,
}

impl PictureFiles {
    /// Walks through a folder. Links are followed; what begins with a dot is passed over, and so are other files.
    pub fn of(folder: &Path) -> Self {
        let mut found = Self::default();
        let root = folder.canonicalize().unwrap_or_default();
        let mut walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            match entry {
                Ok(entry) if entry.depth() > 0 && is_hidden(entry.file_name()) => {
                    if entry.file_type().is_dir() {
                        walk.skip_current_dir();
                    }
                }
                Ok(entry) if entry.file_type().is_dir() => {
                    let place = entry.path().canonicalize().unwrap_or_else(|_| entry.path().into());
                    if entry.depth() > 0 && root.starts_with(&place) {
                        walk.skip_current_dir();
                        found.dead_links.push(entry.into_path());
                    } else {
                        found.folders.push(place);
                    }
                }
                Ok(entry) => found.take(entry.into_path()),
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_path_buf();
                    if path != folder && path.file_name().is_some_and(is_hidden) {
                        continue;
                    }
                    match error.loop_ancestor() {
                        Some(_) => found.dead_links.push(path),
                        None if path.is_symlink() && fs::metadata(&path).is_err() => found.take_dead(path),
                        None => {
                            let reason = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                            found.unlisted.push((path, reason));
                        }
                    }
                }
            }
        }
        found
    }

    fn take(&mut self, path: PathBuf) {
        if is_picture(&path) {
            self.pictures.push(path);
        } else if let Some(ending) = UNREAD.into_iter().find(|ending| has_ending(&path, ending)) {
            *self.left_out.0.entry(ending).or_default() += 1;
        }
    }

    /// A link that leads nowhere: what it is called says what it was.
    fn take_dead(&mut self, path: PathBuf) {
        if is_picture(&path) || names_a_file(path.as_os_str()) {
            self.take(path);
        } else {
            self.dead_links.push(path);
        }
    }
}

/// Pictures that are left out, by the endings of their names.
#[derive(Debug, Default)]
pub struct LeftOut(BTreeMap<&'static str, usize>);

impl LeftOut {
    pub(super) fn add(&mut self, other: Self) {
        for (ending, count) in other.0 {
            *self.0.entry(ending).or_default() += count;
        }
    }

    /// How many there are by ending and what to do, in a line without an end; nothing if there are none.
    pub fn in_words(&self) -> Option<String> {
        let all: usize = self.0.values().sum();
        let (files, are) = if all == 1 { ("file", "is") } else { ("files", "are") };
        let endings: Vec<_> = self.0.iter().map(|(ending, count)| format!("{count} .{ending}")).collect();
        let renamed = match self.0.keys().any(|ending| JPEG.contains(ending)) {
            true => ", or rename it to .jpg where it is one",
            false => "",
        };
        (all > 0).then(|| {
            format!(
                "{all} {files} of other formats {are} left out ({}); make JPEG or PNG of what is to be seen{renamed}",
                endings.join(", ")
            )
        })
    }
}

/// Endings of JPEG files that are not taken for pictures.
const JPEG: [&str; 3] = ["jfif", "jpe", "jif"];

/// Endings of pictures that are not read.
const UNREAD: [&str; 32] = [
    "apng", "arw", "avif", "cr2", "cr3", "dcm", "dng", "exr", "hdr", "heic", "heif", "ico", "j2k", "jfif",
    "jif", "jp2", "jpe", "jxl", "mpo", "nef", "orf", "pbm", "pgm", "pnm", "ppm", "psd", "qoi", "raf", "svg",
    "tga", "tif", "tiff",
];

fn is_picture(path: &Path) -> bool {
    EXTENSIONS.iter().any(|ending| has_ending(path, ending))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// Whether a name begins with a dot.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a name ends as those of files do and those of folders hardly ever.
pub(super) fn names_a_file(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|ending| {
        let ending = ending.as_encoded_bytes();
        let has_letter = ending.iter().any(u8::is_ascii_alphabetic);
        has_letter && ending.len() <= 5 && ending.iter().all(u8::is_ascii_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files; those whose names end in `/` are folders.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "x").unwrap();
            }
        }
        folder
    }

    fn names(folder: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn pictures_are_found_in_the_order_of_their_paths_and_others_counted() {
        let folder = folder(&[
            "b.PNG",
            "a/z.jpg",
            "a/y.gif",
            "c.txt",
            ".hidden.png",
            "._c.png",
            ".git/d.png",
            "e.tif",
            "a/f.TIF",
            "g.heic",
            "h.jfif",
            ".i.heic",
            "noending",
            "deep/er/k.webp",
        ]);
        let found = PictureFiles::of(folder.path());
        assert_eq!(names(folder.path(), &found.pictures), ["a/y.gif", "a/z.jpg", "b.PNG", "deep/er/k.webp"]);
        let words = found.left_out.in_words().unwrap();
        assert!(
            words.starts_with("4 files of other formats are left out (1 .heic, 1 .jfif, 2 .tif); "),
            "{words}"
        );
        assert!(words.ends_with("rename it to .jpg where it is one"), "{words}");
        assert!(found.unlisted.is_empty() && found.dead_links.is_empty());
        assert_eq!(LeftOut::default().in_words(), None);
        // A folder that is hidden itself is looked into where it is named.
        assert_eq!(PictureFiles::of(&folder.path().join(".git")).pictures.len(), 1);
        let found = PictureFiles::of(&folder.path().join("nowhere"));
        assert_eq!((found.pictures.len(), found.unlisted.len()), (0, 1));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_wherever_they_lead() {
        use std::os::unix::fs::symlink;
        let folder = folder(&["a/x.png", "other/y.png"]);
        let at = |name: &str| folder.path().join(name);
        for (target, link) in [
            ("/nowhere/z.png", "a/gone.png"),
            ("/nowhere", "a/readme.txt"),
            ("/nowhere", "a/.hidden"),
            ("/nowhere/w.tif", "a/gone.tif"),
            ("/nowhere", "a/folder"),
            ("self.png", "a/self.png"),
            (".", "a/round"),
            ("..", "a/.round"),
            ("..", "a/up"),
            ("../other", "a/linked"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let found = PictureFiles::of(&at("a"));
        assert_eq!(
            names(folder.path(), &found.pictures),
            ["a/gone.png", "a/linked/y.png", "a/self.png", "a/x.png"]
        );
        assert_eq!(names(folder.path(), &found.dead_links), ["a/folder", "a/round", "a/up"]);
        assert!(found.left_out.in_words().unwrap().contains("1 .tif"));
        assert!(found.unlisted.is_empty(), "{:?}", found.unlisted);
        assert_eq!(found.folders, [at("a"), at("other")].map(|path| path.canonicalize().unwrap()));
    }

    #[test]
    fn endings_tell_files_from_folders() {
        for (name, is_file) in
            [("readme.txt", true), ("bird", false), ("v1.0", false), ("x.7z", true), ("Homo sap. var", false)]
        {
            assert_eq!(names_a_file(OsStr::new(name)), is_file, "{name}");
        }
    }
}
