//! The endless stream of shuffled, augmented training batches.

use std::{num::NonZeroUsize, sync::Arc};

use residua_infer::normalisation::Normalisation;

use super::{
    augmentation::{Augmentation, AugmentationOptions, Framing, Variation},
    batch::{Batch, Mixture},
    dataset::Dataset,
    error::DataError,
    images::Images,
    mixing::Mixing,
    prefetch::Prefetch,
    random_stream::{Purpose, random_stream},
    sampling::Sampling,
    share::Share,
};

/// How a [`Loader`] makes batches.
///
/// ```
/// use residua::data::{Augmentation, LoaderConfig};
///
/// let config = LoaderConfig::new(64, 1).with_augmentation(Augmentation::None);
/// assert!(config.is_shuffled);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoaderConfig {
    /// Images a batch.
    pub batch_size: NonZeroUsize,
    /// Seed of the order and the augmentation.
    pub seed: u64,
    /// Whether each epoch has an order of its own, rather than that of the data set.
    pub is_shuffled: bool,
    /// Which images an epoch has; where the order is that of the data set, every image once.
    pub sampling: Sampling,
    /// How images are varied.
    pub augmentation: AugmentationOptions,
    /// How images are mixed in pairs.
    pub mixing: Mixing,
    /// Crops at the beginning of the stream that are smaller than the images, which then have to be shifted.
    pub small_crops: Option<SmallSamples>,
    /// Threads that make batches ahead of time; the batches do not depend on it.
    pub workers: NonZeroUsize,
    /// Samples of the stream to skip: those drawn before training was interrupted.
    pub start: u64,
    /// The part of each batch that is made.
    pub share: Share,
}

/// The first samples of a stream, as small crops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallSamples {
    /// How many samples; a batch that begins before has small crops.
    pub count: u64,
    /// Height and width of the crops.
    pub size: usize,
}

impl LoaderConfig {
    /// Batches of `batch_size` images, at least one, in an order that follows from `seed`: shuffled in every epoch, shifted and
    /// mirrored as in the paper, made by one thread, from the first sample on.
    pub fn new(batch_size: usize, seed: u64) -> Self {
        Self {
            batch_size: NonZeroUsize::new(batch_size).unwrap_or(NonZeroUsize::MIN),
            seed,
            is_shuffled: true,
            sampling: Sampling::default(),
            augmentation: Augmentation::Shift.into(),
            mixing: Mixing::default(),
            small_crops: None,
            workers: NonZeroUsize::MIN,
            start: 0,
            share: Share::default(),
        }
    }

    /// The same, with images cropped and mirrored in this way, or varied in all these ways.
    pub fn with_augmentation(self, augmentation: impl Into<AugmentationOptions>) -> Self {
        Self { augmentation: augmentation.into(), ..self }
    }

    /// The same, with so many threads that make batches ahead of time.
    pub fn with_workers(self, workers: NonZeroUsize) -> Self {
        Self { workers, ..self }
    }

    /// The same, from sample `start` of the stream on.
    pub fn from_sample(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// The same, of each batch this part alone.
    pub fn with_share(self, share: Share) -> Self {
        Self { share, ..self }
    }
}

/// An endless stream of mini-batches over freshly shuffled epochs (paper, section 5).
///
/// A batch may straddle two epochs, so nothing is dropped. Sample `k` of the stream is a function of the seed
/// and `k` alone: it belongs to epoch `k / len`, whose order is drawn from a stream of random numbers of its
/// own, as is the augmentation of every sample. A loader that starts at sample `n` therefore goes on exactly
/// like one that was run up to `n`, with any number of workers. Dropping it stops the workers within the time
/// of one batch.
#[derive(Debug)]
pub struct Loader {
    batches: Prefetch<Result<Batch, DataError>>,
    /// Images of a whole batch.
    batch_size: u64,
    position: u64,
}

impl Loader {
    /// Starts to make batches.
    ///
    /// # Errors
    ///
    /// [`DataError::Normalisation`] where the normalisation does not fit the images, [`DataError::Augmentation`] where they cannot be
    /// varied like this, [`DataError::Share`] where batches have no such parts, [`DataError::WorkerNotStarted`] where no thread can be had.
    pub fn open(
        images: Arc<Images>,
        normalisation: Normalisation,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        let (position, workers) = (config.start, config.workers);
        let (batch, parts) = (config.batch_size.get(), config.share.parts());
        if !batch.is_multiple_of(parts) {
            return Err(DataError::Share { batch, parts });
        }
        let mut sampler = Sampler::new(images, normalisation, config)?;
        let batches = Prefetch::start(workers, move |number| sampler.batch(number))?;
        Ok(Self { batches, batch_size: batch as u64, position })
    }

    /// The next batch, waiting for it if need be.
    ///
    /// # Errors
    ///
    /// [`DataError::TooManyUnreadable`] where too many files are, [`DataError::WorkerStopped`] where a worker panicked.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        let batch = self.batches.next()??;
        self.position += self.batch_size;
        Ok(batch)
    }

    /// Samples drawn so far, those before the start and of other parts included: where a loader would have to start to go on
    /// from here.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// Makes any batch of the stream.
#[derive(Clone)]
pub(super) struct Sampler {
    images: Arc<Images>,
    normalisation: Arc<Normalisation>,
    config: LoaderConfig,
    variation: Variation,
    /// The epoch whose order was drawn last, and that order.
    order: Option<(u64, Vec<u32>)>,
}

impl Sampler {
    /// Refuses a normalisation and an augmentation that do not fit the images.
    pub(super) fn new(
        images: Arc<Images>,
        normalisation: Normalisation,
        config: LoaderConfig,
    ) -> Result<Self, DataError> {
        normalisation.check(images.height(), images.width())?;
        config.augmentation.check(images.height(), images.width())?;
        if let Some(SmallSamples { size, .. }) = config.small_crops {
            config.augmentation.check_small_crops(size, images.height(), images.width())?;
        }
        let variation = Variation::new(config.augmentation);
        Ok(Self { images, normalisation: Arc::new(normalisation), config, variation, order: None })
    }

    fn batch(&mut self, number: u64) -> Result<Batch, DataError> {
        let LoaderConfig { batch_size, share, start, .. } = self.config;
        let batch_size = batch_size.get();
        let begin = start + number * batch_size as u64;
        let [height, width] = self.size_at(begin);
        let (count, first_sample) =
            (share.len_of(batch_size), begin + share.images_before(batch_size) as u64);
        let size = height * width * Dataset::CHANNELS;
        let (mut images, mut labels) = (vec![0.0; count * size], Vec::with_capacity(count));
        for (sample, out) in (first_sample..).zip(images.chunks_exact_mut(size)) {
            let index = self.index_of(sample);
            let index = self.draw(index, sample, [height, width], out)?;
            labels.push(self.images.labels()[index]);
        }
        let epoch = first_sample / self.images.len() as u64;
        let mixtures = self.mix(first_sample, [height, width], &mut images, &labels)?;
        Ok(Batch { first_sample, epoch, mixtures, ..Batch::new(images, labels, height, width) })
    }

    /// Height and width of the images of a batch that begins with this sample.
    pub(super) fn size_at(&self, first_sample: u64) -> [usize; 2] {
        match self.config.small_crops {
            Some(small) if first_sample < small.count => [small.size; 2],
            _ => [self.images.height(), self.images.width()],
        }
    }

    /// Mixes the images of a batch in pairs, if they are to be; what came into each.
    pub(super) fn mix(
        &mut self,
        first_sample: u64,
        [height, width]: [usize; 2],
        images: &mut [f32],
        labels: &[u16],
    ) -> Result<Vec<Mixture>, DataError> {
        let size = height * width * Dataset::CHANNELS;
        let mut mixtures = Vec::new();
        while mixtures.len() < labels.len() {
            let place = mixtures.len();
            let sample = first_sample + place as u64;
            let mut random = random_stream(self.config.seed, Purpose::Mixing, sample / 2);
            let Some(mix) = self.config.mixing.draw(height, width, &mut random) else { break };
            let share = mix.share(height, width);
            let (own, behind) = images[place * size..].split_at_mut(size);
            let is_first = sample.is_multiple_of(2);
            if is_first && place + 1 < labels.len() {
                mix.apply(width, Dataset::CHANNELS, own, &mut behind[..size]);
                mixtures.extend([place + 1, place].map(|other| Mixture { label: labels[other], share }));
                continue;
            }
            // The other one is of another batch.
            let mut other = vec![0.0; size];
            let sample = sample ^ 1;
            let index = self.index_of(sample);
            let index = self.draw(index, sample, [height, width], &mut other)?;
            match is_first {
                true => mix.apply(width, Dataset::CHANNELS, own, &mut other),
                false => mix.apply(width, Dataset::CHANNELS, &mut other, own),
            }
            mixtures.push(Mixture { label: self.images.labels()[index], share });
        }
        Ok(mixtures)
    }

    /// The image that is sample `sample` of the stream.
    pub(super) fn index_of(&mut self, sample: u64) -> usize {
        let images = self.images.len() as u64;
        let (epoch, place) = (sample / images, (sample % images) as usize);
        if !self.config.is_shuffled {
            return place;
        }
        let order = match self.order.take() {
            Some((drawn, order)) if drawn == epoch => order,
            _ => self.config.sampling.order(self.config.seed, epoch, self.images.labels()),
        };
        let index = order[place] as usize;
        self.order = Some((epoch, order));
        index
    }

    /// Writes image `index`, varied, to `out`; which image that was. The place of an unreadable image is taken by the next readable
    /// one, whoever found it unreadable first: so the stream stays a function of the seed and the files.
    pub(super) fn draw(
        &mut self,
        index: usize,
        sample: u64,
        size: [usize; 2],
        out: &mut [f32],
    ) -> Result<usize, DataError> {
        let Self { images, normalisation, config, variation, .. } = self;
        let count = images.len();
        let crop = (size != [images.height(), images.width()]).then_some(size[0]);
        for index in (index..count).chain(0..index) {
            let is_mirrored = config.augmentation.mirror.decides(config.seed, sample / count as u64, index);
            let framing = Framing { crop, is_mirrored };
            let mut random = random_stream(config.seed, Purpose::Augmentation, sample);
            match variation.draw(images, index, normalisation, framing, &mut random, out) {
                Ok(()) => return Ok(index),
                Err(reason) => images.note_unreadable(index, reason)?,
            }
        }
        Err(DataError::Inconsistent {
            name: self.images.name().into(),
            problem: "none of its pictures can be read".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::data::random_stream::permutation;
    use crate::data::{AutoAugment, Mirror};

    /// `images` pictures of 2x2 pixels, picture `k` labelled `k` and all of brightness `k`.
    fn dataset(images: usize) -> Arc<Images> {
        let classes = (0..images).map(|k| k.to_string()).collect();
        let pixels = (0..images).flat_map(|k| [k as u8; 12]).collect();
        Arc::new(Dataset::new("tiny", classes, (2, 2), pixels, (0..images as u16).collect()).unwrap().into())
    }

    fn config(batch_size: usize) -> LoaderConfig {
        LoaderConfig {
            batch_size: NonZeroUsize::new(batch_size).unwrap(),
            seed: 7,
            is_shuffled: true,
            sampling: Sampling::default(),
            augmentation: Augmentation::Shift.into(),
            mixing: Mixing::default(),
            small_crops: None,
            workers: NonZeroUsize::MIN,
            start: 0,
            share: Share::default(),
        }
    }

    fn open(dataset: &Arc<Images>, config: LoaderConfig) -> Loader {
        let normalisation = Normalisation::PerChannel { mean: [0.4; 3], deviation: [0.2, 0.3, 0.4] };
        Loader::open(dataset.clone(), normalisation, config).unwrap()
    }

    fn take(loader: &mut Loader, batches: usize) -> Vec<Batch> {
        (0..batches).map(|_| loader.next_batch().unwrap()).collect()
    }

    #[test]
    fn the_number_of_workers_changes_nothing() {
        let dataset = dataset(23);
        let one = take(&mut open(&dataset, config(5)), 20);
        for workers in [2, 3, 5] {
            let workers = NonZeroUsize::new(workers).unwrap();
            assert!(take(&mut open(&dataset, LoaderConfig { workers, ..config(5) }), 20) == one);
        }
        assert!(take(&mut open(&dataset, LoaderConfig { seed: 8, ..config(5) }), 20) != one);
        assert!(
            one.iter().zip(0..).all(|(batch, k)| (batch.first_sample, batch.epoch) == (5 * k, 5 * k / 23))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_restarted_loader_goes_on_as_if_never_stopped(
            images in 1..12usize, batch_size in 1..20usize, start in 0..40u64, workers in 1..4usize, is_all_varied: bool,
        ) {
            let (dataset, workers) = (dataset(images), NonZeroUsize::new(workers).unwrap());
            let config = |batch_size| {
                let mut config = config(batch_size);
                if is_all_varied {
                    let more = &mut config.augmentation;
                    (more.flips_vertically, more.varies_colour, more.auto_augment) = (true, true, AutoAugment::Trivial);
                    (more.random_erasing, more.cutout) = (0.5, 1);
                }
                config
            };
            let samples = |config, batches| -> (Vec<u16>, Vec<f32>) {
                let batches = take(&mut open(&dataset, config), batches);
                (batches.iter().flat_map(|batch| batch.labels.clone()).collect(),
                 batches.iter().flat_map(|batch| batch.images.clone()).collect())
            };
            let (all_labels, all_images) = samples(config(1), start as usize + 2 * batch_size);
            let (labels, images) = samples(LoaderConfig { start, workers, ..config(batch_size) }, 2);
            prop_assert_eq!(&labels, &all_labels[start as usize..]);
            prop_assert_eq!(&images, &all_images[12 * start as usize..]);
        }

        #[test]
        fn the_parts_of_a_batch_are_the_batch(
            images in 2..12usize, part in 1..6usize, parts in 1..5usize, start in 0..30u64, is_mixed: bool, is_small: bool,
        ) {
            let dataset = dataset(images);
            let mut config = config(part * parts).from_sample(start);
            config.mixing.mixup = is_mixed.then_some(0.8);
            // Whole batches are small, not parts of one.
            config.small_crops = is_small.then_some(SmallSamples { count: start + 1, size: 1 });
            let batches = |share| take(&mut open(&dataset, config.clone().with_share(share)), 3);
            let whole = batches(Share::default());
            let parts: Vec<_> = (0..parts).map(|place| batches(Share::new(place, parts).unwrap())).collect();
            for (number, whole) in whole.iter().enumerate() {
                let of_batch = || parts.iter().map(|batches| &batches[number]);
                prop_assert_eq!(&of_batch().flat_map(|batch| batch.labels.clone()).collect::<Vec<_>>(), &whole.labels);
                prop_assert_eq!(&of_batch().flat_map(|batch| batch.images.clone()).collect::<Vec<_>>(), &whole.images);
                prop_assert_eq!(&of_batch().flat_map(|batch| batch.mixtures.clone()).collect::<Vec<_>>(), &whole.mixtures);
                prop_assert!(of_batch().all(|batch| batch.height == whole.height));
            }
        }

        #[test]
        fn pairs_are_mixed_alike_wherever_batches_begin(
            images in 2..12usize, batch_size in 1..9usize, start in 0..40u64, is_cut: bool,
        ) {
            let dataset = dataset(images);
            let alpha = Some(0.8);
            let mixing = if is_cut {
                Mixing { mixup: alpha, cutmix: alpha }
            } else {
                Mixing { mixup: alpha, cutmix: None }
            };
            let samples = |config: LoaderConfig, batches| {
                let batches = take(&mut open(&dataset, LoaderConfig { mixing, ..config }), batches);
                let images: Vec<f32> = batches.iter().flat_map(|batch| batch.images.clone()).collect();
                let mixtures: Vec<Mixture> = batches.iter().flat_map(|batch| batch.mixtures.clone()).collect();
                let labels: Vec<u16> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
                (images, mixtures, labels)
            };
            let count = start as usize + 2 * batch_size;
            let all = samples(config(count + count % 2), 1);
            let found = samples(LoaderConfig { start, ..config(batch_size) }, 2);
            let begin = start as usize;
            prop_assert_eq!(&found.0[..], &all.0[12 * begin..12 * count]);
            prop_assert_eq!(&found.1[..], &all.1[begin..count]);
            for pair in 0..count / 2 {
                let [one, other] = [2 * pair, 2 * pair + 1].map(|sample| (all.1[sample], all.2[sample]));
                prop_assert_eq!((one.0.label, other.0.label, one.0.share), (other.1, one.1, other.0.share));
            }
        }
    }

    #[test]
    fn two_epochs_show_every_image_both_ways_where_mirroring_alternates() {
        // The left half of each image is dark.
        let pixels = [[0u8; 6], [200; 6]].concat().repeat(40 * 2);
        let dataset =
            Dataset::new("tiny", (0..40).map(|k| k.to_string()).collect(), (2, 4), pixels, (0..40).collect());
        let dataset = Arc::new(dataset.unwrap().into());
        let mut options = AugmentationOptions::from(Augmentation::Shift);
        options.mirror = Mirror::Alternate;
        let batches = take(&mut open(&dataset, config(40).with_augmentation(options)), 4);
        let mirrored: Vec<Vec<u16>> = batches
            .iter()
            .map(|batch| {
                // Of a shifted image at least some pixels are of each half, unless all of it is border.
                let seen = batch.labels.iter().zip(batch.images.chunks(24));
                let of_light = (200.0f32 / 255.0 - 0.4) / 0.2;
                let is_mirrored = |image: &[f32]| {
                    let rows = image.chunks(12).find(|row| row.iter().any(|value| *value != 0.0));
                    let row = rows?.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>();
                    let dark = row.iter().position(|value| *value < 0.0)?;
                    let light = row.iter().position(|value| (*value - of_light).abs() < 1e-4)?;
                    Some(light < dark)
                };
                let mut labels: Vec<u16> = seen
                    .filter(|(_, image)| is_mirrored(image) == Some(true))
                    .map(|(label, _)| *label)
                    .collect();
                labels.sort_unstable();
                labels
            })
            .collect();
        for epochs in mirrored.windows(2) {
            assert!(
                !epochs[0].is_empty() && epochs[0].iter().all(|label| !epochs[1].contains(label)),
                "{mirrored:?}"
            );
        }
    }

    #[test]
    fn a_stream_that_begins_with_small_crops_goes_on_with_whole_images() {
        let pixels = (0..20 * 12 * 12 * 3).map(|k| (k % 251) as u8).collect();
        let dataset = Dataset::new("tiny", vec!["all".into()], (12, 12), pixels, vec![0; 20]).unwrap();
        let dataset = Arc::new(dataset.into());
        let small_crops = Some(SmallSamples { count: 10, size: 8 });
        let small = |start: u64| LoaderConfig { small_crops, start, ..config(5) };
        let batches = take(&mut open(&dataset, small(0)), 4);
        let sizes: Vec<_> =
            batches.iter().map(|batch| (batch.height, batch.width, batch.images.len())).collect();
        assert_eq!(sizes, [(8, 8, 5 * 192), (8, 8, 5 * 192), (12, 12, 5 * 432), (12, 12, 5 * 432)]);
        assert!(take(&mut open(&dataset, small(5)), 3) == batches[1..]);
        assert!(take(&mut open(&dataset, config(5)), 4)[2..] == batches[2..]);
        for workers in [2, 3] {
            let workers = NonZeroUsize::new(workers).unwrap();
            assert!(take(&mut open(&dataset, LoaderConfig { workers, ..small(0) }), 4) == batches);
        }
    }

    #[test]
    fn what_is_erased_is_all_that_erasing_changes() {
        let pixels = (0..6 * 12 * 10 * 3).map(|k| (k % 251) as u8).collect();
        let dataset = Dataset::new("tiny", vec!["all".into()], (12, 10), pixels, vec![0; 6]).unwrap();
        let dataset = Arc::new(dataset.into());
        for crop in Augmentation::ALL {
            let mut options = AugmentationOptions::from(*crop);
            options.flips_vertically = true;
            options.auto_augment = AutoAugment::Trivial;
            options.varies_colour = true;
            let before = take(&mut open(&dataset, config(40).with_augmentation(options)), 1);
            let whole = |options: AugmentationOptions| {
                let after = take(&mut open(&dataset, config(40).with_augmentation(options)), 1);
                let images = before[0].images.chunks(360).zip(after[0].images.chunks(360));
                let is_whole = images.map(|(before, after)| {
                    assert!(before.iter().zip(after).all(|(before, after)| *after == 0.0 || before == after));
                    before == after
                });
                is_whole.filter(|&is_whole| is_whole).count()
            };
            // All that is erased may be border already.
            assert!(whole(AugmentationOptions { random_erasing: 1.0, ..options }) < 20);
            assert!(whole(AugmentationOptions { cutout: 4, ..options }) < 20);
            assert!((8..36).contains(&whole(AugmentationOptions { random_erasing: 0.5, ..options })));
        }
    }

    #[test]
    fn half_of_the_images_are_turned_upside_down() {
        let pixels = [vec![0; 4 * 3], vec![255; 4 * 3]].concat();
        let dataset = Dataset::new("tiny", vec!["all".into()], (2, 4), pixels, vec![0]).unwrap();
        let mut options = AugmentationOptions::from(Augmentation::None);
        options.flips_vertically = true;
        let batch = take(&mut open(&Arc::new(dataset.into()), config(400).with_augmentation(options)), 1);
        let flipped = batch[0].images.chunks(24).filter(|image| image[0] > image[12]).count();
        assert!((160..240).contains(&flipped), "{flipped}");
    }

    #[test]
    fn every_epoch_is_another_permutation() {
        let dataset = dataset(30);
        // 18 batches of 5 are three epochs.
        let batches = take(&mut open(&dataset, config(5)), 18);
        let labels: Vec<u16> = batches.into_iter().flat_map(|batch| batch.labels).collect();
        let epochs: Vec<&[u16]> = labels.chunks(30).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..30));
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
    }

    #[test]
    fn orders_are_uniform_and_stay_what_they_are() {
        // Resuming an old run depends on these never changing.
        assert_eq!(permutation(1, Purpose::Order, 0, 8), ORDER_OF_SEED_1);
        let mut counts = [0; 6];
        for epoch in 0..6000 {
            let order = permutation(3, Purpose::Order, epoch, 3);
            counts[(order[0] * 2 + u32::from(order[1] > order[2])) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    const ORDER_OF_SEED_1: [u32; 8] = [5, 7, 6, 0, 4, 3, 1, 2];

    #[test]
    fn without_shuffling_the_order_is_that_of_the_data_set() {
        let dataset = dataset(4);
        let plain = LoaderConfig { is_shuffled: false, ..config(3).with_augmentation(Augmentation::None) };
        let mut loader = open(&dataset, plain);
        let labels: Vec<Vec<u16>> = take(&mut loader, 3).into_iter().map(|batch| batch.labels).collect();
        assert_eq!(labels, [[0, 1, 2], [3, 0, 1], [2, 3, 0]]);
        assert_eq!(loader.position(), 9);
    }

    #[test]
    fn a_batch_may_hold_several_epochs() {
        let dataset = dataset(3);
        let mut loader = open(&dataset, config(8).with_augmentation(Augmentation::None).from_sample(4));
        let batch = loader.next_batch().unwrap();
        assert_eq!((batch.len(), batch.images.len(), batch.first_sample, batch.epoch), (8, 8 * 12, 4, 1));
        let mut epoch = batch.labels[2..5].to_vec();
        epoch.sort_unstable();
        assert_eq!(epoch, [0, 1, 2]);
        for (label, image) in batch.labels.iter().zip(batch.images.chunks(12)) {
            assert_eq!(image[0], (f32::from(*label) / 255.0 - 0.4) / 0.2);
        }
        assert_eq!(loader.position(), 12);
    }

    #[test]
    fn dropping_a_loader_is_prompt_and_what_does_not_fit_is_refused() {
        let dataset = dataset(50);
        let workers = NonZeroUsize::new(4).unwrap();
        let loader = open(&dataset, LoaderConfig { workers, ..config(64) });
        let begin = Instant::now();
        drop(loader);
        assert!(begin.elapsed() < Duration::from_secs(5));
        let wrong = Normalisation::PerPixelMean { mean: vec![0.0; 3] };
        assert!(Loader::open(dataset.clone(), wrong, config(1)).is_err());
        let mut too_large = config(1);
        too_large.augmentation.cutout = 3;
        let plain = Normalisation::PerChannel { mean: [0.0; 3], deviation: [1.0; 3] };
        let message = Loader::open(dataset.clone(), plain.clone(), too_large).unwrap_err().to_string();
        assert!(message.starts_with("cutout = 3: must be at most the images' shorter side"), "{message}");
        let too_large = LoaderConfig { small_crops: Some(SmallSamples { count: 1, size: 3 }), ..config(1) };
        let message = Loader::open(dataset, plain, too_large).unwrap_err().to_string();
        assert!(
            message.starts_with("small_crops = 3: must be at most the images' shorter side"),
            "{message}"
        );
    }
}
