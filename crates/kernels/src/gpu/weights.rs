//! A matrix of weights as a shader reads it.

use burn_wgpu::CubeTensor;
use pixart_weights::{MatrixData, WeightFormat};

use super::launch::gpu_input;
use super::tiling::{MatmulTiling, RegisterRows};
use super::wgsl::{Shader, Spec, files};
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

/// The import that is replaced by the module of the weight format.
pub(super) const WEIGHTS: &str = "weights_f32";

/// Returns the name of the shader module that dequantizes this format.
fn unpacking(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F32 => WEIGHTS,
        WeightFormat::Bf16 => files::WEIGHTS_BF16,
        WeightFormat::F16 => files::WEIGHTS_F16,
        WeightFormat::Q8 => files::WEIGHTS_Q8,
        WeightFormat::Q4Affine => files::WEIGHTS_Q4_AFFINE,
        WeightFormat::Q4 => files::WEIGHTS_Q4,
    }
}

/// Returns every specialisation of the two shaders of a matrix product: all formats in all tilings.
pub(super) fn product_specialisations(shaders: [Shader; 2], register_rows: RegisterRows) -> Vec<(Shader, Spec)> {
    let [registers, workgroup] = shaders;
    let tilings = MatmulTiling::all(register_rows);
    let each = tilings.iter().flat_map(|tiling| WeightFormat::ALL.map(|format| (tiling, format)));
    each.map(|(tiling, format)| {
        let imports = vec![(WEIGHTS, unpacking(format))];
        (tiling.shader(registers, workgroup), Spec { constants: tiling.constants(), imports, half: false })
    })
    .collect()
}
