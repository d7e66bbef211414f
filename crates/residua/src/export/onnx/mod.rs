//! ONNX files: operator set 17, for batches of any size.
//!
//! The network is written as it is trained, one node for an operation. Then batch normalisations are folded into the
//! convolutions that they stand directly behind, unless they are to be [kept](Norms::Kept). Names are those of weight files. The
//! metadata holds what a weight file's does, under the same keys ([`WeightsInfo::to_metadata`]).
//!
//! ```no_run
//! use std::path::Path;
//!
//! use residua::export::onnx::{OnnxOptions, encode};
//! use residua::{files::write_file, run::stored_weights};
//!
//! let weights = stored_weights(Path::new("runs/preresnet20-shapes"))?;
//! let file = encode(&weights.info()?, weights.tensors, OnnxOptions::default())?;
//! assert_eq!(file.input.to_string(), "images float32 [batch, 3, 32, 32]");
//! write_file(Path::new("network.onnx"), &file.bytes)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fold;
mod graph;
mod inception;
mod message;
mod network;
mod ports;

use prost::Message;
use residua_infer::WeightsInfo;
use residua_infer::network::inception::BATCH_NORM_EPSILON as INCEPTION_EPSILON;
use residua_infer::network::{Architecture, BATCH_NORM_EPSILON, NamedTensors};
use residua_infer::words;

pub use ports::{Axis, Numbers, Port};

use self::graph::GraphBuilder;
use super::ExportError;

/// How a network is written as ONNX. By default it goes from normalised images to logits, with normalisations folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// What the numbers of an image are.
    pub pixels: Pixels,
    /// How its axes lie.
    pub axes: AxisOrder,
    /// What becomes of batch normalisations.
    pub norms: Norms,
    /// What comes out.
    pub scores: Scores,
}

/// What the numbers of an image are that goes into an exported network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pixels {
    /// Normalised already, as `f32`: see [`Normalisation::apply`](residua_infer::normalisation::Normalisation::apply).
    #[default]
    Normalised,
    /// Bytes, as decoders give them, which the network normalises itself. They cannot be taken for numbers of 0 to 1.
    Raw,
}

/// How the axes of a batch of images lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AxisOrder {
    /// `[batch, channels, height, width]`
    #[default]
    Nchw,
    /// `[batch, height, width, channels]`
    Nhwc,
}

words!(AxisOrder, "order of axes", {
    Nchw => "nchw": "batch, channels, height, width",
    Nhwc => "nhwc": "batch, height, width, channels",
});

/// What becomes of batch normalisations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Norms {
    /// They are folded into the convolutions that they stand directly behind: less to store, less to compute.
    #[default]
    Folded,
    /// All are nodes of their own, as in training.
    Kept,
}

/// What comes out of an exported network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scores {
    /// `logits`, the classifier's outputs.
    #[default]
    Logits,
    /// `probabilities`, by softmax, at the temperature that the weights' file says.
    Probabilities,
}

/// A network as an ONNX file's content.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxFile {
    /// The content.
    pub bytes: Vec<u8>,
    /// What goes in.
    pub input: Port,
    /// What comes out.
    pub output: Port,
    /// Which network it is, in words.
    pub description: String,
}

/// The version of the format's structure, and of its operators.
const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;
/// No protocol-buffer message is larger.
const LARGEST: usize = i32::MAX as usize;

/// Writes the network that `info` tells of, with these tensors, for images of its size.
///
/// # Errors
/// When there is no such network, it does not take such images, the tensors are not its own, the normalisation is to be
/// put inside and does not fit the images, or the file would be of 2 GiB or more.
pub fn encode(
    info: &WeightsInfo,
    mut tensors: NamedTensors,
    options: OnnxOptions,
) -> Result<OnnxFile, ExportError> {
    let WeightsInfo { network, height, width, normalisation, .. } = info;
    network.check_input(*height, *width)?;
    network.check_tensors(&tensors)?;
    if options.pixels == Pixels::Raw {
        normalisation.check(*height, *width)?;
    }
    let (input, output) =
        (Port::images(options, [*height, *width]), Port::scores(options, network.classes()));
    let description = description(info);

    tensors.retain(|name, _| network.infers_with(name));
    let epsilon = match network {
        Architecture::ResNet(_) => BATCH_NORM_EPSILON,
        Architecture::InceptionV3(_) => INCEPTION_EPSILON,
    };
    let mut graph = GraphBuilder::new(tensors, epsilon, info.temperature.unwrap_or_default());
    let images = graph.images(&input, info, options);
    match network {
        Architecture::ResNet(config) => {
            graph.residual_network(&config.plan()?, images, options.scores, output.name);
        }
        Architecture::InceptionV3(_) => graph.inception(images, options.scores, output.name),
    }
    if options.norms == Norms::Folded {
        graph.fold_norms();
    }
    let model = message::Model {
        ir_version: IR_VERSION,
        producer_name: "residua".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        description: description.clone(),
        graph: Some(graph.finish(&input, &output)),
        operator_sets: vec![message::OperatorSet { version: OPERATOR_SET }],
        metadata: info.to_metadata().into_iter().map(|(key, value)| message::Entry { key, value }).collect(),
    };
    match model.encoded_len() {
        bytes if bytes > LARGEST => Err(ExportError::TooLarge { bytes, most: LARGEST }),
        _ => Ok(OnnxFile { bytes: model.encode_to_vec(), input, output, description }),
    }
}

fn description(info: &WeightsInfo) -> String {
    let WeightsInfo { network, height, width, .. } = info;
    format!("{}: {}, images of {height}x{width}", network.name(), network.description())
}
