//! Predictions and confusions as files of comma-separated values.

use std::path::Path;

use residua::data::Images;
use residua::evaluate::{Confusions, Scored};
use residua::files::{FileError, NewFile, write_file};

use crate::csv::{line, quoted, quoted_bytes};

/// A file with a line for each image: `image,true,predicted` and the probability of each class.
pub(crate) struct PredictionsFile(NewFile);

impl PredictionsFile {
    pub(crate) fn create(path: &Path, classes: &[String]) -> Result<Self, FileError> {
        let mut file = NewFile::create(path)?;
        let probabilities: Vec<String> = classes.iter().map(|class| format!("probability:{class}")).collect();
        let head = ["image", "true", "predicted"].into_iter();
        file.write(line(head.chain(probabilities.iter().map(String::as_str))) + "\n")?;
        Ok(Self(file))
    }

    /// An image of a folder is called by its path, one of another data set by its number, from 0.
    pub(crate) fn add(
        &mut self,
        test_set: &Images,
        classes: &[String],
        predicted: usize,
        scored: &Scored<'_>,
    ) -> Result<(), FileError> {
        let mut line = match test_set {
            Images::Files(folder) => {
                quoted_bytes(folder.path(scored.image).as_os_str().as_encoded_bytes()).into_owned()
            }
            Images::InMemory(_) => scored.image.to_string().into_bytes(),
        };
        let classes = [scored.label, predicted].map(|class| quoted(&classes[class]));
        line.extend(classes.iter().flat_map(|class| [",", class]).flat_map(str::bytes));
        for probability in scored.probabilities() {
            // Seven digits, and no more zeros than these.
            line.extend(format!(",{:?}", probability as f32).bytes());
        }
        line.push(b'\n');
        self.0.write(line)
    }

    pub(crate) fn publish(self) -> Result<(), FileError> {
        self.0.publish()
    }
}

/// Writes a file with a line for each pair of classes that occurs, right answers included: `true,predicted,images`.
pub(crate) fn write_confusions(
    path: &Path,
    confusions: &Confusions,
    classes: &[String],
) -> Result<(), FileError> {
    let mut text = "true,predicted,images\n".to_owned();
    for (label, predicted, count) in confusions.pairs() {
        text += &format!("{},{},{count}\n", quoted(&classes[label]), quoted(&classes[predicted]));
    }
    write_file(path, text.as_bytes())
}
