//! Very deep residual networks, from *Identity Mappings in Deep Residual Networks* (He et al., 2016) to networks
//! that are trained and shipped.
//!
//! Modules, each built on those below it only:
//!
//! - [`study`]: what the paper derives, measured;
//! - [`report`]: what runs have come to, as summaries and as a page;
//! - [`mod@bench`]: how fast networks are here, and in how much memory;
//! - [`train`]: the training loop;
//! - [`plot`]: figures of runs;
//! - [`explain`]: which pixels decided;
//! - [`evaluate`]: what trained networks say of images;
//! - [`export`]: trained networks for other programs;
//! - [`cluster`]: several processes that work together;
//! - [`run`]: a run on disk: recipe, checkpoints, metrics;
//! - [`data`]: images, from files to mini-batches;
//! - [`nn`]: the networks as Burn modules;
//! - [`ops`]: the operations that they are made of, as a Burn backend extension;
//! - [`files`]: files that are written whole or not at all;
//! - [`device`]: names of devices.
//!
//! # Features
//!
//! Most are on by default; what is off is not compiled.
//!
//! | feature | what it brings |
//! |---|---|
//! | `mpi`, not by default | several processes that train one network, on one machine or several: [`cluster`]; wants an MPI library |
//! | `download` | fetching CIFAR-10 and CIFAR-100, and the folder where they lie then |
//! | `onnx` | trained networks as ONNX files: `export::onnx` |
//! | `reports` | curves, pictures and HTML pages of runs and studies: [`plot`], and the `page`s of [`report`] and [`study`] |
//! | `tensorboard` | events for TensorBoard beside a run's metrics |
//!
//! What needs no tensors lies in the crate [`residua_infer`], re-exported as [`infer`]: what a network is, weight files, and
//! the [`Classifier`](infer::Classifier).

pub mod bench;
pub mod cluster;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod files;
pub mod nn;
pub mod ops;
#[cfg(feature = "reports")]
pub mod plot;
pub mod report;
pub mod run;
pub mod study;
pub mod train;

pub use burn;
pub use residua_infer as infer;

/// The examples of the project's and of the crate's README compile and run.
#[cfg(doctest)]
mod readme {
    #[doc = include_str!("../../../README.md")]
    struct OfProject;

    #[doc = include_str!("../README.md")]
    struct OfCrate;
}
