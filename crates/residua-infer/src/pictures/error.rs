//! What can go wrong with a picture file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::file::reading_remedy;
use crate::view::ViewError;

/// A picture that cannot be shown to a network. Every message names the file, what is wrong with it, and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// An impossible view.
    #[error(transparent)]
    View(#[from] ViewError),

    /// The operating system refused to read a file or folder.
    #[error("cannot read {path:?}: {reason}{}", reading_remedy(.reason))]
    Unreadable {
        /// The file.
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

    /// A file that holds no image that can be read.
    #[error("{path:?} is not a readable image: {problem}; give a whole JPEG, PNG, WebP, BMP or GIF file")]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// An image that is too large to be decoded safely.
    #[error(
        "{path:?} is too large an image ({problem}): at most {limit} pixels a side and \
        1 GiB in memory can be read; scale it down first"
    )]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        problem: String,
        /// The largest width and height.
        limit: u32,
    },
}
