//! A training loop of one's own, step by step: a learning rate that falls as a cosine, and steps that are left out where the
//! gradient is too large.
//!
//! Prints loss, learning rate and the gradient's norm.

use std::error::Error;
use std::f64::consts::PI;
use std::sync::Arc;

use residua::data::{Loader, LoaderConfig, NormalisationKind, Source, Split, normalisation_of};
use residua::device::Device;
use residua::nn::{NetworkOptions, Pass, ResNet};
use residua::run::OptimiserOptions;
use residua::train::{Sgd, StageNorms, backward};

const STEPS: u64 = 60;
const LARGEST_NORM: f64 = 5.;

fn main() -> Result<(), Box<dyn Error>> {
    let images = Arc::new(Source::Shapes.load(Split::Train)?);
    let normalisation = normalisation_of(NormalisationKind::PerChannel, &images)?;
    let config = NetworkOptions::named("preresnet8").resolve(images.classes().len())?;
    let mut batches = Loader::open(images, normalisation, LoaderConfig::new(32, 1))?;

    let mut network = ResNet::init(&config, 1, &Device::flex().autodiff())?;
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    let mut left_out = 0;
    for iteration in 0..STEPS {
        let learning_rate = 0.1 * (1. + (PI * iteration as f64 / STEPS as f64).cos()) / 2.;
        let batch = batches.next_batch()?;
        let mut pass = Pass::train(1, iteration);
        let mut learnt = backward(&network, &batch, &mut pass)?;

        let norms = StageNorms::of(&network, &learnt.gradients).gradients;
        let norm = norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
        if norm < LARGEST_NORM {
            network = sgd.step(network, &mut learnt.gradients, learning_rate).absorb(pass);
        } else {
            left_out += 1;
        }
        if iteration % 10 == 0 || iteration == STEPS - 1 {
            let loss = learnt.outcome().loss;
            println!(
                "step {iteration:2}: loss {loss:.3}, learning rate {learning_rate:.3}, gradient {norm:.2}"
            );
        }
    }
    println!("{left_out} of {STEPS} steps left out");
    Ok(())
}
