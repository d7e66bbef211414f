//! CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their official binary layout.
//!
//! A file is a row of records, each one or two label bytes and the 32x32 picture's red, green and blue
//! planes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use residua_infer::cifar_classes;

use super::{
    dataset::{Dataset, Split},
    error::DataError,
};

/// Reads a split of CIFAR-10 from `data_batch_1.bin` to `data_batch_5.bin` or `test_batch.bin`, in the order
/// of the files. `folder` is the folder `cifar-10-batches-bin` or the one that holds it; each file may have
/// any number of records, so that subsets can be made. Class names are those of `batches.meta.txt`, or the
/// official ones.
///
/// # Errors
///
/// A [`DataError`] that names the file, for folders and files that are missing, unreadable or damaged.
pub fn cifar10(folder: &Path, split: Split) -> Result<Dataset, DataError> {
    CIFAR_10.read(folder, split)
}

/// Reads a split of CIFAR-100 with its fine labels from `train.bin` or `test.bin`. `folder` is the folder
/// `cifar-100-binary` or the one that holds it; class names are those of `fine_label_names.txt`, or the
/// official ones.
///
/// # Errors
///
/// A [`DataError`] that names the file, for folders and files that are missing, unreadable or damaged.
pub fn cifar100(folder: &Path, split: Split) -> Result<Dataset, DataError> {
    CIFAR_100.read(folder, split)
}

/// Height and width of a picture, and the bytes of one of its three planes.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// What tells the two data sets' files apart.
struct Layout {
    name: &'static str,
    folder: &'static str,
    archive: &'static str,
    /// What the version for Python consists of: its archive, its folder, and a file of it.
    python: [&'static str; 3],
    train: &'static [&'static str],
    test: &'static [&'static str],
    class_file: &'static str,
    classes: &'static [&'static str],
    /// Bytes before the pixels; the last of them is the label to learn.
    label_bytes: usize,
}

const CIFAR_10: Layout = Layout {
    name: "CIFAR-10",
    folder: "cifar-10-batches-bin",
    archive: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    python: ["cifar-10-python.tar.gz", "cifar-10-batches-py", "batches.meta"],
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    class_file: "batches.meta.txt",
    classes: cifar_classes::CIFAR_10,
    label_bytes: 1,
};

const CIFAR_100: Layout = Layout {
    name: "CIFAR-100",
    folder: "cifar-100-binary",
    archive: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    python: ["cifar-100-python.tar.gz", "cifar-100-python", "meta"],
    train: &["train.bin"],
    test: &["test.bin"],
    class_file: "fine_label_names.txt",
    classes: cifar_classes::CIFAR_100,
    label_bytes: 2,
};

impl Layout {
    fn read(&self, given: &Path, split: Split) -> Result<Dataset, DataError> {
        let folder = self.find_folder(given)?;
        let files = self.find_files(given, &folder, split)?;
        let classes = self.read_classes(&folder.join(self.class_file))?;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in files {
            self.read_records(&file, &mut pixels, &mut labels)?;
        }
        Dataset::new(self.name, classes, (SIDE, SIDE), pixels, labels)
    }

    /// The folder itself, or the official one in it.
    fn find_folder(&self, given: &Path) -> Result<PathBuf, DataError> {
        match fs::metadata(given) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let remedy = "give a folder (an archive has to be unpacked first: tar -xzf)".into();
                return Err(DataError::NotAFolder { dataset: self.name, path: given.into(), remedy });
            }
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                let remedy = if given.starts_with("~") {
                    "the shell left `~` as it is: write $HOME in its place".into()
                } else {
                    self.download_to(given)
                };
                return Err(DataError::FolderMissing { dataset: self.name, folder: given.into(), remedy });
            }
            Err(reason) => return Err(DataError::Unreadable { path: given.into(), reason }),
        }
        let official = given.join(self.folder);
        let holds_files = self.train.iter().chain(self.test).any(|name| given.join(name).exists());
        Ok(if official.is_dir() && !holds_files { official } else { given.into() })
    }

    /// The files of a split, all of which have to be there.
    fn find_files(&self, given: &Path, folder: &Path, split: Split) -> Result<Vec<PathBuf>, DataError> {
        let expected = match split {
            Split::Train => self.train,
            Split::Test => self.test,
        };
        let mut missing = Vec::new();
        for &name in expected {
            let file = folder.join(name);
            if !file.try_exists().map_err(|reason| DataError::Unreadable { path: file, reason })? {
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return Ok(expected.iter().map(|name| folder.join(name)).collect());
        }
        Err(DataError::FilesMissing {
            dataset: self.name,
            folder: folder.into(),
            missing: missing.into(),
            expected,
            also: (folder == given).then_some(self.folder),
            remedy: self.found_instead(given).unwrap_or_else(|| self.download_to(given)),
        })
    }

    /// What lies in a folder in place of the files, and what to do about it.
    fn found_instead(&self, folder: &Path) -> Option<String> {
        let there = |name: &str| folder.join(name).exists().then(|| folder.join(name));
        let archive = self.archive.rsplit('/').next()?;
        if let Some(archive) = there(archive) {
            return Some(format!(
                "{archive:?} is there, still packed: unpack it by tar -xzf {archive:?} -C {folder:?}"
            ));
        }
        let python = self.python.iter().find_map(|name| there(name))?;
        Some(format!(
            "{python:?} is of the version for Python, and the binary one is needed: {}",
            self.download_to(folder)
        ))
    }

    fn read_classes(&self, file: &Path) -> Result<Vec<String>, DataError> {
        let expected = self.classes.len();
        let problem = |problem| DataError::ClassNames { path: file.into(), expected, problem };
        let text = match fs::read(file) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| problem("it is not text".into()))?,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => self.classes.join("\n"),
            Err(reason) => return Err(DataError::Unreadable { path: file.into(), reason }),
        };
        let names: Vec<String> =
            text.lines().map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect();
        if names.len() == expected { Ok(names) } else { Err(problem(format!("it has {}", names.len()))) }
    }

    fn read_records(
        &self,
        file: &Path,
        pixels: &mut Vec<u8>,
        labels: &mut Vec<u16>,
    ) -> Result<(), DataError> {
        let (dataset, path) = (self.name, file.to_path_buf());
        let remedy = || format!("download {} again", self.archive);
        let bytes = match fs::read(file) {
            Ok(bytes) if bytes.is_empty() => return Err(DataError::EmptyFile { path, remedy: remedy() }),
            Ok(bytes) => bytes,
            Err(reason) => return Err(DataError::Unreadable { path, reason }),
        };
        let record = self.label_bytes + 3 * PLANE;
        let (size, whole) = (bytes.len(), bytes.len() / record);
        if size % record != 0 {
            return Err(DataError::PartialRecord { dataset, path, size, record, whole, remedy: remedy() });
        }
        labels.reserve_exact(whole);
        pixels.reserve_exact(whole * 3 * PLANE);
        for (number, content) in bytes.chunks_exact(record).enumerate() {
            let (head, planes) = content.split_at(self.label_bytes);
            let (label, classes) = (head[self.label_bytes - 1], self.classes.len());
            if usize::from(label) >= classes {
                let offset = number * record + self.label_bytes - 1;
                let (record, remedy) = (number, remedy());
                return Err(DataError::LabelOutOfRange {
                    dataset,
                    path,
                    record,
                    offset,
                    label,
                    classes,
                    remedy,
                });
            }
            labels.push(label.into());
            let (red, rest) = planes.split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
        }
        Ok(())
    }

    fn download_to(&self, folder: &Path) -> String {
        format!("download {} and unpack it in {folder:?} (tar -xzf)", self.archive)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A record whose pixel `(channel, k)` is `start + 50 channel + k`, modulo 256.
    fn record(labels: &[u8], start: usize) -> Vec<u8> {
        let planes = (0..3).flat_map(|channel| (0..PLANE).map(move |k| (start + 50 * channel + k) as u8));
        labels.iter().copied().chain(planes).collect()
    }

    /// CIFAR-10 with `n` records in the n-th training file, labelled 0, 1, 2, ... in order, and one test
    /// record.
    fn small_cifar10() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut label = 0;
        for (n, name) in CIFAR_10.train.iter().enumerate() {
            let records: Vec<u8> = (0..=n).flat_map(|k| record(&[(label + k as u8) % 10], n)).collect();
            label += n as u8 + 1;
            fs::write(folder.path().join(name), records).unwrap();
        }
        fs::write(folder.path().join("test_batch.bin"), record(&[9], 7)).unwrap();
        folder
    }

    fn message(folder: &Path, split: Split) -> String {
        cifar10(folder, split).unwrap_err().to_string()
    }

    #[test]
    fn records_become_images_in_order() {
        let folder = small_cifar10();
        let train = cifar10(folder.path(), Split::Train).unwrap();
        assert_eq!((train.len(), train.height(), train.width(), train.name()), (15, 32, 32, "CIFAR-10"));
        assert!((0..15).all(|k| train.label(k) == k as u16 % 10));
        assert_eq!(train.classes(), cifar_classes::CIFAR_10);
        let test = cifar10(folder.path(), Split::Test).unwrap();
        assert_eq!((test.len(), test.label(0)), (1, 9));
        assert_eq!(test.image(0)[..6], [7, 57, 107, 8, 58, 108]);
        assert_eq!(test.image(0)[3 * 33..3 * 34], [40, 90, 140]);
    }

    #[test]
    fn the_parent_folder_and_own_class_names_are_accepted() {
        let (files, parent) = (small_cifar10(), tempfile::tempdir().unwrap());
        let folder = parent.path().join("cifar-10-batches-bin");
        fs::rename(files.path(), &folder).unwrap();
        fs::write(folder.join("batches.meta.txt"), "a\r\nb\nc\nd\ne\nf\ng\nh\ni\n j \n\n").unwrap();
        let test = cifar10(parent.path(), Split::Test).unwrap();
        assert_eq!(test.classes(), ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
        fs::write(folder.join("batches.meta.txt"), "a\nb\n").unwrap();
        let error = message(parent.path(), Split::Test);
        assert!(error.contains("batches.meta.txt\" should hold the names of 10 classes"), "{error}");
        assert!(error.contains("but it has 2"), "{error}");
        fs::write(folder.join("batches.meta.txt"), [0xff, 0xfe]).unwrap();
        assert!(message(parent.path(), Split::Test).contains("but it is not text"));
    }

    #[test]
    fn cifar_100_has_fine_labels() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.bin"), [record(&[200, 99], 1), record(&[3, 42], 2)].concat())
            .unwrap();
        let train = cifar100(folder.path(), Split::Train).unwrap();
        assert_eq!((train.labels(), train.image(1)[0]), ([99, 42].as_slice(), 2));
        assert_eq!((train.classes()[99].as_str(), train.classes()[42].as_str()), ("worm", "leopard"));
        fs::write(folder.path().join("test.bin"), [record(&[0, 5], 1), record(&[0, 100], 2)].concat())
            .unwrap();
        let error = cifar100(folder.path(), Split::Test).unwrap_err().to_string();
        assert!(error.contains("test.bin\": record 1 (its label is at byte 3075) has label 100"), "{error}");
        assert!(error.contains("CIFAR-100 has labels 0 to 99"), "{error}");
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = small_cifar10();
        let file = folder.path().join("data_batch_2.bin");
        fs::write(&file, &record(&[1], 0)[..3000]).unwrap();
        let error = message(folder.path(), Split::Train);
        assert!(error.contains("data_batch_2.bin\" is truncated or no CIFAR-10 file"), "{error}");
        assert!(
            error.contains("3000 bytes are 0 records of 3073 bytes and 3000 bytes more (from offset 0)"),
            "{error}"
        );
        fs::write(&file, "").unwrap();
        assert!(
            message(folder.path(), Split::Train).contains("data_batch_2.bin\" is empty; download https://")
        );
        fs::write(&file, record(&[10], 0)).unwrap();
        let error = message(folder.path(), Split::Train);
        assert!(
            error.contains("record 0 (its label is at byte 0) has label 10, but CIFAR-10 has labels 0 to 9")
        );
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(message(folder.path(), Split::Train).contains("cannot read"));
    }

    #[test]
    fn missing_files_and_folders_are_named() {
        let folder = small_cifar10();
        fs::remove_file(folder.path().join("data_batch_2.bin")).unwrap();
        fs::remove_file(folder.path().join("data_batch_5.bin")).unwrap();
        let error = message(folder.path(), Split::Train);
        assert!(error.contains("CIFAR-10: missing data_batch_2.bin, data_batch_5.bin in"), "{error}");
        assert!(error.contains("where data_batch_1.bin, data_batch_2.bin, data_batch_3.bin,"), "{error}");
        assert!(
            error.contains("(nor is there a folder cifar-10-batches-bin in it); download https://"),
            "{error}"
        );
        cifar10(folder.path(), Split::Test).unwrap();

        let error = message(&folder.path().join("nowhere"), Split::Test);
        assert!(error.contains("there is no folder") && error.contains("nowhere"), "{error}");
        assert!(message(Path::new("~/nowhere"), Split::Test).contains("write $HOME"));
        let error = message(&folder.path().join("test_batch.bin"), Split::Test);
        assert!(error.contains("is a file where a folder was expected"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn files_without_permission_are_named() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;

        let folder = small_cifar10();
        let file = folder.path().join("test_batch.bin");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read(&file).is_ok() {
            // Past the test's captured output, so that it is seen.
            writeln!(io::stderr(), "skipped: files without permission (this user may read everything)")
                .unwrap();
            return;
        }
        let error = message(folder.path(), Split::Test);
        assert!(error.contains("cannot read") && error.contains("test_batch.bin"), "{error}");
        assert!(error.contains("chmod u+rX"), "{error}");
    }
}
