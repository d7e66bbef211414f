//! The images of a split, in memory or in files.

use std::borrow::Cow;

use image::RgbImage;

use residua_infer::view::View;

use super::{dataset::Dataset, error::DataError, folder::ImageFolder};

/// Labelled images: at least one, and every label names a class.
#[derive(Clone, Debug)]
pub enum Images {
    /// All of one size, in memory.
    InMemory(Dataset),
    /// Files of any size, decoded when they are needed.
    Files(ImageFolder),
}

impl Images {
    /// The data set's name, for messages and reports.
    pub fn name(&self) -> &str {
        match self {
            Self::InMemory(dataset) => dataset.name(),
            Self::Files(folder) => folder.name(),
        }
    }

    /// Name of each class, by label.
    pub fn classes(&self) -> &[String] {
        match self {
            Self::InMemory(dataset) => dataset.classes(),
            Self::Files(folder) => folder.classes(),
        }
    }

    /// Number of images, files that turn out to be unreadable included; never 0.
    #[expect(clippy::len_without_is_empty, reason = "there is always an image")]
    pub fn len(&self) -> usize {
        self.labels().len()
    }

    /// All labels, in the order of the images.
    pub fn labels(&self) -> &[u16] {
        match self {
            Self::InMemory(dataset) => dataset.labels(),
            Self::Files(folder) => folder.labels(),
        }
    }

    /// How a network sees an image in tests. Images in memory are seen as they are.
    pub fn view(&self) -> View {
        match self {
            Self::InMemory(dataset) => View::full(dataset.height(), dataset.width()),
            Self::Files(folder) => folder.view(),
        }
    }

    /// Height of what a network sees, in pixels.
    pub fn height(&self) -> usize {
        self.view().height
    }

    /// Width of what a network sees, in pixels.
    pub fn width(&self) -> usize {
        self.view().width
    }

    /// The same images; those in files are seen by `view`.
    ///
    /// # Errors
    ///
    /// [`DataError::View`] for an impossible view.
    pub fn seen_by(self, view: View) -> Result<Self, DataError> {
        view.check()?;
        Ok(match self {
            Self::InMemory(dataset) => Self::InMemory(dataset),
            Self::Files(folder) => Self::Files(folder.seen_by(view)),
        })
    }

    /// The same images, of which this share at most may be in unreadable files.
    pub fn tolerating(self, unreadable_share: f64) -> Self {
        match self {
            Self::InMemory(dataset) => Self::InMemory(dataset),
            Self::Files(folder) => Self::Files(folder.tolerating(unreadable_share)),
        }
    }

    /// The same images, labelled among these classes, which are more or in another order. None where one of theirs is not among them.
    pub fn among(self, classes: &[String]) -> Option<Self> {
        Some(match self {
            Self::InMemory(dataset) if dataset.classes() == classes => Self::InMemory(dataset),
            Self::InMemory(_) => return None,
            Self::Files(folder) => Self::Files(folder.among(classes)?),
        })
    }

    /// Those that are not held, and those that are; of both there is one at least.
    pub(super) fn divided(self, is_held: &[bool]) -> (Self, Self) {
        match self {
            Self::InMemory(dataset) => {
                let (left, held) = dataset.divided(is_held);
                (Self::InMemory(left), Self::InMemory(held))
            }
            Self::Files(folder) => {
                let of = |held: bool| {
                    let numbers: Vec<usize> =
                        (0..is_held.len()).filter(|&number| is_held[number] == held).collect();
                    Self::Files(folder.only(&numbers))
                };
                (of(false), of(true))
            }
        }
    }

    /// What a network sees of image `index` in tests, `[crop, height, width, channel]`.
    ///
    /// # Errors
    ///
    /// Where its file cannot be read.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        match self {
            Self::InMemory(dataset) => Ok(Cow::Borrowed(dataset.image(index))),
            Self::Files(folder) => Ok(Cow::Owned(folder.view().crops_of(&folder.picture(index)?))),
        }
    }

    /// The whole of image `index`.
    pub(super) fn picture(&self, index: usize) -> Result<RgbImage, DataError> {
        match self {
            Self::Files(folder) => folder.picture(index),
            Self::InMemory(dataset) => {
                let (width, height) = (dataset.width() as u32, dataset.height() as u32);
                let picture = RgbImage::from_raw(width, height, dataset.image(index).to_vec());
                Ok(picture.expect("an image has three bytes a pixel"))
            }
        }
    }

    /// Notes that image `index` could not be read.
    ///
    /// # Errors
    ///
    /// [`DataError::TooManyUnreadable`] where it is one too many.
    pub(super) fn note_unreadable(&self, index: usize, reason: DataError) -> Result<(), DataError> {
        match self {
            Self::InMemory(_) => Err(reason),
            Self::Files(folder) => folder.note_unreadable(index, &reason),
        }
    }

    /// What is odd about the files, to be told once; see [`ImageFolder::warnings`].
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::InMemory(_) => &[],
            Self::Files(folder) => folder.warnings(),
        }
    }

    /// Why files could not be read, each file once: those noted since the last call.
    pub fn take_newly_unreadable(&self) -> Vec<String> {
        match self {
            Self::InMemory(_) => Vec::new(),
            Self::Files(folder) => folder.take_newly_unreadable(),
        }
    }
}

impl From<Dataset> for Images {
    fn from(dataset: Dataset) -> Self {
        Self::InMemory(dataset)
    }
}
