//! Very deep residual networks, from *Identity Mappings in Deep Residual Networks* (He et al., 2016) to networks
//! that are trained and shipped.
//!
//! Modules, each built on those below it only:
//!
//! - [`study`]: what the paper derives, measured;
//! - [`report`]: what runs have come to, as summaries and as a page;
//! - [`train`]: recipes, the training loop, checkpoints, metrics and curves;
//! - [`data`]: images, from files to mini-batches;
//! - [`nn`]: the networks: every ordering, shortcut, block and dimension change of the paper;
//! - [`ops`]: the operations that they are made of, as a Burn backend extension;
//! - [`device`] and [`choice`]: names of devices, and of whatever must be one of a few words.

pub mod choice;
pub mod data;
pub mod device;
pub mod infer;
pub mod nn;
pub mod ops;
pub mod report;
pub mod study;
pub mod train;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
