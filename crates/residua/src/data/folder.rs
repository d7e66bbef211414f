//! A data set of one's own: pictures in a folder for each class.
//!
//! ```text
//! DIR/train/<class>/*      what is learnt from
//! DIR/test/<class>/*       what is tested on; `val` instead of `test` if there is no `test`
//! ```

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use image::RgbImage;
use residua_infer::pictures::read_picture;
use residua_infer::view::View;

use super::{
    class_folders::{ClassFolders, subfolders, test_folder},
    dataset::Split,
    error::DataError,
    unreadable::Unreadable,
};

/// Pictures in a folder for each class, decoded whenever they are needed.
///
/// The classes are the names of the folders in `train`, in the order of their bytes. Pictures are the files below them
/// that [`PictureFiles`](super::PictureFiles) finds. What is odd about them, such as pictures of two classes, is said by
/// [`warnings`](Self::warnings).
///
/// A file that cannot be read is left out of tests; in training the next picture takes its place. As long as such
/// files are few each is only told of ([`super::Images::take_newly_unreadable`]).
#[derive(Clone, Debug)]
pub struct ImageFolder {
    name: String,
    folder: PathBuf,
    classes: Vec<String>,
    /// Relative to `folder`.
    files: Vec<Box<Path>>,
    labels: Vec<u16>,
    view: View,
    unreadable: Unreadable,
    unreadable_share: f64,
    warnings: Vec<String>,
}

impl ImageFolder {
    /// The share of a split's files that may be unreadable, if nothing else is said.
    pub const UNREADABLE_SHARE: f64 = 0.01;

    /// Lists the pictures of a split; none is read.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names the folder, where it is missing or unreadable, has no classes or no pictures, or
    /// where pictures for tests are of a class that is not learnt.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let training = folder.join("train");
        let (split_folder, replaced) = match split {
            Split::Train => (training.clone(), None),
            Split::Test => test_folder(folder),
        };
        if !split_folder.is_dir() {
            return Err(missing(folder, &split_folder, split));
        }
        // A folder for tests alone has the classes that it has.
        let classes = subfolders(if training.is_dir() { &training } else { &split_folder })?;
        let problem = |problem: String| DataError::ImageFolder { folder: split_folder.clone(), problem };
        if classes.is_empty() {
            return Err(problem("it has no folder for any class".into()));
        }
        if classes.len() > usize::from(u16::MAX) {
            return Err(problem(format!(
                "it has {} classes, at most {} are possible",
                classes.len(),
                u16::MAX
            )));
        }
        let found = ClassFolders::of(&split_folder, &classes, &training, split)?;
        let name = folder.canonicalize().ok().and_then(|folder| folder.file_name().map(OsStr::to_owned));
        Ok(Self {
            name: name.map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned()),
            folder: split_folder,
            classes: classes.iter().map(|class| class.to_string_lossy().into_owned()).collect(),
            files: found.files,
            labels: found.labels,
            view: View::square(224),
            unreadable: Unreadable::default(),
            unreadable_share: Self::UNREADABLE_SHARE,
            warnings: replaced.into_iter().chain(found.warnings).collect(),
        })
    }

    /// The pictures in the folders of another folder, whose classes are those of pictures to learn from and which are seen as
    /// those are in tests.
    pub(super) fn beside(training: &Self, folder: &Path) -> Result<Self, DataError> {
        if !folder.is_dir() {
            let (dataset, remedy) =
                ("validation pictures", format!("pictures are expected in {:?}", folder.join("CLASS")));
            return Err(match folder.exists() {
                true => DataError::NotAFolder { dataset, path: folder.into(), remedy },
                false => DataError::FolderMissing { dataset, folder: folder.into(), remedy },
            });
        }
        let classes: Vec<_> = training.classes.iter().map(OsString::from).collect();
        let ClassFolders { files, labels, warnings } =
            ClassFolders::of(folder, &classes, &training.folder, Split::Test)?;
        let (name, classes) = (training.name.clone(), training.classes.clone());
        let (folder, unreadable) = (folder.into(), Unreadable::default());
        Ok(Self { name, classes, folder, files, labels, unreadable, warnings, ..*training })
    }

    /// The same pictures, labelled among these classes. None where one of theirs is not among them.
    pub(super) fn among(self, classes: &[String]) -> Option<Self> {
        let known: HashMap<&String, usize> = classes.iter().zip(0..).collect();
        let places: Option<Vec<u16>> =
            self.classes.iter().map(|class| u16::try_from(*known.get(class)?).ok()).collect();
        let places = places?;
        let labels = self.labels.iter().map(|&label| places[usize::from(label)]).collect();
        Some(Self { classes: classes.to_vec(), labels, ..self })
    }

    /// The pictures of these numbers.
    pub(super) fn only(&self, pictures: &[usize]) -> Self {
        Self {
            name: self.name.clone(),
            folder: self.folder.clone(),
            classes: self.classes.clone(),
            files: pictures.iter().map(|&picture| self.files[picture].clone()).collect(),
            labels: pictures.iter().map(|&picture| self.labels[picture]).collect(),
            unreadable: Unreadable::default(),
            warnings: self.warnings.clone(),
            ..*self
        }
    }

    /// The folder's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of each class, by label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// All labels, in the order of the pictures.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// What is odd about the folder, to be told once: pictures that are left out, or that are of two classes, links that lead nowhere, names
    /// that look the same.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How a network sees a picture in tests; crops of 224 pixels, if nothing else is said.
    pub fn view(&self) -> View {
        self.view
    }

    /// The file of picture `index`.
    ///
    /// # Panics
    ///
    /// If there is no such picture.
    pub fn path(&self, index: usize) -> PathBuf {
        self.folder.join(&self.files[index])
    }

    /// The same, as it lies in the split's folder.
    pub(super) fn file(&self, index: usize) -> &Path {
        &self.files[index]
    }

    pub(super) fn seen_by(self, view: View) -> Self {
        Self { view, ..self }
    }

    pub(super) fn tolerating(self, unreadable_share: f64) -> Self {
        Self { unreadable_share, ..self }
    }

    pub(super) fn picture(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(read_picture(&self.path(index))?)
    }

    pub(super) fn note_unreadable(&self, index: usize, reason: &DataError) -> Result<(), DataError> {
        let count = self.unreadable.note(index, reason.to_string());
        if count as f64 <= self.unreadable_share * self.files.len() as f64 {
            return Ok(());
        }
        Err(DataError::TooManyUnreadable {
            folder: self.folder.clone(),
            count,
            files: self.files.len(),
            share: self.unreadable_share,
            first: self.unreadable.first(3),
        })
    }

    pub(super) fn take_newly_unreadable(&self) -> Vec<String> {
        self.unreadable.take_new()
    }
}

/// Why there is no such folder of a split.
fn missing(folder: &Path, split_folder: &Path, split: Split) -> DataError {
    let layout = format!(
        "pictures are expected in {:?} and {:?}, `val` instead of `test` will do",
        folder.join("train/CLASS"),
        folder.join("test/CLASS")
    );
    let (dataset, path) = ("image folder", if folder.is_dir() { split_folder } else { folder });
    if path.exists() {
        return DataError::NotAFolder { dataset, path: path.into(), remedy: layout };
    }
    let there = subfolders(folder).unwrap_or_default();
    let remedy = format!("{layout}{}", what_to_make(folder, &there, split));
    DataError::FolderMissing { dataset, folder: path.into(), remedy }
}

/// What to do about a missing folder of a split, where these are in its place.
fn what_to_make(folder: &Path, there: &[OsString], split: Split) -> String {
    const SHOWN: usize = 4;
    if there.is_empty() {
        return String::new();
    }
    let mut names: Vec<_> = there.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    if there.len() > SHOWN {
        names.push("...".to_owned());
    }
    let begins = |name: &OsString, begin: &str| name.to_string_lossy().to_lowercase().starts_with(begin);
    let tests = |name: &&OsString| ["test", "val", "dev", "eval"].iter().any(|begin| begins(name, begin));
    let lessons = |name: &&OsString| begins(name, "train");
    let remedy = match split {
        Split::Train => match there.iter().find(lessons) {
            Some(name) => format!("rename {:?} to \"train\"", folder.join(name)),
            None => "if these are classes, make \"train\" and move most of each one's pictures there, the others to \"test\""
                .to_owned(),
        },
        Split::Test => match there.iter().find(tests) {
            Some(name) => format!("rename {:?} to \"val\"", folder.join(name)),
            None => "move some of the pictures of each class from \"train\" to \"test\"".to_owned(),
        },
    };
    format!("; there is {}: {remedy}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use image::{Rgb, RgbImage};
    use tempfile::TempDir;

    use super::*;
    use crate::data::{
        Augmentation, AugmentationOptions, Images, Loader, LoaderConfig, Normalisation, NormalisationKind,
        evaluation_batches, normalisation_of,
    };

    /// A folder with classes `cat` and `dog`; picture `k` is 20 wide, 10 high and all of brightness `k`.
    fn pets(training: u8, test: u8) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut brightness = 0;
        for (split, count) in [("train", training), ("test", test)] {
            for class in ["dog", "cat"] {
                let at = folder.path().join(split).join(class);
                fs::create_dir_all(&at).unwrap();
                for _ in 0..count {
                    let picture = RgbImage::from_pixel(20, 10, Rgb([brightness; 3]));
                    picture.save(at.join(format!("{brightness:03}.png"))).unwrap();
                    brightness += 1;
                }
            }
        }
        folder
    }

    fn open(folder: &TempDir, split: Split) -> Images {
        let folder = ImageFolder::open(folder.path(), split).unwrap();
        Images::Files(folder).seen_by(View::square(4)).unwrap()
    }

    fn problem(folder: &Path, split: Split) -> String {
        ImageFolder::open(folder, split).unwrap_err().to_string()
    }

    #[test]
    fn classes_and_pictures_are_in_the_order_of_their_names() {
        let folder = pets(2, 1);
        let inner = folder.path().join("train/cat/more");
        fs::create_dir(&inner).unwrap();
        RgbImage::new(1, 1).save(inner.join("deep.PNG.bmp")).unwrap();
        for passed_over in
            ["train/cat/notes.txt", "train/.hidden.png", "train/cat/.thumb.jpg", "train/loose.png"]
        {
            fs::write(folder.path().join(passed_over), "x").unwrap();
        }
        fs::create_dir(folder.path().join("train/.git")).unwrap();
        let images = ImageFolder::open(folder.path(), Split::Train).unwrap();
        assert_eq!(
            (images.classes(), images.labels()),
            (&["cat".to_owned(), "dog".to_owned()][..], &[0, 0, 0, 1, 1][..])
        );
        let names = (0..5).map(|k| images.path(k).strip_prefix(folder.path()).unwrap().to_owned());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "train/cat/002.png",
                "train/cat/003.png",
                "train/cat/more/deep.PNG.bmp",
                "train/dog/000.png",
                "train/dog/001.png"
            ]
            .map(PathBuf::from)
        );
        let test = ImageFolder::open(folder.path(), Split::Test).unwrap();
        assert_eq!((test.classes(), test.labels()), (images.classes(), &[0, 1][..]));
    }

    #[test]
    fn val_serves_as_test_and_a_class_may_have_no_test_pictures() {
        let folder = pets(1, 1);
        fs::rename(folder.path().join("test"), folder.path().join("val")).unwrap();
        fs::remove_dir_all(folder.path().join("val/cat")).unwrap();
        assert_eq!(ImageFolder::open(folder.path(), Split::Test).unwrap().labels(), [1]);
    }

    #[test]
    fn what_is_no_data_set_is_refused_with_what_it_should_be() {
        let folder = pets(1, 1);
        let at = folder.path();
        assert!(problem(&at.join("nowhere"), Split::Train).contains("there is no folder"));
        assert!(problem(&at.join("nowhere"), Split::Train).contains("train/CLASS"));
        assert!(problem(&at.join("train/cat/001.png"), Split::Train).contains("is a file where a folder"));
        fs::create_dir(at.join("test/cow")).unwrap();
        assert!(problem(at, Split::Test).contains("has no class `cow`"));
        fs::create_dir(at.join("train/cow")).unwrap();
        assert!(problem(at, Split::Train).contains("class `cow` has no pictures"));
        fs::remove_dir_all(at.join("test")).unwrap();
        let message = problem(at, Split::Test);
        assert!(
            message.contains("there is no folder") && message.contains("`val` instead of `test`"),
            "{message}"
        );
        fs::remove_dir_all(at.join("train")).unwrap();
        fs::create_dir(at.join("train")).unwrap();
        assert!(problem(at, Split::Train).contains("it has no folder for any class"));
    }

    fn config(workers: usize, augmentation: Augmentation) -> LoaderConfig {
        let augmentation = AugmentationOptions { varies_colour: true, ..augmentation.into() };
        LoaderConfig {
            batch_size: NonZeroUsize::new(5).unwrap(),
            seed: 3,
            is_shuffled: true,
            sampling: Default::default(),
            augmentation,
            workers: NonZeroUsize::new(workers).unwrap(),
            start: 0,
            share: Default::default(),
            mixing: Default::default(),
            small_crops: None,
        }
    }

    #[test]
    fn the_stream_is_the_same_for_any_workers_and_from_any_start_unreadable_files_included() {
        let folder = pets(9, 1);
        for broken in ["train/cat/011.png", "train/cat/012.png", "train/dog/008.png"] {
            fs::write(folder.path().join(broken), b"no picture").unwrap();
        }
        let images = || Arc::new(open(&folder, Split::Train).tolerating(0.2));
        let normalisation = normalisation_of(NormalisationKind::PerChannel, &images()).unwrap();
        for augmentation in Augmentation::ALL {
            let batches = |config, count| -> Vec<_> {
                let mut loader = Loader::open(images(), normalisation.clone(), config).unwrap();
                (0..count).map(|_| loader.next_batch().unwrap()).collect()
            };
            let all = batches(config(1, *augmentation), 12);
            assert!(all == batches(config(3, *augmentation), 12));
            let later = batches(LoaderConfig { start: 20, ..config(2, *augmentation) }, 8);
            let values = |batches: &[crate::data::Batch]| -> Vec<_> {
                batches.iter().map(|batch| (batch.images.clone(), batch.labels.clone())).collect()
            };
            assert!(values(&all[4..]) == values(&later));
        }
    }

    #[test]
    fn the_next_picture_takes_the_place_of_an_unreadable_one_and_each_is_told_once() {
        let folder = pets(3, 3);
        for broken in ["train/cat/005.png", "test/cat/010.png"] {
            fs::write(folder.path().join(broken), b"").unwrap();
        }
        let images = Arc::new(open(&folder, Split::Train).tolerating(0.2));
        let plain = Normalisation::PerChannel { mean: [0.; 3], deviation: [1.; 3] };
        let config = LoaderConfig {
            is_shuffled: false,
            ..config(1, Augmentation::None).with_augmentation(Augmentation::None)
        };
        let mut loader = Loader::open(images.clone(), plain.clone(), config).unwrap();
        let batch = loader.next_batch().unwrap();
        let brightness: Vec<_> =
            batch.images.iter().step_by(4 * 4 * 3).map(|value| (value * 255.).round()).collect();
        // Cats are 3, 4 and 5, dogs 0 to 2; a dog stands in for the last cat.
        assert_eq!((brightness, batch.labels), (vec![3., 4., 0., 0., 1.], vec![0, 0, 1, 1, 1]));
        let told = images.take_newly_unreadable();
        assert!(told.len() == 1 && told[0].contains("005.png\" is empty"), "{told:?}");
        loader.next_batch().unwrap();
        assert!(images.take_newly_unreadable().is_empty());

        let test = open(&folder, Split::Test).tolerating(0.2);
        let batches = evaluation_batches(&test, &plain, NonZeroUsize::new(4).unwrap()).unwrap();
        let labels: Vec<_> = batches.map(|batch| batch.unwrap().labels).collect();
        assert_eq!(labels, [vec![0, 0, 1], vec![1, 1]]);
        assert_eq!(test.take_newly_unreadable().len(), 1);
    }

    #[test]
    fn too_many_unreadable_files_are_an_error_that_names_some() {
        let folder = pets(5, 5);
        for k in [0, 2, 4] {
            fs::write(folder.path().join(format!("train/dog/00{k}.png")), b"x").unwrap();
        }
        let images = Arc::new(open(&folder, Split::Train).tolerating(0.2));
        let message = normalisation_of(NormalisationKind::PerChannel, &images).unwrap_err().to_string();
        for part in ["3 of the 10 pictures", "more than 20 %", "000.png", "repair or remove them"] {
            assert!(message.contains(part), "{message}");
        }
        let plain = Normalisation::PerChannel { mean: [0.; 3], deviation: [1.; 3] };
        let mut loader = Loader::open(images, plain, config(2, Augmentation::Scale)).unwrap();
        assert!((0..4).any(|_| loader.next_batch().is_err()));
    }

    #[test]
    fn the_normalisation_is_that_of_what_is_seen() {
        let folder = pets(2, 1);
        let images = open(&folder, Split::Train);
        let Normalisation::PerChannel { mean, .. } =
            normalisation_of(NormalisationKind::PerChannel, &images).unwrap()
        else {
            unreachable!("a kind makes its own normalisation");
        };
        assert!(mean.iter().all(|mean| (mean * 255. - 1.5).abs() < 1e-5), "{mean:?}");
        let message = normalisation_of(NormalisationKind::PerPixelMean, &images).unwrap_err().to_string();
        assert!(message.contains("take `channel` for a folder"), "{message}");
    }
}
