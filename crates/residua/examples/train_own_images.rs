//! Training on images that the program makes itself. They could as well come from a camera, a database, or another format:
//! a `Dataset` takes their bytes, their labels and the names of the classes.
//!
//! Prints the test error, and what the trained network says of a new image. Give it a folder to keep the run there.

use std::env;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use residua::data::{DataError, Dataset};
use residua::infer::Classifier;
use residua::nn::NetworkOptions;
use residua::run::{Recipe, Schedule};
use residua::train::{RunImages, Trainer};

const SIDE: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let images = RunImages::own(stripes(512, 1)?, stripes(128, 2)?)?;
    let schedule = Schedule::new(60, 0.1).with_decay_at([45]);
    let mut recipe = Recipe::new(NetworkOptions::named("preresnet8"), schedule);
    recipe.optimiser.batch = 32;

    let temporary = tempfile::tempdir()?;
    let folder = env::args().nth(1).map_or(temporary.path().join("run"), PathBuf::from);
    let run = Trainer::new(recipe).with_images(images).start(folder)?;
    let ending = run.train(&mut ())?;
    if let Some(evaluation) = ending.evaluation {
        println!("{:.1} % of {} test images are wrong", evaluation.test_error, evaluation.images);
    }

    let weights = ending.checkpoint.join("weights.safetensors");
    let (classifier, info) = Classifier::load(&weights, NonZeroUsize::MIN)?;
    let unseen = stripes(1, 3)?;
    let likeliest = &classifier.classify(&[unseen.image(0)], &info.normalisation, 1)?[0][0];
    let (truth, answer) = (&info.classes[usize::from(unseen.label(0))], &info.classes[likeliest.class]);
    println!("stripes that are {truth}: {answer}, says the network ({:.1} %)", 100. * likeliest.probability);
    Ok(())
}

/// Images of stripes in noise: class 0 level, class 1 upright.
fn stripes(count: usize, seed: u64) -> Result<Dataset, DataError> {
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (label, shift) = (random(2), random(4));
        for k in 0..SIDE * SIDE {
            let along = if label == 0 { k / SIDE } else { k % SIDE };
            let brightness = if (along + shift) % 4 < 2 { 40 } else { 120 };
            pixels.extend([0; 3].map(|_| (brightness + random(100)) as u8));
        }
        labels.push(label as u16);
    }
    Dataset::new("stripes", vec!["level".into(), "upright".into()], (SIDE, SIDE), pixels, labels)
}
