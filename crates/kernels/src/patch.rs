//! A latent as tokens and back: one token per square of 2×2 (Dosovitskiy et al. 2021; Peebles and Xie 2022).
//! Shaders: shaders/patchify.wgsl, shaders/unpatchify.wgsl.

use burn::tensor::Tensor;

use crate::launch::{Launch, gpu_input, tensor};
use crate::wgsl::Shader;

const PATCHIFY: Shader = Shader { name: "patchify", source: include_str!("../../../shaders/patchify.wgsl") };
const UNPATCHIFY: Shader = Shader { name: "unpatchify", source: include_str!("../../../shaders/unpatchify.wgsl") };
const WORKGROUP: u32 = 64;
/// Side of a token's square.
const PATCH: usize = 2;

/// Latent `[P, C, H, W]` → tokens `[B, H/2·W/2, C·2·2]`, row-major, each the weights' order C, 2, 2. The batch B is a
/// multiple of P: pictures repeat.
///
/// # Panics
/// Where H or W is odd, or B no multiple of P.
#[must_use]
pub fn patchify(latent: Tensor<4>, batch: usize) -> Tensor<3> {
    let [pictures, c, rows, columns] = latent.dims();
    let [h, w] = [rows / PATCH, columns / PATCH];
    assert_eq!([h * PATCH, w * PATCH], [rows, columns], "latent sides are not multiples of {PATCH}");
    assert!(batch.is_multiple_of(pictures), "a batch of {batch} from {pictures} pictures");
    let shape = [batch, h * w, c * PATCH * PATCH];
    launch(PATCHIFY, &latent, shape, &[("pictures", pictures), ("channels", c), ("rows", h), ("columns", w)], 4)
        .unwrap_or_else(|| {
            let split = latent.reshape([pictures, c, h, PATCH, w, PATCH]).permute([0, 2, 4, 1, 3, 5]); // [P, h, w, C, 2, 2]
            split.reshape([pictures, h * w, c * PATCH * PATCH]).repeat_dim(0, batch / pictures)
        })
}

/// Tokens `[B, h·w, 2·2·C]`, the channel fastest → `[B, C, 2·h, 2·w]`.
///
/// # Panics
/// Where the tokens are not h·w of 4·C numbers.
#[must_use]
pub fn unpatchify(tokens: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [b, t, numbers] = tokens.dims();
    let c = numbers / (PATCH * PATCH);
    assert_eq!([t, numbers], [h * w, c * PATCH * PATCH], "tokens of {h} × {w} squares");
    let shape = [b, c, h * PATCH, w * PATCH];
    launch(UNPATCHIFY, &tokens, shape, &[("channels", c), ("rows", h), ("columns", w)], 1).unwrap_or_else(|| {
        let split = tokens.reshape([b, h, w, PATCH, PATCH, c]).permute([0, 5, 1, 3, 2, 4]); // [B, C, h, 2, w, 2]
        split.reshape(shape)
    })
}

/// One invocation for every `numbers` numbers of the result.
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
    let y = Launch {
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

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
