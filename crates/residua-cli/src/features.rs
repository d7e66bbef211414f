//! `residua features`: what the classifier reads of pictures.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use residua::files::{check_writable, encode_npy, write_file};
use residua::infer::weights::encode;
use residua::infer::words;
use residua::nn::{NamedTensors, TensorValues};
use serde_json::json;

use crate::inference::InferenceArguments;
use crate::machine::PrecisionArguments;
use crate::names::{json_text, path_in_json};
use crate::output::{print, print_json};
use crate::pictures::{Decoded, find_pictures, tell_speed};
use crate::usage::{UsageError, count};
use crate::words::words;

const EXAMPLES: &str = "Examples:
  residua features runs/preresnet50-flowers photos --out flowers.npy
  find photos -name '*.jpg' | residua features weights.safetensors - --format safetensors

In Python:
  features, paths = numpy.load('flowers.npy'), open('flowers.txt').read().splitlines()";

/// Write the numbers that a network sees pictures as: what its classifier reads, behind the average pooling.
///
/// Pictures are found, read and shown to the network as by `residua predict`. The file has a row of 32-bit numbers for each, [pictures,
/// features]. A picture that cannot be read gets an error of its own and no row.
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
    /// The file to write; one that is there is replaced if it is named here [default: features.npy, or features.safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What kind of file [default: as the name of --out ends, else npy].
    #[arg(long, value_name = "FORMAT", value_parser = words::<Format>())]
    format: Option<Format>,
    /// Pictures that are decoded and computed together; does not change the result.
    #[arg(long, default_value = "64", value_name = "N", value_parser = count::<NonZeroUsize>)]
    batch: NonZeroUsize,
    /// Print one line of JSON: pictures, features, unreadable, file, paths.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inference: InferenceArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Safetensors,
}

words!(Format, "format", {
    Npy => "npy": "an array of NumPy, and beside it the pictures' paths, a line each (features.txt)",
    Safetensors => "safetensors": "the tensor 'features'; the paths are a list in JSON, 'paths' of the file's metadata",
});

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { checkpoint, pictures, batch, json, inference, precision, .. } = arguments;
    let destination = arguments.destination()?;
    destination.check()?;
    let network = inference.open(checkpoint, *precision)?;
    let view = network.info().view();
    let found = find_pictures(pictures)?;
    if let (Format::Npy, Some(path)) = (destination.format, found.paths.iter().find(|path| has_break(path))) {
        bail!(
            "{path:?} has a line break, which a list of a path a line cannot hold; take --format safetensors"
        );
    }
    let begun = Instant::now();
    let mut rows = Rows::default();
    let mut unreadable = found.unlisted;
    for paths in found.paths.chunks(batch.get()) {
        let decoded = Decoded::of(paths, &view);
        let readable = decoded.readable();
        if readable.is_empty() {
            unreadable += decoded.report(paths, std::iter::empty::<&[f32]>(), |_, _| Ok(()))?;
            continue;
        }
        let features = network.features(&readable)?;
        let features = features.chunks_exact(features.len() / readable.len());
        unreadable += decoded.report(paths, features, |path, features| {
            rows.paths.push(path.to_owned());
            rows.values.extend_from_slice(features);
            Ok(())
        })?;
    }
    if rows.paths.is_empty() {
        bail!("no picture could be read; nothing is written");
    }
    if found.paths.len() > batch.get() {
        tell_speed(found.paths.len(), begun);
    }
    let (pictures, features) = (rows.paths.len(), rows.features());
    destination.write(rows)?;
    let Destination { file, .. } = &destination;
    if *json {
        print_json(&json!({
            "pictures": pictures,
            "features": features,
            "unreadable": unreadable,
            "file": path_in_json(file),
            "paths": destination.list().map(|list| path_in_json(&list)),
        }))?;
    } else {
        print(format_args!("{pictures} x {features} numbers in {destination}"))?;
    }
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn destination(&self) -> anyhow::Result<Destination> {
        let Self { out, format, .. } = self;
        let Some(file) = out.clone() else {
            let format = format.unwrap_or(Format::Npy);
            let destination = Destination { file: format!("features.{format}").into(), format };
            // Nobody has named it, so it may be another's.
            if let Some(there) = destination.files().find(|file| file.exists()) {
                bail!("{} is there already; name the file to write with --out", there.display());
            }
            return Ok(destination);
        };
        let of_name =
            file.extension().and_then(|ending| ending.to_str()?.to_lowercase().parse::<Format>().ok());
        let problem = match (of_name, *format) {
            (None, _) => "give a name that ends in .npy or .safetensors",
            (Some(of_name), Some(format)) if format != of_name => "--format is another",
            (Some(format), _) => return Ok(Destination { file, format }),
        };
        Err(UsageError::new(format_args!("--out {}: {problem}", file.display())).into())
    }
}

/// Whether a path does not fit in a line.
fn has_break(path: &Path) -> bool {
    path.to_string_lossy().contains(['\n', '\r'])
}

/// Features and where they are from.
#[derive(Default)]
struct Rows {
    paths: Vec<PathBuf>,
    /// Row by row.
    values: Vec<f32>,
}

impl Rows {
    fn features(&self) -> usize {
        self.values.len() / self.paths.len()
    }
}

/// Where the features go.
struct Destination {
    file: PathBuf,
    format: Format,
}

impl Destination {
    /// The list of paths beside the file.
    fn list(&self) -> Option<PathBuf> {
        match self.format {
            Format::Npy => Some(self.file.with_extension("txt")),
            Format::Safetensors => None,
        }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        [self.file.clone()].into_iter().chain(self.list())
    }

    /// Refuses what could not be written, before anything is computed for it.
    fn check(&self) -> anyhow::Result<()> {
        Ok(self.files().try_for_each(|file| check_writable(&file))?)
    }

    fn write(&self, rows: Rows) -> anyhow::Result<()> {
        let shape = vec![rows.paths.len(), rows.features()];
        let Rows { paths, values } = rows;
        let bytes = match self.format {
            Format::Npy => encode_npy(&shape, &values),
            Format::Safetensors => {
                let tensors = NamedTensors::from([("features".to_owned(), TensorValues { shape, values })]);
                let metadata = {
                    let paths: Vec<_> = paths.iter().map(|path| path_in_json(path)).collect();
                    BTreeMap::from([("paths".to_owned(), json_text(&paths))])
                };
                encode(&self.file, &tensors, &metadata)?
            }
        };
        if let Some(list) = self.list() {
            let lines: Vec<_> =
                paths.iter().flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\n"]).collect();
            write_file(&list, &lines.concat())?;
        }
        Ok(write_file(&self.file, &bytes)?)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        match self.list() {
            Some(list) => write!(formatter, ", the pictures' paths in {}", list.display()),
            None => Ok(()),
        }
    }
}
