//! Training and test images, from files to mini-batches.
//!
//! [`Source`] names a data set and loads one [`Split`] of it as [`Images`]: a [`Dataset`] of bytes, or an [`ImageFolder`]
//! whose pictures are decoded when they are needed and seen through a [`View`]. [`Normalisation`] is computed from the
//! training images. [`Loader`] turns a data set into an endless stream of shuffled,
//! augmented [`Batch`]es, made ahead of time by worker threads; [`evaluation_batches`] goes through it once,
//! in order.
//!
//! Every random choice is a pure function of a seed and of a position in the stream, so that training resumed
//! at any sample sees exactly the images it would have seen, whatever the number of threads.

mod alike;
mod augmentation;
mod batch;
mod cifar;
mod class_folders;
mod dataset;
#[cfg(feature = "download")]
mod download;
mod downloadable;
mod error;
mod folder;
mod images;
mod listing;
mod loader;
mod mixing;
mod normalisation;
mod picture_files;
mod prefetch;
mod preview;
mod random_stream;
mod sampling;
mod shapes;
mod share;
mod source;
mod unreadable;
mod validation;

pub use augmentation::{
    Augmentation, AugmentationOption, AugmentationOptions, AutoAugment, InvalidAugmentation, Mirror,
};
pub use batch::{Batch, Mixture, evaluation_batches};
pub(crate) use batch::{NumberedBatch, evaluation_batch};
pub use cifar::{cifar10, cifar100};
pub use dataset::{Dataset, Split};
#[cfg(feature = "download")]
pub use download::{ArchiveError, Download, DownloadError, DownloadObserver, Patience, Remote, fetch};
pub use downloadable::{Downloadable, data_folder};
pub use error::DataError;
pub use folder::ImageFolder;
pub use images::Images;
pub use listing::Listing;
pub use loader::{Loader, LoaderConfig, SmallSamples};
pub use mixing::Mixing;
pub use normalisation::normalisation_of;
pub use picture_files::{LeftOut, PictureFiles};
pub use preview::{Preview, PreviewedImage};
pub use random_stream::drawn;
pub use residua_infer::normalisation::{Normalisation, NormalisationKind};
pub use residua_infer::pictures::read_image;
pub use residua_infer::view::{Crops, View};
pub use sampling::Sampling;
pub use shapes::{SHAPES_TEST_IMAGES, SHAPES_TRAINING_IMAGES, shapes};
pub use share::Share;
pub use source::Source;
pub use validation::Validation;
