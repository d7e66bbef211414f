//! Several ranks beside one process.

use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Device;
use tempfile::tempdir;

use super::{digest, evaluate_on_ranks};
use crate::cluster::{Cluster, ClusterError, threads::on_ranks};
use crate::data::{Dataset, Sampling, normalisation_of};
use crate::evaluate::evaluate;
use crate::nn::{Memory, MemoryChoice, NamedTensors, NetworkOptions, ResNet};
use crate::ops::Engine;
use crate::run::{Checkpoint, ClassWeights, Recipe, Record, RunError, Schedule, read_metrics, saved_recipe};
use crate::train::{Ending, Machine, Observer, Progress, RunImages, Trainer};

const BATCH: usize = 8;

/// Noise of three classes, not as many images of each.
fn images() -> RunImages {
    let noise = |images: usize, seed: usize| {
        let labels: Vec<u16> = (0..images).map(|image| (image * image % 3) as u16).collect();
        let pixel =
            |k: usize| (((k + seed) * 7919 + k / 5 * seed) % 151 + 40 * usize::from(labels[k / 192])) as u8;
        let pixels = (0..images * 192).map(pixel).collect();
        Dataset::new("noise", ["a", "b", "c"].map(str::to_owned).to_vec(), (8, 8), pixels, labels.clone())
            .unwrap()
    };
    RunImages::own(noise(30, 1), noise(11, 2)).unwrap()
}

fn recipe(model: &str, iterations: u64) -> Recipe {
    let mut recipe = Recipe::new(NetworkOptions::named(model), Schedule::new(iterations, 0.02));
    recipe.optimiser.batch = BATCH;
    (recipe.intervals.evaluate, recipe.intervals.log, recipe.intervals.norms) = (3, 2, Some(2));
    recipe
}

/// With whatever follows images from rank to rank.
fn with_everything(mut recipe: Recipe) -> Recipe {
    (recipe.optimiser.accumulate, recipe.optimiser.average_decay) = (2, Some(0.9));
    recipe.optimiser.clip_norm = Some(1.);
    (recipe.data.mixup, recipe.data.cutmix, recipe.data.cutout) = (Some(0.5), Some(0.5), 2);
    recipe.data.sampling = Sampling::Balanced;
    recipe.loss.class_weights = Some(ClassWeights::Balanced);
    recipe.loss.label_smoothing = 0.1;
    (recipe.regularisation.stochastic_depth, recipe.regularisation.dropout) = (Some(0.5), Some(0.3));
    recipe.regularisation.unit_dropout = Some(0.2);
    recipe
}

/// Stops after some iterations, on one rank.
struct StopsAfter {
    iteration: u64,
    is_reached: bool,
}

impl Observer for StopsAfter {
    fn stepped(&mut self, progress: &Progress) {
        self.is_reached = progress.iteration >= self.iteration;
    }

    fn wants_to_stop(&mut self) -> bool {
        self.is_reached
    }
}

fn machine(memory: Memory, cluster: Cluster) -> Machine {
    Machine::default().with_memory(MemoryChoice::Mode(memory)).with_cluster(cluster)
}

fn trainer(recipe: &Recipe, memory: Memory, cluster: Cluster) -> Trainer {
    Trainer::new(recipe.clone()).with_images(images()).with_machine(machine(memory, cluster))
}

fn train(recipe: &Recipe, memory: Memory, folder: &Path, cluster: Cluster) -> Ending {
    trainer(recipe, memory, cluster).start(folder).unwrap().train(&mut ()).unwrap()
}

/// A run by one process that normalises as so many ranks do.
fn alone(recipe: &Recipe, ranks: usize, folder: &Path) -> Ending {
    let mut recipe = recipe.clone();
    recipe.network.bn_group = Some(BATCH / ranks);
    train(&recipe, Memory::Fast, folder, Cluster::alone())
}

/// Runs by ranks, each in a folder of its own that none but the first looks at; the first's ending.
fn together(recipe: &Recipe, memory: Memory, ranks: usize, folder: &Path) -> Ending {
    let all = on_ranks(ranks, |cluster| {
        let folder = if cluster.is_first() { folder } else { Path::new("/no/such/folder") };
        train(recipe, memory, folder, cluster)
    });
    for ending in &all {
        assert_eq!(ending.evaluation, all[0].evaluation);
        assert_eq!(ending.average_evaluation, all[0].average_evaluation);
        assert_eq!(ending.best, all[0].best);
    }
    all.into_iter().next().unwrap()
}

fn checkpoint(ending: &Ending) -> Checkpoint {
    Checkpoint::load(&ending.checkpoint).unwrap()
}

fn assert_close(found: &NamedTensors, expected: &NamedTensors, tolerance: f32, what: &str) {
    assert!(found.keys().eq(expected.keys()));
    for (name, expected) in expected {
        let largest = expected.values.iter().fold(5e-2, |largest: f32, value| largest.max(value.abs()));
        for (found, expected) in found[name].values.iter().zip(&expected.values) {
            assert!((found - expected).abs() < tolerance * largest, "{what} {name}: {found} {expected}");
        }
    }
}

#[test]
fn ranks_train_as_one_process_that_normalises_their_shares() {
    let folder = tempdir().unwrap();
    // Statistics over two images of 2x2 pixels make much of the last bit: deeper networks are soon elsewhere.
    for (model, iterations, has_everything) in
        [("preresnet8", 6, true), ("preresnet20", 2, false), ("resnet11", 6, false)]
    {
        let recipe = recipe(model, iterations);
        let recipe = if has_everything { with_everything(recipe) } else { recipe };
        for ranks in [2, 4] {
            let path = |name: &str| folder.path().join(format!("{model}-{ranks}-{name}"));
            let (one, all) = (
                alone(&recipe, ranks, &path("alone")),
                together(&recipe, Memory::Fast, ranks, &path("together")),
            );
            let (alone, together) = (checkpoint(&one), checkpoint(&all));
            let what = format!("{model} {ranks}");
            assert_close(&together.weights, &alone.weights, 1e-3, &what);
            assert_close(&together.optimiser, &alone.optimiser, 2e-3, &what);
            assert_eq!(together.average.is_some(), has_everything);
            if let (Some(together), Some(alone)) = (&together.average, &alone.average) {
                assert_close(together, alone, 1e-3, &what);
            }
            assert_eq!((together.recipe, together.state.ranks), (alone.recipe, ranks));
            assert_eq!(together.state.samples_drawn, alone.state.samples_drawn);
            let [one, all] = [one, all].map(|ending| ending.evaluation.unwrap());
            assert!((one.test_loss - all.test_loss).abs() < 1e-3 * one.test_loss, "{one:?} {all:?}");
            let records = |name| read_metrics(&path(name).join("metrics.jsonl")).unwrap();
            let losses = |name| {
                let records = records(name).into_iter();
                let losses = records.filter_map(|record| match record {
                    Record::Training { loss, error, .. } => Some((loss, error)),
                    _ => None,
                });
                losses.collect::<Vec<_>>()
            };
            for (one, all) in losses("alone").iter().zip(&losses("together")) {
                assert!((one.0 - all.0).abs() < 1e-3 * one.0 && one.1 == all.1, "{what}: {one:?} {all:?}");
            }
            assert_eq!(records("alone").len(), records("together").len());
            let says = |record: &Record| matches!(record, Record::Training { exchange: Some(_), .. });
            assert!(records("together").iter().any(says) && !records("alone").iter().any(says));
        }
    }
}

#[test]
fn ranks_are_to_the_bit_what_batches_of_one_step_are() {
    let folder = tempdir().unwrap();
    let mut recipe = recipe("preresnet20", 6);
    (recipe.data.mixup, recipe.regularisation.dropout) = (Some(0.5), Some(0.3));
    for ranks in [2, 4] {
        let path = |name: &str| folder.path().join(format!("{name}-{ranks}"));
        let mut behind_each_other = recipe.clone();
        (behind_each_other.optimiser.batch, behind_each_other.optimiser.accumulate) = (BATCH / ranks, ranks);
        let one = train(&behind_each_other, Memory::Fast, &path("one"), Cluster::alone());
        let all = together(&recipe, Memory::Fast, ranks, &path("all"));
        let [one, all] = [one, all].map(|ending| checkpoint(&ending));
        assert!(one.weights == all.weights && one.optimiser == all.optimiser, "{ranks}");
    }
}

#[test]
fn the_same_ranks_reach_the_same_bits_in_any_memory_and_after_any_stop() {
    let folder = tempdir().unwrap();
    let recipe = with_everything(recipe("preresnet20", 6));
    let ranks = 3;
    let recipe =
        Recipe { optimiser: crate::run::OptimiserOptions { batch: 9, ..recipe.optimiser }, ..recipe };
    let whole = together(&recipe, Memory::Fast, ranks, &folder.path().join("fast"));
    for memory in [Memory::Balanced, Memory::Lean] {
        let other = together(&recipe, memory, ranks, &folder.path().join(memory.to_string()));
        assert!(checkpoint(&other) == checkpoint(&whole), "{memory}");
        assert_eq!(other.evaluation, whole.evaluation);
    }
    let path = &folder.path().join("stopped");
    let stopped = on_ranks(ranks, |cluster| {
        // One alone is asked.
        let iteration = if cluster.rank() == 1 { 2 } else { u64::MAX };
        let run = trainer(&recipe, Memory::Fast, cluster).start(path).unwrap();
        run.train(&mut StopsAfter { iteration, is_reached: false }).unwrap()
    });
    assert!(stopped.iter().all(|ending| (ending.iteration, ending.is_finished) == (3, false)), "{stopped:?}");
    let saved = saved_recipe(path).unwrap();
    let resumed = on_ranks(ranks, |cluster| {
        let run = trainer(&saved, Memory::Lean, cluster).resume(path).unwrap();
        assert!(run.warnings().is_empty());
        run.train(&mut ()).unwrap()
    });
    assert!(checkpoint(&resumed[0]) == checkpoint(&whole));
}

#[test]
fn shared_statistics_are_those_of_the_whole_batch() {
    let folder = tempdir().unwrap();
    for (model, has_everything) in [("preresnet8", true), ("resnet20", false)] {
        let recipe = recipe(model, 5);
        let recipe = if has_everything { with_everything(recipe) } else { recipe };
        let one = train(&recipe, Memory::Fast, &folder.path().join(model), Cluster::alone());
        for (ranks, memory) in [(2, Memory::Fast), (4, Memory::Lean)] {
            let path = &folder.path().join(format!("{model}-{ranks}"));
            let all = on_ranks(ranks, |cluster| {
                let machine = machine(memory, cluster.clone()).with_shared_statistics(true);
                trainer(&recipe, memory, cluster)
                    .with_machine(machine)
                    .start(path)
                    .unwrap()
                    .train(&mut ())
                    .unwrap()
            });
            let (one, all) = (checkpoint(&one), checkpoint(&all[0]));
            assert_eq!(one.recipe, all.recipe);
            assert_close(&all.weights, &one.weights, 2e-3, &format!("{model} {ranks}"));
        }
    }
}

#[test]
fn another_number_of_ranks_goes_on_to_rounding_and_says_so() {
    let folder = tempdir().unwrap();
    let recipe = recipe("preresnet8", 6);
    let whole = together(&recipe, Memory::Fast, 4, &folder.path().join("whole"));
    let path = &folder.path().join("stopped");
    on_ranks(4, |cluster| {
        let run = trainer(&recipe, Memory::Fast, cluster).start(path).unwrap();
        run.train(&mut StopsAfter { iteration: 2, is_reached: false }).unwrap()
    });
    let saved = saved_recipe(path).unwrap();
    let resumed = on_ranks(2, |cluster| {
        let run = trainer(&saved, Memory::Fast, cluster).resume(path).unwrap();
        assert!(run.warnings()[0].contains("by 4 processes so far and goes on with 2 processes"));
        run.train(&mut ()).unwrap()
    });
    let (whole, resumed) = (checkpoint(&whole), checkpoint(&resumed[0]));
    assert_close(&resumed.weights, &whole.weights, 1e-3, "resumed");
    assert_eq!(resumed.state.ranks, 2);
}

#[test]
fn what_ranks_cannot_share_is_refused() {
    let folder = tempdir().unwrap();
    let path = &folder.path().join("run");
    let refused = |ranks, recipe: &(dyn Fn(usize) -> Recipe + Sync)| {
        let errors = on_ranks(ranks, |cluster| {
            let recipe = recipe(cluster.rank());
            let error = trainer(&recipe, Memory::Fast, cluster).start(path).map(drop).unwrap_err();
            error.to_string()
        });
        assert!(errors.iter().all(|error| *error == errors[0]) && !path.exists(), "{errors:?}");
        errors[0].clone()
    };
    let message = refused(3, &|_| recipe("preresnet8", 6));
    assert!(message.starts_with("a batch of 8 images has no 3 equal parts, one for each rank"), "{message}");
    let message = refused(4, &|_| {
        let mut recipe = recipe("preresnet8", 6);
        recipe.network.bn_group = Some(4);
        recipe
    });
    assert!(
        message.starts_with("the network normalises 4 images together, and each of 4 ranks has 2"),
        "{message}"
    );
    let message = refused(2, &|rank| recipe("preresnet8", 6 + rank as u64));
    assert!(message.starts_with("rank 1 on host0 has another recipe than rank 0 on host0"), "{message}");
    let errors = on_ranks(2, |cluster| {
        let other = Dataset::new(
            "noise",
            vec!["a".into(); 1],
            (8, 8),
            vec![cluster.rank() as u8; 192 * 8],
            vec![0; 8],
        );
        let other = other.unwrap();
        let images = RunImages::own(other.clone(), other).unwrap();
        let recipe = recipe("preresnet8", 6);
        Trainer::new(recipe)
            .with_images(images)
            .with_machine(Machine::default().with_cluster(cluster))
            .start(path)
            .map(drop)
            .unwrap_err()
    });
    for error in errors {
        assert!(
            matches!(error, RunError::Cluster(ClusterError::Different { what: "other images", .. })),
            "{error}"
        );
    }
    assert!(!path.exists());
}

#[test]
fn tests_are_shared_out_and_come_to_the_same_bits() {
    let images = images();
    let config = NetworkOptions::named("preresnet8").resolve(3).unwrap();
    let network = |rank: usize| {
        let network = ResNet::init(&config, 1, &Device::flex()).unwrap();
        let mut tensors = network.tensors();
        // What a rank has gathered of its own images.
        let statistics = tensors.iter_mut().filter(|(name, _)| name.contains("running"));
        statistics
            .for_each(|(_, tensor)| tensor.values.iter_mut().for_each(|value| *value += rank as f32 + 0.5));
        network.with_tensors(&tensors).unwrap()
    };
    let (batch, engine) = (NonZeroUsize::new(2).unwrap(), Engine::default());
    let normalisation = normalisation_of(Default::default(), images.training()).unwrap();
    let one = evaluate(&network(0), images.test(), &normalisation, batch, engine).unwrap();
    assert!(one != evaluate(&network(1), images.test(), &normalisation, batch, engine).unwrap());
    for ranks in [2, 3, 5] {
        let all = on_ranks(ranks, |cluster| {
            let network = network(cluster.rank());
            evaluate_on_ranks(&network, images.test(), &normalisation, batch, engine, &cluster).unwrap()
        });
        assert!(all.iter().all(|evaluation| *evaluation == one), "{ranks}: {all:?} {one:?}");
    }
}

#[test]
fn weights_that_differ_are_noticed() {
    let config = NetworkOptions::named("preresnet8").resolve(3).unwrap();
    let digests = [1, 1, 2].map(|seed| digest(&ResNet::init(&config, seed, &Device::flex()).unwrap()));
    assert!(digests[0] == digests[1] && digests[1] != digests[2]);
}
