//! `residua eval`: how good a trained network is on a test set.

mod files;
mod findings;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::{Crops, ImageFolder, Images, Source, Split, View};
use residua::evaluate::{Measures, Mirroring, TestOptions};
use residua::files::check_writable;
use serde_json::json;

use self::files::{PredictionsFile, write_confusions};
use self::findings::{in_json, in_words};
use crate::images::{images_for, trained_on};
use crate::inference::Network;
use crate::machine::{MachineArguments, PrecisionArguments};
use crate::names::path_in_json;
use crate::output::{print, print_json, tell};
use crate::usage::{UsageError, count, share, whole};
use crate::waiting::Waiting;
use crate::weights::{ViewArguments, WeightsArguments, is_same};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua eval --checkpoint runs/preresnet20-shapes
  residua eval --checkpoint weights.safetensors --data cifar10:data --json
  residua eval --checkpoint resnet20-12fca82f.th --data cifar10:data
  residua eval --checkpoint runs/preresnet50-flowers --size 320 --scale 320 --crops 10
  residua eval --checkpoint runs/preresnet20-cifar10 --tta --predictions predictions.csv";

/// Measure a trained network on a data set's test images.
///
/// Errors are in percent: top-1, top-5 where there are more than 5 classes, and the mean over the classes. Precision, recall, F1 and calibration are
/// shares, 0 to 1. The expected calibration error is over 15 bins of the confidence, the probability of the class that an image is taken for.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
    #[arg(long, value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// The data set [default: the one that the run was trained on].
    #[arg(long, value_name = "DATA", value_parser = words::<Source>())]
    data: Option<Source>,
    /// Height and width of what the network sees of a folder's pictures [default: as in training].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    size: Option<usize>,
    /// Pixels to which the shorter side of a folder's pictures is scaled before they are cropped [default: 8/7 of the
    /// size, 256 for 224; the size itself up to 64].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    scale: Option<usize>,
    /// Crops of each of a folder's pictures.
    #[arg(long, value_name = "N", value_parser = words::<Crops>())]
    crops: Option<Crops>,
    /// The share of a folder's pictures that may be unreadable.
    #[arg(long, value_name = "SHARE", default_value_t = ImageFolder::UNREADABLE_SHARE, value_parser = share)]
    max_unreadable: f64,
    /// Show the network each image mirrored, too: the mean of the probabilities of both counts.
    #[arg(long)]
    tta: bool,
    /// Images of a batch; does not change the result.
    #[arg(long, default_value = "128", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Print precision, recall and F1 of every class [default: if there are more than 20, of the 10 with the highest error].
    #[arg(long)]
    per_class: bool,
    /// Write which classes are taken for which as comma-separated values, a line for each pair that occurs: true,predicted,images.
    #[arg(long, value_name = "FILE")]
    confusions: Option<PathBuf>,
    /// Write what the network says of each image as comma-separated values: image (its file, or its number from 0), true, predicted, and
    /// probability:CLASS of each class.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print one line of JSON: test_error (percent), test_loss, images, top5_error, mean_per_class_error, temperature, calibration, classes,
    /// confusions, tta, checkpoint, data. What is the share of nothing is null.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: WeightsArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, data, json, weights, machine, max_unreadable, .. } = arguments;
    let asked = machine.asked(arguments.precision.precision, machine.start_threads()?)?;
    let device = machine.open_device()?;
    let (weights, _) = weights.open(checkpoint, &ViewArguments::default())?;
    let (info, path) = (weights.info()?, weights.path.clone());
    let source = data.clone().map_or_else(|| trained_on(checkpoint), Ok)?;
    let view = arguments.view(&source, info.view())?;
    let load = || source.load(Split::Test);
    let reading = Waiting::for_work(format!("reading {source}"));
    let test_set = images_for(&weights, &info, &source, view, *max_unreadable, load)?;
    drop(reading);
    arguments.check_files(&path)?;
    let network = Network::of(weights, info, [view.height, view.width], machine, asked, &device)?;
    let measures = arguments.measures(&network, &test_set);
    for reason in test_set.take_newly_unreadable() {
        tell(format_args!("skipped: {reason}"));
    }
    let measures = measures?;
    let (classes, temperature) = (&network.info().classes, network.info().temperature);
    if let Some(file) = &arguments.confusions {
        write_confusions(file, &measures.confusions, classes)?;
    }
    if *json {
        let mut found = in_json(&measures, classes, temperature);
        found["tta"] = json!(arguments.tta);
        found["checkpoint"] = json!(path_in_json(&path));
        found["data"] = json!(source);
        print_json(&found)?;
    } else {
        let mirrored = if arguments.tta { ", each also mirrored" } else { "" };
        print(format_args!(
            "test error {:.2} %, test loss {:.4} on {} images of {source}{mirrored} ({})\n{}",
            measures.test_error,
            measures.test_loss,
            measures.images,
            path.display(),
            in_words(&measures, classes, temperature, arguments.per_class)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// Refuses files that could not be written, before anything is computed for them.
    fn check_files(&self, weights: &Path) -> anyhow::Result<()> {
        for (flag, file) in [("--confusions", &self.confusions), ("--predictions", &self.predictions)] {
            let Some(file) = file else { continue };
            if is_same(weights, file) {
                let problem = "holds the weights to measure; give another name";
                return Err(UsageError::new(format_args!("{flag}: {} {problem}", file.display())).into());
            }
            check_writable(file)?;
        }
        match (&self.confusions, &self.predictions) {
            (Some(one), Some(other)) if one == other || is_same(one, other) => {
                let problem = "--confusions and --predictions are two files; give two names";
                Err(UsageError::new(problem).into())
            }
            _ => Ok(()),
        }
    }

    /// Shows the network all images, and writes its predictions down if that is asked for.
    fn measures(&self, network: &Network, test_set: &Images) -> anyhow::Result<Measures> {
        let info = network.info();
        let options = TestOptions {
            mirroring: if self.tta { Mirroring::Also } else { Mirroring::No },
            temperature: info.temperature.unwrap_or_default(),
            ..TestOptions::new(self.batch)
        };
        let file = self.predictions.as_deref().map(|path| PredictionsFile::create(path, &info.classes));
        let mut file = file.transpose()?;
        let mut answers = Vec::with_capacity(test_set.len());
        let waiting = Waiting::for_images("measuring", test_set.len());
        network.score(test_set, &options, |scored| {
            let answer = scored.answer();
            if let Some(file) = &mut file {
                file.add(test_set, &info.classes, answer.predicted, &scored)?;
            }
            answers.push(answer);
            waiting.count();
            Ok(())
        })?;
        drop(waiting);
        let measures = Measures::of(&answers, info.classes.len())?;
        file.map(PredictionsFile::publish).transpose()?;
        Ok(measures)
    }

    /// What the network sees of a picture, if the options do not say otherwise as `usual`.
    fn view(&self, source: &Source, usual: View) -> Result<View, UsageError> {
        let Self { size, scale, crops, .. } = self;
        if self.tta && *crops == Some(Crops::Ten) {
            return Err(UsageError::new(
                "--tta: half of ten crops are mirrored already; leave --tta or --crops out",
            ));
        }
        if !source.is_folder() && (size.is_some() || scale.is_some() || crops.is_some()) {
            let given = "--size, --scale and --crops are for pictures in a folder";
            return Err(UsageError::new(format_args!("{given}, not for {source}")));
        }
        let view = size.map_or(usual, View::square);
        let view = View {
            shorter_side: scale.unwrap_or(view.shorter_side),
            crops: crops.unwrap_or(view.crops),
            ..view
        };
        let flag = if scale.is_some() { "--scale" } else { "--size" };
        view.check().map_err(|error| UsageError::new(format_args!("{flag}: {error}")))?;
        Ok(view)
    }
}
