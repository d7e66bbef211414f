//! Which pictures a data set has, so that it can be told whether they are still the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::images::Images;

/// How many pictures a folder has of each class, and a digest of their names and sizes. What is in the files is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing(BTreeMap<String, ListedClass>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListedClass {
    pictures: u64,
    /// SHA-256 of path, a zero byte and size (u64, little-endian) of every file, in the order of the paths.
    digest: String,
}

impl Listing {
    /// That of images which together are all of a folder; none where they are in memory.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a Images>) -> Option<Self> {
        let mut files: Vec<(&str, &Path, u64)> = Vec::new();
        for images in parts {
            let Images::Files(folder) = images else { return None };
            let (classes, labels) = (folder.classes(), folder.labels());
            files.par_extend(labels.par_iter().enumerate().map(|(index, &label)| {
                // One that cannot be looked at is told of where it is read.
                let size = fs::metadata(folder.path(index)).map_or(0, |file| file.len());
                (classes[usize::from(label)].as_str(), folder.file(index), size)
            }));
        }
        files.sort();
        let listed = |files: &[(&str, &Path, u64)]| {
            let mut digest = Sha256::new();
            for (_, path, size) in files {
                digest.update(path.as_os_str().as_encoded_bytes());
                digest.update([0]);
                digest.update(size.to_le_bytes());
            }
            let class = files[0].0.to_owned();
            (class, ListedClass { pictures: files.len() as u64, digest: format!("{:x}", digest.finalize()) })
        };
        Some(Self(files.chunk_by(|one, other| one.0 == other.0).map(listed).collect()))
    }

    /// What has become of the pictures, in words, class by class; nothing if they are the same.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let count = |listing: &Self, class: &str| listing.0.get(class).map_or(0, |listed| listed.pictures);
        let classes = self.0.keys().chain(now.0.keys().filter(|class| !self.0.contains_key(*class)));
        let changed = classes.filter(|class| self.0.get(*class) != now.0.get(*class));
        let in_words = |class: &String| match (count(self, class), count(now, class)) {
            (before, now) if before == now => format!("{class} has others (by name or size)"),
            (before, now) => format!("{class} has {now} instead of {before}"),
        };
        changed.map(in_words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ImageFolder, Split, Validation};

    fn pets() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for class in ["cat", "dog"] {
            let at = folder.path().join("train").join(class);
            fs::create_dir_all(&at).unwrap();
            (0..6).for_each(|k| fs::write(at.join(format!("{k}.png")), "12345").unwrap());
        }
        folder
    }

    fn training(folder: &tempfile::TempDir) -> Images {
        Images::Files(ImageFolder::open(folder.path(), Split::Train).unwrap())
    }

    fn listing(folder: &tempfile::TempDir) -> Listing {
        Listing::of([&training(folder)]).unwrap()
    }

    #[test]
    fn what_is_deleted_added_renamed_or_replaced_is_told() {
        let folder = pets();
        let at = |name: &str| folder.path().join("train").join(name);
        let before = listing(&folder);
        assert!(before.changes(&listing(&folder)).is_empty());
        fs::rename(at("cat/0.png"), at("cat/9.png")).unwrap();
        assert_eq!(before.changes(&listing(&folder)), ["cat has others (by name or size)"]);
        fs::rename(at("cat/9.png"), at("cat/0.png")).unwrap();
        fs::write(at("dog/3.png"), "123456").unwrap();
        assert_eq!(before.changes(&listing(&folder)), ["dog has others (by name or size)"]);
        fs::remove_file(at("cat/1.png")).unwrap();
        fs::create_dir(at("bird")).unwrap();
        fs::write(at("bird/1.png"), "1").unwrap();
        assert_eq!(
            before.changes(&listing(&folder)),
            ["cat has 5 instead of 6", "dog has others (by name or size)", "bird has 1 instead of 0"]
        );
    }

    #[test]
    fn a_listing_does_not_depend_on_what_is_held_out_nor_on_where_the_folder_lies() {
        let folder = pets();
        let (left, held) = Validation::Images(4).hold_out(training(&folder), 7).unwrap();
        assert_eq!(Listing::of([&left, &held]), Some(listing(&folder)));
        assert_eq!(listing(&pets()), listing(&folder));
        let text = serde_json::to_string(&listing(&folder)).unwrap();
        assert_eq!(serde_json::from_str::<Listing>(&text).unwrap(), listing(&folder));
        assert_eq!(Listing::of([&crate::data::shapes(Split::Test).into()]), None);
    }
}
