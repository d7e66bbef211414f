//! Picture files as a network sees them.

mod crops;
mod decode;
mod error;
mod jpeg;
mod resize;
mod strangers;
mod webp;

use std::path::Path;

pub use decode::{EXTENSIONS, read_picture};
pub use error::PictureError;
pub use resize::{Part, resize_part, resize_window};

use crate::view::View;

/// Decodes a picture file and shows it to a network: all crops of the view, `[crop, height, width, channel]`.
///
/// Files are JPEG, PNG, WebP, BMP or GIF (its first frame), of any size. They are turned upright as their EXIF data
/// say; transparency is laid over white.
///
/// # Errors
///
/// A [`PictureError`] that names the file, where it is missing, empty, truncated, too large or no image.
pub fn read_image(path: &Path, view: &View) -> Result<Vec<u8>, PictureError> {
    view.check()?;
    Ok(view.crops_of(&read_picture(path)?))
}
