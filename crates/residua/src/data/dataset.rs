//! Labelled images in memory.

use std::fmt;

use super::error::DataError;

/// Which images of a data set: those to learn from, or those to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The training images.
    Train,
    /// The test images.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// Colour images of one size with one label each: at least one image, and every label names a class.
#[derive(Clone, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    classes: Vec<String>,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

impl Dataset {
    /// Channels of every image: red, green, blue.
    pub const CHANNELS: usize = 3;

    /// A data set from `pixels` laid out `[image, height, width, channel]`, a label an image, and the
    /// classes' names by label.
    ///
    /// # Errors
    ///
    /// [`DataError::Inconsistent`] where the pixels are not a whole image for every label, a label names no
    /// class, there is no image, or there are more than 2^32 - 1.
    pub fn new(
        name: impl Into<String>,
        classes: Vec<String>,
        (height, width): (usize, usize),
        pixels: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self, DataError> {
        let dataset = Self { name: name.into(), classes, height, width, pixels, labels };
        match dataset.problem() {
            Some(problem) => Err(DataError::Inconsistent { name: dataset.name, problem }),
            None => Ok(dataset),
        }
    }

    /// Those that are not held, and those that are; of both there is one at least. The former stay in the memory of all.
    pub(super) fn divided(mut self, is_held: &[bool]) -> (Self, Self) {
        let size = self.image_size();
        let mut held = Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            pixels: Vec::new(),
            labels: Vec::new(),
            ..self
        };
        let mut left = 0;
        for (image, &is_held) in is_held.iter().enumerate() {
            let pixels = image * size..(image + 1) * size;
            if is_held {
                held.labels.push(self.labels[image]);
                held.pixels.extend_from_slice(&self.pixels[pixels]);
            } else {
                self.labels[left] = self.labels[image];
                self.pixels.copy_within(pixels, left * size);
                left += 1;
            }
        }
        self.labels.truncate(left);
        self.pixels.truncate(left * size);
        (self, held)
    }

    /// The data set's name, for messages and reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of each class, by label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Height of every image in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of every image in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of images; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Pixels of image `index`, `[height, width, channel]`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_size();
        &self.pixels[index * size..(index + 1) * size]
    }

    /// Label of image `index`, below the number of classes.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    /// All labels, in the order of the images.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// All pixels, `[image, height, width, channel]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Bytes an image: height x width x channels.
    pub fn image_size(&self) -> usize {
        self.height * self.width * Self::CHANNELS
    }

    fn problem(&self) -> Option<String> {
        let (height, width, images) = (self.height, self.width, self.labels.len());
        // The loader keeps the order of an epoch as 32-bit numbers.
        if images == 0 || u32::try_from(images).is_err() {
            return Some(format!("it has {images} images, but 1 to {} are needed", u32::MAX));
        }
        let size = height.checked_mul(width).and_then(|area| area.checked_mul(Self::CHANNELS));
        if size == Some(0) || size.and_then(|size| size.checked_mul(images)) != Some(self.pixels.len()) {
            let pixels = self.pixels.len();
            return Some(format!("{pixels} bytes of pixels are not {images} images of {height}x{width}x3"));
        }
        let classes = self.classes.len();
        let image = self.labels.iter().position(|&label| usize::from(label) >= classes)?;
        Some(format!("image {image} has label {}, but there are {classes} classes", self.labels[image]))
    }
}

/// Says what the data set is, without its pixels.
impl fmt::Debug for Dataset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, classes, height, width, labels, .. } = self;
        let (images, classes) = (labels.len(), classes.len());
        write!(formatter, "Dataset({name}: {images} images of {height}x{width}x3 in {classes} classes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(size: (usize, usize), pixels: usize, labels: &[u16]) -> Result<Dataset, DataError> {
        let classes = vec!["cat".into(), "dog".into()];
        Dataset::new("pets", classes, size, (0..pixels).map(|k| k as u8).collect(), labels.to_vec())
    }

    #[test]
    fn images_and_labels_are_found_by_index() {
        let dataset = make((2, 1), 18, &[1, 0, 1]).unwrap();
        assert_eq!((dataset.len(), dataset.height(), dataset.width(), dataset.image_size()), (3, 2, 1, 6));
        assert_eq!(dataset.image(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!((dataset.label(0), dataset.label(1)), (1, 0));
        assert_eq!(format!("{dataset:?}"), "Dataset(pets: 3 images of 2x1x3 in 2 classes)");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for (made, expected) in [
            (make((1, 1), 0, &[]), "it has 0 images, but 1 to 4294967295 are needed"),
            (make((1, 1), 5, &[0, 1]), "5 bytes of pixels are not 2 images of 1x1x3"),
            (make((0, 1), 0, &[0, 1]), "0 bytes of pixels are not 2 images of 0x1x3"),
            (make((usize::MAX, 2), 6, &[0, 1]), "are not 2 images of"),
            (make((1, 1), 9, &[0, 2, 1]), "image 1 has label 2, but there are 2 classes"),
        ] {
            let message = made.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
