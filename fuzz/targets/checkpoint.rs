//! Any bytes as a file of a run: an error or what was saved, never a panic. The first byte says which file, and whether
//! the checksums are made to fit, so that the readers behind them are reached.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use burn::tensor::Device;
use libfuzzer_sys::fuzz_target;
use residua::data::Normalisation;
use residua::evaluate::Trained;
use residua::infer::WeightsInfo;
use residua::nn::{NetworkOptions, ResNet};
use residua::run::{Checkpoint, CheckpointStore, NamedRecipe, Recipe, State, read_metrics, saved_recipe};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

struct Run {
    folder: TempDir,
    checkpoint: PathBuf,
    /// The whole content of each file.
    files: Vec<(&'static str, Vec<u8>)>,
}

const FILES: [&str; 5] =
    ["optimiser.safetensors", "recipe.toml", "state.json", "weights.safetensors", "SHA256SUMS"];

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let network = NetworkOptions::named("preresnet8").resolve(2).unwrap();
    let weights = ResNet::init(&network, 1, &Device::flex()).unwrap().tensors();
    let info = WeightsInfo {
        network: network.into(),
        classes: vec!["cat".into(), "dog".into()],
        height: 32,
        width: 32,
        shorter_side: 37,
        normalisation: Normalisation::PerChannel { mean: [0.5; 3], deviation: [0.25; 3] },
        ranges: None,
        temperature: None,
    };
    let checkpoint = Checkpoint {
        weights_metadata: info.to_metadata(),
        optimiser: weights.clone(),
        average: None,
        weights,
        recipe: Recipe::named(NamedRecipe::Quick),
        state: State::new(1),
    };
    let checkpoint = CheckpointStore::open(folder.path()).unwrap().save(&checkpoint).unwrap();
    let files = FILES.map(|name| (name, fs::read(checkpoint.join(name)).unwrap())).into();
    Run { folder, checkpoint, files }
});

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    let Run { folder, checkpoint, files } = &*RUN;
    let kind = usize::from(which & 0x0f) % (FILES.len() + 2);
    let metrics = folder.path().join("metrics.jsonl");
    if kind == FILES.len() {
        fs::write(&metrics, bytes).unwrap();
        let _ = read_metrics(&metrics);
        return;
    }
    // A safetensors header need not find its own length by chance.
    let bytes = match (kind, which & 0x40) {
        (0 | 3, 0) => [&(bytes.len() as u64).to_le_bytes(), bytes].concat(),
        _ => bytes.to_vec(),
    };
    // The last kind: a weight file that lies alone.
    if kind > FILES.len() {
        let alone = folder.path().join("alone.safetensors");
        fs::write(&alone, bytes).unwrap();
        let _ = Trained::load(&alone, &Device::flex());
        return;
    }
    let (name, whole) = &files[kind];
    fs::write(checkpoint.join(name), bytes).unwrap();
    if which & 0x80 == 0 {
        write_checksums(checkpoint);
    }
    let _ = Checkpoint::load(checkpoint);
    let _ = saved_recipe(folder.path());
    let _ = Trained::load(folder.path(), &Device::flex());
    if let Ok(mut store) = CheckpointStore::open(folder.path()) {
        let _ = store.resume();
    }
    fs::write(checkpoint.join(name), whole).unwrap();
    fs::write(checkpoint.join("SHA256SUMS"), &files[4].1).unwrap();
});

fn write_checksums(checkpoint: &Path) {
    let line = |name: &&str| {
        let bytes = fs::read(checkpoint.join(name)).unwrap();
        format!("{:x}  {name}\n", Sha256::digest(bytes))
    };
    fs::write(checkpoint.join("SHA256SUMS"), FILES[..4].iter().map(line).collect::<String>()).unwrap();
}
