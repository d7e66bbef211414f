//! What can go wrong with data.

use std::{io, path::PathBuf};

use thiserror::Error;

use residua_infer::choice::UnknownChoice;
use residua_infer::file::reading_remedy;
use residua_infer::normalisation::NormalisationError;
use residua_infer::pictures::PictureError;
use residua_infer::view::ViewError;

use super::augmentation::InvalidAugmentation;

/// Why data could not be named, read or made into batches. Every message says which file or option is meant,
/// what is wrong with it, and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A name that is none of the choices.
    #[error(transparent)]
    Unknown(#[from] UnknownChoice),

    /// A normalisation that cannot be applied to the images.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),

    /// A view that no picture can be seen by.
    #[error(transparent)]
    View(#[from] ViewError),

    /// A way to vary images that there is not.
    #[error(transparent)]
    Augmentation(#[from] InvalidAugmentation),

    /// A picture file that cannot be read.
    #[error(transparent)]
    Picture(#[from] PictureError),

    /// No way to say which images a run is validated on.
    #[error(
        "'{given}' says not which images to validate on: write a number of images, such as 5000, a share of the training images, such as \
         0.1, or a folder with a folder for each class"
    )]
    Validation {
        /// What was given.
        given: String,
    },

    /// More training images held out than there are, or none.
    #[error(
        "{held} of the {images} training images of `{name}` cannot be held out; hold out at least one, and leave some to learn from"
    )]
    HeldOut {
        /// The data set's name.
        name: String,
        /// How many are to be held out.
        held: usize,
        /// How many there are.
        images: usize,
    },

    /// Pictures to validate on, beside images that are no pictures in a folder.
    #[error(
        "the pictures in {} cannot validate what is learnt from `{name}`: they go with pictures in a folder; hold out a number of its \
         training images, such as 5000, or a share, such as 0.1", .folder.display()
    )]
    ValidationFolder {
        /// The data set's name.
        name: String,
        /// The folder of pictures.
        folder: PathBuf,
    },

    /// A data set that lives in a folder, named without one.
    #[error(
        "data set `{name}` needs the folder that holds its files: write `{name}:DIR`, such as `{name}:data`"
    )]
    SourceWithoutFolder {
        /// The data set's name.
        name: &'static str,
    },

    /// The built-in data set, named with a folder.
    #[error(
        "data set `shapes` is built in and reads no folder, but `{folder}` was given: write just `shapes`"
    )]
    SourceWithFolder {
        /// The folder as given.
        folder: String,
    },

    /// A data set that was named without a folder, but has not been downloaded.
    #[error("data set `{name}` is not in {}: write `{name}:DIR` for files that lie elsewhere, or download it", .folder.as_ref().map_or("the folder for downloads".into(), |folder| format!("{folder:?}")))]
    NotDownloaded {
        /// The data set's name.
        name: &'static str,
        /// Where it was looked for.
        folder: Option<PathBuf>,
    },

    /// Images that a program held or made itself.
    #[error(
        "the images `{name}` are those of the program that began the run: they lie in no file, so only that program \
        can go on with the run, or test on them"
    )]
    OwnImages {
        /// What the program calls them.
        name: String,
    },

    /// The data set's folder is missing.
    #[error("{dataset}: there is no folder {folder:?}; {remedy}")]
    FolderMissing {
        /// The data set's name.
        dataset: &'static str,
        /// The missing folder.
        folder: PathBuf,
        /// How to get it.
        remedy: String,
    },

    /// Something else is where a folder should be.
    #[error("{dataset}: {path:?} is a file where a folder was expected; {remedy}")]
    NotAFolder {
        /// The data set's name.
        dataset: &'static str,
        /// The file.
        path: PathBuf,
        /// What to give instead.
        remedy: String,
    },

    /// Files of a data set are missing.
    #[error("{dataset}: missing {} in {folder:?}, where {} should be{}; {remedy}",
        .missing.join(", "), .expected.join(", "), also_looked_in(.also))]
    FilesMissing {
        /// The data set's name.
        dataset: &'static str,
        /// The folder where they were looked for.
        folder: PathBuf,
        /// Files that are not there.
        missing: Box<[&'static str]>,
        /// All files that the split consists of.
        expected: &'static [&'static str],
        /// Name of a folder in it in which they could have been, but which is not there either.
        also: Option<&'static str>,
        /// How to get them.
        remedy: String,
    },

    /// The operating system refused to read a file or folder.
    #[error("cannot read {path:?}: {reason}{}", reading_remedy(.reason))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        reason: io::Error,
    },

    /// A file without content.
    #[error("{path:?} is empty; {remedy}")]
    EmptyFile {
        /// The file.
        path: PathBuf,
        /// How to get a whole one.
        remedy: String,
    },

    /// A file that does not consist of whole records.
    #[error("{path:?} is truncated or no {dataset} file: its {size} bytes are {whole} records of {record} \
        bytes and {} bytes more (from offset {}); {remedy}", .size % .record, .whole * .record)]
    PartialRecord {
        /// The data set's name.
        dataset: &'static str,
        /// The file.
        path: PathBuf,
        /// The file's size in bytes.
        size: usize,
        /// A record's size in bytes.
        record: usize,
        /// How many whole records the file has.
        whole: usize,
        /// How to get a whole file.
        remedy: String,
    },

    /// A label that stands for no class.
    #[error("{path:?}: record {record} (its label is at byte {offset}) has label {label}, but {dataset} has \
        labels 0 to {}: the file is damaged or no {dataset} file; {remedy}", .classes - 1)]
    LabelOutOfRange {
        /// The data set's name.
        dataset: &'static str,
        /// The file.
        path: PathBuf,
        /// Number of the record, from 0.
        record: usize,
        /// Offset of its label in the file.
        offset: usize,
        /// The label found.
        label: u8,
        /// The number of classes.
        classes: usize,
        /// How to get an intact file.
        remedy: String,
    },

    /// A file of class names that does not name the classes.
    #[error(
        "{path:?} should hold the names of {expected} classes, one a line, but {problem}; restore the \
        original file, or delete it to use the official names"
    )]
    ClassNames {
        /// The file.
        path: PathBuf,
        /// The number of classes.
        expected: usize,
        /// What is wrong with it.
        problem: String,
    },

    /// Pixels, labels and classes that do not belong together.
    #[error("data set {name} is inconsistent: {problem}")]
    Inconsistent {
        /// The data set's name.
        name: String,
        /// What does not fit.
        problem: String,
    },

    /// A folder of pictures that is no data set.
    #[error(
        "image folder {folder:?}: {problem}; each class is a folder of pictures (JPEG, PNG, WebP, BMP or GIF)"
    )]
    ImageFolder {
        /// The folder of the split.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// More unreadable pictures than may be passed over.
    #[error("{count} of the {files} pictures in {folder:?} cannot be read, more than {} %: {}; repair or remove them", .share * 100.0, listed(.first, *.count))]
    TooManyUnreadable {
        /// The folder of the split.
        folder: PathBuf,
        /// How many have been found so far.
        count: usize,
        /// All its pictures.
        files: usize,
        /// The share that may be unreadable.
        share: f64,
        /// Why the first few cannot be read.
        first: Vec<String>,
    },

    /// A loader's worker thread could not be started.
    #[error(
        "cannot start a data-loading thread: {reason}; raise the limit of threads (ulimit -u) or of memory, or take fewer of them"
    )]
    WorkerNotStarted {
        /// The operating system's reason.
        #[source]
        reason: io::Error,
    },

    /// Batches that cannot be divided.
    #[error("batches of {batch} images have no {parts} equal parts; take a multiple of {parts}")]
    Share {
        /// Images of a batch.
        batch: usize,
        /// The number of parts.
        parts: usize,
    },

    /// A loader's worker thread panicked.
    #[error("a data-loading thread stopped: {message}; this is a bug in Residua, please report it")]
    WorkerStopped {
        /// The panic's message.
        message: String,
    },
}

fn also_looked_in(folder: &Option<&'static str>) -> String {
    folder.map(|folder| format!(" (nor is there a folder {folder} in it)")).unwrap_or_default()
}

fn listed(reasons: &[String], count: usize) -> String {
    let more = if count > reasons.len() { ", ..." } else { "" };
    format!("{}{more}", reasons.join(", "))
}
