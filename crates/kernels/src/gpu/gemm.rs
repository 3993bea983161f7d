//! The affine map. Shaders: shaders/gemm_registers.wgsl, shaders/gemm_workgroup.wgsl.

use burn::tensor::Tensor;

use super::launch::{ShaderLaunch, gpu_input, tensor, unused_binding};
use super::tiling::{MatmulTiling, RegisterRows};
use super::weights::{WEIGHTS, bind, product_specialisations};
use super::wgsl::{Shader, Spec, files};
use crate::matrix::Matrix;
use crate::options::{Activation, AdaLnChunk, Epilogue};

/// Tiles of 32 rows would be a tenth faster, but each weight format has its own text, and each would take twice as long to
/// compile.
pub(super) const REGISTER_ROWS: RegisterRows = [8, 16];

/// Launches x · w with its epilogue; None where no shader supports it.
pub(crate) fn linear(x: &Tensor<3>, w: &Matrix, epilogue: &Epilogue<'_>) -> Option<Tensor<3>> {
    let ([b, t, k], [_, n]) = (x.dims(), w.dims());
    if !k.is_multiple_of(4) || !n.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let (weights, unpacking) = bind(w)?;
    let unused = unused_binding(&x);
    let or_unused = |tensor: Option<_>| tensor.unwrap_or_else(|| unused.clone());
    let bias = or_unused(epilogue.bias.and_then(gpu_input));
    let residual = or_unused(epilogue.residual.as_ref().and_then(gpu_input));
    let modulation = or_unused(epilogue.gate.as_ref().and_then(|gate| gpu_input(gate.table)));
    let [gate_start, gate_stride] = epilogue.gate.as_ref().map_or([0, 0], AdaLnChunk::offset_and_stride);
    let residual_rows = epilogue.residual.as_ref().map_or(0, |residual| residual.dims()[0] * t);
    let columns = if epilogue.activation == Activation::GatedGelu { n / 2 } else { n };
    let tiling = MatmulTiling::select(b * t, n, REGISTER_ROWS);
    let y = ShaderLaunch {
        shader: tiling.shader(files::GEMM_REGISTERS, files::GEMM_WORKGROUP),
        constants: &tiling.constants(),
        imports: &[(WEIGHTS, unpacking)],
        params: &[
            ("m", (b * t) as u32),
            ("k4", k as u32 / 4),
            ("n4", n as u32 / 4),
            ("has_bias", u32::from(epilogue.bias.is_some())),
            ("activation", epilogue.activation as u32),
            ("has_gate", u32::from(epilogue.gate.is_some())),
            ("gate_start4", gate_start as u32 / 4),
            ("gate_stride4", gate_stride as u32 / 4),
            ("gate_rows", t as u32),
            ("residual_rows", residual_rows as u32),
        ],
        workgroup: tiling.workgroup(),
        count: tiling.count(b * t, n),
    }
    .run(&[&x, &weights, &bias, &residual, &modulation], [b, t, columns], x.dtype);
    Some(tensor(y))
}

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    product_specialisations([files::GEMM_REGISTERS, files::GEMM_WORKGROUP], REGISTER_ROWS)
}
