//! Eight threads of a service share one classifier, without a lock or a copy.
//!
//! Prints how many images they have classified, and that each got what it would have got alone.

use std::error::Error;
use std::num::NonZeroUsize;
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use residua::data::{NormalisationKind, Source, Split, normalisation_of};
use residua::device::Device;
use residua::infer::Classifier;
use residua::nn::{NetworkOptions, ResNet};

const CALLERS: usize = 8;

type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    // Random weights will do here; `Classifier::load` reads those that `residua train` has written.
    let images = Source::Shapes.load(Split::Test)?;
    let normalisation = normalisation_of(NormalisationKind::PerChannel, &images)?;
    let config = NetworkOptions::named("preresnet20").resolve(images.classes().len())?;
    let network = ResNet::init(&config, 1, &Device::flex())?;
    let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let classifier = Classifier::new(&config, network.tensors(), [32, 32], threads)?;

    let classify = |index: usize| -> Result<usize, AnyError> {
        let answers = classifier.classify(&[&*images.image(index)?], &normalisation, 1)?;
        Ok(answers[0][0].class)
    };
    let alone = (0..images.len()).map(classify).collect::<Result<Vec<_>, _>>()?;

    let begun = Instant::now();
    let answers = scope(|scope| {
        let caller = |caller: usize| (caller..images.len()).step_by(CALLERS).map(classify).collect();
        let callers: Vec<_> = (0..CALLERS).map(|number| scope.spawn(move || caller(number))).collect();
        let answers = callers.into_iter().map(|caller| caller.join().expect("no caller panics"));
        answers.collect::<Result<Vec<Vec<usize>>, AnyError>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{CALLERS} threads, {} images: {:.0} a second", images.len(), images.len() as f64 / seconds);

    let is_same = |index: usize| answers[index % CALLERS][index / CALLERS] == alone[index];
    assert!((0..images.len()).all(is_same), "an answer depends on who else asks");
    println!("every answer is what a caller alone gets");
    Ok(())
}
