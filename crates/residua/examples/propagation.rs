//! How signals and gradients go through networks of one's own: an identity on every shortcut beside ones that are scaled.
//!
//! Prints, for each network, how large the gradient is at the first unit beside the last, what the shortcuts of a stage let
//! through, and what Eq. 8 of the paper says that they do.

use std::error::Error;
use std::num::NonZeroUsize;

use residua::data::{NormalisationKind, Source, Split, evaluation_batches, normalisation_of};
use residua::device::Device;
use residua::evaluate::images;
use residua::nn::{NetworkOptions, ResNet};
use residua::study::Propagation;

fn main() -> Result<(), Box<dyn Error>> {
    let training_set = Source::Shapes.load(Split::Train)?;
    let normalisation = normalisation_of(NormalisationKind::PerChannel, &training_set)?;
    let size = NonZeroUsize::new(16).ok_or("a batch is not empty")?;
    let mut batches = evaluation_batches(&training_set, &normalisation, size)?;
    let batch = batches.next().ok_or("the data set is not empty")??;

    let device = Device::flex().autodiff();
    for shortcut in ["identity", "scale:0.9,1", "scale:0.5,1"] {
        let options =
            NetworkOptions { shortcut: Some(shortcut.parse()?), ..NetworkOptions::named("preresnet26") };
        let network = ResNet::init(&options.resolve(training_set.classes().len())?, 1, &device)?;
        let found = Propagation::of(&network, images(&batch, &device), &batch.labels, 1)?;
        println!(
            "{shortcut}: the first unit's gradient is {:.3} of the last's",
            found.early_over_late.unwrap_or_default()
        );
        for (number, stage) in (1..).zip(&found.stages) {
            let expected = stage.expected_attenuation.ok_or("scaled shortcuts have a factor")?;
            println!(
                "  stage {number}: its {} shortcuts let through {:.4}, by Eq. 8 {expected:.4}",
                stage.units.len(),
                stage.attenuation
            );
        }
    }
    Ok(())
}
