//! The 3×3 convolution with its epilogue: y = residual + Σ x · w + bias, with an optional residual, and the moments of y.
//!
//! x `[B, H, W, CI]`, w `[9·CI, CO]` in any [`WeightFormat`](crate::WeightFormat), row (3·ky + kx)·CI + ci; bias `[CO]`, residual
//! and y `[B, OH, OW, CO]`. The border is padded with zeros. Accumulation is f32. The shaders support a CI and a CO that are
//! multiples of 4; the CPU kernel supports all shapes.

use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions as BurnConvOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Tensor};

use crate::matrix::Matrix;
use crate::options::{ConvOptions, Resampling, WINDOW};
use crate::variant::burn_reference;
use crate::{cpu, gpu};

/// Returns the convolution of x with w.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn conv(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> Tensor<4> {
    conv_with_moments(x, w, options).0
}

/// Returns the convolution of x with w and, where its launch knows them, the moments of each four channels of y before rounding
/// to its dtype: `[B, CHUNKS, CO/4, 4]`, as [`group_moments`](crate::group_moments) returns them for groups of four channels. They
/// are unknown on the CPU, and where a tile of pixels spans two images.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn conv_with_moments(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> (Tensor<4>, Option<Tensor<4>>) {
    let ([b, h, width, ci], [rows, co]) = (x.dims(), w.dims());
    assert_eq!(rows, WINDOW * WINDOW * ci, "a {WINDOW}×{WINDOW} window of {ci} channels");
    assert_eq!(options.bias.dims(), [co], "bias");
    if let Some(residual) = &options.residual {
        let [oh, ow] = [h, width].map(|side| options.resampling.output_side(side));
        assert_eq!(residual.dims(), [b, oh, ow, co], "residual");
    }
    if let Some(both) = gpu::conv(&x, w, &options) {
        return both;
    }
    let y = cpu::conv(&x, w, &options).unwrap_or_else(|| burn_reference(|| reference(x, w, options)));
    (y, None)
}

/// Computes the convolution by burn's built-in operations, whose images are `[B, C, H, W]`.
fn reference(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> Tensor<4> {
    let ([_, h, width, ci], [_, co]) = (x.dims(), w.dims());
    let stored = x.dtype();
    let weights = w.values().reshape([WINDOW, WINDOW, ci, co]).permute([3, 2, 0, 1]); // [CO, CI, 3, 3]
    let mut x = x.cast(DType::F32).permute([0, 3, 1, 2]); // [B, CI, H, W]
    let padding = match options.resampling {
        Resampling::Downsample2x => BurnConvOptions::new_with_padding([2, 2], [(0, 1), (0, 1)], [1, 1], 1),
        Resampling::None | Resampling::Upsample2x => BurnConvOptions::new([1, 1], [1, 1], [1, 1], 1),
    };
    if options.resampling == Resampling::Upsample2x {
        let nearest = InterpolateOptions::new(InterpolateMode::Nearest);
        x = interpolate(x, nearest.with_output_size([2 * h, 2 * width]));
    }
    let y = conv2d(x, weights, Some(options.bias.clone()), padding).permute([0, 2, 3, 1]); // [B, OH, OW, CO]
    match options.residual {
        Some(residual) => y + residual.cast(DType::F32),
        None => y,
    }
    .cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
