//! Figures of runs and sheets of training images, as SVG and PNG files, which need no browser.

mod axes;
mod bitmap;
mod curves;
mod sheet;

pub use curves::{curves_svg, draw_curves};
pub(crate) use curves::{register_plot_font, whole_pixels};
pub use sheet::{Sheet, SheetError};
