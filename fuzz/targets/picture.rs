//! Any bytes as a picture, by the ways that training, tests and predictions take: an error, or as much as was asked for.
#![no_main]

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use residua::data::{
    Augmentation, AugmentationOptions, AutoAugment, Crops, ImageFolder, Images, Loader, LoaderConfig,
    Normalisation, Split, View, evaluation_batches, read_image,
};
use tempfile::TempDir;

/// A data set of one picture, and the picture's path.
static FOLDER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("train/only");
    fs::create_dir_all(&class).unwrap();
    (folder, class.join("picture.png"))
});

const NORMALISATION: Normalisation = Normalisation::PerChannel { mean: [0.5; 3], deviation: [0.2; 3] };

fuzz_target!(|bytes: &[u8]| {
    let (folder, path) = &*FOLDER;
    fs::write(path, bytes).unwrap();
    let mut is_picture = None;
    for crops in [Crops::Centre, Crops::Ten] {
        let view = View { crops, ..View::square(24) };
        let read = read_image(path, &view);
        if let Ok(pixels) = &read {
            assert_eq!(pixels.len(), view.size());
        }
        assert!(is_picture.is_none_or(|is_picture| is_picture == read.is_ok()));
        is_picture = Some(read.is_ok());
    }
    // Whatever the picture, a run sees the same of it as a prediction: something, or nothing.
    let images = ImageFolder::open(folder.path(), Split::Train).unwrap();
    let images = Arc::new(Images::Files(images).seen_by(View::square(24)).unwrap().tolerating(1.));
    let batches = evaluation_batches(&images, &NORMALISATION, NonZeroUsize::MIN).unwrap();
    assert_eq!(
        batches.map(|batch| batch.unwrap().labels.len()).sum::<usize>(),
        usize::from(is_picture == Some(true))
    );
    for augmentation in [Augmentation::Shift, Augmentation::Scale, Augmentation::ScaleAspect] {
        let mut options = AugmentationOptions::from(augmentation);
        options.varies_colour = true;
        options.auto_augment = AutoAugment::Trivial;
        options.random_erasing = 0.5;
        let config = LoaderConfig::new(1, 1).with_augmentation(options);
        let mut loader = Loader::open(images.clone(), NORMALISATION, config).unwrap();
        let batch = loader.next_batch();
        assert_eq!(batch.is_ok(), is_picture == Some(true));
        assert!(batch.iter().all(|batch| batch.images.len() == 24 * 24 * 3));
    }
});
