//! The pictures of a split, in a folder for each class, and what is odd about them.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    alike::{are_alike, lookalikes},
    dataset::Split,
    error::DataError,
    picture_files::{LeftOut, PictureFiles, is_hidden, names_a_file},
};

/// The pictures of a split and their labels.
pub(super) struct ClassFolders {
    /// Relative to the split's folder.
    pub(super) files: Vec<Box<Path>>,
    pub(super) labels: Vec<u16>,
    /// What is odd about them.
    pub(super) warnings: Vec<String>,
}

impl ClassFolders {
    /// Those in `folder`, whose classes must be among `classes`, which are the folders in `training` if there is such a folder.
    pub(super) fn of(
        folder: &Path,
        classes: &[OsString],
        training: &Path,
        split: Split,
    ) -> Result<Self, DataError> {
        let problem = |problem: String| DataError::ImageFolder { folder: folder.into(), problem };
        let mut found = Self { files: Vec::new(), labels: Vec::new(), warnings: Vec::new() };
        let (mut left_out, mut shared) = (LeftOut::default(), Shared::new(folder, classes, training, split));
        let (mut empty, mut dead_links) = (Vec::new(), Vec::new());
        for class in subfolders(folder)? {
            let Ok(label) = classes.binary_search(&class) else {
                return Err(problem(unknown_class(&class, classes, training)));
            };
            let in_class = PictureFiles::of(&folder.join(&class));
            if let Some((path, reason)) = in_class.unlisted.into_iter().next() {
                return Err(DataError::Unreadable { path, reason });
            }
            if in_class.pictures.is_empty() {
                empty.push(format!("`{}`", class.display()));
            }
            for path in in_class.pictures {
                let path = path.strip_prefix(folder).expect("the walk began in the folder");
                found.files.push(path.into());
            }
            found.labels.resize(found.files.len(), label as u16);
            shared.add(label, in_class.folders);
            left_out.add(in_class.left_out);
            dead_links.extend(in_class.dead_links);
        }
        let left_out = left_out.in_words();
        if !empty.is_empty() && split == Split::Train {
            let classes = if empty.len() == 1 { "class" } else { "classes" };
            let have = if empty.len() == 1 { "has" } else { "have" };
            let left_out = left_out.map_or(String::new(), |words| format!("; {words}"));
            let empty = empty.join(", ");
            return Err(problem(format!(
                "{classes} {empty} {have} no pictures: put some there, or remove what is no class{left_out}"
            )));
        }
        let all = found.files.len();
        if all == 0 || u32::try_from(all).is_err() {
            let left_out = left_out.map_or(String::new(), |words| format!("; {words}"));
            return Err(problem(format!(
                "it has {all} pictures, but 1 to {} are needed{left_out}",
                u32::MAX
            )));
        }
        let told = |words: String| format!("{folder:?}: {words}");
        if !empty.is_empty() {
            found.warnings.push(told(format!("there are no pictures in {}", empty.join(", "))));
        }
        found.warnings.extend(left_out.map(told));
        found.warnings.extend(dead_links.iter().map(|link| {
            format!("{link:?} is passed over: the link leads nowhere, or to a folder around it; remove it")
        }));
        found.warnings.extend(shared.in_words());
        if split == Split::Train || !training.is_dir() {
            let names: Vec<_> = classes.iter().map(|class| class.to_string_lossy().into_owned()).collect();
            found.warnings.extend(lookalikes(&names).map(|([one, other], more)| {
                let more = if more > 0 { format!(" (and {more} more such pairs)") } else { String::new() };
                told(format!(
                    "classes `{one}` and `{other}` are two, though they look the same (case, or form of Unicode){more}"
                ))
            }));
        }
        Ok(found)
    }
}

/// The folder of the tests, and what is odd about it: `val` where `test` has no folder for any class.
pub(super) fn test_folder(folder: &Path) -> (PathBuf, Option<String>) {
    let [test, val] = ["test", "val"].map(|name| folder.join(name));
    let has_classes = |folder: &Path| subfolders(folder).is_ok_and(|classes| !classes.is_empty());
    match (test.is_dir(), val.is_dir()) {
        (true, true) if !has_classes(&test) && has_classes(&val) => {
            let warning = format!("{test:?} has no folder for any class, so tests are on {val:?}");
            (val, Some(warning))
        }
        (false, true) => (val, None),
        _ => (test, None),
    }
}

/// Names of the folders in a folder, in the order of their bytes.
///
/// # Errors
///
/// Where it cannot be listed, or a link in it that seems to be meant for a folder leads nowhere.
pub(super) fn subfolders(folder: &Path) -> Result<Vec<OsString>, DataError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |reason: io::Error| DataError::Unreadable { path, reason }
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        let name = entry.file_name();
        if is_hidden(&name) {
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() => names.push(name),
            Ok(_) => {}
            Err(_) if names_a_file(&name) => {}
            Err(_) if entry.path().is_symlink() => {
                let (class, to) = (name.display(), fs::read_link(entry.path()).unwrap_or_default());
                return Err(DataError::ImageFolder {
                    folder: folder.into(),
                    problem: format!(
                        "class `{class}` is a link to {to:?}, which is not there; mend or remove the link"
                    ),
                });
            }
            Err(reason) => return Err(unreadable(&entry.path())(reason)),
        }
    }
    names.sort();
    Ok(names)
}

/// Why there is no such class to test.
fn unknown_class(class: &OsStr, classes: &[OsString], training: &Path) -> String {
    let name = class.to_string_lossy();
    let meant = classes.iter().find(|known| are_alike(&known.to_string_lossy(), &name));
    let meant = meant.map_or(String::new(), |known| {
        format!("; its `{}` looks the same but is written otherwise (case, or form of Unicode): give both one name", known.display())
    });
    format!("{training:?} has no class `{name}`, so it cannot be tested{meant}")
}

/// Folders whose pictures are met more than once: of two classes, or of training and tests.
struct Shared<'a> {
    folder: &'a Path,
    classes: &'a [OsString],
    /// Which class a folder was met in first.
    owners: HashMap<PathBuf, usize>,
    /// Folders of classes that are learnt from, and their numbers.
    learnt: HashMap<PathBuf, usize>,
    twice: Vec<(PathBuf, usize, usize)>,
    tested: Vec<(PathBuf, usize)>,
}

impl<'a> Shared<'a> {
    fn new(folder: &'a Path, classes: &'a [OsString], training: &Path, split: Split) -> Self {
        let mut learnt = HashMap::new();
        if split == Split::Test {
            let folders = classes.iter().enumerate();
            learnt.extend(
                folders.filter_map(|(label, class)| Some((training.join(class).canonicalize().ok()?, label))),
            );
        }
        Self { folder, classes, owners: HashMap::new(), learnt, twice: Vec::new(), tested: Vec::new() }
    }

    /// The folders that the pictures of a class were found in.
    fn add(&mut self, label: usize, folders: Vec<PathBuf>) {
        for folder in folders {
            if self.learnt.contains_key(&folder) {
                self.tested.push((folder.clone(), label));
            }
            match self.owners.get(&folder) {
                Some(&owner) => self.twice.push((folder, owner, label)),
                None => _ = self.owners.insert(folder, label),
            }
        }
    }

    fn in_words(self) -> Vec<String> {
        let Self { folder, classes, twice, tested, .. } = self;
        let name = |label: usize| classes[label].display();
        let more = |count: usize| {
            if count > 1 { format!(" (and {} more such folders)", count - 1) } else { String::new() }
        };
        let mut words = Vec::new();
        if let Some((shared, one, other)) = twice.first() {
            let more = more(twice.len());
            words.push(match one == other {
                true => format!("{folder:?}: the pictures in {shared:?} are in class `{}` twice{more}; remove a link", name(*one)),
                false => format!(
                    "{folder:?}: the pictures in {shared:?} are of class `{}` and of class `{}`{more}; remove a link",
                    name(*one),
                    name(*other)
                ),
            });
        }
        if let Some((shared, _)) = tested.first() {
            let more = more(tested.len());
            words.push(format!(
                "{folder:?}: tests are on what is learnt from: {shared:?}{more}; give other pictures"
            ));
        }
        words
    }
}
