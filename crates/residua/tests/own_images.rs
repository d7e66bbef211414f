//! Runs on images that a program holds or makes itself, and observers of them.

use std::fs;
use std::path::Path;

use residua::data::{DataError, Dataset};
use residua::nn::{MemoryChoice, NetworkOptions, ResNet};
use residua::run::{Measurement, Recipe, Record, RunError, Schedule, read_metrics, saved_recipe};
use residua::train::{Machine, Observer, Progress, RunImages, Trainer};

/// Noise, the second half of the classes brighter.
fn noise(images: usize, classes: usize, side: usize, seed: usize) -> Dataset {
    let labels: Vec<u16> = (0..images).map(|image| (image % classes) as u16).collect();
    let pixel = |k: usize| {
        let label = k / (side * side * 3) % classes;
        ((k * 7919 + seed * 104_729) % 151 + 100 * (2 * label / classes)) as u8
    };
    let pixels = (0..images * side * side * 3).map(pixel).collect();
    let classes = (0..classes).map(|class| format!("class {class}")).collect();
    Dataset::new("noise", classes, (side, side), pixels, labels).unwrap()
}

fn images(seed: usize) -> RunImages {
    RunImages::own(noise(20, 2, 8, seed), noise(10, 2, 8, 3)).unwrap()
}

fn recipe(iterations: u64) -> Recipe {
    let mut recipe = Recipe::new(NetworkOptions::named("preresnet8"), Schedule::new(iterations, 0.05));
    recipe.optimiser.batch = 4;
    recipe
}

fn machine() -> Machine {
    Machine::default().with_memory(MemoryChoice::Mode(Default::default())).with_events(false)
}

/// Stops after some iterations, and measures after each.
struct StopsAfter(u64, u64);

impl Observer for StopsAfter {
    fn stepped(&mut self, progress: &Progress) {
        self.0 = progress.iteration;
    }

    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        let bias: f32 = network.tensors()["classifier.bias"].values.iter().sum();
        Ok(vec![Record::Measurement(Measurement::new("head", iteration).with("bias", f64::from(bias)))])
    }

    fn wants_to_stop(&mut self) -> bool {
        self.0 >= self.1
    }
}

fn weights(checkpoint: &Path) -> Vec<u8> {
    fs::read(checkpoint.join("weights.safetensors")).unwrap()
}

#[test]
fn a_run_on_own_images_goes_on_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    let trainer = Trainer::new(recipe(6)).with_images(images(1)).with_machine(machine());
    let ending = trainer.clone().start(&whole).unwrap().train(&mut ()).unwrap();
    assert!(ending.is_finished && ending.evaluation.unwrap().images == 10);

    let stopped = trainer.start(&halves).unwrap().train(&mut ((), Some(StopsAfter(0, 3)))).unwrap();
    assert_eq!((stopped.iteration, stopped.is_finished), (3, false));
    let recipe = saved_recipe(&halves).unwrap();
    assert_eq!(recipe.data.source.to_string(), "own:noise");
    let trainer = Trainer::new(recipe).with_images(images(1)).with_machine(machine());
    let resumed = trainer.resume(&halves).unwrap().train(&mut ()).unwrap();
    assert!(weights(&resumed.checkpoint) == weights(&ending.checkpoint));

    let measured = read_metrics(&halves.join("metrics.jsonl")).unwrap();
    let measured: Vec<_> =
        measured.iter().filter(|record| matches!(record, Record::Measurement(_))).collect();
    assert_eq!(measured.iter().map(|record| record.iteration()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn other_images_than_those_of_the_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let trainer = Trainer::new(recipe(1)).with_images(images(1)).with_machine(machine());
    trainer.start(&run).unwrap().train(&mut ()).unwrap();
    let mut longer = saved_recipe(&run).unwrap();
    longer.schedule.iterations = 2;
    let resume = |images: Option<RunImages>| {
        let trainer = Trainer::new(longer.clone()).with_machine(machine());
        match images {
            Some(images) => trainer.with_images(images),
            None => trainer,
        }
        .resume(&run)
        .map(drop)
    };
    let own = |training, test| Some(RunImages::own(training, test).unwrap());
    for (images, expected) in [
        (None, "only that program can go on with the run"),
        (Some(images(2)), "they have other pixels"),
        (own(noise(20, 4, 8, 1), noise(20, 4, 8, 1)), "they have other classes"),
        (own(noise(20, 2, 12, 1), noise(20, 2, 12, 1)), "they have other sizes"),
    ] {
        let message = resume(images).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    resume(Some(images(1))).unwrap();
}

#[test]
fn training_and_test_images_belong_together() {
    for (test, difference) in [(noise(8, 4, 8, 1), "other classes"), (noise(8, 2, 12, 1), "another size")] {
        let error = RunImages::own(noise(8, 2, 8, 1), test).unwrap_err();
        assert!(matches!(error, DataError::Inconsistent { .. }) && error.to_string().contains(difference));
    }
}
