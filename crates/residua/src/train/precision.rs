//! Where a network's precision is trained in.

use burn::tensor::Device;

use crate::nn::Precision;
use crate::ops::{Engine, is_cpu};
use crate::run::RunError;

/// Whether networks are trained in this precision there.
///
/// # Errors
/// When they are not.
pub(crate) fn check_precision(precision: Precision, device: &Device, engine: Engine) -> Result<(), RunError> {
    if precision != Precision::F32 && (engine != Engine::Fused || !is_cpu(device)) {
        return Err(RunError::PrecisionElsewhere);
    }
    Ok(precision.check()?)
}
