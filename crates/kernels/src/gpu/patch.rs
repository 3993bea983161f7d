//! A latent as tokens and back. Shaders: shaders/patchify.wgsl, shaders/unpatchify.wgsl.

use burn::tensor::Tensor;

use super::launch::{ShaderLaunch, gpu_input, tensor};
use super::wgsl::{Shader, Spec, files};
use crate::options::PATCH;

const WORKGROUP: u32 = 64;

/// Launches patchify: one invocation per token and channel. None where the device compiles no WGSL.
pub(crate) fn patchify(latent: &Tensor<4>, batch: usize) -> Option<Tensor<3>> {
    let [images, c, rows, columns] = latent.dims();
    let [h, w] = [rows / PATCH, columns / PATCH];
    let shape = [batch, h * w, c * PATCH * PATCH];
    launch(
        files::PATCHIFY,
        latent,
        shape,
        &[("images", images), ("channels", c), ("rows", h), ("columns", w)],
        PATCH * PATCH,
    )
}

/// Launches unpatchify: one invocation per number of the latent. None where the device compiles no WGSL.
pub(crate) fn unpatchify(tokens: &Tensor<3>, [h, w]: [usize; 2]) -> Option<Tensor<4>> {
    let [b, _, numbers] = tokens.dims();
    let c = numbers / (PATCH * PATCH);
    let shape = [b, c, h * PATCH, w * PATCH];
    launch(files::UNPATCHIFY, tokens, shape, &[("channels", c), ("rows", h), ("columns", w)], 1)
}

/// Launches one invocation for every `numbers` numbers of the output.
fn launch<const FROM: usize, const TO: usize>(
    shader: Shader,
    input: &Tensor<FROM>,
    shape: [usize; TO],
    params: &[(&'static str, usize)],
    numbers: usize,
) -> Option<Tensor<TO>> {
    let input = gpu_input(input)?;
    let invocations = shape.iter().product::<usize>() / numbers;
    let params = params.iter().copied().chain([("invocations", invocations)]);
    let params: Vec<(&'static str, u32)> = params.map(|(name, value)| (name, value as u32)).collect();
    let y = ShaderLaunch {
        shader,
        constants: &[],
        imports: &[],
        params: &params,
        workgroup: [WORKGROUP, 1, 1],
        count: [invocations.div_ceil(WORKGROUP as usize), 1, 1],
    }
    .run(&[&input], shape, input.dtype);
    Some(tensor(y))
}

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    [files::PATCHIFY, files::UNPATCHIFY].map(|shader| (shader, Spec::default())).into()
}
