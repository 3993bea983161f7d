//! The 3×3 convolution, as a matrix product whose rows are the pixels of y. Shaders: shaders/conv_registers.wgsl,
//! shaders/conv_workgroup.wgsl.

use burn::tensor::{DType, Tensor};

use super::launch::{ShaderLaunch, gpu_input, tensor, unused_binding};
use super::tiling::{MatmulTiling, RegisterRows};
use super::weights::{WEIGHTS, bind, product_specialisations};
use super::wgsl::{Shader, Spec, files};
use crate::matrix::Matrix;
use crate::options::{ConvOptions, MOMENT_VALUES, Resampling};

/// A checkpoint's convolutions have one weight format, so that the longer text is compiled once.
pub(super) const REGISTER_ROWS: RegisterRows = [16, 32];

/// Launches the convolution; returns y and the moments of each four of its channels, where no tile spans two images. None where no
/// shader supports it.
pub(crate) fn conv(x: &Tensor<4>, w: &Matrix, options: &ConvOptions<'_>) -> Option<(Tensor<4>, Option<Tensor<4>>)> {
    let ([b, h, width, ci], [k, co]) = (x.dims(), w.dims());
    if !ci.is_multiple_of(4) || !co.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let (weights, unpacking) = bind(w)?;
    let bias = gpu_input(options.bias)?;
    let residual = options.residual.as_ref().and_then(gpu_input).unwrap_or_else(|| unused_binding(&x));
    let [oh, ow] = [h, width].map(|side| options.resampling.output_side(side));
    let pixels = b * oh * ow;
    let downsample = options.resampling == Resampling::Downsample2x;
    let tiling = MatmulTiling::select(pixels, co, REGISTER_ROWS);
    let chunks = pixels.div_ceil(tiling.rows());
    let [y, moments] = ShaderLaunch {
        shader: tiling.shader(files::CONV_REGISTERS, files::CONV_WORKGROUP),
        constants: &tiling.constants(),
        imports: &[(WEIGHTS, unpacking)],
        params: &[
            ("m", pixels as u32),
            ("k4", k as u32 / 4),
            ("n4", co as u32 / 4),
            ("has_residual", u32::from(options.residual.is_some())),
            ("c4", ci as u32 / 4),
            ("height", h as u32),
            ("width", width as u32),
            ("out_height", oh as u32),
            ("out_width", ow as u32),
            ("stride", if downsample { 2 } else { 1 }),
            ("padding", u32::from(!downsample)),
            ("upsample", u32::from(options.resampling == Resampling::Upsample2x)),
        ],
        workgroup: tiling.workgroup(),
        count: tiling.count(pixels, co),
    }
    .run_all(
        &[&x, &weights, &bias, &residual],
        [([b, oh, ow, co], x.dtype), ([1, chunks, co / 4, MOMENT_VALUES], DType::F32)],
    );
    let separate = b == 1 || (oh * ow).is_multiple_of(tiling.rows());
    let moments = separate.then(|| tensor::<4>(moments).reshape([b, chunks / b, co / 4, MOMENT_VALUES]));
    Some((tensor(y), moments))
}

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    product_specialisations([files::CONV_REGISTERS, files::CONV_WORKGROUP], REGISTER_ROWS)
}
