//! A network's tensors by name: read, replaced, and their gradients.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::resnet::ResNet;
use residua_infer::network::{NamedTensors, NetworkError, TensorValues, check_tensors, is_trained};

/// The values of `tensor`, brought to the host.
pub(crate) fn values_of<const D: usize>(tensor: Tensor<D>) -> TensorValues {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert::<f32>();
    TensorValues { shape, values: data.try_into_vec().expect("the data has just been converted to f32") }
}

/// The values as a tensor of one axis on `device`, without autodiff.
pub(crate) fn flat_tensor(values: &TensorValues, device: &Device) -> Tensor<1> {
    let data = TensorData::new(values.values.clone(), [values.values.len()]);
    Tensor::from_data(data, &device.clone().inner())
}

/// Looks at the tensors of a network, one after the other.
pub trait NamedVisitor {
    /// One parameter or running statistic.
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>);
}

/// Replaces the tensors of a network, one after the other.
pub trait NamedMapper {
    /// The new value of one parameter or running statistic.
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

impl ResNet {
    /// Shows every parameter and running statistic to `visitor`, in the network's order.
    pub fn visit_named<V: NamedVisitor>(&self, visitor: &mut V) {
        self.visit(&mut Named { path: Vec::new(), inner: visitor });
    }

    /// Replaces every parameter and running statistic by what `mapper` makes of it.
    pub fn map_named<M: NamedMapper>(self, mapper: &mut M) -> Self {
        self.map(&mut Named { path: Vec::new(), inner: mapper })
    }

    /// All parameters and running statistics.
    pub fn tensors(&self) -> NamedTensors {
        let mut collector = Collector { gradients: None, tensors: NamedTensors::new() };
        self.visit_named(&mut collector);
        collector.tensors
    }

    /// The gradients of all parameters that have one.
    pub fn gradients(&self, gradients: &Gradients) -> NamedTensors {
        let mut collector = Collector { gradients: Some(gradients), tensors: NamedTensors::new() };
        self.visit_named(&mut collector);
        collector.tensors
    }

    /// Names and shapes of all parameters and running statistics.
    pub fn tensor_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = Shapes(BTreeMap::new());
        self.visit_named(&mut shapes);
        shapes.0
    }

    /// The values of flat tensors that belong to the network's own of the same names, in the shapes of those.
    pub(crate) fn shaped(&self, tensors: &BTreeMap<String, Tensor<1>>) -> NamedTensors {
        let shapes = self.tensor_shapes();
        let values = |(name, tensor): (&String, &Tensor<1>)| {
            let values = values_of(tensor.clone());
            let shape = shapes.get(name).cloned().unwrap_or_else(|| values.shape.clone());
            (name.clone(), TensorValues { shape, ..values })
        };
        tensors.iter().map(values).collect()
    }

    /// Trained values of the network: weights, biases, gammas and betas; running statistics do not count.
    pub fn parameters(&self) -> usize {
        let shapes = self.tensor_shapes().into_iter().filter(|(name, _)| is_trained(name));
        shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The network with all its tensors replaced by those of `tensors`, which must have the same names and shapes.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong to this network.
    pub fn with_tensors(self, tensors: &NamedTensors) -> Result<Self, NetworkError> {
        check_tensors(&self.tensor_shapes(), tensors)?;
        Ok(self.map_named(&mut Replacer(tensors)))
    }
}

struct Collector<'a> {
    gradients: Option<&'a Gradients>,
    tensors: NamedTensors,
}

impl NamedVisitor for Collector<'_> {
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            None => Some(parameter.val()),
            Some(gradients) => parameter.val().grad(gradients),
        };
        if let Some(tensor) = tensor {
            self.tensors.insert(name, values_of(tensor));
        }
    }
}

struct Shapes(BTreeMap<String, Vec<usize>>);

impl NamedVisitor for Shapes {
    fn visit<const D: usize>(&mut self, name: String, parameter: &Param<Tensor<D>>) {
        self.0.insert(name, parameter.lazy_shape().to_vec());
    }
}

struct Replacer<'a>(&'a NamedTensors);

impl NamedMapper for Replacer<'_> {
    fn map<const D: usize>(&mut self, name: String, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(TensorValues { shape, values }) = self.0.get(&name) else { return parameter };
        parameter.map(|old| {
            let data = TensorData::new(values.clone(), shape.clone());
            Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad())
        })
    }
}

/// Follows Burn's walk through the modules and gives each tensor its name.
struct Named<'a, T> {
    path: Vec<String>,
    inner: &'a mut T,
}

impl<V: NamedVisitor> ModuleVisitor for Named<'_, V> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.inner.visit(name_of(&self.path), parameter);
    }
}

impl<M: NamedMapper> ModuleMapper for Named<'_, M> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.inner.map(name_of(&self.path), parameter)
    }
}

/// The name that a tensor has in weight files, for its path through the modules: `convolutions.0.weight` of a unit is
/// its `conv1.weight`.
fn name_of(path: &[String]) -> String {
    let mut name = Vec::with_capacity(path.len());
    let mut parts = path.iter();
    while let Some(part) = parts.next() {
        let mut numbered = |layer: &str| {
            let index: usize = parts.next().and_then(|index| index.parse().ok()).unwrap_or_default();
            format!("{layer}{}", index + 1)
        };
        name.push(match part.as_str() {
            "convolutions" => numbered("conv"),
            "norms" => numbered("norm"),
            other => other.to_owned(),
        });
    }
    name.join(".")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use residua_infer::network::{NetworkOptions, Ordering};

    use super::*;

    #[test]
    fn the_plan_names_the_tensors_of_the_network_that_is_made() {
        for &ordering in Ordering::ALL {
            for (model, shortcut) in [
                ("resnet20", "identity"),
                ("resnet20", "conv1x1"),
                ("resnet11", "exclusive-gate:-6"),
                ("resnet29", "dropout:0.5"),
                ("resnet18", "shortcut-gate:0"),
                ("resnet50", "identity"),
            ] {
                let options = NetworkOptions {
                    ordering: Some(ordering),
                    shortcut: Some(shortcut.parse().unwrap()),
                    ..NetworkOptions::named(model)
                };
                let config = options.resolve(7).unwrap();
                let network = ResNet::init(&config, 1, &Device::flex()).unwrap();
                assert_eq!(
                    config.tensor_shapes().unwrap(),
                    network.tensor_shapes(),
                    "{model} {ordering} {shortcut}"
                );
            }
        }
    }
}
