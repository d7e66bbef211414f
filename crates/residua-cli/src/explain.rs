//! `residua explain`: which pixels decided.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use residua::data::View;
use residua::evaluate::Scored;
use residua::explain::{ActivationMap, Explanation, Method, UnitPlace, explain, overlay};
use residua::files::{FileError, encode_npy, write_file};
use residua::infer::Temperature;
use residua::infer::choice::{nearest, suggestion};
use residua::infer::words;
use residua::nn::Plan;
use serde_json::json;

use crate::inference::InferenceArguments;
use crate::names::{in_text, json_text, path_in_json};
use crate::output::print_bytes;
use crate::pictures::{Decoded, find_pictures};
use crate::usage::UsageError;
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua explain runs/preresnet50-flowers rose.jpg
  residua explain runs/preresnet50-flowers photos --class tulip --out tulips --json
  residua explain weights.safetensors rose.jpg --unit stage3.2 --raw";

/// Show which pixels of pictures decided what a network takes them for.
///
/// Each picture becomes a PNG file: what the network saw of it, and beside it the same in grey, in colours from dark violet to yellow the
/// more a place speaks for the class. Pictures are found, read and shown to the network as by `residua predict`. A picture that cannot be read
/// gets an error of its own, the others go on.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A run's folder (its last checkpoint), a checkpoint's folder, or a weight file: Residua's, or one of others.
    #[arg(value_name = "RUN|FILE")]
    checkpoint: PathBuf,
    /// Files, folders (all pictures in them, at any depth), patterns such as 'photos/*.jpg', or - for paths on standard
    /// input, one on each line.
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<OsString>,
    /// The class that is explained [default: the likeliest of each picture].
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// The unit whose output is looked at by grad-cam: stage3.2 is the second of the third stage, stages.2.1 its name in weight
    /// files [default: the last].
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitPlace>,
    /// How [default: cam, or with --unit grad-cam].
    #[arg(long, value_name = "METHOD", value_parser = words::<MethodName>())]
    method: Option<MethodName>,
    /// The folder to write to. What is in it stays: where a name is taken, a number follows it.
    #[arg(long, default_value = "explained", value_name = "DIR")]
    out: PathBuf,
    /// Write the map's own numbers, too: an array of NumPy, [height, width], beside each picture.
    #[arg(long)]
    raw: bool,
    /// Print a line of JSON for each picture: image, class, probability, logit, method, unit, map (height and width), minimum, maximum,
    /// file, raw.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inference: InferenceArguments,
}

/// A method without what it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MethodName {
    Cam,
    GradCam,
}

words!(MethodName, "method", {
    Cam => "cam": "class activation map: the last map, weighted as the classifier weighs it; its mean is the class's score without bias",
    GradCam => "grad-cam": "the output of any unit, weighted by the mean gradients of the class's score, where that is positive",
});

/// Pictures that go through the network together.
const TOGETHER: usize = 8;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, pictures, out, inference, .. } = arguments;
    let (trained, engine) = inference.open_tensors(checkpoint, "explain")?;
    let network = trained.network.residual()?;
    let method = arguments.method(network.plan())?;
    let class =
        arguments.class.as_deref().map(|name| class_named(name, &trained.info.classes)).transpose()?;
    let found = find_pictures(pictures)?;
    fs::create_dir_all(out).map_err(FileError::cannot("create", out))?;
    let view = trained.info.view();
    let mut unreadable = found.unlisted;
    for paths in found.paths.chunks(TOGETHER) {
        let decoded = Decoded::of(paths, &view);
        let readable = decoded.readable();
        let explanations = match readable.is_empty() {
            true => Vec::new(),
            false => explain(network, trained.images(&readable)?, class, method, engine)?,
        };
        let explained = readable.iter().zip(explanations);
        unreadable += decoded.report(paths, explained, |path, (pixels, explanation)| {
            let written = arguments.write(path, pixels, &view, &explanation.map)?;
            let explanation = at_temperature(explanation, trained.info.temperature);
            print_bytes(&arguments.report(
                path,
                &trained.info.classes[explanation.class],
                method,
                &explanation,
                &written,
            ))
        })?;
    }
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same, with the probability at the temperature that the network's file says, if it does.
fn at_temperature(explanation: Explanation, temperature: Option<Temperature>) -> Explanation {
    let Some(temperature) = temperature else { return explanation };
    let Explanation { class, logits, .. } = &explanation;
    let probability = Scored::new(0, *class, logits, temperature).probabilities()[*class] as f32;
    Explanation { probability, ..explanation }
}

/// The files of a picture.
struct Written {
    picture: PathBuf,
    raw: Option<PathBuf>,
}

impl Arguments {
    /// What is meant by `--method` and `--unit`.
    fn method(&self, plan: &Plan) -> Result<Method, UsageError> {
        match (self.method, self.unit) {
            (None | Some(MethodName::Cam), None) => Ok(Method::ClassActivation),
            (Some(MethodName::GradCam), None) => Ok(Method::GradCam(UnitPlace::last(plan))),
            (None | Some(MethodName::GradCam), Some(unit)) => match unit.number(plan) {
                Ok(_) => Ok(Method::GradCam(unit)),
                Err(error) => Err(UsageError::new(format_args!("--unit: {error}"))),
            },
            (Some(MethodName::Cam), Some(_)) => Err(UsageError::new(
                "--method cam is of what the classifier reads; for a unit take --method grad-cam",
            )),
        }
    }

    fn write(
        &self,
        path: &Path,
        pixels: &[u8],
        view: &View,
        map: &ActivationMap,
    ) -> Result<Written, FileError> {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_owned();
        let with = |name: &OsString, end: &str| {
            let mut name = name.clone();
            name.push(end);
            name
        };
        let files = |name: OsString| [".png", ".npy"].map(|ending| self.out.join(with(&name, ending)));
        let numbered = (2..).map(|number| with(&name, &format!("-{number}")));
        let [picture, raw] = std::iter::once(name.clone())
            .chain(numbered)
            .map(files)
            .find(|files| !files.iter().any(|file| file.exists()))
            .expect("there is a number that no file has");
        write_file(&picture, &overlay(pixels, [view.height, view.width], map))?;
        if self.raw {
            write_file(&raw, &encode_npy(&[map.height, map.width], &map.values))?;
        }
        Ok(Written { picture, raw: self.raw.then_some(raw) })
    }

    fn report(
        &self,
        path: &Path,
        class: &str,
        method: Method,
        explanation: &Explanation,
        Written { picture, raw }: &Written,
    ) -> Vec<u8> {
        let Explanation { logit, probability, map, .. } = explanation;
        let [minimum, maximum] = map.range();
        if !self.json {
            let rest = format!(": {:.1} % {class}, ", 100. * probability);
            return [&*in_text(path), rest.as_bytes(), &*in_text(picture)].concat();
        }
        let (method, unit) = match method {
            Method::ClassActivation => (MethodName::Cam, None),
            Method::GradCam(unit) => (MethodName::GradCam, Some(unit.to_string())),
        };
        let line = json!({
            "image": path_in_json(path),
            "class": class,
            "probability": probability,
            "logit": logit,
            "method": method,
            "unit": unit,
            "map": [map.height, map.width],
            "minimum": minimum,
            "maximum": maximum,
            "file": path_in_json(picture),
            "raw": raw.as_ref().map(|raw| path_in_json(raw)),
        });
        json_text(&line).into_bytes()
    }
}

/// The number of a class.
fn class_named(name: &str, classes: &[String]) -> Result<usize, UsageError> {
    classes.iter().position(|class| class == name).ok_or_else(|| {
        let names: Vec<&str> = classes.iter().map(String::as_str).collect();
        let meant = suggestion(nearest(name, &names));
        UsageError::new(format_args!("--class: the network has no class '{name}'{meant}; {}", some(&names)))
    })
}

/// What the classes are called, if they are few.
fn some(names: &[&str]) -> String {
    match names.len() {
        0..=20 => format!("it has {}", names.join(", ")),
        count => format!("it has {count}, such as {}", names[..5].join(", ")),
    }
}
