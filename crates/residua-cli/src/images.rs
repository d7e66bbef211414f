//! Images for a trained network: those of the data set that it was trained on, or of another of the same classes.

use std::fmt::Display;
use std::path::Path;

use residua::data::{DataError, Images, Source, View};
use residua::infer::choice::some_of;
use residua::infer::{StoredWeights, WeightsInfo};
use residua::run::{RunError, saved_recipe};

use crate::output::tell;
use crate::usage::{UsageError, impossible_images};

/// Images of a data set, loaded by `load`, if weights of which `info` is said are of a network for them.
pub(crate) fn images_for(
    weights: &StoredWeights,
    info: &WeightsInfo,
    source: &Source,
    view: View,
    max_unreadable: f64,
    load: impl FnOnce() -> Result<Images, DataError>,
) -> anyhow::Result<Images> {
    let path = &weights.path;
    let fits = info.network.check_tensors(&weights.tensors);
    fits.map_err(|error| StoredWeights::refused(path, error))?;
    let fits = info.network.check_input(view.height, view.width);
    fits.map_err(|error| impossible_images(&error))?;
    let images = load()?.seen_by(view)?.tolerating(max_unreadable);
    tell_of_oddities(&images);
    Ok(of_classes(images, &info.classes, &path.display(), source)?)
}

/// Images by the classes of a network, which is called `name`. Where folders give them names, names count, and some of them may have no
/// pictures.
pub(crate) fn of_classes(
    images: Images,
    of_network: &[String],
    name: &dyn Display,
    source: &Source,
) -> Result<Images, UsageError> {
    if !source.is_folder() || of_network == images.classes() {
        check_classes(name, of_network, &images, source)?;
        return Ok(images);
    }
    let theirs = images.classes().to_vec();
    let strangers: Vec<_> = theirs.iter().filter(|class| !of_network.contains(class)).cloned().collect();
    let images = images.among(of_network).ok_or_else(|| {
        UsageError::new(format_args!(
            "the classes of {source} ({}) are not those that {name} was trained on ({}): it knows no {}",
            some_of(&theirs),
            some_of(of_network),
            some_of(&strangers)
        ))
    })?;
    let missing: Vec<_> = of_network.iter().filter(|class| !theirs.contains(class)).cloned().collect();
    if !missing.is_empty() {
        let (count, all) = (missing.len(), of_network.len());
        tell(format_args!(
            "note: {source} has no pictures of {count} of the {all} classes: {}",
            some_of(&missing)
        ));
    }
    Ok(images)
}

/// Whether images are of the classes of a network, which is called `name`. Names count where folders give them.
pub(crate) fn check_classes(
    name: &dyn Display,
    of_network: &[String],
    images: &Images,
    source: &Source,
) -> Result<(), UsageError> {
    let (outputs, classes) = (of_network.len(), images.classes().len());
    if outputs != classes {
        return Err(UsageError::new(format_args!(
            "{name} has {outputs} classes, {source} has {classes}; give the data set it was trained for by --data",
        )));
    }
    if source.is_folder() && of_network != images.classes() {
        return Err(UsageError::new(format_args!(
            "the classes of {} ({}) are not those that {name} was trained on ({})",
            source,
            some_of(images.classes()),
            some_of(of_network)
        )));
    }
    Ok(())
}

/// Tells what is odd about the files of images.
pub(crate) fn tell_of_oddities(images: &Images) {
    images.warnings().iter().for_each(|warning| tell(format_args!("warning: {warning}")));
}

/// The data set that the run of these weights was trained on.
pub(crate) fn trained_on(checkpoint: &Path) -> anyhow::Result<Source> {
    match saved_recipe(checkpoint) {
        Ok(recipe) => Ok(recipe.data.source),
        Err(RunError::NoRun { .. }) => Err(UsageError::new(format_args!(
            "nothing beside {} says which data set it was trained on; name one with --data",
            checkpoint.display()
        ))
        .into()),
        Err(error) => Err(error.into()),
    }
}
