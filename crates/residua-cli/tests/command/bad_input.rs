//! Every mistake is answered by one error that names the option or file and the remedy.

use std::fs;

use crate::sandbox::Sandbox;
use crate::tiny_cifar::RECORD;

const RUN: &str =
    "train --data cifar10:data --model preresnet8 --batch 8 --iterations 4 --warmup none --threads 1";

/// Asserts that `residua` refuses `line` with this exit code, in one error that holds all `parts`, and leaves nothing
/// half-written behind.
#[track_caller]
pub(crate) fn assert_refused(sandbox: &Sandbox, code: i32, line: &str, parts: &[&str]) {
    let ended = sandbox.run(line);
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!((ended.code, errors), (Some(code), 1), "residua {line}\n{}", ended.stderr);
    assert_eq!(ended.stdout, "", "residua {line}");
    for part in parts {
        assert!(ended.stderr.contains(part), "residua {line}: no '{part}' in\n{}", ended.stderr);
    }
    for word in ["panicked", "RUST_BACKTRACE", "Some(", "Err("] {
        assert!(!ended.stderr.contains(word), "residua {line}\n{}", ended.stderr);
    }
    assert_eq!(sandbox.half_written().len(), 0, "residua {line} leaves {:?}", sandbox.half_written());
}

#[test]
fn misspelt_words_are_answered_with_the_nearest_right_one() {
    let sandbox = Sandbox::new();
    for (line, parts) in [
        ("trian", ["'trian'", "'train'"]),
        ("train --modle resnet20", ["'--modle'", "'--model'"]),
        ("train --model renset20", ["--model renset20", "did you mean 'resnet20'?"]),
        ("train --ordering ful-preactivation", ["--ordering", "did you mean 'preact'?"]),
        ("train --shortcut scal", ["--shortcut", "did you mean 'scale'?"]),
        ("summary --model preresnt110", ["--model preresnt110", "did you mean 'preresnet110'?"]),
        ("bench --model ResNet20", ["--model ResNet20", "did you mean 'resnet20'?"]),
        ("summary --model WRN_28_10", ["--model WRN_28_10", "did you mean 'wrn-28-10'?"]),
        ("train --ordering pre-act", ["--ordering", "did you mean 'preact'?"]),
        ("train --shortcut dropuot:0.5", ["--shortcut", "did you mean 'dropout'?"]),
        ("train --block botleneck", ["--block", "did you mean 'bottleneck'?"]),
        ("train --data cifar", ["--data", "cifar10"]),
        ("train --data shape", ["--data", "shapes"]),
        ("train --normalisation chanel", ["--normalisation", "channel"]),
        ("train --device cdua", ["--device", "did you mean 'cuda'?"]),
        ("train --memory leen", ["--memory", "did you mean 'lean'?"]),
        ("train --trunk bf61", ["--trunk", "did you mean 'bf16'?"]),
        ("train --engine fusde", ["--engine", "did you mean 'fused'?"]),
        ("train --recipe quik", ["--recipe", "did you mean 'quick'?"]),
        ("train --decays al", ["--decays", "did you mean 'all'?"]),
        ("bench --mode trian", ["--mode", "did you mean 'train'?"]),
        ("propagate preresnt20", ["error: preresnt20: unknown model", "there is no folder preresnt20"]),
        ("cost resnet20 preresnt20", ["error: preresnt20: unknown model", "did you mean 'preresnet20'?"]),
        ("completions bas", ["<SHELL>", "'bash'"]),
    ] {
        assert_refused(&sandbox, 2, line, &parts);
    }
}

#[test]
fn impossible_values_are_named_by_their_option_with_what_is_possible() {
    let sandbox = Sandbox::new();
    for (line, parts) in [
        ("train --model resnet21", ["--model resnet21", "6n+2 (nearest: 20 and 26)"]),
        ("summary --model preresnet31", ["--model preresnet31", "9n+2 (nearest: 29 and 38)"]),
        (
            "train --model wrn-27-10",
            ["--model wrn-27-10", "6n+4, such as 16, 22, 28 or 40 (nearest: 22 and 28)"],
        ),
        ("summary --model wrn-28-0", ["--model wrn-28-0: a width of 0", "from 1 to 1024"]),
        ("summary --model preresnet20 --width 2000", ["a width of 2000", "from 1 to 1024"]),
        ("summary --width 0", ["--width", "1 or more"]),
        ("summary --model wrn-40-400", ["width 400 at depth 38 makes ", " weights in convolutions"]),
        ("train --model wrn-28-10 --width 4", ["wrn-28-10 has width 10, not 4", "leave the width out"]),
        (
            "train --model wrn-28-10 --block bottleneck",
            ["wrn-28-10 is a CIFAR network of basic units", "with a width"],
        ),
        (
            "train --model wrn-28-100 --memory 4GiB",
            ["--memory: training on batches of 128 does not fit in 4.29GB", "lean "],
        ),
        ("cost preresnet20/width:x", ["preresnet20/width:x: width:x: ", "1 or more"]),
        ("train --model resnet50 --block basic", ["--model resnet50", "leave the block out"]),
        ("summary --size 33x33", ["--size: input of 33x33", "nearest: 32x32"]),
        ("summary --size 40000", ["--size", "1 to 16384"]),
        ("summary --batch 18446744073709551615", ["--batch", "write a smaller number"]),
        ("summary --size big", ["--size", "such as 32x32"]),
        ("summary --classes 0", ["--classes", "1 or more"]),
        ("train --shortcut scale:0.5", ["--shortcut", "such as scale:0.5,0.5"]),
        ("train --shortcut dropout:1", ["--shortcut", "below 1"]),
        (
            "train --trunk bf16 --shortcut scale:0.5,0.5",
            ["--model preresnet20: a trunk of bf16", "shortcut scale:0.5,0.5; train with a trunk of f32"],
        ),
        ("train --data folder", ["--data", "folder:DIR"]),
        ("train --device cuda:x", ["--device", "such as cuda:0"]),
        ("train --batch 0", ["--batch = 0", "at least 1"]),
        ("train --batch 8 --bn-group 3", ["--batch = 8", "--bn-group = 3; use a multiple of it"]),
        ("train --bn-group 0", ["--bn-group", "1 or more"]),
        ("bench --batch 0", ["--batch", "1 or more"]),
        ("train --memory 4", ["--memory", "such as 4GiB, 2.5GB or 800MB"]),
        ("train --memory 10MB", ["--memory: training on batches of 128 does not fit in 10.0MB", "lean "]),
        (
            "bench --batch 8 --memory 1KB",
            ["--memory: training on batches of 8 does not fit in 1.0KB", "lean "],
        ),
        ("summary --batch 8 --memory 1MiB", ["--memory", "does not fit in 1.0MB: it takes fast "]),
        ("summary --memory lean", ["--batch", "required"]),
        (
            "bench --model preresnet1001 --batch 10000000",
            [
                "--memory: training on batches of 10000000 does not fit in ",
                "GB of free memory: it takes fast ",
            ],
        ),
        ("paper run fig1 --budget smoke --data shapes --memory 1MB", ["--memory: training", "fit in 1.0MB"]),
        ("bench --batch 8 --bn-group 3", ["--batch: a batch of 8", "groups of 3; make it a multiple of 3"]),
        ("bench --model resnet18 --size 32 --batch 1", ["--batch: one value per channel", "larger batches"]),
        ("bench --model inception-v3 --ordering preact", ["inception-v3", "leave out what refines it"]),
        ("propagate resnet8/scale:nan,1", ["resnet8/scale:nan,1: ", "such as scale:0.5,0.5"]),
        ("cost resnet20/scael:1,1", ["'scael:1,1' is no ordering", "did you mean 'scale'?"]),
        ("eval --checkpoint run --max-unreadable 2", ["--max-unreadable", "from 0 to 1"]),
        ("eval --checkpoint run --max-unreadable nan", ["--max-unreadable", "from 0 to 1"]),
        ("train --lr nan", ["--lr = NaN", "finite number, at least 0"]),
        ("train --lr -1", ["--lr = -1", "finite number, at least 0"]),
        ("train --lr fast", ["'fast' for '--lr", "float"]),
        ("train --stochastic-depth 1", ["--stochastic-depth = 1", "below 1, usually up to 0.5"]),
        ("train --dropout 1.5", ["--dropout = 1.5", "at least 0 and below 1"]),
        ("train --stochastic-depth nan", ["--stochastic-depth = NaN", "at least 0 and below 1"]),
        (
            "train --stochastic-depth 0.5 --shortcut scale:0.5,1",
            ["--stochastic-depth = 0.5: stochastic depth wants units that add", "not shortcut scale:0.5,1"],
        ),
        ("train --momentum 1", ["--momentum = 1", "below 1"]),
        ("train --momentum 0 --nesterov", ["nesterov", "above 0"]),
        ("train --weight-decay inf", ["--weight-decay = inf", "finite number"]),
        ("train --decay-at 1;2", ["--decay-at", "such as 4000,6000"]),
        ("train --decay-at 20,10", ["--decay-at = [20, 10]", "later than the one before"]),
        ("train --warmup 400", ["--warmup", "such as 400:0.01"]),
        ("train --warmup 400:0.01:gradully", ["--warmup", "5epochs:0.01:gradual, or none"]),
        ("train --warmup 5epoks:0.01", ["--warmup", "such as 400:0.01"]),
        ("train --decay-at 30epochs,nan%", ["--decay-at", "30epochs,60epochs, or 50%,75%"]),
        ("train --schedule cosin", ["--schedule", "did you mean 'cosine'?"]),
        ("train --schedule cosine --decay-at 5", ["--decay-at = [5]", "not for --schedule = cosine"]),
        ("train --schedule linear --decay-factor 0.5", ["--decay-factor = 0.5", "leave one of them out"]),
        ("train --schedule one-cycle --warmup 5:0.1", ["--warmup (iterations) = 5", "rises by itself"]),
        ("train --schedule cosine --min-lr 0.2", ["--min-lr = 0.2", "at most the learning rate"]),
        ("train --schedule cosine --min-lr nan", ["--min-lr = NaN", "finite number"]),
        ("train --min-lr 0.01", ["--min-lr = 0.01", "not for --schedule = step"]),
        ("train --decay-factor 0", ["--decay-factor = 0", "above 0 and at most 1"]),
        ("train --warmup 4:nan", ["--warmup (learning rate) = NaN", "finite number"]),
        ("train --loss crossentropy", ["--loss", "did you mean 'cross-entropy'?"]),
        ("train --label-smoothing 1", ["--label-smoothing = 1", "below 1"]),
        ("train --label-smoothing nan", ["--label-smoothing = NaN", "usually 0.1"]),
        ("train --class-weights none.csv", ["--class-weights none.csv", "line CLASS,WEIGHT"]),
        ("train --accumulate 0", ["--accumulate = 0", "at least 1"]),
        ("train --accumulate 100000", ["--accumulate = 100000", "at most 65536"]),
        ("train --clip-norm 0", ["--clip-norm = 0", "above 0"]),
        ("train --ema 1", ["--ema = 1", "usually 0.999"]),
        ("train --validation 1.5", ["'1.5' says not which images", "such as 5000"]),
        ("train --patience 3", ["--patience = 3", "hold some out by --validation"]),
        ("train --patience 0 --validation 9", ["--patience = 0", "at least 1"]),
        ("train --optimiser adam", ["--optimiser", "did you mean 'adamw'?"]),
        ("train --optimiser adamw --nesterov", ["nesterov", "leave one of them out"]),
        ("train --betas 0.9", ["--betas", "such as 0.9,0.999"]),
        ("train --betas 0.9,1", ["--betas (second) = 1", "below 1"]),
        ("train --sampling balanced --no-shuffle", ["--sampling = balanced", "leave one of them out"]),
        ("train --mixup 0", ["--mixup = 0", "at least 0.01"]),
        ("train --cutmix nan", ["--cutmix = NaN", "usually 0.2 or 1"]),
        ("train --freeze stem,stge1", ["--freeze", "did you mean 'stage1'?"]),
        ("train --freeze stem,", ["--freeze", "choose one of: stem, stage1"]),
        (
            "train --freeze stage4",
            ["--freeze = stage4: the network has no stage4", "stage3, norm, classifier"],
        ),
        (
            "train --model resnet20 --freeze norm",
            ["--freeze = norm", "its parts are stem, stage1, stage2, stage3, cl"],
        ),
        (
            "train --freeze stem,stage1,stage2,stage3,norm,classifier",
            ["--freeze = stem", "nothing is left to train; leave at least one part out"],
        ),
        ("summary --batch 8 --freeze stage4", ["--freeze: the network has no stage4", "stem, stage1"]),
        ("summary --freeze stem", ["--batch", "required"]),
        ("bench --batch 8 --freeze stage4", ["--freeze: the network has no stage4", "stem, stage1"]),
        ("bench --mode infer --freeze stem", ["--freeze", "--mode train"]),
        ("train --freeze classifier --head-lr 0.1", ["--head-lr = 0.1", "the classifier is frozen"]),
        ("train --lr 0 --head-lr 0.1", ["--head-lr = 0.1", "--lr, which must be above 0"]),
        ("train --head-lr nan", ["--head-lr = NaN", "finite number"]),
        ("train --layer-decay 0", ["--layer-decay = 0", "at most 1"]),
        ("train --layer-decay 2", ["--layer-decay = 2", "at most 1"]),
        ("train --new-head", ["--init", "required"]),
        ("train --resume run --init other", ["--resume", "--init"]),
        ("train --iterations 0", ["--iterations = 0", "at least 1"]),
        ("train --epochs 0", ["--epochs", "1 or more"]),
        ("train --epochs 1 --iterations 3", ["--epochs", "--iterations"]),
        ("train --evaluate-every 0", ["--evaluate-every = 0", "at least 1"]),
        ("train --keep 0", ["--keep = 0", "at least 1"]),
        ("train --watch 0", ["--watch", "1 or more"]),
        ("train --threads 0", ["--threads", "1 or more"]),
        ("train --threads 100000", ["--threads", "up to 1024"]),
        ("train --workers 1025", ["--workers", "up to 1024"]),
        ("bench --callers 5000", ["--callers", "up to 1024"]),
        ("train --seed -1", ["--seed", "-1"]),
        ("train --resume run --out other", ["--resume", "--out"]),
        ("eval", ["--checkpoint", "required"]),
        ("predict --checkpoint run", ["<IMAGE>", "required"]),
        ("predict --checkpoint run --top 0 a.png", ["--top", "1 or more"]),
    ] {
        assert_refused(&sandbox, 2, line, &parts);
    }
}

#[test]
fn negative_numbers_are_answered_by_what_the_option_takes() {
    let sandbox = Sandbox::new();
    for (line, parts) in [
        ("train --batch -1", ["'-1' for '--batch <N>'", "a whole number that is not negative"]),
        ("train --iterations -5", ["'-5' for '--iterations <N>'", "a whole number that is not negative"]),
        ("train --epochs -1", ["'-1' for '--epochs <N>'", "1 or more"]),
        ("train --max-unreadable -0.1", ["--max-unreadable = -0.1", "at least 0"]),
        ("train --decay-at -3", ["'-3' for '--decay-at", "such as 4000,6000"]),
        ("train --warmup -3:0.1", ["'-3:0.1' for '--warmup", "such as 400:0.01"]),
        ("train --threads -1", ["'-1' for '--threads <N>'", "1 or more"]),
        ("summary --size -1", ["'-1' for '--size <HxW>'", "such as 32x32"]),
        ("summary --classes -1", ["'-1' for '--classes <N>'", "1 or more"]),
        ("bench --callers -1", ["'-1' for '--callers <N>'", "1 or more"]),
        ("eval --checkpoint run --max-unreadable -1", ["'-1' for '--max-unreadable", "from 0 to 1"]),
        ("predict --checkpoint run --top -1 a.png", ["'-1' for '--top <K>'", "1 or more"]),
        ("propagate resnet20 --batches -1", ["'-1' for '--batches <N>'", "1 or more"]),
        ("propagate resnet20 --seed -1", ["'-1' for '--seed <N>'", "a whole number that is not negative"]),
        ("paper run table1 --runs -1", ["'-1' for '--runs <N>'", "1 or more"]),
        ("cost resnet20 --steps -1", ["'-1' for '--steps <N>'", "1 or more"]),
    ] {
        assert_refused(&sandbox, 2, line, &parts);
    }
}

#[test]
fn nothing_is_an_answer_like_any_other() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("summary --model", "--model '': unknown model ''"),
        ("train --ordering", "unknown ordering ''; choose one of: original"),
        ("train --data", "unknown data set ''; choose one of: shapes"),
        ("train --batch", "'' for '--batch <N>': write a whole number"),
        ("train --out", "a value is required for '--out <DIR>'"),
        ("eval --checkpoint", "a value is required for '--checkpoint <RUN|FILE>'"),
        ("cost", "'': unknown model ''"),
        ("propagate", "(and there is no folder '')"),
        ("paper list", "unknown experiment ''; choose one of: table1"),
    ] {
        let output = sandbox.command(line).arg("").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(part), "residua {line} ''\n{stderr}");
    }
}

#[test]
fn a_depth_of_too_many_digits_is_not_suggested_again() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run("summary --model preresnet99999999");
    assert!(ended.code == Some(2) && !ended.stderr.contains("did you mean"), "{}", ended.stderr);
}

#[test]
fn folders_without_runs_are_named() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.at("file"), "").unwrap();
    for folder in ["file", "none"] {
        let unlisted = format!("cannot list {folder}: ");
        for line in [format!("runs {folder}"), format!("cost resnet20 --counts-only --runs {folder}")] {
            assert_refused(&sandbox, 1, &line, &[&unlisted, "give a folder that holds runs"]);
        }
        let no_run = format!("{folder} holds no run; give a folder that `residua train` has made");
        assert_refused(&sandbox, 1, &format!("report {folder}"), &[&no_run]);
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_in_the_build_is_named_with_its_feature() {
    let sandbox = Sandbox::new();
    for line in ["train --out run", "bench", "eval --checkpoint x", "predict --checkpoint x a.png"] {
        let line = format!("{line} --device cuda");
        assert_refused(&sandbox, 1, &line, &["no cuda support", "--features cuda", "--device cpu"]);
    }
    assert!(!sandbox.at("run").exists());
}

#[test]
fn a_recipe_file_is_answered_by_its_line() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    let recipe = fs::read_to_string(sandbox.at("run/recipe.toml")).unwrap();
    for (right, wrong, parts) in [
        ("momentum = 0.9", "momentun = 0.9", ["bad.toml", "momentun", "did you mean `momentum`?"]),
        ("batch = 8", "batch = \"x\"", ["bad.toml", "batch = \"x\"", "invalid type"]),
        ("batch = 8", "batch = 0", ["bad.toml", "optimiser.batch = 0", "at least 1"]),
        ("\"preact\"", "\"pre-act\"", ["bad.toml", "pre-act", "did you mean 'preact'?"]),
        ("[data]", "[data", ["bad.toml", "[data", "parse error"]),
    ] {
        let text = recipe.replacen(right, wrong, 1);
        assert_ne!(text, recipe);
        fs::write(sandbox.at("bad.toml"), text).unwrap();
        assert_refused(&sandbox, 1, "train --recipe bad.toml --out other", &parts);
    }
    assert_refused(&sandbox, 1, "train --recipe none.toml", &["cannot read none.toml", "check the path"]);
    assert_refused(&sandbox, 1, "train --recipe run", &["cannot read run", "give a file"]);
    assert!(!sandbox.at("other").exists());
}

#[test]
fn damaged_data_is_named_by_its_file() {
    let sandbox = Sandbox::new();
    let file = sandbox.at("data/data_batch_3.bin");
    let whole = fs::read(&file).unwrap();
    let line = format!("{RUN} --out run");

    fs::remove_file(&file).unwrap();
    assert_refused(&sandbox, 1, &line, &["missing data_batch_3.bin", "data", "download"]);
    fs::write(&file, "").unwrap();
    assert_refused(&sandbox, 1, &line, &["data_batch_3.bin", "is empty", "again"]);
    fs::write(&file, &whole[..2 * RECORD + 100]).unwrap();
    assert_refused(&sandbox, 1, &line, &["data_batch_3.bin", "truncated", "2 records", "again"]);
    let mut garbage = whole.clone();
    garbage[RECORD] = 77;
    fs::write(&file, garbage).unwrap();
    assert_refused(&sandbox, 1, &line, &["data_batch_3.bin", "record 1", "label 77", "0 to 9"]);
    fs::write(&file, whole).unwrap();
    fs::write(sandbox.at("data/batches.meta.txt"), "cat\ndog\n").unwrap();
    assert_refused(&sandbox, 1, &line, &["batches.meta.txt", "10 classes", "it has 2"]);

    let nowhere = line.replace("cifar10:data", "cifar10:nowhere");
    assert_refused(&sandbox, 1, &nowhere, &["nowhere", "download", "tar -xzf"]);
    let archive = line.replace("cifar10:data", "cifar10:data/test_batch.bin");
    assert_refused(&sandbox, 1, &archive, &["test_batch.bin", "is a file where a folder was expected"]);
    let other = line.replace("cifar10:data", "cifar100:data");
    assert_refused(&sandbox, 1, &other, &["CIFAR-100", "train.bin", "download"]);
    assert!(!sandbox.at("run").exists());
}

#[test]
fn pictures_that_are_none_are_named_and_the_others_go_on() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    fs::write(sandbox.at("empty.png"), "").unwrap();
    fs::write(sandbox.at("text.png"), "no picture").unwrap();
    let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([200, 10, 10]));
    picture.save(sandbox.at("good.png")).unwrap();
    picture.save(sandbox.at("good.jpg")).unwrap();
    for name in ["good.png", "good.jpg"] {
        let bytes = fs::read(sandbox.at(name)).unwrap();
        fs::write(sandbox.at(name.replace("good", "cut")), &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    for (name, part) in [
        ("none.png", "check the path"),
        ("empty.png", "is empty"),
        ("text.png", "give a whole JPEG, PNG, WebP, BMP or GIF file"),
        ("cut.png", "give a whole JPEG, PNG, WebP, BMP or GIF file"),
        ("cut.jpg", "give a whole JPEG, PNG, WebP, BMP or GIF file"),
        ("data", "there is no picture in data"),
        ("no*.png", "there is no picture in no*.png"),
    ] {
        assert_refused(&sandbox, 1, &format!("predict --checkpoint run {name}"), &[name, part]);
    }
    let ended = sandbox.run("predict --checkpoint run none.png good.png text.png good.jpg --json");
    assert_eq!((ended.code, ended.stdout.lines().count(), ended.stderr.lines().count()), (Some(1), 2, 2));
}

#[test]
fn weights_that_are_none_are_named_by_their_file() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    let file = "run/checkpoints/iteration-00000004/weights.safetensors";
    let whole = fs::read(sandbox.at(file)).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut unnamed = whole.clone();
    let position = whole.windows(15).position(|part| part == b"residua.network").unwrap();
    unnamed[position] = b'x';
    for (name, bytes) in [
        ("short.safetensors", &whole[..whole.len() - 1]),
        ("header.safetensors", &whole[..header / 2]),
        ("empty.safetensors", &[]),
        ("text.safetensors", b"these are no weights, but a longer line of text"),
        ("unnamed.safetensors", &unnamed),
    ] {
        fs::write(sandbox.at(name), bytes).unwrap();
        assert_refused(&sandbox, 1, &format!("eval --checkpoint {name} --data cifar10:data"), &[name]);
        if name != "unnamed.safetensors" {
            assert_refused(&sandbox, 1, &format!("{RUN} --init {name} --out other"), &[name]);
        }
    }
    fs::write(sandbox.at("alone.safetensors"), &whole).unwrap();
    assert_refused(&sandbox, 2, "eval --checkpoint alone.safetensors", &["alone.safetensors", "--data"]);
    assert_refused(&sandbox, 1, "eval --checkpoint none", &["none", "no such file", "give a run's folder"]);
    assert_refused(&sandbox, 1, "eval --checkpoint data", &["data", "no checkpoint", "give a run's folder"]);
    assert_refused(&sandbox, 1, &format!("{RUN} --init none --out other"), &["none", "no such file"]);

    let mut flipped = whole.clone();
    flipped[header + 1000] ^= 1;
    fs::write(sandbox.at(file), flipped).unwrap();
    let damaged = [file, "is damaged", "SHA256SUMS", "use another checkpoint"];
    for checkpoint in ["run", "run/checkpoints/iteration-00000004", file] {
        assert_refused(&sandbox, 1, &format!("eval --checkpoint {checkpoint}"), &damaged);
        assert_refused(&sandbox, 1, &format!("predict --checkpoint {checkpoint} a.png"), &damaged);
        assert_refused(&sandbox, 1, &format!("{RUN} --init {checkpoint} --out other"), &damaged);
    }
    assert!(!sandbox.at("other").exists());
}

#[test]
fn folders_that_are_no_place_for_a_run_are_named() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{RUN} --out run"));
    fs::write(sandbox.at("file"), "").unwrap();
    fs::create_dir(sandbox.at("empty")).unwrap();
    assert_refused(
        &sandbox,
        1,
        &format!("{RUN} --out run"),
        &["run already holds a run", "--resume run", "--out"],
    );
    for place in ["file", "file/below"] {
        assert_refused(&sandbox, 1, &format!("{RUN} --out {place}"), &[place, "choose another with --out"]);
    }
    for place in ["empty", "file", "none"] {
        let line = format!("train --resume {place}");
        assert_refused(&sandbox, 1, &line, &[place, "holds no run", "--out"]);
    }
    assert_refused(&sandbox, 1, "train --resume run", &["has done 4 of 4", "give a larger --iterations"]);
    assert!(fs::read_dir(sandbox.at("empty")).unwrap().next().is_none());
}

#[test]
fn a_diverging_run_names_iteration_learning_rate_and_the_last_checkpoint() {
    let sandbox = Sandbox::new();
    let line =
        format!("{RUN} --lr 1e6 --checkpoint-every 1 --out run").replace("--iterations 4", "--iterations 50");
    let parts =
        ["training diverged", "at iteration ", "learning rate 1000000", "lower --lr", "longer --warmup"];
    assert_refused(&sandbox, 1, &line, &parts);
    let ended = sandbox.run("train --resume run");
    let (_, rest) = ended.stderr.split_once("the last checkpoint is ").expect(&ended.stderr);
    let checkpoint = rest.split(',').next().unwrap();
    // It is whole. What steps of such a rate have made of it may say nothing, and then it is not measured.
    sandbox.succeed(&format!("export {checkpoint} --to safetensors --out whole.safetensors"));
    let ended = sandbox.run(&format!("eval --checkpoint {checkpoint}"));
    let is_named = ended.stderr.contains("is no number: its training has diverged");
    assert!(ended.code == Some(if is_named { 1 } else { 0 }), "{ended:?}");
}

#[test]
fn instructions_and_algorithms_that_there_are_not_are_refused() {
    let sandbox = Sandbox::new();
    for line in [
        RUN,
        "bench --model preresnet8 --batch 2 --steps 1",
        "bench --model preresnet8 --batch 2 --mode infer",
    ] {
        for (variable, given, remedy) in
            [("RESIDUA_INSTRUCTIONS", "avx521", "portable"), ("RESIDUA_ALGORITHM", "fft", "winograd, direct")]
        {
            let output = sandbox.command(line).env(variable, given).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "residua {line}\n{stderr}");
            let told = format!("error: {variable}: '{given}'");
            assert_eq!(stderr.lines().filter(|line| line.starts_with(&told)).count(), 1, "{stderr}");
            assert!(stderr.contains(remedy) && !stderr.contains("panicked"), "{stderr}");
        }
    }
}

#[test]
fn bfloat16_where_nothing_computes_in_it_is_refused() {
    let sandbox = Sandbox::new();
    let infer = "bench --model preresnet8 --batch 2 --steps 1 --mode infer --precision bf16";
    for (line, reason) in [
        (format!("{infer} --engine composed"), "--precision bf16 is for --device cpu and --engine fused"),
        (
            format!("{} --engine composed", infer.replace("infer", "train")),
            "--precision: training in bf16 is for the CPU and its fused operations; train in f32",
        ),
        (
            format!("{} --shortcut scale:0.5,0.5", infer.replace("infer", "train")),
            "training in bf16 wants units that add branch and shortcut as they are",
        ),
        (infer.replace("preresnet8", "inception-v3"), "--model inception-v3 is one network"),
        (infer.replace("bf16", "bf61"), "unknown precision 'bf61' (did you mean 'bf16'?)"),
    ] {
        let output = sandbox.command(&line).env("RESIDUA_INSTRUCTIONS", "portable").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "residua {line}\n{stderr}");
        assert!(stderr.contains(reason), "residua {line}\n{stderr}");
    }
    if cfg!(target_arch = "x86_64") {
        for line in [infer.to_owned(), infer.replace("infer", "train"), format!("{RUN} --precision bf16")] {
            let output = sandbox.command(&line).env("RESIDUA_INSTRUCTIONS", "avx2").output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "residua {line}\n{stderr}");
            let told =
                "wants a processor with AMX under Linux, and the instruction set avx512 (here it is avx2)";
            assert!(stderr.contains(told), "residua {line}\n{stderr}");
        }
    }
}
