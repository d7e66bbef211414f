//! Mini-batches: what a network is given at a time.

use std::num::NonZeroUsize;

use rayon::prelude::*;

use residua_infer::normalisation::Normalisation;
use residua_infer::view::View;

use super::{dataset::Dataset, error::DataError, images::Images};

/// Normalised images with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Pixels, `[batch, crop, height, width, channels]`, normalised.
    pub images: Vec<f32>,
    /// Label of each image.
    pub labels: Vec<u16>,
    /// What is mixed into each image; none where images are not mixed.
    pub mixtures: Vec<Mixture>,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// Crops of each image: 1 but in tests by [`Crops::Ten`](super::Crops::Ten).
    pub crops: usize,
    /// Number of the first image in the stream of samples, from 0.
    pub first_sample: u64,
    /// Epoch that the first image belongs to, from 0.
    pub epoch: u64,
}

/// What is mixed into an image ([`Mixing`](super::Mixing)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// Its label.
    pub label: u16,
    /// Its part of the image, from 0 to 1.
    pub share: f64,
}

impl Batch {
    /// A batch of whole images that are not mixed, `[batch, height, width, channels]`, the first of a stream.
    pub fn new(images: Vec<f32>, labels: Vec<u16>, height: usize, width: usize) -> Self {
        Self { images, labels, mixtures: Vec::new(), height, width, crops: 1, first_sample: 0, epoch: 0 }
    }

    /// Number of images.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// A batch of these images, and then of these again from the first on, until there are a multiple of `group`.
    #[must_use]
    pub fn repeated_to_multiple_of(mut self, group: NonZeroUsize) -> Self {
        let (count, size) = (self.len().next_multiple_of(group.get()), self.images.len() / self.len());
        self.images = self.images.iter().copied().cycle().take(count * size).collect();
        self.labels = self.labels.iter().copied().cycle().take(count).collect();
        self.mixtures = self.mixtures.iter().copied().cycle().take(count).collect();
        self
    }
}

/// All images once, in order and as they are seen in tests, `batch_size` at a time. The last batch may be shorter, and
/// unreadable files are left out.
///
/// # Errors
///
/// [`DataError::Normalisation`] where the normalisation does not fit the images; for a batch,
/// [`DataError::TooManyUnreadable`].
pub fn evaluation_batches<'a>(
    images: &'a Images,
    normalisation: &'a Normalisation,
    batch_size: NonZeroUsize,
) -> Result<impl Iterator<Item = Result<Batch, DataError>> + 'a, DataError> {
    normalisation.check(images.height(), images.width())?;
    let batches = (0..images.len()).step_by(batch_size.get());
    let batches = batches.map(move |first| {
        let end = images.len().min(first.saturating_add(batch_size.get()));
        let chosen: Vec<usize> = (first..end).collect();
        Ok(evaluation_batch(images, normalisation, &chosen)?.batch)
    });
    Ok(batches.filter(|batch| batch.as_ref().is_ok_and(|batch| batch.len() > 0) || batch.is_err()))
}

/// A batch of test images, and which of the data set's they are.
pub(crate) struct NumberedBatch {
    /// The images; there may be none.
    pub(crate) batch: Batch,
    /// The number of each in the data set.
    pub(crate) numbers: Vec<usize>,
}

/// The images of these numbers, of which there is one, as they are seen in tests; unreadable files are left out.
pub(crate) fn evaluation_batch(
    images: &Images,
    normalisation: &Normalisation,
    chosen: &[usize],
) -> Result<NumberedBatch, DataError> {
    let View { height, width, crops, .. } = images.view();
    let crop_size = height * width * Dataset::CHANNELS;
    let size = crop_size * crops.count();
    let first_sample = chosen[0] as u64;
    let mut values = vec![0.0; chosen.len() * size];
    // Decoding is most of the work where images are files.
    let read: Vec<_> = chosen
        .par_iter()
        .zip(values.par_chunks_exact_mut(size))
        .map(|(&index, out)| {
            let pixels = images.image(index)?;
            for (pixels, out) in pixels.chunks_exact(crop_size).zip(out.chunks_exact_mut(crop_size)) {
                normalisation.apply(pixels, out);
            }
            Ok(())
        })
        .collect();
    let mut numbers = Vec::with_capacity(read.len());
    for (place, (&index, read)) in chosen.iter().zip(read).enumerate() {
        match read {
            Ok(()) => {
                values.copy_within(place * size..(place + 1) * size, numbers.len() * size);
                numbers.push(index);
            }
            Err(reason) => images.note_unreadable(index, reason)?,
        }
    }
    values.truncate(numbers.len() * size);
    let labels = numbers.iter().map(|&index| images.labels()[index]).collect();
    let batch = Batch { crops: crops.count(), first_sample, ..Batch::new(values, labels, height, width) };
    Ok(NumberedBatch { batch, numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_goes_through_all_images_once() {
        let pixels = (0..5u8).flat_map(|k| [51 * k, 0, 0]).collect();
        let dataset =
            Dataset::new("tiny", vec!["a".into(), "b".into()], (1, 1), pixels, vec![0, 1, 0, 1, 1]).unwrap();
        let images = Images::from(dataset);
        let normalisation = Normalisation::PerPixelMean { mean: vec![0.0, 0.5, 1.0] };
        for (batch_size, sizes) in [(1, vec![1; 5]), (2, vec![2, 2, 1]), (5, vec![5]), (usize::MAX, vec![5])]
        {
            let batch_size = NonZeroUsize::new(batch_size).unwrap();
            let batches: Result<Vec<Batch>, _> =
                evaluation_batches(&images, &normalisation, batch_size).unwrap().collect();
            let batches = batches.unwrap();
            assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), sizes);
            assert_eq!(
                batches.iter().flat_map(|batch| batch.labels.clone()).collect::<Vec<_>>(),
                [0, 1, 0, 1, 1]
            );
            let pixels: Vec<f32> = batches.iter().flat_map(|batch| batch.images.clone()).collect();
            assert_eq!(pixels[..6], [0.0, -0.5, -1.0, 0.2, -0.5, -1.0]);
            assert_eq!(pixels[12..], [0.8, -0.5, -1.0]);
            let last = batches.last().unwrap();
            assert_eq!(last.first_sample as usize + last.len(), 5);
            assert_eq!((last.epoch, last.height, last.width), (0, 1, 1));
        }
        let too_small = Normalisation::PerPixelMean { mean: vec![0.0] };
        assert!(evaluation_batches(&images, &too_small, NonZeroUsize::MIN).is_err());
    }

    #[test]
    fn a_batch_is_repeated_from_its_first_image_on() {
        let images = vec![0., 1., 2., 3., 4., 5.];
        let batch = Batch::new(images, vec![7, 8], 1, 1);
        let longer = batch.clone().repeated_to_multiple_of(NonZeroUsize::new(3).unwrap());
        assert_eq!((longer.labels, longer.images), (vec![7, 8, 7], vec![0., 1., 2., 3., 4., 5., 0., 1., 2.]));
        assert_eq!(batch.clone().repeated_to_multiple_of(NonZeroUsize::new(2).unwrap()), batch);
    }
}
