//! A latent as tokens and back: one token per square of 2×2 latent pixels (Dosovitskiy et al. 2021; Peebles and Xie 2022). The
//! shaders support all shapes; the CPU uses burn's built-in operations, which only move numbers.

use burn::tensor::Tensor;

use crate::gpu;
use crate::options::PATCH;

/// Latent `[P, C, H, W]` → tokens `[B, H/2·W/2, C·2·2]`, row-major, each in the weights' order C, 2, 2. The batch B is a multiple
/// of P: the images repeat.
///
/// # Panics
/// If H or W is odd, or B is no multiple of P.
#[must_use]
pub fn patchify(latent: Tensor<4>, batch: usize) -> Tensor<3> {
    let [images, c, rows, columns] = latent.dims();
    let [h, w] = [rows / PATCH, columns / PATCH];
    assert_eq!([h * PATCH, w * PATCH], [rows, columns], "latent sides are not multiples of {PATCH}");
    assert!(batch.is_multiple_of(images), "a batch of {batch} from {images} images");
    gpu::patchify(&latent, batch).unwrap_or_else(|| {
        let split = latent.reshape([images, c, h, PATCH, w, PATCH]).permute([0, 2, 4, 1, 3, 5]); // [P, h, w, C, 2, 2]
        split.reshape([images, h * w, c * PATCH * PATCH]).repeat_dim(0, batch / images)
    })
}

/// Tokens `[B, h·w, 2·2·C]`, the channel fastest → latent `[B, C, 2·h, 2·w]`.
///
/// # Panics
/// If the tokens are not h·w of 4·C numbers.
#[must_use]
pub fn unpatchify(tokens: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [b, t, numbers] = tokens.dims();
    let c = numbers / (PATCH * PATCH);
    assert_eq!([t, numbers], [h * w, c * PATCH * PATCH], "tokens of {h} × {w} squares");
    gpu::unpatchify(&tokens, [h, w]).unwrap_or_else(|| {
        let split = tokens.reshape([b, h, w, PATCH, PATCH, c]).permute([0, 5, 1, 3, 2, 4]); // [B, C, h, 2, w, 2]
        split.reshape([b, c, h * PATCH, w * PATCH])
    })
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
