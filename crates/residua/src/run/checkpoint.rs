//! A checkpoint: all that a run needs to go on bit by bit as if it had never stopped, in one folder.
//!
//! | file | content |
//! |---|---|
//! | `weights.safetensors` | every tensor of the network, BN's running statistics included |
//! | `optimiser.safetensors` | what the optimiser keeps: the momentum, by the names of the weights; of AdamW `.exp_avg`, `.exp_avg_sq` and `.step` of each |
//! | `recipe.toml` | the run's [`Recipe`] |
//! | `average.safetensors` | the exponential average of the weights, if the run keeps one |
//! | `state.json` | the format's version and the [`State`] |
//! | `SHA256SUMS` | checksums of the others, as `sha256sum` writes them: `sha256sum -c SHA256SUMS` checks them |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::recipe::{Recipe, RecipeError, RecipeOption};
use crate::files::{FileError, NewFolder, read_file};
use crate::nn::NamedTensors;
use residua_infer::weights::{TensorFile, TensorFileError, decode, encode};

/// A run as it stands after some iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Every tensor of the network.
    pub weights: NamedTensors,
    /// What the weights' file says about them.
    pub weights_metadata: BTreeMap<String, String>,
    /// What the optimiser keeps, by the names of the weights: of SGD the momentum.
    pub optimiser: NamedTensors,
    /// The exponential average of the weights, if the run keeps one.
    pub average: Option<NamedTensors>,
    /// What the run is.
    pub recipe: Recipe,
    /// How far it has come.
    pub state: State,
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Finished iterations.
    pub iteration: u64,
    /// Training images seen, which says where in which epoch the run stands.
    pub samples_drawn: u64,
    /// The recipe's seed.
    pub seed: u64,
    /// The best test so far.
    pub best: Option<Best>,
    /// What the next training line of the metrics has to begin with.
    pub window: LogWindow,
    /// What is still to be done after the last of these iterations.
    #[serde(default, skip_serializing_if = "Due::is_nothing")]
    pub due: Due,
    /// How many processes have done them together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

/// What is still to be done after a finished iteration, before the next one: a run may be saved in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Nothing; the next iteration may begin.
    #[default]
    Nothing,
    /// The tests that the recipe asks for here.
    Tests,
    /// Those, and before them what observers measure and a training line of the metrics.
    Measurements,
}

impl Due {
    /// Whether nothing is left to do.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// The lowest error of a run, the earliest of equals: on its validation images, or without any on the test images; of the average of its
/// weights, if it keeps one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Finished iterations.
    pub iteration: u64,
    /// The error in percent.
    #[serde(alias = "test_error")]
    pub error: f64,
}

/// Sums over the iterations since the last training line of the metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogWindow {
    /// Sum of the iterations' losses, each the mean over its batch.
    pub loss: f64,
    /// How many training images were classified wrongly.
    pub misclassified: u64,
    /// How many training images there were.
    pub images: u64,
    /// How many iterations there were.
    pub iterations: u64,
}

impl State {
    /// The state of a run before its first iteration.
    pub fn new(seed: u64) -> Self {
        Self {
            iteration: 0,
            samples_drawn: 0,
            seed,
            best: None,
            window: LogWindow::default(),
            due: Due::Nothing,
            ranks: 1,
        }
    }
}

impl LogWindow {
    /// Adds an iteration with this mean loss, and this many of its images classified wrongly.
    pub fn add(&mut self, loss: f64, misclassified: u64, images: u64) {
        self.loss += loss;
        self.misclassified += misclassified;
        self.images += images;
        self.iterations += 1;
    }
}

/// The file of a checkpoint that holds the network's tensors.
pub(super) const WEIGHTS: &str = "weights.safetensors";
/// The file of a checkpoint that holds the average of the weights.
pub(super) const AVERAGE: &str = "average.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
/// The file of a checkpoint, and of a run, that holds the recipe.
pub(crate) const RECIPE: &str = "recipe.toml";
const STATE: &str = "state.json";
/// The file of a checkpoint that holds the checksums of the others.
pub(super) const CHECKSUMS: &str = "SHA256SUMS";
/// The files of every checkpoint.
const FILES: [&str; 4] = [OPTIMISER, RECIPE, STATE, WEIGHTS];

const VERSION: u32 = 1;

/// What stands in `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
    state: State,
}

impl Checkpoint {
    /// Loads the checkpoint in a folder.
    ///
    /// # Errors
    /// Every defect is one: a missing, altered or truncated file, or another version's format.
    pub fn load(folder: &Path) -> Result<Self, CheckpointError> {
        Files::read(folder)?.checkpoint(folder)
    }

    /// All of it in a piece, for other processes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = Vec::new();
        for (name, content) in self.files(Path::new(""))?.0 {
            bytes.extend(
                [name.len() as u64, content.len() as u64].iter().flat_map(|length| length.to_le_bytes()),
            );
            bytes.extend(name.as_bytes());
            bytes.extend(content);
        }
        Ok(bytes)
    }

    /// What [`to_bytes`](Self::to_bytes) has made.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut files = Files(BTreeMap::new());
        let damaged = || CheckpointError::damaged(Path::new("rank 0"), "what it has sent is not whole");
        while !bytes.is_empty() {
            let mut take = |length: usize| bytes.split_off(..length).ok_or_else(damaged);
            let mut number = || {
                let bytes = take(size_of::<u64>())?.first_chunk().ok_or_else(damaged)?;
                Ok::<_, CheckpointError>(u64::from_le_bytes(*bytes) as usize)
            };
            let (name, content) = (number()?, number()?);
            let (name, content) = (take(name)?, take(content)?);
            let known = FILES.into_iter().chain([AVERAGE]).find(|known| known.as_bytes() == name);
            files.0.insert(known.ok_or_else(damaged)?, content.to_vec());
        }
        files.checkpoint(Path::new(""))
    }

    /// Loads the weights alone, with what they say of themselves.
    ///
    /// # Errors
    /// When they are not as they were saved, or have another version's format.
    pub fn load_weights(folder: &Path) -> Result<TensorFile, CheckpointError> {
        Self::load_tensors(folder, WEIGHTS)
    }

    /// The same of the average of the weights.
    ///
    /// # Errors
    /// As there, and when the run keeps none.
    pub fn load_average(folder: &Path) -> Result<TensorFile, CheckpointError> {
        match folder.join(AVERAGE).exists() {
            true => Self::load_tensors(folder, AVERAGE),
            false => Err(CheckpointError::NoAverage { folder: folder.to_owned() }),
        }
    }

    fn load_tensors(folder: &Path, name: &str) -> Result<TensorFile, CheckpointError> {
        check_version(folder)?;
        let (bytes, stored) = (read(folder, name)?, read(folder, CHECKSUMS)?);
        let path = folder.join(name);
        let (actual, decoded) = rayon::join(|| checksum(name, &bytes), || decode(&path, &bytes));
        let stored = String::from_utf8_lossy(&stored);
        match stored.lines().any(|line| line == actual) {
            true => Ok(decoded?),
            false => Err(CheckpointError::damaged(&path, ALTERED)),
        }
    }

    /// How far the checkpoint in a folder has come, as far as its state can be read.
    pub(super) fn read_state(folder: &Path) -> Option<State> {
        let state = check_version(folder).ok()?;
        serde_json::from_slice(&state).ok().map(|StateFile { state, .. }| state)
    }

    /// Writes the checkpoint into a new folder; it is there whole or, after a failure or a kill, not at all.
    pub(super) fn save(&self, folder: &Path) -> Result<(), CheckpointError> {
        let State { best, window, iteration, .. } = &self.state;
        if !window.loss.is_finite() || best.as_ref().is_some_and(|best| !best.error.is_finite()) {
            return Err(CheckpointError::NotFinite { iteration: *iteration });
        }
        let files = self.files(folder)?;
        let new = NewFolder::create(folder)?;
        for (name, bytes) in &files.0 {
            new.write(name, bytes)?;
        }
        new.write(CHECKSUMS, files.checksums().as_bytes())?;
        Ok(new.publish()?)
    }

    /// The files of the checkpoint in a folder.
    fn files(&self, folder: &Path) -> Result<Files, CheckpointError> {
        let state = StateFile { version: VERSION, state: self.state.clone() };
        let mut state = serde_json::to_string_pretty(&state).expect("plain numbers can be written as JSON");
        state.push('\n');
        let none = BTreeMap::new();
        let mut files = BTreeMap::from([
            (WEIGHTS, encode(&folder.join(WEIGHTS), &self.weights, &self.weights_metadata)?),
            (OPTIMISER, encode(&folder.join(OPTIMISER), &self.optimiser, &none)?),
            (RECIPE, self.recipe.to_toml().into_bytes()),
            (STATE, state.into_bytes()),
        ]);
        if let Some(average) = &self.average {
            files.insert(AVERAGE, encode(&folder.join(AVERAGE), average, &self.weights_metadata)?);
        }
        Ok(Files(files))
    }
}

/// The files of a checkpoint besides the checksums.
struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    /// Reads the files and compares them with their checksums.
    fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let state = check_version(folder)?;
        let mut files = BTreeMap::from([(STATE, state)]);
        for name in FILES.into_iter().filter(|&name| name != STATE) {
            files.insert(name, read(folder, name)?);
        }
        let stored = read(folder, CHECKSUMS)?;
        if folder.join(AVERAGE).exists() || is_listed(&stored, AVERAGE) {
            files.insert(AVERAGE, read(folder, AVERAGE)?);
        }
        let files = Self(files);
        let actual = files.checksums();
        // Nothing but the very bytes that were written will do: no flip in the checksums themselves goes unseen.
        if stored == actual.as_bytes() {
            return Ok(files);
        }
        let text = String::from_utf8_lossy(&stored);
        let altered =
            files.0.keys().zip(actual.lines()).find(|(_, line)| !text.lines().any(|known| known == *line));
        let (name, problem) = match altered {
            Some((name, _)) if is_listed(&stored, name) => (*name, ALTERED),
            _ => (CHECKSUMS, "it does not list the checkpoint's files"),
        };
        Err(CheckpointError::damaged(&folder.join(name), problem))
    }

    /// The checkpoint that they are, in a folder.
    fn checkpoint(&self, folder: &Path) -> Result<Checkpoint, CheckpointError> {
        let weights = decode(&folder.join(WEIGHTS), self.bytes(WEIGHTS))?;
        let optimiser = decode(&folder.join(OPTIMISER), self.bytes(OPTIMISER))?.tensors;
        let recipe = Recipe::parse(&String::from_utf8_lossy(self.bytes(RECIPE)), &folder.join(RECIPE))?;
        let average = match (self.0.get(AVERAGE), recipe.optimiser.average_decay) {
            (Some(bytes), _) => Some(decode(&folder.join(AVERAGE), bytes)?.tensors),
            (None, None) => None,
            (None, Some(_)) => return Err(CheckpointError::damaged(&folder.join(AVERAGE), "it is missing")),
        };
        let StateFile { state, .. } = serde_json::from_slice(self.bytes(STATE))
            .map_err(|error| CheckpointError::damaged(&folder.join(STATE), error.to_string()))?;
        let TensorFile { tensors: weights, metadata: weights_metadata, .. } = weights;
        Ok(Checkpoint { weights, weights_metadata, optimiser, average, recipe, state })
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The content of `SHA256SUMS`.
    fn checksums(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.0 {
            text.push_str(&checksum(name, bytes));
            text.push('\n');
        }
        text
    }
}

const ALTERED: &str = "its content is not what SHA256SUMS says";

/// Whether checksums name a file.
fn is_listed(checksums: &[u8], name: &str) -> bool {
    let name = format!("  {name}");
    String::from_utf8_lossy(checksums).lines().any(|line| line.ends_with(&name))
}

/// The bytes of a checkpoint's file.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let path = folder.join(name);
    read_file(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CheckpointError::damaged(&path, "it is missing"),
        _ => error.into(),
    })
}

/// The state's bytes, which are of this version's format.
fn check_version(folder: &Path) -> Result<Vec<u8>, CheckpointError> {
    let state = read(folder, STATE)?;
    match version(&state).filter(|&version| version != VERSION) {
        Some(version) => Err(CheckpointError::Version { path: folder.join(STATE), version }),
        None => Ok(state),
    }
}

/// A line of `SHA256SUMS`.
fn checksum(name: &str, bytes: &[u8]) -> String {
    format!("{:x}  {name}", Sha256::digest(bytes))
}

/// The format's version, as far as it can be told.
fn version(state: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    serde_json::from_slice::<Version>(state).ok().map(|state| state.version)
}

/// A checkpoint that cannot be saved or loaded, or that is not there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of tensors is none, or holds what it should not.
    #[error(transparent)]
    Tensors(#[from] TensorFileError),
    /// The recipe is none.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A file of a checkpoint is not as it was saved.
    #[error("{} is damaged: {problem}; use another checkpoint of the run", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The checkpoint has the format of another version of Residua.
    #[error(
        "{}: the checkpoint has format {version}, this version of Residua reads format {VERSION}; use the version of \
         Residua that saved it",
        .path.display()
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// The checkpoint's format.
        version: u32,
    },
    /// A sum of losses or a test error is infinite or not a number.
    #[error(
        "no checkpoint is saved after iteration {iteration}: the loss is not finite, training has diverged; lower {} or \
         add a warm-up",
        RecipeOption::LearningRate
    )]
    NotFinite {
        /// The iteration.
        iteration: u64,
    },
    /// There are checkpoints, but all are damaged.
    #[error("{}: none of the checkpoints is whole ({}); begin a new run in another folder", .folder.display(), list(.damaged))]
    AllDamaged {
        /// The folder of the checkpoints.
        folder: PathBuf,
        /// What is wrong with each, the latest first.
        damaged: Vec<CheckpointError>,
    },
    /// A run that keeps no average of its weights.
    #[error("{} holds no average of weights, as its run keeps none; take the last weights", .folder.display())]
    NoAverage {
        /// The folder of the checkpoint.
        folder: PathBuf,
    },
    /// There are no weights where they were looked for.
    #[error("{}: {problem}; give a run's folder, a checkpoint's folder or a .safetensors file", .path.display())]
    NoWeights {
        /// What was given.
        path: PathBuf,
        /// Why there are none.
        problem: &'static str,
    },
}

impl CheckpointError {
    fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    /// Whether the checkpoint itself is at fault, so that an earlier one may serve.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Tensors(TensorFileError::Damaged { .. }))
    }
}

fn list(damaged: &[CheckpointError]) -> String {
    damaged.iter().map(CheckpointError::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::nn::TensorValues;
    use crate::run::recipe::NamedRecipe;

    /// A small checkpoint, different after every iteration.
    pub(in crate::run) fn checkpoint(iteration: u64) -> Checkpoint {
        let tensor = |value: f32| TensorValues { shape: vec![2], values: vec![value, -value] };
        Checkpoint {
            weights: BTreeMap::from([
                ("conv1.weight".to_owned(), tensor(iteration as f32)),
                ("bn.running_mean".to_owned(), tensor(0.5)),
            ]),
            weights_metadata: BTreeMap::from([("model".to_owned(), "preresnet20".to_owned())]),
            optimiser: BTreeMap::from([("conv1.weight".to_owned(), tensor(0.1))]),
            average: None,
            recipe: Recipe::named(NamedRecipe::Quick),
            state: State {
                iteration,
                samples_drawn: iteration * 128,
                best: Some(Best { iteration: 40, error: 100.0 / 3.0 }),
                seed: 1,
                window: LogWindow { loss: 0.1 + 0.2, misclassified: 99, images: 640, iterations: 5 },
                due: Due::Nothing,
                ranks: 1,
            },
        }
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iteration-00000120");
        checkpoint(120).save(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn a_checkpoint_comes_back_exactly() {
        let (_folder, path) = saved();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(120));
        let bytes = |name| fs::read(path.join(name)).unwrap();
        let before = FILES.map(bytes);
        checkpoint(120).save(&path).unwrap();
        assert_eq!(FILES.map(bytes), before);
    }

    #[test]
    fn the_checksums_are_those_of_sha256sum() {
        let (_folder, path) = saved();
        let text = fs::read_to_string(path.join(CHECKSUMS)).unwrap();
        let names: Vec<_> = text.lines().map(|line| line.split_at(66).1).collect();
        assert_eq!(names, FILES);
        // Not every system has the tool.
        if let Ok(check) = Command::new("sha256sum").args(["-c", CHECKSUMS]).current_dir(&path).output() {
            assert!(check.status.success(), "{check:?}");
        }
    }

    #[test]
    fn every_defect_names_the_file_and_what_to_do() {
        for name in FILES.into_iter().chain([CHECKSUMS]) {
            let (_folder, path) = saved();
            let whole = fs::read(path.join(name)).unwrap();
            fs::write(path.join(name), &whole[..whole.len() - 1]).unwrap();
            let message = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("{name} is damaged")), "{message}");
            assert!(message.ends_with("use another checkpoint of the run"), "{message}");
            fs::remove_file(path.join(name)).unwrap();
            let error = Checkpoint::load(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("{name} is damaged: it is missing")), "{error}");
            assert!(error.is_damage());
        }
    }

    #[test]
    fn another_versions_checkpoint_is_told_from_a_damaged_one() {
        let (_folder, path) = saved();
        let state = fs::read_to_string(path.join(STATE)).unwrap().replace("\"version\": 1", "\"version\": 2");
        fs::write(path.join(STATE), state).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(
            error.to_string().contains("has format 2, this version of Residua reads format 1"),
            "{error}"
        );
        assert!(!error.is_damage());
    }

    #[test]
    fn a_diverged_run_is_not_saved() {
        let (_folder, path) = saved();
        let mut diverged = checkpoint(160);
        diverged.state.window.loss = f64::NAN;
        let message = diverged.save(&path).unwrap_err().to_string();
        assert!(message.contains("after iteration 160: the loss is not finite"), "{message}");
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(120));
    }

    #[test]
    fn a_replaced_checkpoint_is_the_new_one() {
        let (folder, path) = saved();
        checkpoint(200).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(200));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn no_altered_file_is_loaded(file in 0..5usize, position: prop::sample::Index, bit in 0..8u8, is_cut: bool) {
            thread_local!(static SAVED: (tempfile::TempDir, PathBuf) = saved());
            SAVED.with(|(_, path)| {
                let path = path.join([FILES.as_slice(), &[CHECKSUMS]].concat()[file]);
                let whole = fs::read(&path).unwrap();
                let mut bytes = whole.clone();
                let position = position.index(bytes.len());
                if is_cut { bytes.truncate(position) } else { bytes[position] ^= 1 << bit }
                fs::write(&path, &bytes).unwrap();
                let loaded = Checkpoint::load(path.parent().unwrap());
                fs::write(&path, &whole).unwrap();
                prop_assert!(loaded.is_err(), "{:?} at {}", path, position);
                Ok(())
            })?;
        }

        #[test]
        fn sums_come_back_exactly(images: u64, bits: u64, misclassified: u64) {
            let loss = f64::from_bits(bits);
            prop_assume!(loss.is_finite());
            let state = State { window: LogWindow { loss, misclassified, images, iterations: 3 }, ..State::new(images) };
            let text = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        }
    }
}
