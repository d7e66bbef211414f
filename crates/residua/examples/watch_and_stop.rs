//! An observer that watches a run and stops it; then the run goes on, exactly as if it had not been stopped.
//!
//! Prints the loss every ten iterations, where the run was stopped, and its test error in the end.

use std::error::Error;

use residua::nn::{NetworkOptions, ResNet};
use residua::run::{Measurement, Recipe, Record, RunError, Schedule, saved_recipe};
use residua::train::{Observer, Progress, Trainer};

/// Prints a line every ten iterations, and stops the run after some of them.
struct Watcher {
    iteration: u64,
    stops_after: u64,
}

impl Observer for Watcher {
    fn stepped(&mut self, progress: &Progress) {
        self.iteration = progress.iteration;
        if progress.iteration.is_multiple_of(10) {
            let Progress { iteration, loss, images_per_second, .. } = progress;
            println!("iteration {iteration}: loss {loss:.3}, {images_per_second:.0} images/s");
        }
    }

    /// What is measured here is written into the run's metrics.jsonl, and shown by TensorBoard.
    fn measure(&mut self, iteration: u64, network: &ResNet) -> Result<Vec<Record>, RunError> {
        let bias = &network.tensors()["classifier.bias"].values;
        let largest = bias.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let measurement = Measurement::new("classifier", iteration).with("largest_bias", f64::from(largest));
        Ok(vec![Record::Measurement(measurement)])
    }

    fn wants_to_stop(&mut self) -> bool {
        self.iteration >= self.stops_after
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?; // Yours would stay.
    // Without images of one's own the built-in ones are taken: shapes in many colours.
    let mut recipe = Recipe::new(NetworkOptions::named("preresnet8"), Schedule::new(80, 0.1));
    recipe.optimiser.batch = 32;
    let run = Trainer::new(recipe).start(folder.path())?;
    let stopped = run.train(&mut Watcher { iteration: 0, stops_after: 30 })?;
    println!("stopped after {} iterations; {}", stopped.iteration, stopped.checkpoint.display());

    let run = Trainer::new(saved_recipe(folder.path())?).resume(folder.path())?;
    println!("resumed after {} iterations", run.iteration());
    let ending = run.train(&mut ())?;
    let error = ending.evaluation.ok_or("the run was finished before")?.test_error;
    println!("finished after {} iterations: test error {error:.1} %", ending.iteration);
    Ok(())
}
