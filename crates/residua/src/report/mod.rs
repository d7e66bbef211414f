//! What runs have come to: a summary of each, and a page that shows one or compares several.
//!
//! [`RunSummary`] reads a run's folder, whoever trains in it meanwhile. [`Examination`] looks at every test image once.
//! [`page`] makes one HTML file of them that needs nothing else: no network, no framework.

pub(crate) mod chart;
mod comparison;
mod confusions;
pub(crate) mod document;
mod examination;
mod images;
mod network_table;
mod page;
mod run_summary;

pub use comparison::{Difference, differences};
pub(crate) use document::still_document;
pub use examination::{Examination, HardImage};
pub use network_table::network_table;
pub use page::{Examined, ReportedRun, page};
pub use run_summary::{ReportError, RunSummary, find_runs};
