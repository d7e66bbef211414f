//! Numbers that an observer has measured, by names of its own.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an observer of a run has measured after some iteration: numbers, and lists of numbers, each by its name.
///
/// As a line of `metrics.jsonl` it is `{"iteration":10,"kind":"sparsity","zeros":0.5,"by_unit":[0.4,0.6],"time":1.5}`. In TensorBoard
/// a number is shown as `sparsity/zeros`; lists are for readers of the file.
///
/// ```
/// use residua::run::Measurement;
///
/// let measurement = Measurement::new("sparsity", 10).with("zeros", 0.5).with("by_unit", vec![0.4, 0.6]);
/// assert_eq!(measurement.number("zeros"), Some(0.5));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Finished iterations.
    pub iteration: u64,
    /// What has been measured, in one word.
    #[serde(default = "unnamed", skip_serializing_if = "is_unnamed")]
    pub kind: String,
    #[serde(flatten)]
    values: Values,
    /// Unix time in seconds; not the same from run to run.
    pub time: Option<f64>,
}

/// A number, which may be missing, or a list of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measured {
    /// One number; none where there was nothing to measure.
    Number(Option<f64>),
    /// A number for each of several things, such as units.
    List(Vec<f64>),
}

/// Names that lines of other kinds have.
const RESERVED: [&str; 12] = [
    "iteration",
    "kind",
    "time",
    "epoch",
    "loss",
    "error",
    "learning_rate",
    "images_per_second",
    "test_loss",
    "test_error",
    "weight_norms",
    "gradient_norms",
];

impl Measurement {
    /// The kind that files do not name, as it was the only one once: how gradients propagate.
    pub const PROPAGATION: &str = "propagation";

    /// A measurement of this kind, of nothing as yet, after `iteration` finished iterations; made now.
    pub fn new(kind: impl Into<String>, iteration: u64) -> Self {
        Self { iteration, kind: kind.into(), values: Values(Vec::new()), time: super::metrics::now() }
    }

    /// The same with one value more.
    ///
    /// # Panics
    /// Where the name is one that a line of the metrics has anyway, such as `loss` or `time`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Measured>) -> Self {
        assert!(!RESERVED.contains(&name), "'{name}' is the name of a field that the trainer writes itself");
        self.values.0.push((name.to_owned(), value.into()));
        self
    }

    /// The values by their names, in the order in which they were added.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Measured)> {
        self.values.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The number of this name, if there is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.values().find_map(|(known, value)| match value {
            Measured::Number(number) if known == name => *number,
            _ => None,
        })
    }

    /// The first number that is not finite, with its name.
    pub(crate) fn not_finite(&self) -> Option<(&str, f64)> {
        let numbers = |value: &Measured| match value {
            Measured::Number(number) => number.iter().copied().collect(),
            Measured::List(list) => list.clone(),
        };
        self.values()
            .flat_map(|(name, value)| numbers(value).into_iter().map(move |number| (name, number)))
            .find(|(_, number)| !number.is_finite())
    }
}

impl From<f64> for Measured {
    fn from(number: f64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<f64>> for Measured {
    fn from(number: Option<f64>) -> Self {
        Self::Number(number)
    }
}

impl From<Vec<f64>> for Measured {
    fn from(list: Vec<f64>) -> Self {
        Self::List(list)
    }
}

fn unnamed() -> String {
    Measurement::PROPAGATION.to_owned()
}

fn is_unnamed(kind: &str) -> bool {
    kind == Measurement::PROPAGATION
}

/// Values in their order, at least one.
#[derive(Debug, Clone, PartialEq)]
struct Values(Vec<(String, Measured)>);

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Values;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("numbers and lists of numbers by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Measured>()? {
            // A line of another kind that has been damaged is no measurement.
            if RESERVED.contains(&name.as_str()) {
                return Err(serde::de::Error::custom(format_args!("'{name}' in a line of another kind")));
            }
            values.push((name, value));
        }
        match values.is_empty() {
            true => Err(serde::de::Error::custom("nothing measured")),
            false => Ok(Values(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_measurement_keeps_names_order_and_kind() {
        let measurement = Measurement { time: Some(1.5), ..Measurement::new("sparsity", 10) };
        let measurement = measurement.with("zeros", 0.5).with("ones", None).with("by_unit", vec![0.25, 1.]);
        let line = serde_json::to_string(&measurement).unwrap();
        assert_eq!(
            line,
            r#"{"iteration":10,"kind":"sparsity","zeros":0.5,"ones":null,"by_unit":[0.25,1.0],"time":1.5}"#
        );
        assert_eq!(serde_json::from_str::<Measurement>(&line).unwrap(), measurement);
        assert_eq!((measurement.number("ones"), measurement.number("by_unit")), (None, None));
    }

    #[test]
    fn what_older_files_do_not_name_is_propagation() {
        let line =
            r#"{"iteration":2,"early_over_late":1.5,"equation_4_error":null,"inputs":[1.0,2.5],"time":null}"#;
        let measurement: Measurement = serde_json::from_str(line).unwrap();
        assert_eq!(
            (measurement.kind.as_str(), measurement.number("early_over_late")),
            ("propagation", Some(1.5))
        );
        assert_eq!(serde_json::to_string(&measurement).unwrap(), line);
    }

    #[test]
    fn infinite_numbers_are_found_in_lists_too() {
        let measurement =
            Measurement::new("sparsity", 10).with("zeros", 0.5).with("by_unit", vec![0., f64::INFINITY]);
        assert_eq!(measurement.not_finite(), Some(("by_unit", f64::INFINITY)));
    }
}
