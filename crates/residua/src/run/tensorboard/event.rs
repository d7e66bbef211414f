//! The few of TensorBoard's protocol-buffer messages that a run's events need, with its field numbers.

use prost::{Message, Oneof};

/// `tensorflow.Event`: something that happened at a time and a step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Unix time in seconds.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    /// Finished iterations.
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    /// What every file begins with.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `tensorflow.Summary`: values by tag.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// `tensorflow.Summary.Value`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
    #[prost(oneof = "Content", tags = "2, 8")]
    pub(super) content: Option<Content>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    #[prost(float, tag = "2")]
    Number(f32),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// `tensorflow.SummaryMetadata`: which of TensorBoard's plugins shows the value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin: Option<Plugin>,
}

/// `tensorflow.SummaryMetadata.PluginData`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `tensorflow.TensorProto`, of one text.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    /// `DT_STRING` is 7.
    #[prost(int32, tag = "1")]
    pub(super) data_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) texts: Vec<Vec<u8>>,
}

/// `tensorflow.TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) axes: Vec<Axis>,
}

/// `tensorflow.TensorShapeProto.Dim`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Axis {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
}
