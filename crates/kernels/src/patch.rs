//! A latent as tokens and back: one token per square of 2×2 (Dosovitskiy et al. 2021; Peebles and Xie 2022).
//! Shaders: shaders/patchify.wgsl, shaders/unpatchify.wgsl.

use burn::tensor::Tensor;

use crate::launch::{Launch, on_gpu, tensor};
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
    let input = on_gpu(input)?;
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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, TensorData};

    use super::*;
    use crate::testing::{on_every_device, read, values};

    /// P, C, h, w.
    const SHAPES: [[usize; 4]; 3] = [[1, 4, 1, 1], [2, 4, 3, 5], [1, 8, 16, 9]];

    #[test]
    fn every_number_finds_its_place() {
        on_every_device(|device| {
            for dtype in [DType::F32, DType::F16] {
                for [p, c, h, w] in SHAPES {
                    let kept: Vec<f32> =
                        values(1, p * c * 4 * h * w).iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
                    let latent = TensorData::new(kept.clone(), [p, c, 2 * h, 2 * w]);
                    let tokens = read(patchify(Tensor::from_data(latent, (device, dtype)), 2 * p));
                    assert_eq!(tokens.len(), 2 * kept.len());
                    for (at, token) in tokens.iter().enumerate() {
                        let [j, i, channel] = [at % 2, at / 2 % 2, at / 4 % c];
                        let [x, y, picture] = [at / (4 * c) % w, at / (4 * c * w) % h, at / (4 * c * w * h) % p];
                        let from = ((picture * c + channel) * 2 * h + 2 * y + i) * 2 * w + 2 * x + j;
                        assert_eq!(*token, kept[from], "token number {at}");
                    }
                    let tokens = TensorData::new(kept.clone(), [p, h * w, 4 * c]);
                    let latent = read(unpatchify(Tensor::<3>::from_data(tokens, (device, dtype)), [h, w]));
                    for (at, number) in latent.iter().enumerate() {
                        let [x, y, channel, picture] =
                            [at % (2 * w), at / (2 * w) % (2 * h), at / (4 * w * h) % c, at / (4 * w * h * c)];
                        let token = (picture * h + y / 2) * w + x / 2;
                        let from = (token * 4 + y % 2 * 2 + x % 2) * c + channel;
                        assert_eq!(*number, kept[from], "latent number {at}");
                    }
                }
            }
        });
    }
}
