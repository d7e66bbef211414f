//! `residua data preview`: what a network would see.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use residua::data::Source;
use residua::files::{check_writable, write_file};
use residua::nn::NetworkOptions;
use residua::plot::Sheet;
use residua::run::Recipe;
use residua::train::{preview, training_images};

use crate::images::tell_of_oddities;
use crate::output::tell;
use crate::train::RecipeChoice;
use crate::training_data::TrainingDataArguments;
use crate::usage::{UsageError, count, whole};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua data preview
  residua data preview cifar10 --auto-augment trivial --cutout 16 --out cifar.png
  residua data preview folder:flowers --size 64 --images 32
  residua data preview --recipe runs/preresnet20-cifar10/recipe.toml";

/// Draw a sheet of training images as a network would see them.
///
/// Each of the first images of a run's stream is shown as in tests, and beside it as in training, varied differently each time. The first
/// variation is what the run of this recipe and seed begins with. The options are those of `residua train`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PreviewArguments {
    /// The data set [default: that of the recipe, or shapes].
    #[arg(value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// A recipe by its name, or a recipe file, such as that of a run; every other option refines it.
    #[arg(long, value_name = "FILE|NAME", value_parser = words::<RecipeChoice>())]
    recipe: Option<RecipeChoice>,
    /// The network, which says the size of pictures and how they are cropped unless other options do [default: preresnet20].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// What all random choices follow from [default: 1].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    seed: Option<u64>,
    /// How many images.
    #[arg(long, default_value = "8", value_name = "N", value_parser = count::<NonZeroUsize>)]
    images: NonZeroUsize,
    /// How many variations of each.
    #[arg(long, default_value = "8", value_name = "N", value_parser = count::<NonZeroUsize>)]
    variations: NonZeroUsize,
    /// The PNG file to write. What is there is replaced.
    #[arg(long, default_value = "sheet.png", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    training_data: TrainingDataArguments,
}

pub(super) fn run(arguments: &PreviewArguments) -> anyhow::Result<ExitCode> {
    let PreviewArguments { variations, out, .. } = arguments;
    if !out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        let name = out.display();
        return Err(UsageError::new(format_args!("--out {name}: give a name that ends in .png")).into());
    }
    let recipe = arguments.recipe()?;
    check_writable(out)?;
    let images = training_images(&recipe)?;
    tell_of_oddities(&images);
    recipe.check_augmentation(images.height(), images.width()).map_err(UsageError::from)?;
    let count = arguments.images.get().min(images.len());
    let sheet = Sheet::new(count, variations.get(), [images.height(), images.width()]);
    let sheet = sheet.map_err(|error| UsageError::new(format_args!("--images, --variations: {error}")))?;
    let preview = preview(&recipe, &images, count, variations.get())?;
    for reason in images.take_newly_unreadable() {
        tell(format_args!("skipped: {reason}"));
    }
    let (name, augmentation) = (recipe.data.source.short_name(), recipe.augmentation_options()?);
    let mixing = [("mixup", recipe.data.mixup), ("cutmix", recipe.data.cutmix)];
    let mixing: String =
        mixing.iter().filter_map(|(kind, alpha)| Some(format!(", {kind} {}", (*alpha)?))).collect();
    let title = format!("{name}, seed {}: {augmentation}{mixing}", recipe.seed);
    write_file(out, &sheet.png(&preview, &title))?;
    tell(format_args!("{title}; the sheet is {}", out.display()));
    Ok(ExitCode::SUCCESS)
}

impl PreviewArguments {
    fn recipe(&self) -> anyhow::Result<Recipe> {
        let mut recipe = match &self.recipe {
            Some(choice) => choice.read()?,
            None => RecipeChoice::usual(self.data.as_ref()),
        };
        if let Some(data) = &self.data {
            recipe.data.source = data.clone();
        }
        if let Some(model) = &self.model {
            recipe.network = NetworkOptions::named(model);
        }
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        self.training_data.refine(&mut recipe.data);
        recipe.validate().map_err(UsageError::from)?;
        Ok(recipe)
    }
}
