//! Group norm in two launches, and the combination of moments. Shaders: shaders/group_norm_moments.wgsl,
//! shaders/group_norm_combine.wgsl, shaders/group_norm_apply.wgsl.

use burn::tensor::{DType, Tensor};

use super::launch::{ShaderLaunch, gpu_input, tensor};
use super::wgsl::{Shader, Spec, files};
use crate::KernelVariant;
use crate::options::{GroupNormOptions, MOMENT_VALUES};

const WORKGROUP: usize = 64;
const COMBINE_WORKGROUP: usize = 256;

/// The division of an image's pixels among invocations.
struct PixelChunks {
    /// The most chunks of an image. Every invocation of the last launch combines them all.
    max_chunks: usize,
    /// The fewest pixels of a chunk, and the pixels of an invocation of the last launch.
    min_pixels: usize,
}

impl PixelChunks {
    /// Returns the division for the current variant: a GPU is full with thousands of invocations; on a fallback adapter every
    /// combination costs time.
    fn select() -> Self {
        match KernelVariant::current() {
            KernelVariant::RegisterTiled => Self { max_chunks: 16, min_pixels: 256 },
            _ => Self { max_chunks: 128, min_pixels: 64 },
        }
    }
}

/// Launches the moments of the groups of x: `[B, CHUNKS, groups, 4]`. None where no shader supports it.
pub(crate) fn group_moments(x: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, h, w, c] = x.dims();
    if !c.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let PixelChunks { max_chunks, min_pixels } = PixelChunks::select();
    let pixels = h * w;
    let chunk_pixels = pixels.div_ceil(max_chunks).max(min_pixels);
    let chunks = pixels.div_ceil(chunk_pixels);
    let moments = ShaderLaunch {
        shader: files::GROUP_NORM_MOMENTS,
        constants: &[],
        imports: &[],
        params: &[
            ("pixels", pixels as u32),
            ("c4", c as u32 / 4),
            ("groups", groups as u32),
            ("chunk_pixels", chunk_pixels as u32),
            ("chunks", chunks as u32),
        ],
        workgroup: [WORKGROUP as u32, 1, 1],
        count: [(chunks * groups).div_ceil(WORKGROUP), b, 1],
    }
    .run(&[&x], [b, chunks, groups, MOMENT_VALUES], DType::F32);
    Some(tensor(moments))
}

/// Launches the combination of `moments` `[B, CHUNKS, SETS, 4]` into `[B, 1, groups, 4]`. None where the device compiles no WGSL.
pub(crate) fn combine_moments(moments: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, chunks, sets, _] = moments.dims();
    let combined = ShaderLaunch {
        shader: files::GROUP_NORM_COMBINE,
        constants: &[],
        imports: &[],
        params: &[("chunks", chunks as u32), ("sets", sets as u32), ("groups", groups as u32)],
        workgroup: [COMBINE_WORKGROUP as u32, 1, 1],
        count: [groups, b, 1],
    }
    .run(&[&gpu_input(moments)?], [b, 1, groups, MOMENT_VALUES], DType::F32);
    Some(tensor(combined))
}

/// Launches the group norm of x by its moments. None where no shader supports it.
pub(crate) fn group_norm(x: &Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Option<Tensor<4>> {
    let ([b, h, w, c], [_, chunks, ..]) = (x.dims(), moments.dims());
    let GroupNormOptions { weight, bias, groups, eps, silu } = *options;
    if !c.is_multiple_of(4) {
        return None;
    }
    let (x, moments, weight, bias) = (gpu_input(x)?, gpu_input(moments)?, gpu_input(weight)?, gpu_input(bias)?);
    let PixelChunks { min_pixels, .. } = PixelChunks::select();
    let pixels = h * w;
    let y = ShaderLaunch {
        shader: files::GROUP_NORM_APPLY,
        constants: &[],
        imports: &[],
        params: &[
            ("pixels", pixels as u32),
            ("c4", c as u32 / 4),
            ("groups", groups as u32),
            ("chunks", chunks as u32),
            ("run_pixels", min_pixels as u32),
            ("eps", (eps as f32).to_bits()),
            ("silu", u32::from(silu)),
        ],
        workgroup: [WORKGROUP as u32, 1, 1],
        count: [(c / 4 * pixels.div_ceil(min_pixels)).div_ceil(WORKGROUP), b, 1],
    }
    .run(&[&x, &moments, &weight, &bias], [b, h, w, c], x.dtype);
    Some(tensor(y))
}

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    [files::GROUP_NORM_MOMENTS, files::GROUP_NORM_APPLY].map(|shader| (shader, Spec::default())).into()
}

/// Returns the specialisation of the combination of moments, which are f32.
pub(super) fn combine_specialisation() -> (Shader, Spec) {
    (files::GROUP_NORM_COMBINE, Spec::default())
}
