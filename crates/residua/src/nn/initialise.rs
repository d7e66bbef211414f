//! Initial weights: a function of the seed and each tensor's name alone, so the same on every machine, and equal for
//! tensors of one name in networks that differ elsewhere.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use sha2::{Digest, Sha256};

/// Makes the tensors of a new network.
pub(super) struct Initialiser<'a> {
    seed: u64,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    pub(super) fn new(seed: u64, device: &'a Device) -> Self {
        Self { seed, device }
    }

    /// He initialisation of a convolution `[outputs, inputs, size, size]`: normal with standard deviation
    /// `sqrt(2 / (size * size * outputs))`, as in the paper's reference code.
    pub(super) fn convolution(&self, name: &str, shape: [usize; 4]) -> Param<Tensor<4>> {
        let [outputs, _, height, width] = shape;
        let deviation = (2. / (height * width * outputs) as f64).sqrt();
        let mut random = self.random(name);
        self.parameter(shape, || {
            let value: f64 = StandardNormal.sample(&mut random);
            (deviation * value) as f32
        })
    }

    /// Uniform between `-bound` and `bound`.
    pub(super) fn uniform<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        bound: f64,
    ) -> Param<Tensor<D>> {
        let uniform = Uniform::new_inclusive(-bound, bound).expect("a bound is finite and positive");
        let mut random = self.random(name);
        self.parameter(shape, || uniform.sample(&mut random) as f32)
    }

    /// One value everywhere.
    pub(super) fn constant(&self, channels: usize, value: f64) -> Param<Tensor<1>> {
        self.parameter([channels], || value as f32)
    }

    /// One value everywhere, in a tensor that is no parameter: it has no gradient.
    pub(super) fn buffer(&self, channels: usize, value: f64) -> Param<Tensor<1>> {
        self.constant(channels, value).set_require_grad(false)
    }

    fn parameter<const D: usize>(&self, shape: [usize; D], value: impl FnMut() -> f32) -> Param<Tensor<D>> {
        let values = std::iter::repeat_with(value).take(shape.iter().product()).collect::<Vec<_>>();
        let tensor = Tensor::from_data(TensorData::new(values, shape), self.device);
        let tensor = if self.device.is_autodiff() { tensor.require_grad() } else { tensor };
        Param::initialized(ParamId::new(), tensor)
    }

    fn random(&self, name: &str) -> ChaCha8Rng {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(name.as_bytes());
        ChaCha8Rng::from_seed(hash.finalize().into())
    }
}
