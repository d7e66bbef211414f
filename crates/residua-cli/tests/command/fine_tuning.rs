//! Runs that begin from another's weights, and of which parts are frozen or learn at other rates.

use std::fs;
use std::path::Path;

use image::RgbImage;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

const RUN: &str = "train --data cifar10:data --model preresnet8 --batch 8 --iterations 4 --warmup none \
    --evaluate-every 4 --checkpoint-every 2 --threads 1";

const TO_FOLDER: &str = "train --data folder:pictures --model preresnet8 --batch 8 --iterations 2 --warmup none \
    --evaluate-every 2 --checkpoint-every 2 --threads 1";

fn file(run: &Path, iteration: u64, name: &str) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/iteration-{iteration:08}/{name}.safetensors"))).unwrap()
}

/// The bytes of each tensor by name.
fn tensors(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<_> =
        tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    tensors.sort();
    tensors
}

/// A folder of three classes.
fn write_pictures(folder: &Path) {
    for split in ["train", "test"] {
        for (class, red) in [("ash", 20), ("elm", 120), ("oak", 220)] {
            let folder = folder.join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..4u8 {
                let picture = RgbImage::from_fn(32, 32, |x, y| {
                    image::Rgb([red, (7 * x) as u8, (5 * y) as u8 + number])
                });
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn weights_for_another_number_of_classes_leave_the_classifier_new_and_say_so() {
    let sandbox = Sandbox::new();
    write_pictures(&sandbox.at("pictures"));
    sandbox.succeed(&format!("{RUN} --out first"));
    let first = tensors(&file(&sandbox.at("first"), 4, "weights"));
    let ended = sandbox.succeed(&format!("{TO_FOLDER} --init first --seed 3 --out next"));
    let expected = "first: 40 tensors loaded, the classifier for 3 classes is new (classifier.bias, classifier.weight); theirs, for 10 \
        classes, is skipped (classifier.bias, classifier.weight)\n";
    let count = first.len() - 2;
    assert!(ended.stderr.contains(&expected.replace("40", &count.to_string())), "{}", ended.stderr);
    sandbox.succeed(&format!("{TO_FOLDER} --seed 3 --out fresh"));
    let [next, fresh] = ["next", "fresh"].map(|run| tensors(&file(&sandbox.at(run), 0, "weights")));
    for (tensor, (from, new)) in next.iter().zip(first.iter().zip(&fresh)) {
        let expected = if tensor.0.starts_with("classifier.") { new } else { from };
        assert!(tensor == expected, "{}", tensor.0);
    }
    let other = TO_FOLDER.replace("preresnet8", "preresnet14");
    let refused = sandbox.run(&format!("{other} --init first --out other"));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("first: the weights do not belong to this network"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_classifier_for_as_many_classes_is_kept_and_told_of_if_they_have_other_names() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out first"));
    let first = tensors(&file(&sandbox.at("first"), 4, "weights"));
    let begun = |run: &str| tensors(&file(&sandbox.at(run), 0, "weights"));
    let same = sandbox.succeed(&format!("{RUN} --init first --out same"));
    assert!(same.stderr.contains(&format!("first: all {} tensors loaded\n", first.len())), "{}", same.stderr);
    let shapes = RUN.replace("cifar10:data", "shapes");
    let kept = sandbox.succeed(&format!("{shapes} --init first --out kept"));
    for part in [
        "the classifier too, though its classes were airplane, automobile, bird, ... and are ",
        "--new-head takes a new one",
    ] {
        assert!(kept.stderr.contains(part), "{part}: {}", kept.stderr);
    }
    sandbox.succeed(&format!("{shapes} --init first --new-head --out new"));
    assert!(begun("same") == first && begun("kept") == first);
    let differing: Vec<_> =
        begun("new").into_iter().zip(&first).filter(|(new, old)| new != *old).map(|(new, _)| new.0).collect();
    assert_eq!(differing, ["classifier.bias", "classifier.weight"]);
}

#[test]
fn frozen_parts_stay_and_runs_with_them_go_on_to_the_same_bits_with_any_threads() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out first"));
    let options = "--init first --freeze stem,stage1 --head-lr 0.5 --layer-decay 0.75 --decay-at none";
    let run = RUN.replace("--iterations 4", "--iterations 2");
    let ended = sandbox.succeed(&format!("{RUN} {options} --out whole"));
    assert!(!ended.stderr.contains("random weights"), "{}", ended.stderr);
    sandbox.succeed(&format!("{run} {options} --out half"));
    sandbox.succeed("train --resume half --iterations 4 --threads 2 --memory lean");
    for name in ["weights", "optimiser"] {
        assert!(file(&sandbox.at("whole"), 4, name) == file(&sandbox.at("half"), 4, name), "{name}");
    }
    let [before, after] =
        [("first", 4), ("whole", 4)].map(|(run, at)| tensors(&file(&sandbox.at(run), at, "weights")));
    let is_frozen = |name: &str| name.starts_with("stem.") || name.starts_with("stages.0.");
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before == after, is_frozen(&before.0), "{}", before.0);
    }
    let momentum = tensors(&file(&sandbox.at("whole"), 4, "optimiser"));
    assert!(!momentum.is_empty() && momentum.iter().all(|(name, _)| !is_frozen(name)));

    let recipe = fs::read_to_string(sandbox.at("whole/recipe.toml")).unwrap();
    let section = "[fine_tuning]\nfrozen = [\"stem\", \"stage1\"]\nclassifier_learning_rate = 0.5\nlayer_decay = 0.75\n";
    assert!(recipe.contains(section), "{recipe}");
    assert!(!fs::read_to_string(sandbox.at("first/recipe.toml")).unwrap().contains("fine_tuning"));
    sandbox.succeed("eval --checkpoint whole");

    let refused = sandbox.run("train --resume half --iterations 6 --freeze stem");
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("--freeze was [\"stem\",\"stage1\"], now [\"stem\"]"),
        "{}",
        refused.stderr
    );
    let random = sandbox.succeed(&format!("{RUN} --freeze stem --out random"));
    assert!(random.stderr.contains("warning: what is frozen stays at random weights"), "{}", random.stderr);
}

#[test]
fn the_memory_that_freezing_saves_is_predicted() {
    let sandbox = Sandbox::new();
    let peak = |options: &str| {
        let summary = sandbox.succeed(&format!("summary --batch 64 --memory fast --json {options}")).stdout;
        let summary: Value = serde_json::from_str(&summary).unwrap();
        summary["training_memory"][0]["peak_bytes"].as_u64().unwrap()
    };
    assert!(peak("--freeze stem,stage1,stage2") < peak("--freeze stem,stage1"));
    assert!(peak("--freeze stem,stage1") < peak(""));
    let bench =
        sandbox.succeed("bench --model preresnet8 --batch 4 --steps 1 --freeze stem,stage1 --json").json();
    assert_eq!(bench["frozen"], json!(["stem", "stage1"]));
}
