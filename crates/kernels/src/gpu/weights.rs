//! A matrix of weights as a shader reads it.

use burn_wgpu::CubeTensor;
use pixart_weights::{MatrixData, WeightFormat};

use super::launch::gpu_input;
use crate::matrix::Matrix;

/// Returns the words to bind, and the name of the shader module that dequantizes them; None where the device compiles no
/// WGSL.
pub(super) fn bind(matrix: &Matrix) -> Option<(CubeTensor, &'static str)> {
    Some(match matrix.data() {
        MatrixData::Dense(values) => (gpu_input(values)?, unpacking(WeightFormat::F32)),
        MatrixData::Quantized(words, format) => (gpu_input(words)?, unpacking(*format)),
        MatrixData::Mapped(_) => return None,
    })
}

/// Returns the name of the shader module that dequantizes this format.
pub(super) fn unpacking(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F32 => "weights_f32",
        WeightFormat::Bf16 => "weights_bf16",
        WeightFormat::F16 => "weights_f16",
        WeightFormat::Q8 => "weights_q8",
        WeightFormat::Q4 => "weights_q4",
    }
}
