//! What runs have come to: a summary of each, and a page that shows one or compares several.
//!
//! [`RunSummary`] reads a run's folder, whoever trains in it meanwhile. [`Examination`] looks at every test image once.
//! [`page`] makes one HTML file of them that needs nothing else: no network, no framework.

#[cfg(feature = "reports")]
pub(crate) mod chart;
#[cfg(feature = "reports")]
mod class_table;
mod comparison;
#[cfg(feature = "reports")]
mod confusions;
#[cfg(feature = "reports")]
pub(crate) mod document;
mod examination;
#[cfg(feature = "reports")]
mod images;
mod network_table;
#[cfg(feature = "reports")]
mod page;
#[cfg(feature = "reports")]
mod reliability;
mod run_summary;

pub use comparison::{Difference, differences};
#[cfg(feature = "reports")]
pub(crate) use document::still_document;
pub use examination::{Examination, HardImage};
pub use network_table::network_table;
#[cfg(feature = "reports")]
pub use page::{Examined, ReportedRun, page};
pub use run_summary::{BestError, ChosenOn, FoundRuns, ReportError, RunSummary, find_runs};
