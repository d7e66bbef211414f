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
    !name.ends_with(".running_mean") && !name.ends_with(".running_var")
}

impl ResNetConfig {
    /// Whether `tensors` are those of this network, by name and shape. No tensor is made.
    ///
    /// # Errors
    /// When there is no such network, or a tensor is missing, has another shape, or does not belong to it.
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

/// Whether tensors have these names and shapes.
///
/// # Errors
/// Names the first that is missing, has another shape or is unknown.
pub fn check_tensors(
    known: &BTreeMap<String, Vec<usize>>,
    tensors: &NamedTensors,
) -> Result<(), NetworkError> {
    first_of(&misfits(known, tensors)).map_or(Ok(()), |problem| Err(NetworkError::Weights(problem)))
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
