//! Training and test images, from files to mini-batches.
//!
//! [`Source`] names a data set and loads one [`Split`] of it as a [`Dataset`] of bytes. [`Normalisation`] is
//! computed from the training images. [`Loader`] turns a data set into an endless stream of shuffled,
//! augmented [`Batch`]es, made ahead of time by worker threads; [`evaluation_batches`] goes through it once,
//! in order.
//!
//! Every random choice is a pure function of a seed and of a position in the stream, so that training resumed
//! at any sample sees exactly the images it would have seen, whatever the number of threads.

mod augmentation;
mod batch;
mod cifar;
mod cifar_classes;
mod dataset;
mod error;
mod image_file;
mod loader;
mod normalisation;
mod prefetch;
mod random_stream;
mod shapes;
mod source;

pub use augmentation::Augmentation;
pub use batch::{Batch, evaluation_batches};
pub use cifar::{cifar10, cifar100};
pub use dataset::{Dataset, Split};
pub use error::DataError;
pub use image_file::read_image;
pub use loader::{Loader, LoaderConfig};
pub use normalisation::{Normalisation, NormalisationKind};
pub use shapes::{SHAPES_TEST_IMAGES, SHAPES_TRAINING_IMAGES, shapes};
pub use source::Source;
