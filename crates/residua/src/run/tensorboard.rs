//! A run's measurements as TensorBoard reads them: `tensorboard --logdir runs` shows every run below `runs`.
//!
//! The file says what `metrics.jsonl` says, event for record, and begins with the recipe as a text. A run that goes on appends to it, so that
//! a TensorBoard that is open sees what follows. Where it says more than the metrics do (a kill has left steps that are done again), a further file,
//! which TensorBoard reads behind it, says all from the beginning, and it goes: no step is there twice.
//!
//! It is a row of records: the length of the data (u64), the length's checksum, the data (an [`Event`]), the data's
//! checksum; little-endian, the checksums CRC-32C, masked.

mod event;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use self::event::{Axis, Content, Event, Metadata, Plugin, Shape, Summary, Tensor, Value, What};
use super::metrics::{Record, now};
use super::recipe::Recipe;
use crate::files::{FileError, is_linked_elsewhere, read_file, write_file};

/// The file of a run that TensorBoard reads; it looks for `tfevents` in the name. Further ones have a number behind it.
pub(super) const EVENTS: &str = "events.out.tfevents.residua";

/// The events of a run that is going on.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// The file of a run whose metrics are `records` so far: the one that is there, if it says just that, or a new one instead.
    pub(crate) fn begin(folder: &Path, recipe: &Recipe, records: &[Record]) -> Result<Self, FileError> {
        let earlier = files(folder)?;
        if let [path] = earlier.as_slice()
            && says(path, records)
            && !is_linked_elsewhere(path)
        {
            return Self::open(path.clone());
        }
        let numbers = earlier.iter().map(|path| number_of(path));
        let path = match numbers.max() {
            None => folder.join(EVENTS),
            Some(number) => folder.join(format!("{EVENTS}.{:04}", number + 1)),
        };
        let begun = records.iter().find_map(Record::time).or_else(now).unwrap_or_default();
        let mut bytes = framed(&Event {
            wall_time: begun,
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".to_owned())),
        });
        bytes.extend(framed(&recipe_event(recipe, begun)));
        bytes.extend(records.iter().flat_map(|record| framed(&event(record, begun))));
        write_file(&path, &bytes)?;
        for path in earlier {
            fs::remove_file(&path).map_err(FileError::cannot("delete", &path))?;
        }
        Self::open(path)
    }

    fn open(path: PathBuf) -> Result<Self, FileError> {
        let file = OpenOptions::new().append(true).open(&path).map_err(FileError::cannot("write", &path))?;
        Ok(Self { path, file })
    }

    /// Adds a record.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), FileError> {
        // In one write, so that a reader rarely sees half a record.
        self.file.write_all(&framed(&event(record, 0.))).map_err(FileError::cannot("write", &self.path))
    }
}

/// The files of events in a run's folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::cannot("list", folder))? {
        let entry = entry.map_err(FileError::cannot("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(EVENTS.as_bytes()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// 1 for the first file of a run, which has no number in its name.
fn number_of(path: &Path) -> u64 {
    let number = path.extension().and_then(|number| number.to_str()).and_then(|number| number.parse().ok());
    number.unwrap_or(1)
}

/// Whether a file is whole and its steps are those of these records.
fn says(path: &Path, records: &[Record]) -> bool {
    let Some(events) = read_file(path).ok().and_then(|bytes| unframed(&bytes)) else { return false };
    // The version and the recipe come first.
    events.iter().skip(2).map(|event| event.step).eq(records.iter().map(|record| record.iteration() as i64))
}

/// All events of a file's bytes, if they are whole.
fn unframed(bytes: &[u8]) -> Option<Vec<Event>> {
    let (mut rest, mut events) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let (checksum, after) = after.split_first_chunk::<4>()?;
        let data = after.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (checksum_of_data, after) = after[data.len()..].split_first_chunk::<4>()?;
        let is_whole = u32::from_le_bytes(*checksum) == masked_checksum(length)
            && u32::from_le_bytes(*checksum_of_data) == masked_checksum(data);
        events.push(is_whole.then(|| Event::decode(data).ok()).flatten()?);
        rest = after;
    }
    Some(events)
}

fn event(record: &Record, otherwise: f64) -> Event {
    let values = match record {
        Record::Training {
            loss,
            error,
            learning_rate,
            images_per_second,
            peak_memory_bytes,
            epoch,
            exchange,
            ..
        } => {
            let exchange = exchange.iter().flat_map(|exchange| {
                [
                    ("train/waited_percent", exchange.waited),
                    ("train/megabytes_sent", exchange.bytes_sent as f64 / 1e6),
                ]
            });
            let memory = peak_memory_bytes.map(|bytes| ("train/peak_memory_gb", bytes as f64 / 1e9));
            [
                ("train/loss", *loss),
                ("train/error", *error),
                ("train/learning_rate", *learning_rate),
                ("train/images_per_second", *images_per_second),
                ("train/epoch", *epoch),
            ]
            .into_iter()
            .chain(memory)
            .chain(exchange)
            .map(|(tag, value)| number(tag.to_owned(), value))
            .collect()
        }
        Record::Evaluation { test_loss, test_error, average_test_loss, average_test_error, .. } => {
            reached("test", [*test_loss, *test_error], [*average_test_loss, *average_test_error])
        }
        Record::Validation {
            validation_loss,
            validation_error,
            average_validation_loss,
            average_validation_error,
            ..
        } => reached(
            "validation",
            [*validation_loss, *validation_error],
            [*average_validation_loss, *average_validation_error],
        ),
        Record::Norms { weight_norms, gradient_norms, .. } => {
            let weights = weight_norms.iter().map(|(stage, norm)| (format!("norms/weights/{stage}"), norm));
            let gradients =
                gradient_norms.iter().map(|(stage, norm)| (format!("norms/gradients/{stage}"), norm));
            weights.chain(gradients).map(|(tag, &norm)| number(tag, norm)).collect()
        }
        Record::Measurement(measurement) => measurement
            .values()
            .filter_map(|(name, _)| {
                Some(number(format!("{}/{name}", measurement.kind), measurement.number(name)?))
            })
            .collect(),
    };
    Event {
        wall_time: record.time().unwrap_or(otherwise),
        step: record.iteration() as i64,
        what: Some(What::Summary(Summary { values })),
    }
}

fn number(tag: String, value: f64) -> Value {
    Value { tag, metadata: None, content: Some(Content::Number(value as f32)) }
}

/// Loss and error on some images, and those of the average of weights if there is one.
fn reached(
    images: &str,
    [loss, error]: [f64; 2],
    [average_loss, average_error]: [Option<f64>; 2],
) -> Vec<Value> {
    let values = [
        ("loss", Some(loss)),
        ("error", Some(error)),
        ("average_loss", average_loss),
        ("average_error", average_error),
    ];
    let named = |(name, value): (&str, Option<f64>)| Some(number(format!("{images}/{name}"), value?));
    values.into_iter().filter_map(named).collect()
}

/// The recipe, as a text that TensorBoard shows in a fixed-width font: indented, as its Markdown wants it.
fn recipe_event(recipe: &Recipe, wall_time: f64) -> Event {
    let text: String = recipe.to_toml().lines().map(|line| format!("    {line}\n")).collect();
    let tensor = Tensor {
        data_type: 7,
        shape: Some(Shape { axes: vec![Axis { size: 1 }] }),
        texts: vec![text.into()],
    };
    let value = Value {
        tag: "recipe".to_owned(),
        metadata: Some(Metadata { plugin: Some(Plugin { name: "text".to_owned() }) }),
        content: Some(Content::Tensor(tensor)),
    };
    Event { wall_time, step: 0, what: Some(What::Summary(Summary { values: vec![value] })) }
}

fn framed(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_checksum(&length).to_le_bytes());
    bytes.extend(&data);
    bytes.extend(masked_checksum(&data).to_le_bytes());
    bytes
}

/// A checksum of data that may hold checksums themselves is rotated and shifted, as TFRecord files want it.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::recipe::NamedRecipe;

    /// All events of a file, whose frames must be right.
    fn read(path: &Path) -> Vec<Event> {
        unframed(&fs::read(path).unwrap()).unwrap()
    }

    fn scalars(events: &[Event]) -> Vec<(i64, String, f32)> {
        let values = |event: &Event| match &event.what {
            Some(What::Summary(Summary { values })) => values.clone(),
            _ => Vec::new(),
        };
        let number = |value: Value| match value.content {
            Some(Content::Number(number)) => Some((value.tag, number)),
            _ => None,
        };
        let of_event = |event: &Event| {
            let step = event.step;
            values(event).into_iter().filter_map(number).map(move |(tag, number)| (step, tag, number))
        };
        events.iter().flat_map(of_event).collect()
    }

    fn training(iteration: u64) -> Record {
        Record::Training {
            iteration,
            epoch: 0.5,
            loss: 2.25,
            error: 80.,
            learning_rate: 0.125,
            images_per_second: 100.,
            seconds: 3.,
            peak_memory_bytes: Some(500_000_000),
            exchange: None,
            time: Some(1000. + iteration as f64),
        }
    }

    fn records() -> Vec<Record> {
        let norms = |norm| [("stage1".to_owned(), norm)].into();
        vec![
            training(10),
            Record::Norms { iteration: 10, weight_norms: norms(3.), gradient_norms: norms(0.5), time: None },
            Record::Evaluation {
                iteration: 20,
                epoch: 1.,
                test_loss: 1.5,
                test_error: 40.,
                average_test_loss: None,
                average_test_error: None,
                time: Some(1020.),
            },
        ]
    }

    #[test]
    fn checksums_are_masked_as_in_tfrecord_files() {
        // CRC-32C of "123456789" is 0xe3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_checksum(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
        // The first record of any file that TensorFlow writes: 24 bytes of version, the length and its checksum.
        let version = What::FileVersion("brain.Event:2".to_owned());
        let bytes = framed(&Event { wall_time: 1., step: 0, what: Some(version) });
        assert_eq!(bytes[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn records_become_events() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::named(NamedRecipe::Quick);
        let mut file = EventFile::begin(folder.path(), &recipe, &[]).unwrap();
        records().iter().for_each(|record| file.append(record).unwrap());
        let events = read(&folder.path().join(EVENTS));
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        let Some(What::Summary(Summary { values })) = &events[1].what else { panic!("no recipe") };
        let Some(Content::Tensor(tensor)) = &values[0].content else { panic!("no text") };
        assert!(String::from_utf8_lossy(&tensor.texts[0]).contains("    model = \"preresnet20\"\n"));
        let expected = [
            (10, "train/loss", 2.25),
            (10, "train/error", 80.),
            (10, "train/learning_rate", 0.125),
            (10, "train/images_per_second", 100.),
            (10, "train/epoch", 0.5),
            (10, "train/peak_memory_gb", 0.5),
            (10, "norms/weights/stage1", 3.),
            (10, "norms/gradients/stage1", 0.5),
            (20, "test/loss", 1.5),
            (20, "test/error", 40.),
        ];
        let expected: Vec<_> = expected.map(|(step, tag, number)| (step, tag.to_owned(), number)).into();
        assert_eq!(scalars(&events), expected);
        assert_eq!((events[2].wall_time, events[4].wall_time), (1010., 1020.));
    }

    #[test]
    fn a_file_begun_anew_shows_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::named(NamedRecipe::Quick);
        let mut file = EventFile::begin(folder.path(), &recipe, &[]).unwrap();
        records().iter().for_each(|record| file.append(record).unwrap());
        // Killed in the middle of a record; iterations after 10 will be trained again.
        let path = folder.path().join(EVENTS);
        let length = fs::metadata(&path).unwrap().len();
        fs::File::options().write(true).open(&path).unwrap().set_len(length - 7).unwrap();
        let mut file = EventFile::begin(folder.path(), &recipe, &records()[..2]).unwrap();
        file.append(&records()[2]).unwrap();
        file.append(&training(30)).unwrap();
        // Who has the old one open goes on to the one behind it.
        assert!(!path.exists());
        let path = folder.path().join(format!("{EVENTS}.0002"));
        let steps: Vec<_> = read(&path).iter().map(|event| event.step).collect();
        assert_eq!(steps, [0, 0, 10, 10, 20, 30]);
        drop(EventFile::begin(folder.path(), &recipe, &records()[..1]).unwrap());
        assert_eq!(files(folder.path()).unwrap(), [folder.path().join(format!("{EVENTS}.0003"))]);
    }

    #[test]
    fn a_run_that_goes_on_appends_for_whoever_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::named(NamedRecipe::Quick);
        let mut file = EventFile::begin(folder.path(), &recipe, &[]).unwrap();
        records().iter().for_each(|record| file.append(record).unwrap());
        drop(file);
        let path = folder.path().join(EVENTS);
        let open = fs::File::open(&path).unwrap();
        let mut file = EventFile::begin(folder.path(), &recipe, &records()).unwrap();
        file.append(&training(30)).unwrap();
        let mut seen = Vec::new();
        std::io::Read::read_to_end(&mut &open, &mut seen).unwrap();
        let steps: Vec<_> = unframed(&seen).unwrap().iter().map(|event| event.step).collect();
        assert_eq!(steps, [0, 0, 10, 10, 20, 30]);
        assert_eq!(files(folder.path()).unwrap(), std::slice::from_ref(&path));

        // A copy by hard links is another run's.
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).unwrap();
        fs::hard_link(&path, copy.join(EVENTS)).unwrap();
        let four: Vec<_> = records().into_iter().chain([training(30)]).collect();
        EventFile::begin(&copy, &recipe, &four).unwrap().append(&training(40)).unwrap();
        assert_eq!(read(&path).len(), 6);
        assert_eq!(read(&copy.join(format!("{EVENTS}.0002"))).len(), 7);
    }
}
