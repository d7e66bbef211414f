//! Is depth worth its time? What networks cost, beside the error that they reach.

use serde::Serialize;

use super::paper::Published;
use crate::nn::{InceptionConfig, Layout, NetworkError, NetworkOptions};
use crate::report::RunSummary;
use crate::run::RunState;
use residua_infer::words;

/// The networks that the papers have errors of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostSet {
    /// 20 to 1001 layers on CIFAR-10.
    Cifar,
    /// Depth against width on CIFAR-10 and CIFAR-100.
    Wide,
    /// 18 to 200 layers and Inception-v3 on ImageNet.
    ImageNet,
}

words!(CostSet, "set", {
    Cifar => "cifar": "20 to 1001 layers",
    Wide => "wide": "depth against width: 110 to 1001 layers, and 16 to 40 layers of up to ten times the channels",
    ImageNet => "imagenet": "18 to 200 layers, and Inception-v3",
});

impl CostSet {
    /// The usual networks to compare.
    pub fn networks(self) -> &'static [&'static str] {
        match self {
            Self::Cifar => &[
                "resnet20",
                "resnet32",
                "resnet44",
                "resnet56",
                "resnet110",
                "preresnet110",
                "resnet164",
                "preresnet164",
                "resnet1001",
                "preresnet1001",
            ],
            Self::Wide => &[
                "preresnet110",
                "preresnet164",
                "preresnet1001",
                "wrn-40-1",
                "wrn-40-2",
                "wrn-40-4",
                "wrn-40-8",
                "wrn-16-8",
                "wrn-16-10",
                "wrn-22-8",
                "wrn-22-10",
                "wrn-28-10",
                "wrn-28-12",
            ],
            Self::ImageNet => &[
                "resnet18",
                "resnet34",
                "resnet50",
                "resnet101",
                "resnet152",
                "preresnet152",
                "resnet200",
                "preresnet200",
                Compared::INCEPTION,
            ],
        }
    }
}

/// A network that is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Compared {
    /// A residual network.
    Residual(NetworkOptions),
    /// Inception-v3, for 1000 classes and images of 299x299.
    Inception,
}

/// What a network costs, and its error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Its name.
    pub name: String,
    /// Height and width of its images.
    pub side: usize,
    /// Trained values; Inception's auxiliary classifier does not count.
    pub parameters: u64,
    /// Multiply-adds for an image in inference.
    pub multiply_adds: u64,
    /// Published test error in percent: on CIFAR-10 the median of five runs, on ImageNet top-1 of single crops.
    pub published: Option<Published>,
    /// The same network's on CIFAR-100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_cifar100: Option<Published>,
    /// That of runs of one's own.
    pub ours: Option<OwnError>,
    /// Training on this machine.
    pub training: Option<Speed>,
    /// Inference on this machine.
    pub inference: Option<Speed>,
}

/// Test error of runs of one's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnError {
    /// Median in percent.
    pub error: f64,
    /// How many runs.
    pub runs: usize,
    /// Iterations of each.
    pub iterations: u64,
    /// Their data set.
    pub data: String,
}

/// What was measured on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Of the median step.
    pub images_per_second: f64,
    /// Images of a batch.
    pub batch: usize,
    /// Largest resident memory of the process.
    pub peak_memory_bytes: Option<u64>,
}

impl Compared {
    /// What Inception-v3 is called.
    pub const INCEPTION: &'static str = "inception-v3";

    /// Counts the network and looks its published error up; nothing is measured.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn cost(&self, name: &str) -> Result<Cost, NetworkError> {
        let (side, parameters, multiply_adds) = match self {
            Self::Inception => {
                let cost = InceptionConfig { classes: 1000 }.cost(299, 299)?;
                (299, cost.parameters_of_inference, cost.multiply_adds)
            }
            Self::Residual(options) => {
                let (side, classes) = match options.resolve(1)?.layout {
                    Layout::Cifar => (32, 10),
                    Layout::ImageNet => (224, 1000),
                };
                let summary = options.resolve(classes)?.summary(side, side)?;
                (side, summary.parameters, summary.multiply_adds)
            }
        };
        let (error, on_cifar100) = self.published();
        let (published, published_cifar100) =
            (error.map(Published::Error), on_cifar100.map(Published::Error));
        let name = name.to_owned();
        let (ours, training, inference) = (None, None, None);
        Ok(Cost {
            name,
            side,
            parameters,
            multiply_adds,
            published,
            published_cifar100,
            ours,
            training,
            inference,
        })
    }

    /// The papers' errors of plain networks, and those on CIFAR-100; of ImageNet's on crops of 320 after training with scale augmentation,
    /// Inception-v3's on 299. Those of wide networks are of Table 4 of *Wide Residual Networks*: without dropout, images whitened (ZCA).
    fn published(&self) -> (Option<f64>, Option<f64>) {
        let Self::Residual(options) = self else { return (Some(21.2), None) };
        let usual = NetworkOptions { bn_group: options.bn_group, ..NetworkOptions::named(&options.model) };
        if options.written_out().ok() != usual.written_out().ok() {
            return (None, None);
        }
        let (error, on_cifar100) = match options.model.as_str() {
            "resnet20" => (8.75, None),
            "resnet32" => (7.51, None),
            "resnet44" => (7.17, None),
            "resnet56" => (6.97, None),
            "resnet110" => (6.61, None),
            "preresnet110" => (6.37, None),
            "resnet164" => (5.93, Some(25.16)),
            "preresnet164" => (5.46, Some(24.33)),
            "resnet1001" => (7.61, Some(27.82)),
            "preresnet1001" => (4.92, Some(22.71)),
            "wrn-40-1" => (6.85, Some(30.89)),
            "wrn-40-2" => (5.33, Some(26.04)),
            "wrn-40-4" => (4.97, Some(22.89)),
            "wrn-40-8" => (4.66, None),
            "wrn-16-8" => (4.81, Some(22.07)),
            "wrn-16-10" => (4.56, Some(21.59)),
            "wrn-22-8" => (4.38, Some(21.22)),
            "wrn-22-10" => (4.44, Some(20.75)),
            "wrn-28-10" => (4.17, Some(20.5)),
            "wrn-28-12" => (4.33, Some(20.43)),
            "resnet152" => (21.3, None),
            "preresnet152" => (21.1, None),
            "resnet200" => (21.8, None),
            "preresnet200" => (20.7, None),
            _ => return (None, None),
        };
        (Some(error), on_cifar100)
    }

    /// The median test error of this network's finished runs, of those with the most iterations.
    pub fn error_of(&self, runs: &[RunSummary]) -> Option<OwnError> {
        let Self::Residual(options) = self else { return None };
        let without_groups = |options: &NetworkOptions| {
            let written_out = options.written_out().ok()?;
            Some(NetworkOptions { bn_group: None, ..written_out })
        };
        let network = without_groups(options)?;
        let finished = runs.iter().filter(|run| {
            run.state == RunState::Finished && without_groups(&run.recipe.network).as_ref() == Some(&network)
        });
        let finished: Vec<&RunSummary> = finished.collect();
        let longest = finished.iter().max_by_key(|run| run.recipe.schedule.iterations)?;
        let (iterations, data) =
            (longest.recipe.schedule.iterations, longest.recipe.data.source.short_name());
        let is_alike = |run: &&&RunSummary| {
            run.recipe.schedule.iterations == iterations && run.recipe.data.source.short_name() == data
        };
        let errors: Vec<f64> =
            finished.iter().filter(is_alike).filter_map(|run| Some(run.tests().last()?.test_error)).collect();
        let runs = errors.len();
        (runs > 0).then(|| OwnError { error: super::paper::median(&errors), runs, iterations, data })
    }
}

/// Which of some points of cost and error nothing beats: no other costs as little or less and errs as little or less, and one of both less.
pub fn pareto_front(points: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: &(f64, f64), b: &(f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    points.iter().map(|point| !points.iter().any(|other| beats(other, point))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compared(model: &str) -> Compared {
        match model {
            Compared::INCEPTION => Compared::Inception,
            model => Compared::Residual(NetworkOptions::named(model)),
        }
    }

    #[test]
    fn the_usual_networks_are_counted() {
        let cost = |model: &str| compared(model).cost(model).unwrap();
        for &set in CostSet::ALL {
            for model in set.networks() {
                assert!(cost(model).parameters > 200_000, "{model}");
            }
        }
        let inception = cost("inception-v3");
        assert_eq!((inception.side, inception.parameters), (299, 23_834_568));
        assert_eq!(cost("preresnet1001").published, Some(Published::Error(4.92)));
        assert!(cost("resnet152").multiply_adds > inception.multiply_adds);
        let scaled = NetworkOptions {
            shortcut: Some("scale:0.5,0.5".parse().unwrap()),
            ..NetworkOptions::named("resnet110")
        };
        assert_eq!(Compared::Residual(scaled).cost("scaled").unwrap().published, None);
        // The parameters that the paper's table gives, in millions.
        for (model, millions) in [
            ("wrn-40-1", 0.6),
            ("wrn-40-4", 8.9),
            ("wrn-40-8", 35.7),
            ("wrn-22-8", 17.2),
            ("wrn-28-12", 52.5),
        ] {
            let cost = cost(model);
            assert_eq!((cost.parameters as f64 / 1e5).round() / 10., millions, "{model}");
            assert!(cost.published.is_some(), "{model}");
        }
        assert_eq!(cost("wrn-28-10").published_cifar100, Some(Published::Error(20.5)));
        let wider = NetworkOptions { width: Some(4), ..NetworkOptions::named("preresnet110") };
        assert_eq!(Compared::Residual(wider).cost("wider").unwrap().published, None);
    }

    #[test]
    fn the_front_is_what_nothing_beats() {
        let points = [(1., 9.), (2., 7.), (3., 7.), (4., 8.), (5., 5.), (1., 9.)];
        assert_eq!(pareto_front(&points), [true, true, false, false, true, true]);
        assert_eq!(pareto_front(&[]), [false; 0]);
    }

    proptest! {
        #[test]
        fn the_cheapest_and_the_best_are_on_the_front(
            points in proptest::collection::vec((0f64..10., 0f64..10.), 1..20),
        ) {
            let front = pareto_front(&points);
            let on = |point: &(f64, f64)| front[points.iter().position(|other| other == point).unwrap()];
            let cheapest = points.iter().min_by(|a, b| a.partial_cmp(b).unwrap()).unwrap();
            prop_assert!(on(cheapest));
            for (point, is_on) in points.iter().zip(&front) {
                let is_beaten = points.iter().any(|other| other.0 < point.0 && other.1 < point.1);
                prop_assert!(!(is_beaten && *is_on));
            }
        }
    }
}
