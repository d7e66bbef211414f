//! Batch normalisation with running statistics: a factor and a summand for each channel.

use residua_kernels::Normalisation;

use crate::network::{BATCH_NORM_EPSILON, NamedTensors, NetworkError, TensorValues};

/// `norm(x) = scale * x + shift` per channel.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Affine {
    /// That changes nothing.
    pub(super) fn identity(channels: usize) -> Self {
        Self { scale: vec![1.; channels], shift: vec![0.; channels] }
    }

    /// The normalisation of this name, and BN's parts in the order of `normalisation`.
    pub(super) fn of(tensors: &NamedTensors, name: &str) -> Result<Self, NetworkError> {
        let [gamma, beta, mean, variance] = parts(tensors, name)?;
        let scale: Vec<f64> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + BATCH_NORM_EPSILON).sqrt())
            .collect();
        let shift = scale.iter().zip(beta.iter().zip(mean));
        let shift =
            shift.map(|(scale, (beta, mean))| (f64::from(*beta) - scale * f64::from(*mean)) as f32).collect();
        Ok(Self { scale: scale.into_iter().map(|scale| scale as f32).collect(), shift })
    }
}

/// The normalisation of this name for a kernel that applies it while it reads.
pub(super) fn normalisation(tensors: &NamedTensors, name: &str) -> Result<Normalisation, NetworkError> {
    let [gamma, beta, mean, variance] = parts(tensors, name)?;
    Ok(Normalisation::new(&[mean, variance].concat(), gamma, beta, BATCH_NORM_EPSILON))
}

fn parts<'a>(tensors: &'a NamedTensors, name: &str) -> Result<[&'a [f32]; 4], NetworkError> {
    let part = |part: &str| values(tensors, &format!("{name}.{part}"));
    Ok([part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?])
}

/// The values of a tensor.
pub(super) fn values<'a>(tensors: &'a NamedTensors, name: &str) -> Result<&'a [f32], NetworkError> {
    let missing = || NetworkError::Weights(format!("'{name}' is missing"));
    let TensorValues { values, .. } = tensors.get(name).ok_or_else(missing)?;
    Ok(values)
}
