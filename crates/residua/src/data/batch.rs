//! Mini-batches: what a network is given at a time.

use std::num::NonZeroUsize;

use super::{dataset::Dataset, error::DataError, normalisation::Normalisation};

/// Normalised images with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Pixels, `[batch, height, width, channels]`, normalised.
    pub images: Vec<f32>,
    /// Label of each image.
    pub labels: Vec<u16>,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// Number of the first image in the stream of samples, from 0.
    pub first_sample: u64,
    /// Epoch that the first image belongs to, from 0.
    pub epoch: u64,
}

impl Batch {
    /// Number of images.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

/// All images of a data set once, in order and not augmented, `batch_size` at a time; the last batch may be
/// shorter.
///
/// # Errors
///
/// [`DataError::Normalisation`] where the normalisation does not fit the images.
pub fn evaluation_batches<'a>(
    dataset: &'a Dataset,
    normalisation: &'a Normalisation,
    batch_size: NonZeroUsize,
) -> Result<impl Iterator<Item = Batch> + 'a, DataError> {
    let (height, width, size) = (dataset.height(), dataset.width(), dataset.image_size());
    normalisation.check(height, width)?;
    Ok((0..dataset.len()).step_by(batch_size.get()).map(move |first| {
        let end = dataset.len().min(first.saturating_add(batch_size.get()));
        let mut images = vec![0.0; (end - first) * size];
        for (index, out) in (first..end).zip(images.chunks_exact_mut(size)) {
            normalisation.apply(dataset.image(index), out);
        }
        let labels = dataset.labels()[first..end].to_vec();
        Batch { images, labels, height, width, first_sample: first as u64, epoch: 0 }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_goes_through_all_images_once() {
        let pixels = (0..5u8).flat_map(|k| [51 * k, 0, 0]).collect();
        let dataset =
            Dataset::new("tiny", vec!["a".into(), "b".into()], (1, 1), pixels, vec![0, 1, 0, 1, 1]).unwrap();
        let normalisation = Normalisation::PerPixelMean { mean: vec![0.0, 0.5, 1.0] };
        for (batch_size, sizes) in [(1, vec![1; 5]), (2, vec![2, 2, 1]), (5, vec![5]), (usize::MAX, vec![5])]
        {
            let batch_size = NonZeroUsize::new(batch_size).unwrap();
            let batches: Vec<Batch> =
                evaluation_batches(&dataset, &normalisation, batch_size).unwrap().collect();
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
        assert!(evaluation_batches(&dataset, &too_small, NonZeroUsize::MIN).is_err());
    }
}
