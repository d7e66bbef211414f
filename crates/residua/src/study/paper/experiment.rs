//! The tables and figures.

use super::row::Row;
use super::rows;
use residua_infer::choice::Choices;
use residua_infer::words;

/// A table or figure of results. Figures 2, 4 and 5 draw units, not results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Experiment {
    /// Shortcuts.
    Table1,
    /// Placements of activation.
    Table2,
    /// The proposed unit at several depths.
    Table3,
    /// Beside the work of others.
    Table4,
    /// ImageNet.
    Table5,
    /// 1001 layers, original and proposed.
    Fig1,
    /// Training with various shortcuts.
    Fig3,
    /// BN after addition, and full pre-activation, beside the original.
    Fig6,
}

words!(Experiment, "experiment", {
    Table1 => "table1": "Table 1: shortcuts, ResNet-110 on CIFAR-10",
    Table2 => "table2": "Table 2: placements of activation on CIFAR-10",
    Table3 => "table3": "Table 3: original and proposed units on CIFAR-10 and CIFAR-100",
    Table4 => "table4": "Table 4: beside the work of others on CIFAR-10 and CIFAR-100",
    Table5 => "table5": "Table 5: single crops of ImageNet's validation images",
    Fig1 => "fig1": "Figure 1: ResNet-1001 on CIFAR-10, original and proposed units",
    Fig3 => "fig3": "Figure 3: training with various shortcuts, ResNet-110 on CIFAR-10",
    Fig6 => "fig6": "Figure 6: placements of activation in training on CIFAR-10",
});

/// A diagram of a figure: training loss and test error of some of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panel {
    /// What it compares.
    pub title: &'static str,
    /// Names of the rows.
    pub rows: &'static [&'static str],
}

impl Experiment {
    /// What it is about.
    pub fn title(self) -> &'static str {
        Self::CHOICES[self as usize].meaning
    }

    /// Its rows, in the paper's order.
    pub fn rows(self) -> Vec<Row> {
        match self {
            Self::Table1 => rows::shortcuts(),
            Self::Table2 => rows::activations(),
            Self::Table3 => rows::depths(),
            Self::Table4 => rows::work_of_others(),
            Self::Table5 => rows::imagenet(),
            Self::Fig1 => rows::very_deep(),
            Self::Fig3 => rows::some(&rows::shortcuts(), &Self::rows_of(self.panels())),
            Self::Fig6 => rows::some(&rows::activations(), &Self::rows_of(self.panels())),
        }
    }

    /// The diagrams of a figure; a table has none.
    pub fn panels(self) -> &'static [Panel] {
        const fn panel(title: &'static str, rows: &'static [&'static str]) -> Panel {
            Panel { title, rows }
        }
        match self {
            Self::Fig1 => &[const { panel("ResNet-1001", &["original", "proposed"]) }],
            Self::Fig3 => &[
                const { panel("constant scaling", &["identity", "scale-0.5-0.5"]) },
                const { panel("exclusive gating", &["identity", "exclusive-gate-6"]) },
                const { panel("shortcut-only gating", &["identity", "shortcut-gate-0", "shortcut-gate-6"]) },
                const { panel("1x1 convolution", &["identity", "conv1x1"]) },
            ],
            Self::Fig6 => &[
                const { panel("BN after addition, ResNet-110", &["original-110", "bn-after-add-110"]) },
                const { panel("full pre-activation, ResNet-164", &["original-164", "preact-164"]) },
            ],
            _ => &[],
        }
    }

    fn rows_of(panels: &[Panel]) -> Vec<&'static str> {
        panels.iter().flat_map(|panel| panel.rows).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::study::paper::{Budget, Published, Sources};

    #[test]
    fn rows_have_names_of_their_own_and_possible_recipes_at_every_budget() {
        let sources = Sources::from_list(vec!["folder:imagenet".parse().unwrap()]);
        for &experiment in Experiment::ALL {
            let rows = experiment.rows();
            let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), rows.len(), "{experiment}");
            for (row, trial) in rows.iter().filter_map(|row| Some((row, row.trial.as_ref()?))) {
                for &budget in Budget::ALL {
                    let plan = budget.plan(trial, &sources, 1).unwrap();
                    plan.recipe
                        .validate()
                        .unwrap_or_else(|error| panic!("{experiment} {}: {error}", row.name));
                }
            }
        }
    }

    #[test]
    fn panels_show_rows_that_are_there() {
        for &experiment in Experiment::ALL {
            let rows = experiment.rows();
            for name in Experiment::rows_of(experiment.panels()) {
                assert!(rows.iter().any(|row| row.name == name), "{experiment}: {name}");
            }
        }
        assert_eq!(Experiment::Fig6.rows().len(), 4);
    }

    #[test]
    fn the_published_numbers_are_the_papers() {
        let published = |experiment: Experiment| -> Vec<String> {
            experiment.rows().iter().map(|row| row.published.text()).collect()
        };
        let fail = "fail";
        assert_eq!(
            published(Experiment::Table1),
            ["6.61", fail, fail, "12.35", fail, fail, "8.7", "9.81", "12.86", "6.91", "12.22", fail]
        );
        assert_eq!(
            published(Experiment::Table2),
            ["6.61", "8.17", "7.84", "6.71", "6.37", "5.93", "6.5", "6.14", "5.91", "5.46"]
        );
        assert_eq!(
            published(Experiment::Table3),
            [
                "9.9",
                "8.91",
                "6.61",
                "6.37",
                "5.93",
                "5.46",
                "7.61",
                "4.92 (4.89 ± 0.14)",
                "25.16",
                "24.33",
                "27.82",
                "22.71 (22.68 ± 0.22)"
            ]
        );
        let table5 = Experiment::Table5.rows();
        let top1: Vec<_> = table5.iter().filter_map(|row| row.published.median()).collect();
        assert_eq!(top1, [23.0, 21.3, 21.1, 21.8, 20.7, 20.1, 21.2]);
        assert_eq!(Published::Fail.median(), None);
    }
}
