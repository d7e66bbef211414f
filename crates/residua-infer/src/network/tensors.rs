//! A network's tensors by name, in PyTorch's layouts: `stages.0.3.conv1.weight` and so on. Names and shapes follow from the plan.

use std::collections::BTreeMap;

use super::config::ResNetConfig;
use super::error::NetworkError;
use super::plan::ConvolutionPlan;

/// The values of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorValues {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// As many values as the product of the lengths.
    pub values: Vec<f32>,
}

/// Tensors by name, in the names' order.
pub type NamedTensors = BTreeMap<String, TensorValues>;

/// Whether the tensor of this name is trained; running statistics are not.
pub fn is_trained(name: &str) -> bool {
    !name.ends_with(".running_mean") && !name.ends_with(RUNNING_VARIANCE)
}

const RUNNING_VARIANCE: &str = ".running_var";

impl ResNetConfig {
    /// Whether `tensors` are those of this network, by name and shape, and can be computed with, see [`check_tensors`]. No tensor is made.
    ///
    /// # Errors
    /// When there is no such network, or a tensor is missing, has another shape or impossible values, or does not belong to it.
    pub fn check_tensors(&self, tensors: &NamedTensors) -> Result<(), NetworkError> {
        check_tensors(&self.tensor_shapes()?, tensors)
    }

    /// The shape of each of this network's tensors, by name.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn tensor_shapes(&self) -> Result<BTreeMap<String, Vec<usize>>, NetworkError> {
        let plan = self.plan()?;
        let mut shapes = Shapes(BTreeMap::new());
        shapes.convolution("stem.conv", &plan.stem.convolution);
        shapes.norm("stem.norm", plan.stem.has_norm.then_some(plan.stem.convolution.outputs));
        for (stage, units) in plan.stages.iter().enumerate() {
            for (index, unit) in units.iter().enumerate() {
                let name = format!("stages.{stage}.{index}");
                for (index, convolution) in unit.convolutions.iter().enumerate() {
                    shapes.convolution(&format!("{name}.conv{}", index + 1), convolution);
                }
                for norm in unit.norms.iter() {
                    shapes.norm(&format!("{name}.{}", norm.name()), Some(norm.channels));
                }
                if let Some((projection, has_norm)) = &unit.projection {
                    shapes.convolution(&format!("{name}.shortcut.conv"), projection);
                    shapes.norm(&format!("{name}.shortcut.norm"), has_norm.then_some(projection.outputs));
                }
                if let Some(gate) = unit.gate() {
                    shapes.convolution(&format!("{name}.gate"), &gate);
                    shapes.0.insert(format!("{name}.gate.bias"), vec![gate.outputs]);
                }
            }
        }
        shapes.norm("norm", plan.head.has_norm.then_some(plan.head.features));
        shapes.0.insert("classifier.weight".to_owned(), vec![plan.head.classes, plan.head.features]);
        shapes.0.insert("classifier.bias".to_owned(), vec![plan.head.classes]);
        Ok(shapes.0)
    }
}

/// Whether tensors have these names and shapes, and values that a network can compute with: finite ones, and variances that are not
/// negative.
///
/// # Errors
/// Names the first that is missing, has another shape or is unknown, or whose values are others.
pub fn check_tensors(
    known: &BTreeMap<String, Vec<usize>>,
    tensors: &NamedTensors,
) -> Result<(), NetworkError> {
    first_of(&misfits(known, tensors)).map_or(Ok(()), |problem| Err(NetworkError::Weights(problem)))?;
    for (name, TensorValues { values, .. }) in tensors {
        let least = if name.ends_with(RUNNING_VARIANCE) { 0. } else { f32::NEG_INFINITY };
        let is_good = |&value: &f32| value.is_finite() && value >= least;
        // At once, and only then one by one.
        if !values.iter().fold(true, |are_good, value| are_good & is_good(value)) {
            let value = values.iter().copied().find(|value| !is_good(value)).unwrap_or_default();
            return Err(NetworkError::Value { tensor: name.clone(), value: value.to_string() });
        }
    }
    Ok(())
}

/// What keeps tensors from having these names and shapes, each in words.
pub(crate) fn misfits(known: &BTreeMap<String, Vec<usize>>, tensors: &NamedTensors) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, shape) in known {
        match tensors.get(name) {
            None => problems.push(format!("'{name}' is missing")),
            Some(tensor) if tensor.shape != *shape => {
                problems.push(format!("'{name}' has shape {:?}, not {shape:?}", tensor.shape));
            }
            Some(_) => {}
        }
    }
    let strangers = tensors.keys().filter(|name| !known.contains_key(*name));
    problems.extend(strangers.map(|name| format!("'{name}' is unknown")));
    problems
}

/// The first of some problems, and how many more there are.
pub(crate) fn first_of(problems: &[String]) -> Option<String> {
    match problems {
        [] => None,
        [one] => Some(one.clone()),
        [first, rest @ ..] => Some(format!("{first} (and {} more)", rest.len())),
    }
}

struct Shapes(BTreeMap<String, Vec<usize>>);

impl Shapes {
    fn convolution(&mut self, name: &str, plan: &ConvolutionPlan) {
        let ConvolutionPlan { inputs, outputs, size, .. } = *plan;
        self.0.insert(format!("{name}.weight"), vec![outputs, inputs, size, size]);
    }

    fn norm(&mut self, name: &str, channels: Option<usize>) {
        let Some(channels) = channels else { return };
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.0.insert(format!("{name}.{part}"), vec![channels]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_nothing_can_be_computed_with_are_named() {
        let shapes = ["a.weight", "a.running_var"].map(|name| (name.to_owned(), vec![2]));
        let check = |weight: f32, variance: f32| {
            let tensor = |value| TensorValues { shape: vec![2], values: vec![1., value] };
            let tensors =
                [("a.weight".to_owned(), tensor(weight)), ("a.running_var".to_owned(), tensor(variance))];
            check_tensors(&shapes.clone().into(), &tensors.into()).map_err(|error| error.to_string())
        };
        assert_eq!(check(-3., 0.), Ok(()));
        assert_eq!(check(f32::MAX, -0.), Ok(()));
        for (weight, variance, named) in [
            (f32::NAN, 1., "a value of 'a.weight' is NaN: "),
            (f32::NEG_INFINITY, 1., "a value of 'a.weight' is -inf: "),
            (0., -1e-9, "a value of 'a.running_var' is -0.000000001: "),
            (0., f32::NAN, "a value of 'a.running_var' is NaN: "),
        ] {
            let message = check(weight, variance).unwrap_err();
            assert!(message.starts_with(named), "{message}");
        }
    }
}
