//! The rows of the tables, with the published test errors.

use super::row::{DataSet, Published, Row, Trial};
use crate::data::{Augmentation, Crops, View};
use crate::nn::{Block, Ordering, Shortcut};

use Block::{Basic, Bottleneck, Single};
use Published::{Error, Fail, Spread};

/// Table 1.
pub(super) fn shortcuts() -> Vec<Row> {
    let row = |name, label, shortcut, published| Row {
        name,
        label,
        network: "ResNet-110",
        published,
        trial: Some(Trial { shortcut, ..Trial::original(110, Basic) }),
    };
    let scale = |shortcut, residual| Some(Shortcut::ConstantScaling { shortcut, residual });
    let exclusive = |bias| Some(Shortcut::ExclusiveGating { bias });
    let shortcut_only = |bias| Some(Shortcut::ShortcutOnlyGating { bias });
    vec![
        row("identity", "original (identity)", None, Error(6.61)),
        row("scale-0-1", "constant scaling: shortcut 0, F 1 (plain)", scale(0., 1.), Fail),
        row("scale-0.5-1", "constant scaling: shortcut 0.5, F 1", scale(0.5, 1.), Fail),
        row("scale-0.5-0.5", "constant scaling: shortcut 0.5, F 0.5", scale(0.5, 0.5), Error(12.35)),
        // One line in the paper: "fail" for biases of 0 to -5; its ends.
        row("exclusive-gate-0", "exclusive gating, bias 0", exclusive(0.), Fail),
        row("exclusive-gate-5", "exclusive gating, bias -5", exclusive(-5.), Fail),
        row("exclusive-gate-6", "exclusive gating, bias -6", exclusive(-6.), Error(8.70)),
        row("exclusive-gate-7", "exclusive gating, bias -7", exclusive(-7.), Error(9.81)),
        row("shortcut-gate-0", "shortcut-only gating, bias 0", shortcut_only(0.), Error(12.86)),
        row("shortcut-gate-6", "shortcut-only gating, bias -6", shortcut_only(-6.), Error(6.91)),
        row("conv1x1", "1x1 convolution shortcut", Some(Shortcut::Conv1x1), Error(12.22)),
        row("dropout", "dropout shortcut, 0.5", Some(Shortcut::Dropout { probability: 0.5 }), Fail),
    ]
}

/// Table 2.
pub(super) fn activations() -> Vec<Row> {
    let with = |ordering| move |trial: Trial| Trial { ordering: Some(ordering), ..trial };
    let after = with(Ordering::BnAfterAddition);
    let before = with(Ordering::ReluBeforeAddition);
    let only = with(Ordering::ReluOnlyPreActivation);
    let row = |name, label, error, trial: Trial| Row {
        name,
        label,
        network: if trial.depth == 110 { "ResNet-110" } else { "ResNet-164" },
        published: Error(error),
        trial: Some(trial),
    };
    let (basic, bottleneck) = (Trial::original(110, Basic), Trial::original(164, Bottleneck));
    vec![
        row("original-110", "original", 6.61, basic.clone()),
        row("bn-after-add-110", "BN after addition", 8.17, after(basic.clone())),
        row("relu-before-add-110", "ReLU before addition", 7.84, before(basic.clone())),
        row("relu-preact-110", "ReLU-only pre-activation", 6.71, only(basic)),
        row("preact-110", "full pre-activation", 6.37, Trial::proposed(110, Basic)),
        row("original-164", "original", 5.93, bottleneck.clone()),
        row("bn-after-add-164", "BN after addition", 6.50, after(bottleneck.clone())),
        row("relu-before-add-164", "ReLU before addition", 6.14, before(bottleneck.clone())),
        row("relu-preact-164", "ReLU-only pre-activation", 5.91, only(bottleneck)),
        row("preact-164", "full pre-activation", 5.46, Trial::proposed(164, Bottleneck)),
    ]
}

/// Table 3.
pub(super) fn depths() -> Vec<Row> {
    let row = |name, network, published, trial: Trial| Row {
        name,
        label: match (trial.data, trial.is_proposed) {
            (DataSet::Cifar100, false) => "original unit, CIFAR-100",
            (DataSet::Cifar100, true) => "proposed unit, CIFAR-100",
            (_, false) => "original unit, CIFAR-10",
            (_, true) => "proposed unit, CIFAR-10",
        },
        network,
        published,
        trial: Some(trial),
    };
    let hundred = |trial: Trial| Trial { data: DataSet::Cifar100, ..trial };
    let single = "ResNet-110 of 1-layer units";
    let (spread_10, spread_100) = (spread(4.92, 4.89, 0.14), spread(22.71, 22.68, 0.22));
    vec![
        row("original-110-single", single, Error(9.90), Trial::original(110, Single)),
        row("proposed-110-single", single, Error(8.91), Trial::proposed(110, Single)),
        row("original-110", "ResNet-110", Error(6.61), Trial::original(110, Basic)),
        row("proposed-110", "ResNet-110", Error(6.37), Trial::proposed(110, Basic)),
        row("original-164", "ResNet-164", Error(5.93), Trial::original(164, Bottleneck)),
        row("proposed-164", "ResNet-164", Error(5.46), Trial::proposed(164, Bottleneck)),
        row("original-1001", "ResNet-1001", Error(7.61), Trial::original(1001, Bottleneck)),
        row("proposed-1001", "ResNet-1001", spread_10, Trial::proposed(1001, Bottleneck)),
        row("original-164-cifar100", "ResNet-164", Error(25.16), hundred(Trial::original(164, Bottleneck))),
        row("proposed-164-cifar100", "ResNet-164", Error(24.33), hundred(Trial::proposed(164, Bottleneck))),
        row(
            "original-1001-cifar100",
            "ResNet-1001",
            Error(27.82),
            hundred(Trial::original(1001, Bottleneck)),
        ),
        row("proposed-1001-cifar100", "ResNet-1001", spread_100, hundred(Trial::proposed(1001, Bottleneck))),
    ]
}

/// Table 4: the paper's own rows are trained, those of others quoted.
pub(super) fn work_of_others() -> Vec<Row> {
    let quoted =
        |name, label, network, error| Row { name, label, network, published: Error(error), trial: None };
    let own = |name, network, published, trial: Trial| Row {
        name,
        label: if trial.data == DataSet::Cifar10 { "CIFAR-10" } else { "CIFAR-100" },
        network,
        published,
        trial: Some(trial),
    };
    let proposed = |depth| Trial::proposed(depth, Bottleneck);
    let hundred = |trial: Trial| Trial { data: DataSet::Cifar100, ..trial };
    vec![
        quoted("nin", "CIFAR-10", "NIN", 8.81),
        quoted("dsn", "CIFAR-10", "DSN", 8.22),
        quoted("fitnet", "CIFAR-10", "FitNet", 8.39),
        quoted("highway", "CIFAR-10", "Highway", 7.72),
        quoted("all-cnn", "CIFAR-10", "All-CNN", 7.25),
        quoted("elu", "CIFAR-10", "ELU", 6.55),
        quoted("fitresnet", "CIFAR-10", "FitResNet, LSUV", 5.84),
        // The best of its five runs is 6.43.
        own("resnet-110", "ResNet-110", Error(6.61), Trial::original(110, Basic)),
        quoted("resnet-1202", "CIFAR-10", "ResNet-1202", 7.93),
        own("proposed-164", "ResNet-164, proposed", Error(5.46), proposed(164)),
        own("proposed-1001", "ResNet-1001, proposed", spread(4.92, 4.89, 0.14), proposed(1001)),
        own(
            "proposed-1001-batch-64",
            "ResNet-1001, proposed, mini-batch 64",
            spread(4.62, 4.69, 0.20),
            Trial { batch: 64, ..proposed(1001) },
        ),
        quoted("nin-cifar100", "CIFAR-100", "NIN", 35.68),
        quoted("dsn-cifar100", "CIFAR-100", "DSN", 34.57),
        quoted("fitnet-cifar100", "CIFAR-100", "FitNet", 35.04),
        quoted("highway-cifar100", "CIFAR-100", "Highway", 32.39),
        quoted("all-cnn-cifar100", "CIFAR-100", "All-CNN", 33.71),
        quoted("elu-cifar100", "CIFAR-100", "ELU", 24.28),
        quoted("fitresnet-cifar100", "CIFAR-100", "FitResNet, LSUV", 27.66),
        own("proposed-164-cifar100", "ResNet-164, proposed", Error(24.33), hundred(proposed(164))),
        own(
            "proposed-1001-cifar100",
            "ResNet-1001, proposed",
            spread(22.71, 22.68, 0.22),
            hundred(proposed(1001)),
        ),
    ]
}

/// Table 5.
pub(super) fn imagenet() -> Vec<Row> {
    let trial = |is_proposed, depth, augmentation, side: usize| Trial {
        is_proposed,
        data: DataSet::ImageNet,
        batch: 256,
        augmentation: Some(augmentation),
        // Pictures scaled to 256 are what tests during training see anyway.
        view: (side == 320).then_some(View {
            height: 320,
            width: 320,
            shorter_side: 320,
            crops: Crops::Centre,
        }),
        ..Trial::original(depth, Bottleneck)
    };
    let row =
        |name, label, network, error, trial| Row { name, label, network, published: Error(error), trial };
    let (scale, aspect) = (Augmentation::Scale, Augmentation::ScaleAspect);
    let (label_224, label_320) = ("original, scale, tested at 224", "original, scale, tested at 320");
    let proposed = "proposed, scale, tested at 320";
    vec![
        row("original-152-224", label_224, "ResNet-152", 23.0, Some(trial(false, 152, scale, 224))),
        row("original-152-320", label_320, "ResNet-152", 21.3, Some(trial(false, 152, scale, 320))),
        row("proposed-152-320", proposed, "ResNet-152", 21.1, Some(trial(true, 152, scale, 320))),
        row("original-200-320", label_320, "ResNet-200", 21.8, Some(trial(false, 200, scale, 320))),
        row("proposed-200-320", proposed, "ResNet-200", 20.7, Some(trial(true, 200, scale, 320))),
        row(
            "proposed-200-320-aspect",
            "proposed, scale and aspect, tested at 320",
            "ResNet-200",
            20.1,
            Some(trial(true, 200, aspect, 320)),
        ),
        row("inception-v3", "scale and aspect, tested at 299", "Inception-v3", 21.2, None),
    ]
}

/// Figure 1.
pub(super) fn very_deep() -> Vec<Row> {
    let row = |name, label, published, trial| Row {
        name,
        label,
        network: "ResNet-1001",
        published,
        trial: Some(Trial { is_about_the_beginning: true, ..trial }),
    };
    vec![
        row("original", "original unit", Error(7.61), Trial::original(1001, Bottleneck)),
        row("proposed", "proposed unit", spread(4.92, 4.89, 0.14), Trial::proposed(1001, Bottleneck)),
    ]
}

/// The rows with these names.
pub(super) fn some(rows: &[Row], names: &[&str]) -> Vec<Row> {
    rows.iter().filter(|row| names.contains(&row.name)).cloned().collect()
}

fn spread(median: f64, mean: f64, deviation: f64) -> Published {
    Spread { median, mean, deviation }
}
