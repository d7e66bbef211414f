//! A look at the beginning of the stream of training images.

use std::sync::Arc;

use rayon::prelude::*;

use residua_infer::normalisation::Normalisation;

use super::{
    dataset::Dataset,
    error::DataError,
    images::Images,
    loader::{LoaderConfig, Sampler},
};

/// The first images of a stream of training images, as pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Height of what a network sees, in pixels.
    pub height: usize,
    /// Width of what a network sees, in pixels.
    pub width: usize,
    /// The images, in the order of the stream.
    pub images: Vec<PreviewedImage>,
}

/// A training image as a network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedImage {
    /// Name of its class; what is mixed into it may have another.
    pub class: String,
    /// As in tests, `[height, width, channel]`.
    pub plain: Vec<u8>,
    /// As in training: varied differently each time.
    pub variations: Vec<Vec<u8>>,
}

impl Preview {
    /// The first `count` images of the stream that a [`Loader`](super::Loader) of this `config` makes, or all images if there are fewer,
    /// each varied `variations` times and mixed, their normalisation undone.
    ///
    /// The first variation of image k is sample k of the stream, whatever `config` says of its start; where the stream begins with small
    /// crops, all are small, in the middle of the mean colour. The others are varied as the samples
    /// in the same place of the next epochs are, so without shuffling they are those samples.
    ///
    /// # Errors
    ///
    /// As those of the loader and its batches.
    pub fn of(
        images: &Arc<Images>,
        normalisation: &Normalisation,
        config: &LoaderConfig,
        count: usize,
        variations: usize,
    ) -> Result<Self, DataError> {
        let (height, width) = (images.height(), images.width());
        let sampler = Sampler::new(images.clone(), normalisation.clone(), config.clone())?;
        let (count, epoch) = (count.min(images.len()), images.len() as u64);
        let view = |sampler: &mut Sampler, sample: u64| {
            let size @ [of_height, of_width] = sampler.size_at(0);
            let mut values = vec![0.0; of_height * of_width * Dataset::CHANNELS];
            let first = sampler.index_of(sample);
            let (mut index, mut varied) = (first, Vec::new());
            for number in 0..variations as u64 {
                let sample = sample + number * epoch;
                index = sampler.draw(first, sample, size, &mut values)?;
                sampler.mix(sample, size, &mut values, &[images.labels()[index]])?;
                varied.push(normalisation.to_pixels(&framed(&values, size, [height, width])));
            }
            let class = images.classes()[usize::from(images.labels()[index])].clone();
            Ok(PreviewedImage { class, plain: images.image(index)?.into_owned(), variations: varied })
        };
        let views: Result<_, DataError> = (0..count as u64).into_par_iter().map_with(sampler, view).collect();
        Ok(Self { height, width, images: views? })
    }
}

/// A small image in the middle of a larger one, which is of the mean colour elsewhere.
fn framed(image: &[f32], [of_height, of_width]: [usize; 2], [height, width]: [usize; 2]) -> Vec<f32> {
    let mut frame = vec![0.0; height * width * Dataset::CHANNELS];
    let (top, left) = ((height - of_height) / 2, (width - of_width) / 2);
    let rows = frame.chunks_exact_mut(width * Dataset::CHANNELS).skip(top);
    for (row, image) in rows.zip(image.chunks_exact(of_width * Dataset::CHANNELS)) {
        row[left * Dataset::CHANNELS..][..image.len()].copy_from_slice(image);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Augmentation, AugmentationOptions, Loader, Mixing, SmallSamples};

    fn dataset() -> Arc<Images> {
        let pixels = (0..5 * 6 * 4 * 3).map(|k| (k % 256) as u8).collect();
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        Arc::new(Dataset::new("tiny", classes, (6, 4), pixels, vec![0, 1, 2, 1, 0]).unwrap().into())
    }

    fn plain() -> Normalisation {
        Normalisation::PerChannel { mean: [0.4, 0.5, 0.6], deviation: [0.2, 0.3, 0.4] }
    }

    #[test]
    fn it_is_the_stream_that_training_sees() {
        let mut augmentation = AugmentationOptions::from(Augmentation::Shift);
        augmentation.flips_vertically = true;
        augmentation.cutout = 2;
        for (is_shuffled, mixup) in [(true, None), (true, Some(1.0)), (false, None), (false, Some(1.0))] {
            let config = LoaderConfig {
                is_shuffled,
                mixing: Mixing { mixup, cutmix: None },
                ..LoaderConfig::new(5, 3).with_augmentation(augmentation)
            };
            let preview = Preview::of(&dataset(), &plain(), &config, 9, 3).unwrap();
            assert_eq!((preview.images.len(), preview.height, preview.width), (5, 6, 4));
            let mut loader = Loader::open(dataset(), plain(), config).unwrap();
            // Three epochs.
            for epoch in 0..if is_shuffled { 1 } else { 3 } {
                let batch = loader.next_batch().unwrap();
                for (image, (found, label)) in
                    batch.images.chunks(72).zip(preview.images.iter().zip(&batch.labels))
                {
                    assert_eq!(found.variations[epoch], plain().to_pixels(image));
                    assert_eq!(found.class, ["a", "b", "c"][usize::from(*label)]);
                }
            }
            assert!(preview.images.iter().any(|image| image.variations[0] != image.variations[1]));
        }
    }

    #[test]
    fn small_crops_lie_in_the_mean_colour() {
        let small_crops = Some(SmallSamples { count: 1, size: 2 });
        let config = LoaderConfig { small_crops, ..LoaderConfig::new(5, 3) };
        let preview = Preview::of(&dataset(), &plain(), &config, 5, 1).unwrap();
        let mut loader = Loader::open(dataset(), plain(), config).unwrap();
        let batch = loader.next_batch().unwrap();
        let mean = plain().to_pixels(&[0.0; 3]);
        for (small, found) in batch.images.chunks(12).zip(&preview.images) {
            let small = plain().to_pixels(small);
            for (place, pixel) in found.variations[0].chunks(3).enumerate() {
                let (row, column) = (place / 4, place % 4);
                let is_inside = (2..4).contains(&row) && (1..3).contains(&column);
                let expected =
                    if is_inside { &small[((row - 2) * 2 + column - 1) * 3..][..3] } else { &mean };
                assert_eq!(pixel, expected, "{row} {column}");
            }
        }
    }

    #[test]
    fn nothing_varied_is_as_in_tests() {
        let config = LoaderConfig::new(1, 3).with_augmentation(Augmentation::None);
        let preview = Preview::of(&dataset(), &plain(), &config, 2, 2).unwrap();
        assert_eq!(preview.images.len(), 2);
        for image in preview.images {
            assert_eq!(image.variations, [image.plain.clone(), image.plain]);
        }
        let mut wrong = config;
        wrong.augmentation.cutout = 5;
        assert!(Preview::of(&dataset(), &plain(), &wrong, 2, 2).is_err());
    }
}
