//! Which pictures a run was begun on: `data.json` in its folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::run_images::RunImages;
use crate::data::{Images, Listing};
use crate::files::{FileError, read_file, write_file};

const DATA: &str = "data.json";

/// The pictures of a run. What is held out of the training pictures is among those.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunData {
    training: Listing,
    /// Those of a folder of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<Listing>,
    test: Listing,
}

impl RunData {
    /// Those of images in files.
    pub(super) fn of(images: &RunImages, is_validation_apart: bool) -> Option<Self> {
        let validation = images.validation();
        let held_out: Option<&Images> = validation.filter(|_| !is_validation_apart);
        Some(Self {
            training: Listing::of([images.training()].into_iter().chain(held_out))?,
            validation: validation.filter(|_| is_validation_apart).and_then(|images| Listing::of([images])),
            test: Listing::of([images.test()])?,
        })
    }

    /// Those that the run in a folder was begun on, if that is known.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&read_file(&folder.join(DATA)).ok()?).ok()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), FileError> {
        let mut text = serde_json::to_string_pretty(self).expect("numbers and texts can be written as JSON");
        text.push('\n');
        write_file(&folder.join(DATA), text.as_bytes())
    }

    /// What has become of them, a sentence for each kind.
    pub(super) fn changes(&self, now: &Self) -> Vec<String> {
        let none = Listing::default();
        let validation = |data: &Self| data.validation.clone().unwrap_or_else(|| none.clone());
        let kinds = [
            (
                "training",
                self.training.changes(&now.training),
                "the run goes on with those there are, not to the same bits",
            ),
            (
                "validation",
                validation(self).changes(&validation(now)),
                "errors before and after are of different pictures",
            ),
            ("test", self.test.changes(&now.test), "errors before and after are of different pictures"),
        ];
        let changed = kinds.into_iter().filter(|(_, changes, _)| !changes.is_empty());
        changed
            .map(|(kind, changes, so)| {
                let few = few(&changes);
                format!("the {kind} pictures are not those that the run began with: {few}; {so}")
            })
            .collect()
    }
}

fn few(changes: &[String]) -> String {
    const FEW: usize = 5;
    let shown = changes[..changes.len().min(FEW)].join(", ");
    match changes.len() {
        count if count > FEW => format!("{shown} and {} more classes", count - FEW),
        _ => shown,
    }
}
