//! A network's tensors by name, in PyTorch's layouts: `stages.0.3.conv1.weight` and so on.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

use super::error::NetworkError;
use super::resnet::ResNet;
use super::shapes::check;

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

impl TensorValues {
    /// The values of `tensor`, brought to the host.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let data = tensor.into_data().convert::<f32>();
        Self { shape, values: data.try_into_vec().expect("the data has just been converted to f32") }
    }
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

/// Whether the tensor of this name is trained; running statistics are not.
pub fn is_trained(name: &str) -> bool {
    !name.ends_with(".running_mean") && !name.ends_with(".running_var")
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
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = Shapes(BTreeMap::new());
        self.visit_named(&mut shapes);
        shapes.0
    }

    /// Trained values of the network: weights, biases, gammas and betas; running statistics do not count.
    pub fn parameters(&self) -> usize {
        let shapes = self.shapes().into_iter().filter(|(name, _)| is_trained(name));
        shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The network with all its tensors replaced by those of `tensors`, which must have the same names and shapes.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong to this network.
    pub fn with_tensors(self, tensors: &NamedTensors) -> Result<Self, NetworkError> {
        check(&self.shapes(), tensors)?;
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
            self.tensors.insert(name, TensorValues::of(tensor));
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

/// The name that a tensor has in weight files, for its path through the modules: `layers.0.conv.weight` of a unit is
/// its `conv1.weight`.
fn name_of(path: &[String]) -> String {
    let mut name = Vec::with_capacity(path.len());
    let mut parts = path.iter();
    while let Some(part) = parts.next() {
        if part == "layers" {
            let index: usize = parts.next().and_then(|index| index.parse().ok()).unwrap_or_default();
            let layer = parts.next().map(String::as_str).unwrap_or_default();
            name.push(format!("{layer}{}", index + 1));
        } else {
            name.push(part.clone());
        }
    }
    name.join(".")
}
