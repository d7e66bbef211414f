//! `residua calibrate`: as how sure a trained network is to be taken.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::{DataError, ImageFolder, Images, Source, Split, Validation, drawn};
use residua::evaluate::{Answer, HeldOut, Measures, TestOptions};
use residua::export::int8_file;
use residua::files::{check_writable, write_file};
use residua::infer::network::NamedTensors;
use residua::infer::weights::encode;
use residua::infer::{Temperature, WeightsInfo};
use residua::run::{RunError, saved_recipe};
use serde_json::{Value, json};

use crate::images::{images_for, trained_on};
use crate::inference::Network;
use crate::machine::MachineArguments;
use crate::names::path_in_json;
use crate::output::{print, print_json, tell};
use crate::usage::{UsageError, count, share, whole};
use crate::waiting::Waiting;
use crate::weights::{ViewArguments, WeightsArguments, is_same};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua calibrate runs/preresnet20-cifar10
  residua calibrate runs/preresnet20-cifar10 --images 5000
  residua calibrate resnet50.pth --data folder:held-out --out resnet50.safetensors
  residua predict --checkpoint runs/preresnet20-cifar10/calibrated.safetensors cat.jpg";

/// Fit the temperature at which a trained network is as sure as it is right.
///
/// Its probabilities are softmax(logits / T) then. T is the temperature for which the mean cross-entropy of images that it was not trained on is
/// least (Guo et al. 2017, On Calibration of Modern Neural Networks). It is written into a new weight file: predict, eval, explain and
/// export --probabilities take it from there. The classes that are predicted stay the same, and so does the run.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
    #[arg(value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// The data set whose test images it is fitted to [default: of the run's own, the images that --validation has held out, else
    /// the test images].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// How many of them, drawn at random; the others tell what it is worth [default: all].
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>)]
    images: Option<NonZeroUsize>,
    /// What their choice follows from.
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole::<u64>)]
    seed: u64,
    /// The weight file to write; one that is there is replaced [default: calibrated.safetensors in the run's folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The share of a folder's pictures that may be unreadable.
    #[arg(long, value_name = "SHARE", default_value_t = ImageFolder::UNREADABLE_SHARE, value_parser = share)]
    max_unreadable: f64,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Print one line of JSON: temperature, fitted and others (each images, and before and after test_loss and calibration_error), file,
    /// checkpoint, data, split (test or validation).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    view: ViewArguments,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, data, machine, .. } = arguments;
    let asked = machine.asked(None, machine.start_threads()?)?;
    let device = machine.open_device()?;
    let out = arguments.out()?;
    let (weights, _) = arguments.weights.open(checkpoint, &arguments.view)?;
    if is_same(&weights.path, &out) {
        let problem = "holds the weights to calibrate; give another name";
        return Err(UsageError::new(format_args!("--out: {} {problem}", out.display())).into());
    }
    check_writable(&out)?;
    let (info, path, tensors) = (weights.info()?, weights.path.clone(), weights.tensors.clone());
    let fitting = FittedTo::of(data.as_ref(), checkpoint)?;
    let (source, load) = (&fitting.source, || fitting.load());
    let images = images_for(&weights, &info, source, info.view(), arguments.max_unreadable, load)?;
    let network = Network::of(weights, info.clone(), [info.height, info.width], machine, asked, &device)?;

    let chosen = arguments.images.map(|count| drawn(images.len(), count.get(), arguments.seed));
    let (mut fitted, mut others) = (HeldOut::new(info.classes.len()), HeldOut::new(info.classes.len()));
    let waiting = Waiting::for_images("measuring", images.len());
    network.score(&images, &TestOptions::new(arguments.batch), |scored| {
        waiting.count();
        let is_chosen = chosen.as_ref().is_none_or(|chosen| chosen.binary_search(&scored.image).is_ok());
        (if is_chosen { &mut fitted } else { &mut others }).add(&scored);
        Ok(())
    })?;
    drop(waiting);
    for reason in images.take_newly_unreadable() {
        tell(format_args!("skipped: {reason}"));
    }
    let before = info.temperature.unwrap_or_default();
    // Says so first if the network says nothing.
    let of_fitted = measured(&fitted, before)?;
    let temperature = fitted.fit()?;
    let of_fitted = [of_fitted, measured(&fitted, temperature)?];
    let of_others = match others.is_empty() {
        true => None,
        false => Some([measured(&others, before)?, measured(&others, temperature)?]),
    };
    let info = WeightsInfo { temperature: Some(temperature), ..info };
    write_file(&out, &file(&info, &tensors, &out)?)?;
    if fitting.is_own_test_set {
        tell(format_args!(
            "note: fitted to the run's own test images: on them loss and calibration are too good now; give others with --data, or keep some \
             apart with --images"
        ));
    }
    if arguments.json {
        print_json(&json!({
            "temperature": temperature,
            "fitted": in_json(&of_fitted),
            "others": of_others.as_ref().map(in_json),
            "file": path_in_json(&out),
            "checkpoint": path_in_json(&path),
            "data": source,
            "split": fitting.split(),
        }))?;
    } else {
        let others =
            of_others.map_or(String::new(), |others| format!("\non the other {}", in_words(&others)));
        print(format_args!(
            "{}: temperature {:.4}, fitted to {} images of {source}\non {}{others}",
            out.display(),
            temperature.get(),
            fitting.split(),
            in_words(&of_fitted)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn out(&self) -> Result<PathBuf, UsageError> {
        let Self { checkpoint, out, .. } = self;
        match out {
            Some(out) => Ok(out.clone()),
            // A checkpoint's folder is none.
            None if checkpoint.join("checkpoints").is_dir() => Ok(checkpoint.join("calibrated.safetensors")),
            None if !checkpoint.exists() => Err(UsageError::new(format_args!(
                "{}: there is no such file or folder; give a run's folder or a weight file",
                checkpoint.display()
            ))),
            None => Err(UsageError::new(format_args!(
                "{} is no run's folder; name the weight file to write with --out",
                checkpoint.display()
            ))),
        }
    }
}

/// Images that a temperature is fitted to.
struct FittedTo {
    source: Source,
    /// Which of the training images were held out, by which seed; none for the test images.
    held_out: Option<(Validation, u64)>,
    /// Whether they are those that the run itself is tested on.
    is_own_test_set: bool,
}

impl FittedTo {
    /// The test images of a data set that is given. Else those of the run that it has not learnt from: validation images if there are any.
    fn of(data: Option<&Source>, checkpoint: &Path) -> anyhow::Result<Self> {
        let own = trained_on(checkpoint);
        if let Some(source) = data {
            let is_own_test_set = own.is_ok_and(|own| own.short_name() == source.short_name());
            return Ok(Self { source: source.clone(), held_out: None, is_own_test_set });
        }
        let (source, recipe) = (own?, saved_recipe(checkpoint)?);
        let held_out = recipe.data.validation.map(|validation| (validation, recipe.seed));
        let is_own_test_set = held_out.is_none();
        Ok(Self { source, held_out, is_own_test_set })
    }

    fn load(&self) -> Result<Images, DataError> {
        match &self.held_out {
            None => self.source.load(Split::Test),
            Some((validation, seed)) => Ok(validation.hold_out(self.source.load(Split::Train)?, *seed)?.1),
        }
    }

    fn split(&self) -> &'static str {
        if self.held_out.is_some() { "validation" } else { "test" }
    }
}

fn measured(images: &HeldOut, temperature: Temperature) -> Result<Measures, RunError> {
    let answers: Vec<Answer> = images.at(temperature).map(|scored| scored.answer()).collect();
    Measures::of(&answers, images.classes())
}

/// The bytes of the weight file, of a network that computes in bytes in bytes.
fn file(info: &WeightsInfo, tensors: &NamedTensors, out: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(match info.ranges {
        Some(_) => int8_file(info, tensors, out)?,
        None => encode(out, tensors, &info.to_metadata())?,
    })
}

fn in_words([before, after]: &[Measures; 2]) -> String {
    format!(
        "{} images: test loss {:.4} -> {:.4}, calibration error {:.4} -> {:.4}",
        before.images,
        before.test_loss,
        after.test_loss,
        before.calibration.expected_error,
        after.calibration.expected_error
    )
}

fn in_json([before, after]: &[Measures; 2]) -> Value {
    let numbers = |measures: &Measures| json!({ "test_loss": measures.test_loss, "calibration_error": measures.calibration.expected_error });
    json!({ "images": before.images, "before": numbers(before), "after": numbers(after) })
}
