//! The paper's experiments: each table and figure as recipes, with the published numbers beside what runs of them come to.
//!
//! An [`Experiment`] has [`Row`]s; a [`Budget`] makes of a row's [`Trial`] and a seed a [`PlannedRun`]: a recipe and the name of its
//! run. A [`Reproduction`] reads what the runs in a folder have come to, and is shown as a page, as Markdown, as a picture
//! or as JSON.

mod agreement;
mod budget;
mod experiment;
mod markdown;
#[cfg(feature = "reports")]
mod page;
#[cfg(feature = "reports")]
mod picture;
mod reproduction;
mod row;
mod rows;
mod view_test;

pub(crate) use agreement::median;
pub use agreement::{Agreement, Ranked, agreement};
pub use budget::{Budget, PlannedRun, Sources};
pub use experiment::{Experiment, Panel};
pub use markdown::markdown;
#[cfg(feature = "reports")]
pub use page::page;
#[cfg(feature = "reports")]
pub use picture::pictures;
pub use reproduction::{Measured, Outcome, Reproduction, RowResult, RunResult, TrainedAs};
pub use row::{DataSet, Published, Row, Trial};
pub use view_test::test_by_view;
