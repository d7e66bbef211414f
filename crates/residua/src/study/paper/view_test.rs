//! The final test of networks that are tested on other crops than during training (Table 5's crops of 320).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Split, View};
use crate::device::Device;
use crate::evaluate::{Evaluation, Trained};
use crate::files::write_file;
use crate::ops::Engine;
use crate::run::{RunError, saved_recipe};

/// What such a test leaves in a run's folder: `test-320.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    test_error: f64,
    test_loss: f64,
    images: u64,
}

/// Tests the last checkpoint of the run in `folder` by a view of its pictures and keeps the result in the folder.
///
/// # Errors
/// When the run or its pictures cannot be read, or the result not be written.
pub fn test_by_view(
    folder: &Path,
    view: View,
    device: &Device,
    engine: Engine,
    batch: NonZeroUsize,
) -> Result<Evaluation, RunError> {
    let recipe = saved_recipe(folder)?;
    let trained = Trained::load(folder, device)?;
    let test_set =
        recipe.data.source.load(Split::Test)?.seen_by(view)?.tolerating(recipe.data.unreadable_share);
    if trained.info.classes != test_set.classes() {
        return Err(RunError::other_classes(&trained.info.classes, test_set.classes()));
    }
    let result = trained.evaluate(&test_set, batch, engine)?;
    let Evaluation { images, test_loss, test_error } = result;
    let saved = serde_json::to_string(&Saved { test_error, test_loss, images });
    write_file(&path(folder, view), saved.expect("numbers can be written as JSON").as_bytes())?;
    Ok(result)
}

/// The test error of such a test, if there was one.
pub(super) fn saved_test_error(folder: &Path, view: View) -> Option<f64> {
    let text = std::fs::read(path(folder, view)).ok()?;
    Some(serde_json::from_slice::<Saved>(&text).ok()?.test_error)
}

fn path(folder: &Path, view: View) -> PathBuf {
    folder.join(format!("test-{}.json", view.height))
}
