//! How large weights and gradients are, stage by stage.

use std::collections::BTreeMap;

use burn::tensor::Gradients;

use crate::nn::{NamedTensors, Part, ResNet, is_trained};

/// Euclidean norms over the parameters of `stem`, `stage1`, `stage2`, ... and `head`.
#[derive(Debug, Clone, PartialEq)]
pub struct StageNorms {
    /// Of the parameters.
    pub weights: BTreeMap<String, f64>,
    /// Of the loss's gradient with respect to them, where they are not frozen.
    pub gradients: BTreeMap<String, f64>,
}

impl StageNorms {
    /// Those of a network and of the gradients that a backward pass has left for it.
    pub fn of(network: &ResNet, gradients: &Gradients) -> Self {
        Self { weights: by_stage(&network.tensors()), gradients: by_stage(&network.gradients(gradients)) }
    }
}

fn by_stage(tensors: &NamedTensors) -> BTreeMap<String, f64> {
    let mut squares = BTreeMap::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| is_trained(name)) {
        let sum: f64 = tensor.values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        *squares.entry(stage_of(name)).or_insert(0.) += sum;
    }
    squares.into_iter().map(|(stage, square)| (stage, square.sqrt())).collect()
}

/// `stages.0.3.conv1.weight` lies in `stage1`.
fn stage_of(name: &str) -> String {
    match Part::of_tensor(name) {
        Some(part @ (Part::Stem | Part::Stage(_))) => part.to_string(),
        Some(Part::Norm | Part::Classifier) | None => "head".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::nn::{NetworkOptions, TensorValues};

    #[test]
    fn tensors_are_counted_where_they_lie() {
        let tensor = |values: &[f32]| TensorValues { shape: vec![values.len()], values: values.to_vec() };
        let tensors = NamedTensors::from([
            ("stem.conv.weight".to_owned(), tensor(&[3., 4.])),
            ("stages.0.0.conv1.weight".to_owned(), tensor(&[1., 2.])),
            ("stages.0.1.norm1.weight".to_owned(), tensor(&[2., 4.])),
            ("stages.0.1.norm1.running_var".to_owned(), tensor(&[100.])),
            ("linear.bias".to_owned(), tensor(&[-2.])),
        ]);
        let expected =
            [("head", 2.), ("stage1", 5.), ("stem", 5.)].map(|(stage, norm)| (stage.to_owned(), norm));
        assert_eq!(by_stage(&tensors), BTreeMap::from(expected));
    }

    #[test]
    fn every_network_has_stem_stages_and_head() {
        for (model, stages) in [("preresnet8", 3), ("resnet18", 4)] {
            let network =
                ResNet::init(&NetworkOptions::named(model).resolve(3).unwrap(), 1, &Device::flex()).unwrap();
            let norms = by_stage(&network.tensors());
            let mut expected: Vec<_> = (1..=stages).map(|stage| format!("stage{stage}")).collect();
            expected.insert(0, "head".to_owned());
            expected.push("stem".to_owned());
            assert_eq!(norms.keys().cloned().collect::<Vec<_>>(), expected, "{model}");
            assert!(norms.values().all(|norm| *norm > 0.));
        }
    }
}
