//! Norms over the channels of a token, with what follows them in the same pass:
//!
//! - layer norm without affine parameters, optionally modulated: (x - mean) / √(variance + ε) · (1 + scale) + shift
//!   (Ba et al. 2016; Peebles and Xie 2022, adaLN);
//! - root-mean-square norm: x / √(mean(x²) + ε) · weight (Zhang and Sennrich 2019).
//!
//! x `[B, T, C]` → `[B, T, C]` of the same dtype; scale and shift are chunks of a modulation table, weight `[C]`. Accumulation is
//! f32. The shaders support a C that is a multiple of 4; the CPU kernel supports all shapes.

use burn::tensor::{DType, Tensor};

use crate::options::{Modulation, TokenNorm};
use crate::variant::burn_reference;
use crate::{cpu, gpu};

/// Returns the layer norm of x, modulated if `modulation` is given.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn layer_norm(x: Tensor<3>, modulation: Option<Modulation<'_>>, eps: f64) -> Tensor<3> {
    if let Some(Modulation { shift, scale }) = &modulation {
        shift.assert_fits(x.dims());
        scale.assert_fits(x.dims());
        assert!(std::ptr::eq(shift.table, scale.table), "shift and scale are chunks of one table");
    }
    norm(&x, TokenNorm::Layer(modulation), eps)
        .unwrap_or_else(|| burn_reference(|| reference_layer_norm(x, modulation, eps)))
}

/// Returns the root-mean-square norm of x.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn rms_norm(x: Tensor<3>, weight: &Tensor<1>, eps: f64) -> Tensor<3> {
    let [_, _, c] = x.dims();
    assert_eq!(weight.dims(), [c], "weight");
    norm(&x, TokenNorm::RootMeanSquare(weight), eps)
        .unwrap_or_else(|| burn_reference(|| reference_rms_norm(x, weight, eps)))
}

fn norm(x: &Tensor<3>, norm: TokenNorm<'_>, eps: f64) -> Option<Tensor<3>> {
    gpu::norm(x, norm, eps).or_else(|| cpu::norm(x, norm, eps))
}

/// Computes layer norm by burn's built-in operations.
fn reference_layer_norm(x: Tensor<3>, modulation: Option<Modulation<'_>>, eps: f64) -> Tensor<3> {
    let stored = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2); // [B, T, 1]
    let y = centred / (variance + eps).sqrt();
    match modulation {
        Some(Modulation { shift, scale }) => y * (scale.values() + 1.0) + shift.values(),
        None => y,
    }
    .cast(stored)
}

/// Computes root-mean-square norm by burn's built-in operations.
fn reference_rms_norm(x: Tensor<3>, weight: &Tensor<1>, eps: f64) -> Tensor<3> {
    let stored = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = (x.clone() * x.clone()).mean_dim(2); // [B, T, 1]
    (x / (mean_square + eps).sqrt() * weight.clone().unsqueeze()).cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
